//! What may change between the question and the answer, on real loop devices.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use bramble_image::{Disk, HoldError, Machine};

use crate::loops::{Loop, MIB, tool};

/// The names of the situations in docs/disks.md, and what becomes of the disk.
pub(crate) const SITUATIONS: [(&str, &str); 9] = [
    ("unchanged since it was shown", "written"),
    ("its file was exchanged at the prompt", "refused"),
    ("exchanged for another disk of the same size", "refused"),
    ("its node became that of another disk", "refused"),
    ("formatted since it was shown", "refused"),
    ("mounted since it was shown", "refused"),
    ("taken out since it was shown", "refused"),
    ("locked by another program", "refused"),
    ("open for writing in another program", "refused"),
];

fn shown(one: &Loop) -> Disk {
    let machine = Machine::new(Path::new("/"));
    let (node, mut disk) = machine.named(&one.node).unwrap();
    machine.look_inside(&mut disk, &node);
    assert_eq!(disk.refusals(1, 1), []);
    disk
}

fn hold(one: &Loop, disk: &Disk) -> Result<File, HoldError> {
    disk.hold(Path::new("/"), &one.node, 1, 1)
}

fn refused(one: &Loop, disk: &Disk, why: &str) {
    let said = hold(one, disk).unwrap_err().to_string();
    assert!(said.contains(why), "`{said}` instead of `{why}`");
}

#[test]
fn a_disk_that_is_the_one_that_was_shown_is_held() {
    let one = Loop::new(&[0; MIB]);
    let held = hold(&one, &shown(&one)).unwrap();
    // Nobody else has it meanwhile.
    let busy = hold(&one, &shown(&one)).unwrap_err();
    assert!(matches!(busy, HoldError::Busy { .. }), "{busy}");
    drop(held);
    hold(&one, &shown(&one)).unwrap();
}

#[test]
fn a_disk_that_is_held_is_locked_for_udev() {
    let one = Loop::new(&[0; MIB]);
    let _held = hold(&one, &shown(&one)).unwrap();
    let locked = Command::new("flock").args(["--nonblock", "--shared", one.node.to_str().unwrap(), "true"]).status();
    assert_eq!(locked.unwrap().code(), Some(1));
}

#[test]
fn a_loop_device_whose_file_was_exchanged_is_another_disk() {
    let one = Loop::new(&[0; MIB]);
    let disk = shown(&one);
    one.detach();
    one.attach("disk", &[0; MIB]);
    refused(&one, &disk, "is not the disk that was shown: its medium's number was");
}

/// As on a kernel that does not number media: then its serial number, or what is on it, tells.
#[test]
fn a_disk_of_the_same_size_is_told_by_what_is_on_it() {
    let one = Loop::new(&[0; MIB]);
    tool("mkswap", &["--quiet", "--uuid", "11111111-2222-3333-4444-555555555555", one.node.to_str().unwrap()]);
    let machine = Machine::new(Path::new("/"));
    let (_, mut before) = machine.named(&one.node).unwrap();
    machine.look_inside(&mut before, &one.node);
    let mut other = before.clone();
    other.contents[0].uuid = "99999999-2222-3333-4444-555555555555".to_owned();
    assert_eq!(before.differs_from(&other).unwrap(), "what is on it has other UUIDs");
    other = before.clone();
    other.serial = "0815".to_owned();
    assert_eq!(before.differs_from(&other).unwrap(), "its serial number was 0815, and is none");
    assert_eq!(before.differs_from(&before), None);
}

#[test]
fn a_disk_of_another_size_is_another_disk() {
    let one = Loop::new(&[0; MIB]);
    let disk = shown(&one);
    one.detach();
    one.attach("larger", &[0; 2 * MIB]);
    refused(&one, &disk, "its size in bytes was 1048576, and is 2097152");
}

#[test]
fn a_node_that_became_that_of_another_disk_is_noticed() {
    let (one, other) = (Loop::new(&[0; MIB]), Loop::new(&[0; MIB]));
    let disk = shown(&one);
    let said = disk.hold(Path::new("/"), &other.node, 1, 1).unwrap_err().to_string();
    assert!(said.contains("its device number was"), "{said}");
}

#[test]
fn a_disk_that_got_a_file_system_meanwhile_is_not_written() {
    let one = Loop::new(&[0; 8 * MIB]);
    let disk = shown(&one);
    tool("mkfs.ext4", &["-q", "-L", "photos", one.node.to_str().unwrap()]);
    refused(&one, &disk, "its content was none, and is ");
    assert!(fs::read(one.file("disk")).unwrap()[1024..].iter().any(|byte| *byte != 0));
}

#[test]
fn a_disk_that_was_mounted_meanwhile_is_busy() {
    let one = Loop::new(&[0; 8 * MIB]);
    tool("mkfs.ext4", &["-q", one.node.to_str().unwrap()]);
    let disk = shown(&one);
    fs::create_dir(one.file("at")).unwrap();
    // In a mount namespace of its own, where nobody else sees it.
    let script = format!("mount {} {} && echo mounted && read -r end", one.node.display(), one.file("at").display());
    let (mut other, _) = meanwhile(Command::new("unshare").args(["-m", "sh", "-c", &script]));
    let machine = Machine::new(Path::new("/"));
    let (_, now) = machine.named(&one.node).unwrap();
    let told: Vec<String> = now.refusals(1, 2).iter().map(ToString::to_string).collect();
    let held = hold(&one, &disk);
    drop(other.stdin.take());
    other.wait().unwrap();
    assert!(matches!(held, Err(HoldError::Busy { .. })), "{held:?}");
    assert!(told[0].contains("in the mount namespace of process"), "{told:?}");
}

/// Starts a program, and waits for its first line.
fn meanwhile(command: &mut Command) -> (Child, String) {
    use std::io::{BufRead, BufReader};

    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    (child, line)
}

#[test]
fn a_disk_that_was_taken_out_is_gone() {
    let one = Loop::new(&[0; MIB]);
    let disk = shown(&one);
    one.detach();
    refused(&one, &disk, "its size in bytes was 1048576, and is 0");
}

#[test]
fn a_disk_that_another_program_has_locked_is_left_alone() {
    let one = Loop::new(&[0; MIB]);
    let disk = shown(&one);
    let node = one.node.to_str().unwrap();
    let (mut other, _) = meanwhile(Command::new("flock").args([node, "sh", "-c", "echo locked; read -r end"]));
    refused(&one, &disk, "is locked by another program");
    drop(other.stdin.take());
    other.wait().unwrap();
}

#[test]
fn a_disk_that_another_program_writes_is_left_alone() {
    let one = Loop::new(&[0; MIB]);
    let disk = shown(&one);
    let script = format!("exec 3<>{}; echo open; read -r end", one.node.display());
    let (mut other, _) = meanwhile(Command::new("sh").args(["-c", &script]));
    refused(&one, &disk, &format!("sh (process {}) has {} open for writing", other.id(), disk.name));
    drop(other.stdin.take());
    other.wait().unwrap();
}
