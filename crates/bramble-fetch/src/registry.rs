//! Container registries: for which processors an image was made, and its bytes (OCI distribution specification, "Pulling").

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use bramble_kube::{Platform, Reference};
use bramble_spec::{Sha256Digest, hex};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::digest;
use crate::error::{Context, FetchError, Result, bail, failure};
use crate::http::{RELEASE_LIMIT, Remote, download, refuse_downgrade};
use crate::watcher::Watcher;

/// The kinds of manifests that are understood, lists first.
const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, application/vnd.docker.distribution.manifest.list.v2+json, \
    application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json";
/// How long a registry may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// More than any manifest or configuration has.
const LIMIT: u64 = 8 * 1024 * 1024;
/// More layers than any runtime takes (containerd's overlayfs stops at about 500).
const PARTS: usize = 1000;

/// Reads from registries what anybody may read.
pub struct Registries {
    agent: ureq::Agent,
    /// Where the images of a registry are asked for instead, by the registry's name.
    mirrors: BTreeMap<String, String>,
    /// Anonymous tokens, by the registry's address and the repository.
    tokens: Mutex<HashMap<(String, String), String>>,
}

/// An image that was fetched.
pub(crate) struct Pulled {
    /// What names it (OCI image specification, "Content Descriptors").
    pub(crate) descriptor: Value,
    /// Its parts.
    pub(crate) digests: Vec<String>,
}

impl Pulled {
    /// Adds a text as a blob, and gives its digest.
    fn keep(&mut self, text: &str, blobs: &Path) -> Result<String> {
        let digest = blob(text);
        let to = blobs.join(digest.trim_start_matches("sha256:"));
        std::fs::write(&to, text).with_context(|| format!("cannot write {}", to.display()))?;
        self.digests.push(digest.clone());
        Ok(digest)
    }
}

/// Computes the name that a registry gives to a text.
fn blob(text: &str) -> String {
    format!("sha256:{}", hex(&Sha256::digest(text.as_bytes())))
}

impl Registries {
    /// Makes a client. `mirrors`: where the images of a registry are asked for instead, by the registry's name.
    pub fn new(mirrors: BTreeMap<String, String>) -> Registries {
        let agent = ureq::Agent::config_builder()
            .timeout_global(Some(PATIENCE))
            .http_status_as_error(false)
            .save_redirect_history(true)
            .build();
        Registries { agent: agent.into(), mirrors, tokens: Mutex::default() }
    }

    /// Finds for which processors an image was made.
    ///
    /// # Errors
    /// The registry does not answer, has no such image, or keeps it private.
    pub fn platforms(&self, image: &Reference) -> Result<Vec<Platform>> {
        let manifest = self.get(image, &format!("manifests/{}", image.version))?;
        let mut found: Vec<Platform> = match manifest["manifests"].as_array() {
            Some(list) => list.iter().filter_map(|entry| platform(&entry["platform"])).collect(),
            None => {
                let config = manifest["config"]["digest"].as_str();
                let config = config.ok_or_else(|| failure!("{image} has a manifest of an unknown kind"))?;
                platform(&self.get(image, &format!("blobs/{config}"))?).into_iter().collect()
            }
        };
        found.sort();
        found.dedup();
        if found.is_empty() {
            bail!("{image} does not say for which processors it was made");
        }
        Ok(found)
    }

    /// Gives a registry's own address; plain HTTP is only spoken to this machine, or where a mirror says so.
    fn base(registry: &str) -> String {
        let host = registry.rsplit_once(':').map_or(registry, |(host, _)| host);
        match registry {
            // Its own name leads to its front page.
            "docker.io" => "https://registry-1.docker.io".to_owned(),
            _ if host == "localhost" || host.starts_with("127.") => format!("http://{registry}"),
            _ => format!("https://{registry}"),
        }
    }

