//! The script that looks at a node: all that the resources want to know, in one go.

use std::collections::{BTreeMap, BTreeSet};

use bramble_spec::{hex, shell_word};
use sha2::{Digest, Sha256};

use crate::resource::Resource;
use crate::script::Commands;

/// Files whose text is needed to edit them.
pub(crate) const HOSTS: &str = "/etc/hosts";
pub(crate) const FSTAB: &str = "/etc/fstab";
pub(crate) const LOCALE_GEN: &str = "/etc/locale.gen";
pub(crate) const LOCALTIME: &str = "/etc/localtime";
pub(crate) const TIMEZONE: &str = "/etc/timezone";
pub(crate) const DEFAULT_LOCALE: &str = "/etc/default/locale";
pub(crate) const HOSTNAME: &str = "/etc/hostname";
pub(crate) const APT_LISTS: &str = "/var/lib/apt/lists";
pub(crate) const APT_STAMP: &str = "/var/lib/bramble/done/apt-lists";
pub(crate) const MODULES_FILE: &str = "/etc/modules-load.d/bramble.conf";
pub(crate) const SYSCTL_FILE: &str = "/etc/sysctl.d/90-bramble.conf";
/// Where rpi-swap reads what to do (Raspberry Pi OS Trixie).
pub const RPI_SWAP_FILE: &str = "/etc/rpi/swap.conf.d/90-bramble.conf";
pub(crate) const DPHYS_SWAPFILE: &str = "dphys-swapfile.service";
/// What it reads there if there is to be no swap.
pub const RPI_SWAP_TEXT: &str = "[Main]\nMechanism=none\n";

pub(crate) fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// /proc's file of a kernel setting: dots and slashes change places (sysctl(8)).
pub(crate) fn sysctl_path(key: &str) -> String {
    let swap = |c| match c {
        '.' => '/',
        '/' => '.',
        other => other,
    };
    format!("/proc/sys/{}", key.chars().map(swap).collect::<String>())
}

/// The name of the note that says which file at this path was verified last.
pub(crate) fn blob_note(path: &str) -> String {
    sha256(path.as_bytes())[..16].to_owned()
}

pub(crate) fn zone_file(zone: &str) -> String {
    format!("/usr/share/zoneinfo/{zone}")
}

#[derive(Default)]
struct Wanted {
    /// Path to the digest it should have; the text of one that differs is printed unless it is secret.
    files: BTreeMap<String, (Option<String>, bool)>,
    texts: BTreeSet<&'static str>,
    stats: BTreeSet<String>,
    boot_texts: bool,
    packages: BTreeSet<String>,
    /// Packages of which is asked whether bramble installed them.
    gone: BTreeSet<String>,
    units: BTreeSet<String>,
    sysctls: BTreeSet<String>,
    modules: BTreeSet<String>,
    blobs: BTreeSet<String>,
    certificates: BTreeSet<&'static str>,
    disks: BTreeSet<String>,
    images: bool,
    locales: bool,
    autoremove: bool,
}

impl Wanted {
    fn file(&mut self, path: &str, content: Option<&str>, show: bool) {
        self.files.insert(path.to_owned(), (content.map(|c| sha256(c.as_bytes())), show));
    }

    fn take(&mut self, resource: &Resource) {
        match resource {
            Resource::File(file) => self.file(&file.path, Some(&file.content), !file.secret),
            Resource::OwnedFolder(_) | Resource::Step(_) => {}
            Resource::Hostname(name) => self.file(HOSTNAME, Some(&format!("{name}\n")), true),
            Resource::Hosts(_) => {
                self.texts.insert(HOSTS);
            }
            Resource::Timezone(zone) => {
                self.file(LOCALTIME, None, false);
                self.file(&zone_file(zone), None, false);
                self.file(TIMEZONE, Some(&format!("{zone}\n")), true);
            }
            Resource::Locale(locale) => {
                self.texts.insert(LOCALE_GEN);
                self.locales = true;
                self.file(DEFAULT_LOCALE, Some(&crate::plan::locale_text(locale)), true);
            }
            Resource::AptLists { sources, .. } => {
                self.stats.insert(APT_LISTS.to_owned());
                self.stats.insert(APT_STAMP.to_owned());
                self.stats.extend(sources.iter().cloned());
            }
            Resource::Packages(names) | Resource::Hold(names) => {
                self.packages.extend(names.iter().map(|name| package_name(name).to_owned()));
            }
            Resource::Certificates(certificates) => self.certificates.extend(certificates.files),
            Resource::Disk(disk) => drop(self.disks.insert(disk.device.clone())),
            Resource::Autoremove => self.autoremove = true,
            Resource::BootConfig(_) | Resource::KernelArgs(_) | Resource::MemoryCgroup => self.boot_texts = true,
            Resource::SwapOff => {
                self.texts.insert(FSTAB);
                self.units.insert(DPHYS_SWAPFILE.to_owned());
                self.file(RPI_SWAP_FILE, Some(RPI_SWAP_TEXT), true);
            }
            Resource::Modules(names) => {
                self.modules.extend(names.iter().cloned());
                self.file(MODULES_FILE, Some(&crate::plan::modules_text(names)), true);
            }
            Resource::Sysctls(values) => {
                self.sysctls.extend(values.keys().cloned());
                self.file(SYSCTL_FILE, Some(&crate::plan::sysctl_text(values)), true);
            }
            Resource::Unit(unit) => {
                self.units.insert(unit.name.clone());
            }
            Resource::Blob(blob) => {
                self.blobs.insert(blob.path.clone());
                self.stats.insert(blob.path.clone());
            }
            Resource::Images(_) => self.images = true,
            Resource::Cleanup(gone) => {
                self.packages.extend(gone.packages.iter().cloned());
                self.gone.extend(gone.packages.iter().cloned());
            }
        }
    }
}

