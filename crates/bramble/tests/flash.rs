//! `bramble flash` on files that the kernel shows as disks (loop devices).

#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use common::disk::{BOOT, CMDLINE, Disk, START, image, tool};
use common::{assert_code, bramble, read, text};
use serde_json::Value;

/// A project with an image, and disks.
struct Bench {
    dir: tempfile::TempDir,
    whole: Vec<u8>,
    loops: Vec<String>,
}

impl Bench {
    fn new(sizes: &[u64]) -> Bench {
        let dir = tempfile::tempdir().unwrap();
        let name = |name: &str| dir.path().join(name).display().to_string();
        tool("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-f", &name("key")]);
        let nodes: String = (1..=sizes.len().max(1))
            .map(|n| format!("  - {{ name: kube{n}, role: worker, board: rpi-4b-4gb, address: 10.0.0.5{n} }}\n"))
            .collect();
        let file = format!(
            "cluster: shelf\naccess: {{ user: pi, keys: [key] }}\nnetwork: {{ subnet: 10.0.0.0/24, gateway: 10.0.0.1 }}\n\
             image: {{ file: image.xz }}\ndistribution: none\nnodes:\n{nodes}"
        );
        fs::write(dir.path().join("bramble.yaml"), file).unwrap();
        let files = [("cmdline.txt", CMDLINE), ("config.txt", ""), ("user-data", ""), ("meta-data", "")];
        let whole = image(dir.path(), "label: dos", ["c", "83"], "bootfs", &files);
        tool("sh", &["-c", &format!("xz -0 -T2 --block-size=8MiB -k {}", name("image"))]);
        let mut bench = Bench { dir, whole, loops: Vec::new() };
        for (index, size) in sizes.iter().enumerate() {
            // What was there before.
            let backing = bench.backing(index);
            fs::write(&backing, vec![0xa5; usize::try_from(*size).unwrap()]).unwrap();
            bench.loops.push(common::disk::own_loop());
            tool("losetup", &[&bench.loops[index], &backing.display().to_string()]);
        }
        bench
    }

    fn backing(&self, index: usize) -> PathBuf {
        self.dir.path().join(format!("disk{index}"))
    }

    fn command(&self, more: &[&str]) -> Command {
        let mut command = bramble();
        command.current_dir(self.dir.path()).arg("flash").args(more).env("HOME", self.dir.path());
        self.loops.iter().for_each(|disk| {
            command.arg("--disk").arg(disk);
        });
        command
    }

    fn flash(&self, more: &[&str]) -> Output {
        self.command(more).output().unwrap()
    }

    /// The bytes of a disk, asked of its backing file.
    fn bytes(&self, index: usize, from: usize, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        fs::File::open(self.backing(index)).unwrap().read_exact_at(&mut bytes, from as u64).unwrap();
        bytes
    }

    /// The beginning of a disk is blanked first, and written last.
    fn wait_for_its_first_write(&self) {
        while self.bytes(0, 0, 512).iter().all(|byte| *byte == 0xa5) {
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    fn assert_is(&self, index: usize, node: &str) {
        let config = self.assert_whole(index, node);
        let key = config["ssh_keys"]["ed25519_public"].as_str().unwrap().split(' ').nth(1).unwrap().to_owned();
        assert!(read(&self.dir.path().join(".bramble/known_hosts")).contains(&key), "{node}: its key is not known");
    }

    /// The image is on the disk, with a boot partition of the node's; what that says.
    fn assert_whole(&self, index: usize, node: &str) -> Value {
        let length = self.whole.len();
        assert!(self.bytes(index, 0, START) == self.whole[..START], "{node}: the partition table");
        let after = START + BOOT;
        assert!(self.bytes(index, after, length - after) == self.whole[after..], "{node}: the root partition");
        let boot = self.dir.path().join(format!("boot-{node}"));
        fs::write(&boot, self.bytes(index, START, BOOT)).unwrap();
        tool("fsck.vfat", &["-n", &boot.display().to_string()]);
        let disk = Disk { boot };
        let data = disk.read("user-data");
        let config: Value = serde_json::from_str(data.strip_prefix("#cloud-config\n").unwrap()).unwrap();
        assert_eq!(config["hostname"], node);
        config
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.loops.iter().for_each(|disk| common::disk::remove_loop(disk));
    }
}

const MIB: u64 = 1 << 20;

/// What the kernel tells of a disk.
fn sys(device: &str) -> PathBuf {
    Path::new("/sys/block").join(device.strip_prefix("/dev/").unwrap())
}

#[test]
#[ignore = "needs root: `make test`"]
fn two_disks_at_once_each_know_who_they_are() {
    let bench = Bench::new(&[96 * MIB, 100 * MIB]);
    let unasked = bench.flash(&[]);
    assert_code(&unasked, 1);
    assert!(text(&unasked).contains("pass --yes"), "{}", text(&unasked));
    assert!(bench.bytes(0, 0, 512).iter().all(|byte| *byte == 0xa5), "nothing was written");
    // Disks are root's; the project, with the keys that are trusted, stays its user's.
    let output = bench.command(&["--yes"]).env("SUDO_UID", "65534").env("SUDO_GID", "65534").output().unwrap();
    assert_code(&output, 0);
    assert!(text(&output).contains("is the disk of kube2"), "{}", text(&output));
    for name in ["", "/known_hosts", "/host-keys", "/host-keys/kube1"] {
        let there = fs::metadata(bench.dir.path().join(format!(".bramble{name}"))).unwrap();
        assert_eq!((there.uid(), there.gid()), (65534, 65534), ".bramble{name}");
    }
    bench.assert_is(0, "kube1");
    bench.assert_is(1, "kube2");
    let end = bench.whole.len();
    assert!(bench.bytes(0, end.next_multiple_of(4096), 4096).iter().all(|byte| *byte == 0xa5), "behind the image");

    // Again, as for boards that begin anew: the same keys, and each once.
    assert_code(&bench.flash(&["--yes"]), 0);
    assert_eq!(read(&bench.dir.path().join(".bramble/known_hosts")).lines().count(), 2);
}

#[test]
#[ignore = "needs root: `make test`"]
fn a_disk_that_is_too_small_does_not_keep_the_other_from_its_image_and_does_not_boot() {
    let bench = Bench::new(&[32 * MIB, 96 * MIB]);
    let output = bench.flash(&["--yes"]);
    assert_code(&output, 1);
    assert!(text(&output).contains("nothing was written"), "{}", text(&output));
    assert!(bench.bytes(0, 0, 512).iter().all(|byte| *byte == 0xa5));

    // gzip does not tell how long the image is.
    tool("sh", &["-c", &format!("cd {} && gzip -1 -c image >image.xz", bench.dir.path().display())]);
    let output = bench.flash(&["--yes"]);
    assert_code(&output, 1);
    let said = text(&output);
    assert!(said.contains("1 of 2 disks do not hold the image") && said.contains("longer than this disk"), "{said}");
    assert!(bench.bytes(0, 0, 1 << 20).iter().all(|byte| *byte == 0), "it has no partition table any more");
    bench.assert_is(1, "kube2");
    assert!(!read(&bench.dir.path().join(".bramble/known_hosts")).contains("10.0.0.51 "), "a key of no board");
}

#[test]
#[ignore = "needs root: `make test`"]
fn an_image_for_other_boards_is_refused_before_a_disk_is_touched() {
    let bench = Bench::new(&[96 * MIB]);
    let files = [("EFI/BOOT/BOOTX64.EFI", ""), ("user-data", "")];
    image(bench.dir.path(), "label: dos", ["c", "83"], "bootfs", &files);
    tool("sh", &["-c", &format!("cd {} && xz -0 -c image >image.xz", bench.dir.path().display())]);
    let output = bench.flash(&["--yes"]);
    assert_code(&output, 1);
    let why = "is no image for kube1: it is for amd64, and the board is arm64";
    assert!(text(&output).contains(why), "{}", text(&output));
    assert!(bench.bytes(0, 0, 512).iter().all(|byte| *byte == 0xa5));
}

#[test]
#[ignore = "needs root: `make test`"]
fn an_image_that_breaks_off_is_nobodys_disk() {
    let bench = Bench::new(&[96 * MIB, 96 * MIB]);
    let packed = bench.dir.path().join("image.xz");
    let whole = fs::read(&packed).unwrap();
    fs::write(&packed, &whole[..whole.len() - 100]).unwrap();
    let output = bench.flash(&["--yes"]);
    assert_code(&output, 1);
    assert!(text(&output).contains("2 of 2 disks do not hold the image"), "{}", text(&output));
    for index in [0, 1] {
        assert!(bench.bytes(index, 0, 1 << 20).iter().all(|byte| *byte == 0));
    }
    assert!(!bench.dir.path().join(".bramble/known_hosts").exists());
}

#[test]
#[ignore = "needs root: `make test`"]
fn killed_at_ten_moments_it_leaves_no_disk_that_half_boots() {
    let bench = Bench::new(&[96 * MIB]);
    let started = Instant::now();
    assert_code(&bench.flash(&["--yes"]), 0);
    let whole = started.elapsed();
    let mut cut_off = 0;
    for moment in 1..=10 {
        fs::remove_dir_all(bench.dir.path().join(".bramble")).unwrap();
        let mut child = bench.command(&["--yes"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(whole * moment / 11);
        child.kill().unwrap();
        child.wait().unwrap();
        let head = bench.bytes(0, 0, 1 << 20);
        if head.iter().all(|byte| *byte == 0) {
            cut_off += 1;
            assert!(!bench.dir.path().join(".bramble/known_hosts").exists(), "a key is known that no board has");
        } else {
            // It had not begun, so all of it is what the run before wrote; or it had ended.
            bench.assert_whole(0, "kube1");
        }
    }
    assert!(cut_off > 0, "no moment was while it wrote");
    assert_code(&bench.flash(&["--yes"]), 0);
    bench.assert_is(0, "kube1");
}

#[test]
#[ignore = "needs root: `make test`"]
fn interrupted_it_ends_in_order_and_says_what_became_of_the_disk() {
    let bench = Bench::new(&[96 * MIB]);
    let mut child = bench.command(&["--yes"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    bench.wait_for_its_first_write();
    tool("kill", &["-INT", &child.id().to_string()]);
    child.wait().unwrap();
    let output = child.wait_with_output().unwrap();
    assert_code(&output, 1);
    assert!(text(&output).contains("for kube1: it was stopped"), "{}", text(&output));
    assert!(bench.bytes(0, 0, 1 << 20).iter().all(|byte| *byte == 0));
    assert!(!bench.dir.path().join(".bramble/known_hosts").exists());
}

/// A card that is pulled out: from one moment on, the kernel answers every write with an error. Here the file behind the disk
/// loses its second half.
#[test]
#[ignore = "needs root: `make test`"]
fn a_disk_that_goes_away_in_the_middle_is_an_error_and_the_other_one_is_whole() {
    let bench = Bench::new(&[96 * MIB, 96 * MIB]);
    let child = bench.command(&["--yes"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    bench.wait_for_its_first_write();
    let backing = fs::OpenOptions::new().write(true).open(bench.backing(0)).unwrap();
    backing.set_len(40 * MIB).unwrap();
    // A loop device would make the file longer again, which no card can.
    tool("chattr", &["+i", &bench.backing(0).display().to_string()]);
    let output = child.wait_with_output().unwrap();
    tool("chattr", &["-i", &bench.backing(0).display().to_string()]);
    assert_code(&output, 1);
    assert!(text(&output).contains("1 of 2 disks do not hold the image"), "{}", text(&output));
    assert!(bench.bytes(0, 0, 1 << 20).iter().all(|byte| *byte == 0));
    bench.assert_is(1, "kube2");
}

/// Sits at the question of whether to write, with a terminal.
struct Prompt {
    child: std::process::Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Prompt {
    fn new(bench: &Bench) -> Prompt {
        let mut line = format!("{} flash", env!("CARGO_BIN_EXE_bramble"));
        bench.loops.iter().for_each(|disk| line.push_str(&format!(" --disk {disk}")));
        let mut script = Command::new("script");
        script.args(["--quiet", "--return", "--flush", "--command", &line, "/dev/null"]);
        script.current_dir(bench.dir.path()).env("HOME", bench.dir.path()).env("NO_COLOR", "1");
        let mut child = script.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        // The question itself is no whole line.
        assert!(lines.any(|line| line.unwrap().contains("becomes the disk of kube1")));
        Prompt { child, lines }
    }

    /// Says yes: the exit code, and what was said from then on.
    fn yes(mut self) -> (Option<i32>, String) {
        use std::io::Write;

        self.child.stdin.as_mut().unwrap().write_all(b"y\n").unwrap();
        let said = self.lines.map(Result::unwrap).collect::<Vec<_>>().join("\n");
        (self.child.wait().unwrap().code(), said)
    }
}

#[test]
#[ignore = "needs root: `make test`"]
fn a_disk_that_is_what_it_was_at_the_question_is_written() {
    let bench = Bench::new(&[96 * MIB]);
    let (code, said) = Prompt::new(&bench).yes();
    assert_eq!(code, Some(0), "{said}");
    bench.assert_is(0, "kube1");
}

#[test]
#[ignore = "needs root: `make test`"]
fn a_loop_device_that_shows_another_file_since_the_question_is_not_written() {
    let bench = Bench::new(&[96 * MIB]);
    let prompt = Prompt::new(&bench);
    let other = bench.dir.path().join("other");
    fs::write(&other, vec![0x5a; usize::try_from(96 * MIB).unwrap()]).unwrap();
    tool("losetup", &["--detach", &bench.loops[0]]);
    tool("losetup", &[&bench.loops[0], other.to_str().unwrap()]);
    let (code, said) = prompt.yes();
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("is not the disk that was shown"), "{said}");
    assert!(fs::read(other).unwrap().iter().all(|byte| *byte == 0x5a), "the other file was written");
    assert!(fs::read(bench.backing(0)).unwrap().iter().all(|byte| *byte == 0xa5));
}

#[test]
#[ignore = "needs root: `make test`"]
fn a_file_with_the_name_of_a_disk_is_refused_and_the_disk_is_not_written() {
    let mut bench = Bench::new(&[96 * MIB]);
    let disk = bench.loops.remove(0);
    let folder = bench.dir.path().join("folder");
    fs::create_dir(&folder).unwrap();
    let file = folder.join(disk.strip_prefix("/dev/").unwrap());
    fs::write(&file, "x").unwrap();
    let output = bench.flash(&["kube1", "--yes", "--disk", file.to_str().unwrap()]);
    bench.loops.push(disk);
    assert_code(&output, 1);
    assert!(text(&output).contains("is a file, and no disk"), "{}", text(&output));
    assert!(fs::read(bench.backing(0)).unwrap().iter().all(|byte| *byte == 0xa5), "the disk was written");
}

#[test]
#[ignore = "needs root: `make test`"]
fn a_disk_that_another_run_writes_is_refused() {
    let bench = Bench::new(&[96 * MIB]);
    let mut first = bench.command(&["--yes"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    bench.wait_for_its_first_write();
    tool("kill", &["-STOP", &first.id().to_string()]);
    let second = bench.flash(&["--yes"]);
    tool("kill", &["-CONT", &first.id().to_string()]);
    assert_eq!(first.wait().unwrap().code(), Some(0));
    assert_code(&second, 1);
    assert!(text(&second).contains("is in use by another program"), "{}", text(&second));
    bench.assert_is(0, "kube1");
}

#[test]
#[ignore = "needs root: `make test`"]
fn a_disk_that_is_named_by_two_paths_is_named_twice() {
    let bench = Bench::new(&[96 * MIB]);
    tool("mkswap", &["--quiet", &bench.loops[0]]);
    let once = bench.flash(&["--yes"]);
    assert_code(&once, 1);
    assert!(text(&once).contains("is a part of swap, which is not in use now; repeat --disk"), "{}", text(&once));
    let link = bench.dir.path().join("by-id");
    std::os::unix::fs::symlink(&bench.loops[0], &link).unwrap();
    assert_code(&bench.flash(&["--yes", "--disk", link.to_str().unwrap()]), 0);
    bench.assert_is(0, "kube1");
}

#[test]
#[ignore = "needs root: `make test`"]
fn a_disk_with_sectors_of_4096_bytes_is_refused() {
    let bench = Bench::new(&[96 * MIB]);
    tool("losetup", &["--detach", &bench.loops[0]]);
    tool("losetup", &["--sector-size", "4096", &bench.loops[0], bench.backing(0).to_str().unwrap()]);
    let output = bench.flash(&["--yes"]);
    assert_code(&output, 1);
    assert!(text(&output).contains("has sectors of 4096 bytes"), "{}", text(&output));
    assert!(bench.bytes(0, 0, 512).iter().all(|byte| *byte == 0xa5));
}

#[test]
#[ignore = "needs root: `make test`"]
fn a_disk_in_use_is_refused_before_anything_is_written() {
    let bench = Bench::new(&[96 * MIB, 96 * MIB]);
    tool("mkfs.ext4", &["-q", &bench.loops[1]]);
    let at = bench.dir.path().join("mounted");
    fs::create_dir(&at).unwrap();
    let at = at.display().to_string();
    tool("mount", &[&bench.loops[1], &at]);
    let output = bench.flash(&["--yes"]);
    tool("umount", &[&at]);
    assert_code(&output, 1);
    assert!(text(&output).contains(&format!("is mounted at {at}: unmount it first")), "{}", text(&output));
    assert!(bench.bytes(0, 0, 512).iter().all(|byte| *byte == 0xa5), "the other one was written");
    tool("fsck.ext4", &["-n", &bench.backing(1).display().to_string()]);
}

/// A card reader as the kernel shows it: the files of /sys are made here, the device behind it is a loop device.
#[test]
#[ignore = "needs root: `make test`"]
fn one_card_after_the_other_is_waited_for_in_a_reader_with_made_up_files_of_sys() {
    let bench = Bench::new(&[96 * MIB, 96 * MIB]);
    let devices: Vec<String> =
        bench.loops.iter().map(|device| read(&sys(device).join("dev")).trim().to_owned()).collect();
    let [first, second] = <[String; 2]>::try_from(devices).unwrap();
    let reader = bench.dir.path().join("block/mmcblk7");
    fs::create_dir_all(reader.join("device")).unwrap();
    let set = |name: &str, value: &str| fs::write(reader.join(name), value).unwrap();
    for (name, value) in [("size", "0"), ("removable", "1"), ("ro", "0"), ("diskseq", "0"), ("device/type", "SD")] {
        set(name, value);
    }
    let nodes = bench.dir.path().join("dev");
    fs::create_dir(&nodes).unwrap();
    let node = nodes.join("mmcblk7");
    let put_in = |device: &str, medium: &str| {
        fs::remove_file(&node).ok();
        let (major, minor) = device.split_once(':').unwrap();
        tool("mknod", &[node.to_str().unwrap(), "b", major, minor]);
        set("dev", device);
        set("diskseq", medium);
        set("size", &(96 * MIB / 512).to_string());
    };
    // Only this program sees the reader, and nothing else.
    let script =
        "mount --bind block /sys/block && cp -a /dev/null /dev/urandom dev/ && mount --bind dev /dev && exec \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-c", script, "sh", env!("CARGO_BIN_EXE_bramble"), "flash", "--yes"]);
    command.current_dir(bench.dir.path()).env("HOME", bench.dir.path()).stderr(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    let mut said = Vec::new();
    let mut until = |what: &str| {
        for line in lines.by_ref() {
            said.push(line);
            if said.last().unwrap().contains(what) {
                return;
            }
        }
        panic!("it never said `{what}`: {said:#?}");
    };
    until("put in the disk of kube1, or those of kube2");
    put_in(&first, "5");
    until("/dev/mmcblk7 (0.1 GB) becomes the disk of kube1");
    until("put in the disk of kube2");
    // The same reader, another card: nothing but its number tells.
    put_in(&second, "6");
    until("becomes the disk of kube2");
    assert_eq!(child.wait().unwrap().code(), Some(0));
    bench.assert_is(0, "kube1");
    bench.assert_is(1, "kube2");
}

#[test]
#[ignore = "needs root: `make test`"]
fn this_machines_own_disk_is_refused_however_often_it_is_named() {
    let bench = Bench::new(&[]);
    let mounts = read("/proc/self/mountinfo".as_ref());
    let root = mounts.lines().find(|line| line.split(' ').nth(4) == Some("/")).unwrap();
    let source = root.split(" - ").nth(1).unwrap().split(' ').nth(1).unwrap().to_owned();
    // In a container the root is no disk of its own; then there is nothing to refuse.
    if !source.starts_with("/dev/") || !std::path::Path::new("/sys/block").join(&source[5..]).exists() {
        return;
    }
    // Should it not be refused, it is not written without --yes either.
    let output = bench.flash(&["--disk", &source, "--disk", &source]);
    assert_code(&output, 1);
    assert!(text(&output).contains("this machine's own system is on it"), "{}", text(&output));
}
