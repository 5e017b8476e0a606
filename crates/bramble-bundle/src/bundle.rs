//! The bundle out of published Go modules: a real Kubernetes for machines that reach no release of it.
//!
//! Kubernetes, etcd, CoreDNS and crictl are Go modules. `modules/` has a `go.mod` and a `go.sum` for each, so that every
//! byte that is compiled is pinned. They are compiled in a Debian container; the images are put together by
//! [`archive::image`] from file trees.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use bramble_fetch::{KubernetesRelease, Watcher, describe};
use bramble_kube::{Bundle, BundleFiles, BundleManifest, CONTAINERD_PROGRAMS};
use bramble_lab::{Event, Events, Lab, PathContext, remove_tree, require_root, write};
use bramble_spec::{Arch, KubeVersion, hex};
use sha2::{Digest, Sha256};

use crate::archive::{self, append_tree};
use crate::error::Error;
use crate::kitchen::{Ingredient, Kitchen, Module, bundles, module, recipe};
use crate::standins::STANDINS;

/// Not a real registry: nobody shall take an image built here for one that a project published.
const REPOSITORY: &str = "bundle.bramble";

/// A minor version of Kubernetes that can be built, with the etcd that its kubeadm asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Minor {
    /// Its name, such as `1.36`.
    pub name: &'static str,
    kubernetes: Module,
    etcd: Module,
}

/// The minors that can be built: the one that racks have if nothing else is asked for, and one to upgrade to.
pub const MINORS: [Minor; 2] = [
    Minor { name: "1.36", kubernetes: module!("kubernetes-1.36"), etcd: module!("etcd-3.6") },
    Minor { name: "1.37", kubernetes: module!("kubernetes-1.37"), etcd: module!("etcd-3.7") },
];

/// CoreDNS and crictl. CoreDNS is the one that kubeadm of the older minor installs (`CoreDNSVersion` in its constants.go): it
/// upgrades no other but those that it knows.
const TOOLS: Module = module!("tools");
/// containerd 2, for boards whose Debian has 1.x: Kubernetes 1.37 is the last that takes that (KEP-4033).
const CONTAINERD: Module = module!("containerd");
const COREDNS: &str = include_str!("../modules/tools/coredns/main.go");

const BUILDER: &str = include_str!("builder.sh");
const PAUSE: &str = include_str!("pause.go");
/// The programs that stand-ins start: a tar archive in the bundle's folder.
const STANDIN: &str = "standin.tar";

/// What a bundle is to have.
#[derive(Debug, Clone, Default)]
pub struct BundleRequest {
    /// For boards of these architectures, too, beside those of this machine's own.
    pub others: Vec<Arch>,
    /// With a containerd of its own.
    pub containerd: bool,
    /// Made anew, although there is one.
    pub again: bool,
}

impl BundleRequest {
    /// Lists the architectures, this machine's own first.
    fn arches(&self) -> Vec<Arch> {
        std::iter::once(Arch::HERE).chain(self.foreign()).collect()
    }

    fn foreign(&self) -> Vec<Arch> {
        Arch::ALL.into_iter().filter(|arch| *arch != Arch::HERE && self.others.contains(arch)).collect()
    }

    /// What tells it from other bundles, for its folder's name.
    fn suffix(&self) -> String {
        let containerd = if self.containerd { "-containerd" } else { "" };
        self.foreign().iter().fold(containerd.to_owned(), |name, arch| format!("{name}-{arch}"))
    }
}

impl Minor {
    /// Finds a minor by its name.
    pub fn named(name: &str) -> Option<Minor> {
        MINORS.into_iter().find(|minor| minor.name == name)
    }

    /// Lists what its builder is given.
    fn ingredients(self) -> Vec<Ingredient> {
        let modules =
            [("kubernetes", self.kubernetes), ("etcd", self.etcd), ("tools", TOOLS), ("containerd", CONTAINERD)];
        let mut all: Vec<Ingredient> =
            modules.into_iter().flat_map(|(name, module)| module.ingredients(name)).collect();
        all.push(("modules/tools/coredns/main.go".to_owned(), COREDNS));
        all.push(("pause.go".to_owned(), PAUSE));
        all
    }

