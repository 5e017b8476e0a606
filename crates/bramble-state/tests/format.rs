//! `format_disk` on loop devices, under the shell of a node: it formats the disk that was planned, and no other.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use bramble_shell::{Commands, Script};
use bramble_state::DISK_IDENTITY;

const SIZE: usize = 8 << 20;

fn tool(program: &str, args: &[&str]) -> Output {
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap());
    let output = Command::new(program).args(args).env("PATH", path).output().unwrap();
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

/// A loop device with a number of its own, so that nobody gets it while its file is exchanged.
struct Disk {
    dir: tempfile::TempDir,
    number: u32,
}

impl Disk {
    fn new(offset: u32) -> Disk {
        let disk = Disk { dir: tempfile::tempdir().unwrap(), number: 2000 + std::process::id() % 30_000 * 32 + offset };
        disk.show("planned");
        disk
    }

    fn node(&self) -> String {
        format!("/dev/loop{}", self.number)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn show(&self, name: &str) {
        fs::write(self.file(name), vec![0; SIZE]).unwrap();
        tool("losetup", &[&self.node(), self.file(name).to_str().unwrap()]);
    }

    fn run(&self, script: &Commands) -> Output {
        let script = Script::new("test", script);
        let mut shell = Command::new("dash");
        let mut shell =
            shell.arg("-s").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        shell.stdin.take().unwrap().write_all(script.text().as_bytes()).unwrap();
        shell.wait_with_output().unwrap()
    }

    fn identity(&self) -> String {
        let mut script = Commands::new();
        script.fixed(DISK_IDENTITY);
        script.call("disk_identity", [self.node()]);
        let output = self.run(&script);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// Formats the disk that was planned as this one.
    fn format(&self, planned: &str) -> (bool, String) {
        let mut script = Commands::new();
        // The rest of the library makes the folders of a node.
        let library = include_str!("../src/ledger.sh");
        script.fixed(&library[library.find("format_disk() {").unwrap()..]).fixed(DISK_IDENTITY);
        // Labels of file systems are looked for on the whole machine.
        script.call("format_disk", [self.node().as_str(), &format!("t-{}", self.number), "blank", planned]);
        let output = self.run(&script);
        (output.status.success(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    }

    fn is_blank(&self, name: &str) -> bool {
        fs::read(self.file(name)).unwrap().iter().all(|byte| *byte == 0)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // LOOP_CTL_REMOVE (linux/loop.h); losetup has no option for it yet.
        let remove = format!(
            "losetup --detach {}; n=0; until perl -e 'open F, \"+<\", \"/dev/loop-control\" or die; ioctl(F, 0x4C81, {}+0) // exit 1'; \
             do [ $n -lt 50 ] || exit 1; n=$((n + 1)); sleep 0.1; done",
            self.node(),
            self.number
        );
        tool("sh", &["-c", &remove]);
    }
}

#[test]
fn the_disk_that_was_planned_is_formatted() {
    let disk = Disk::new(0);
    let (formatted, said) = disk.format(&disk.identity());
    assert!(formatted, "{said}");
    let label = tool("blkid", &["-p", "-o", "value", "-s", "LABEL", &disk.node()]);
    assert_eq!(String::from_utf8(label.stdout).unwrap(), format!("t-{}\n", disk.number));
}

#[test]
fn a_disk_of_the_same_size_that_came_in_its_place_is_not_touched() {
    let disk = Disk::new(1);
    let planned = disk.identity();
    tool("losetup", &["--detach", &disk.node()]);
    disk.show("other");
    let (formatted, said) = disk.format(&planned);
    assert!(!formatted && said.contains("is not the disk that was planned"), "{said}");
    assert!(disk.is_blank("other") && disk.is_blank("planned"));
}

#[test]
fn a_disk_that_was_locked_by_another_program_is_not_touched() {
    let disk = Disk::new(2);
    let planned = disk.identity();
    let mut other = Command::new("flock");
    let other = other.args([&disk.node(), "sh", "-c", "echo locked; read -r end"]);
    let mut other = other.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    std::io::Read::read_exact(other.stdout.as_mut().unwrap(), &mut [0; 7]).unwrap();
    let (formatted, said) = disk.format(&planned);
    drop(other.stdin.take());
    other.wait().unwrap();
    assert!(!formatted && said.contains("is locked by another program"), "{said}");
    assert!(disk.is_blank("planned"));
}
