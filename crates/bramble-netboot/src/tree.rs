//! The files that boards ask for by TFTP: for each a folder of its own, named by its Ethernet address, as dnsmasq looks for it
//! (`tftp-unique-root=mac`).

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::SocketAddrV4;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use bramble_image::{boot_partition, edit_boot};
use bramble_installer::words;
use bramble_spec::{Arch, MacAddr};
use bramble_state::{effective_boot_config, with_boot_config};

use crate::archive::{padding, with_init};
use crate::unified::unified;
use crate::{Board, Firmware, NetbootError, Prepared, from};

/// The program that UEFI loads, in a board's folder.
pub(crate) const PROGRAM: &str = "boot.efi";
/// Our initramfs, in a Raspberry Pi's folder.
const INITRAMFS: &str = "bramble.img";
/// Kernels and initramfs of images for machines with UEFI, as Debian, Ubuntu and Fedora name them on a boot partition.
const KERNELS: [&str; 3] = ["vmlinuz", "vmlinuz-lts", "Image"];
const INITRDS: [&str; 3] = ["initrd.img", "initramfs-lts", "initrd"];

/// What boards boot that is not in the image.
#[derive(Debug, Default)]
pub struct Parts {
    /// The program that writes a disk, for each kind of processor that boards have.
    pub installers: BTreeMap<Arch, PathBuf>,
    /// Where systemd's stubs for UEFI are.
    pub stubs: PathBuf,
}

impl Parts {
    /// The folder in which systemd has its stubs.
    pub const STUBS: &str = "/usr/lib/systemd/boot/efi";

    fn stub(&self, arch: Arch) -> Result<Vec<u8>, NetbootError> {
        let name = match arch {
            Arch::Amd64 => "linuxx64.efi.stub",
            Arch::Arm64 => "linuxaa64.efi.stub",
        };
        let path = self.stubs.join(name);
        fs::read(&path)
            .map_err(|_| NetbootError::Missing { what: path.display().to_string(), package: "systemd-boot-efi" })
    }

    fn archive(&self, arch: Arch) -> Result<Vec<u8>, NetbootError> {
        let path = self.installers.get(&arch).cloned().unwrap_or_default();
        let program = fs::read(&path).map_err(cannot("read the program that writes a board's disk"))?;
        with_init(&program).map_err(cannot("pack the program that writes a board's disk"))
    }
}

fn cannot(what: &'static str) -> impl Fn(io::Error) -> NetbootError {
    move |source| NetbootError::Io { what, source }
}

/// The folder of all boards.
#[derive(Debug)]
pub struct Tree {
    root: PathBuf,
}

/// The name of a board's folder.
fn folder(mac: &MacAddr) -> String {
    mac.to_string().to_lowercase().replace(':', "-")
}

impl Tree {
    /// Takes the boot partition of an image apart.
    ///
    /// # Errors
    /// It cannot be read, or the folder cannot be written.
    pub fn new(root: &Path, image: &Prepared) -> Result<Tree, NetbootError> {
        let files = root.join("files");
        fs::create_dir_all(&files).map_err(cannot("make the folder of what boards boot"))?;
        let mut disk = image.beginning();
        let partition = boot_partition(&mut disk)?;
        edit_boot(disk, partition, |boot| boot.extract(&files))?;
        for_all_to_read(root).map_err(cannot("let all read what boards boot"))?;
        Ok(Tree { root: root.to_owned() })
    }

    /// The folder that dnsmasq gives files from.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Gives a board what it boots; `token` is what it asks `server` by.
    ///
    /// # Errors
    /// The image or this machine lacks something; the folder cannot be written.
    pub fn add(&self, board: &Board, parts: &Parts, server: SocketAddrV4, token: &str) -> Result<(), NetbootError> {
        let folder = self.root.join(folder(&board.mac));
        let cannot = cannot("write what a board boots");
        fs::create_dir_all(&folder).map_err(&cannot)?;
        let line = self.line(board, server, token)?;
        match board.firmware {
            Firmware::RaspberryPi => self.pi(board, parts, &folder, &line)?,
            Firmware::Uefi => {
                let kernel = self.one_of(&KERNELS).ok_or(NetbootError::NoKernel("vmlinuz", board.node.clone()))?;
                let initrd = self.one_of(&INITRDS).map(fs::read).transpose().map_err(&cannot)?.unwrap_or_default();
                let initramfs = [&initrd, padding(initrd.len()), &parts.archive(board.arch)?].concat();
                let kernel = fs::read(kernel).map_err(&cannot)?;
                let program = unified(&parts.stub(board.arch)?, &kernel, &initramfs, &line)?;
                fs::write(folder.join(PROGRAM), program).map_err(&cannot)?;
            }
        }
        for_all_to_read(&folder).map_err(cannot)
    }

