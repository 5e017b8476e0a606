//! A file of the user's that bramble reads and replaces, which may be in a folder of many.
//!
//! Links are followed where the user or root made them, and the folder that they lead to is opened without any: whoever swaps
//! one afterwards swaps nothing.

use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, bail};
use rustix::fs::{AtFlags, Mode, OFlags};

/// How many links may lead to a file; the kernel has the same bound (path_resolution(7)).
const LINKS: usize = 40;

/// A file in a folder that is open.
pub(crate) struct UserFile {
    /// Its name for people.
    path: PathBuf,
    folder: OwnedFd,
    name: PathBuf,
}

impl UserFile {
    /// Finds the file that a path names, and makes the folders that are missing.
    ///
    /// # Errors
    ///
    /// Fails if a symbolic link of another user's is on the way, or if a folder cannot be made or opened.
    pub(crate) fn find(path: &Path) -> anyhow::Result<UserFile> {
        let absolute = std::path::absolute(path).with_context(|| format!("cannot find {}", path.display()))?;
        if let Some(parent) = absolute.parent() {
            let real = without_links(parent)?;
            fs::create_dir_all(&real).with_context(|| format!("cannot create {}", real.display()))?;
        }
        let real = without_links(&absolute)?;
        let (Some(parent), Some(name)) = (real.parent(), real.file_name()) else {
            bail!("{} is not a file", path.display())
        };
        let folder = open_folder(parent).with_context(|| format!("cannot open {}", parent.display()))?;
        Ok(UserFile { path: path.to_owned(), folder, name: name.into() })
    }

    /// Reads it; a file that is not there has no text.
    ///
    /// # Errors
    ///
    /// Fails if it is not a file of the user's own or of root's, or cannot be read.
    pub(crate) fn read(&self) -> anyhow::Result<String> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let mut file = match rustix::fs::openat(&self.folder, &self.name, flags, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(error) if error == rustix::io::Errno::NOENT => return Ok(String::new()),
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", self.path.display())),
        };
        let seen = file.metadata().with_context(|| format!("cannot read {}", self.path.display()))?;
        if !seen.is_file() {
            bail!("{} is not a file", self.path.display());
        }
        if !is_trusted(seen.uid()) {
            bail!(
                "{} belongs to another user (uid {}); name a file of your own with --into",
                self.path.display(),
                seen.uid()
            );
        }
        let mut text = String::new();
        file.read_to_string(&mut text).with_context(|| format!("cannot read {}", self.path.display()))?;
        Ok(text)
    }

    /// Puts another text in its place, which only its user can read. After a power cut it is there whole, or the old one is.
    ///
    /// # Errors
    ///
    /// Fails if it cannot be written.
    pub(crate) fn replace(&self, text: &str) -> anyhow::Result<()> {
        let fresh = PathBuf::from(format!(".{}.{}.new", self.name.display(), std::process::id()));
        let write = || -> std::io::Result<()> {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let open = || rustix::fs::openat(&self.folder, &fresh, flags, Mode::RUSR | Mode::WUSR);
            let file = match open() {
                // Left by a bramble with the same number that was killed, or prepared.
                Err(error) if error == rustix::io::Errno::EXIST => {
                    rustix::fs::unlinkat(&self.folder, &fresh, AtFlags::empty())?;
                    open()?
                }
                file => file?,
            };
            let mut file = File::from(file);
            let owner = rustix::fs::fstat(&self.folder)?;
            if Some(owner.st_uid) == crate::sudo_user::number() {
                // It stays the user's who called sudo.
                std::os::unix::fs::fchown(&file, Some(owner.st_uid), Some(owner.st_gid))?;
            }
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            rustix::fs::renameat(&self.folder, &fresh, &self.folder, &self.name)?;
            Ok(rustix::fs::fsync(&self.folder)?)
        };
        let written = write();
        if written.is_err() {
            // What is left of it is nobody's; the error that is told is the one before.
            rustix::fs::unlinkat(&self.folder, &fresh, AtFlags::empty()).ok();
        }
        written.with_context(|| format!("cannot write {}", self.path.display()))
    }
}

/// Tells whether links and files of this user may decide what bramble does: the one who runs it, and root.
fn is_trusted(user: u32) -> bool {
    user == 0 || user == rustix::process::geteuid().as_raw() || Some(user) == crate::sudo_user::number()
}

/// Resolves the symbolic links in a path, one by one. What is not there stays as it is.
fn without_links(path: &Path) -> anyhow::Result<PathBuf> {
    let mut real = PathBuf::from("/");
    let parts = |path: &Path| path.components().rev().map(|part| part.as_os_str().to_owned()).collect::<Vec<_>>();
    let mut left = parts(path);
    let mut links = 0;
    while let Some(part) = left.pop() {
        match Path::new(&part).components().next() {
            Some(Component::RootDir) => real = PathBuf::from("/"),
            Some(Component::ParentDir) => drop(real.pop()),
            Some(Component::Normal(name)) => {
                let next = real.join(name);
                let seen = match fs::symlink_metadata(&next) {
                    Ok(seen) => seen,
                    Err(error) if error.kind() == ErrorKind::NotFound => {
                        real = next;
                        continue;
                    }
                    Err(error) => return Err(error).with_context(|| format!("cannot open {}", next.display())),
                };
                if !seen.is_symlink() {
                    real = next;
                    continue;
                }
                links += 1;
                if links > LINKS {
                    bail!("{} leads through more than {LINKS} symbolic links", path.display());
                }
                if !is_trusted(seen.uid()) {
                    bail!(
                        "{} is a symbolic link of another user (uid {}); remove it, or name a file with --into",
                        next.display(),
                        seen.uid()
                    );
                }
                let target = fs::read_link(&next).with_context(|| format!("cannot read {}", next.display()))?;
                left.extend(parts(&target));
            }
            _ => {}
        }
    }
    Ok(real)
}

