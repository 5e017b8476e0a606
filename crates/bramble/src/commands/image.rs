//! `bramble image`.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail};
use bramble_fetch::{CATALOGUE, offers, refuse_unfit, replace_file};
use bramble_image::{HostKey, Identity, Sides, Static, System, Wifi, board};
use bramble_remote::{HostKeys, new_key_pair};
use bramble_spec::{Catalogue, Distribution, Node, Sudo, Swap, hex};
use bramble_state::MEMORY_CGROUP;
use ipnet::Ipv4Net;
use serde_json::json;

use crate::commands::image_check::Check;
use crate::ui::printer::{Format, Printer, Style};
use crate::{Common, Done, cluster_file};
use bramble_engine::Project;
use bramble_engine::random;

/// Images of systems for the boards' disks, and container images.
#[derive(clap::Args)]
pub(crate) struct Image {
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand)]
enum Action {
    /// Show the images of a catalogue
    List(List),
    /// Fetch the cluster file's image, if it is not here yet, and pin it in bramble.lock
    Fetch,
    /// Make the image of a node's disk: the system of the cluster file, already knowing who it is
    Build(Build),
    /// See whether container images run on the boards of the cluster file (exit code 1 if one does not)
    Check(Check),
}

#[derive(clap::Args)]
struct List {
    /// Words that the name has
    #[arg(value_name = "WORD")]
    words: Vec<String>,
    /// Only images for this board, such as rpi-5-8gb
    #[arg(long, value_name = "BOARD")]
    board: Option<String>,
    /// The catalogue's address, in the form of Raspberry Pi Imager's
    #[arg(long, value_name = "URL", default_value = CATALOGUE)]
    catalogue: String,
    /// Also those that cannot be told who they are
    #[arg(short, long)]
    all: bool,
}

#[derive(clap::Args)]
struct Build {
    /// The node
    #[arg(value_name = "NODE")]
    node: String,
    /// The file to write
    #[arg(short, long, value_name = "FILE")]
    to: PathBuf,
}

/// Longer runs of zeros become holes of the file, which read the same.
const HOLE: usize = 64 * 1024;

impl Image {
    pub(crate) fn run(self, common: &Common, printer: &Printer) -> anyhow::Result<Done> {
        match self.action {
            Action::List(list) => list.run(printer),
            Action::Fetch => fetch(&cluster_file::open(common, printer)?, printer),
            Action::Check(check) => check.run(common, printer),
            Action::Build(build) => build.run(&cluster_file::open(common, printer)?, printer),
        }
    }
}

impl List {
    fn run(self, printer: &Printer) -> anyhow::Result<Done> {
        let board = match &self.board {
            Some(id) => Some(Catalogue::built_in().board(id).ok_or_else(|| anyhow!("there is no board `{id}`"))?),
            None => None,
        };
        let words: Vec<String> = self.words.iter().map(|word| word.to_lowercase()).collect();
        let mut found = offers(&self.catalogue, printer)?;
        found.retain(|offer| {
            let name = offer.name.to_lowercase();
            (self.all || offer.can_be_told())
                && words.iter().all(|word| name.contains(word.as_str()))
                && board.as_ref().is_none_or(|board| offer.is_for(&board.id, board.arch))
        });
        if printer.format == Format::Json {
            let list: Vec<_> = found
                .iter()
                .map(|offer| {
                    json!({
                        "name": offer.name, "released": offer.released, "url": offer.url, "bytes": offer.size,
                        "downloadBytes": offer.packed_size, "sha256": offer.packed, "unpackedSha256": offer.unpacked,
                        "firstBoot": offer.first_boot, "devices": offer.devices,
                    })
                })
                .collect();
            printer.json(&json!({ "images": list }));
            return Ok(Done::Good);
        }
        if found.is_empty() {
            bail!("no image of {} is like that; say less, or --all", self.catalogue);
        }
        let width = found.iter().map(|offer| offer.name.chars().count()).max().unwrap_or(0);
        printer.result(format!("{:width$}  {:10}  {:>8}  {:>8}", "NAME", "RELEASED", "DOWNLOAD", "DISK"));
        for offer in &found {
            let size =
                |bytes: Option<u64>| bytes.map_or(String::new(), |bytes| format!("{:.1} GB", bytes as f64 / 1e9));
            let line = format!(
                "{:width$}  {:10}  {:>8}  {:>8}",
                offer.name,
                offer.released,
                size(offer.packed_size),
                size(Some(offer.size))
            );
            printer.result(line.trim_end());
        }
        Ok(Done::Good)
    }
}

