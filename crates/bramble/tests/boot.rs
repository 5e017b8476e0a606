//! Boards that boot for real, in QEMU, from a disk that `bramble flash` wrote.
//!
//! What the firmware of a Raspberry Pi does is done by the test: whenever the board starts, it takes the kernel, its initrd
//! and its command line from the boot partition. The system is Debian, with Debian's own cloud-init and netplan, or with
//! NetworkManager and a user of its own, as Raspberry Pi OS has them.

#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use common::disk::{BOOT, ISSUE, SMALL_INITRD, START, assemble, tool};
use common::{assert_code, program, read, text};

/// What is asked of the machine that a board is.
struct Machine {
    arch: &'static str,
    board: &'static str,
    kernel: &'static str,
    program: &'static str,
    options: &'static [&'static str],
    console: &'static str,
}

const AMD64: Machine = Machine {
    arch: "amd64",
    board: "generic-amd64",
    kernel: "linux-image-cloud-amd64",
    program: "qemu-system-x86_64",
    options: &["-machine", "q35", "-cpu", "max"],
    console: "ttyS0",
};

const ARM64: Machine = Machine {
    arch: "arm64",
    board: "generic-arm64",
    kernel: "linux-image-cloud-arm64",
    program: "qemu-system-aarch64",
    options: &["-machine", "virt", "-cpu", "cortex-a72"],
    console: "ttyAMA0",
};

/// How a system learns who it is.
struct System {
    name: &'static str,
    packages: &'static str,
    /// Done in the root when all is installed.
    hook: &'static str,
    boot_files: &'static [(&'static str, &'static str)],
}

const CLOUD_INIT: System = System {
    name: "cloud-init",
    packages: "cloud-init,cloud-guest-utils,e2fsprogs,fdisk,netplan.io,systemd-resolved,locales",
    // As Raspberry Pi OS and Ubuntu have it, each with the name of its own boot partition.
    hook: "echo \"datasource: {NoCloud: {fs_label: bootfs}}\" >/etc/cloud/cloud.cfg.d/99-boot.cfg",
    boot_files: &[("user-data", ""), ("meta-data", "instance_id: rpi-image\n"), ("network-config", "")],
};

const FIRSTRUN: System = System {
    name: "firstrun",
    packages: "network-manager,locales,dosfstools,e2fsprogs,fdisk",
    hook: "useradd --create-home --shell /bin/bash --groups sudo pi && ssh-keygen -A",
    boot_files: &[ISSUE],
};

/// The folder with a system's `vmlinuz`, `initrd.img` and `root` (ext4), made once.
fn system(machine: &Machine, system: &System) -> PathBuf {
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap();
    let base = Path::new(env!("CARGO_TARGET_TMPDIR")).join("boot");
    let done = base.join(format!("{}-{}", system.name, machine.arch));
    if done.exists() {
        return done;
    }
    fs::create_dir_all(&base).unwrap();
    let work = tempfile::tempdir_in(&base).unwrap();
    let name = |name: &str| work.path().join(name).display().to_string();
    let root = name("tree");
    let packages = format!(
        "--include=systemd-sysv,udev,dbus,kmod,iproute2,procps,tzdata,initramfs-tools,openssh-server,sudo,{},{}",
        system.packages, machine.kernel
    );
    let fstab = "--customize-hook=printf 'PARTUUID=b4a3b1e5-02 / ext4 defaults 0 1\\n\
         PARTUUID=b4a3b1e5-01 /boot/firmware vfat defaults 0 2\\n' >\"$1/etc/fstab\"; mkdir \"$1/boot/firmware\"; \
         rm -f \"$1\"/etc/ssh/ssh_host_*";
    let hook = format!("--customize-hook=chroot \"$1\" sh -c '{}'", system.hook);
    tool(
        "mmdebstrap",
        &[
            "--quiet",
            "--mode=root",
            "--variant=apt",
            "--aptopt=Apt::Install-Recommends \"false\"",
            &format!("--architectures={}", machine.arch),
            &packages,
            SMALL_INITRD,
            fstab,
            &hook,
            "bookworm",
            &root,
        ],
    );
    let take =
        format!("cp {root}/boot/vmlinuz-* {}; cp {root}/boot/initrd.img-* {}", name("vmlinuz"), name("initrd.img"));
    tool("sh", &["-c", &take]);
    tool("mkfs.ext4", &["-q", "-L", "rootfs", "-d", &root, &name("root"), "1300M"]);
    fs::remove_dir_all(&root).unwrap();
    fs::rename(work.keep(), &done).unwrap();
    done
}

/// A shelf of one board in a network of its own.
struct Shelf {
    dir: tempfile::TempDir,
    network: String,
    off: Arc<AtomicBool>,
    starts: Arc<AtomicU32>,
    running: Arc<Mutex<Option<Child>>>,
    firmware: Option<JoinHandle<()>>,
}