    /// Takes away what a board boots: it is to start from its disk.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn remove(&self, mac: &MacAddr) -> Result<(), NetbootError> {
        match fs::remove_dir_all(self.root.join(folder(mac))) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(cannot("remove what a board boots")(error)),
            _ => Ok(()),
        }
    }

    /// A Raspberry Pi asks in a folder of its serial number, which nobody knows before: what it asks there is what is here.
    /// Boards that find nothing there ask outside of it (raspberrypi.com/documentation, `TFTP_PREFIX`), and are given it as well.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn know_serial(&self, mac: &MacAddr, serial: &str) -> Result<(), NetbootError> {
        let folder = self.root.join(folder(mac));
        if !folder.is_dir() || serial.is_empty() || serial.len() > 16 || !serial.bytes().all(|b| b.is_ascii_hexdigit())
        {
            return Ok(());
        }
        match symlink(".", folder.join(serial)) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                Err(cannot("write what a board boots")(error))
            }
            _ => Ok(()),
        }
    }

    fn one_of(&self, names: &[&str]) -> Option<PathBuf> {
        names.iter().map(|name| self.root.join("files").join(name)).find(|path| path.is_file())
    }

    /// The command line: the image's consoles, and where the board asks.
    fn line(&self, board: &Board, server: SocketAddrV4, token: &str) -> Result<String, NetbootError> {
        let path = self.one_of(&["current/cmdline.txt", "cmdline.txt"]);
        let of_image = path.map(fs::read).transpose().map_err(cannot("read the image's cmdline.txt"))?;
        let of_image = String::from_utf8_lossy(&of_image.unwrap_or_default()).into_owned();
        let mut line: Vec<String> =
            of_image.split_whitespace().filter(|word| word.starts_with("console=")).map(str::to_owned).collect();
        line.extend([
            "rdinit=/init".to_owned(),
            // A board on which something is wrong comes back by itself.
            "panic=10".to_owned(),
            format!("{}{}", words::MAC, board.mac.to_string().to_lowercase()),
            format!("{}{}/{}", words::ADDRESS, board.address, board.prefix),
            format!("{}{}", words::FROM, from(server, token)),
        ]);
        Ok(line.join(" "))
    }

    /// All files of the boot partition, with a config.txt and a cmdline.txt of its own and our initramfs.
    fn pi(&self, board: &Board, parts: &Parts, folder: &Path, line: &str) -> Result<(), NetbootError> {
        let cannot = cannot("write what a board boots");
        let files = self.root.join("files");
        let path = files.join("config.txt");
        let config = fs::read(&path).map_err(|_| NetbootError::NoKernel("config.txt", board.node.clone()))?;
        let config = String::from_utf8_lossy(&config).into_owned();
        let effective = effective_boot_config(&config);
        let last = |key: &str| effective.get(key).and_then(|values| values.last().copied());
        // Ubuntu has its kernel below a folder, and what config.txt names with it.
        let prefix = last("os_prefix").unwrap_or_default().trim_matches('/').to_owned();
        // Drivers that the kernel has not built in are in the image's own initramfs, where config.txt asks for one by name.
        let own = last("initramfs").and_then(|value| value.split_whitespace().next().map(str::to_owned));
        let own =
            own.map(|name| fs::read(files.join(&prefix).join(name))).transpose().map_err(&cannot)?.unwrap_or_default();
        let initramfs = [&own, padding(own.len()), &parts.archive(board.arch)?].concat();
        let settings = [("auto_initramfs", "0"), ("initramfs", "bramble.img followkernel")];
        let settings = settings.map(|(key, value)| (key.to_owned(), vec![value.to_owned()])).into();
        let without: String = config
            .lines()
            .filter(|line| !line.trim_start().starts_with("initramfs"))
            .fold(String::new(), |text, line| text + line + "\n");
        let ours: [(&str, Vec<u8>); 3] = [
            ("config.txt", with_boot_config(&without, &settings).into_bytes()),
            (&join(&prefix, "cmdline.txt"), format!("{line}\n").into_bytes()),
            (&join(&prefix, INITRAMFS), initramfs),
        ];
        link_all(&files, folder, &ours, "").map_err(&cannot)
    }
}

