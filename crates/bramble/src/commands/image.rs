//! `bramble image`.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail};
use bramble_image::{HostKey, Identity, Static, System, board};
use bramble_remote::{HostKeys, new_host_key};
use bramble_spec::{Distribution, ImageSource, Node, Sudo, hex};
use bramble_state::MEMORY_CGROUP;
use ipnet::Ipv4Net;
use serde_json::json;

use crate::download::{Digest, PATIENCE, download};
use crate::engine::random;
use crate::output::{Format, Printer, Style};
use crate::project::{Project, file_digest};
use crate::{Common, Done};

/// Images of systems for the boards' disks.
#[derive(clap::Args)]
pub(crate) struct Image {
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand)]
enum Action {
    /// Make the image of a node's disk: the system of the cluster file, already knowing who it is
    Build(Build),
}

#[derive(clap::Args)]
struct Build {
    /// The node
    #[arg(value_name = "NODE")]
    node: String,
    /// The file
    #[arg(long, value_name = "FILE")]
    to: PathBuf,
}

/// Longer runs of zeros become holes of the file, which read the same.
const HOLE: usize = 64 * 1024;

impl Image {
    pub(crate) fn run(self, common: &Common, printer: &Printer) -> anyhow::Result<Done> {
        let Action::Build(build) = self.action;
        let project = Project::open(common, printer)?;
        build.run(&project, printer)
    }
}

impl Build {
    fn run(self, project: &Project, printer: &Printer) -> anyhow::Result<Done> {
        let node = project.node(&self.node)?;
        if self.to.exists() {
            bail!("{} is there already: remove it, or name another file", self.to.display());
        }
        let identity = identity(project, node)?;
        let source = source(project, printer)?;
        let mut name = self.to.file_name().ok_or_else(|| anyhow!("{} is no file", self.to.display()))?.to_owned();
        name.push(".part");
        let part = self.to.with_file_name(name);
        let made = make(&source, &part, &identity, printer);
        let (system, size) = made.inspect_err(|_| {
            fs::remove_file(&part).ok();
        })?;
        fs::rename(&part, &self.to).with_context(|| format!("cannot write {}", self.to.display()))?;
        // Whoever boots from it can be met without asking. The board that has this address now may be there for a while.
        let known = HostKeys::open([project.known_hosts()?]);
        known.pin(&node.address.to_string(), project.cluster.access.port, &identity.host_key.public)?;
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

/// The packed image, here.
pub(super) fn source(project: &Project, printer: &Printer) -> anyhow::Result<PathBuf> {
    let cluster = project.cluster.name.as_str();
    match &project.cluster.image {
        None => {
            bail!("the cluster file of {cluster} names no image: add `image: {{ file: … }}`, or `url` and `sha256`")
        }
        Some(ImageSource::File { path, sha256 }) => {
            let path = project.path(path);
            if let Some(published) = sha256 {
                let found = file_digest(&path)?;
                if found != *published {
                    bail!(
                        "{} has the digest {found}, the cluster file says {published}: it is refused",
                        path.display()
                    );
                }
            }
            Ok(path)
        }
        Some(ImageSource::Url { url, sha256 }) => {
            let path = project.release_cache()?.with_file_name("images").join(sha256.as_str());
            if !path.exists() {
                download(url, &path, Digest::Sha256(sha256), PATIENCE, printer)?;
            }
            Ok(path)
        }
    }
}

/// Who this node is. Its host key is made once, and stays when its disk is made again.
pub(super) fn identity(project: &Project, node: &Node) -> anyhow::Result<Identity> {
    let cluster = &project.cluster;
    if cluster.access.sudo == Sudo::Password {
        bail!("a board that is made from an image has no password that sudo could ask for: say `sudo: passwordless`");
    }
    let wish = &cluster.preparation;
    let mut kernel_args = wish.boot.kernel_args.clone();
    let kubernetes = cluster.distribution != Distribution::None;
    if kubernetes && node.board.id.starts_with("rpi") && !kernel_args.iter().any(|arg| arg == MEMORY_CGROUP) {
        kernel_args.push(MEMORY_CGROUP.to_owned());
    }
    let address = match cluster.network.gateway {
        Some(gateway) => Some(Static {
            address: Ipv4Net::new(node.address, cluster.network.subnet.prefix_len())?,
            gateway,
            dns: cluster.network.dns.clone(),
        }),
        None => None,
    };
    Ok(Identity {
        name: node.name.clone(),
        user: cluster.access.user.clone(),
        keys: public_keys(project)?,
        host_key: host_key(project, node)?,
        instance: format!("{}-{}-{}", cluster.name, node.name, hex(&random::<4>()?)),
        address,
        mac: node.mac.clone(),
        timezone: wish.timezone.clone(),
        locale: wish.locale.clone(),
        kernel_args,
        boot_config: wish.boot.config.clone(),
    })
}

fn host_key(project: &Project, node: &Node) -> anyhow::Result<HostKey> {
    let dir = project.private_dir()?.join("host-keys");
    fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
    let (private, public) = (dir.join(node.name.as_str()), dir.join(format!("{}.pub", node.name)));
    let read = |path: &Path| fs::read_to_string(path).ok();
    if let (Some(private), Some(public)) = (read(&private), read(&public)) {
        return Ok(HostKey { private, public: public.trim().to_owned() });
    }
    let made = new_host_key(&random()?, &format!("root@{}", node.name));
    let (secret, open) = made.ok_or_else(|| anyhow!("no host key can be made for {}", node.name))?;
    crate::pins::replace(&private, secret.as_bytes(), 0o600)?;
    crate::pins::replace(&public, format!("{open}\n").as_bytes(), 0o644)?;
    Ok(HostKey { private: secret, public: open })
}

/// The public halves of the keys that log in.
fn public_keys(project: &Project) -> anyhow::Result<Vec<String>> {
    let mut keys = Vec::new();
    for written in &project.cluster.access.keys {
        let path = project.path(written);
        let public = match path.extension() {
            Some(extension) if extension == "pub" => path,
            _ => PathBuf::from(format!("{}.pub", path.display())),
        };
        let text = fs::read_to_string(&public)
            .with_context(|| format!("cannot read {}, the public half of a key of `access.keys`", public.display()))?;
        keys.extend(
            text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned),
        );
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
    let size = bramble_image::decompress(packed, threads())
        .map_err(anyhow::Error::from)
        .and_then(|mut image| Ok(copy(&mut image, &mut file)?))
        .with_context(|| format!("cannot unpack {} to {}", source.display(), to.display()))?;
    let (system, changes) =
        board(&mut file, identity).with_context(|| format!("{} cannot be used", source.display()))?;
    for change in &changes {
        file.write_all_at(&change.bytes, change.offset).with_context(|| format!("cannot write {}", to.display()))?;
    }
    file.sync_all().with_context(|| format!("cannot write {}", to.display()))?;
    Ok((system, size))
}

pub(super) fn threads() -> u32 {
    std::thread::available_parallelism().map_or(1, |count| count.get() as u32)
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
