//! Which image the cluster file means, and its bytes: as published, and signed where its publisher signs.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use bramble_spec::{ImageSource, name_ranges};

use crate::digest::{Digest, file_digest};
use crate::error::{Context, Result, bail, failure};
use crate::http::{IMAGE_LIMIT, PATIENCE, Remote, bytes_at, download, text_at};
use crate::lockfile::{ImagePin, LockFile};
use crate::os_images::{CATALOGUE, offers};
use crate::signatures::{SIGNATURE_LIMIT, Signer, Way, signer_of, signers};
use crate::sources::Sources;
use crate::watcher::Watcher;

/// Brings the image of the cluster file here, and tells where it is. What was chosen by a name, or without a digest, is
/// pinned, once its signature was checked if its publisher is one that signs.
///
/// # Errors
/// The cluster file names no image, or it cannot be fetched, or is not what was published.
pub fn fetch_os_image(sources: &Sources<'_>, lock: &mut LockFile, watcher: &dyn Watcher) -> Result<PathBuf> {
    fetch_signed(sources, lock, &signers(), watcher)
}

/// Does the same, with these publishers.
pub(crate) fn fetch_signed(
    sources: &Sources<'_>,
    lock: &mut LockFile,
    signers: &[Signer],
    watcher: &dyn Watcher,
) -> Result<PathBuf> {
    let cluster = sources.cluster.name.as_str();
    let source = sources.cluster.image.as_ref().ok_or_else(|| {
        failure!(
            "the cluster file of {cluster} names no image: add `image: {{ name: … }}` (`bramble image list` has the \
             names), or `file`, or `url`"
        )
    })?;
    let key = match source {
        ImageSource::File { path, sha256 } => {
            let path = sources.path(path);
            if let Some(published) = sha256 {
                let found = file_digest(&path)?;
                if found != *published {
                    bail!(
                        "{} has the digest {found}, the cluster file says {published}: it is refused",
                        path.display()
                    );
                }
            }
            return Ok(path);
        }
        // Who wrote the digest into the cluster file vouches for it.
        ImageSource::Url { url, sha256: Some(sha256) } => {
            let pin = ImagePin { sha256: Some(sha256.clone()), ..ImagePin::at(url) };
            return bring(sources, &pin, watcher);
        }
        ImageSource::Url { url, sha256: None } => url.clone(),
        // Another catalogue may mean another image by the same name.
        ImageSource::Name { name, catalogue } => {
            catalogue.as_ref().map_or_else(|| name.clone(), |catalogue| format!("{catalogue}#{name}"))
        }
    };
    if let Some(pin) = lock.pinned_image(&key) {
        return bring(sources, &pin, watcher);
    }
    let mut pin = match source {
        ImageSource::Name { name, catalogue } => {
            chosen(sources, catalogue.as_deref().unwrap_or(CATALOGUE), name, watcher)?
        }
        _ => ImagePin::at(&key),
    };
    let signer = signer_of(signers, &pin.url);
    match signer {
        Some(signer) if signer.way == Way::Digests => signed_digest(&mut pin, signer, watcher)?,
        _ if matches!(source, ImageSource::Name { .. }) => {}
        _ => pin = beside(&pin.url, watcher)?,
    }
    let path = bring(sources, &pin, watcher)?;
    if let Some(signer) = signer {
        if signer.way == Way::File {
            let url = format!("{}.sig", pin.url);
            let checked = signature(&url, &pin.url, signer, watcher).and_then(|signature| {
                let image = File::open(&path).with_context(|| format!("cannot read {}", path.display()))?;
                signer.key.verify(&signature, image, &pin.url)
            });
            if checked.is_err() {
                fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
            }
            checked?;
        }
        pin.signed_with = Some(signer.key.fingerprint.to_string());
    }
    lock.pin_image(&key, pin)?;
    Ok(path)
}

/// Makes sure that the bytes of an image are here, as they were published.
fn bring(sources: &Sources<'_>, pin: &ImagePin, watcher: &dyn Watcher) -> Result<PathBuf> {
    let digest = match (&pin.sha256, &pin.sha512, &pin.unpacked) {
        (Some(packed), ..) => Digest::Sha256(packed),
        (_, Some(packed), _) => Digest::Sha512(packed),
        (.., Some(unpacked)) => Digest::Unpacked(unpacked),
        (None, None, None) => bail!("bramble.lock has no digest for {}: remove its pin", pin.url),
    };
    let path = sources.releases.with_file_name("images").join(digest.published());
    download(&Remote { url: &pin.url, headers: &[], digest, most: IMAGE_LIMIT }, &path, PATIENCE, watcher)?;
    Ok(path)
}

