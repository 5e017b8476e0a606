//! Where the images of systems come from: catalogues, web servers, files here.

use std::collections::{BTreeSet, VecDeque};
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail};
use bramble_image::{Offer, catalogue};
use bramble_spec::{ImageSource, Sha256Digest};
use serde::{Deserialize, Serialize};

use crate::download::{Absent, Digest, PATIENCE, download, text_at};
use crate::output::Printer;
use crate::project::{Project, file_digest};

/// What Raspberry Pi Imager offers (rpi-imager, src/config.h).
pub(crate) const CATALOGUE: &str = "https://downloads.raspberrypi.com/os_list_imagingutility_v4.json";
/// More lists than any catalogue has.
const LISTS: usize = 100;

/// An image as it was chosen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ImagePin {
    url: String,
    /// Of the file that is fetched.
    #[serde(skip_serializing_if = "Option::is_none")]
    sha256: Option<Sha256Digest>,
    /// Of what is in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    unpacked: Option<Sha256Digest>,
    /// The day on which it was published.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    released: String,
}

/// All that a catalogue offers, with the lists that it refers to. One of those that cannot be had is told, and left out.
pub(crate) fn offers(url: &str, printer: &Printer) -> anyhow::Result<Vec<Offer>> {
    let fetch = |url: &str| -> anyhow::Result<_> {
        let text = text_at(url, &[], printer)?;
        catalogue(&text).with_context(|| format!("{url} is no catalogue of images"))
    };
    let mut all = fetch(url)?;
    let mut known = BTreeSet::from([url.to_owned()]);
    let mut waiting = VecDeque::from(std::mem::take(&mut all.more));
    while let Some(next) = waiting.pop_front() {
        if known.len() == LISTS || !known.insert(next.clone()) {
            continue;
        }
        match fetch(&next) {
            Ok(more) => {
                all.offers.extend(more.offers);
                waiting.extend(more.more);
            }
            Err(error) => printer.info(format!("{error:#}: its images are left out")),
        }
    }
    Ok(all.offers)
}

/// The image of the cluster file, here: fetched if it must be. What was chosen by a name, or without a digest, is pinned.
pub(crate) fn fetched(project: &Project, printer: &Printer) -> anyhow::Result<PathBuf> {
    let cluster = project.cluster.name.as_str();
    let source = project.cluster.image.as_ref().ok_or_else(|| {
        anyhow!(
            "the cluster file of {cluster} names no image: add `image: {{ name: … }}` (`bramble image list` has the \
             names), or `file`, or `url`"
        )
    })?;
    let pin = match source {
        ImageSource::File { path, sha256 } => {
            let path = project.path(path);
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
        ImageSource::Url { url, sha256: Some(sha256) } => {
            ImagePin { url: url.clone(), sha256: Some(sha256.clone()), unpacked: None, released: String::new() }
        }
        ImageSource::Url { url, sha256: None } => project.pins()?.image(url, || beside(url, printer))?,
        ImageSource::Name { name, catalogue } => {
            let catalogue = catalogue.as_deref().unwrap_or(CATALOGUE);
            project.pins()?.image(name, || chosen(catalogue, name, printer))?
        }
    };
    let digest = match (&pin.sha256, &pin.unpacked) {
        (Some(packed), _) => Digest::Sha256(packed),
        (None, Some(unpacked)) => Digest::Unpacked(unpacked),
        (None, None) => bail!("bramble.lock has no digest for {}: remove its pin", pin.url),
    };
    let path = place(project, &digest.published())?;
    if !path.exists() {
        download(&pin.url, &path, digest, PATIENCE, printer)?;
    }
    Ok(path)
}

fn place(project: &Project, digest: &str) -> anyhow::Result<PathBuf> {
    Ok(project.release_cache()?.with_file_name("images").join(digest))
}

/// The image of this name: newer ones stand before older ones with the same.
fn chosen(catalogue: &str, name: &str, printer: &Printer) -> anyhow::Result<ImagePin> {
    let mut all = offers(catalogue, printer)?;
    all.retain(|offer| offer.name == name);
    let newest = all.iter().max_by(|a, b| a.released.cmp(&b.released));
    let offer = newest.ok_or_else(|| anyhow!("{catalogue} has no image `{name}`: see `bramble image list`"))?;
    if let Some(other) = all.iter().find(|other| other.released == offer.released && other.url != offer.url) {
        bail!("{catalogue} has two images `{name}`: give the `url` of one: {} or {}", offer.url, other.url);
    }
    Ok(ImagePin {
        url: offer.url.clone(),
        sha256: offer.packed.clone(),
        unpacked: Some(offer.unpacked.clone()),
        released: offer.released.clone(),
    })
}

/// The digest that is published beside a file: in a file of its own, or in the list of its folder.
fn beside(url: &str, printer: &Printer) -> anyhow::Result<ImagePin> {
    let (folder, name) = url.rsplit_once('/').ok_or_else(|| anyhow!("{url} names no file"))?;
    let mut asked = Vec::new();
    for list in [format!("{url}.sha256"), format!("{folder}/SHA256SUMS")] {
        let text = match text_at(&list, &[], printer) {
            Ok(text) => text,
            Err(error) if error.is::<Absent>() => {
                asked.push(list);
                continue;
            }
            Err(error) => return Err(error),
        };
        let Some(sha256) = listed(&text, name) else { bail!("{list} has no digest of {name}") };
        return Ok(ImagePin { url: url.to_owned(), sha256: Some(sha256), unpacked: None, released: String::new() });
    }
    bail!("no digest is published for {url} ({}): add its `sha256`", asked.join(", "))
}

/// The digest of a file in a list as sha256sum writes it; a list of one digest may do without the name.
fn listed(text: &str, name: &str) -> Option<Sha256Digest> {
    let mut lines = text.lines().map(|line| {
        let (digest, file) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        (digest, file.trim_start().trim_start_matches('*'))
    });
    let is = |file: &str| file == name || Path::new(file).file_name().is_some_and(|last| last == name);
    lines.find(|(_, file)| is(file) || (file.is_empty() && text.trim().lines().count() == 1))?.0.parse().ok()
}
