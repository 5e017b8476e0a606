//! Boards without anything on their disks, which boot from the network: machines in QEMU with UEFI of their own (OVMF) on a real
//! bridge, beside a router that is the network's DHCP server.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use super::machine::{AMD64, CLOUD_INIT, inside, system};
use crate::common::disk::{assemble, tool};
use crate::common::{assert_code, program, text};

const STUB: &str = "/usr/lib/systemd/boot/efi/linuxx64.efi.stub";
const FIRMWARE: &str = "/usr/share/OVMF/OVMF_CODE_4M.fd";
const VARIABLES: &str = "/usr/share/OVMF/OVMF_VARS_4M.fd";

/// A network with some boards, this machine and a router.
struct Shelf {
    dir: tempfile::TempDir,
    network: String,
    router: String,
    running: Vec<(String, Child)>,
}

impl Shelf {
    /// A shelf of boards `kube1`, `kube2`, …; its cluster file leaves the last `unknown` out.
    fn new(number: u8, boards: u8) -> Shelf {
        let dir = tempfile::tempdir().unwrap();
        let own = std::process::id();
        let (network, router) = (format!("t-net{number}-{own}"), format!("t-router{number}-{own}"));
        for name in [&network, &router] {
            tool("ip", &["netns", "add", name]);
        }
        let shelf = Shelf { dir, network, router, running: Vec::new() };
        let here = |command: &str| {
            tool("ip", &[&["-n", shelf.network.as_str()], command.split(' ').collect::<Vec<_>>().as_slice()].concat());
        };
        here("link set lo up");
        here("link add shelf type bridge forward_delay 0");
        here("address add 10.80.0.1/24 dev shelf");
        here("link set shelf up");
        here(&format!("link add router type veth peer name lan netns {}", shelf.router));
        here("link set router master shelf up");
        for board in 1..=boards {
            here(&format!("tuntap add board{board} mode tap"));
            here(&format!("link set board{board} master shelf up"));
        }
        for command in ["link set lo up", "address add 10.80.0.254/24 dev lan", "link set lan up"] {
            tool("ip", &[&["-n", shelf.router.as_str()], command.split(' ').collect::<Vec<_>>().as_slice()].concat());
        }
        tool("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-f", &shelf.path("key")]);
        shelf.write_file(boards, "");
        shelf.image();
        shelf
    }

    fn write_file(&self, boards: u8, more: &str) {
        let lines: String = (1..=boards)
            .map(|board| {
                format!(
                    "  - {{ name: kube{board}, role: worker, board: generic-amd64, address: 10.80.0.{}, mac: \"{}\" }}\n",
                    50 + board,
                    mac(board)
                )
            })
            .collect();
        let text = format!(
            "cluster: shelf\naccess: {{ user: ada, keys: [key] }}\nnetwork: {{ subnet: 10.80.0.0/24, gateway: 10.80.0.254 }}\n\
             image: {{ file: image }}\ndistribution: none\n{more}nodes:\n{lines}"
        );
        fs::write(self.dir.path().join("bramble.yaml"), text).unwrap();
    }

    /// The image: that of Debian 13 with cloud-init, which boots by UEFI from a kernel, initrd and command line in one file, as
    /// systemd-boot has them.
    fn image(&self) {
        let parts = system(&AMD64, &CLOUD_INIT);
        let line = "console=ttyS0 root=PARTUUID=b4a3b1e5-02 rootfstype=ext4 rootwait\n";
        let given = |name: &str, content: &str| {
            let path = self.dir.path().join(format!("given-{name}"));
            fs::write(&path, content).unwrap();
            path
        };
        let line = given("cmdline.txt", line);
        let loader = self.dir.path().join("loader");
        let section = |name: &str, file: &Path, at: u32| {
            [
                "--add-section".to_owned(),
                format!(".{name}={}", file.display()),
                "--change-section-vma".to_owned(),
                format!(".{name}={at:#x}"),
            ]
        };
        let mut args = Vec::new();
        args.extend(section("cmdline", &line, 0x3_0000));
        args.extend(section("linux", &parts.join("vmlinuz"), 0x200_0000));
        args.extend(section("initrd", &parts.join("initrd.img"), 0x600_0000));
        args.extend([STUB.to_owned(), loader.display().to_string()]);
        tool("objcopy", &args.iter().map(String::as_str).collect::<Vec<_>>());
        let mut files = vec![
            ("vmlinuz", parts.join("vmlinuz")),
            ("initrd.img", parts.join("initrd.img")),
            ("EFI/BOOT/BOOTX64.EFI", loader),
            ("cmdline.txt", line),
        ];
        files.extend(CLOUD_INIT.boot_files.iter().map(|(name, content)| (*name, given(name, content))));
        assemble(
            self.dir.path(),
            "label: dos\nlabel-id: 0xb4a3b1e5",
            ["ef", "83"],
            "bootfs",
            &files,
            &parts.join("root"),
        );
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = inside(Some(&self.network), &program("bramble").display().to_string());
        command.args(arguments).current_dir(self.dir.path()).env("HOME", self.dir.path()).env("NO_COLOR", "1");
        command.stdin(Stdio::null()).env_remove("SSH_AUTH_SOCK");
        command
    }

    fn bramble(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Starts `bramble netboot`, whose words go into the file `netboot`.
    fn netboot(&self, arguments: &[&str]) -> Child {
        let installers = installers();
        let said = fs::File::create(self.dir.path().join("netboot")).unwrap();
        let mut command = self.command(&["netboot", "--installers", &installers.display().to_string()]);
        command.args(arguments).stdout(said.try_clone().unwrap()).stderr(said);
        command.spawn().unwrap()
    }

    fn said(&self) -> String {
        fs::read_to_string(self.dir.path().join("netboot")).unwrap_or_default()
    }

    fn wait_until(&self, what: &str, mut is: impl FnMut() -> bool) {
        let began = Instant::now();
        while !is() {
            assert!(began.elapsed() < Duration::from_secs(900), "{what}\n{}\n{}", self.said(), self.consoles());
            std::thread::sleep(Duration::from_millis(500));
        }
    }

    fn ends_well(&self, mut netboot: Child) {
        let mut code = None;
        self.wait_until("netboot does not end", || {
            code = netboot.try_wait().unwrap();
            code.is_some()
        });
        assert!(code.unwrap().success(), "{}\n{}", self.said(), self.consoles());
    }

    fn consoles(&self) -> String {
        let tail = |(name, _): &(String, Child)| {
            let text = String::from_utf8_lossy(&fs::read(self.path(&format!("{name}.console"))).unwrap_or_default())
                .into_owned();
            let lines: Vec<&str> = text.lines().collect();
            format!("--- {name}\n{}\n", lines[lines.len().saturating_sub(40)..].join("\n"))
        };
        self.running.iter().map(tail).collect()
    }

    /// Starts the router: it gives addresses, and knows nothing of anything to boot.
    fn router(&mut self) {
        let mut dnsmasq = inside(Some(&self.router), "dnsmasq");
        dnsmasq.args([
            "--keep-in-foreground",
            "--conf-file=/dev/null",
            "--port=0",
            "--interface=lan",
            "--no-ping",
            "--leasefile-ro",
        ]);
        dnsmasq.args(["--dhcp-range=10.80.0.100,10.80.0.150,1h", "--user=root", "--log-facility=-"]);
        dnsmasq.stderr(fs::File::create(self.path("router.console")).unwrap());
        self.running.push(("router".into(), dnsmasq.spawn().unwrap()));
    }

    /// Gives a board power: its firmware tries its disk, and then the network.
    fn switch_on(&mut self, board: u8) {
        let name = format!("kube{board}");
        let (disk, variables) = (self.path(&format!("{name}.disk")), self.path(&format!("{name}.variables")));
        if !Path::new(&disk).exists() {
            fs::File::create(&disk).unwrap().set_len(2 << 30).unwrap();
            fs::copy(VARIABLES, &variables).unwrap();
        }
        let console =
            fs::File::options().append(true).create(true).open(self.path(&format!("{name}.console"))).unwrap();
        let mut qemu = inside(Some(&self.network), "qemu-system-x86_64");
        qemu.args([
            "-machine",
            "q35",
            "-cpu",
            "max",
            "-accel",
            "tcg",
            "-smp",
            "2",
            "-m",
            "1024",
            "-nodefaults",
            "-display",
            "none",
        ]);
        qemu.args(["-drive", &format!("if=pflash,format=raw,readonly=on,file={FIRMWARE}")]);
        qemu.args(["-drive", &format!("if=pflash,format=raw,file={variables}")]);
        qemu.args(["-drive", &format!("file={disk},format=raw,if=none,id=disk")]);
        qemu.args(["-device", "virtio-blk-pci,drive=disk,bootindex=1"]);
        qemu.args(["-netdev", &format!("tap,id=net,ifname=board{board},script=no,downscript=no")]);
        qemu.args(["-device", &format!("virtio-net-pci,netdev=net,mac={},bootindex=2,romfile=", mac(board))]);
        qemu.args(["-device", "virtio-rng-pci", "-serial", "stdio"]);
        qemu.stdin(Stdio::null()).stderr(console.try_clone().unwrap()).stdout(console);
        self.running.push((name, qemu.spawn().unwrap()));
    }

    /// Takes a board's power.
    fn cut(&mut self, board: u8) {
        let name = format!("kube{board}");
        let at = self.running.iter().position(|(running, _)| *running == name).unwrap();
        let (_, mut qemu) = self.running.remove(at);
        qemu.kill().unwrap();
        qemu.wait().unwrap();
    }

    /// Meets a board under the key that was made for it, and no other one.
    fn meet(&self, board: u8) {
        let name = format!("kube{board}");
        let mut last = String::new();
        self.wait_until("it does not answer", || {
            let met = self.bramble(&["run", "-n", &name, "hostname"]);
            last = text(&met);
            assert!(!last.contains("key"), "{last}");
            met.status.success()
        });
        assert!(last.contains(&name), "{last}");
    }
}

impl Drop for Shelf {
    fn drop(&mut self) {
        for (_, child) in &mut self.running {
            child.kill().ok();
            child.wait().ok();
        }
        for name in [&self.network, &self.router] {
            Command::new("ip").args(["netns", "delete", name]).status().ok();
        }
    }
}

fn mac(board: u8) -> String {
    format!("52:54:00:80:00:{board:02x}")
}

/// The folder of the program that writes disks, linked statically, built once.
fn installers() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap();
    let made = Command::new("make").args(["--silent", "installer"]).current_dir(root).output().unwrap();
    assert_code(&made, 0);
    root.join("target/installer")
}

#[test]
#[ignore = "needs root: `make test`"]
fn a_board_without_a_card_writes_its_disk_beside_the_dhcp_server_of_the_network_and_is_met_under_its_key() {
    let mut shelf = Shelf::new(1, 1);
    shelf.router();
    let netboot = shelf.netboot(&["kube1", "--yes"]);
    shelf.switch_on(1);
    shelf.ends_well(netboot);
    shelf.meet(1);
}
