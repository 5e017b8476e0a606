//! Manifests of add-ons: from files, web servers, git repositories, or out of a bundle.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use bramble_kube::Rendered;
use bramble_spec::{Addon, AddonKind, OwnSource, hex};
use sha2::{Digest, Sha256};

use crate::addon_bundle::AddonBundle;
use crate::error::{Context, Result, bail, failure};
use crate::fetched::Fetched;
use crate::http::TEXT_LIMIT;
use crate::lockfile::LockFile;
use crate::small_file::read_text;
use crate::sources::Sources;
use crate::watcher::Watcher;

/// Makes the objects of the cluster file's add-ons. `fetched`: what [`fetch_addons`] gave.
///
/// # Errors
/// A file cannot be read, or is not a manifest.
pub fn render_addons(sources: &Sources<'_>, fetched: &[Option<Fetched>]) -> Result<Vec<Rendered>> {
    let one = |addon: &Addon, fetched: &Option<Fetched>| {
        let text = match (fetched, bramble_kube::sources(addon)) {
            (Some(fetched), _) => fetched.text.clone(),
            (None, Some(written)) => joined(&sources.path(written))?,
            (None, None) => String::new(),
        };
        bramble_kube::render(sources.cluster, addon, &text).map_err(|error| failure!("{error}"))
    };
    let addons = sources.cluster.addons.iter().zip(fetched);
    addons.map(|(addon, fetched)| one(addon, fetched).with_context(|| format!("the add-on {}", addon.name))).collect()
}

/// Fetches what comes from elsewhere, or from the bundle, for each add-on of the cluster file. It is pinned.
///
/// # Errors
/// It cannot be fetched, or is not what was pinned.
pub fn fetch_addons(sources: &Sources<'_>, lock: &mut LockFile, watcher: &dyn Watcher) -> Result<Vec<Option<Fetched>>> {
    let bundle = match sources.bundle {
        Some(bundle) => Some((bundle, AddonBundle::open(bundle)?)),
        None => None,
    };
    let mut all = Vec::new();
    for addon in &sources.cluster.addons {
        let fetched = elsewhere(sources, bundle.as_ref(), lock, addon, watcher);
        all.push(fetched.with_context(|| format!("the add-on {}", addon.name))?);
    }
    Ok(all)
}

/// Fetches the manifest of an add-on that comes from elsewhere, or from the bundle.
fn elsewhere(
    sources: &Sources<'_>,
    bundle: Option<&(&Path, AddonBundle)>,
    lock: &mut LockFile,
    addon: &Addon,
    watcher: &dyn Watcher,
) -> Result<Option<Fetched>> {
    let bundled = |source: &str| bundle.map(|(dir, supplies)| supplies.text(dir, source)).transpose();
    if let AddonKind::Own(OwnSource::Git { url, revision, path }) = &addon.kind {
        let revision = revision.as_deref().unwrap_or("HEAD");
        let source = format!("{url}#{revision}:{path}");
        let (text, commit) = match bundled(&source)? {
            Some((text, Some(commit))) => {
                let pinned = lock.release(&format!("{url}#{revision}"), || Ok(commit.clone()))?;
                if pinned != commit {
                    bail!("the bundle has {commit} of {source}, and bramble.lock pins {pinned}: make the bundle again");
                }
                (text, commit)
            }
            Some((_, None)) => bail!("the bundle does not say of which commit its {source} is"),
            None => git(sources, lock, url, revision, path, watcher)?,
        };
        return Ok(Some(Fetched { source, text, commit: Some(commit) }));
    }
    let Some(url) =
        bramble_kube::sources(addon).filter(|url| url.starts_with("https://") || url.starts_with("http://"))
    else {
        return Ok(None);
    };
    let purpose = format!("addon {}", addon.name);
    let text = match bundle {
        Some((dir, supplies)) => lock.text(&purpose, url, is_manifest, || Ok(supplies.text(dir, url)?.0))?,
        None => lock.fetch(&purpose, url, is_manifest, watcher)?,
    };
    Ok(Some(Fetched { source: url.to_owned(), text, commit: None }))
}

