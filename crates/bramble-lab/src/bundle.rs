//! The bundle from Debian: a real Kubernetes for machines that reach nothing but a Debian mirror.
//!
//! Debian's archive holds the whole source of Kubernetes, though it ships only kubectl from it. The bundle is built
//! from that source in a Debian container; the images are put together by [`archive`] from file trees.

use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use bramble_kube::{Bundle, BundleFile, BundleManifest};
use bramble_spec::{Arch, KubeVersion, Sha256Digest, hex};
use sha2::{Digest, Sha256};

use crate::cgroup::Group;
use crate::host::{Error, Event, Events, PathContext, remove_tree, require_root, stream, write};
use crate::network::enter;
use crate::rack::Lab;
use crate::root;

/// Not a real registry: nobody shall take an image built here for one that a project published.
const REPOSITORY: &str = "bundle.bramble";

/// The builder of a bundle from Debian's archive.
#[derive(Debug)]
pub struct DebianBundle;

/// Which of the two bundles that are built together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Release {
    /// The version that the source is.
    Own,
    /// The same under the next patch version.
    Next,
}

/// The programs that stand-ins start: a tar archive in the bundle's folder.
pub(crate) const STANDIN: &str = "standin.tar";

const BUILDER: &str = include_str!("builder.sh");
const CRICTL: &str = include_str!("crictl.sh");
const BUILDER_PACKAGES: &[&str] = &[
    "build-essential",
    "busybox-static",
    "ca-certificates",
    "conntrack",
    "containerd",
    "containernetworking-plugins",
    "dpkg-dev",
    "etcd-client",
    "etcd-server",
    "golang-1.19-go",
    "golang-github-json-iterator-go-dev",
    "golang-github-modern-go-reflect2-dev",
    "iptables",
    "rsync",
    "runc",
    "zstd",
];

impl DebianBundle {
    /// The bundle of this machine's architecture: the cached one, or a new one (some ten minutes on two cores). A
    /// build that was interrupted leaves nothing that a later one would use. Each build makes two: the second one is the
    /// same source under the next patch version, to try upgrades with.
    pub fn ensure(lab: &Lab, again: bool, release: Release, events: Events) -> Result<Bundle, Error> {
        require_root()?;
        let parent = lab.cache.join("bundles");
        fs::create_dir_all(&parent).at("create", &parent)?;
        let lock_path = parent.join("lock");
        let lock = fs::File::create(&lock_path).at("create", &lock_path)?;
        if lock.try_lock().is_err() {
            events(Event::Step("Waiting for another build of the bundle".into()));
            lock.lock().at("lock", &lock_path)?;
        }
        let recipe = Sha256::digest(format!("{BUILDER}{CRICTL}{}", BUILDER_PACKAGES.join(",")).as_bytes());
        let name = format!("debian-{}-{}-{}", root::SUITE, std::env::consts::ARCH, hex(&recipe[..4]));
        let dir = parent.join(&name);
        let next = parent.join(format!("{name}-next"));
        let wanted = match release {
            Release::Own => &dir,
            Release::Next => &next,
        };
        // The one that is whole last tells that both are.
        if dir.join(Bundle::MANIFEST).exists() && !again {
            return Ok(Bundle::open(wanted)?);
        }
        let mirror = match &lab.mirror {
            Some(mirror) => mirror.clone(),
            None => root::host_mirror()?,
        };
        // A builder whose supervisor was killed goes on by itself: end it before anything else.
        let group = Group::node("_bundle", "builder");
        group.kill()?;
        let builder = lab.cache.join("roots").join("builder");
        let partial = dir.with_extension("partial");
        for left in [&builder, &builder.with_extension("partial"), &partial, &dir, &next] {
            remove_tree(left)?;
        }
        events(Event::Step("Building the builder's Debian root".into()));
        root::build(&lab.cache.join("roots"), &builder, &mirror, BUILDER_PACKAGES, true, events)?;
        events(Event::Step("Building Kubernetes from Debian's source package (once, some ten minutes)".into()));
        write(&builder.join("build/builder.sh"), BUILDER, 0o755)?;
        write(&builder.join("build/crictl"), CRICTL, 0o755)?;
        let resolv = builder.join("etc/resolv.conf");
        fs::remove_file(&resolv).ok();
        let own = Path::new("/etc/resolv.conf");
        write(&resolv, fs::read(own).at("read", own)?, 0o644)?;
        let entries = group.create()?;
        let mut command = enter(&entries, "systemd-nspawn");
        command.args(["--quiet", "--register=no", "--keep-unit", "--console=pipe", "--resolv-conf=off"]);
        command.args(["--timezone=off", "--link-journal=no", "--machine=bramble-bundle", "--directory"]);
        command.arg(&builder).arg("/build/builder.sh");
        let result = stream(command, events);
        group.kill()?;
        Group::rack("_bundle").remove()?;
        result?;
        events(Event::Step("Packing the images".into()));
        for (out, to) in [("build/next", &next), ("build/out", &dir)] {
            pack(&builder.join(out), &partial)?;
            fs::rename(&partial, to).at("move into place", to)?;
        }
        remove_tree(&builder)?;
        Ok(Bundle::open(wanted)?)
    }
}