const MAC: &str = "52:54:00:79:00:50";

impl Shelf {
    fn new(number: u8, machine: &Machine, system_of: &System) -> Shelf {
        let parts = system(machine, system_of);
        let dir = tempfile::tempdir().unwrap();
        let network = format!("t-boot{number}-{}", std::process::id());
        tool("ip", &["netns", "add", &network]);
        let shelf = Shelf {
            dir,
            network,
            off: Arc::default(),
            starts: Arc::default(),
            running: Arc::default(),
            firmware: None,
        };
        for command in
            ["link set lo up", "tuntap add board mode tap", "address add 10.79.0.1/24 dev board", "link set board up"]
        {
            tool("ip", &[&["-n", shelf.network.as_str()], command.split(' ').collect::<Vec<_>>().as_slice()].concat());
        }
        tool("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-f", &shelf.name("key")]);
        let file = format!(
            "cluster: shelf\naccess: {{ user: ada, keys: [key] }}\nnetwork: {{ subnet: 10.79.0.0/24, gateway: 10.79.0.1 }}\n\
             image: {{ file: image }}\ndistribution: none\n\
             prepare: {{ timezone: Europe/Berlin, locale: en_GB.UTF-8 }}\n\
             nodes:\n  - {{ name: kube1, role: worker, board: {}, address: 10.79.0.50, mac: \"{MAC}\" }}\n",
            machine.board
        );
        fs::write(shelf.dir.path().join("bramble.yaml"), file).unwrap();
        let given = |name: &str, content: &str| {
            let path = shelf.dir.path().join(format!("given-{name}"));
            fs::write(&path, content).unwrap();
            path
        };
        let cmdline = format!("console={} root=PARTUUID=b4a3b1e5-02 rootfstype=ext4 rootwait\n", machine.console);
        let mut files = vec![
            ("vmlinuz", parts.join("vmlinuz")),
            ("initrd.img", parts.join("initrd.img")),
            ("cmdline.txt", given("cmdline.txt", &cmdline)),
            ("config.txt", given("config.txt", "arm_64bit=1\n")),
        ];
        files.extend(system_of.boot_files.iter().map(|(name, content)| (*name, given(name, content))));
        let table = "label: dos\nlabel-id: 0xb4a3b1e5";
        assemble(shelf.dir.path(), table, ["c", "83"], "bootfs", &files, &parts.join("root"));
        shelf
    }

    fn name(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    /// A program of this machine, in the network of the board.
    fn command(&self, program: &str, args: &[&str]) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.network, program]).args(args);
        command.current_dir(self.dir.path()).env("HOME", self.dir.path()).env("NO_COLOR", "1");
        command.stdin(Stdio::null()).env_remove("SSH_AUTH_SOCK");
        command
    }

    fn bramble(&self, args: &[&str]) -> Output {
        self.command(&program("bramble").display().to_string(), args).output().unwrap()
    }

    /// Writes the board's disk.
    fn flash(&self) {
        let disk = self.name("disk");
        let size = fs::metadata(self.dir.path().join("image")).unwrap().len() + (64 << 20);
        fs::File::create(&disk).unwrap().set_len(size).unwrap();
        fs::File::create(self.name("ssd")).unwrap().set_len(3 << 30).unwrap();
        let shown = tool("losetup", &["--find", "--show", &disk]);
        let shown = String::from_utf8(shown.stdout).unwrap();
        let output = self.bramble(&["flash", "kube1", "--yes", "--disk", shown.trim()]);
        tool("losetup", &["--detach", shown.trim()]);
        assert_code(&output, 0);
    }

    /// Gives the board power: it starts, and starts again whenever it wants to, until it is off.
    fn switch_on(&mut self, machine: &'static Machine) {
        let (off, starts, running) = (self.off.clone(), self.starts.clone(), self.running.clone());
        let (dir, network) = (self.dir.path().to_owned(), self.network.clone());
        self.firmware = Some(std::thread::spawn(move || {
            let name = |name: &str| dir.join(name).display().to_string();
            while !off.load(Ordering::SeqCst) {
                starts.fetch_add(1, Ordering::SeqCst);
                // As with the boot order "usb, sd".
                let mut start = [0; 512];
                fs::File::open(dir.join("ssd")).unwrap().read_exact(&mut start).unwrap();
                let disk = if start[510..] == [0x55, 0xaa] { "ssd" } else { "disk" };
                let boot = format!("{}@@{START}", name(disk));
                for file in ["vmlinuz", "initrd.img", "cmdline.txt"] {
                    tool("mcopy", &["-n", "-o", "-i", &boot, &format!("::{file}"), &name(file)]);
                }
                let mut log = fs::File::options().append(true).create(true).open(dir.join("console")).unwrap();
                writeln!(log, "the firmware boots from {disk}: {}", read(&dir.join("cmdline.txt")).trim()).unwrap();
                let mut qemu = Command::new("ip");
                qemu.args(["netns", "exec", &network, machine.program]).args(machine.options);
                qemu.args([
                    "-accel",
                    "tcg",
                    "-smp",
                    "2",
                    "-m",
                    "1024",
                    "-nodefaults",
                    "-display",
                    "none",
                    "-no-reboot",
                ]);
                qemu.args(["-serial", "stdio", "-kernel", &name("vmlinuz"), "-initrd", &name("initrd.img")]);
                qemu.args(["-append", read(&dir.join("cmdline.txt")).trim()]);
                for disk in ["disk", "ssd"] {
                    qemu.args(["-drive", &format!("file={},format=raw,if=virtio", name(disk))]);
                }
                qemu.args(["-netdev", "tap,id=net,ifname=board,script=no,downscript=no"]);
                qemu.args(["-device", &format!("virtio-net-pci,netdev=net,mac={MAC}"), "-device", "virtio-rng-pci"]);
                qemu.stdin(Stdio::null()).stderr(log.try_clone().unwrap()).stdout(log);
                *running.lock().unwrap() = Some(qemu.spawn().unwrap());
                while running.lock().unwrap().as_mut().unwrap().try_wait().unwrap().is_none() {
                    std::thread::sleep(Duration::from_millis(200));
                }
            }
        }));
    }

    fn console(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.dir.path().join("console")).unwrap_or_default()).into_owned()
    }

    /// Meets the board, as soon as it answers. Whatever it says before, it never shows another key.
    fn meet(&self) {
        let mut said = String::new();
        let started = std::time::Instant::now();
        loop {
            let met = self.bramble(&["run", "true"]);
            said.push_str(&text(&met));
            if met.status.success() {
                break;
            }
            let console = self.console();
            let tail: Vec<&str> = console.lines().rev().take(40).collect();
            assert!(
                started.elapsed() < Duration::from_secs(400),
                "the board does not answer: {said}\n{}",
                tail.into_iter().rev().collect::<Vec<_>>().join("\n")
            );
            std::thread::sleep(Duration::from_secs(1));
        }
        assert!(!said.contains("key"), "{said}");
    }

    fn on_board(&self, script: &str) -> String {
        let args = ["-i", "key", "-o", "StrictHostKeyChecking=yes", "-o", "UserKnownHostsFile=.bramble/known_hosts"];
        let output = self.command("ssh", &[&args[..], &["ada@10.79.0.50", script]].concat()).output().unwrap();
        assert!(output.status.success(), "{}\n{}", text(&output), self.console());
        String::from_utf8(output.stdout).unwrap()
    }

    /// Moves the board's system from its card to an SSD.
    fn move_root(&self) {
        for (disk, why) in [("/dev/vda", "already"), ("/dev/vdc", "is no disk of it; there are: /dev/vda /dev/vdb")] {
            let refused = self.bramble(&["move-root", "kube1", "--yes", "--to", disk]);
            assert!(text(&refused).contains(why), "{}", text(&refused));
        }
        self.on_board("sudo mkfs.ext4 -q /dev/vdb && sudo mount /dev/vdb /mnt && sudo touch /mnt/precious");
        let refused = self.bramble(&["move-root", "kube1", "--yes", "--to", "/dev/vdb"]);
        assert!(text(&refused).contains("/dev/vdb is in use: /mnt"), "{}", text(&refused));
        self.on_board("sudo umount /mnt");
        let moved = self.bramble(&["move-root", "kube1", "--yes", "--to", "/dev/vdb"]);
        assert_code(&moved, 0);
        assert!(text(&moved).contains("it holds vdb ext4"), "{}", text(&moved));
        assert!(text(&moved).contains("device 254:16, 6291456 sectors, diskseq"), "{}", text(&moved));
        let before = self.starts.load(Ordering::SeqCst);
        self.bramble(&["run", "sudo systemd-run --quiet --on-active=1 systemctl reboot"]);
        while self.starts.load(Ordering::SeqCst) == before {
            std::thread::sleep(Duration::from_millis(200));
        }
        self.meet();
        assert_eq!(self.on_board("findmnt -nvo SOURCE /"), "/dev/vdb2\n", "{}", self.console());
        assert_eq!(self.on_board("findmnt -nvo SOURCE /boot/firmware"), "/dev/vdb1\n");
        let there = self.bramble(&["move-root", "kube1", "--yes", "--to", "/dev/vdb"]);
        assert!(text(&there).contains("runs from /dev/vdb already"), "{}", text(&there));
    }

    /// That the board is who it should be, is prepared by `bramble up`, and keeps no private key where anybody reads it.
    fn assert_is_kube1(mut self) {
        let said = self.on_board(
            "hostname; id -un; sudo -n id -u; cat /etc/timezone; ip -4 -o address show scope global | awk '{print $4}'; \
             ip route show default | awk '{print $3}'; ls /etc/ssh/ssh_host_*_key; cut -d: -f2 /etc/shadow >/dev/null 2>&1; echo $?",
        );
        assert_eq!(
            said.lines().collect::<Vec<_>>(),
            ["kube1", "ada", "0", "Europe/Berlin", "10.79.0.50/24", "10.79.0.1", "/etc/ssh/ssh_host_ed25519_key", "1"]
        );
        let args = ["-o", "BatchMode=yes", "-o", "PubkeyAuthentication=no", "-o", "StrictHostKeyChecking=yes"];
        let known = ["-o", "UserKnownHostsFile=.bramble/known_hosts", "ada@10.79.0.50", "true"];
        let refused = self.command("ssh", &[&args[..], &known].concat()).output().unwrap();
        assert_code(&refused, 255);
        // The methods that it offers: no password.
        assert!(text(&refused).contains("Permission denied (publickey)."), "{}", text(&refused));

        assert_code(&self.bramble(&["up", "--yes"]), 0);
        let again = self.bramble(&["plan"]);
        assert_code(&again, 0);

        self.off.store(true, Ordering::SeqCst);
        // The connection ends with it.
        let poweroff = self
            .command(
                &program("bramble").display().to_string(),
                &["run", "sudo systemd-run --quiet --on-active=1 systemctl poweroff"],
            )
            .output()
            .unwrap();
        assert_code(&poweroff, 0);
        self.firmware.take().unwrap().join().unwrap();
        let disk = fs::read(self.dir.path().join("disk")).unwrap();
        let private = read(&self.dir.path().join(".bramble/host-keys/kube1"));
        let line = private.lines().nth(2).unwrap().as_bytes();
        let within = |bytes: &[u8]| bytes.windows(line.len()).any(|window| window == line);
        assert!(!within(&disk[START..START + BOOT]), "the private key is on the boot partition");
    }
}