fn join(prefix: &str, name: &str) -> String {
    if prefix.is_empty() { name.to_owned() } else { format!("{prefix}/{name}") }
}

/// Links to all files of a folder, but for those that are ours, which are written.
fn link_all(files: &Path, folder: &Path, ours: &[(&str, Vec<u8>)], below: &str) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    for entry in fs::read_dir(files)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let place = join(below, &name);
        let holds_ours = ours.iter().any(|(own, _)| own.starts_with(&format!("{place}/")));
        if holds_ours {
            link_all(&entry.path(), &folder.join(&name), ours, &place)?;
        } else if !ours.iter().any(|(own, _)| *own == place) {
            symlink(entry.path(), folder.join(&name))?;
        }
    }
    if below.is_empty() {
        for (place, bytes) in ours {
            fs::write(folder.join(place), bytes)?;
        }
    }
    Ok(())
}

/// Lets all users read a folder, whatever umask made it: as root, dnsmasq gives nothing else away.
fn for_all_to_read(path: &Path) -> io::Result<()> {
    let kind = fs::symlink_metadata(path)?.file_type();
    if kind.is_dir() {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
        for entry in fs::read_dir(path)? {
            for_all_to_read(&entry?.path())?;
        }
    } else if kind.is_file() {
        fs::set_permissions(path, fs::Permissions::from_mode(0o644))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use bramble_image::HostKey;

    use super::*;

    fn board(firmware: Firmware) -> Board {
        let identity = bramble_image::Identity {
            name: "kube1".parse().unwrap(),
            user: "ada".into(),
            keys: vec![],
            host_key: HostKey { private: String::new(), public: String::new() },
            instance: String::new(),
            password: String::new(),
            address: None,
            sides: None,
            arch: Arch::Arm64,
            wifi: None,
            swap_off: true,
            mac: None,
            timezone: None,
            locale: None,
            kernel_args: vec![],
            boot_config: BTreeMap::new(),
        };
        Board {
            node: "kube1".parse().unwrap(),
            mac: "DC:A6:32:00:00:01".parse().unwrap(),
            address: [10, 0, 0, 51].into(),
            prefix: 24,
            arch: Arch::Arm64,
            firmware,
            identity,
        }
    }

    /// A tree with these files on the image's boot partition, and what a board gets of them.
    fn given(files: &[(&str, &str)]) -> (tempfile::TempDir, Result<PathBuf, NetbootError>) {
        let dir = tempfile::tempdir().unwrap();
        for (name, content) in files {
            let path = dir.path().join("files").join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        let installer = dir.path().join("installer");
        fs::write(&installer, "program").unwrap();
        let parts = Parts { installers: [(Arch::Arm64, installer)].into(), stubs: dir.path().into() };
        let tree = Tree { root: dir.path().to_owned() };
        let board = board(Firmware::RaspberryPi);
        let added = tree.add(&board, &parts, "10.0.0.2:8000".parse().unwrap(), "token");
        tree.know_serial(&board.mac, "1f2e3d4c").unwrap();
        for none in ["../1f2e3d4c", "..", "", "x", "0123456789abcdef0"] {
            tree.know_serial(&board.mac, none).unwrap();
        }
        let folder = dir.path().join("dc-a6-32-00-00-01");
        (dir, added.map(|()| folder))
    }

    fn text(folder: &Path, name: &str) -> String {
        String::from_utf8_lossy(&fs::read(folder.join(name)).unwrap()).into_owned()
    }

    const LINE: &str = "rdinit=/init panic=10 bramble.mac=dc:a6:32:00:00:01 bramble.address=10.0.0.51/24 \
                        bramble.from=http://10.0.0.2:8000/token\n";

    #[test]
    fn raspberry_pi_os_is_booted_with_our_initramfs_alone_whatever_folder_it_is_asked_for_in() {
        let (_dir, folder) = given(&[
            ("config.txt", "auto_initramfs=1\narm_64bit=1\n"),
            ("cmdline.txt", "console=tty1 root=PARTUUID=1-02 quiet init=/usr/lib/firstboot\n"),
            ("kernel8.img", "kernel"),
            ("initramfs8", "theirs"),
            ("overlays/x.dtbo", "x"),
        ]);
        let folder = folder.unwrap();
        for below in ["", "1f2e3d4c/"] {
            assert_eq!(text(&folder, &format!("{below}cmdline.txt")), format!("console=tty1 {LINE}"));
            assert_eq!(text(&folder, &format!("{below}kernel8.img")), "kernel");
            assert_eq!(text(&folder, &format!("{below}overlays/x.dtbo")), "x");
        }
        let config = text(&folder, "config.txt");
        let effective = effective_boot_config(&config);
        assert_eq!(effective["auto_initramfs"].last(), Some(&"0"));
        assert_eq!(effective["initramfs"], ["bramble.img followkernel"]);
        assert!(fs::read(folder.join(INITRAMFS)).unwrap().starts_with(&[0x1f, 0x8b]));
        let mut names: Vec<_> =
            fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        let expected =
            ["1f2e3d4c", "bramble.img", "cmdline.txt", "config.txt", "initramfs8", "kernel8.img", "overlays"];
        assert_eq!(names, expected);
    }

    #[test]
    fn all_users_can_read_it_where_the_umask_lets_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("overlays/x.dtbo");
        fs::create_dir(file.parent().unwrap()).unwrap();
        fs::write(&file, "x").unwrap();
        let elsewhere = dir.path().join("elsewhere");
        fs::write(&elsewhere, "secret").unwrap();
        let inside = file.with_file_name("link");
        symlink(&elsewhere, inside).unwrap();
        for path in [&file, &elsewhere] {
            fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
        }
        fs::set_permissions(file.parent().unwrap(), fs::Permissions::from_mode(0o700)).unwrap();
        for_all_to_read(file.parent().unwrap()).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(file.parent().unwrap()), mode(&file), mode(&elsewhere)), (0o755, 0o644, 0o600));
    }

    #[test]
    fn ubuntu_is_booted_with_its_own_initramfs_before_ours_below_its_folder() {
        let config = "[all]\nos_prefix=current/\nkernel=vmlinuz\ninitramfs initrd.img followkernel\n";
        let (_dir, folder) = given(&[
            ("config.txt", config),
            ("current/cmdline.txt", "console=serial0,115200 multipath=off root=LABEL=writable\n"),
            ("current/vmlinuz", "kernel"),
            ("current/initrd.img", "theirs"),
        ]);
        let folder = folder.unwrap();
        assert_eq!(text(&folder, "current/cmdline.txt"), format!("console=serial0,115200 {LINE}"));
        assert_eq!(text(&folder, "current/vmlinuz"), "kernel");
        // What comes behind begins at a multiple of four.
        assert!(fs::read(folder.join("current/bramble.img")).unwrap().starts_with(b"theirs\0\0\x1f\x8b"));
        assert_eq!(effective_boot_config(&text(&folder, "config.txt"))["initramfs"], ["bramble.img followkernel"]);
    }

    #[test]
    fn what_an_image_or_this_machine_lacks_is_named() {
        let said = given(&[("vmlinuz", "kernel")]).1.unwrap_err().to_string();
        assert!(said.contains("no config.txt, which kube1 would boot from the network"), "{said}");
        let dir = tempfile::tempdir().unwrap();
        let tree = Tree { root: dir.path().to_owned() };
        let board = board(Firmware::Uefi);
        let add = |parts: &Parts| tree.add(&board, parts, "10.0.0.2:8000".parse().unwrap(), "token").unwrap_err();
        assert!(add(&Parts::default()).to_string().contains("no vmlinuz"));
        fs::create_dir(dir.path().join("files")).unwrap();
        fs::write(dir.path().join("files/vmlinuz"), "kernel").unwrap();
        let installers = [(Arch::Arm64, dir.path().join("files/vmlinuz"))].into();
        let said = add(&Parts { installers, stubs: dir.path().into() }).to_string();
        assert!(said.ends_with("linuxaa64.efi.stub on this machine: install systemd-boot-efi"), "{said}");
    }
}
