//! `bramble bundle`.

use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail};
use bramble_fetch::{
    AddonBundle, Bundled, KubernetesRelease, LockFile, Releases, Sources, fetch_addons, fetch_cni, open_image_archive,
    render_addons,
};
use bramble_kube::{LocalFile, Upstream, cni_manifest, upstream, upstreams};
use bramble_spec::{Arch, KubeVersion, WantedRelease};
use serde_json::json;

use crate::ui::printer::{Format, Printer, Style};
use crate::{Common, Done, cluster_file};
use bramble_engine::Project;

/// Releases for machines without a network.
#[derive(clap::Args)]
pub(crate) struct Bundle {
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand)]
enum Action {
    /// Make a bundle, or add to one, for `bramble --bundle FOLDER up`
    Create(Create),
}

#[derive(clap::Args)]
struct Create {
    /// What goes in, as `k3s:stable`, `k3s:v1.34.6+k3s1` or `kubeadm:1.36`; otherwise what the cluster file wants
    #[arg(value_name = "DISTRIBUTION:RELEASE")]
    releases: Vec<String>,
    /// For which systems; otherwise for those of the cluster file's boards, and without one for arm64 and amd64
    #[arg(long, value_name = "ARCH", value_parser = ["arm64", "amd64", "armhf"], value_delimiter = ',')]
    arch: Vec<String>,
    /// The folder of the bundle
    #[arg(long, value_name = "FOLDER", default_value = "bundle")]
    to: PathBuf,
    /// A web server with the same files as upstream's; otherwise the one of the cluster file
    #[arg(long, value_name = "URL")]
    mirror: Option<String>,
    /// The images of MicroK8s for an architecture, in one archive (`docker save` or `microk8s images export-local`): its
    /// releases come without
    #[arg(long, value_name = "ARCH=FILE")]
    images: Vec<String>,
    /// With containerd 2, which takes the place of the one of the boards' systems (kubeadm)
    #[arg(long)]
    containerd: bool,
}

impl Bundle {
    pub(crate) fn run(self, common: &Common, printer: &Printer) -> anyhow::Result<Done> {
        let Action::Create(create) = self.action;
        // A bundle can be made without a cluster; with one its lock file says what was chosen.
        let project = (create.releases.is_empty() || common.file.exists()).then(|| cluster_file::open(common, printer));
        let project = project.transpose()?;
        let sources = project.as_ref().map(Project::sources).transpose()?;
        create.run(sources.as_ref(), printer)
    }
}

/// Whether a cluster needs more than its distribution's releases: add-ons, or the manifest of a CNI.
fn has_more(sources: &Sources<'_>) -> bool {
    !sources.cluster.addons.is_empty() || cni_manifest(sources.cluster).is_some()
}

impl Create {
    fn run(self, sources: Option<&Sources<'_>>, printer: &Printer) -> anyhow::Result<Done> {
        let mut made = Vec::new();
        let mut total = 0;
        for version in self.releases.iter().filter_map(|text| text.strip_prefix("kubeadm:")) {
            let (version, arches, bytes) = self.kubernetes(version, sources, printer)?;
            total += bytes;
            made.push(("kubeadm", version.to_string(), arches));
        }
        if self.containerd && made.is_empty() {
            bail!(
                "--containerd is for Kubernetes as kubeadm installs it, such as kubeadm:1.36: other releases bring theirs"
            );
        }
        for (upstream, wanted) in self.wanted(sources)? {
            let own = sources.and_then(Sources::releases).filter(|releases| releases.is_of(upstream));
            let cache = sources.map_or_else(|| self.to.join(".fetched"), |sources| sources.releases.clone());
            let releases = match (&self.mirror, own) {
                (None, Some(own)) => own,
                (mirror, _) => Releases::new(upstream, mirror.as_deref(), None, &cache),
            };
            let mut lock = match sources {
                Some(sources) => sources.lock_file()?,
                None => LockFile::open(&self.to.join("bramble.lock"), self.to.join(".fetched"))?,
            };
            std::fs::create_dir_all(&self.to)
                .map_err(|error| anyhow!("cannot create {}: {error}", self.to.display()))?;
            let arches = self.arches(sources);
            let version = releases.version(&wanted, &arches, &mut lock, printer)?;
            let mut release = releases.release(&version, &arches, &mut lock, printer)?;
            self.add_images(upstream, &mut release)?;
            // Where it was not asked for by name, an architecture that a release does not have is left out.
            let has = |arch: &&&str| release.files.contains_key(&(upstream.program)(&version, arch));
            let there: Vec<&str> = arches.iter().filter(has).copied().collect();
            if let Some(missing) = self.arch.iter().find(|arch| !there.contains(&arch.as_str())) {
                bail!("{} v{version} has no program for {missing}", upstream.name);
            }
            let files: Vec<String> = there.iter().flat_map(|arch| upstream.files(&release, arch)).collect();
            total += releases.bundle(&release, &files, &self.to, printer)?;
            releases.describe(&wanted, &release, &there, &self.to, &mut lock, printer)?;
            made.push((upstream.name, version, there.join(", ")));
        }
        let mut supplied = None;
        if let Some(sources) = sources.filter(|sources| self.releases.is_empty() && has_more(sources)) {
            let mut lock = sources.lock_file()?;
            let fetched = fetch_addons(sources, &mut lock, printer)?;
            let mut objects: Vec<_> =
                render_addons(sources, &fetched)?.into_iter().flat_map(|addon| addon.objects).collect();
            let mut texts: Vec<_> = fetched.into_iter().flatten().collect();
            if let Some((cni, _)) = fetch_cni(sources, &mut lock, printer)? {
                objects.extend(bramble_kube::objects(&cni.text).map_err(|error| anyhow!("{}: {error}", cni.source))?);
                texts.push(cni);
            }
            let made = AddonBundle::make(sources, &self.to, texts, &objects, printer)?;
            total += made.bytes;
            supplied = Some(made);
        }
        std::fs::remove_dir_all(self.to.join(".fetched")).ok();
        self.report(printer, &made, supplied, total);
        Ok(Done::Good)
    }

