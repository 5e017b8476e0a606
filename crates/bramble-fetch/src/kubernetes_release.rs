//! Kubernetes as its project publishes it: programs on a web server (kubernetes.io/releases/download), images in a registry.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use bramble_kube::{Bundle, BundleFile, BundleFiles, BundleManifest, CONTAINERD_PROGRAMS, Reference};
use bramble_spec::{Arch, KubeVersion, Sha256Digest, published};

use crate::atomic_file::replace_file;
use crate::digest::{Digest, file_digest};
use crate::error::{Context, FetchError, Result, bail, failure};
use crate::http::{RELEASE_LIMIT, Remote, download, text_at};
use crate::image_archive::{archive_name, write_image_archive};
use crate::registry::Registries;
use crate::watcher::Watcher;

/// Where the programs are.
const PROGRAMS: &str = "https://dl.k8s.io";
/// Where containerd's releases are.
const CONTAINERD: &str = "https://github.com";
/// Where the images are.
const REGISTRY: &str = "registry.k8s.io";
/// Not among them: the image of the smoke test.
const SMOKE_IMAGE: &str = "docker.io/library/busybox:1.37";
/// How long the server may be silent.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where a release of Kubernetes comes from.
pub struct KubernetesRelease<'a> {
    base: String,
    containerd: String,
    registries: Registries,
    watcher: &'a dyn Watcher,
}

impl<'a> KubernetesRelease<'a> {
    /// `mirror`: a web server with the same files, which is also a registry with the same images.
    pub fn at(mirror: Option<&str>, watcher: &'a dyn Watcher) -> KubernetesRelease<'a> {
        let place = |own: &str| mirror.unwrap_or(own).trim_end_matches('/').to_owned();
        let registries =
            [REGISTRY, "docker.io"].iter().filter_map(|name| Some(((*name).to_owned(), mirror?.to_owned())));
        KubernetesRelease {
            base: place(PROGRAMS),
            containerd: place(CONTAINERD),
            registries: Registries::new(registries.collect()),
            watcher,
        }
    }

    /// Finds the newest patch of a version that names none.
    ///
    /// # Errors
    /// The server does not answer, or has no such version.
    pub fn newest(&self, wanted: KubeVersion) -> Result<KubeVersion> {
        if wanted.patch.is_some() {
            return Ok(wanted);
        }
        let url = format!("{}/release/stable-{wanted}.txt", self.base);
        let text = text_at(&url, &[], self.watcher)?;
        let found: Option<KubeVersion> = text.trim().strip_prefix('v').and_then(|version| version.parse().ok());
        found
            .filter(|found| found.minor == wanted.minor && found.patch.is_some())
            .ok_or_else(|| failure!("{url} says `{}`, which is no version of {wanted}", text.trim().escape_debug()))
    }

    /// Makes a bundle of a version, with its patch, for boards of these architectures. What is there and right is not fetched again.
    /// `containerd`: with the programs that containerd's project releases, too.
    ///
    /// # Errors
    /// Something cannot be fetched or written, or is not what was published.
    pub fn bundle(&self, version: KubeVersion, arches: &[Arch], containerd: bool, to: &Path) -> Result<Bundle> {
        let fetched = to.join(".fetched");
        let blobs = fetched.join("blobs");
        fs::create_dir_all(&blobs).with_context(|| format!("cannot create {}", blobs.display()))?;
        let mut files: BTreeMap<Arch, BundleFiles> = BTreeMap::new();
        for arch in arches {
            let programs = &mut files.entry(*arch).or_default().programs;
            for name in ["kubeadm", "kubelet", "kubectl"] {
                let path = format!("{arch}/bin/{name}");
                self.program(version, *arch, name, &to.join(&path))?;
                programs.push(describe(to, name.to_owned(), path, false)?);
            }
            if containerd {
                programs.extend(self.containerd(*arch, &fetched, to)?);
            }
        }
        // Which images belong to it only kubeadm knows, which must run here for that.
        let mut asked = to.join(format!("{}/bin/kubeadm", Arch::HERE));
        if !arches.contains(&Arch::HERE) {
            asked = fetched.join(format!("kubeadm-{version}"));
            self.program(version, Arch::HERE, "kubeadm", &asked)?;
        }
        let names = images_of(&asked, version)?;
        let tag = |name: &str| {
            let prefix = format!("{REGISTRY}/{name}:");
            let tag = names.iter().find_map(|image| image.strip_prefix(&prefix));
            tag.ok_or_else(|| failure!("kubeadm {version} names no image of {name}"))
        };
        for name in names.iter().map(String::as_str).chain([SMOKE_IMAGE]) {
            let reference = Reference::parse(name).ok_or_else(|| failure!("`{name}` is no name of an image"))?;
            let planes = ["kube-apiserver:", "kube-controller-manager:", "kube-scheduler:", "etcd:"];
            let planes =
                planes.iter().any(|own| name.strip_prefix("registry.k8s.io/").is_some_and(|n| n.starts_with(own)));
            for (arch, files) in &mut files {
                self.watcher.note(&format!("pulling {name} for {arch}"));
                let wanted = BTreeSet::from([arch.to_string()]);
                let pulled = self.registries.pull(&reference, &wanted, &blobs, self.watcher)?;
                let dir = to.join(format!("{arch}/images"));
                fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
                let path = format!("{arch}/images/{}", archive_name(name));
                write_image_archive(&to.join(&path), name, &pulled, &blobs)?;
                files.images.push(describe(to, name.to_owned(), path, planes)?);
            }
        }
        let manifest = BundleManifest {
            kubernetes: version,
            image_repository: REGISTRY.to_owned(),
            etcd_tag: tag("etcd")?.to_owned(),
            pause_image: format!("{REGISTRY}/pause:{}", tag("pause")?),
            smoke_image: SMOKE_IMAGE.to_owned(),
            containerd: containerd.then(|| published::CONTAINERD.to_owned()),
            files,
        };
        let text = format!("{:#}\n", serde_json::to_value(&manifest)?);
        replace_file(&to.join(Bundle::MANIFEST), text.as_bytes(), 0o644)?;
        fs::remove_dir_all(&fetched).with_context(|| format!("cannot remove {}", fetched.display()))?;
        Bundle::open(to).map_err(|error| FetchError::new(error.to_string()))
    }

    fn program(&self, version: KubeVersion, arch: Arch, name: &str, to: &Path) -> Result<()> {
        let url = format!("{}/release/v{version}/bin/linux/{arch}/{name}", self.base);
        self.published(&url, "sha256", to)?;
        fs::set_permissions(to, fs::Permissions::from_mode(0o755))
            .with_context(|| format!("cannot change {}", to.display()))
    }

    /// Fetches containerd's programs, out of the archive that its project releases.
    fn containerd(&self, arch: Arch, fetched: &Path, to: &Path) -> Result<Vec<BundleFile>> {
        let name = format!("containerd-{}-linux-{arch}.tar.gz", published::CONTAINERD);
        let url =
            format!("{}/containerd/containerd/releases/download/v{}/{name}", self.containerd, published::CONTAINERD);
        let archive = fetched.join(&name);
        self.published(&url, "sha256sum", &archive)?;
        let cannot = || format!("cannot unpack {}", archive.display());
        let file = fs::File::open(&archive).with_context(cannot)?;
        let mut entries = tar::Archive::new(bramble_image::decompress(file).with_context(cannot)?);
        let mut programs = Vec::new();
        for entry in entries.entries().with_context(cannot)? {
            let mut entry = entry.with_context(cannot)?;
            let path = entry.path().with_context(cannot)?.to_string_lossy().trim_start_matches("./").to_owned();
            let Some(name) = CONTAINERD_PROGRAMS.iter().find(|name| path == format!("bin/{name}")) else { continue };
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).with_context(cannot)?;
            let path = format!("{arch}/{path}");
            let program = to.join(&path);
            replace_file(&program, &bytes, 0o755)?;
            programs.push(describe(to, (*name).to_owned(), path, false)?);
        }
        match CONTAINERD_PROGRAMS.iter().find(|name| programs.iter().all(|program| program.name != **name)) {
            Some(missing) => bail!("{url} has no bin/{missing} in it"),
            None => Ok(programs),
        }
    }