    /// Gives the bundle: the cached one, or a new one (some ten minutes on two cores for each architecture). A build that was
    /// interrupted leaves nothing but Go's caches, with which the next one goes on.
    ///
    /// # Errors
    ///
    /// Fails without root, and if a module cannot be had or compiled.
    pub fn bundle(self, lab: &Lab, request: &BundleRequest, events: Events) -> Result<Bundle, Error> {
        require_root()?;
        let ingredients = self.ingredients();
        let name = format!("kubernetes-{}{}-{}", self.name, request.suffix(), recipe(BUILDER, &ingredients));
        let dir = bundles(lab).join(name);
        let there = || Bundle::is_at(&dir) && !request.again;
        if there() {
            return Ok(Bundle::open(&dir)?);
        }
        let kitchen = Kitchen::open(lab, BUILDER, ingredients, events)?;
        // Somebody else may have made it meanwhile.
        if there() {
            return Ok(Bundle::open(&dir)?);
        }
        let partial = PathBuf::from(format!("{}.partial", dir.display()));
        for left in [&partial, &dir] {
            remove_tree(left)?;
        }
        let arches = request.arches();
        let names = arches.iter().map(Arch::to_string).collect::<Vec<_>>().join(" ");
        let mut what = vec!["bundle", &names];
        what.extend(request.containerd.then_some("containerd"));
        let step = format!("Building Kubernetes {} (once, some ten minutes)", self.name);
        kitchen.build(&request.foreign(), &what, &step, |out| {
            events(Event::Step("Packing the images".into()));
            pack(out, &arches, &partial)
        })?;
        fs::rename(&partial, &dir).at("move into place", &dir)?;
        Ok(Bundle::open(&dir)?)
    }

    /// Gives the bundle out of what the project of Kubernetes releases: the cached one, or what is the newest patch now. `mirror`: a web server with the same files, and a registry with the same images.
    ///
    /// # Errors
    ///
    /// Fails without root, and if the project's servers cannot be reached or give something else than they published.
    pub fn released(
        self,
        lab: &Lab,
        mirror: Option<&str>,
        request: &BundleRequest,
        watcher: &dyn Watcher,
    ) -> Result<Bundle, Error> {
        require_root()?;
        // A mirror is trusted by whoever named it, and by nobody else.
        let of = mirror.map_or_else(String::new, |mirror| format!("-{}", hex(&Sha256::digest(mirror)[..4])));
        let with = request.suffix();
        let dir = bundles(lab).join(format!("released-{}{with}-{}{of}", self.name, std::env::consts::ARCH));
        if Bundle::is_at(&dir) && !request.again {
            return Ok(Bundle::open(&dir)?);
        }
        let release = KubernetesRelease::at(mirror, watcher);
        let wanted = self.name.parse().map_err(|_| Error::Built(format!("{} is no version", self.name)))?;
        let version = release.newest(wanted)?;
        remove_tree(&dir)?;
        Ok(release.bundle(version, &request.arches(), request.containerd, &dir)?)
    }

    /// Gives the archive of the programs that stand-ins start, made once for each bundle.
    pub(crate) fn programs(self, lab: &Lab, bundle: &Bundle, events: Events) -> Result<PathBuf, Error> {
        let archive = bundle.dir.join(STANDIN);
        let kitchen = Kitchen::open(lab, BUILDER, self.ingredients(), events)?;
        if archive.exists() {
            return Ok(archive);
        }
        let builds = STANDINS.iter().filter_map(|standin| standin.kubelet);
        let arguments: Vec<&str> = std::iter::once("standins").chain(builds).collect();
        kitchen.build(&[], &arguments, "Building what the stand-ins start", |out| {
            let partial = archive.with_extension("partial");
            let file = fs::File::create(&partial).at("create", &partial)?;
            let mut programs = tar::Builder::new(io::BufWriter::new(file));
            append_tree(&mut programs, out, Path::new("")).at("pack", &partial)?;
            programs.into_inner().and_then(|mut writer| writer.flush()).at("write", &partial)?;
            Ok(fs::rename(&partial, &archive).at("move into place", &archive)?)
        })?;
        Ok(archive)
    }
}