/// The units that a look asks about, in its order.
pub(crate) fn units(resources: &[Resource]) -> Vec<String> {
    let mut wanted = Wanted::default();
    resources.iter().for_each(|resource| wanted.take(resource));
    wanted.units.into_iter().collect()
}

/// The script whose output [`Observation::parse`](crate::Observation::parse) reads. It changes nothing
/// on the node but bramble's own notes of what was verified.
pub fn observe_script(resources: &[Resource]) -> String {
    let mut wanted = Wanted::default();
    for resource in resources {
        wanted.take(resource);
    }
    let mut script = Commands::new();
    script.fixed(include_str!("probe.sh"));
    for path in &wanted.texts {
        script.call("text", [path]);
    }
    if wanted.boot_texts {
        script.fixed(
            "for f in /boot/firmware/current/cmdline.txt /boot/firmware/cmdline.txt /boot/cmdline.txt; do [ ! -e \"$f\" ] || { text \"$f\"; break; }; done\n\
             for f in /boot/firmware/config.txt /boot/config.txt; do [ ! -e \"$f\" ] || { text \"$f\"; break; }; done",
        );
    }
    if !wanted.sysctls.is_empty() {
        // The shell reads byte by byte, and the kernel gives numbers only whole: 60 would come out as 6.
        script.fixed("echo sysctls");
        script.call_with("grep -sH '' --", wanted.sysctls.iter().map(|key| sysctl_path(key)), "|| :");
        script.fixed("echo .");
    }
    if !wanted.modules.is_empty() {
        script.fixed(MODULE_FUNCTION);
        script.call("modules", &wanted.modules);
    }
    let paths: BTreeSet<&String> = wanted.files.keys().chain(&wanted.stats).collect();
    if !paths.is_empty() {
        script.call_with("stat -c 'stat %a %U:%G %Y %s %F|%n' --", paths, "2>/dev/null || :");
    }
    if !wanted.files.is_empty() {
        script.fixed("expected() {\ncase $1 in");
        let mut cases = String::new();
        for (path, (digest, show)) in &wanted.files {
            let show = if *show { "show" } else { "hide" };
            let digest = digest.as_deref().unwrap_or("any");
            cases.push_str(&format!("{}) e={digest}; w={show} ;;\n", shell_word(path)));
        }
        script.append(&Commands::quoted(cases));
        script.fixed("esac\n}");
        script.call_with("sha256sum --", wanted.files.keys(), SHA_LOOP);
    }
    for path in &wanted.blobs {
        script.set("f", path).set("h", &blob_note(path)).fixed(BLOB_CHECK);
    }
    if !wanted.packages.is_empty() {
        let query = "dpkg-query -W -f='package ${Package} ${db:Status-Abbrev}|${Version}\\n' --";
        script.call_with(query, &wanted.packages, "2>/dev/null || :");
    }
    if !wanted.gone.is_empty() {
        script.set("h", &crate::plan::hash("packages", ""));
        script.call("set --", &wanted.gone);
        script.fixed(
            r#"for f in "$B"/ledger/[0-9]*."$h"/ours; do
    [ ! -r "$f" ] || while read -r v; do case " $* " in *" $v "*) echo "ours $v" ;; esac; done <"$f"
done"#,
        );
    }
    if !wanted.units.is_empty() {
        script.fixed("echo units");
        script
            .call("systemctl show -p LoadState,ActiveState,SubState,UnitFileState,NeedDaemonReload --", &wanted.units);
        script.fixed("echo .");
    }
    if !wanted.certificates.is_empty() {
        let mut patterns = String::new();
        for pattern in &wanted.certificates {
            patterns.push_str(pattern);
            patterns.push(' ');
        }
        script.append(&Commands::quoted(format!("for f in {patterns}; do\n")));
        script.fixed(CERTIFICATE_CHECK);
    }
    for device in &wanted.disks {
        script.set("f", device).fixed(DISK_CHECK);
    }
    if wanted.images {
        script.fixed("if command -v ctr >/dev/null && [ -S /run/containerd/containerd.sock ]; then ctr -n k8s.io images ls -q | while read -r v; do echo \"image $v\"; done; fi");
    }
    if wanted.locales {
        script.fixed("locale -a | while read -r v; do echo \"locale $v\"; done");
    }
    if wanted.autoremove {
        script.fixed(
            r#"s=$B/nothing-to-remove
if [ ! -e "$s" ] || [ /var/lib/dpkg/status -nt "$s" ] || [ /var/lib/apt/extended_states -nt "$s" ]; then
    r=$(apt-get -s autoremove 2>/dev/null | while read -r k n rest; do [ "$k" != Remv ] || echo "removable $n"; done)
    if [ -n "$r" ]; then echo "$r"; elif [ -d "$B" ]; then : >"$s"; fi
fi"#,
        );
    }
    script.fixed("echo end");
    script.as_str().to_owned()
}

