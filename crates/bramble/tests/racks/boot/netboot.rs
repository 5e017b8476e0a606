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
    /// A shelf of boards `kube1`, `kube2`, …, and the image of their system.
    fn new(number: u8, boards: u8) -> Shelf {
        let shelf = Shelf::empty(number, boards);
        shelf.write_file(boards, "");
        shelf.image();
        shelf
    }

    fn empty(number: u8, boards: u8) -> Shelf {
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

    fn netboot(&self, arguments: &[&str]) -> Child {
        self.netboot_with(&installers(), arguments)
    }

    /// Starts `bramble netboot`, whose words go into the file `netboot`.
    fn netboot_with(&self, installers: &Path, arguments: &[&str]) -> Child {
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

mod lives {
    use super::*;

    #[test]
    #[ignore = "needs root, and minutes: `make test-lives`"]
    fn a_board_without_a_card_writes_its_disk_beside_the_dhcp_server_of_the_network_and_is_met_under_its_key() {
        let mut shelf = Shelf::new(1, 1);
        shelf.router();
        let netboot = shelf.netboot(&["kube1", "--yes"]);
        shelf.switch_on(1);
        shelf.ends_well(netboot);
        shelf.meet(1);
    }

    #[test]
    #[ignore = "needs root, and minutes: `make test-lives`"]
    fn a_board_whose_power_goes_at_any_moment_never_boots_half_a_system_and_gets_its_system_later() {
        let mut shelf = Shelf::new(3, 1);
        shelf.router();
        let mut netboot = shelf.netboot(&["kube1", "--yes"]);
        let moments = [
            "kube1: boots",
            "kube1: runs",
            "kube1 writes /dev/vda",
            "kube1: 25 % written",
            "kube1: 50 % written",
            "kube1: 75 % written",
            "kube1: 25 % verified",
            "kube1: 50 % verified",
            "kube1: 75 % verified",
        ];
        for moment in moments {
            let before = shelf.said().matches(moment).count();
            shelf.switch_on(1);
            shelf.wait_until(moment, || {
                assert_eq!(netboot.try_wait().unwrap(), None, "{}", shelf.said());
                shelf.said().matches(moment).count() > before
            });
            shelf.cut(1);
            let mut start = [0; 512];
            std::io::Read::read_exact(&mut fs::File::open(shelf.path("kube1.disk")).unwrap(), &mut start).unwrap();
            assert_eq!(start[510..], [0, 0], "it would boot after {moment}");
        }
        shelf.switch_on(1);
        shelf.ends_well(netboot);
        // In its first boot, too.
        shelf.cut(1);
        shelf.switch_on(1);
        shelf.meet(1);
    }

    #[test]
    #[ignore = "needs root, and minutes: `make test-lives`"]
    fn four_boards_get_their_systems_at_once_from_bramble_as_the_only_dhcp_server() {
        let mut shelf = Shelf::new(4, 4);
        let netboot = shelf.netboot(&["--dhcp", "--yes=kube1,kube2,kube3,kube4"]);
        (1..=4).for_each(|board| shelf.switch_on(board));
        shelf.ends_well(netboot);
        (1..=4).for_each(|board| shelf.meet(board));
    }
}

/// A board that is no machine: what its firmware asks for is asked by a program, from a link of its own.
struct Firmware {
    network: String,
}

impl Firmware {
    fn new(shelf: &Shelf, board: u8, mac: &str) -> Firmware {
        let network = format!("t-pi{board}-{}", std::process::id());
        tool("ip", &["netns", "add", &network]);
        let on = |network: &str, command: &str| {
            tool("ip", &[&["-n", network], command.split(' ').collect::<Vec<_>>().as_slice()].concat());
        };
        on(&shelf.network, &format!("link add pi{board} type veth peer name eth0 address {mac} netns {network}"));
        on(&shelf.network, &format!("link set pi{board} master shelf up"));
        on(&network, "link set eth0 up");
        Firmware { network }
    }

    fn asks(&self, model: &str, serial: &str, more: &[&str]) -> Output {
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/racks/boot/eeprom.py");
        let mut python = inside(Some(&self.network), "python3");
        python.arg(program).args([model, "eth0", serial]).args(more).output().unwrap()
    }
}

impl Drop for Firmware {
    fn drop(&mut self) {
        Command::new("ip").args(["netns", "delete", &self.network]).status().ok();
    }
}

/// What lies on the boot partition of Raspberry Pi OS, by name, each of a size of its own.
const FILES: [(&str, usize); 14] = [
    ("bootcode.bin", 52_000),
    ("start.elf", 900_000),
    ("start4.elf", 800_000),
    ("fixup.dat", 7_300),
    ("fixup4.dat", 5_400),
    ("bcm2710-rpi-3-b.dtb", 34_000),
    ("bcm2711-rpi-4-b.dtb", 56_000),
    ("bcm2712-rpi-5-b.dtb", 78_000),
    ("kernel8.img", 1_500_000),
    ("kernel_2712.img", 1_400_001),
    ("initramfs8", 1_000_000),
    ("overlays/overlay_map.dtb", 5_120),
    ("overlays/disable-wifi.dtbo", 387),
    ("LICENCE.broadcom", 1_594),
];
const CONFIG: &str = "dtparam=audio=on\nauto_initramfs=1\n[cm5]\ndtoverlay=dwc2\n[all]\narm_64bit=1\n";
const LINE: &str = "console=serial0,115200 console=tty1 root=PARTUUID=b4a3b1e5-02 rootfstype=ext4 fsck.repair=yes rootwait quiet \
                    init=/usr/lib/raspberrypi-sys-mods/firstboot\n";

#[test]
#[ignore = "needs root: `make test`"]
fn the_firmware_of_each_raspberry_pi_gets_what_it_asks_for_and_nobody_else_gets_anything() {
    let mut shelf = Shelf::empty(2, 0);
    shelf.router();
    let models = [("3", "rpi-3b", "1f2e3d4c"), ("4", "rpi-4b-8gb", "dc0ffee5"), ("5", "rpi-5-8gb", "a1b2c3d4e5f60718")];
    let lines: String = models
        .iter()
        .map(|(model, board, _)| {
            let address = format!("10.80.0.6{model}");
            format!("  - {{ name: pi{model}, role: worker, board: {board}, address: {address}, mac: \"dc:a6:32:00:00:0{model}\" }}\n")
        })
        .collect();
    shelf.write_file(0, "");
    let file = shelf.dir.path().join("bramble.yaml");
    fs::write(&file, fs::read_to_string(&file).unwrap() + &lines).unwrap();
    let mut files = Vec::new();
    for (name, size) in FILES {
        let path = shelf.dir.path().join(format!("file-{}", name.replace('/', "-")));
        let content: Vec<u8> = (0..size).map(|byte| (byte * 31 + size) as u8).collect();
        fs::write(&path, content).unwrap();
        files.push((name, path));
    }
    let own =
        [("config.txt", CONFIG), ("cmdline.txt", LINE), ("user-data", ""), ("meta-data", "instance_id: rpi-image\n")];
    for (name, content) in own {
        let path = shelf.dir.path().join(format!("given-{name}"));
        fs::write(&path, content).unwrap();
        files.push((name, path));
    }
    let root = shelf.dir.path().join("root");
    fs::write(&root, vec![0; 1 << 20]).unwrap();
    assemble(shelf.dir.path(), "label: dos\nlabel-id: 0xb4a3b1e5", ["c", "83"], "bootfs", &files, &root);
    // No arm64 program is needed to see that it is given.
    let installers = shelf.dir.path().join("installers");
    fs::create_dir(&installers).unwrap();
    fs::write(
        installers.join("bramble-installer-arm64"),
        (0..900_000_u32).map(|n| (n ^ n >> 7) as u8).collect::<Vec<_>>(),
    )
    .unwrap();
    let mut netboot = shelf.netboot_with(&installers, &["--yes=pi3,pi4,pi5"]);
    shelf.wait_until("it does not answer", || {
        assert_eq!(netboot.try_wait().unwrap(), None, "{}", shelf.said());
        shelf.said().contains("Answering on shelf (10.80.0.1)")
    });

    let digest = |name: &str| {
        let path = &files.iter().find(|(known, _)| *known == name).unwrap().1;
        let output = tool("sha256sum", &[&path.display().to_string()]);
        String::from_utf8(output.stdout).unwrap().split(' ').next().unwrap().to_owned()
    };
    for (board, (model, _, serial)) in (1..).zip(models) {
        let pi = Firmware::new(&shelf, board, &format!("dc:a6:32:00:00:0{model}"));
        let other = if model == "4" { "3" } else { "4" };
        let neighbour = format!("../dc-a6-32-00-00-0{other}/cmdline.txt");
        let output = pi.asks(model, serial, &["../../../../../etc/shadow", "/etc/shadow", &neighbour]);
        let said = text(&output);
        assert_code(&output, 0);
        assert!(said.contains("\nserver 10.80.0.1\n"), "{said}");
        let kernel = if model == "5" { "kernel_2712.img" } else { "kernel8.img" };
        let line = said
            .lines()
            .find(|line| line.starts_with(&format!("got {serial}/{kernel}")))
            .unwrap_or_else(|| panic!("{said}"));
        assert!(line.ends_with(&digest(kernel)), "{line}");
        assert!(said.contains(&format!("got {serial}/overlays/overlay_map.dtb 5120 ")), "{said}");
        assert!(said.contains(&format!("got {serial}/bramble.img ")), "{said}");
        let line = said.lines().find_map(|line| line.strip_prefix("cmdline ")).unwrap();
        let words: Vec<&str> = line.split(' ').collect();
        assert_eq!(words[..4], ["console=serial0,115200", "console=tty1", "rdinit=/init", "panic=10"]);
        assert_eq!(words[4], format!("bramble.mac=dc:a6:32:00:00:0{model}"));
        assert_eq!(words[5], format!("bramble.address=10.80.0.6{model}/24"));
        assert!(words[6].starts_with("bramble.from=http://10.80.0.1:") && words.len() == 7, "{line}");
        for secret in ["missing ../../../../../etc/shadow", "missing /etc/shadow", &format!("missing {neighbour}")] {
            assert!(said.contains(secret), "{said}");
        }
    }
    let stranger = Firmware::new(&shelf, 9, "dc:a6:32:00:00:09");
    let output = stranger.asks("4", "00000009", &[]);
    assert_code(&output, 1);
    assert!(text(&output).contains("server none"), "{}", text(&output));
    let said = shelf.said();
    assert!(said.contains("dc:a6:32:00:00:09 asks for something to boot, and is no node of this run"), "{said}");
    assert_eq!(said.matches("00:00:09").count(), 1, "{said}");
    for (model, ..) in models {
        assert!(said.contains(&format!("pi{model}: boots")), "{said}");
    }
    netboot.kill().unwrap();
    netboot.wait().unwrap();
}
