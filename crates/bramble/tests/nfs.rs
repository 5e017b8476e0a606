//! A real NFS server in the kernel of one QEMU machine, mounted by another: both lose their power, and come back in both orders.

#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use common::disk::{SMALL_INITRD, tool};
use common::{assert_code, program, text};

const NODES: [&str; 2] = ["files", "user"];
const PACKAGES: &str = "systemd-sysv,udev,dbus,kmod,iproute2,procps,initramfs-tools,openssh-server,sudo,e2fsprogs,nfs-common,nfs-kernel-server";

/// Kernel, initrd and root of the machines, made once.
fn parts() -> PathBuf {
    let done = Path::new(env!("CARGO_TARGET_TMPDIR")).join("nfs-machine");
    if done.exists() {
        return done;
    }
    let work = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let name = |name: &str| work.path().join(name).display().to_string();
    let root = name("tree");
    let user = "--customize-hook=chroot \"$1\" sh -c 'useradd --create-home --shell /bin/bash pi; \
         echo \"pi ALL=(ALL) NOPASSWD: ALL\" >/etc/sudoers.d/pi; systemctl enable systemd-networkd; rm -f /etc/ssh/ssh_host_*'";
    tool(
        "mmdebstrap",
        &[
            "--quiet",
            "--mode=root",
            "--variant=apt",
            "--aptopt=Apt::Install-Recommends \"false\"",
            &format!("--include={PACKAGES},linux-image-cloud-amd64"),
            SMALL_INITRD,
            user,
            "bookworm",
            &root,
        ],
    );
    tool(
        "sh",
        &[
            "-c",
            &format!("cp {root}/boot/vmlinuz-* {}; cp {root}/boot/initrd.img-* {}", name("vmlinuz"), name("initrd")),
        ],
    );
    tool("mkfs.ext4", &["-q", "-d", &root, &name("root"), "1200M"]);
    fs::remove_dir_all(&root).unwrap();
    fs::rename(work.keep(), &done).unwrap();
    done
}

/// Two machines on a network of their own.
struct Pair {
    dir: tempfile::TempDir,
    network: String,
    running: [Option<Child>; 2],
}

