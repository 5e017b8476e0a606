//! Archives of container images as Docker saves them, put together from file trees.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use bramble_lab::PathContext;
use bramble_spec::{Arch, Sha256Digest, hex};
use sha2::{Digest, Sha256};

use crate::error::Error;

pub(crate) fn digest(hasher: Sha256) -> Result<Sha256Digest, Error> {
    hex(&hasher.finalize()).parse().map_err(|_| Error::Built("a digest of the wrong length".into()))
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
/// moby's image/spec), whose programs are for this processor and run as this user. Equal trees give equal bytes: owners,
/// times and order are fixed.
pub(crate) fn image(tree: &Path, arch: Arch, name: &str, entry: &[&str], user: &str, to: &Path) -> Result<(), Error> {
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
        "architecture": arch,
        "os": "linux",
        "config": {
            "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
            "Entrypoint": entry,
            "User": user,
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
    Ok(fs::remove_file(&layer_path).at("remove", &layer_path)?)
}

/// Makes the header of an entry that belongs to root and has no time.
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

/// Adds a folder with all in it, sorted by name.
pub(crate) fn append_tree<W: Write>(to: &mut tar::Builder<W>, tree: &Path, below: &Path) -> io::Result<()> {
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

/// Puts several Docker archives into one.
pub(crate) fn merge(archives: &[PathBuf]) -> Result<Vec<u8>, Error> {
    let mut out = tar::Builder::new(Vec::new());
    let mut manifest = Vec::new();
    for (index, path) in archives.iter().enumerate() {
        let mut files: BTreeMap<String, Vec<u8>> = BTreeMap::new();
        let file = fs::File::open(path).at("open", path)?;
        let read = || -> std::io::Result<()> {
            for entry in tar::Archive::new(file).entries()? {
                let mut entry = entry?;
                let name = entry.path()?.to_string_lossy().into_owned();
                entry.read_to_end(files.entry(name).or_default())?;
            }
            Ok(())
        };
        read().at("read", path)?;
        let text = files.remove("manifest.json").unwrap_or_default();
        let mut images: Vec<serde_json::Value> =
            serde_json::from_slice(&text).map_err(|error| Error::Built(format!("{}: {error}", path.display())))?;
        for image in &mut images {
            image["Layers"] = serde_json::json!([format!("{index}/layer.tar")]);
        }
        manifest.extend(images);
        for (name, bytes) in files {
            let name = if name == "layer.tar" { format!("{index}/layer.tar") } else { name };
            out.append_data(&mut header(tar::EntryType::Regular, bytes.len() as u64, 0o644), name, bytes.as_slice())
                .at("pack", path)?;
        }
    }
    let text = serde_json::Value::from(manifest).to_string();
    let here = Path::new("an archive of images");
    out.append_data(&mut header(tar::EntryType::Regular, text.len() as u64, 0o644), "manifest.json", text.as_bytes())
        .at("pack", here)?;
    let mut bytes = out.into_inner().at("pack", here)?;
    bytes.flush().at("pack", here)?;
    Ok(bytes)
}