impl Drop for Shelf {
    fn drop(&mut self) {
        self.off.store(true, Ordering::SeqCst);
        while self.firmware.as_ref().is_some_and(|firmware| !firmware.is_finished()) {
            if let Some(qemu) = self.running.lock().unwrap().as_mut() {
                qemu.kill().ok();
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        tool("ip", &["netns", "delete", &self.network]);
    }
}

fn through(number: u8, machine: &'static Machine, system: &System) -> Shelf {
    let mut shelf = Shelf::new(number, machine, system);
    shelf.flash();
    shelf.switch_on(machine);
    shelf.meet();
    shelf
}

fn with_cloud_init(number: u8, machine: &'static Machine) {
    let shelf = through(number, machine, &CLOUD_INIT);
    let said = shelf.on_board("cloud-init status --wait");
    assert_eq!(said.trim().lines().last(), Some("status: done"));
    assert_eq!(shelf.starts.load(Ordering::SeqCst), 1);
    assert_eq!(shelf.on_board("sudo cloud-init schema --system"), "Valid cloud-config: system userdata\n");
    // What is left of the disk is the root's.
    assert_eq!(shelf.on_board("df -m --output=size / | tail -n 1 | awk '{ print ($1 > 1270) }'"), "1\n");
    shelf.assert_is_kube1();
}

fn with_firstrun(number: u8, machine: &'static Machine) {
    let shelf = through(number, machine, &FIRSTRUN);
    assert_eq!(shelf.starts.load(Ordering::SeqCst), 2, "once for the script, once for good");
    shelf.move_root();
    shelf.assert_is_kube1();
}

#[test]
#[ignore = "needs root: `make test`"]
fn a_board_with_cloud_init_is_met_at_its_first_boot_under_the_key_that_was_written() {
    with_cloud_init(1, &AMD64);
}

mod lives {
    use super::*;

    /// Debian carries the script as far as systemd, the user, the key, NetworkManager and the zone go. Raspberry Pi OS' own
    /// userconf and the stage before it, which gives the disk another id, are not in it.
    #[test]
    #[ignore = "needs root, and minutes: `make test-lives`"]
    fn a_board_with_firstrun_is_met_after_its_script_under_the_key_that_was_written() {
        with_firstrun(2, &AMD64);
    }
}

#[test]
#[ignore = "`make test-arm64` runs it: its root takes a quarter of an hour to make under emulation"]
fn an_arm64_board_with_cloud_init_is_met_at_its_first_boot() {
    with_cloud_init(3, &ARM64);
}

#[test]
#[ignore = "`make test-arm64` runs it: its root takes a quarter of an hour to make under emulation"]
fn an_arm64_board_with_firstrun_is_met_after_its_script() {
    with_firstrun(4, &ARM64);
}