impl Pair {
    fn new() -> Pair {
        let parts = parts();
        let dir = tempfile::tempdir().unwrap();
        let network = format!("t-nfs-{}", std::process::id());
        tool("ip", &["netns", "add", &network]);
        let pair = Pair { dir, network, running: [None, None] };
        let mut commands = vec![
            "link set lo up".to_owned(),
            "link add shelf type bridge".into(),
            "link set shelf up".into(),
            "address add 10.81.0.1/24 dev shelf".into(),
        ];
        for n in 0..2 {
            commands.push(format!("tuntap add port{n} mode tap"));
            commands.push(format!("link set port{n} master shelf up"));
        }
        for command in &commands {
            tool("ip", &[&["-n", pair.network.as_str()], command.split(' ').collect::<Vec<_>>().as_slice()].concat());
        }
        tool("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-f", &pair.name("key")]);
        fs::create_dir(pair.name(".bramble")).unwrap();
        let mut known = String::new();
        let mut nodes = String::new();
        for (n, node) in NODES.iter().enumerate() {
            let disk = pair.name(node);
            tool("cp", &["--sparse=always", &parts.join("root").display().to_string(), &disk]);
            let host_key = pair.name(&format!("{node}-host"));
            tool("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-f", &host_key]);
            let network = format!("[Match]\nName=en*\n\n[Network]\nAddress=10.81.0.{}/24\n", 50 + n);
            fs::write(pair.name("network"), network).unwrap();
            let script = format!(
                "set -e; mkdir -p m; mount -o loop {disk} m; trap 'umount m' EXIT; cp network m/etc/systemd/network/10-en.network; \
                 cp {host_key} m/etc/ssh/ssh_host_ed25519_key; cp {host_key}.pub m/etc/ssh/ssh_host_ed25519_key.pub; echo {node} >m/etc/hostname; \
                 rm -f m/etc/machine-id; cat /proc/sys/kernel/random/uuid | tr -d - >m/etc/machine-id; \
                 mkdir -p m/home/pi/.ssh; cp key.pub m/home/pi/.ssh/authorized_keys; chown -R 1000:1000 m/home/pi; chmod 700 m/home/pi/.ssh"
            );
            let output = Command::new("sh").args(["-c", &script]).current_dir(pair.dir.path()).output().unwrap();
            assert!(output.status.success(), "{}", text(&output));
            let public = fs::read_to_string(format!("{host_key}.pub")).unwrap();
            known.push_str(&format!("10.81.0.{} {}", 50 + n, public));
            nodes.push_str(&format!(
                "  - {{ name: {node}, role: worker, board: generic-amd64, address: 10.81.0.{} }}\n",
                50 + n
            ));
        }
        fs::File::create(pair.name("store")).unwrap().set_len(64 << 20).unwrap();
        fs::write(pair.name(".bramble/known_hosts"), known).unwrap();
        let file = format!(
            "cluster: shelf\naccess: {{ keys: [key] }}\nnetwork: {{ subnet: 10.81.0.0/24 }}\ndistribution: none\n\
             storage:\n  nfs: {{ server: files, disk: /dev/vdb }}\nnodes:\n{nodes}"
        );
        fs::write(pair.name("bramble.yaml"), file).unwrap();
        pair
    }

    fn name(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    fn switch_on(&mut self, n: usize) {
        let parts = parts();
        let part = |name: &str| parts.join(name).display().to_string();
        let log =
            fs::File::options().append(true).create(true).open(self.name(&format!("{}-console", NODES[n]))).unwrap();
        let mut qemu = Command::new("ip");
        qemu.args([
            "netns",
            "exec",
            &self.network,
            "qemu-system-x86_64",
            "-machine",
            "q35",
            "-cpu",
            "max",
            "-accel",
            "tcg",
        ]);
        qemu.args(["-m", "512", "-nodefaults", "-display", "none", "-serial", "stdio", "-device", "virtio-rng-pci"]);
        qemu.args([
            "-kernel",
            &part("vmlinuz"),
            "-initrd",
            &part("initrd"),
            "-append",
            "console=ttyS0 root=/dev/vda rw",
        ]);
        for disk in std::iter::once(NODES[n]).chain((n == 0).then_some("store")) {
            qemu.args(["-drive", &format!("file={},format=raw,if=virtio", self.name(disk))]);
        }
        qemu.args(["-netdev", &format!("tap,id=net,ifname=port{n},script=no,downscript=no")]);
        qemu.args(["-device", &format!("virtio-net-pci,netdev=net,mac=52:54:00:81:00:5{n}")]);
        qemu.stdin(Stdio::null()).stderr(log.try_clone().unwrap()).stdout(log);
        self.running[n] = Some(qemu.spawn().unwrap());
    }

    /// Takes the power from a machine, at once.
    fn cut(&mut self, n: usize) {
        if let Some(mut qemu) = self.running[n].take() {
            qemu.kill().unwrap();
            qemu.wait().unwrap();
        }
    }

    fn bramble(&self, args: &[&str]) -> Output {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.network]).arg(program("bramble")).args(args);
        command.current_dir(self.dir.path()).env("HOME", self.dir.path()).env("NO_COLOR", "1");
        command.stdin(Stdio::null()).env_remove("SSH_AUTH_SOCK").output().unwrap()
    }

    /// What a command says on a machine, if it succeeds there.
    fn on(&self, n: usize, script: &str) -> Option<String> {
        let mut ssh = Command::new("ip");
        ssh.args(["netns", "exec", &self.network, "ssh", "-i", "key", "-o", "BatchMode=yes", "-o", "ConnectTimeout=3"]);
        ssh.args(["-o", "UserKnownHostsFile=.bramble/known_hosts", &format!("pi@10.81.0.{}", 50 + n), script]);
        let output = ssh.current_dir(self.dir.path()).stdin(Stdio::null()).output().unwrap();
        output.status.success().then(|| String::from_utf8(output.stdout).unwrap())
    }

    fn wait(&self, what: &str, done: impl Fn() -> bool) {
        let started = Instant::now();
        while !done() {
            let console = |node: &str| {
                let text = fs::read_to_string(self.name(&format!("{node}-console"))).unwrap_or_default();
                text.lines().rev().take(25).collect::<Vec<_>>().into_iter().rev().collect::<Vec<_>>().join("\n")
            };
            assert!(
                started.elapsed() < Duration::from_secs(300),
                "{what} does not come\n{}\n{}",
                console("files"),
                console("user")
            );
            std::thread::sleep(Duration::from_millis(500));
        }
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        self.cut(0);
        self.cut(1);
        tool("ip", &["netns", "delete", &self.network]);
    }
}

