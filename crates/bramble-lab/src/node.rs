//! One board of a rack: its disk, its looks, its power.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use bramble_spec::hex;

use crate::cgroup::Group;
use crate::disk::Disk;
use crate::first_boot;
use crate::host::{Error, PathContext, run, write};
use crate::network::{self, enter, enter_detached};
use crate::rack::{Rack, RackNode};
use crate::root::System;

/// The arguments that the firmware of a Pi puts before those of cmdline.txt (raspberrypi/linux#6980).
const FIRMWARE_ARGUMENTS: &str =
    "coherent_pool=1M 8250.nr_uarts=0 snd_bcm2835.enable_headphones=0 cgroup_disable=memory vc_mem.mem_base=0x3ec00000";
const CMDLINE: &str =
    "console=serial0,115200 console=tty1 root=PARTUUID=1c2d3e4f-02 rootfstype=ext4 fsck.repair=yes rootwait\n";
const CONFIG: &str = "\
# For more options and information see
# http://rptl.io/configtxt
dtparam=audio=on
camera_auto_detect=1
display_auto_detect=1
auto_initramfs=1
dtoverlay=vc4-kms-v3d
max_framebuffers=2
disable_fw_kms_setup=1
arm_boost=1

[cm4]
otg_mode=1

[cm5]
dtoverlay=dwc2,dr_mode=host

[all]
";
const MODEL: &str = "Raspberry Pi 4 Model B Rev 1.4\0";

/// Runs before systemd in the container: firmware and kernel look like a board's, and kernel settings that are not
/// the namespace's own become the node's own, so that a node never changes the machine below it.
const INIT: &str = r#"#!/bin/sh
mount --make-rprivate /
# The view of /sys that comes with the container is of the network below it.
mkdir -p /run/rack.cgroup
mount --rbind /sys/fs/cgroup /run/rack.cgroup
umount -l /sys
mount -t sysfs sysfs /sys
mount --rbind /run/rack.cgroup /sys/fs/cgroup
umount -l /run/rack.cgroup
rmdir /run/rack.cgroup
mount --bind /usr/lib/rack/firmware /sys/firmware
mount --bind /usr/lib/rack/cmdline /proc/cmdline
mount -o remount,rw,bind /proc/sys
mkdir -p /run/rack
mount -t tmpfs -o mode=0755,size=8m rack /run/rack
for part in kernel vm fs; do
    mkdir -p "/run/rack/$part"
    cp -r --preserve=mode "/proc/sys/$part/." "/run/rack/$part/" 2>/dev/null
    if [ "$part" = kernel ]; then
        mv /run/rack/kernel/random/boot_id /run/rack/boot_id
        mount --bind /proc/sys/kernel/random /run/rack/kernel/random
        mount --bind /proc/sys/kernel/hostname /run/rack/kernel/hostname
    fi
    if [ "$part" = fs ] && [ -d /proc/sys/fs/binfmt_misc ]; then rmdir /run/rack/fs/binfmt_misc 2>/dev/null; fi
    mount --rbind "/run/rack/$part" "/proc/sys/$part"
