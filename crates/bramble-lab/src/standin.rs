//! Releases of distributions whose own cannot be had from a Debian mirror: stand-ins with their interfaces in front of the
//! Kubernetes of the bundle, laid out as `bramble bundle create` lays out the real ones.

mod snaps;

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use bramble_kube::{Bundle, K0S, K3S, MICROK8S, Upstream};
use bramble_spec::{K3S_AGENT_FLAGS, K3S_SERVER_FLAGS, hex};
use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::{Digest, Sha256};

use crate::bundle::{DebianBundle, Release, STANDIN, header};
use crate::host::{Error, Event, Events, PathContext, remove_tree, write};
use crate::rack::Lab;

const INNER: &str = include_str!("standin/inner.sh");

/// A distribution that there is a stand-in for.
struct Front {
    upstream: &'static Upstream,
    /// What stands behind the `+` of its releases.
    build: &'static str,
    /// Its kubelet among the programs of the bundle, if it says another version than that of kubeadm.
    kubelet: Option<&'static str>,
    script: &'static str,
    /// Texts beside the programs.
    texts: &'static [(&'static str, &'static [&'static str])],
}

const FRONTS: [Front; 3] = [
    Front {
        upstream: &K3S,
        build: "k3s1",
        kubelet: Some("kubelet+k3s1"),
        script: include_str!("standin/k3s.sh"),
        texts: &[("flags.server", K3S_SERVER_FLAGS), ("flags.agent", K3S_AGENT_FLAGS)],
    },
    Front {
        upstream: &K0S,
        build: "k0s.0",
        kubelet: Some("kubelet+k0s"),
        script: include_str!("standin/k0s.sh"),
        texts: &[],
    },
    Front {
        upstream: &MICROK8S,
        build: "r1",
        kubelet: None,
        script: include_str!("standin/microk8s.sh"),
        texts: snaps::TEXTS,
    },
];

/// The folder of releases, for `bramble --bundle`: each distribution's only one is `stable`, and has the version of the
/// bundle from Debian. Made once.
pub fn releases(lab: &Lab, release: Release, events: Events) -> Result<PathBuf, Error> {
    let bundle = DebianBundle::ensure(lab, false, release, events)?;
    let mut recipe = Sha256::new();
    recipe.update(INNER);
    for front in &FRONTS {
        recipe.update(front.script);
        front.texts.iter().for_each(|(_, lines)| recipe.update(lines.join("\n")));
    }
    snaps::SCRIPTS.iter().for_each(|(_, text)| recipe.update(text));
    let name = bundle.dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let parent = lab.cache.join("releases");
    let dir = parent.join(format!("{name}-{}", hex(&recipe.finalize()[..4])));
    if dir.exists() {
        return Ok(dir);
    }
    fs::create_dir_all(&parent).at("create", &parent)?;
    let lock_path = parent.join("lock");
    let lock = fs::File::create(&lock_path).at("create", &lock_path)?;
    lock.lock().at("lock", &lock_path)?;
    if dir.exists() {
        return Ok(dir);
    }
    let partial = dir.with_extension("partial");
    remove_tree(&partial)?;
    for front in &FRONTS {
        events(Event::Step(format!("Packing a stand-in for {}", front.upstream.name)));
        pack(front, &bundle, &partial)?;
    }
    fs::rename(&partial, &dir).at("move into place", &dir)?;
    // Those of earlier recipes are of no use any more.
    let own = format!("{name}-");
    for entry in fs::read_dir(&parent).at("read", &parent)?.flatten() {
        let other = entry.file_name().to_string_lossy().into_owned();
        let recipe = other.strip_prefix(&own).is_some_and(|recipe| recipe.len() == 8 && !recipe.contains('-'));
        if recipe && entry.path() != dir {
            remove_tree(&entry.path())?;
        }
    }
    Ok(dir)
}

