//! Archives of container images, as `docker save`, `ctr images export` and bramble's bundles make them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Component, Path, PathBuf};

use bramble_kube::{Archive, Platform, Reference};
use serde_json::{Value, json};
use tar::EntryType;

use crate::digest::file_digest;
use crate::error::{Context, Result, bail, failure};
use crate::registry::{Pulled, platform};

/// More members than any archive of images has.
const MEMBERS: usize = 100_000;
/// More than the name of a member has, in bytes (Linux, PATH_MAX), with what a pax header adds to it.
const HEADER: u64 = 64 * 1024;
/// More than any manifest or configuration in an archive has, in bytes.
const JSON: u64 = 8 * 1024 * 1024;
/// More descriptors than the indexes of an archive have together.
const DESCRIPTORS: usize = 10_000;
/// Deeper than indexes lie in each other: one of several processors in one of several images.
const DEPTH: usize = 4;

/// Tells what is in an archive: of Docker (`manifest.json`), or OCI with containerd's names (`index.json`).
///
/// # Errors
/// It cannot be read, or names no image, or is larger or deeper than archives of images are.
pub fn open_image_archive(path: &Path) -> Result<Archive> {
    let named = || path.display().to_string();
    let mut contents = Contents::open(path).with_context(named)?;
    let images = contents.images().with_context(named)?;
    if images.is_empty() {
        bail!("{} names no image: it is no archive of images, or compressed", path.display());
    }
    Ok(Archive { images, path: path.to_owned(), sha256: file_digest(path)? })
}

/// Completes a name as containerd does.
fn whole(name: &str) -> Result<String> {
    let whole = Reference::parse(name).ok_or_else(|| failure!("`{}` is no name of an image", name.escape_debug()))?;
    Ok(whole.to_string())
}

