//! Images of disks made with other people's tools, and looked at with them.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fs;
use std::io::{Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};

use super::text;

/// Bytes before the boot partition, and of it.
pub const START: usize = 8192 * 512;
pub const BOOT: usize = 72 << 20;
pub const ROOT: usize = 8 << 20;

/// What Raspberry Pi OS says of itself on its boot partition.
pub const ISSUE: (&str, &str) = ("issue.txt", "Raspberry Pi reference 2024-11-19\nGenerated using pi-gen\n");
pub const CMDLINE: &str = "console=tty1 root=PARTUUID=b4a3b1e5-02 rootfstype=ext4 rootwait";

/// What mmdebstrap does before the kernel of a machine in QEMU is installed: its initrd has what the machine's disk needs, and
/// nothing else, since an emulated processor unpacks it.
pub const SMALL_INITRD: &str = "--essential-hook=mkdir -p \"$1/etc/initramfs-tools/conf.d\"; \
     echo MODULES=list >\"$1/etc/initramfs-tools/conf.d/list\"; \
     printf '%s\\n' virtio_pci virtio_blk virtio_net ext4 >\"$1/etc/initramfs-tools/modules\"";

pub fn tool(program: &str, args: &[&str]) -> Output {
    // They are in folders that only root's PATH has.
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap());
    let output = Command::new(program).args(args).env("PATH", path).env("MTOOLS_SKIP_CHECK", "1").output().unwrap();
    assert!(output.status.success(), "{program} {args:?}: {}", text(&output));
    output
}

/// The node of a loop device with a number of its own, which nobody gets who looks for a free one while its file is changed.
pub fn own_loop() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = 500 + std::process::id() % 30_000 * 32 + NEXT.fetch_add(1, Ordering::Relaxed);
    format!("/dev/loop{number}")
}

/// Takes a loop device away again.
pub fn remove_loop(node: &str) {
    // LOOP_CTL_REMOVE (linux/loop.h); losetup has no option for it yet. Who looks at the device keeps it for a moment.
    let remove = format!(
        "losetup --detach {node} 2>/dev/null; n=0; until perl -e 'open F, \"+<\", \"/dev/loop-control\" or die; ioctl(F, 0x4C81, {}+0) // exit 1'; \
         do [ $n -lt 50 ] || exit 1; n=$((n + 1)); sleep 0.1; done",
        node.trim_start_matches("/dev/loop")
    );
    tool("sh", &["-c", &remove]);
}

/// Makes the file `image`: that of a disk with this kind of table and these types of partitions, a FAT32 boot partition of
/// this name that has these files, and an ext4 root.
pub fn image<'a>(dir: &Path, table: &str, types: [&str; 2], label: &str, files: &[(&'a str, &str)]) -> Vec<u8> {
    let root = dir.join("root");
    fs::write(&root, vec![0; ROOT]).unwrap();
    tool("mkfs.ext4", &["-q", "-L", "rootfs", &root.display().to_string()]);
    let put = |(index, (place, content)): (usize, &(&'a str, &str))| {
        let file = dir.join(format!("file{index}"));
        fs::write(&file, content).unwrap();
        (*place, file)
    };
    let files: Vec<(&'a str, PathBuf)> = files.iter().enumerate().map(put).collect();
    assemble(dir, table, types, label, &files, &root);
    fs::read(dir.join("image")).unwrap()
}

/// The same, out of files and a root that are there.
pub fn assemble(dir: &Path, table: &str, types: [&str; 2], label: &str, files: &[(&str, PathBuf)], root: &Path) {
    let name = |name: &str| dir.join(name).display().to_string();
    let boot = name("boot");
    fs::write(&boot, vec![0; BOOT]).unwrap();
    tool("mkfs.vfat", &["-F", "32", "-s", "1", "-n", label, &boot]);
    let mut folders = BTreeSet::new();
    for (place, file) in files {
        for (end, _) in place.match_indices('/') {
            if folders.insert(&place[..end]) {
                tool("mmd", &["-i", &boot, &format!("::{}", &place[..end])]);
            }
        }
        tool("mcopy", &["-i", &boot, &file.display().to_string(), &format!("::{place}")]);
    }
    let root_size = fs::metadata(root).unwrap().len();
    let mut whole = fs::File::create(name("image")).unwrap();
    whole.seek(SeekFrom::Start(START as u64)).unwrap();
    for part in [Path::new(&boot), root] {
        std::io::copy(&mut fs::File::open(part).unwrap(), &mut whole).unwrap();
    }
    // A GPT has its second half at the end.
    whole.set_len((START + BOOT) as u64 + root_size + (1 << 20)).unwrap();
    let table = format!(
        "{table}\nstart=8192, size={}, type={}\nstart={}, size={}, type={}\n",
        BOOT / 512,
        types[0],
        (START + BOOT) / 512,
        root_size / 512,
        types[1]
    );
    fs::write(dir.join("table"), table).unwrap();
    tool("sh", &["-c", &format!("sfdisk -q {} <{}", name("image"), name("table"))]);
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