    /// Fetches an image, as it is for each of these processors (by Debian's names), into a folder of blobs.
    pub(crate) fn pull(
        &self,
        image: &Reference,
        arches: &BTreeSet<String>,
        blobs: &Path,
        watcher: &dyn Watcher,
    ) -> Result<Pulled> {
        let (base, text) = self.text(image, &format!("manifests/{}", image.version))?;
        let whole = blob(&text);
        if image.version.contains(':') && image.version != whole {
            bail!("{image}: {base} gives the digest {whole}");
        }
        let manifest: Value = serde_json::from_str(&text)?;
        let mut chosen: Vec<(String, Value)> = Vec::new();
        match manifest["manifests"].as_array() {
            None => chosen.push((text, json!({}))),
            Some(list) => {
                for arch in arches {
                    let fits = |own: bool| {
                        list.iter().find(|entry| {
                            platform(&entry["platform"])
                                .is_some_and(|p| if own { p.is_own(arch) } else { p.runs_on(arch) })
                        })
                    };
                    let entry = fits(true).or_else(|| fits(false));
                    let entry = entry.ok_or_else(|| failure!("{image} has nothing for {arch}"))?;
                    let digest = entry["digest"].as_str().unwrap_or_default();
                    let text = self.text_at(&base, image, &format!("manifests/{digest}"))?;
                    if blob(&text) != digest {
                        bail!("{image}: {base} gives other bytes for {digest}");
                    }
                    if !chosen.iter().any(|(known, _)| *known == text) {
                        chosen.push((text, entry["platform"].clone()));
                    }
                }
            }
        }
        let mut pulled = Pulled { descriptor: Value::Null, digests: Vec::new() };
        let mut descriptors = Vec::new();
        for (text, platform) in &chosen {
            let manifest: Value =
                serde_json::from_str(text).with_context(|| format!("{image} has a broken manifest"))?;
            let layers = manifest["layers"].as_array().into_iter().flatten();
            let parts: Vec<&Value> = std::iter::once(&manifest["config"]).chain(layers).collect();
            if parts.len() > PARTS {
                bail!("{image} has {} layers: it is refused", parts.len() - 1);
            }
            for part in parts {
                self.fetch(&base, image, part, blobs, watcher)?;
                pulled.digests.push(part["digest"].as_str().unwrap_or_default().to_owned());
            }
            let kind = manifest["mediaType"].as_str().unwrap_or("application/vnd.oci.image.manifest.v1+json");
            let mut descriptor = json!({ "mediaType": kind, "digest": pulled.keep(text, blobs)?, "size": text.len() });
            if platform["architecture"].is_string() {
                descriptor["platform"] = platform.clone();
            }
            descriptors.push(descriptor);
        }
        pulled.descriptor = match descriptors.as_slice() {
            [one] => one.clone(),
            all => {
                let kind = "application/vnd.oci.image.index.v1+json";
                let index = json!({ "schemaVersion": 2, "mediaType": kind, "manifests": all }).to_string();
                json!({ "mediaType": kind, "digest": pulled.keep(&index, blobs)?, "size": index.len() })
            }
        };
        Ok(pulled)
    }

    /// Fetches a blob, if it is not there. `part`: its descriptor, which says its size, or should.
    fn fetch(&self, base: &str, image: &Reference, part: &Value, blobs: &Path, watcher: &dyn Watcher) -> Result<()> {
        let digest = part["digest"].as_str().unwrap_or_default();
        let most = part["size"].as_u64().unwrap_or(RELEASE_LIMIT).min(RELEASE_LIMIT);
        let sha256: Sha256Digest = digest
            .strip_prefix("sha256:")
            .and_then(|digest| digest.parse().ok())
            .ok_or_else(|| failure!("{image} has a part with the digest `{digest}`"))?;
        let to = blobs.join(sha256.as_str());
        let token = self.tokens.lock().map_err(|_| failure!("a lock is broken"))?;
        let token = token.get(&(base.to_owned(), image.repository.clone())).map(|token| format!("Bearer {token}"));
        let headers: Vec<(&str, &str)> = token.iter().map(|token| ("Authorization", token.as_str())).collect();
        let url = format!("{base}/v2/{}/blobs/{digest}", image.repository);
        let remote = Remote { url: &url, headers: &headers, digest: digest::Digest::Sha256(&sha256), most };
        download(&remote, &to, PATIENCE, watcher)
    }

    fn get(&self, image: &Reference, what: &str) -> Result<Value> {
        let (base, text) = self.text(image, what)?;
        serde_json::from_str(&text).with_context(|| format!("{base} gives no JSON for {image}"))
    }

    /// Asks the mirror first, as nodes do, and the registry itself if that has nothing. Tells who answered, and what.
    fn text(&self, image: &Reference, what: &str) -> Result<(String, String)> {
        if let Some(mirror) = self.mirrors.get(&image.registry) {
            let base = mirror.trim_end_matches('/');
            let found = self.text_at(base, image, what);
            if !found.as_ref().is_err_and(|error| error.is_no_image()) {
                return Ok((base.to_owned(), found?));
            }
        }
        let base = Registries::base(&image.registry);
        let text = self.text_at(&base, image, what)?;
        Ok((base, text))
    }

