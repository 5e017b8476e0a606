//! A board that is a machine in QEMU, with the disk that `bramble flash` wrote, and what its firmware does.

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::common::disk::{BOOT, ISSUE, SMALL_INITRD, START, assemble, tool};
use crate::common::{Rack, assert_code, program, read, text};

/// What is asked of the machine that a board is.
pub(crate) struct Machine {
    pub(crate) arch: &'static str,
    board: &'static str,
    kernel: &'static str,
    program: &'static str,
    options: &'static [&'static str],
    console: &'static str,
}

pub(crate) const AMD64: Machine = Machine {
    arch: "amd64",
    board: "generic-amd64",
    kernel: "linux-image-cloud-amd64",
    program: "qemu-system-x86_64",
    options: &["-machine", "q35", "-cpu", "max"],
    console: "ttyS0",
};

pub(crate) const ARM64: Machine = Machine {
    arch: "arm64",
    board: "generic-arm64",
    kernel: "linux-image-cloud-arm64",
    program: "qemu-system-aarch64",
    options: &["-machine", "virt", "-cpu", "cortex-a72"],
    console: "ttyAMA0",
};

/// How a system learns who it is.
pub(crate) struct System {
    name: &'static str,
    suite: &'static str,
    packages: &'static str,
    /// Done in the root when all is installed.
    hook: &'static str,
    pub(crate) boot_files: &'static [(&'static str, &'static str)],
}

const SEED: &[(&str, &str)] = &[("user-data", ""), ("meta-data", "instance_id: rpi-image\n"), ("network-config", "")];

/// As Raspberry Pi OS has it since Debian 13: cloud-init, and netplan in front of NetworkManager.
pub(crate) const CLOUD_INIT: System = System {
    name: "cloud-init",
    suite: "trixie",
    packages: "cloud-init,cloud-guest-utils,e2fsprogs,fdisk,netplan.io,network-manager,locales",
    // rpi-cloud-init-mods: its data are read where the boot partition is mounted.
    hook: "echo \"datasource: {NoCloud: {seedfrom: \\\"file:///boot/firmware/\\\"}}\" >/etc/cloud/cloud.cfg.d/99-boot.cfg; \
           mkdir -p /etc/systemd/system/cloud-init-local.service.d; \
           printf \"[Unit]\\nRequiresMountsFor=/boot/firmware\\n\" >/etc/systemd/system/cloud-init-local.service.d/boot.conf; \
           echo \"network: {version: 2, renderer: NetworkManager}\" >/usr/lib/netplan/00-network-manager-all.yaml; \
           chmod 600 /usr/lib/netplan/00-network-manager-all.yaml",
    boot_files: SEED,
};

/// As Ubuntu has it: netplan in front of networkd, and resolved.
pub(crate) const CLOUD_INIT_NETWORKD: System = System {
    name: "cloud-init-networkd",
    suite: "trixie",
    packages: "cloud-init,cloud-guest-utils,e2fsprogs,fdisk,netplan.io,systemd-resolved,locales",
    // Ubuntu's cloud-init knows the name of its boot partition.
    hook: "echo \"datasource: {NoCloud: {fs_label: bootfs}}\" >/etc/cloud/cloud.cfg.d/99-boot.cfg",
    boot_files: SEED,
};

/// As Raspberry Pi OS had it up to Debian 12.
pub(crate) const FIRSTRUN: System = System {
    name: "firstrun",
    suite: "bookworm",
    packages: "network-manager,locales,dosfstools,e2fsprogs,fdisk",
    hook: "useradd --create-home --shell /bin/bash --groups sudo pi && ssh-keygen -A",
    boot_files: &[ISSUE],
};