/// Opens a folder by an absolute path without links, and follows none that came meanwhile.
fn open_folder(path: &Path) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut folder = rustix::fs::open("/", flags, Mode::empty())?;
    for part in path.components().filter(|part| matches!(part, Component::Normal(_))) {
        folder = rustix::fs::openat(&folder, part.as_os_str(), flags, Mode::empty())?;
    }
    Ok(folder)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, lchown, symlink};

    use tempfile::TempDir;

    use super::*;

    /// The user `nobody`; tests that make files of his run as root.
    const OTHER: u32 = 65534;

    fn folder() -> TempDir {
        TempDir::new().unwrap()
    }

    fn error(path: &Path) -> String {
        UserFile::find(path)
            .and_then(|file| file.read())
            .map(|_| String::new())
            .unwrap_or_else(|error| format!("{error:#}"))
    }

    #[test]
    fn a_file_is_replaced_and_only_its_user_can_read_it() {
        let folder = folder();
        let path = folder.path().join("a/b/config");
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, "old").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        UserFile::find(&path).unwrap().replace("new").unwrap();
        let mode = fs::metadata(&path).unwrap().mode() & 0o777;
        assert_eq!((fs::read_to_string(&path).unwrap(), mode), ("new".to_owned(), 0o600));
    }

    #[test]
    fn folders_that_are_missing_are_made() {
        let folder = folder();
        let path = folder.path().join(".kube/config");
        let file = UserFile::find(&path).unwrap();
        assert_eq!(file.read().unwrap(), "");
    }

    #[test]
    fn nothing_is_left_beside_it() {
        let folder = folder();
        UserFile::find(&folder.path().join("config")).unwrap().replace("new").unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_link_of_ones_own_stays_a_link_and_its_file_is_replaced() {
        let folder = folder();
        let (link, target) = (folder.path().join("config"), folder.path().join("dotfiles"));
        fs::write(&target, "old").unwrap();
        symlink("dotfiles", &link).unwrap();
        UserFile::find(&link).unwrap().replace("new").unwrap();
        assert_eq!((fs::read_to_string(&target).unwrap(), link.is_symlink()), ("new".to_owned(), true));
    }

    #[test]
    fn a_link_of_ones_own_to_a_file_that_is_missing_makes_that_file() {
        let folder = folder();
        symlink("dotfiles", folder.path().join("config")).unwrap();
        UserFile::find(&folder.path().join("config")).unwrap().replace("new").unwrap();
        assert_eq!(fs::read_to_string(folder.path().join("dotfiles")).unwrap(), "new");
    }

    #[test]
    fn a_link_of_another_user_is_refused() {
        let folder = folder();
        let link = folder.path().join("config");
        symlink("/etc/passwd", &link).unwrap();
        lchown(&link, Some(OTHER), None).unwrap();
        assert!(error(&link).contains("is a symbolic link of another user (uid 65534)"), "{}", error(&link));
    }

    #[test]
    fn a_folder_that_is_a_link_of_another_user_is_refused() {
        let folder = folder();
        let link = folder.path().join("kube");
        symlink("/etc", &link).unwrap();
        lchown(&link, Some(OTHER), None).unwrap();
        let error = error(&link.join("config"));
        assert!(error.contains("is a symbolic link of another user"), "{error}");
    }

    /// It could hold what it runs when kubectl asks for a password.
    #[test]
    fn a_file_of_another_user_is_refused() {
        let folder = folder();
        let path = folder.path().join("config");
        fs::write(&path, "users: []").unwrap();
        lchown(&path, Some(OTHER), None).unwrap();
        assert!(error(&path).contains("belongs to another user"), "{}", error(&path));
    }

    #[test]
    fn what_was_prepared_beside_it_is_not_written_through() {
        let folder = folder();
        let (path, victim) = (folder.path().join("config"), folder.path().join("victim"));
        fs::write(&victim, "root's").unwrap();
        symlink(&victim, folder.path().join(format!(".config.{}.new", std::process::id()))).unwrap();
        UserFile::find(&path).unwrap().replace("new").unwrap();
        assert_eq!(
            (fs::read_to_string(&victim).unwrap(), fs::read_to_string(&path).unwrap()),
            ("root's".into(), "new".into())
        );
    }

    #[test]
    fn links_that_go_round_in_a_circle_are_given_up() {
        let folder = folder();
        symlink("config", folder.path().join("config")).unwrap();
        assert!(error(&folder.path().join("config")).contains("more than 40 symbolic links"));
    }

    #[test]
    fn a_folder_that_is_swapped_for_a_link_later_leads_nowhere_else() {
        let folder = folder();
        let (here, elsewhere) = (folder.path().join("here"), folder.path().join("elsewhere"));
        fs::create_dir_all(&here).unwrap();
        fs::create_dir_all(&elsewhere).unwrap();
        let file = UserFile::find(&here.join("config")).unwrap();
        fs::rename(&here, folder.path().join("aside")).unwrap();
        symlink(&elsewhere, &here).unwrap();
        file.replace("new").unwrap();
        assert!(!elsewhere.join("config").exists() && folder.path().join("aside/config").exists());
    }

    #[test]
    fn what_is_no_file_is_refused() {
        let folder = folder();
        assert!(error(folder.path()).contains("is not a file"), "{}", error(folder.path()));
    }
}