/// An image of the bundle: name, tag, entry point, whether only control planes run it.
struct ImagePlan {
    name: &'static str,
    tag: String,
    entry: Vec<&'static str>,
    control_plane_only: bool,
}

fn pack(out: &Path, arches: &[Arch], dir: &Path) -> Result<(), Error> {
    let path = out.join("versions");
    let versions = fs::read_to_string(&path).at("read", &path)?;
    let told = |name: &str| {
        let mut lines = versions.lines().filter_map(|line| line.split_once(' '));
        lines.find(|(key, version)| *key == name && !version.is_empty()).map(|(_, version)| version)
    };
    let version = |name: &str| told(name).ok_or_else(|| Error::Built(format!("the builder told no version of {name}")));
    let containerd = told("containerd");
    let kubernetes: KubeVersion = version("kubernetes")?
        .parse()
        .map_err(|_| Error::Built("the builder made what is not a version of Kubernetes".into()))?;
    let (etcd_tag, pause_tag, dns_tag) = (version("etcd")?, version("pause")?, version("coredns")?);
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
        plan("etcd", etcd_tag, &[], true),
        plan("kube-proxy", &release, &[], false),
        plan("coredns", dns_tag, &["/coredns"], false),
        plan("pause", pause_tag, &["/pause"], false),
        plan("busybox", "1", &[], false),
    ];
    let runtime = if containerd.is_some() { &CONTAINERD_PROGRAMS[..] } else { &[] };
    let mut all: BTreeMap<Arch, BundleFiles> = BTreeMap::new();
    for arch in arches {
        let files = all.entry(*arch).or_default();
        let out = out.join(arch.to_string());
        for image in &images {
            let full = format!("{REPOSITORY}/{}:{}", image.name, image.tag);
            let path = format!("{arch}/images/{}.tar", image.name);
            let tree = out.join("images").join(image.name);
            archive::image(&tree, *arch, &full, &image.entry, "0", &dir.join(&path))?;
            files.images.push(describe(dir, full, path, image.control_plane_only)?);
        }
        for name in ["kubeadm", "kubelet", "kubectl", "crictl"].iter().chain(runtime).copied() {
            let path = format!("{arch}/bin/{name}");
            let from = out.join("bin").join(name);
            write(&dir.join(&path), fs::read(&from).at("read", &from)?, 0o755)?;
            files.programs.push(describe(dir, name.to_owned(), path, false)?);
        }
    }
    let manifest = BundleManifest {
        kubernetes,
        image_repository: REPOSITORY.to_owned(),
        etcd_tag: etcd_tag.to_owned(),
        pause_image: format!("{REPOSITORY}/pause:{pause_tag}"),
        smoke_image: format!("{REPOSITORY}/busybox:1"),
        containerd: containerd.map(str::to_owned),
        files: all,
    };
    let text = serde_json::to_vec_pretty(&manifest).map_err(|e| Error::Built(e.to_string()))?;
    Ok(write(&dir.join(Bundle::MANIFEST), text, 0o644)?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// The builder reads versions out of these files by their first lines that name a module.
    #[test]
    fn each_minor_names_what_it_is() {
        for minor in MINORS {
            let required = |module: Module, path: &str| {
                let mut lines = module.requirements.lines().map(|line| line.trim().trim_start_matches("require "));
                let line = lines.find(|line| line.starts_with(&format!("{path} v"))).unwrap();
                line.split_whitespace().nth(1).unwrap().trim_start_matches('v').to_owned()
            };
            let kubernetes: KubeVersion = required(minor.kubernetes, "k8s.io/kubernetes").parse().unwrap();
            assert_eq!(format!("1.{}", kubernetes.minor), minor.name);
            let etcd = required(minor.etcd, "go.etcd.io/etcd/server/v3");
            assert!(etcd.starts_with("3."), "{etcd}");
            for path in ["github.com/coredns/coredns", "sigs.k8s.io/cri-tools"] {
                assert!(required(TOOLS, path).starts_with("1."));
            }
            assert_eq!(Minor::named(minor.name), Some(minor));
        }
        assert_eq!(Minor::named("1.35"), None);
    }
}