/// The folder with a system's `vmlinuz`, `initrd.img` and `root` (ext4), made once.
pub(crate) fn system(machine: &Machine, system: &System) -> PathBuf {
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap();
    let base = Path::new(env!("CARGO_TARGET_TMPDIR")).join("boot");
    let done = base.join(format!("{}-{}-{}", system.name, system.suite, machine.arch));
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
            system.suite,
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

/// A board, and the folder of the cluster file that names it.
pub(crate) struct Board {
    pub(crate) dir: PathBuf,
    pub(crate) name: String,
    address: &'static str,
    user: &'static str,
    key: String,
    /// What its disk has beside the image, in MiB.
    room: u64,
    memory: &'static str,
    /// Its disks, and the folder of the cluster file if that is its own.
    disks: tempfile::TempDir,
    /// The namespace that is its network; a board beside a rack has none.
    network: Option<String>,
    /// Its link's name outside of it.
    link: String,
    off: Arc<AtomicBool>,
    starts: Arc<AtomicU32>,
    running: Arc<Mutex<Option<Child>>>,
    firmware: Option<JoinHandle<()>>,
}

const MAC: &str = "52:54:00:79:00:50";

/// The board's line in a cluster file.
fn line(name: &str, machine: &Machine, address: &str) -> String {
    format!("  - {{ name: {name}, role: worker, board: {}, address: {address}, mac: \"{MAC}\" }}\n", machine.board)
}

impl Board {
    /// A shelf of one board, in a network of its own.
    pub(crate) fn alone(number: u8, machine: &Machine, system: &System) -> Board {
        let disks = tempfile::tempdir().unwrap();
        let network = format!("t-boot{number}-{}", std::process::id());
        tool("ip", &["netns", "add", &network]);
        let board = Board {
            dir: disks.path().to_owned(),
            name: "kube1".into(),
            address: "10.79.0.50",
            user: "ada",
            key: "key".into(),
            room: 64,
            memory: "1024",
            disks,
            network: Some(network.clone()),
            link: "board".into(),
            off: Arc::default(),
            starts: Arc::default(),
            running: Arc::default(),
            firmware: None,
        };
        for command in
            ["link set lo up", "tuntap add board mode tap", "address add 10.79.0.1/24 dev board", "link set board up"]
        {
            tool("ip", &[&["-n", network.as_str()], command.split(' ').collect::<Vec<_>>().as_slice()].concat());
        }
        tool("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-f", &board.path("key")]);
        let file = format!(
            "cluster: shelf\naccess: {{ user: ada, keys: [key] }}\nnetwork: {{ subnet: 10.79.0.0/24, gateway: 10.79.0.1 }}\n\
             image: {{ file: image }}\ndistribution: none\n\
             prepare: {{ timezone: Europe/Berlin, locale: en_GB.UTF-8 }}\nnodes:\n{}",
            line(&board.name, machine, board.address)
        );
        fs::write(board.dir.join("bramble.yaml"), file).unwrap();
        board.assemble(machine, system);
        board
    }

    /// A worker more beside the boards of a rack, in its network and its cluster file.
    pub(crate) fn beside(rack: &Rack, machine: &Machine, system: &System, address: &'static str) -> Board {
        let shown = tool("ip", &["-o", "-4", "address", "show", "to", &format!("{address}/24")]);
        let bridge = String::from_utf8(shown.stdout).unwrap().split_whitespace().nth(1).unwrap().to_owned();
        let link = format!("tb{}", std::process::id());
        tool("ip", &["tuntap", "add", &link, "mode", "tap"]);
        tool("ip", &["link", "set", &link, "master", &bridge, "up"]);
        let file = read(&rack.file());
        let (_, key) = file.split_once("keys: [").unwrap();
        let board = Board {
            dir: rack.dir.path().to_owned(),
            name: format!("{}-qemu", rack.name),
            address,
            user: "pi",
            key: key.split(']').next().unwrap().to_owned(),
            room: 4096,
            memory: "2048",
            disks: tempfile::tempdir().unwrap(),
            network: None,
            link,
            off: Arc::default(),
            starts: Arc::default(),
            running: Arc::default(),
            firmware: None,
        };
        let image = format!("image: {{ file: {} }}\ndistribution:", board.path("image"));
        let gateway = bridge_address(&bridge);
        let file = file.replace("distribution:", &image).replace("subnet:", &format!("gateway: {gateway}, subnet:"));
        fs::write(rack.file(), format!("{file}{}", line(&board.name, machine, address))).unwrap();
        board.assemble(machine, system);
        board
    }

    /// Makes the image of its system.
    fn assemble(&self, machine: &Machine, system_of: &System) {
        let parts = system(machine, system_of);
        let given = |name: &str, content: &str| {
            let path = self.disks.path().join(format!("given-{name}"));
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
        assemble(self.disks.path(), table, ["c", "83"], "bootfs", &files, &parts.join("root"));
    }

    /// A file beside its disks.
    fn path(&self, name: &str) -> String {
        self.disks.path().join(name).display().to_string()
    }

    /// A program of this machine, in the network of the board.
    pub(crate) fn command(&self, program: &str, args: &[&str]) -> Command {
        let mut command = inside(self.network.as_deref(), program);
        command.args(args).current_dir(&self.dir).env("HOME", &self.dir).env("NO_COLOR", "1");
        command.stdin(Stdio::null()).env_remove("SSH_AUTH_SOCK");
        command
    }

    pub(crate) fn bramble(&self, args: &[&str]) -> Output {
        self.command(&program("bramble").display().to_string(), args).output().unwrap()
    }

    /// Writes the board's disk.
    pub(crate) fn flash(&self) {
        let disk = self.path("disk");
        let size = fs::metadata(self.path("image")).unwrap().len() + (self.room << 20);
        fs::File::create(&disk).unwrap().set_len(size).unwrap();
        fs::File::create(self.path("ssd")).unwrap().set_len(3 << 30).unwrap();
        let shown = tool("losetup", &["--find", "--show", &disk]);
        let shown = String::from_utf8(shown.stdout).unwrap();
        let output = self.bramble(&["flash", &self.name, "--yes", "--disk", shown.trim()]);
        tool("losetup", &["--detach", shown.trim()]);
        assert_code(&output, 0);
    }

    /// Gives the board power: it starts, and starts again whenever it wants to, until it is off.
    pub(crate) fn switch_on(&mut self, machine: &'static Machine) {
        let (off, starts, running) = (self.off.clone(), self.starts.clone(), self.running.clone());
        let (dir, network) = (self.disks.path().to_owned(), self.network.clone());
        let (link, memory) = (self.link.clone(), self.memory);
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
                let mut qemu = inside(network.as_deref(), machine.program);
                qemu.args(machine.options).args(["-accel", "tcg", "-smp", "2", "-m", memory]);
                qemu.args(["-nodefaults", "-display", "none", "-no-reboot"]);
                qemu.args(["-serial", "stdio", "-kernel", &name("vmlinuz"), "-initrd", &name("initrd.img")]);
                qemu.args(["-append", read(&dir.join("cmdline.txt")).trim()]);
                for disk in ["disk", "ssd"] {
                    qemu.args(["-drive", &format!("file={},format=raw,if=virtio", name(disk))]);
                }
                qemu.args(["-netdev", &format!("tap,id=net,ifname={link},script=no,downscript=no")]);
                qemu.args(["-device", &format!("virtio-net-pci,netdev=net,mac={MAC}"), "-device", "virtio-rng-pci"]);
                qemu.stdin(Stdio::null()).stderr(log.try_clone().unwrap()).stdout(log);
                *running.lock().unwrap() = Some(qemu.spawn().unwrap());
                while running.lock().unwrap().as_mut().unwrap().try_wait().unwrap().is_none() {
                    std::thread::sleep(Duration::from_millis(200));
                }
            }
        }));
    }

    /// How often it got as far as its firmware.
    pub(crate) fn starts(&self) -> u32 {
        self.starts.load(Ordering::SeqCst)
    }

    pub(crate) fn console(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.path("console")).unwrap_or_default()).into_owned()
    }

    /// Meets the board, as soon as it answers. Whatever it says before, it never shows another key.
    pub(crate) fn meet(&self) {
        let mut said = String::new();
        let started = std::time::Instant::now();
        loop {
            let met = self.bramble(&["run", "-n", &self.name, "true"]);
            said.push_str(&text(&met));
            if met.status.success() {
                break;
            }
            let console = self.console();
            let tail: Vec<&str> = console.lines().rev().take(40).collect();
            assert!(
                started.elapsed() < Duration::from_secs(600),
                "the board does not answer: {said}\n{}",
                tail.into_iter().rev().collect::<Vec<_>>().join("\n")
            );
            std::thread::sleep(Duration::from_secs(1));
        }
        assert!(!said.contains("key"), "{said}");
    }

    pub(crate) fn on_board(&self, script: &str) -> String {
        let to = format!("{}@{}", self.user, self.address);
        let known = ["-o", "StrictHostKeyChecking=yes", "-o", "UserKnownHostsFile=.bramble/known_hosts"];
        let output = self.command("ssh", &[&["-i", &self.key], &known[..], &[&to, script]].concat()).output().unwrap();
        assert!(output.status.success(), "{}\n{}", text(&output), self.console());
        String::from_utf8(output.stdout).unwrap()
    }

    /// Starts its system again, and meets it.
    pub(crate) fn reboot(&self) {
        let before = self.starts();
        self.on_board("sudo systemd-run --quiet --on-active=1 systemctl reboot");
        while self.starts() == before {
            std::thread::sleep(Duration::from_millis(200));
        }
        self.meet();
    }

    /// Ends its system in order.
    pub(crate) fn switch_off(&mut self) {
        self.off.store(true, Ordering::SeqCst);
        // The connection ends with it.
        self.on_board("sudo systemd-run --quiet --on-active=1 systemctl poweroff");
        self.firmware.take().unwrap().join().unwrap();
    }

    /// That the private key of the board is not where anybody reads it.
    pub(crate) fn assert_keeps_its_key(&self) {
        let disk = fs::read(self.path("disk")).unwrap();
        let private = read(&self.dir.join(".bramble/host-keys").join(&self.name));
        let line = private.lines().nth(2).unwrap().as_bytes();
        let within = |bytes: &[u8]| bytes.windows(line.len()).any(|window| window == line);
        assert!(!within(&disk[START..START + BOOT]), "the private key is on the boot partition");
    }
}

/// A program in a network namespace, or in that of this machine.
pub(crate) fn inside(network: Option<&str>, program: &str) -> Command {
    let Some(network) = network else { return Command::new(program) };
    let mut command = Command::new("ip");
    command.args(["netns", "exec", network, program]);
    command
}

/// The address of this machine on a bridge.
fn bridge_address(bridge: &str) -> String {
    let shown = tool("ip", &["-o", "-4", "address", "show", "dev", bridge]);
    let shown = String::from_utf8(shown.stdout).unwrap();
    shown.split_whitespace().nth(3).unwrap().split('/').next().unwrap().to_owned()
}

impl Drop for Board {
    fn drop(&mut self) {
        self.off.store(true, Ordering::SeqCst);
        while self.firmware.as_ref().is_some_and(|firmware| !firmware.is_finished()) {
            if let Some(qemu) = self.running.lock().unwrap().as_mut() {
                qemu.kill().ok();
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        let gone = match &self.network {
            Some(network) => ["netns", "delete", network],
            None => ["link", "delete", &self.link],
        };
        // Whatever else went wrong, the rack is still to be taken down.
        Command::new("ip").args(gone).status().ok();
    }
}