mod lives {
    use super::*;

    #[test]
    #[ignore = "needs root, and minutes: `make test-lives`"]
    fn an_nfs_folder_is_there_again_whichever_board_boots_first_and_a_disk_with_data_is_not_formatted() {
        let mut pair = Pair::new();
        // Somebody's data.
        tool("mkfs.ext4", &["-q", "-L", "photos", &pair.name("store")]);
        pair.switch_on(0);
        pair.switch_on(1);
        pair.wait("both machines", || pair.on(0, "true").is_some() && pair.on(1, "true").is_some());
        let refused = pair.bramble(&["up", "--yes"]);
        assert_code(&refused, 1);
        let said = text(&refused);
        assert!(said.contains("/dev/vdb holds ext4 photos") && said.contains("nothing was changed"), "{said}");
        let other = pair.bramble(&["up", "--yes", "--format", "user:/dev/vdb"]);
        assert_code(&other, 1);
        let output = pair.bramble(&["up", "--yes", "--format", "files:/dev/vdb"]);
        assert_code(&output, 0);
        let again = pair.bramble(&["plan"]);
        assert_code(&again, 0);
        assert!(pair.on(0, "findmnt -no SOURCE,LABEL /srv/nfs").unwrap().contains("/dev/vdb bramble-nfs"));
        assert_eq!(
            pair.on(1, "findmnt -no FSTYPE,SOURCE /mnt/nfs | xargs").as_deref(),
            Some("nfs4 10.81.0.50:/srv/nfs\n")
        );
        assert!(pair.on(1, "echo hello >/mnt/nfs/greeting && sync").is_some());
        assert_eq!(pair.on(0, "cat /mnt/nfs/greeting").as_deref(), Some("hello\n"));
        // Nobody but the other node may, and its root is nobody.
        let exported = pair.on(0, "sudo exportfs -v").unwrap();
        let exported: Vec<&str> = exported.split_whitespace().collect();
        let [folder, client] = exported[..] else { panic!("{exported:?}") };
        assert_eq!(folder, "/srv/nfs");
        assert!(client.starts_with("10.81.0.51(") && client.contains(",root_squash,"), "{client}");
        let options = pair.on(1, "findmnt -no OPTIONS /mnt/nfs").unwrap();
        assert!(options.contains("nosuid") && options.contains("nodev"), "{options}");

        for (first, second) in [(1, 0), (0, 1)] {
            pair.cut(0);
            pair.cut(1);
            pair.switch_on(first);
            pair.wait("the first machine", || pair.on(first, "true").is_some());
            if first == 1 {
                // Without the server there is no folder, and nothing can be written in its place.
                assert!(pair.on(1, "findmnt /mnt/nfs").is_none());
                assert!(pair.on(1, "sudo touch /mnt/nfs/lost").is_none());
            }
            pair.switch_on(second);
            pair.wait("the folder", || pair.on(1, "timeout 5 cat /mnt/nfs/greeting").as_deref() == Some("hello\n"));
        }
        let again = pair.bramble(&["plan"]);
        assert_code(&again, 0);
    }
}
