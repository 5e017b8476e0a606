//! Releases of distributions whose own cannot be had from a Debian mirror: stand-ins with their interfaces in front of the
//! Kubernetes of the bundle, laid out as `bramble bundle create` lays out the real ones.

use std::fs;
use std::path::{Path, PathBuf};

use bramble_kube::Bundle;
use bramble_lab::{Event, Events, Lab, PathContext, remove_tree, write};
use bramble_spec::{Arch, hex};
use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::{Digest, Sha256};

use crate::archive::{header, merge};
use crate::bundle::{BundleRequest, Minor};
use crate::error::Error;
use crate::snaps;
use crate::standins::{INNER, STANDINS, Standin};

/// Gives the folder of releases, for `bramble --bundle`: each distribution's only one is `stable`, and has the version of the
/// bundle of this minor. Made once.
///
/// # Errors
///
/// Fails without root, and if a module cannot be had or compiled.
pub fn releases(lab: &Lab, minor: Minor, events: Events) -> Result<PathBuf, Error> {
    let bundle = minor.bundle(lab, &BundleRequest::default(), events)?;
    let mut recipe = Sha256::new();
    recipe.update(INNER);
    for standin in &STANDINS {
        recipe.update(standin.script);
        standin.texts.iter().for_each(|(_, lines)| recipe.update(lines.join("\n")));
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
    let partial = PathBuf::from(format!("{}.partial", dir.display()));
    remove_tree(&partial)?;
    let started = minor.programs(lab, &bundle, events)?;
    for standin in &STANDINS {
        events(Event::Step(format!("Packing a stand-in for {}", standin.name())));
        pack(standin, &bundle, &started, &partial)?;
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

fn pack(standin: &Standin, bundle: &Bundle, started: &Path, to: &Path) -> Result<(), Error> {
    let arch = &*Arch::HERE.to_string();
    let version = format!("{}+{}", bundle.manifest.kubernetes, standin.build);
    let upstream = standin.upstream()?;
    let root = to.join(upstream.name);
    let dir = root.join(format!("v{version}"));
    let script = standin
        .script
        .replace("@VERSION@", &format!("v{}", bundle.manifest.kubernetes))
        .replace("@PAUSE@", &bundle.manifest.pause_image)
        .replace("@INNER@", INNER);
    let program = if upstream.store {
        programs(standin, bundle, started, &[(standin.name(), &script)])?
    } else {
        let programs = programs(standin, bundle, started, &[])?;
        let digest = hex(&Sha256::digest(&programs)[..16]);
        let mut program = script.replace("@DIGEST@", &digest).into_bytes();
        program.extend(programs);
        program
    };
    let own = bundle.files(arch).map(|files| files.images.as_slice()).unwrap_or_default();
    let images: Vec<_> = own
        .iter()
        .filter(|image| image.name == bundle.manifest.pause_image || image.name == bundle.manifest.smoke_image)
        .collect();
    let archives: Vec<PathBuf> = images.iter().map(|image| bundle.dir.join(&image.path)).collect();
    let mut archive = merge(&archives)?;
    if (upstream.archive)(&version, arch).ends_with(".zst") {
        archive = zstd::encode_all(archive.as_slice(), 1).at("compress images for", &dir)?;
    }
    let names: String = images.iter().map(|image| format!("{}\n", image.name)).collect();
    let mut files = vec![((upstream.archive)(&version, arch), archive)];
    if upstream.store {
        files.extend(snaps::files(standin.name(), program, bundle.manifest.kubernetes, arch)?);
    } else {
        files.push(((upstream.program)(&version, arch), program));
    }
    let mut digests = String::new();
    for (name, bytes) in &files {
        digests.push_str(&format!("{}  {name}\n", hex(&Sha256::digest(bytes))));
        write(&dir.join(name), bytes, 0o644)?;
    }
    write(&dir.join((upstream.digests)(arch)), digests, 0o644)?;
    write(&dir.join((upstream.images)(arch)), names, 0o644)?;
    Ok(write(&root.join("channels/stable"), format!("v{version}\n"), 0o644)?)
}

/// Packs the programs that a stand-in unpacks as a compressed archive, with further scripts.
fn programs(standin: &Standin, bundle: &Bundle, from: &Path, scripts: &[(&str, &str)]) -> Result<Vec<u8>, Error> {
    let store = standin.upstream()?.store;
    let file = fs::File::open(from).at("open", from)?;
    let mut out = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    let copy = || -> std::io::Result<()> {
        for entry in tar::Archive::new(file).entries()? {
            let mut entry = entry?;
            let path = entry.path()?.into_owned();
            let name = path.to_string_lossy().into_owned();
            let place = match name.as_str() {
                own if own.strip_prefix("kubelet+").is_some_and(|build| Some(build) == standin.kubelet) => {
                    PathBuf::from("bin/kubelet")
                }
                other if other.starts_with("kubelet+") => continue,
                _ => path,
            };
            let mut header = entry.header().clone();
            match entry.link_name()? {
                Some(target) => out.append_link(&mut header, place, target)?,
                None => out.append_data(&mut header, place, &mut entry)?,
            }
        }
        if standin.kubelet.is_none() {
            out.append_path_with_name(bundle.dir.join(format!("{}/bin/kubelet", Arch::HERE)), "bin/kubelet")?;
        }
        let texts = standin.texts.iter().map(|(name, lines)| (*name, lines.join("\n") + "\n", 0o644));
        let scripts = scripts.iter().chain(snaps::SCRIPTS.iter().filter(|_| store));
        for (name, text, mode) in texts.chain(scripts.map(|(name, text)| (*name, (*text).to_owned(), 0o755))) {
            out.append_data(&mut header(tar::EntryType::Regular, text.len() as u64, mode), name, text.as_bytes())?;
        }
        Ok(())
    };
    copy().at("pack", from)?;
    Ok(out.into_inner().and_then(GzEncoder::finish).at("pack", from)?)
}