/// Fetches a signature; its publisher has one for each image.
fn signature(url: &str, of: &str, signer: &Signer, watcher: &dyn Watcher) -> Result<Vec<u8>> {
    bytes_at(url, &[], SIGNATURE_LIMIT, watcher).map_err(|error| match error.is_absent() {
        true => failure!(
            "{of} has no signature of its publisher ({}): there is nothing at {url}; if you trust it nevertheless, give its \
             `sha256` in the cluster file",
            signer.key.name
        ),
        false => error,
    })
}

/// Finds the digest of an image in the signed list of its folder, and compares it with the one that a catalogue gave.
fn signed_digest(pin: &mut ImagePin, signer: &Signer, watcher: &dyn Watcher) -> Result<()> {
    let (folder, name) = pin.url.rsplit_once('/').ok_or_else(|| failure!("{} names no file", pin.url))?;
    let list = format!("{folder}/SHA256SUMS");
    let text = text_at(&list, &[], watcher)?;
    let signature = signature(&format!("{list}.gpg"), &list, signer, watcher)?;
    signer.key.verify(&signature, text.as_bytes(), &list)?;
    let digest = listed(&text, name).and_then(|digest| digest.parse().ok());
    let digest = digest.ok_or_else(|| failure!("{list} has no digest of {name}"))?;
    if let Some(offered) = pin.sha256.as_ref().filter(|offered| **offered != digest) {
        bail!(
            "the catalogue gives {} the digest {offered}, and its publisher has signed {digest}: it is refused",
            pin.url
        );
    }
    pin.sha256 = Some(digest);
    Ok(())
}

/// Chooses the image of this name: newer ones stand before older ones with the same.
fn chosen(sources: &Sources<'_>, catalogue: &str, name: &str, watcher: &dyn Watcher) -> Result<ImagePin> {
    let mut all = offers(catalogue, watcher)?;
    all.retain(|offer| offer.name == name);
    let newest = all.iter().max_by(|a, b| a.released.cmp(&b.released));
    let offer = newest.ok_or_else(|| failure!("{catalogue} has no image `{name}`: see `bramble image list`"))?;
    if let Some(other) = all.iter().find(|other| other.released == offer.released && other.url != offer.url) {
        bail!("{catalogue} has two images `{name}`: give the `url` of one: {} or {}", offer.url, other.url);
    }
    let strangers = sources.cluster.nodes.iter().filter(|node| !offer.is_for(&node.board.id, node.board.arch));
    let strangers: Vec<&str> = strangers.map(|node| node.name.as_str()).collect();
    if strangers.len() == sources.cluster.nodes.len() {
        bail!(
            "`{name}` is not made for the boards of {}: `bramble image list --board BOARD` shows those that are (what is \
             meant nevertheless can be named by its `url`: {})",
            name_ranges(strangers),
            offer.url
        );
    }
    // They may have another one, which bramble does not write.
    if !strangers.is_empty() {
        watcher.note(&format!("`{name}` is not made for the boards of {}", name_ranges(strangers)));
    }
    Ok(ImagePin {
        url: offer.url.clone(),
        sha256: offer.packed.clone(),
        sha512: None,
        unpacked: Some(offer.unpacked.clone()),
        released: offer.released.clone(),
        signed_with: None,
    })
}

/// Finds the digest that is published beside a file: in a file of its own, or in the list of its folder.
fn beside(url: &str, watcher: &dyn Watcher) -> Result<ImagePin> {
    let (folder, name) = url.rsplit_once('/').ok_or_else(|| failure!("{url} names no file"))?;
    let mut asked = Vec::new();
    let lists = [format!("{url}.sha256"), format!("{folder}/SHA256SUMS"), format!("{folder}/SHA512SUMS")];
    for list in lists {
        let text = match text_at(&list, &[], watcher) {
            Ok(text) => text,
            Err(error) if error.is_absent() => {
                asked.push(list);
                continue;
            }
            Err(error) => return Err(error),
        };
        let digest = listed(&text, name);
        let mut pin = ImagePin::at(url);
        if list.ends_with("SHA512SUMS") {
            pin.sha512 = digest.and_then(|digest| digest.to_owned().try_into().ok());
        } else {
            pin.sha256 = digest.and_then(|digest| digest.parse().ok());
        }
        if pin.sha256.is_none() && pin.sha512.is_none() {
            bail!("{list} has no digest of {name}");
        }
        return Ok(pin);
    }
    bail!("no digest is published for {url} ({}): add its `sha256`", asked.join(", "))
}

/// Finds the digest of a file in a list as sha256sum writes it; a list of one digest may do without the name.
fn listed<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = text.lines().map(|line| {
        let (digest, file) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        (digest, file.trim_start().trim_start_matches('*'))
    });
    let is = |file: &str| file == name || Path::new(file).file_name().is_some_and(|last| last == name);
    lines.find(|(_, file)| is(file) || (file.is_empty() && text.trim().lines().count() == 1)).map(|(digest, _)| digest)
}

#[cfg(test)]
mod tests;
