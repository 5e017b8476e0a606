//! Archives of container images, as `docker save`, `ctr images export` and bramble's bundles make them.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use bramble_kube::{Archive, Platform, Reference};
use serde_json::{Value, json};

use crate::digest::file_digest;
use crate::error::{Context, Result, bail};
use crate::registry::{Pulled, platform};

/// Tells what is in an archive: of Docker (`manifest.json`), or OCI with containerd's names (`index.json`).
///
/// # Errors
/// It cannot be read, or names no image.
pub fn open_image_archive(path: &Path) -> Result<Archive> {
    let mut contents = Contents { path: path.to_owned() };
    let mut images: Vec<(String, Vec<Platform>)> = Vec::new();
    if let Some(Value::Array(manifest)) = contents.json("manifest.json")? {
        for image in manifest {
            let config = image["Config"].as_str().unwrap_or_default();
            let platforms: Vec<Platform> = contents.json(config)?.iter().filter_map(platform).collect();
            let tags = image["RepoTags"].as_array().into_iter().flatten().filter_map(Value::as_str);
            images.extend(tags.map(|tag| (whole(tag), platforms.clone())));
        }
    }
    if let Some(index) = contents.json("index.json")? {
        for entry in index["manifests"].as_array().into_iter().flatten() {
            let Some(name) = entry["annotations"]["io.containerd.image.name"].as_str().map(whole) else { continue };
            // Docker writes both; they say the same.
            if images.iter().any(|(known, _)| *known == name) {
                continue;
            }
            let platforms = contents.platforms(entry)?;
            images.push((name, platforms));
        }
    }
    if images.is_empty() {
        bail!("{} names no image: it is no archive of images, or compressed", path.display());
    }
    Ok(Archive { images, path: path.to_owned(), sha256: file_digest(path)? })
}

/// Completes a name as containerd does.
fn whole(name: &str) -> String {
    Reference::parse(name).map_or_else(|| name.to_owned(), |whole| whole.to_string())
}

/// Writes an image into an archive of its own (OCI image specification, "Image Layout"). It is there whole, or not at all.
pub(crate) fn write_image_archive(to: &Path, name: &str, image: &Pulled, blobs: &Path) -> Result<()> {
    let mut descriptor = image.descriptor.clone();
    descriptor["annotations"] = json!({ "io.containerd.image.name": name });
    let index = json!({ "schemaVersion": 2, "manifests": [descriptor] }).to_string();
    let fresh = to.with_extension("part");
    let cannot = || format!("cannot write {}", fresh.display());
    let mut tar = tar::Builder::new(BufWriter::new(File::create(&fresh).with_context(cannot)?));
    let mut put = |name: &str, bytes: &mut dyn Read, size: u64| {
        let mut header = tar::Header::new_ustar();
        header.set_size(size);
        header.set_mode(0o644);
        tar.append_data(&mut header, name, bytes).with_context(cannot)
    };
    let layout = json!({ "imageLayoutVersion": "1.0.0" }).to_string();
    for (name, text) in [("oci-layout", &layout), ("index.json", &index)] {
        put(name, &mut text.as_bytes(), text.len() as u64)?;
    }
    let digests: BTreeSet<&str> = image.digests.iter().map(|digest| digest.trim_start_matches("sha256:")).collect();
    for digest in digests {
        let path = blobs.join(digest);
        let mut blob = File::open(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let size = blob.metadata()?.len();
        put(&format!("blobs/sha256/{digest}"), &mut blob, size)?;
    }
    tar.into_inner().and_then(|mut file| file.flush()).with_context(cannot)?;
    std::fs::rename(&fresh, to).with_context(|| format!("cannot write {}", to.display()))
}

struct Contents {
    path: PathBuf,
}

impl Contents {
    /// Reads a member of the archive, if it is there.
    fn json(&mut self, member: &str) -> Result<Option<Value>> {
        let cannot = || format!("cannot read {}", self.path.display());
        let mut archive = tar::Archive::new(BufReader::new(File::open(&self.path).with_context(cannot)?));
        for entry in archive.entries_with_seek().with_context(cannot)? {
            let entry = entry.with_context(cannot)?;
            if entry.path().with_context(cannot)?.to_string_lossy().trim_start_matches("./") == member {
                return serde_json::from_reader(entry).map(Some).with_context(cannot);
            }
        }
        Ok(None)
    }

    /// Finds for which processors a descriptor's image is in the archive: an index may name others, whose bytes are not.
    fn platforms(&mut self, descriptor: &Value) -> Result<Vec<Platform>> {
        let Some(manifest) = self.blob(&descriptor["digest"])? else { return Ok(Vec::new()) };
        if let Some(list) = manifest["manifests"].as_array() {
            let mut found = Vec::new();
            for entry in list {
                found.extend(self.platforms(entry)?);
            }
            return Ok(found);
        }
        let config = self.blob(&manifest["config"]["digest"])?;
        Ok(config.iter().filter_map(platform).collect())
    }

    fn blob(&mut self, digest: &Value) -> Result<Option<Value>> {
        self.json(&format!("blobs/{}", digest.as_str().unwrap_or_default().replacen(':', "/", 1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packed(members: &[(&str, Value)]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut tar = tar::Builder::new(file.reopen().unwrap());
        for (name, value) in members {
            let text = value.to_string();
            let mut header = tar::Header::new_ustar();
            header.set_size(text.len() as u64);
            header.set_mode(0o644);
            tar.append_data(&mut header, name, text.as_bytes()).unwrap();
        }
        tar.finish().unwrap();
        file
    }

    #[test]
    fn both_kinds_say_what_they_hold_and_for_which_processors() {
        let docker = packed(&[
            ("abc.json", json!({ "architecture": "amd64", "os": "linux" })),
            ("manifest.json", json!([{ "Config": "abc.json", "RepoTags": ["acme/web:1", "acme/web:latest"] }])),
        ]);
        let archive = open_image_archive(docker.path()).unwrap();
        let names: Vec<&str> = archive.images.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["docker.io/acme/web:1", "docker.io/acme/web:latest"]);
        assert_eq!(archive.images[0].1[0].to_string(), "amd64");

        // The index names two processors, and the bytes of one are there.
        let oci = packed(&[
            ("blobs/sha256/i", json!({ "manifests": [{ "digest": "sha256:m" }, { "digest": "sha256:gone" }] })),
            ("blobs/sha256/m", json!({ "config": { "digest": "sha256:c" } })),
            ("blobs/sha256/c", json!({ "architecture": "arm64", "os": "linux", "variant": "v8" })),
            (
                "index.json",
                json!({ "manifests": [{ "digest": "sha256:i", "annotations": { "io.containerd.image.name": "web" } }] }),
            ),
        ]);
        let archive = open_image_archive(oci.path()).unwrap();
        assert_eq!(archive.images[0].0, "docker.io/library/web:latest");
        assert_eq!(archive.images[0].1.iter().map(Platform::to_string).collect::<Vec<_>>(), ["arm64"]);

        let none = packed(&[("manifest.json", json!([]))]);
        assert!(open_image_archive(none.path()).unwrap_err().to_string().contains("names no image"));
    }
}
