//! A cluster file with a board, and images for it.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use std::fs;
use std::path::PathBuf;
use std::process::Output;

use super::disk::{BOOT, Disk, START, image, tool};
use super::{assert_code, bramble};

pub struct Bench {
    pub dir: tempfile::TempDir,
}

impl Bench {
    pub fn new(more: &str) -> Bench {
        let bench = Bench { dir: tempfile::tempdir().unwrap() };
        tool("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-f", &bench.name("key")]);
        let file = format!(
            "cluster: shelf\naccess: {{ user: dietpi, keys: [key] }}\nnetwork: {{ subnet: 10.0.0.0/24, gateway: 10.0.0.1{more} }}\n\
             image: {{ file: image }}\ndistribution:\n  k3s: {{ version: stable }}\n\
             prepare: {{ timezone: Europe/Berlin, boot: {{ config: {{ gpu_mem: \"16\" }} }} }}\nnodes:\n  \
             - {{ name: kube1, role: control-plane, board: rpi-4b-4gb, address: 10.0.0.50, mac: \"dc:a6:32:00:00:01\" }}\n"
        );
        fs::write(bench.path("bramble.yaml"), file).unwrap();
        bench
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn name(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// Makes the image of a disk, in the file `image`.
    pub fn image(&self, label: &str, files: &[(&str, &str)]) -> Vec<u8> {
        image(self.dir.path(), "label: dos\nlabel-id: 0xb4a3b1e5", ["c", "83"], label, files)
    }

    pub fn run(&self, args: &[&str]) -> Output {
        let mut command = bramble();
        command.current_dir(self.dir.path()).args(args).env("HOME", self.dir.path()).env_remove("XDG_CACHE_HOME");
        command.output().unwrap()
    }

    pub fn build(&self, to: &str) -> Output {
        self.run(&["image", "build", "kube1", "-t", to])
    }

    /// Builds, and lets others judge what came of it: the tools of FAT and of partition tables find no fault, and nothing
    /// outside of the boot partition is another byte. `before`: the image's.
    pub fn built(&self, before: &[u8]) -> Disk {
        let disk = self.path("disk");
        fs::remove_file(&disk).ok();
        assert_code(&self.build("disk"), 0);
        let after = fs::read(&disk).unwrap();
        assert_eq!(after.len(), before.len());
        assert!(after[..START] == before[..START], "the partition table, or what lies behind it");
        assert!(after[START + BOOT..] == before[START + BOOT..], "the root partition");
        let boot = self.path("boot-after");
        fs::write(&boot, &after[START..START + BOOT]).unwrap();
        tool("fsck.vfat", &["-n", &boot.display().to_string()]);
        tool("sfdisk", &["--verify", &disk.display().to_string()]);
        Disk { boot }
    }
}
