//! The tokens of a cluster whose state is in a database elsewhere: it opens by them alone, also when all boards are new.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use bramble_fetch::replace_file;
use bramble_kube::JoinFacts;
use bramble_spec::ClusterName;

/// Gives the file, of mode 600, below `.bramble`.
pub fn file(private: &Path, cluster: &ClusterName) -> PathBuf {
    private.join(format!("{cluster}.tokens"))
}

/// Gives those with which this cluster began before, or writes the new ones down.
pub(crate) fn of(private: &Path, cluster: &ClusterName, new: JoinFacts) -> Result<JoinFacts> {
    let path = file(private, cluster);
    match fs::read_to_string(&path) {
        Ok(text) => Ok(JoinFacts::parse(&text)),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            keep(private, cluster, &new)?;
            Ok(new)
        }
        Err(error) => Err(error).with_context(|| format!("{} cannot be read", path.display())),
    }
}

/// Writes those down that it has from now on.
pub(crate) fn keep(private: &Path, cluster: &ClusterName, tokens: &JoinFacts) -> Result<()> {
    let path = file(private, cluster);
    replace_file(&path, tokens.to_text().as_bytes(), 0o600)
        .with_context(|| format!("{} cannot be written", path.display()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_cluster_begins_with_the_tokens_that_it_had() {
        let dir = tempfile::tempdir().unwrap();
        let name: ClusterName = "shelf".parse().unwrap();
        let of_value = |value: &str| {
            let mut facts = JoinFacts::default();
            facts.set("token", value);
            facts.set("agent-token", "b");
            facts
        };
        assert_eq!(of(dir.path(), &name, of_value("one")).unwrap().get("token").unwrap(), "one");
        assert_eq!(fs::metadata(file(dir.path(), &name)).unwrap().permissions().mode() & 0o777, 0o600);
        let again = of(dir.path(), &name, of_value("two")).unwrap();
        assert_eq!((again.get("token").unwrap(), again.get("agent-token").unwrap()), ("one", "b"));
        keep(dir.path(), &name, &of_value("three")).unwrap();
        assert_eq!(of(dir.path(), &name, of_value("four")).unwrap().get("token").unwrap(), "three");
    }
}