    /// Fetches a file beside which its digest is published, in a file with this ending.
    fn published(&self, url: &str, ending: &str, to: &Path) -> Result<()> {
        let published = text_at(&format!("{url}.{ending}"), &[], self.watcher)?;
        let sha256: Sha256Digest = published
            .split_whitespace()
            .next()
            .and_then(|digest| digest.parse().ok())
            .ok_or_else(|| failure!("{url}.{ending} has no digest in it"))?;
        let remote = Remote { url, headers: &[], digest: Digest::Sha256(&sha256), most: RELEASE_LIMIT };
        download(&remote, to, PATIENCE, self.watcher)
    }
}

/// Asks kubeadm which images a version has.
fn images_of(kubeadm: &Path, version: KubeVersion) -> Result<Vec<String>> {
    let mut command = Command::new(kubeadm);
    command.args(["config", "images", "list", "--kubernetes-version", &format!("v{version}")]);
    let output = command.output().with_context(|| format!("cannot run {}", kubeadm.display()))?;
    if !output.status.success() {
        bail!("{} does not tell its images: {}", kubeadm.display(), String::from_utf8_lossy(&output.stderr).trim());
    }
    let list = String::from_utf8_lossy(&output.stdout);
    Ok(list.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect())
}

/// Describes a file of a bundle. `path`: below the bundle's folder `dir`.
///
/// # Errors
/// It cannot be read.
pub fn describe(dir: &Path, name: String, path: String, control_plane_only: bool) -> Result<BundleFile> {
    let full = dir.join(&path);
    let size = fs::metadata(&full).with_context(|| format!("cannot read {}", full.display()))?.len();
    Ok(BundleFile { name, path, sha256: file_digest(&full)?, size, control_plane_only })
}
