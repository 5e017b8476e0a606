//! Images of disks made with other people's tools, and looked at with them.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use super::text;

/// Bytes before the boot partition, and of it.
pub const START: usize = 8192 * 512;
pub const BOOT: usize = 72 << 20;
pub const ROOT: usize = 8 << 20;

pub const CMDLINE: &str = "console=tty1 root=PARTUUID=b4a3b1e5-02 rootfstype=ext4 rootwait";

pub fn tool(program: &str, args: &[&str]) -> Output {
    // They are in folders that only root's PATH has.
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap());
    let output = Command::new(program).args(args).env("PATH", path).env("MTOOLS_SKIP_CHECK", "1").output().unwrap();
    assert!(output.status.success(), "{program} {args:?}: {}", text(&output));
    output
}

/// Makes the file `image`: that of a disk with this kind of table and these types of partitions, a FAT32 boot partition of
/// this name that has these files, and an ext4 root.
pub fn image(dir: &Path, table: &str, types: [&str; 2], label: &str, files: &[(&str, &str)]) -> Vec<u8> {
    let name = |name: &str| dir.join(name).display().to_string();
    let boot = name("boot");
    fs::write(&boot, vec![0; BOOT]).unwrap();
    tool("mkfs.vfat", &["-F", "32", "-s", "1", "-n", label, &boot]);
    for (place, content) in files {
        fs::write(dir.join("file"), content).unwrap();
        if let Some((folder, _)) = place.split_once('/') {
            tool("mmd", &["-i", &boot, &format!("::{folder}")]);
        }
        tool("mcopy", &["-i", &boot, &name("file"), &format!("::{place}")]);
    }
    let root = name("root");
    fs::write(&root, vec![0; ROOT]).unwrap();
    tool("mkfs.ext4", &["-q", "-L", "rootfs", &root]);
    let mut whole = vec![0; START];
    whole.extend(fs::read(&boot).unwrap());
    whole.extend(fs::read(&root).unwrap());
    // A GPT has its second half at the end.
    whole.extend(vec![0; 1 << 20]);
    fs::write(name("image"), &whole).unwrap();
    let table = format!(
        "{table}\nstart=8192, size={}, type={}\nstart={}, size={}, type={}\n",
        BOOT / 512,
        types[0],
        (START + BOOT) / 512,
        ROOT / 512,
        types[1]
    );
    fs::write(dir.join("table"), table).unwrap();
    tool("sh", &["-c", &format!("sfdisk -q {} <{}", name("image"), name("table"))]);
    fs::read(dir.join("image")).unwrap()
}

/// The boot partition of a built disk.
pub struct Disk {
    pub boot: PathBuf,
}

impl Disk {
    pub fn read(&self, name: &str) -> String {
        let output = tool("mtype", &["-i", &self.boot.display().to_string(), &format!("::{name}")]);
        String::from_utf8(output.stdout).unwrap()
    }

    pub fn names(&self) -> Vec<String> {
        let output = tool("mdir", &["-i", &self.boot.display().to_string(), "-b", "-/", "::"]);
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().map(|line| line.trim_start_matches("::/").to_owned()).filter(|name| !name.ends_with('/')).collect()
    }
}
