//! The disk of a board: a file with a file system, which grows as it is written to, below an overlay of its system's root.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::host::{Error, PathContext, run};
use crate::rack::{Rack, RackNode};

/// In bytes: a common card's. The file takes what is in use.
const SIZE: u64 = 32 << 30;

/// Without a journal and barriers: what such a disk is kept from by them is a crash of the machine that carries the racks.
const FORMAT: [&str; 9] = ["-q", "-F", "-m", "0", "-O", "^has_journal", "-E", "nodiscard,lazy_itable_init=1", "-L"];

/// Folders of the disk: the overlay's, then those that lie beside it.
const OVERLAY: [&str; 2] = ["upper", "work"];

/// The file that takes the room of a full disk. No board sees it.
const FILLER: &str = "filler";

/// The folders of one board's disk on this machine.
pub(crate) struct Disk<'a> {
    rack: &'a Rack,
    node: &'a RackNode,
    dir: PathBuf,
}

impl<'a> Disk<'a> {
    pub(crate) fn of(rack: &'a Rack, node: &'a RackNode) -> Disk<'a> {
        Disk { rack, node, dir: rack.node_dir(&node.name) }
    }

    fn file(&self) -> PathBuf {
        self.dir.join("disk.img")
    }

    /// Where the file system is mounted.
    fn inner(&self) -> PathBuf {
        self.dir.join("disk")
    }

    /// What the board sees.
    pub(crate) fn root(&self) -> PathBuf {
        self.dir.join("root")
    }

    /// `/var/lib` and folders of packages lie beside the overlay, since container runtimes keep overlays of their own
    /// there, which cannot lie on an overlay.
    fn beside(&self) -> impl Iterator<Item = (PathBuf, PathBuf)> {
        let folders = self.rack.packages.iter().flat_map(|package| &package.folders).map(String::as_str);
        std::iter::once("var/lib")
            .chain(folders)
            .map(|folder| (self.inner().join(folder.replace('/', "-")), self.root().join(folder)))
    }

    /// Makes the disk as it is when the system was just written to it.
    pub(crate) fn make(&self) -> Result<(), Error> {
        for path in [self.inner(), self.root()] {
            fs::create_dir_all(&path).at("create", &path)?;
        }
        let file = self.file();
        fs::File::create(&file).and_then(|made| made.set_len(SIZE)).at("create", &file)?;
        run("mkfs.ext4", &[&FORMAT[..], &["rack", &file.to_string_lossy()]].concat())?;
        self.mount_file()?;
        for (own, _) in self.beside() {
            fs::create_dir_all(&own).at("create", &own)?;
        }
        for part in OVERLAY {
            let path = self.inner().join(part);
            fs::create_dir_all(&path).at("create", &path)?;
        }
        let (base, own) = (self.node.base.join("var/lib"), self.inner().join("var-lib"));
        run("cp", &["-a", &format!("{}/.", base.display()), &own.to_string_lossy()])?;
        self.mount()
    }

    fn mount_file(&self) -> Result<(), Error> {
        let (file, inner) = (self.file(), self.inner());
        if !is_mounted(&inner)? {
            let options = "loop,discard,barrier=0,noinit_itable,noatime";
            run("mount", &["-o", options, &file.to_string_lossy(), &inner.to_string_lossy()])?;
        }
        Ok(())
    }

    /// Mounts what is not mounted yet.
    pub(crate) fn mount(&self) -> Result<(), Error> {
        self.mount_file()?;
        let root = self.root();
        if !is_mounted(&root)? {
            let [upper, work] = OVERLAY.map(|part| self.inner().join(part));
            let options = format!(
                "lowerdir={},upperdir={},workdir={}",
                self.node.base.display(),
                upper.display(),
                work.display()
            );
            let name = format!("bramble-{}", self.rack.name);
            run("mount", &["-t", "overlay", "-o", &options, &name, &root.to_string_lossy()])?;
        }
        for (own, place) in self.beside() {
            if !is_mounted(&place)? {
                fs::create_dir_all(&place).at("create", &place)?;
                run("mount", &["--bind", &own.to_string_lossy(), &place.to_string_lossy()])?;
            }
        }
        Ok(())
    }

    pub(crate) fn unmount(&self) -> Result<(), Error> {
        let places = self.beside().map(|(_, place)| place);
        for path in places.chain([self.root(), self.inner()]) {
            if is_mounted(&path)? {
                run("umount", &["-l", &path.to_string_lossy()])?;
            }
        }
        Ok(())
    }

    /// Copies the disk of a board that is off, and the host key that is on it, to a folder.
    pub(crate) fn save(&self, folder: &Path) -> Result<(), Error> {
        // Unmounting would not do: the kernel lets go of the mounts of a board that was cut many seconds later.
        self.mount_file()?;
        run("sync", &["--file-system", &self.inner().to_string_lossy()])?;
        let to = folder.join(&self.node.name);
        fs::create_dir_all(&to).at("create", &to)?;
        for name in ["disk.img", "host_key.pub"] {
            copy(&self.dir.join(name), &to.join(name))?;
        }
        Ok(())
    }

    /// Gives a board that is off the disk that was saved.
    pub(crate) fn restore(&self, folder: &Path) -> Result<(), Error> {
        self.unmount()?;
        for name in ["disk.img", "host_key.pub"] {
            copy(&folder.join(&self.node.name).join(name), &self.dir.join(name))?;
        }
        Ok(())
    }

    /// Leaves so many bytes free. No board sees what takes the room.
    pub(crate) fn fill(&self, leave: u64) -> Result<(), Error> {
        self.free()?;
        let path = self.inner().join(FILLER);
        let room = rustix::fs::statvfs(self.inner()).map_err(std::io::Error::from).at("look at", &self.inner())?;
        let take = (room.f_bavail * room.f_frsize).saturating_sub(leave);
        let file = fs::File::create(&path).at("create", &path)?;
        let mode = rustix::fs::FallocateFlags::empty();
        // The disk's own account of such a file takes a little, too.
        for less in [0, 1 << 20, 16 << 20] {
            let allocated = rustix::fs::fallocate(&file, mode, 0, take.saturating_sub(less).max(1));
            match allocated {
                Err(rustix::io::Errno::NOSPC) => continue,
                other => return other.map_err(std::io::Error::from).at("fill the disk with", &path),
            }
        }
        // The rest, as the board would.
        let block = vec![0; 64 * 1024];
        let mut at = file.metadata().at("look at", &path)?.len();
        while let Ok(n) = file.write_at(&block, at) {
            at += n as u64;
        }
        Ok(())
    }

    /// Gives back what [`Disk::fill`] took.
    pub(crate) fn free(&self) -> Result<(), Error> {
        let path = self.inner().join(FILLER);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error).at("remove", &path),
            _ => Ok(()),
        }
    }
}

/// Copies a file, without its holes; at once where the file system can share blocks. What stood there before stays whole
/// for whoever has it open.
fn copy(from: &Path, to: &Path) -> Result<(), Error> {
    let fresh = to.with_extension("new");
    run("cp", &["--sparse=always", "--reflink=auto", &from.to_string_lossy(), &fresh.to_string_lossy()])?;
    fs::rename(&fresh, to).at("move into place", to)
}

fn is_mounted(path: &Path) -> Result<bool, Error> {
    let mounts = Path::new("/proc/self/mounts");
    let text = fs::read_to_string(mounts).at("read", mounts)?;
    let path = path.to_string_lossy();
    Ok(text.lines().any(|line| line.split(' ').nth(1) == Some(&path)))
}