/// An image of the bundle: name, tag, entry point, whether only control planes run it.
struct ImagePlan {
    name: &'static str,
    tag: String,
    entry: Vec<&'static str>,
    control_plane_only: bool,
}

fn pack(out: &Path, dir: &Path) -> Result<(), Error> {
    let read = |name: &str| {
        let path = out.join(name);
        fs::read_to_string(&path).at("read", &path).map(|text| text.trim().to_owned())
    };
    let version = read("kubernetes-version")?;
    let kubernetes: KubeVersion = version
        .parse()
        .map_err(|_| Error::Request(format!("the builder made `{version}`, which is not a version of Kubernetes")))?;
    let (etcd_tag, pause_tag) = (read("etcd-version")?, read("pause-version")?);
    let release = format!("v{kubernetes}");
    let plan = |name, tag: &str, entry: &[&'static str], control_plane_only| ImagePlan {
        name,
        tag: tag.to_owned(),
        entry: entry.to_vec(),
        control_plane_only,
    };
    let images = [
        plan("kube-apiserver", &release, &[], true),
        plan("kube-controller-manager", &release, &[], true),
        plan("kube-scheduler", &release, &[], true),
        plan("etcd", &etcd_tag, &[], true),
        plan("kube-proxy", &release, &[], false),
        plan("pause", &pause_tag, &["/pause"], false),
        plan("busybox", "1", &[], false),
    ];
    let mut files = Vec::new();
    for image in &images {
        let full = format!("{REPOSITORY}/{}:{}", image.name, image.tag);
        let path = format!("images/{}.tar", image.name);
        archive(&out.join("images").join(image.name), &full, &image.entry, &dir.join(&path))?;
        files.push(describe(dir, full, path, image.control_plane_only)?);
    }
    let mut programs = Vec::new();
    for name in ["kubeadm", "kubelet", "kubectl", "crictl"] {
        let path = format!("bin/{name}");
        let from = out.join("bin").join(name);
        write(&dir.join(&path), fs::read(&from).at("read", &from)?, 0o755)?;
        programs.push(describe(dir, name.to_owned(), path, false)?);
    }
    let standin = dir.join(STANDIN);
    let file = fs::File::create(&standin).at("create", &standin)?;
    let mut programs_tar = tar::Builder::new(io::BufWriter::new(file));
    append_tree(&mut programs_tar, &out.join("standin"), Path::new("")).at("pack", &standin)?;
    programs_tar.into_inner().and_then(|mut writer| writer.flush()).at("write", &standin)?;
    let manifest = BundleManifest {
        kubernetes,
        arch: if cfg!(target_arch = "aarch64") { Arch::Arm64 } else { Arch::Amd64 },
        image_repository: REPOSITORY.to_owned(),
        etcd_tag,
        pause_image: format!("{REPOSITORY}/pause:{pause_tag}"),
        smoke_image: format!("{REPOSITORY}/busybox:1"),
        programs,
        images: files,
    };
    let text = serde_json::to_vec_pretty(&manifest).map_err(|e| Error::Request(e.to_string()))?;
    write(&dir.join(Bundle::MANIFEST), text, 0o644)
}

