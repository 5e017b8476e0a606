//! What a bundle has for add-ons: their manifests, and an archive of each of their images.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Component, Path};

use bramble_kube::{Archive, Platform, Reference};
use bramble_spec::Sha256Digest;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::atomic_file::replace_file;
use crate::digest::text_digest;
use crate::error::{Context, Result, bail, failure};
use crate::fetched::Fetched;
use crate::image_archive::{archive_name, open_image_archive, write_image_archive};
use crate::registry::Registries;
use crate::small_file::read_text;
use crate::sources::Sources;
use crate::watcher::Watcher;

/// The file of a bundle that says what it has for add-ons, and the folder beside it with that.
const FILE: &str = "addons.json";
const FOLDER: &str = "addons";

/// Lists the manifests and archives of images that a bundle has for add-ons.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct AddonBundle {
    /// The manifests of add-ons, by where they come from.
    texts: BTreeMap<String, Text>,
    images: Vec<Image>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Text {
    /// The file in the bundle.
    file: String,
    /// Bundles of older programs lack it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sha256: Option<Sha256Digest>,
    /// The commit, if it is of a git repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    commit: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Image {
    name: String,
    file: String,
    sha256: Sha256Digest,
    /// Architecture and variant, by Go's names.
    platforms: Vec<(String, String)>,
}

/// Counts what was put into a bundle for add-ons.
#[derive(Debug, Clone, Copy)]
pub struct Bundled {
    /// Manifests.
    pub manifests: usize,
    /// Images.
    pub images: usize,
    /// The size of all of it, in bytes.
    pub bytes: u64,
}