done
for group in /sys/fs/cgroup/*; do
    mountpoint -q "$group" && mount -o remount,rw,bind "$group"
done
mount --bind /run/rack/boot_id /proc/sys/kernel/random/boot_id
printf 'Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n' >/run/rack/swaps
mount --bind /run/rack/swaps /proc/swaps
mount --make-rshared /
# In a container systemd and cloud-init take init's arguments for the kernel's.
set -- $(tr ' ' '\n' </proc/cmdline | grep '^ds=')
# systemd refuses cgroup v1 from version 256 on unless it is told twice.
if mountpoint -q /sys/fs/cgroup/systemd; then
    set -- SYSTEMD_CGROUP_ENABLE_LEGACY_FORCE=1 systemd.unified_cgroup_hierarchy=0 "$@"
fi
exec /lib/systemd/systemd "$@"
"#;

/// Makes the node's disk and puts on it what a freshly flashed card of a Raspberry Pi has.
pub(crate) fn dress(rack: &Rack, node: &RackNode) -> Result<(), Error> {
    let dir = rack.node_dir(&node.name);
    let disk = Disk::of(rack, node);
    let dressed = dir.join("dressed");
    if dressed.exists() {
        return disk.mount();
    }
    // A half-made disk is made again: nothing has run on it.
    disk.unmount()?;
    crate::host::remove_tree(&dir)?;
    disk.make()?;
    let key = rack.ensure_key()?;
    let host_key = dir.join("host_key");
    run("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-C", "root@raspberrypi", "-f", &host_key.to_string_lossy()])?;
    let root = dir.join("root");
    let copy = |from: &str, to: &str, mode: u32| {
        let from = dir.join(from);
        write(&root.join(to), fs::read(&from).at("read", &from)?, mode)
    };
    for old in ["ssh_host_rsa_key", "ssh_host_ecdsa_key", "ssh_host_ed25519_key"] {
        for path in [root.join("etc/ssh").join(old), root.join("etc/ssh").join(format!("{old}.pub"))] {
            if path.exists() {
                fs::remove_file(&path).at("remove", &path)?;
            }
        }
    }
    copy("host_key", "etc/ssh/ssh_host_ed25519_key", 0o600)?;
    copy("host_key.pub", "etc/ssh/ssh_host_ed25519_key.pub", 0o644)?;
    fs::remove_file(&host_key).at("remove", &host_key)?;
    let put = |path: &str, text: &str, mode: u32| write(&root.join(path), text, mode);
    put("etc/hostname", "raspberrypi\n", 0o644)?;
    put(
        "etc/hosts",
        "127.0.0.1\tlocalhost\n::1\t\tlocalhost ip6-localhost ip6-loopback\n\n127.0.1.1\traspberrypi\n",
        0o644,
    )?;
    let mut id = [0u8; 16];
    let random = Path::new("/dev/urandom");
    std::io::Read::read_exact(&mut fs::File::open(random).at("open", random)?, &mut id).at("read", random)?;
    let id = hex(&id);
    put("etc/machine-id", &format!("{id}\n"), 0o444)?;
    let seed = match node.system {
        System::Trixie => format!(" ds=nocloud;i=rpi-imager-{}", &id[..8]),
        System::Bookworm => String::new(),
    };
    put("boot/firmware/cmdline.txt", &CMDLINE.replace('\n', &format!("{seed}\n")), 0o755)?;
    put("boot/firmware/config.txt", CONFIG, 0o755)?;
    put("etc/rpi-issue", "Raspberry Pi reference 2025-05-13\n", 0o644)?;
    put("usr/lib/rack/firmware/devicetree/base/model", MODEL, 0o444)?;
    put("usr/lib/rack/init", INIT, 0o755)?;
    // The machine's kernel is nobody's package, but a board has this folder.
    let modules = root.join("usr/lib/modules");
    fs::create_dir_all(&modules).at("create", &modules)?;
    first_boot::write_to(&root, rack, node, &key, &id[..8])?;
    for package in &rack.packages {
        let mut list = String::new();
        for file in &package.files {
            put(file.path.trim_start_matches('/'), &file.text, file.mode)?;
            list.push_str(&format!("{}\n", file.path));
        }
        put(&format!("var/lib/dpkg/info/{}.list", package.name), &list, 0o644)?;
        let status = root.join("var/lib/dpkg/status");
        let mut text = fs::read_to_string(&status).at("read", &status)?;
        text.push_str(&format!("\n{}\n", package.status));
        write(&status, text, 0o644)?;
    }
    write(&dressed, "", 0o600)
}

/// Starts the process that keeps a node on.
pub(crate) fn start(keeper: &[PathBuf], rack: &Rack, node: &RackNode) -> Result<(), Error> {
    let dir = rack.node_dir(&node.name);
    let entries = Group::keeper(&rack.name, &node.name).create()?;
    let log = dir.join("console.log");
    let output = fs::File::options().create(true).append(true).open(&log).at("open", &log)?;
    let errors = output.try_clone().at("open", &log)?;
    let [program, first @ ..] = keeper else {
        return Err(Error::Request("no program keeps nodes on".into()));
    };
    let mut command = enter_detached(&entries, &program.to_string_lossy());
    command.args(first).arg(&rack.dir).arg(&node.name);
    let status = command.stdin(Stdio::null()).stdout(output).stderr(errors).status().at("start", program)?;
    if status.success() {
        Ok(())
    } else {
        Err(Error::Request(format!("the keeper of {} did not start: {status}", node.name)))
    }
}

/// The exit code by which systemd-nspawn says that the container wants to boot again (systemd-nspawn(1)).
const REBOOT: i32 = 133;

/// Keeps a node on: boots it, and again when it reboots, until it powers off. This is the life of the keeper process.
pub fn keep(rack_dir: &Path, node: &str) -> Result<(), Error> {
    let rack = Rack::open(rack_dir)?;
    let node = rack.node(node)?;
    let index = rack.index(node);
    let disk = Disk::of(&rack, node);
    let root = disk.root();
    loop {
        disk.mount()?;
        network::plug(&rack, index, node)?;
        // The firmware reads the first line of cmdline.txt, and no other (k3s-io/k3s#3283).
        let path = root.join("boot/firmware/cmdline.txt");
        let text = fs::read_to_string(&path).at("read", &path)?;
        let cmdline = format!("{FIRMWARE_ARGUMENTS} {}\n", text.lines().next().unwrap_or("").trim_end());
        write(&root.join("usr/lib/rack/cmdline"), cmdline, 0o444)?;
        // What an earlier boot made of its cgroup is gone with it; on cgroup v2 it could not even be entered again.
        let group = Group::node(&rack.name, &node.name);
        group.kill()?;
        group.remove()?;
        let entries = group.create()?;
        let mut command = enter(&entries, "systemd-nspawn");
        boot_arguments(&mut command, &rack, node, &root);
        let status = command.status().at("run", Path::new("systemd-nspawn"))?;
        // Whatever the board left running has lost its power.
        group.kill()?;
        if status.code() != Some(REBOOT) {
            return Ok(());
        }
    }
}

fn boot_arguments(command: &mut Command, rack: &Rack, node: &RackNode, root: &Path) {
    let name = network::namespace(&rack.name, &node.name);
    if Path::new("/dev/fuse").exists() {
        command.arg("--bind=/dev/fuse");
    }
    command
        .args(["--quiet", "--register=no", "--keep-unit", "--console=pipe", "--link-journal=no", "--resolv-conf=off"])
        .args(["--timezone=off", "--capability=all", "--kill-signal=SIGRTMIN+3", "--bind=/dev/kmsg"])
        .arg(format!("--machine={name}"))
        .arg(format!("--network-namespace-path=/run/netns/{name}"))
        .arg("--directory")
        .arg(root)
        .arg("/usr/lib/rack/init")
        .env("SYSTEMD_SECCOMP", "0")
        .env("SYSTEMD_NSPAWN_LOCK", "0")
        .stdin(Stdio::null());
}