/// The name of a package that may be wanted in a certain version.
pub(crate) fn package_name(wanted: &str) -> &str {
    wanted.split_once('=').map_or(wanted, |(name, _)| name)
}

/// When certificates end; as with programs, what was read once is noted with the file's size, times and inode.
const CERTIFICATE_CHECK: &str = r#"
    s=$(stat -L -c '%s %Y %Z %i' -- "$f" 2>/dev/null) || continue
    h=$B/certificates.seen/$(printf %s "$f" | tr / _)
    r=; [ ! -r "$h" ] || IFS= read -r r <"$h" || :
    if [ "${r#* }" != "$s" ]; then
        e=$(openssl x509 -noout -enddate -in "$f" 2>/dev/null) || continue
        r="$(date -d "${e#*=}" +%s) $s"
        if [ -d "$B" ]; then mkdir -p "$B/certificates.seen"; printf '%s\n' "$r" >"$h"; fi
    fi
    printf 'certificate %s %s\n' "${r%% *}" "$f"
done"#;

/// What is on a disk (blkid(8): 2 means that it knows of nothing there, and what it is not sure of is no blank disk).
const DISK_CHECK: &str = r#"
if [ ! -b "$f" ]; then echo "disk $f missing"; else
    r=0; v=$(blkid -p -o export "$f" 2>/dev/null) || r=$?
    t=; l=
    while IFS== read -r k x; do case $k in TYPE) t=$x ;; PTTYPE) t=${t:-a partition table}; ;; LABEL) l=$x ;; esac; done <<B
$v
B
    if [ "$r" = 2 ] && [ -z "$v" ]; then echo "disk $f blank"; else echo "disk $f ${t:-something} $l"; fi
fi"#;

const SHA_LOOP: &str = r#"2>/dev/null | while read -r s p; do
    e=any w=hide
    expected "$p"
    printf 'sha %s %s\n' "$s" "$p"
    if [ "$w" = show ] && [ "$s" != "$e" ]; then printf 'content %s ' "$p"; base64 -w0 <"$p"; echo; fi
done"#;

/// A module is there when it is loaded, or built in: not every kernel has a list of those, so well-known ones are
/// known by what they bring.
const MODULE_FUNCTION: &str = r#"modules() {
    loaded=' '
    [ ! -r /proc/modules ] || while read -r m rest; do loaded="$loaded$m "; done </proc/modules
    for m in "$@"; do
        u=
        r=$m
        while :; do case $r in *-*) u=$u${r%%-*}_ r=${r#*-} ;; *) u=$u$r; break ;; esac; done
        case $loaded in *" $u "*) echo "module $m"; continue ;; esac
        if [ -d "/sys/module/$u" ]; then echo "module $m"; continue; fi
        case $u in
        br_netfilter) [ ! -d /proc/sys/net/bridge ] || echo "module $m" ;;
        overlay) while read -r a b; do [ "$b" != overlay ] && [ "$a" != overlay ] || { echo "module $m"; break; }; done </proc/filesystems ;;
        nf_conntrack) [ ! -e /proc/sys/net/netfilter/nf_conntrack_max ] || echo "module $m" ;;
        *) k=; read -r k </proc/sys/kernel/osrelease || :
           if [ -r "/lib/modules/$k/modules.builtin" ] && grep -q "/$m.ko\|/$u.ko" "/lib/modules/$k/modules.builtin"; then echo "module $m"; fi ;;
        esac
    done
}"#;

/// Hashing a program of 100 MB at each look would cost seconds on a board: a file whose size, times and inode are
/// those of the moment when it was last verified is the verified one.
const BLOB_CHECK: &str = r#"if s=$(stat -c '%s %Y %Z %i' -- "$f" 2>/dev/null); then
    r=; [ ! -r "$B/blobs.seen/$h" ] || IFS= read -r r <"$B/blobs.seen/$h" || :
    if [ "${r#* }" = "$s" ]; then printf 'blob %s %s\n' "${r%% *}" "$f"
    else d=$(sha256sum <"$f"); printf 'blob %s %s\n' "${d%% *}" "$f"
        if [ -d "$B" ]; then mkdir -p "$B/blobs.seen"; printf '%s %s\n' "${d%% *}" "$s" >"$B/blobs.seen/$h"; fi
    fi
fi"#;