fn describe(dir: &Path, name: String, path: String, control_plane_only: bool) -> Result<BundleFile, Error> {
    let full = dir.join(&path);
    let mut file = fs::File::open(&full).at("open", &full)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0u8; 1 << 20];
    let mut size = 0u64;
    loop {
        let n = file.read(&mut buffer).at("read", &full)?;
        if n == 0 {
            break;
        }
        hasher.update(&buffer[..n]);
        size += n as u64;
    }
    Ok(BundleFile { name, path, sha256: digest(hasher)?, size, control_plane_only })
}

fn digest(hasher: Sha256) -> Result<Sha256Digest, Error> {
    hex(&hasher.finalize()).parse().map_err(|_| Error::Request("a digest of the wrong length".into()))
}

/// Counts and hashes what passes through.
struct Hashing<W> {
    inner: W,
    hasher: Sha256,
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.inner.write(bytes)?;
        self.hasher.update(&bytes[..n]);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Makes a Docker archive of one layer (the format of `docker save`: manifest.json, config, layer.tar; specified in
/// moby's image/spec). Equal trees give equal bytes: owners, times and order are fixed.
fn archive(tree: &Path, name: &str, entry: &[&str], to: &Path) -> Result<(), Error> {
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent).at("create", parent)?;
    }
    let layer_path = to.with_extension("layer");
    let layer = fs::File::create(&layer_path).at("create", &layer_path)?;
    let mut layer = tar::Builder::new(Hashing { inner: io::BufWriter::new(layer), hasher: Sha256::new() });
    append_tree(&mut layer, tree, Path::new("")).at("pack", tree)?;
    let mut done = layer.into_inner().at("pack", tree)?;
    done.flush().at("write", &layer_path)?;
    let layer_digest = digest(done.hasher)?;
    let config = serde_json::json!({
        "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" },
        "os": "linux",
        "config": {
            "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
            "Entrypoint": entry,
            "WorkingDir": "/",
        },
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{layer_digest}")] },
        "history": [{ "created_by": "bramble lab bundle" }],
    })
    .to_string();
    let mut hasher = Sha256::new();
    hasher.update(config.as_bytes());
    let config_name = format!("{}.json", digest(hasher)?);
    let manifest = serde_json::json!([{
        "Config": config_name, "RepoTags": [name], "Layers": ["layer.tar"],
    }])
    .to_string();
    let file = fs::File::create(to).at("create", to)?;
    let mut outer = tar::Builder::new(io::BufWriter::new(file));
    for (name, content) in [("manifest.json", manifest.as_str()), (&config_name, &config)] {
        outer
            .append_data(&mut header(tar::EntryType::Regular, content.len() as u64, 0o644), name, content.as_bytes())
            .at("write", to)?;
    }
    let layer = fs::File::open(&layer_path).at("open", &layer_path)?;
    let size = layer.metadata().at("look at", &layer_path)?.len();
    outer.append_data(&mut header(tar::EntryType::Regular, size, 0o644), "layer.tar", layer).at("write", to)?;
    outer.into_inner().and_then(|mut writer| writer.flush()).at("write", to)?;
    fs::remove_file(&layer_path).at("remove", &layer_path)
}

pub(crate) fn header(kind: tar::EntryType, size: u64, mode: u32) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}

fn append_tree<W: Write>(to: &mut tar::Builder<W>, tree: &Path, below: &Path) -> io::Result<()> {
    let mut names: Vec<_> =
        fs::read_dir(tree.join(below))?.map(|entry| entry.map(|e| e.file_name())).collect::<io::Result<_>>()?;
    names.sort();
    for name in names {
        let inside = below.join(name);
        let path = tree.join(&inside);
        let kind = fs::symlink_metadata(&path)?;
        if kind.is_symlink() {
            to.append_link(&mut header(tar::EntryType::Symlink, 0, 0o777), &inside, fs::read_link(&path)?)?;
        } else if kind.is_dir() {
            let mode = if inside == Path::new("tmp") { 0o1777 } else { 0o755 };
            to.append_data(&mut header(tar::EntryType::Directory, 0, mode), &inside, io::empty())?;
            append_tree(to, tree, &inside)?;
        } else {
            let mode = if kind.permissions().mode() & 0o111 == 0 { 0o644 } else { 0o755 };
            to.append_data(&mut header(tar::EntryType::Regular, kind.len(), mode), &inside, fs::File::open(&path)?)?;
        }
    }
    Ok(())
}
