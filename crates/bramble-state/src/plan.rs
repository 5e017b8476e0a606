//! The difference between what should be there and what is, as changes that a person reads and a node carries out.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bramble_spec::Sha256Digest;

use crate::edit;
use crate::observation::{FileKind, Observation, normal_locale};
use crate::probe::*;
use crate::resource::{
    Blob, BlobSource, Certificates, Check, Cleanup, Disk, File, Image, MEMORY_CGROUP, Resource, Step, Unit,
};
use crate::script::Commands;

/// What must change on a node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// The changes, in their order.
    pub changes: Vec<Change>,
    /// Why the node must boot again afterwards.
    pub reboot: Option<String>,
    /// What stands in the way and cannot be changed from here.
    pub problems: Vec<Problem>,
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// In a few words.
    pub title: String,
    /// What it comes to.
    pub details: Vec<Detail>,
    /// What the node runs.
    pub script: Commands,
    /// What must be on the node before.
    pub uploads: Vec<Upload>,
    /// Whether it only keeps bramble's own books, and is of no interest to a person.
    pub quiet: bool,
}

/// What a change comes to, for a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Detail {
    /// One thing becomes another.
    Value {
        /// What it is, or nothing if there is none.
        from: Option<String>,
        /// What it will be.
        to: String,
    },
    /// A text becomes another.
    Text {
        /// What it is; `None` if there is no such file.
        from: Option<String>,
        /// What it will be.
        to: String,
    },
    /// A text that is not shown.
    Hidden,
}

/// A file that a node needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upload {
    /// What it is called in messages.
    pub name: String,
    /// Where it is here.
    pub from: PathBuf,
    /// The digest of its bytes.
    pub sha256: Sha256Digest,
    /// Whether not everybody may read it.
    pub secret: bool,
}

/// Something that stands in the way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// What, and the next step.
    pub message: String,
}

impl Plan {
    /// Whether the node is as it should be.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.reboot.is_none() && self.problems.is_empty()
    }

    /// The script that carries the changes out, in one go. It says `@start N`, `@ok N` or `@fail N CODE` for each.
    pub fn script(&self) -> String {
        let mut script = Commands::new();
        script.fixed(crate::ENDS).fixed(include_str!("prelude.sh"));
        for (index, change) in self.changes.iter().enumerate() {
            script.function(index, &change.script);
            script.call("run", [index.to_string()]);
        }
        script.as_str().to_owned()
    }
}

pub(crate) fn hash(kind: &str, name: &str) -> String {
    sha256(format!("{kind}:{name}").as_bytes())[..16].to_owned()
}

/// Whether permission bits in octal let others read.
fn readable_by_all(mode: &str) -> bool {
    mode.chars().last().and_then(|digit| digit.to_digit(8)).is_some_and(|bits| bits & 4 != 0)
}

fn encode(text: &str) -> String {
    BASE64_STANDARD.encode(text)
}

pub(crate) fn locale_text(locale: &str) -> String {
    format!("LANG={locale}\n")
}

pub(crate) fn modules_text(names: &[String]) -> String {
    names.iter().map(|name| format!("{name}\n")).collect()
}

pub(crate) fn sysctl_text(values: &BTreeMap<String, String>) -> String {
    values.iter().map(|(key, value)| format!("{key} = {value}\n")).collect()
}

/// Finds what must change so that the node has all of `resources`. It depends on nothing but its arguments.
pub fn plan(resources: &[Resource], seen: &Observation) -> Plan {
    let mut readers: BTreeMap<&str, Vec<&Unit>> = BTreeMap::new();
    let mut tokens: Vec<String> = Vec::new();
    let mut installs = false;
    for resource in resources {
        match resource {
            Resource::Unit(unit) => {
                for path in &unit.reads {
                    readers.entry(path).or_default().push(unit);
                }
            }
            Resource::Packages(names) if names.iter().any(|name| !seen.has_package(name)) => installs = true,
            Resource::KernelArgs(args) => tokens.extend(args.iter().cloned()),
            // On a Raspberry Pi the firmware switches it off; a later argument wins (raspberrypi/linux#6980).
            Resource::MemoryCgroup if seen.facts.is_raspberry_pi() => tokens.push(MEMORY_CGROUP.into()),
            _ => {}
        }
    }
    let wanted = resources.iter().flat_map(wants).collect();
    let mut planner = Planner { seen, readers, wanted, plan: Plan::default(), restart: BTreeSet::new(), reload: false };
    let mut tokens_done = false;
    for resource in resources {
        match resource {
            Resource::KernelArgs(_) | Resource::MemoryCgroup => {
                if !tokens_done {
                    planner.kernel_args(&tokens);
                    tokens_done = true;
                }
                if *resource == Resource::MemoryCgroup {
                    planner.memory_cgroup();
                }
            }
            // Lists are only fetched for something: old ones are no difference that anybody wants to hear of.
            Resource::AptLists { .. } if !installs => {}
            other => planner.resource(other),
        }
    }
    // A boot that was announced before and did not happen yet.
    if let Some(boot) = seen.pending.get("reboot")
        && *boot == seen.facts.boot_id
    {
        planner.reboot("a change to config.txt takes effect at boot");
    }
    planner.plan
}