    fn text_at(&self, base: &str, image: &Reference, what: &str) -> Result<String> {
        let url = format!("{base}/v2/{}/{what}", image.repository);
        let key = (base.to_owned(), image.repository.clone());
        let mut token = self.tokens.lock().map_err(|_| failure!("a lock is broken"))?.get(&key).cloned();
        for _ in 0..2 {
            let mut request = self.agent.get(&url).header("Accept", ACCEPT);
            if let Some(token) = &token {
                request = request.header("Authorization", format!("Bearer {token}"));
            }
            let mut response = request.call().with_context(|| format!("cannot ask for {image} at {url}"))?;
            refuse_downgrade(&url, &response)?;
            let challenge = response.headers().get("www-authenticate").and_then(|value| value.to_str().ok());
            match (response.status().as_u16(), challenge) {
                (200, _) => {
                    let text = response.body_mut().with_config().limit(LIMIT).read_to_string();
                    return text.with_context(|| format!("cannot read {url}"));
                }
                (401, Some(challenge)) if token.is_none() => {
                    let fresh = self.token(base, challenge, image)?;
                    self.tokens.lock().map_err(|_| failure!("a lock is broken"))?.insert(key.clone(), fresh.clone());
                    token = Some(fresh);
                }
                // Some registries do not tell strangers whether a private image is there.
                (401 | 403, _) => bail!("{image} is not for everybody, or is not there: {url} wants a password"),
                (404, _) => return Err(FetchError::no_image(image)),
                (429, _) => {
                    bail!("{} answers that it was asked too often; try again later, or name a mirror", image.registry)
                }
                (status, _) => bail!("{url} answers {status}"),
            }
        }
        bail!("{image}: the token that its registry gave is not accepted")
    }

    /// Gets a token for nobody in particular (distribution.github.io, "Token Authentication Specification").
    fn token(&self, base: &str, challenge: &str, image: &Reference) -> Result<String> {
        let fields = fields(
            challenge
                .strip_prefix("Bearer ")
                .ok_or_else(|| failure!("{image}: {} asks for a password", image.registry))?,
        );
        let realm = fields.get("realm").ok_or_else(|| failure!("{image}: its registry names no place for tokens"))?;
        if base.starts_with("https://") && !realm.to_ascii_lowercase().starts_with("https://") {
            bail!("{image}: {base} sends to {realm} for a token, which is not encrypted: it is refused");
        }
        let mut request = self.agent.get(*realm);
        for name in ["service", "scope"] {
            if let Some(value) = fields.get(name) {
                request = request.query(name, value);
            }
        }
        let mut response = request.call().with_context(|| format!("cannot get a token at {realm}"))?;
        refuse_downgrade(realm, &response)?;
        if response.status().as_u16() != 200 {
            bail!("{image} is not for everybody: {realm} answers {}", response.status());
        }
        let text = response.body_mut().with_config().limit(LIMIT).read_to_string();
        let answer: Value = serde_json::from_str(&text.with_context(|| format!("cannot read {realm}"))?)?;
        let token = answer["token"].as_str().or(answer["access_token"].as_str());
        token.map(str::to_owned).ok_or_else(|| failure!("{realm} gives no token"))
    }
}

/// Takes apart `key="value"` pairs with commas between them.
fn fields(text: &str) -> HashMap<&str, &str> {
    let mut found = HashMap::new();
    let mut rest = text;
    while let Some((key, after)) = rest.split_once("=\"") {
        let Some((value, next)) = after.split_once('"') else { break };
        found.insert(key.trim_matches([',', ' ']), value);
        rest = next;
    }
    found
}

/// Gives the platform that a list or a configuration names; `None` if it is no system for programs here.
pub(crate) fn platform(value: &Value) -> Option<Platform> {
    let architecture = value["architecture"].as_str().filter(|architecture| *architecture != "unknown")?;
    if value["os"].as_str().is_some_and(|os| os != "linux") {
        return None;
    }
    let variant = value["variant"].as_str().unwrap_or_default();
    Some(Platform { architecture: architecture.to_owned(), variant: variant.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_taken_apart() {
        let text = r#"realm="https://auth.example/token",service="reg", scope="repository:a/b:pull,push""#;
        let found = fields(text);
        assert_eq!(found["realm"], "https://auth.example/token");
        assert_eq!(found["scope"], "repository:a/b:pull,push");
    }

    #[test]
    fn attestations_and_other_systems_are_no_platforms() {
        assert_eq!(platform(&serde_json::json!({ "architecture": "unknown", "os": "unknown" })), None);
        assert_eq!(platform(&serde_json::json!({ "architecture": "amd64", "os": "windows" })), None);
    }
}
