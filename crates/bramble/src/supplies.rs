//! What a bundle has for add-ons: their manifests, and an archive of each of their images.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::{Context, anyhow, bail};
use bramble_kube::{Archive, Platform, Reference, Rendered};
use bramble_spec::Sha256Digest;
use serde::{Deserialize, Serialize};

use crate::addons::Fetched;
use crate::output::Printer;
use crate::packed;
use crate::pins::replace;
use crate::project::Project;
use crate::registry::Registries;

/// The file of a bundle that says what it has for add-ons, and the folder beside it with that.
const FILE: &str = "addons.json";
const FOLDER: &str = "addons";

#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Supplies {
    /// The manifests of add-ons, by where they come from.
    texts: BTreeMap<String, Text>,
    images: Vec<Image>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Text {
    /// The file in the bundle.
    file: String,
    /// The commit, if it is of a git repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) commit: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Image {
    name: String,
    file: String,
    sha256: Sha256Digest,
    /// Architecture and variant, by Go's names.
    platforms: Vec<(String, String)>,
}

impl Supplies {
    /// What the bundle in a folder has; nothing if it is one of releases alone.
    pub(crate) fn open(bundle: &Path) -> anyhow::Result<Supplies> {
        let path = bundle.join(FILE);
        match fs::read_to_string(&path) {
            Ok(text) => serde_json::from_str(&text).with_context(|| format!("{} cannot be read", path.display())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Supplies::default()),
            Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
        }
    }

    /// Whether a bundle has something for add-ons.
    pub(crate) fn is_at(bundle: &Path) -> bool {
        bundle.join(FILE).exists()
    }

    /// The manifest from a place, and its commit.
    pub(crate) fn text(&self, bundle: &Path, source: &str) -> anyhow::Result<(String, Option<String>)> {
        let found = self.texts.get(source).ok_or_else(|| {
            anyhow!("the bundle {} has nothing of {source}: make it again (`bramble bundle create`)", bundle.display())
        })?;
        let path = bundle.join(&found.file);
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok((text, found.commit.clone()))
    }

    pub(crate) fn archives(&self, bundle: &Path) -> Vec<Archive> {
        let archive = |image: &Image| {
            let platform = |(architecture, variant): &(String, String)| Platform {
                architecture: architecture.clone(),
                variant: variant.clone(),
            };
            Archive {
                images: vec![(image.name.clone(), image.platforms.iter().map(platform).collect())],
                path: bundle.join(&image.file),
                sha256: image.sha256.clone(),
            }
        };
        self.images.iter().map(archive).collect()
    }

    /// Puts what the add-ons of a project need into a bundle. `texts`: their manifests from elsewhere, each with where it
    /// comes from and its commit. Gives how many images there are, and how many bytes were written.
    pub(crate) fn make(
        project: &Project,
        to: &Path,
        texts: Vec<Fetched>,
        addons: &[Rendered],
        printer: &Printer,
    ) -> anyhow::Result<(usize, u64)> {
        let folder = to.join(FOLDER);
        let blobs = to.join(".fetched/blobs");
        for dir in [&folder, &blobs] {
            fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
        }
        let mut made = Supplies::default();
        let mut bytes = 0;
        for (number, (source, text, commit)) in texts.into_iter().enumerate() {
            let file = format!("{FOLDER}/{number}.yaml");
            replace(&to.join(&file), text.as_bytes(), 0o644)?;
            bytes += text.len() as u64;
            made.texts.insert(source, Text { file, commit });
        }
        let given = project.archives()?;
        let objects: Vec<_> = addons.iter().flat_map(|addon| addon.objects.iter().cloned()).collect();
        let mut wanted: BTreeMap<String, (Reference, BTreeSet<String>)> = BTreeMap::new();
        for run in bramble_kube::images(&objects) {
            let image =
                Reference::parse(&run.image).ok_or_else(|| anyhow!("`{}` is no name of an image", run.image))?;
            if given.iter().flat_map(|archive| &archive.images).any(|(name, _)| *name == image.to_string()) {
                continue;
            }
            let nodes = project.cluster.members().map(|node| (node, node.board.arch.to_string()));
            let arches = nodes.filter(|(node, arch)| run.place.allows(node, arch)).map(|(_, arch)| arch);
            wanted.entry(image.to_string()).or_insert((image, BTreeSet::new())).1.extend(arches);
        }
        let registries = Registries::new(project.cluster.registries.clone());
        for (name, (image, arches)) in wanted {
            if arches.is_empty() {
                continue;
            }
            printer.info(format!("pulling {name}"));
            let pulled = registries.pull(&image, &arches, &blobs, printer)?;
            let plain: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
            let file = format!("{FOLDER}/{plain}.tar");
            packed::write(&to.join(&file), &name, &pulled, &blobs)?;
            let archive = packed::open(&to.join(&file))?;
            bytes += fs::metadata(&archive.path)?.len();
            for (name, platforms) in archive.images {
                let fits = |arch: &String| platforms.iter().any(|platform| platform.runs_on(arch));
                if let Some(arch) = arches.iter().find(|arch| !fits(arch)) {
                    bail!("{name} has nothing for {arch}: `bramble image check {name}` shows what it has");
                }
                let platforms =
                    platforms.into_iter().map(|platform| (platform.architecture, platform.variant)).collect();
                made.images.push(Image { name, file: file.clone(), sha256: archive.sha256.clone(), platforms });
            }
        }
        replace(&to.join(FILE), format!("{:#}\n", serde_json::to_value(&made)?).as_bytes(), 0o644)?;
        Ok((made.images.len(), bytes))
    }
}