/// Files, units, packages and steps that are wanted by name.
fn wants(resource: &Resource) -> Vec<&str> {
    match resource {
        Resource::File(file) => vec![&file.path],
        Resource::Blob(blob) => vec![&blob.path],
        Resource::Unit(unit) => vec![&unit.name],
        Resource::Packages(names) => names.iter().map(|name| package_name(name)).collect(),
        Resource::Step(step) => vec![step.id],
        _ => Vec::new(),
    }
}

struct Planner<'a> {
    seen: &'a Observation,
    /// What is wanted by name, which nothing takes away.
    wanted: BTreeSet<&'a str>,
    readers: BTreeMap<&'a str, Vec<&'a Unit>>,
    plan: Plan,
    /// Units whose files change in this plan.
    restart: BTreeSet<String>,
    /// Whether systemd must read its units again.
    reload: bool,
}

impl Planner<'_> {
    fn push(&mut self, title: impl Into<String>, details: Vec<Detail>, script: Commands) {
        self.plan.changes.push(Change { title: title.into(), details, script, uploads: Vec::new(), quiet: false });
    }

    fn reboot(&mut self, reason: &str) {
        self.plan.reboot.get_or_insert_with(|| reason.to_owned());
    }

    fn problem(&mut self, message: String) {
        self.plan.problems.push(Problem { message });
    }

    /// Notes that a file changes; the script first marks the units that read it.
    fn touch(&mut self, path: &str, script: &mut Commands) {
        for unit in self.readers.get(path).into_iter().flatten() {
            // Also where it does not run yet: the package that brings it may start it before it could read the file.
            script.call("restart_later", [&unit.name]);
            self.restart.insert(unit.name.clone());
        }
        if path.starts_with("/etc/systemd/system/") {
            self.reload = true;
        }
    }

    fn resource(&mut self, resource: &Resource) {
        match resource {
            Resource::File(file) => self.file(file),
            Resource::OwnedFolder(path) => self.owned_folder(path),
            Resource::Hostname(name) => self.hostname(name),
            Resource::Hosts(entries) => self.hosts(entries),
            Resource::Timezone(zone) => self.timezone(zone),
            Resource::Locale(locale) => self.locale(locale),
            Resource::AptLists { max_age, sources } => self.apt_lists(*max_age, sources),
            Resource::Packages(names) => self.packages(names),
            Resource::Hold(names) => self.hold(names),
            Resource::Autoremove => self.autoremove(),
            Resource::BootConfig(settings) => self.boot_config(settings),
            Resource::SwapOff => self.swap_off(),
            Resource::Modules(names) => self.modules(names),
            Resource::Sysctls(values) => self.sysctls(values),
            Resource::Unit(unit) => self.unit(unit),
            Resource::Blob(blob) => self.blob(blob),
            Resource::Images(images) => self.images(images),
            Resource::Certificates(certificates) => self.certificates(certificates),
            Resource::Disk(disk) => self.disk(disk),
            Resource::Step(step) => self.step(step),
            Resource::Cleanup(cleanup) => self.cleanup(cleanup),
            // Both are planned together, once.
            Resource::KernelArgs(_) | Resource::MemoryCgroup => {}
        }
    }

    fn file(&mut self, file: &File) {
        let digest = sha256(file.content.as_bytes());
        let there = self.seen.files.get(&file.path);
        let same = self.seen.digests.get(&file.path) == Some(&digest);
        let regular = there.is_some_and(|there| there.kind == FileKind::File);
        if same && regular && there.is_some_and(|there| there.mode == file.mode && there.owner == "root:root") {
            return;
        }
        let details = if same && regular {
            let there = there.map(|there| format!("mode {} {}", there.mode, there.owner));
            vec![Detail::Value { from: there, to: format!("mode {} root:root", file.mode) }]
        } else if file.secret {
            vec![Detail::Hidden]
        } else {
            let from = there.map(|_| self.seen.texts.get(&file.path).cloned().unwrap_or_default());
            vec![Detail::Text { from, to: file.content.clone() }]
        };
        let mut script = Commands::new();
        self.touch(&file.path, &mut script);
        let check = match file.check {
            None => "none",
            Some(Check::Sshd) => "sshd",
            Some(Check::Sudoers) => "sudoers",
        };
        script.call("put_file", [&hash("file", &file.path), &file.path, &file.mode, check, &encode(&file.content)]);
        let verb = if there.is_some() { "change" } else { "write" };
        self.push(format!("{verb} {}", file.path), details, script);
    }

    /// A change of a file that is not ours; `tokens` are what undoing takes out of its first line.
    fn edit(&mut self, path: &str, to: String, tokens: &[String]) -> bool {
        let Some(from) = self.seen.texts.get(path) else {
            self.file(&File::new(path, to));
            return true;
        };
        if *from == to {
            return false;
        }
        let mut script = Commands::new();
        self.touch(path, &mut script);
        let fixed = [hash("edit", path), path.to_owned(), sha256(from.as_bytes()), encode(&to)];
        script.call("put_edit", fixed.iter().chain(tokens));
        let details = vec![Detail::Text { from: Some(from.clone()), to }];
        self.push(format!("change {path}"), details, script);
        true
    }

    fn owned_folder(&mut self, path: &str) {
        // What is remembered once needs no look: a node without this entry has no ledger at all, or an older one.
        let id = format!("folder.{}", hash("folder", path));
        if self.seen.done.contains_key(&id) {
            return;
        }
        let mut script = Commands::new();
        script.call("own_folder", [&hash("folder", path), path]);
        script.call("step_ends", [&id, path]);
        self.push(format!("remember whether {path} is there"), Vec::new(), script);
        if let Some(change) = self.plan.changes.last_mut() {
            change.quiet = true;
        }
    }

    fn hostname(&mut self, name: &str) {
        self.file(&File::new(HOSTNAME, format!("{name}\n")));
        if self.seen.facts.hostname != name {
            let mut script = Commands::new();
            script.call("set_hostname", [&hash("hostname", ""), name]);
            let from = Some(self.seen.facts.hostname.clone());
            self.push("set the hostname", vec![Detail::Value { from, to: name.to_owned() }], script);
        }
    }

    fn hosts(&mut self, entries: &[(String, String)]) {
        let lines: Vec<String> = entries.iter().map(|(address, name)| format!("{address} {name}")).collect();
        let from = self.seen.texts.get(HOSTS).map_or("", String::as_str);
        self.edit(HOSTS, edit::with_block(from, &lines), &[]);
    }

    fn timezone(&mut self, zone: &str) {
        self.file(&File::new(TIMEZONE, format!("{zone}\n")));
        let file = zone_file(zone);
        match (self.seen.digests.get(&file), self.seen.digests.get(LOCALTIME)) {
            (Some(wanted), Some(is)) if wanted == is => {}
            (None, _) if self.seen.files.contains_key(ZONES) => {
                self.problem(format!("the node knows no time zone {zone}; choose one of those below {ZONES}"));
            }
            _ => {
                let mut script = Commands::new();
                script.call("remember_file", [&hash("file", LOCALTIME), LOCALTIME]);
                script.call("test -e", [&file]).call("ln -sfn", [&file, "/etc/localtime.bramble-new"]);
                script.fixed("mv -fT /etc/localtime.bramble-new /etc/localtime");
                self.push("set the time zone", vec![Detail::Value { from: None, to: zone.to_owned() }], script);
            }
        }
    }

    fn locale(&mut self, locale: &str) {
        let built_in = matches!(locale, "C" | "POSIX" | "C.UTF-8");
        if !built_in {
            let charset = locale.split_once('.').map_or("UTF-8", |(_, charset)| charset);
            let line = format!("{locale} {charset}");
            let text = self.seen.texts.get(LOCALE_GEN).cloned().unwrap_or_default();
            let wanted = if text.lines().any(|l| l.trim() == line) && !text.contains(edit::BLOCK_BEGIN) {
                text
            } else {
                edit::with_block(&text, &[line])
            };
            self.edit(LOCALE_GEN, wanted, &[]);
            if !self.seen.locales.contains(&normal_locale(locale)) {
                let archive = "/usr/lib/locale/locale-archive";
                let mut script = Commands::new();
                script.call("remember_file", [&hash("file", archive), archive]).fixed("locale-gen");
                self.push("generate the locale", vec![Detail::Value { from: None, to: locale.to_owned() }], script);
            }
        }
        self.file(&File::new(DEFAULT_LOCALE, locale_text(locale)));
    }

    fn apt_lists(&mut self, max_age: u64, sources: &[String]) {
        let fetched = self.seen.files.get(APT_STAMP).map(|file| file.modified);
        let age = fetched.map(|fetched| self.seen.facts.time.saturating_sub(fetched));
        let newer = |path: &String| self.seen.files.get(path).is_some_and(|f| fetched.is_none_or(|t| f.modified >= t));
        let fresh = age.is_some_and(|age| age >= 0 && age.unsigned_abs() <= max_age);
        if fresh && !sources.iter().any(newer) && sources.iter().all(|path| self.seen.files.contains_key(path)) {
            return;
        }
        let mut script = Commands::new();
        script.fixed("apt-get -q -o DPkg::Lock::Timeout=300 update").call("step_ends", ["apt-lists", "fresh"]);
        let from = age.map(|age| format!("{} h old", age / 3600));
        self.push("fetch the package lists", vec![Detail::Value { from, to: "fresh".into() }], script);
    }

    fn packages(&mut self, names: &[String]) {
        let missing: Vec<&String> = names.iter().filter(|name| !self.seen.has_package(name)).collect();
        if missing.is_empty() {
            return;
        }
        let mut script = Commands::new();
        let hash = hash("packages", "");
        let mut fixed = vec![hash.as_str(), "--no-install-recommends", "install"];
        // A version is only named for packages that are held.
        if missing.iter().any(|name| name.contains('=')) {
            fixed.push("--allow-change-held-packages");
        }
        script.call("apt_do", fixed.into_iter().chain(missing.iter().map(|name| name.as_str())));
        let list = missing.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(" ");
        self.push("install packages", vec![Detail::Value { from: None, to: list }], script);
    }

    fn hold(&mut self, names: &[String]) {
        let held = |name: &&String| self.seen.packages.get(*name).is_some_and(|(status, _)| status.starts_with('h'));
        let free: Vec<&String> = names.iter().filter(|name| !held(name)).collect();
        if free.is_empty() {
            return;
        }
        let mut script = Commands::new();
        let hash = hash("hold", "");
        script.call("hold", std::iter::once(hash.as_str()).chain(free.iter().map(|name| name.as_str())));
        let list = free.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(" ");
        self.push("hold packages", vec![Detail::Value { from: None, to: list }], script);
    }

    fn autoremove(&mut self) {
        if self.seen.removable.is_empty() {
            return;
        }
        let mut script = Commands::new();
        script.call("apt_do", [hash("packages", "").as_str(), "autoremove"]);
        let list = self.seen.removable.join(" ");
        self.push(
            "remove packages that nothing needs",
            vec![Detail::Value { from: Some(list), to: String::new() }],
            script,
        );
    }

    fn boot_config(&mut self, settings: &BTreeMap<String, String>) {
        let Some(path) = self.seen.facts.config_file.clone() else {
            // Boards without a Raspberry Pi's firmware have no such settings; they are no reason to stop.
            return;
        };
        let from = self.seen.texts.get(&path).cloned().unwrap_or_default();
        if self.edit(&path, edit::with_boot_config(&from, settings), &[])
            && let Some(change) = self.plan.changes.last_mut()
        {
            let mut script = Commands::new();
            script.fixed("reboot_later").append(&change.script);
            change.script = script;
            self.reboot("config.txt is read at boot");
        }
    }

    fn kernel_args(&mut self, tokens: &[String]) {
        let running: BTreeSet<&str> = self.seen.facts.cmdline.split_whitespace().collect();
        let missing: Vec<&String> = tokens.iter().filter(|token| !running.contains(token.as_str())).collect();
        let Some(path) = self.seen.facts.cmdline_file.clone() else {
            if !missing.is_empty() {
                let list = missing.iter().map(|t| t.as_str()).collect::<Vec<_>>().join(" ");
                self.problem(format!(
                    "this board has no cmdline.txt, and its kernel runs without {list}: set it in its boot loader, then run bramble again"
                ));
            }
            return;
        };
        let from = self.seen.texts.get(&path).cloned().unwrap_or_default();
        let line = from.lines().next().unwrap_or("");
        let added: Vec<String> =
            tokens.iter().filter(|t| !line.split_whitespace().any(|known| known == t.as_str())).cloned().collect();
        self.edit(&path, edit::with_tokens(&from, tokens), &added);
        if !missing.is_empty() {
            let list = missing.iter().map(|t| t.as_str()).collect::<Vec<_>>().join(" ");
            self.reboot(&format!("the running kernel lacks {list}"));
        }
    }

    fn memory_cgroup(&mut self) {
        let facts = &self.seen.facts;
        // Until the reboot that is planned anyway the controller may be missing.
        if !facts.controllers.contains("memory") && self.plan.reboot.is_none() {
            self.problem(
                "the kernel has no memory cgroup, although its arguments allow it: is this the kernel of the board's own OS?".into(),
            );
        }
    }

    fn swap_off(&mut self) {
        if let Some(from) = self.seen.texts.get(FSTAB) {
            let to = edit::without_swap(from);
            self.edit(FSTAB, to, &[]);
        }
        if self.seen.facts.rpi_swap {
            self.file(&File::new(RPI_SWAP_FILE, RPI_SWAP_TEXT));
        }
        let dphys = self.seen.units.get(DPHYS_SWAPFILE);
        if dphys.is_some_and(|unit| unit.load == "loaded" && (unit.enabled == "enabled" || unit.active == "active")) {
            let mut script = Commands::new();
            script.call("remember_unit", [&hash("unit", DPHYS_SWAPFILE), DPHYS_SWAPFILE]);
            script.call("systemctl disable --now", [DPHYS_SWAPFILE]);
            self.push("turn dphys-swapfile off", Vec::new(), script);
        }
        if !self.seen.facts.swaps.is_empty() {
            let mut script = Commands::new();
            script.fixed(SWAP_OFF);
            let from = Some(self.seen.facts.swaps.join(" "));
            self.push("turn swap off", vec![Detail::Value { from, to: "none".into() }], script);
            if self.seen.facts.rpi_swap {
                self.reboot("rpi-swap lets go of its swap at boot");
            }
        }
    }

    fn modules(&mut self, names: &[String]) {
        self.file(&File::new(MODULES_FILE, modules_text(names)));
        let missing: Vec<&String> = names.iter().filter(|name| !self.seen.modules.contains(*name)).collect();
        if !missing.is_empty() {
            let mut script = Commands::new();
            for name in &missing {
                script.call("modprobe --", [name.as_str()]);
            }
            let list = missing.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(" ");
            self.push("load kernel modules", vec![Detail::Value { from: None, to: list }], script);
        }
    }

    fn sysctls(&mut self, values: &BTreeMap<String, String>) {
        self.file(&File::new(SYSCTL_FILE, sysctl_text(values)));
        let differs = |(key, value): &(&String, &String)| {
            let value = value.split_whitespace().collect::<Vec<_>>().join(" ");
            self.seen.sysctls.get(&sysctl_path(key)) != Some(&value)
        };
        let wrong: Vec<(&String, &String)> = values.iter().filter(differs).collect();
        for (key, value) in wrong {
            let mut script = Commands::new();
            script.call("set_sysctl", [&hash("sysctl", key), key, value, &sysctl_path(key)]);
            let from = self.seen.sysctls.get(&sysctl_path(key)).cloned();
            self.push(format!("set {key}"), vec![Detail::Value { from, to: value.clone() }], script);
        }
    }

    fn unit(&mut self, unit: &Unit) {
        let seen = self.seen.units.get(&unit.name).cloned().unwrap_or_default();
        let enabled = matches!(seen.enabled.as_str(), "enabled" | "static" | "alias" | "indirect" | "generated");
        let active = seen.runs() || !unit.running;
        let pending = self.seen.pending.contains_key(&format!("restart.{}", unit.name));
        let restart = unit.running && (self.restart.contains(&unit.name) || pending);
        if enabled && active && !restart && !seen.stale {
            return;
        }
        let mut script = Commands::new();
        let mut words = Vec::new();
        if !enabled || !active {
            script.call("remember_unit", [&hash("unit", &unit.name), &unit.name]);
        }
        if seen.stale || self.reload {
            script.fixed("systemctl daemon-reload");
            words.push("reload");
        }
        if !enabled {
            script.call("systemctl -q enable", [&unit.name]);
            words.push("enable");
        }
        if restart {
            script.call("unit_do restart", [&unit.name]);
        } else if !active {
            script.call("unit_do start", [&unit.name]);
        }
        words.extend(match (active, restart) {
            (false, _) => Some("start"),
            (true, true) => Some("restart"),
            (true, false) => None,
        });
        script.call("rm -f --", [&format!("{}/pending/restart.{}", crate::HOME, unit.name)]);
        let from = match seen.load.as_str() {
            "loaded" => format!("{} {}", seen.enabled, seen.active),
            _ => "not there yet".to_owned(),
        };
        let to = if unit.running { "enabled active" } else { "enabled" };
        let details =
            if enabled && active { Vec::new() } else { vec![Detail::Value { from: Some(from), to: to.to_owned() }] };
        self.push(format!("{} {}", words.join(" and "), unit.name), details, script);
    }

    fn blob(&mut self, blob: &Blob) {
        let there = self.seen.files.get(&blob.path);
        let same = self.seen.blobs.get(&blob.path).map(String::as_str) == Some(blob.sha256.as_str());
        if same && there.is_some_and(|there| there.mode == blob.mode && there.kind == FileKind::File) {
            return;
        }
        let mut script = Commands::new();
        self.touch(&blob.path, &mut script);
        let hash = hash("file", &blob.path);
        let note = blob_note(&blob.path);
        let (verb, uploads) = match &blob.source {
            BlobSource::Upload(from) => {
                let staged = format!("{}/{}", crate::BLOBS, blob.sha256);
                script.call("install_blob", [&hash, &blob.path, &blob.mode, blob.sha256.as_str(), &note, &staged]);
                let upload = Upload {
                    name: blob.path.clone(),
                    from: from.clone(),
                    sha256: blob.sha256.clone(),
                    secret: !readable_by_all(&blob.mode),
                };
                ("install", vec![upload])
            }
            BlobSource::Url(url) => {
                script.call("fetch_blob", [&hash, &blob.path, &blob.mode, blob.sha256.as_str(), &note, url]);
                ("fetch", Vec::new())
            }
        };
        let short = |digest: &str| format!("sha256 {}", &digest[..12.min(digest.len())]);
        let from = self.seen.blobs.get(&blob.path).map(|digest| short(digest));
        let details = vec![Detail::Value { from, to: short(blob.sha256.as_str()) }];
        self.plan.changes.push(Change {
            title: format!("{verb} {}", blob.path),
            details,
            script,
            uploads,
            quiet: false,
        });
    }

    fn images(&mut self, images: &[Image]) {
        for image in images {
            let name = image.names.first().map_or("", String::as_str);
            // Another archive may have other bytes under the same name.
            let id = format!("image.{}", hash("image", name));
            let same = self.seen.done.get(&id).is_none_or(|digest| digest == image.sha256.as_str());
            if same && image.names.iter().all(|name| self.seen.images.contains(name)) {
                continue;
            }
            let staged = format!("{}/{}", crate::BLOBS, image.sha256);
            let mut script = Commands::new();
            script.call("ctr -n k8s.io images import", [&staged]).call("rm -f --", [&staged]);
            for name in &image.names {
                // Else the kubelet deletes what nothing uses just now from a disk that is 85 % full.
                script.call("ctr -n k8s.io images label", [name.as_str(), "io.cri-containerd.pinned=pinned"]);
            }
            script.call("step_ends", [id.as_str(), image.sha256.as_str()]);
            let upload = Upload {
                name: name.to_owned(),
                from: image.archive.clone(),
                sha256: image.sha256.clone(),
                secret: false,
            };
            self.plan.changes.push(Change {
                title: format!("import the image {}", image.names.join(", ")),
                details: Vec::new(),
                script,
                uploads: vec![upload],
                quiet: false,
            });
        }
    }

    fn certificates(&mut self, wanted: &Certificates) {
        if let Some((path, left)) = self.seen.first_certificate()
            && left < wanted.before
            && !wanted.renew.is_empty()
        {
            let from = Some(format!("{path} ends in {} days", left.div_euclid(24 * 3600)));
            let details = vec![Detail::Value { from, to: "new ones".into() }];
            self.push("renew the certificates", details, wanted.renew.clone());
        }
    }

    fn disk(&mut self, disk: &Disk) {
        let Disk { device, label, wipe } = disk;
        let holds = self.seen.disks.get(device).map_or("missing", |holds| holds.trim());
        if holds == format!("ext4 {label}") {
            return;
        }
        if holds == "missing" {
            self.problem(format!("it has no disk {device}: `lsblk` there shows those that it has"));
            return;
        }
        if holds != "blank" && !wipe {
            self.problem(format!(
                "{device} holds {holds}, and is only formatted if you name it: `bramble up --format NODE:{device}` (all that \
                 is on it is lost), or correct the cluster file"
            ));
            return;
        }
        let mut script = Commands::new();
        script.call("format_disk", [device.as_str(), label.as_str(), if *wipe { "wipe" } else { "blank" }]);
        let from = Some(holds.to_owned());
        self.push(format!("format {device}"), vec![Detail::Value { from, to: format!("ext4 {label}") }], script);
    }

    fn cleanup(&mut self, cleanup: &Cleanup) {
        let kept = |kind: &str, name: &str| self.seen.kept.contains_key(&hash(kind, name));
        let free = |name: &&str| !self.wanted.contains(*name);
        let units: Vec<&str> =
            cleanup.units.iter().map(String::as_str).filter(|unit| kept("unit", unit)).filter(free).collect();
        let files: Vec<&str> = self
            .seen
            .kept
            .iter()
            .filter(|(entry, path)| **entry == hash("file", path))
            .map(|(_, path)| path.as_str())
            .filter(|path| cleanup.files.iter().any(|listed| stands_for(listed, path)))
            .filter(free)
            .collect();
        let ours = |name: &&String| self.seen.ours.contains(*name) && self.seen.has_package(name);
        let packages: Vec<&str> = cleanup.packages.iter().filter(ours).map(String::as_str).filter(free).collect();
        if units.is_empty() && files.is_empty() && packages.is_empty() {
            return;
        }
        let mut script = Commands::new();
        script.call("give_back", units.iter().map(|unit| hash("unit", unit)));
        let steps: Vec<&str> = cleanup.steps.iter().copied().filter(free).collect();
        script.call("give_back", steps.iter().map(|step| hash("step", step)));
        for step in &steps {
            script.call("rm -f --", [&format!("{}/{step}", crate::DONE)]);
        }
        for path in &files {
            self.touch(path, &mut script);
        }
        script.call("give_back", files.iter().map(|path| hash("file", path)));
        script.fixed("systemctl daemon-reload");
        script.call("read_again", &units);
        if !packages.is_empty() {
            script
                .call("drop_packages", std::iter::once(hash("packages", "").as_str()).chain(packages.iter().copied()));
        }
        let list = [units, files, packages].concat().join(" ");
        let details = vec![Detail::Value { from: Some(list), to: String::new() }];
        self.push(format!("remove {}", cleanup.what), details, script);
    }

    fn step(&mut self, step: &Step) {
        if self.seen.done(step.id) == Some(&step.version) {
            return;
        }
        let mut script = Commands::new();
        let undo = step.undo.as_ref().map_or_else(String::new, |undo| encode(undo.as_str()));
        script.call("step_begins", [&hash("step", step.id), step.id, &step.title, &undo]);
        script.append(&step.apply);
        script.call("step_ends", [step.id, &step.version]);
        self.push(step.title.clone(), Vec::new(), script);
        if let Some(change) = self.plan.changes.last_mut() {
            // Then it is only remembered for its undoing.
            change.quiet = step.apply.as_str().is_empty();
        }
    }
}

fn stands_for(listed: &str, path: &str) -> bool {
    listed == path || (listed.ends_with(['/', '-']) && path.starts_with(listed))
}

const ZONES: &str = "/usr/share/zoneinfo";

const SWAP_OFF: &str = r#"if entry swap-in-use 'turn swap on again'; then
    while read -r f rest; do [ "$f" = Filename ] || echo "$f"; done </proc/swaps >"$E/swaps"
    echo 'while read -r f; do swapon "$f" 2>/dev/null || :; done <"$E/swaps"' >"$E/undo"
    keep swap-in-use
fi
swapoff -a"#;