    /// Puts Kubernetes into the bundle, as its project publishes it.
    fn kubernetes(
        &self,
        version: &str,
        sources: Option<&Sources<'_>>,
        printer: &Printer,
    ) -> anyhow::Result<(KubeVersion, String, u64)> {
        let wanted: KubeVersion = version
            .trim_start_matches('v')
            .parse()
            .map_err(|_| anyhow!("`{version}` is no version of Kubernetes: say kubeadm:1.36 or kubeadm:v1.36.3"))?;
        let boards = |name: &str| Arch::ALL.into_iter().find(|arch| arch.to_string() == name);
        let mut arches: Vec<Arch> = self.arches(sources).into_iter().filter_map(boards).collect();
        arches.sort_unstable();
        arches.dedup();
        if arches.is_empty() {
            bail!("Kubernetes has no programs for {} since 1.27: flash 64-bit images", self.arch.join(", "));
        }
        let release = KubernetesRelease::at(self.mirror.as_deref(), printer);
        let bundle = release.bundle(release.newest(wanted)?, &arches, self.containerd, &self.to)?;
        let for_boards: Vec<String> = arches.iter().map(Arch::to_string).collect();
        let bytes = bundle.manifest.all().map(|file| file.size).sum();
        Ok((bundle.manifest.kubernetes, for_boards.join(", "), bytes))
    }

    /// Puts the archives of images that were named into a release that has none of its own.
    fn add_images(&self, upstream: &Upstream, release: &mut bramble_kube::Release) -> anyhow::Result<()> {
        for text in &self.images {
            let (arch, file) = text.split_once('=').ok_or_else(|| anyhow!("--images {text}: say ARCH=FILE"))?;
            if !upstream.store {
                bail!("--images {text}: releases of {} have their own images", upstream.name);
            }
            if !upstream.architectures.contains(&arch) {
                bail!("--images {text}: {} is for {}", upstream.name, upstream.architectures.join(" and "));
            }
            let path = PathBuf::from(file);
            let archive = open_image_archive(&path).with_context(|| format!("--images {text}"))?;
            let file = LocalFile { path, sha256: archive.sha256.clone() };
            release.images.extend(archive.images.into_iter().map(|(name, _)| name));
            release.files.insert((upstream.archive)(&release.version, arch), file);
        }
        release.images.sort();
        release.images.dedup();
        Ok(())
    }

    fn wanted(&self, sources: Option<&Sources<'_>>) -> anyhow::Result<Vec<(&'static Upstream, WantedRelease)>> {
        if self.releases.is_empty() {
            let wanted = sources.and_then(|sources| Some((sources.wanted()?, sources.releases()?)));
            if wanted.is_none() && sources.is_some_and(has_more) {
                return Ok(Vec::new());
            }
            let (wanted, releases) =
                wanted.ok_or_else(|| anyhow!("name what the bundle is for, such as `k3s:stable`: the cluster's distribution has no releases of its own"))?;
            return Ok(vec![(releases.upstream(), wanted.clone())]);
        }
        let parse = |text: &String| {
            let (name, release) = text.split_once(':').unwrap_or((text, "stable"));
            let upstream = upstream(name).ok_or_else(|| {
                let known: Vec<&str> = upstreams().map(|upstream| upstream.name).chain(["kubeadm"]).collect();
                anyhow!("`{name}` has no releases that can be bundled; those that have: {}", known.join(", "))
            })?;
            let release = release
                .parse::<WantedRelease>()
                .map_err(|error| anyhow!("{}", error.to_string().replace('\u{1f}', "; ")))?;
            Ok((upstream, release))
        };
        self.releases.iter().filter(|text| !text.starts_with("kubeadm:")).map(parse).collect()
    }

    fn arches<'a>(&'a self, sources: Option<&Sources<'_>>) -> Vec<&'a str> {
        match (self.arch.is_empty(), sources) {
            (false, _) => self.arch.iter().map(String::as_str).collect(),
            (true, Some(sources)) => sources.arches(),
            (true, None) => vec!["arm64", "amd64"],
        }
    }

    fn report(&self, printer: &Printer, made: &[(&str, String, String)], supplied: Option<Bundled>, bytes: u64) {
        let to: &Path = &self.to;
        if printer.format == Format::Json {
            let releases: Vec<_> = made
                .iter()
                .map(|(name, version, arches)| json!({ "distribution": name, "version": version, "arches": arches }))
                .collect();
            let addons =
                supplied.map(|Bundled { manifests, images, .. }| json!({ "manifests": manifests, "images": images }));
            printer.json(&json!({ "folder": to, "bytes": bytes, "releases": releases, "addons": addons }));
            return;
        }
        for (name, version, arches) in made {
            printer.result(format!("{} {name} v{version} for {arches}", printer.style(Style::Good, "✓")));
        }
        if let Some(Bundled { manifests, images, .. }) = supplied {
            let good = printer.style(Style::Good, "✓");
            printer.result(format!("{good} add-ons: {manifests} manifests from elsewhere, {images} images"));
        }
        printer.result(format!(
            "The bundle {} has {:.0} MB. Next: `bramble --bundle {} up`.",
            to.display(),
            bytes as f64 / 1e6,
            to.display()
        ));
    }
}