fn fetch(project: &Project, printer: &Printer) -> anyhow::Result<Done> {
    let path = cluster_file::os_image(project, printer)?;
    let bytes = fs::metadata(&path).with_context(|| format!("cannot read {}", path.display()))?.len();
    refuse_unfit(&path, std::iter::empty())?;
    if printer.format == Format::Json {
        printer.json(&json!({ "file": path, "bytes": bytes }));
    } else {
        let good = printer.style(Style::Good, "✓");
        printer.result(format!("{good} The image is here, {:.1} GB: {}", bytes as f64 / 1e9, path.display()));
    }
    Ok(Done::Good)
}

impl Build {
    fn run(self, project: &Project, printer: &Printer) -> anyhow::Result<Done> {
        let node = project.node(&self.node)?;
        if self.to.metadata().is_ok_and(|there| there.file_type().is_block_device()) {
            bail!("{} is a disk: `bramble flash {} --disk {0}` writes it", self.to.display(), node.name);
        }
        if self.to.exists() {
            bail!("{} is there already: remove it, or name another file", self.to.display());
        }
        let identity = identity(project, node)?;
        let source = cluster_file::os_image(project, printer)?;
        let mut name = self.to.file_name().ok_or_else(|| anyhow!("{} is no file", self.to.display()))?.to_owned();
        name.push(".part");
        let part = self.to.with_file_name(name);
        let made = make(&source, &part, &identity, printer);
        let (system, size) = made.inspect_err(|_| {
            fs::remove_file(&part).ok();
        })?;
        fs::rename(&part, &self.to).with_context(|| format!("cannot write {}", self.to.display()))?;
        // Whoever boots from it can be met without asking. The board that has this address now may be there for a while.
        let known = HostKeys::open([project.known_hosts()?])?;
        known.pin(&node.host(), project.cluster.access.port, &identity.host_key.public)?;
        if printer.format == Format::Json {
            printer.json(&json!({ "node": node.name, "file": self.to, "system": system.name(), "bytes": size }));
            return Ok(Done::Good);
        }
        printer.result(format!(
            "{} {} is the disk of {} ({}, {:.1} GB). Its host key is known: `bramble up` meets it without asking.",
            printer.style(Style::Good, "✓"),
            self.to.display(),
            node.name,
            system.name(),
            size as f64 / 1e9
        ));
        Ok(Done::Good)
    }
}

/// Who this node is. Its host key is made once, and stays when its disk is made again.
pub(super) fn identity(project: &Project, node: &Node) -> anyhow::Result<Identity> {
    let cluster = &project.cluster;
    if cluster.access.sudo == Sudo::Password {
        bail!("a board that is made from an image has no password that sudo could ask for: say `sudo: passwordless`");
    }
    let preparation = &cluster.preparation;
    let mut kernel_args = preparation.boot.kernel_args.clone();
    let kubernetes = cluster.distribution != Distribution::None;
    if kubernetes && node.board.id.starts_with("rpi") && !kernel_args.iter().any(|arg| arg == MEMORY_CGROUP) {
        kernel_args.push(MEMORY_CGROUP.to_owned());
    }
    let address = Ipv4Net::new(node.address, cluster.network.subnet.prefix_len())?;
    let sides = node.uplink.as_ref().map(|uplink| Sides {
        outside: uplink.interface.clone(),
        inside: uplink.inside.clone(),
        address,
    });
    let gateway = cluster.network.gateway.filter(|_| sides.is_none());
    let address = gateway.map(|gateway| Static { address, gateway, dns: cluster.network.dns.clone() });
    Ok(Identity {
        name: node.name.clone(),
        user: cluster.access.user.clone(),
        keys: public_keys(project)?,
        host_key: host_key(project, node)?,
        instance: format!("{}-{}-{}", cluster.name, node.name, hex(&random::<4>()?)),
        password: hex(&random::<16>()?),
        address,
        arch: node.board.arch,
        // Behind a gateway that is in a Wi-Fi, boards are on its Ethernet.
        wifi: if cluster.gateway().is_none_or(|(gateway, _)| gateway.name == node.name) {
            wifi(project)?
        } else {
            None
        },
        sides,
        swap_off: preparation.swap == Swap::Off,
        mac: node.mac.clone(),
        timezone: preparation.timezone.clone(),
        locale: preparation.locale.clone(),
        kernel_args,
        boot_config: preparation.boot.config.clone(),
    })
}

