//! The snap store: what a channel has, and who vouches for it (snapd, store/details_v2.go, store_asserts.go).

use std::collections::BTreeSet;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use crate::digest::Sha3Digits;
use crate::error::{Context, Result, bail, failure};
use crate::http::text_at;
use crate::watcher::Watcher;

/// The snap store.
pub(crate) struct SnapStore {
    /// Its address, without a `/` at its end.
    pub(crate) address: String,
}

/// A revision of a snap for one architecture.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Revision {
    pub(crate) snap: SnapName,
    pub(crate) id: SnapName,
    pub(crate) revision: u64,
    pub(crate) sha3_384: Sha3Digits,
}

/// The name or the id of a snap (snapcraft.io, "Snap names"): it becomes a part of names of files and addresses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct SnapName(String);

impl SnapName {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for SnapName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for SnapName {
    type Error = String;

    fn try_from(text: String) -> std::result::Result<Self, String> {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        match (1..=64).contains(&text.len()) && text.bytes().all(is_plain) {
            true => Ok(SnapName(text)),
            false => Err(format!("`{}` is no name of a snap", text.escape_debug())),
        }
    }
}

impl From<SnapName> for String {
    fn from(name: SnapName) -> String {
        name.0
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Info {
    snap_id: SnapName,
    channel_map: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    channel: Channel,
    revision: u64,
    version: String,
    base: Option<SnapName>,
    download: Download,
}

#[derive(Deserialize)]
struct Channel {
    architecture: String,
    name: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Download {
    #[serde(rename = "sha3-384")]
    sha3_384: Sha3Digits,
}

impl Entry {
    /// `1.36.3+r9123`.
    fn release(&self) -> String {
        format!("{}+r{}", self.version.trim_start_matches('v'), self.revision)
    }

    fn of(&self, info: &Info, snap: SnapName) -> Revision {
        Revision { snap, id: info.snap_id.clone(), revision: self.revision, sha3_384: self.download.sha3_384.clone() }
    }
}

impl SnapStore {
    fn info(&self, snap: &str, watcher: &dyn Watcher) -> Result<Info> {
        let url = format!("{}/v2/snaps/info/{snap}?fields=channel-map,revision,version,base,download", self.address);
        let text = text_at(&url, &[("Snap-Device-Series", "16")], watcher)?;
        serde_json::from_str(&text).with_context(|| format!("{url} answers something else"))
    }

    /// Finds the release that a channel such as `1.36/stable` has for these architectures: the version, and the highest of the
    /// revisions, since each architecture has one of its own.
    pub(crate) fn channel(&self, snap: &str, channel: &str, arches: &[&str], watcher: &dyn Watcher) -> Result<String> {
        // The store calls `latest/stable` `stable`.
        let name = channel.trim_start_matches("latest/");
        let info = self.info(snap, watcher)?;
        let found: Vec<&Entry> = info
            .channel_map
            .iter()
            .filter(|entry| entry.channel.name == name && arches.contains(&entry.channel.architecture.as_str()))
            .collect();
        let newest = found.iter().max_by_key(|entry| entry.revision);
        let newest =
            newest.ok_or_else(|| failure!("the store has no {snap} for {} in {channel}", arches.join(", ")))?;
        if let Some(other) = found.iter().find(|entry| entry.version != newest.version) {
            bail!(
                "the store has {snap} {} for {} and {} for {} in {channel} now: name one that it has for all, or wait",
                newest.version,
                newest.channel.architecture,
                other.version,
                other.channel.architecture
            );
        }
        Ok(newest.release())
    }

    /// Lists the snaps of a release for an architecture, each after those that it needs.
    pub(crate) fn revisions(
        &self,
        snap: &str,
        release: &str,
        arch: &str,
        watcher: &dyn Watcher,
    ) -> Result<Vec<Revision>> {
        let info = self.info(snap, watcher)?;
        let named = info.channel_map.iter().find(|entry| entry.release() == release).ok_or_else(|| {
            failure!(
                "the store has {snap} {release} in no channel any more: a lock file or a bundle would have kept it"
            )
        })?;
        let own = info.channel_map.iter().find(|entry| {
            entry.channel.architecture == arch
                && entry.channel.name == named.channel.name
                && entry.version == named.version
        });
        let own = own.ok_or_else(|| failure!("the store has no {snap} {} for {arch}", named.version))?;
        let mut all = Vec::new();
        let named = |name: &str| SnapName::try_from(name.to_owned()).map_err(|error| failure!("{error}"));
        for needed in [named("snapd")?].into_iter().chain(own.base.clone()) {
            let info = self.info(needed.as_str(), watcher)?;
            let entry = info
                .channel_map
                .iter()
                .find(|entry| entry.channel.architecture == arch && entry.channel.name == "stable")
                .ok_or_else(|| failure!("the store has no stable {needed} for {arch}"))?;
            all.push(entry.of(&info, needed));
        }
        all.push(own.of(&info, named(snap)?));
        Ok(all)
    }

    /// Says where a revision is, also when no channel has it any more.
    pub(crate) fn download(&self, revision: &Revision) -> String {
        format!("{}/api/v1/snaps/download/{}_{}.snap", self.address, revision.id, revision.revision)
    }

    /// Gathers who vouches for a revision, as `snap download` writes it: each assertion after those that it rests upon. snapd
    /// itself checks the signatures, down to the key that it has in it.
    pub(crate) fn assertions(&self, revision: &Revision, watcher: &dyn Watcher) -> Result<String> {
        let digest =
            bytes(revision.sha3_384.as_str()).ok_or_else(|| failure!("the store gives {} no digest", revision.snap))?;
        let own = self.assertion(&format!("snap-revision/{}", URL_SAFE_NO_PAD.encode(digest)), watcher)?;
        let says = |name: &str, wanted: &str| match header(&own, name) {
            Some(value) if value == wanted => Ok(()),
            other => Err(failure!("the store vouches for {} with {name} {other:?} instead of {wanted}", revision.snap)),
        };
        says("snap-id", revision.id.as_str())?;
        says("snap-revision", &revision.revision.to_string())?;
        let declaration = self.assertion(&format!("snap-declaration/16/{}?max-format=7", revision.id), watcher)?;
        let mut all = Vec::new();
        match header(&declaration, "publisher-id") {
            // snapd has this one in it.
            None | Some("canonical") => {}
            Some(publisher) => all.push(self.assertion(&format!("account/{publisher}"), watcher)?),
        }
        all.extend([declaration, own]);
        // Keys are signed by the one that snapd has in it.
        let signers: BTreeSet<&str> = all.iter().filter_map(|text| header(text, "sign-key-sha3-384")).collect();
        let mut keys = Vec::new();
        for key in signers {
            keys.push(self.assertion(&format!("account-key/{key}?max-format=1"), watcher)?);
        }
        keys.extend(all);
        Ok(keys.iter().map(|text| text.trim_end().to_owned() + "\n").collect::<Vec<_>>().join("\n"))
    }

    fn assertion(&self, which: &str, watcher: &dyn Watcher) -> Result<String> {
        let url = format!("{}/v2/assertions/{which}", self.address);
        text_at(&url, &[("Accept", "application/x.ubuntu.assertion")], watcher)
    }
}

/// Checks that assertions are about a revision, and nothing is missing that snapd wants.
///
/// # Errors
/// They are about something else.
pub(crate) fn vouch_for(assertions: &str, revision: &Revision) -> Result<()> {
    let digest = bytes(revision.sha3_384.as_str()).map(|digest| URL_SAFE_NO_PAD.encode(digest)).unwrap_or_default();
    for said in [format!("snap-sha3-384: {digest}"), format!("snap-id: {}", revision.id)] {
        if !assertions.lines().any(|line| line == said) {
            bail!("the store's assertions of {} do not say `{said}`", revision.snap);
        }
    }
    Ok(())
}

/// Finds a header of an assertion; its headers end with an empty line.
fn header<'a>(assertion: &'a str, name: &str) -> Option<&'a str> {
    let headers = assertion.split("\n\n").next()?;
    headers.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

fn bytes(digits: &str) -> Option<Vec<u8>> {
    if digits.len() != 96 || !digits.is_ascii() {
        return None;
    }
    (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).ok()).collect()
}
