//! Who called sudo: disks are root's, and a project is its user's.

use std::fs;
use std::os::unix::fs::{MetadataExt, lchown};
use std::path::{Path, PathBuf};

/// The user who called sudo.
struct Invoker {
    user: u32,
    group: u32,
}

fn invoker() -> Option<Invoker> {
    let number = |name: &str| std::env::var(name).ok()?.parse::<u32>().ok();
    let (user, group) = (number("SUDO_UID")?, number("SUDO_GID")?);
    (rustix::process::geteuid().is_root() && user != 0).then_some(Invoker { user, group })
}

/// The number of the user who called sudo.
pub(crate) fn number() -> Option<u32> {
    invoker().map(|invoker| invoker.user)
}

/// The home folder of a user (passwd(5)).
fn home_of(user: u32) -> Option<PathBuf> {
    let users = fs::read_to_string("/etc/passwd").ok()?;
    let mut lines = users.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let line = lines.find(|line| line.get(2).and_then(|uid| uid.parse().ok()) == Some(user))?;
    line.get(5).map(PathBuf::from)
}

/// The home folder of the user, also if sudo made it root's.
pub(crate) fn home() -> Option<PathBuf> {
    let told = std::env::home_dir();
    match invoker() {
        Some(invoker) if told.is_none() || told == home_of(0) => home_of(invoker.user).or(told),
        _ => told,
    }
}

/// Who runs this and where, as `user@host`.
pub(crate) fn who() -> String {
    let user = ["SUDO_USER", "USER", "LOGNAME"].iter().find_map(|name| std::env::var(name).ok());
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let clean = |text: String| text.replace(|c: char| c.is_whitespace() || c.is_control(), "_");
    format!("{}@{}", clean(user.unwrap_or_else(|| rustix::process::getuid().as_raw().to_string())), clean(host))
}

/// Gives the user what root wrote in their project and their cache.
pub(crate) fn hand_back(file: &Path) {
    let Some(invoker) = invoker() else { return };
    let dir = file.parent().unwrap_or(Path::new(""));
    let cache = home().map(|home| home.join(".cache/bramble"));
    for place in [dir.join(".bramble"), dir.join("bramble.lock")].into_iter().chain(cache) {
        give(&place, &invoker);
    }
}

/// What cannot be given stays root's, as it is: the next error that comes of it names the file.
fn give(path: &Path, to: &Invoker) {
    let Ok(there) = fs::symlink_metadata(path) else { return };
    if there.is_dir() {
        fs::read_dir(path).into_iter().flatten().flatten().for_each(|entry| give(&entry.path(), to));
    }
    // What has another name as well may be a file of the system's.
    if there.uid() == 0 && (there.is_dir() || (there.is_file() && there.nlink() == 1)) {
        lchown(path, Some(to.user), Some(to.group)).ok();
    }
}