/// More than any key or password has, in bytes.
const SMALL: u64 = 1 << 20;

/// Reads a small file of the user's. A pipe would wait for ever, a device would not end.
fn read_file(path: &Path) -> anyhow::Result<Vec<u8>> {
    let cannot = || format!("cannot read {}", path.display());
    let there = path.metadata().with_context(cannot)?;
    if !there.is_file() || there.len() > SMALL {
        bail!("{} is no small plain file, as keys and passwords are in", path.display());
    }
    fs::read(path).with_context(cannot)
}

/// What boards are told of Wi-Fi: the key that stands for the passphrase, which itself goes nowhere.
fn wifi(project: &Project) -> anyhow::Result<Option<Wifi>> {
    let Some(written) = &project.cluster.network.wifi else { return Ok(None) };
    let join = match &written.join {
        None => None,
        Some((ssid, file)) => {
            let path = project.path(file);
            let bytes = read_file(&path).with_context(|| format!("the password of the Wi-Fi `{ssid}`"))?;
            if bramble_files::is_utf16(&bytes) {
                bail!("{} is written in UTF-16: save it as plain text (UTF-8)", path.display());
            }
            let bytes = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(&bytes);
            let text = String::from_utf8_lossy(bytes);
            let text = text.strip_suffix('\n').map_or(&*text, |line| line.strip_suffix('\r').unwrap_or(line));
            if text.contains('\n') {
                bail!(
                    "{} has several lines: it is to have the password of the Wi-Fi `{ssid}` and nothing else",
                    path.display()
                );
            }
            let key = Wifi::key(ssid, text).ok_or_else(|| {
                anyhow!(
                    "{} has no password of a Wi-Fi: 8 to 63 letters, digits and signs of ASCII, or 64 hexadecimal digits",
                    path.display()
                )
            })?;
            Some((ssid.clone(), key))
        }
    };
    Ok(Some(Wifi { country: written.country.clone(), join }))
}

fn host_key(project: &Project, node: &Node) -> anyhow::Result<HostKey> {
    let dir = project.private_dir()?.join("host-keys");
    fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
    let (private, public) = (dir.join(node.name.as_str()), dir.join(format!("{}.pub", node.name)));
    let read = |path: &Path| match fs::symlink_metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        _ => read_file(path).map(|bytes| Some(String::from_utf8_lossy(&bytes).into_owned())),
    };
    // What a board answers with is known by these: half a file, after a power cut, would lock everybody out.
    match (read(&private)?, read(&public)?) {
        (Some(secret), Some(open)) if bramble_remote::are_halves(&secret, &open) => {
            return Ok(HostKey { private: secret, public: open.trim().to_owned() });
        }
        // The second half was not written any more.
        (Some(secret), None) if bramble_remote::public_half(&secret).is_some() => {
            let open = bramble_remote::public_half(&secret).unwrap_or_default();
            replace_file(&public, format!("{open}\n").as_bytes(), 0o644)?;
            return Ok(HostKey { private: secret, public: open });
        }
        (None, None) => {}
        _ => bail!(
            "{} and {} are not the two halves of one key: remove both, and {} gets a new one",
            private.display(),
            public.display(),
            node.name
        ),
    }
    let made = new_key_pair(&random()?, &format!("root@{}", node.name));
    let (secret, open) = made.ok_or_else(|| anyhow!("no host key can be made for {}", node.name))?;
    replace_file(&private, secret.as_bytes(), 0o600)?;
    replace_file(&public, format!("{open}\n").as_bytes(), 0o644)?;
    Ok(HostKey { private: secret, public: open })
}