/// Lists the manifests in a folder, in the order of their names; a file is one itself.
///
/// # Errors
/// The folder cannot be read.
pub fn manifest_files(path: &Path) -> Result<Vec<PathBuf>> {
    if path.is_file() {
        return Ok(vec![path.to_owned()]);
    }
    let mut found = Vec::new();
    for entry in fs::read_dir(path).with_context(|| format!("cannot read {}", path.display()))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| ["yaml", "yml", "json"].iter().any(|known| extension == *known)) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// Checks that a text is a manifest with at least one object.
///
/// # Errors
/// It is none; the error has the line.
pub(crate) fn is_manifest(text: &str) -> Result<()> {
    match bramble_kube::objects(text) {
        Ok(objects) if objects.is_empty() => bail!("there is no object in it"),
        Ok(_) => Ok(()),
        Err(error) => bail!("{error}"),
    }
}

/// Joins the manifests of a folder.
fn joined(path: &Path) -> Result<String> {
    let mut all = String::new();
    for file in manifest_files(path)? {
        let text = read_text(&file)?;
        // Errors tell of lines: each file is read alone first.
        bramble_kube::objects(&text).map_err(|error| failure!("{}: {error}", file.display()))?;
        all.push_str(&text);
        all.push_str("\n---\n");
    }
    if all.is_empty() {
        bail!("there is no manifest in {}: files end with .yaml, .yml or .json", path.display());
    }
    Ok(all)
}