impl AddonBundle {
    /// Opens what the bundle in a folder has; nothing if it is one of releases alone.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn open(bundle: &Path) -> Result<AddonBundle> {
        let path = bundle.join(FILE);
        if !path.exists() {
            return Ok(AddonBundle::default());
        }
        let made: AddonBundle =
            serde_json::from_str(&read_text(&path)?).with_context(|| format!("{} cannot be read", path.display()))?;
        let files = made.texts.values().map(|text| &text.file).chain(made.images.iter().map(|image| &image.file));
        for file in files {
            let inside = Path::new(file).components().all(|part| matches!(part, Component::Normal(_)));
            if !inside {
                bail!("{} names the file `{}`, which is not in the bundle", path.display(), file.escape_debug());
            }
        }
        Ok(made)
    }

    /// Tells whether a bundle has something for add-ons.
    pub fn is_at(bundle: &Path) -> bool {
        bundle.join(FILE).exists()
    }

    /// Gives the manifest from a place, and its commit if it is of a git repository.
    pub(crate) fn text(&self, bundle: &Path, source: &str) -> Result<(String, Option<String>)> {
        let found = self.texts.get(source).ok_or_else(|| {
            failure!("the bundle {} has nothing of {source}: make it again (`bramble bundle create`)", bundle.display())
        })?;
        let path = bundle.join(&found.file);
        let text = read_text(&path)?;
        let digest = text_digest(&text)?;
        if found.sha256.as_ref().is_some_and(|published| *published != digest) {
            bail!("{} is not what was put into the bundle: copy the bundle again, or make it again", path.display());
        }
        Ok((text, found.commit.clone()))
    }

    /// Lists its archives of images.
    pub fn archives(&self, bundle: &Path) -> Vec<Archive> {
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

    /// Makes a bundle of what lies in its folder already. `texts`: manifests, by where their projects publish them; `archives`:
    /// of images. All are paths in the folder.
    ///
    /// # Errors
    /// One of them cannot be read, or the list of them not be written.
    pub fn of_files(to: &Path, texts: &[(&str, String)], archives: &[String]) -> Result<()> {
        let mut made = AddonBundle::default();
        for (source, file) in texts {
            let sha256 = Some(text_digest(&read_text(&to.join(file))?)?);
            made.texts.insert((*source).to_owned(), Text { file: file.clone(), sha256, commit: None });
        }
        for file in archives {
            made.add(file, open_image_archive(&to.join(file))?);
        }
        made.write(to)
    }

    fn add(&mut self, file: &str, archive: Archive) {
        let Archive { images, sha256, .. } = archive;
        self.images.extend(images.into_iter().map(|(name, platforms)| Image {
            name,
            file: file.to_owned(),
            sha256: sha256.clone(),
            platforms: platforms.into_iter().map(|platform| (platform.architecture, platform.variant)).collect(),
        }));
    }

    fn write(&self, to: &Path) -> Result<()> {
        replace_file(&to.join(FILE), format!("{:#}\n", serde_json::to_value(self)?).as_bytes(), 0o644)
    }

    /// Puts what the add-ons and the CNI of a cluster need into a bundle. `texts`: their manifests from elsewhere; `objects`:
    /// what runs the images.
    ///
    /// # Errors
    /// Something cannot be fetched or written, or an image has nothing for the processor of a node that runs it.
    pub fn make(
        sources: &Sources<'_>,
        to: &Path,
        texts: Vec<Fetched>,
        objects: &[Value],
        watcher: &dyn Watcher,
    ) -> Result<Bundled> {
        let folder = to.join(FOLDER);
        let blobs = to.join(".fetched/blobs");
        for dir in [&folder, &blobs] {
            fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
        }
        let mut made = AddonBundle::default();
        let manifests = texts.len();
        let mut bytes = 0;
        for (number, Fetched { source, text, commit }) in texts.into_iter().enumerate() {
            let file = format!("{FOLDER}/{number}.yaml");
            replace_file(&to.join(&file), text.as_bytes(), 0o644)?;
            bytes += text.len() as u64;
            made.texts.insert(source, Text { file, sha256: Some(text_digest(&text)?), commit });
        }
        let given = sources.archives()?;
        let mut wanted: BTreeMap<String, (Reference, BTreeSet<String>)> = BTreeMap::new();
        for run in bramble_kube::images(objects) {
            let image =
                Reference::parse(&run.image).ok_or_else(|| failure!("`{}` is no name of an image", run.image))?;
            if given.iter().flat_map(|archive| &archive.images).any(|(name, _)| *name == image.to_string()) {
                continue;
            }
            let nodes = sources.cluster.members().map(|node| (node, node.board.arch.to_string()));
            let arches = nodes.filter(|(node, arch)| run.place.allows(node, arch)).map(|(_, arch)| arch);
            wanted.entry(image.to_string()).or_insert((image, BTreeSet::new())).1.extend(arches);
        }
        let registries = Registries::new(sources.cluster.registries.clone());
        for (name, (image, arches)) in wanted {
            if arches.is_empty() {
                continue;
            }
            watcher.note(&format!("pulling {name}"));
            let pulled = registries.pull(&image, &arches, &blobs, watcher)?;
            let file = format!("{FOLDER}/{}", archive_name(&name));
            write_image_archive(&to.join(&file), &name, &pulled, &blobs)?;
            let archive = open_image_archive(&to.join(&file))?;
            bytes += fs::metadata(&archive.path)?.len();
            for (name, platforms) in &archive.images {
                let fits = |arch: &String| platforms.iter().any(|platform| platform.runs_on(arch));
                if let Some(arch) = arches.iter().find(|arch| !fits(arch)) {
                    bail!("{name} has nothing for {arch}: `bramble image check {name}` shows what it has");
                }
            }
            made.add(&file, archive);
        }
        made.write(to)?;
        Ok(Bundled { manifests, images: made.images.len(), bytes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bundle(file: &str, digest: &str) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("addons")).unwrap();
        fs::write(dir.path().join("addons/0.yaml"), "kind: Pod\n").unwrap();
        let text = format!(r#"{{"texts": {{"https://a/b.yaml": {{"file": "{file}"{digest}}}}}, "images": []}}"#);
        fs::write(dir.path().join(FILE), text).unwrap();
        dir
    }

    #[test]
    fn a_manifest_that_was_altered_in_the_bundle_is_refused() {
        let digest = format!(r#", "sha256": "{}""#, text_digest("kind: Deployment\n").unwrap());
        let dir = bundle("addons/0.yaml", &digest);
        let opened = AddonBundle::open(dir.path()).unwrap();
        let error = opened.text(dir.path(), "https://a/b.yaml").unwrap_err().to_string();
        assert!(error.contains("is not what was put into the bundle"), "{error}");
    }

    #[test]
    fn a_bundle_of_an_older_program_is_read() {
        let dir = bundle("addons/0.yaml", "");
        let opened = AddonBundle::open(dir.path()).unwrap();
        assert_eq!(opened.text(dir.path(), "https://a/b.yaml").unwrap().0, "kind: Pod\n");
    }

    #[test]
    fn a_bundle_has_nothing_outside_of_itself() {
        for file in ["../b.yaml", "/etc/shadow", "addons/../../b.yaml"] {
            let error = AddonBundle::open(bundle(file, "").path()).unwrap_err().to_string();
            assert!(error.contains("which is not in the bundle"), "{file}: {error}");
        }
    }
}