/// Gives the name of the file that holds an image's archive.
pub fn archive_name(image: &str) -> String {
    let plain: String = image.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    format!("{plain}.tar")
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

/// What is in an archive. Nothing is unpacked: manifests are read where they lie.
struct Contents {
    file: File,
    /// Where the bytes of each plain file begin, and how many they are.
    members: BTreeMap<String, (u64, u64)>,
    /// What is there under a name, but is no plain file.
    others: BTreeSet<String>,
    /// How many descriptors may be followed yet.
    descriptors: usize,
}

impl Contents {
    fn open(path: &Path) -> Result<Contents> {
        let mut file = File::open(path).context("cannot read it")?;
        if !file.metadata().context("cannot read it")?.is_file() {
            bail!("it is no plain file");
        }
        refuse_large_headers(&file)?;
        file.rewind().context("cannot read it")?;
        let (mut members, mut others) = (BTreeMap::new(), BTreeSet::new());
        let mut archive = tar::Archive::new(BufReader::new(&file));
        for entry in archive.entries_with_seek().context("cannot read it")? {
            let entry = entry.context("it is damaged")?;
            let name = entry.path().context("a member has no name")?;
            let Some(name) = inside(&name) else {
                bail!(
                    "its member `{}` is not inside of the archive: it is refused",
                    name.display().to_string().escape_debug()
                );
            };
            match entry.header().entry_type() {
                EntryType::Regular | EntryType::Continuous => {
                    members.insert(name, (entry.raw_file_position(), entry.size()));
                }
                EntryType::Directory => {}
                _ => {
                    others.insert(name);
                }
            }
        }
        drop(archive);
        Ok(Contents { file, members, others, descriptors: DESCRIPTORS })
    }

    /// Lists its images, each with the processors that it is for.
    fn images(&mut self) -> Result<Vec<(String, Vec<Platform>)>> {
        let mut images: Vec<(String, Vec<Platform>)> = Vec::new();
        let mut known = BTreeSet::new();
        if let Some(Value::Array(manifest)) = self.json("manifest.json")? {
            for image in manifest {
                let config = image["Config"].as_str().unwrap_or_default();
                self.follow(config)?;
                let platforms: Vec<Platform> = self.json(config)?.iter().filter_map(platform).collect();
                for tag in image["RepoTags"].as_array().into_iter().flatten().filter_map(Value::as_str) {
                    let name = whole(tag)?;
                    known.insert(name.clone());
                    images.push((name, platforms.clone()));
                }
            }
        }
        if let Some(index) = self.json("index.json")? {
            for entry in index["manifests"].as_array().into_iter().flatten() {
                let Some(name) = entry["annotations"]["io.containerd.image.name"].as_str() else { continue };
                let name = whole(name)?;
                // Docker writes both; they say the same.
                if known.insert(name.clone()) {
                    let platforms = self.platforms(entry, DEPTH)?;
                    images.push((name, platforms));
                }
            }
        }
        Ok(images)
    }

    /// Counts what is followed: an index may name millions of others, or itself.
    fn follow(&mut self, what: &str) -> Result<()> {
        self.descriptors = self.descriptors.checked_sub(1).ok_or_else(|| {
            failure!(
                "its indexes name more than {DESCRIPTORS} others (the last is `{}`): it is refused",
                what.escape_debug()
            )
        })?;
        Ok(())
    }

    /// Reads a member of the archive, if it is there.
    fn json(&mut self, member: &str) -> Result<Option<Value>> {
        let shown = member.escape_debug();
        if self.others.contains(member) {
            bail!("its member `{shown}` is a link or something else that is no plain file: it is refused");
        }
        let Some((start, size)) = self.members.get(member).copied() else { return Ok(None) };
        if size > JSON {
            bail!("its member `{shown}` has {size} bytes, more than any manifest: it is refused");
        }
        let cannot = || format!("its member `{shown}` cannot be read");
        self.file.seek(SeekFrom::Start(start)).with_context(cannot)?;
        serde_json::from_reader(BufReader::new((&self.file).take(size))).map(Some).with_context(cannot)
    }

    /// Finds for which processors a descriptor's image is in the archive: an index may name others, whose bytes are not.
    fn platforms(&mut self, descriptor: &Value, depth: usize) -> Result<Vec<Platform>> {
        let digest = descriptor["digest"].as_str().unwrap_or_default();
        self.follow(digest)?;
        let Some(manifest) = self.blob(digest)? else { return Ok(Vec::new()) };
        if let Some(list) = manifest["manifests"].as_array() {
            if depth == 0 {
                bail!("its index `{}` lies in too many others, or in itself: it is refused", digest.escape_debug());
            }
            let mut found = Vec::new();
            for entry in list {
                found.extend(self.platforms(entry, depth - 1)?);
            }
            return Ok(found);
        }
        let config = self.blob(manifest["config"]["digest"].as_str().unwrap_or_default())?;
        Ok(config.iter().filter_map(platform).collect())
    }

    fn blob(&mut self, digest: &str) -> Result<Option<Value>> {
        self.json(&format!("blobs/{}", digest.replacen(':', "/", 1)))
    }
}

/// Refuses an archive with more members, or longer names of them, than any archive of images has: names are read into
/// memory before anybody sees them.
fn refuse_large_headers(file: &File) -> Result<()> {
    let mut archive = tar::Archive::new(BufReader::new(file));
    for (count, entry) in archive.entries_with_seek().context("cannot read it")?.raw(true).enumerate() {
        let entry = entry.context("it is damaged")?;
        let kind = entry.header().entry_type();
        let is_header = kind.is_gnu_longname()
            || kind.is_gnu_longlink()
            || kind.is_pax_global_extensions()
            || kind.is_pax_local_extensions();
        if is_header && entry.size() > HEADER {
            bail!("the name of its member {} has {} bytes: it is refused", count + 1, entry.size());
        }
        if count == MEMBERS {
            let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            bail!("it has more than {MEMBERS} members (the next is `{}`): it is refused", name.escape_debug());
        }
    }
    Ok(())
}

/// Gives the name of a member without `./`; nothing if it leads out of the archive.
fn inside(name: &Path) -> Option<String> {
    let mut plain = PathBuf::new();
    for part in name.components() {
        match part {
            Component::Normal(part) => plain.push(part),
            Component::CurDir => {}
            _ => return None,
        }
    }
    Some(plain.to_string_lossy().into_owned())
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

    /// Packs one image with these members beside it.
    fn with(members: impl FnOnce(&mut tar::Builder<File>)) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut tar = tar::Builder::new(file.reopen().unwrap());
        add(&mut tar, "abc.json", br#"{"architecture": "amd64", "os": "linux"}"#);
        add(&mut tar, "manifest.json", br#"[{"Config": "abc.json", "RepoTags": ["web:1"]}]"#);
        members(&mut tar);
        tar.finish().unwrap();
        file
    }

    fn add(tar: &mut tar::Builder<File>, name: &str, bytes: &[u8]) {
        let mut header = tar::Header::new_ustar();
        // The library itself would refuse the names that are meant here.
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        header.set_size(bytes.len() as u64);
        header.set_cksum();
        tar.append(&header, bytes).unwrap();
    }

    fn refused(file: &tempfile::NamedTempFile) -> String {
        let error = open_image_archive(file.path()).unwrap_err().chain();
        assert!(error.starts_with(&file.path().display().to_string()), "it names the archive: {error}");
        error
    }

    #[test]
    fn a_member_above_the_archive_is_refused() {
        let error = refused(&with(|tar| add(tar, "a/../../etc/cron.d/x", b"x")));
        assert!(error.contains("its member `a/../../etc/cron.d/x` is not inside of the archive"), "{error}");
    }

    #[test]
    fn a_member_with_an_absolute_name_is_refused() {
        let error = refused(&with(|tar| add(tar, "/etc/cron.d/x", b"x")));
        assert!(error.contains("its member `/etc/cron.d/x` is not inside of the archive"), "{error}");
    }

    #[test]
    fn layers_may_be_links_as_docker_wrote_them_once() {
        let file = with(|tar| {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(EntryType::Symlink);
            header.set_size(0);
            tar.append_link(&mut header, "b/layer.tar", "../a/layer.tar").unwrap();
        });
        assert_eq!(open_image_archive(file.path()).unwrap().images.len(), 1);
    }

    #[test]
    fn a_manifest_that_is_a_link_is_refused() {
        for kind in [EntryType::Symlink, EntryType::Link] {
            let file = tempfile::NamedTempFile::new().unwrap();
            let mut tar = tar::Builder::new(file.reopen().unwrap());
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(kind);
            header.set_size(0);
            tar.append_link(&mut header, "manifest.json", "manifest.json").unwrap();
            tar.finish().unwrap();
            let error = refused(&file);
            assert!(error.contains("its member `manifest.json` is a link"), "{kind:?}: {error}");
        }
    }

    #[test]
    fn an_index_in_itself_is_refused() {
        let index = json!({ "manifests": [{ "digest": "sha256:i" }] });
        let named = json!({ "digest": "sha256:i", "annotations": { "io.containerd.image.name": "web" } });
        let file = packed(&[("blobs/sha256/i", index), ("index.json", json!({ "manifests": [named] }))]);
        let error = refused(&file);
        assert!(error.contains("`sha256:i` lies in too many others, or in itself"), "{error}");
    }

    #[test]
    fn indexes_that_multiply_each_other_are_refused() {
        let list = |digest: &str| json!({ "manifests": vec![json!({ "digest": digest }); 200] });
        let named = json!({ "digest": "sha256:a", "annotations": { "io.containerd.image.name": "web" } });
        let file = packed(&[
            ("blobs/sha256/a", list("sha256:b")),
            ("blobs/sha256/b", list("sha256:c")),
            ("blobs/sha256/c", list("sha256:d")),
            ("index.json", json!({ "manifests": [named] })),
        ]);
        let error = refused(&file);
        assert!(error.contains("more than 10000 others"), "{error}");
    }

    #[test]
    fn a_manifest_larger_than_any_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut tar = tar::Builder::new(file.reopen().unwrap());
        add(&mut tar, "index.json", &vec![b' '; 9 << 20]);
        tar.finish().unwrap();
        let error = refused(&file);
        assert!(error.contains("its member `index.json` has 9437184 bytes"), "{error}");
    }

    #[test]
    fn a_name_larger_than_any_is_refused_before_it_is_read() {
        let error = refused(&with(|tar| {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(EntryType::GNULongName);
            header.set_size(1 << 20);
            header.set_path("././@LongLink").unwrap();
            header.set_cksum();
            tar.append(&header, &vec![b'a'; 1 << 20][..]).unwrap();
            add(tar, "a", b"");
        }));
        assert!(error.contains("the name of its member 3 has 1048576 bytes"), "{error}");
    }

    #[test]
    fn more_members_than_any_archive_has_are_refused() {
        let error = refused(&with(|tar| (0..MEMBERS).for_each(|number| add(tar, &format!("m{number}"), b""))));
        assert!(error.contains("more than 100000 members"), "{error}");
    }

    #[test]
    fn a_name_that_is_none_is_refused() {
        let file = packed(&[("manifest.json", json!([{ "Config": "", "RepoTags": ["web:1\u{1b}[2J"] }]))]);
        let error = refused(&file);
        assert!(error.contains("`web:1\\u{1b}[2J` is no name of an image"), "{error}");
    }
}