/// Fetches the manifests at a place of a git repository, at the commit that was chosen at first use, and that commit.
fn git(
    sources: &Sources<'_>,
    lock: &mut LockFile,
    url: &str,
    revision: &str,
    path: &str,
    watcher: &dyn Watcher,
) -> Result<(String, String)> {
    let dir = sources.cache.join(format!("git-{}", hex(&Sha256::digest(url.as_bytes())[..8])));
    let run = |arguments: &[&str]| {
        let output =
            Command::new("git").arg("--git-dir").arg(&dir).args(arguments).env("GIT_TERMINAL_PROMPT", "0").output();
        let output = output.context("cannot run git; is it installed?")?;
        if !output.status.success() {
            bail!("git: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        String::from_utf8(output.stdout).context("git prints something else than text")
    };
    if !dir.exists() {
        fs::create_dir_all(&dir)?;
        run(&["init", "--quiet", "--bare"])?;
    }
    // A relative path is one beside the cluster file.
    let local = sources.path(url);
    let from = if local.exists() { local.to_string_lossy().into_owned() } else { url.to_owned() };
    let fetch = |what: &str| {
        watcher.note(&format!("fetching {url}"));
        // What follows `--` is no option, whatever it begins with.
        run(&["fetch", "--quiet", "--depth", "1", "--", &from, what])
    };
    let mut read = None;
    let commit = lock.release(&format!("{url}#{revision}"), || {
        fetch(revision)?;
        let commit = run(&["rev-parse", "FETCH_HEAD"])?.trim().to_owned();
        // What cannot be read is not pinned.
        read = Some(manifests_at(&run, url, &commit, path)?);
        Ok(commit)
    })?;
    if !(40..=64).contains(&commit.len()) || !commit.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        bail!(
            "bramble.lock pins `{}` for {url}#{revision}, which is no commit: remove that entry",
            commit.escape_debug()
        );
    }
    if let Some(text) = read {
        return Ok((text, commit));
    }
    if run(&["cat-file", "-e", &format!("{commit}^{{commit}}")]).is_err() {
        fetch(&commit)?;
    }
    Ok((manifests_at(&run, url, &commit, path)?, commit))
}

/// Joins the manifests at a place of a commit. `run`: runs git there.
fn manifests_at(run: &dyn Fn(&[&str]) -> Result<String>, url: &str, commit: &str, path: &str) -> Result<String> {
    let path = path.trim_start_matches("./").trim_end_matches('/');
    let place = if path == "." { "" } else { path };
    let mut names = vec!["ls-tree", "-r", "--name-only", commit, "--"];
    names.extend(Some(place).filter(|place| !place.is_empty()));
    let mut all = String::new();
    for name in run(&names)?.lines() {
        let below = name.strip_prefix(place).unwrap_or(name).trim_start_matches('/');
        let wanted = [".yaml", ".yml", ".json"].iter().any(|end| name.ends_with(end));
        // As in a folder: those that are right there.
        if wanted && !below.contains('/') {
            let object = format!("{commit}:{name}");
            let size: u64 = run(&["cat-file", "-s", &object])?.trim().parse().unwrap_or(u64::MAX);
            if size.saturating_add(all.len() as u64) > TEXT_LIMIT {
                bail!("{name} of {url} makes its manifests larger than {} MiB: they are refused", TEXT_LIMIT >> 20);
            }
            let text = run(&["show", &object])?;
            bramble_kube::objects(&text).map_err(|error| failure!("{name}: {error}"))?;
            all.push_str(&format!("{text}\n---\n"));
        }
    }
    if all.is_empty() {
        bail!("{url} has no manifest at `{path}` in {commit}");
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watcher::Silent;

    /// A project beside a repository with this manifest.
    struct Repository(tempfile::TempDir);

    impl Repository {
        fn new(manifest: &str) -> Repository {
            let dir = tempfile::tempdir().unwrap();
            fs::create_dir_all(dir.path().join("web/deploy")).unwrap();
            fs::write(dir.path().join("web/deploy/web.yaml"), manifest).unwrap();
            let commit = "git init -q && git add . && git -c user.name=a -c user.email=a@b commit -q -m a";
            let made = Command::new("sh").args(["-c", commit]).current_dir(dir.path().join("web")).status();
            assert!(made.unwrap().success());
            Repository(dir)
        }

        fn lock(&self) -> PathBuf {
            self.0.path().join("bramble.lock")
        }

        fn read(&self) -> Result<(String, String)> {
            let text = "cluster: shelf\naccess: { user: pi }\ndistribution: { k3s: { version: stable } }\n\
                        network: { subnet: 10.0.0.0/24 }\n\
                        nodes:\n  - { name: a, role: control-plane, board: rpi-cm4-4gb, address: 10.0.0.11 }\n";
            let loaded = bramble_spec::load(Path::new("bramble.yaml"), text);
            let dir = self.0.path();
            let sources = Sources {
                cluster: &loaded.clusters[0],
                dir,
                home: None,
                cache: dir.join("cache"),
                releases: dir.join("releases"),
                bundle: None,
            };
            git(&sources, &mut sources.lock_file()?, "web", "HEAD", "./deploy/", &Silent)
        }
    }

    const POD: &str = "apiVersion: v1\nkind: Pod\nmetadata: { name: a }\n";

    #[test]
    fn manifests_of_a_folder_of_a_repository_are_pinned_by_their_commit() {
        let repository = Repository::new(POD);
        let (text, commit) = repository.read().unwrap();
        assert!(text.starts_with(POD) && fs::read_to_string(repository.lock()).unwrap().contains(&commit));
    }

    #[test]
    fn a_commit_whose_manifest_is_broken_is_not_pinned() {
        let repository = Repository::new("kind: [\n");
        let error = repository.read().unwrap_err().chain();
        assert!(error.contains("deploy/web.yaml") && !repository.lock().exists(), "{error}");
    }

    #[test]
    fn a_lock_file_gives_no_options_to_git() {
        let repository = Repository::new(POD);
        let victim = repository.0.path().join("victim");
        let pin =
            format!(r#"{{"files": {{}}, "versions": {{"web#HEAD": "--upload-pack=touch {}"}}}}"#, victim.display());
        fs::write(repository.lock(), pin).unwrap();
        let error = repository.read().unwrap_err().chain();
        assert!(error.contains("which is no commit") && !victim.exists(), "{error}");
    }
}