/// The public halves of the keys that log in.
fn public_keys(project: &Project) -> anyhow::Result<Vec<String>> {
    let mut keys = Vec::new();
    for written in &project.cluster.access.keys {
        let path = project.path(written);
        let public = match path.extension() {
            Some(extension) if extension == "pub" => path.clone(),
            _ => PathBuf::from(format!("{}.pub", path.display())),
        };
        let cannot =
            |path: &Path, why: String| anyhow!("{}, of `access.keys`, cannot let anybody in: {why}", path.display());
        if !public.exists() && path.exists() {
            let bytes = read_file(&path).context("a key of `access.keys`")?;
            let text = String::from_utf8_lossy(&bytes);
            // A private key has its public half in it, too; and a file may be that of public keys, whatever its name.
            let read = match bramble_remote::public_half(&text) {
                Some(half) => vec![half],
                None if text.contains("PRIVATE KEY-----") => {
                    let why = format!(
                        "its public half is not beside it: `ssh-keygen -y -f {0} >{0}.pub` writes it",
                        path.display()
                    );
                    return Err(cannot(&path, why));
                }
                None => bramble_remote::public_keys(&bytes).map_err(|why| cannot(&path, why))?,
            };
            if read.is_empty() {
                return Err(cannot(&path, "there is no key in it".to_owned()));
            }
            keys.extend(read);
            continue;
        }
        if !public.exists() && bramble_remote::public_keys(written.as_bytes()).is_ok_and(|keys| !keys.is_empty()) {
            bail!(
                "`access.keys` has a key where the name of its file is expected: write it into a file such as key.pub, and name that"
            );
        }
        let bytes = read_file(&public).context("the public half of a key of `access.keys`")?;
        let read = bramble_remote::public_keys(&bytes).map_err(|why| cannot(&public, why))?;
        if read.is_empty() {
            return Err(cannot(&public, "there is no key in it".to_owned()));
        }
        keys.extend(read);
    }
    if keys.is_empty() {
        bail!(
            "nobody could log in to a board that is made from an image: name a public key in `access: {{ keys: […] }}`"
        );
    }
    Ok(keys)
}

/// Unpacks an image into a file, and makes it this node's. Tells the system that it has, and its size.
fn make(source: &Path, to: &Path, identity: &Identity, printer: &Printer) -> anyhow::Result<(System, u64)> {
    let packed = File::open(source).with_context(|| format!("cannot open {}", source.display()))?;
    let mut file = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        // The private host key is in it.
        .mode(0o600)
        .open(to)
        .with_context(|| format!("cannot write {}", to.display()))?;
    printer.info(format!("unpacking {}", source.display()));
    let size = bramble_image::decompress(packed)
        .map_err(anyhow::Error::from)
        .and_then(|mut image| Ok(copy(&mut image, &mut file)?))
        .with_context(|| format!("cannot unpack {} to {}", source.display(), to.display()))?;
    bramble_image::is_whole(&mut file).with_context(|| format!("{} cannot be used", source.display()))?;
    let (system, changes) =
        board(&mut file, identity).with_context(|| format!("{} cannot be used", source.display()))?;
    for change in &changes {
        file.write_all_at(&change.bytes, change.offset).with_context(|| format!("cannot write {}", to.display()))?;
    }
    file.sync_all().with_context(|| format!("cannot write {}", to.display()))?;
    Ok((system, size))
}

/// Copies all of it, with holes for runs of zeros, and tells how long it is.
fn copy(from: &mut impl Read, to: &mut File) -> std::io::Result<u64> {
    let mut chunk = vec![0; HOLE];
    let mut size = 0;
    loop {
        let mut filled = 0;
        while filled < HOLE {
            match from.read(&mut chunk[filled..])? {
                0 => break,
                count => filled += count,
            }
        }
        if chunk[..filled].iter().all(|byte| *byte == 0) {
            to.seek(SeekFrom::Current(filled as i64))?;
        } else {
            to.write_all(&chunk[..filled])?;
        }
        size += filled as u64;
        if filled < HOLE {
            to.set_len(size)?;
            return Ok(size);
        }
    }
}