fn pack(front: &Front, bundle: &Bundle, to: &Path) -> Result<(), Error> {
    let arch = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let version = format!("{}+{}", bundle.manifest.kubernetes, front.build);
    let root = to.join(front.upstream.name);
    let dir = root.join(format!("v{version}"));
    let script = front
        .script
        .replace("@VERSION@", &format!("v{}", bundle.manifest.kubernetes))
        .replace("@PAUSE@", &bundle.manifest.pause_image)
        .replace("@INNER@", INNER);
    let program = if front.upstream.store {
        programs(front, bundle, &[("microk8s", &script)])?
    } else {
        let programs = programs(front, bundle, &[])?;
        let digest = hex(&Sha256::digest(&programs)[..16]);
        let mut program = script.replace("@DIGEST@", &digest).into_bytes();
        program.extend(programs);
        program
    };
    let images: Vec<_> = bundle
        .manifest
        .images
        .iter()
        .filter(|image| image.name == bundle.manifest.pause_image || image.name == bundle.manifest.smoke_image)
        .collect();
    let archives: Vec<PathBuf> = images.iter().map(|image| bundle.dir.join(&image.path)).collect();
    let mut archive = merge(&archives)?;
    if (front.upstream.archive)(&version, arch).ends_with(".zst") {
        archive = zstd::encode_all(archive.as_slice(), 1).at("compress images for", &dir)?;
    }
    let names: String = images.iter().map(|image| format!("{}\n", image.name)).collect();
    let mut files = vec![((front.upstream.archive)(&version, arch), archive)];
    if front.upstream.store {
        files.extend(snaps::files(program, bundle.manifest.kubernetes, arch)?);
    } else {
        files.push(((front.upstream.program)(&version, arch), program));
    }
    let mut digests = String::new();
    for (name, bytes) in &files {
        digests.push_str(&format!("{}  {name}\n", hex(&Sha256::digest(bytes))));
        write(&dir.join(name), bytes, 0o644)?;
    }
    write(&dir.join((front.upstream.digests)(arch)), digests, 0o644)?;
    write(&dir.join((front.upstream.images)(arch)), names, 0o644)?;
    write(&root.join("channels/stable"), format!("v{version}\n"), 0o644)
}

/// The programs that a stand-in unpacks, as a compressed archive, with further scripts.
fn programs(front: &Front, bundle: &Bundle, scripts: &[(&str, &str)]) -> Result<Vec<u8>, Error> {
    let from = &bundle.dir.join(STANDIN);
    let file = fs::File::open(from).at("open", from)?;
    let mut out = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    let copy = || -> std::io::Result<()> {
        for entry in tar::Archive::new(file).entries()? {
            let mut entry = entry?;
            let path = entry.path()?.into_owned();
            let name = path.to_string_lossy().into_owned();
            let place = match name.as_str() {
                own if Some(own) == front.kubelet => PathBuf::from("bin/kubelet"),
                other if other.starts_with("kubelet+") => continue,
                _ => path,
            };
            let mut header = entry.header().clone();
            match entry.link_name()? {
                Some(target) => out.append_link(&mut header, place, target)?,
                None => out.append_data(&mut header, place, &mut entry)?,
            }
        }
        if front.kubelet.is_none() {
            out.append_path_with_name(bundle.dir.join("bin/kubelet"), "bin/kubelet")?;
        }
        let texts = front.texts.iter().map(|(name, lines)| (*name, lines.join("\n") + "\n", 0o644));
        let scripts = scripts.iter().chain(snaps::SCRIPTS.iter().filter(|_| front.upstream.store));
        for (name, text, mode) in texts.chain(scripts.map(|(name, text)| (*name, (*text).to_owned(), 0o755))) {
            out.append_data(&mut header(tar::EntryType::Regular, text.len() as u64, mode), name, text.as_bytes())?;
        }
        Ok(())
    };
    copy().at("pack", from)?;
    out.into_inner().and_then(GzEncoder::finish).at("pack", from)
}

/// Several Docker archives in one.
fn merge(archives: &[PathBuf]) -> Result<Vec<u8>, Error> {
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
            serde_json::from_slice(&text).map_err(|error| Error::Request(format!("{}: {error}", path.display())))?;
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
