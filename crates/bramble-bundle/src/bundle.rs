//! The bundle from Debian: a real Kubernetes for machines that reach nothing but a Debian mirror.
//!
//! Debian's archive holds the whole source of Kubernetes, though it ships only kubectl from it. The bundle is built
//! from that source in a Debian container; the images are put together by [`archive::image`] from file trees.

use std::fs;
use std::io::{self, Read, Write};
use std::path::Path;

use bramble_kube::{Bundle, BundleFile, BundleManifest};
use bramble_lab::{Builder, Event, Events, Lab, PathContext, SUITE, remove_tree, require_root, write};
use bramble_spec::{Arch, KubeVersion, hex};
use sha2::{Digest, Sha256};

use crate::archive::{self, append_tree, digest};
use crate::error::Error;
use crate::standins::STANDINS;

/// Not a real registry: nobody shall take an image built here for one that a project published.
const REPOSITORY: &str = "bundle.bramble";

/// The builder of a bundle from Debian's archive.
#[derive(Debug)]
pub struct DebianBundle;

/// One of the two bundles that are built together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PatchVersion {
    /// The version of the source.
    Own,
    /// The source under the next patch version, to try upgrades with.
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
    /// Gives the bundle of this machine's architecture: the cached one, or a new one (some ten minutes on two cores). A
    /// build that was interrupted leaves nothing that a later one would use. Each build makes two: the second one is the
    /// same source under the next patch version, to try upgrades with.
    pub fn ensure(lab: &Lab, again: bool, patch: PatchVersion, events: Events) -> Result<Bundle, Error> {
        require_root()?;
        let parent = lab.cache.join("bundles");
        fs::create_dir_all(&parent).at("create", &parent)?;
        let lock_path = parent.join("lock");
        let lock = fs::File::create(&lock_path).at("create", &lock_path)?;
        if lock.try_lock().is_err() {
            events(Event::Step("Waiting for another build of the bundle".into()));
            lock.lock().at("lock", &lock_path)?;
        }
        let kubelets: Vec<&str> = STANDINS.iter().filter_map(|standin| standin.kubelet).collect();
        let recipe = format!("{BUILDER}{CRICTL}{}{}", BUILDER_PACKAGES.join(","), kubelets.join(","));
        let recipe = Sha256::digest(recipe.as_bytes());
        let name = format!("debian-{}-{}-{}", SUITE, std::env::consts::ARCH, hex(&recipe[..4]));
        let dir = parent.join(&name);
        let next = parent.join(format!("{name}-next"));
        let wanted = match patch {
            PatchVersion::Own => &dir,
            PatchVersion::Next => &next,
        };
        // The one that is whole last tells that both are.
        if dir.join(Bundle::MANIFEST).exists() && !again {
            return Ok(Bundle::open(wanted)?);
        }
        let mirror = lab.debian_mirror()?;
        let partial = dir.with_extension("partial");
        for left in [&partial, &dir, &next] {
            remove_tree(left)?;
        }
        let builder = Builder::create(lab, &mirror, BUILDER_PACKAGES, events)?;
        events(Event::Step("Building Kubernetes from Debian's source package (once, some ten minutes)".into()));
        write(&builder.root().join("build/builder.sh"), BUILDER, 0o755)?;
        write(&builder.root().join("build/crictl"), CRICTL, 0o755)?;
        builder.run("/build/builder.sh", &kubelets, events)?;
        events(Event::Step("Packing the images".into()));
        for (out, to) in [("build/next", &next), ("build/out", &dir)] {
            pack(&builder.root().join(out), &partial)?;
            fs::rename(&partial, to).at("move into place", to)?;
        }
        builder.remove()?;
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
        .map_err(|_| Error::Built(format!("the builder made `{version}`, which is not a version of Kubernetes")))?;
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
        archive::image(&out.join("images").join(image.name), &full, &image.entry, &dir.join(&path))?;
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
    let text = serde_json::to_vec_pretty(&manifest).map_err(|e| Error::Built(e.to_string()))?;
    Ok(write(&dir.join(Bundle::MANIFEST), text, 0o644)?)
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
