//! A command that is ended before its end, a folder that is open to others, and a disk of this machine that is full, with a
//! real board.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::common::{Rack, assert_code, read, text, wait_for};

fn bare(name: &str, subnet: &str) -> Rack {
    let rack = Rack::bare(name, 1, subnet, &[]);
    rack.append("prepare:\n  packages: [tree]\n  timezone: Europe/Berlin\n");
    rack
}

/// Ends a command by a signal once it has said `mark`; gives what it said, its exit code, and how long it took to end.
fn ended(rack: &Rack, args: &[&str], mark: &str, signal: &str) -> (String, Option<i32>, Duration) {
    let log = rack.dir.path().join("ended.log");
    let file = fs::File::create(&log).unwrap();
    let errors = file.try_clone().unwrap();
    let mut child = rack.command(args).stdin(Stdio::null()).stdout(file).stderr(errors).spawn().unwrap();
    wait_for(mark, || read(&log).contains(mark) || child.try_wait().unwrap().is_some());
    assert!(Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap().success());
    let told = Instant::now();
    let code = child.wait().unwrap().code();
    (read(&log), code, told.elapsed())
}

#[test]
#[ignore = "needs root: `make test`"]
fn a_command_that_is_ended_says_what_goes_on_and_how_to_go_on() {
    let rack = bare("t-intr", "10.78.26.0/24");
    for (signal, code) in [("-INT", 130), ("-TERM", 143), ("-HUP", 129)] {
        assert_code(&rack.run(&["down", "--yes"]), 0);
        let (said, ended_with, took) = ended(&rack, &["up", "--yes"], "fetch the package lists", signal);
        assert_eq!(ended_with, Some(code), "{said}");
        assert!(said.contains("error: interrupted; a change that a board has begun goes on there"), "{said}");
        assert!(said.contains("`bramble up` goes on from there"), "{said}");
        assert!(took < Duration::from_secs(30), "{took:?}");
        rack.go_up();
        assert_eq!(rack.plan().0, 0, "{:?}", rack.titles());
    }
    let mut run = rack.command(&["run", "sleep 301"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    wait_for("the command on the board", || !rack.shell(&rack.node(1), "pgrep -x sleep").is_empty());
    assert!(Command::new("kill").args(["-TERM", &run.id().to_string()]).status().unwrap().success());
    assert_eq!(run.wait().unwrap().code(), Some(143));
    let left: Vec<String> =
        hidden(&rack).into_iter().filter(|name| name.contains(".new") || name.contains("state")).collect();
    assert_eq!(left, [] as [String; 0]);
}

fn hidden(rack: &Rack) -> Vec<String> {
    let entries = [rack.dir.path().to_owned(), rack.dir.path().join(".bramble")].map(|dir| fs::read_dir(dir).unwrap());
    entries.into_iter().flatten().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// The rack's folder on a file system of its own, gone when the test ends.
struct Small(PathBuf);

impl Small {
    fn over(folder: &Path) -> Small {
        let there: Vec<(PathBuf, Vec<u8>)> = ["bramble.yaml", ".bramble/known_hosts"]
            .map(|name| (folder.join(name), fs::read(folder.join(name)).unwrap()))
            .into();
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", "size=1m", "small"]).arg(folder).status().unwrap();
        assert!(mounted.success());
        fs::create_dir(folder.join(".bramble")).unwrap();
        // As it is after a copy or an unpacked archive.
        fs::set_permissions(folder.join(".bramble"), fs::Permissions::from_mode(0o755)).unwrap();
        for (path, bytes) in there {
            fs::write(path, bytes).unwrap();
        }
        Small(folder.to_owned())
    }

    fn fill(&self) {
        let mut file = fs::File::create(self.0.join("full")).unwrap();
        while file.write(&[0; 512]).is_ok_and(|written| written > 0) {}
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        Command::new("umount").arg("-l").arg(&self.0).status().unwrap();
    }
}

fn is_full(output: &Output) -> bool {
    text(output).contains("No space left on device") && output.status.code() == Some(1)
}

#[test]
#[ignore = "needs root: `make test`"]
fn a_full_disk_loses_neither_pins_nor_host_keys_and_a_loose_folder_is_tightened() {
    let rack = bare("t-full", "10.78.27.0/24");
    let folder = rack.dir.path().to_owned();
    let small = Small::over(&folder);
    rack.go_up();
    let mode = fs::metadata(folder.join(".bramble")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    let files = ["bramble.lock", ".bramble/known_hosts"].map(|name| folder.join(name));
    let before = files.clone().map(|path| read(&path));
    assert!(before[0].contains("clusters") && before[1].contains("ssh-"), "{before:?}");
    // As of a folder whose lock file does not know the cluster: it has to be written.
    let unknown = before[0].replacen("\"clusters\"", "\"others\"", 1);
    fs::write(&files[0], &unknown).unwrap();
    small.fill();
    let adopted = rack.run(&["up", "--yes", "--adopt"]);
    assert!(is_full(&adopted) && text(&adopted).contains("cannot write"), "{}", text(&adopted));
    assert_eq!(files.clone().map(|path| read(&path)), [unknown, before[1].clone()]);
    fs::remove_file(folder.join("full")).unwrap();
    fs::write(&files[0], &before[0]).unwrap();
    assert_eq!(rack.plan().0, 0, "{:?}", rack.titles());
    assert_eq!(files.map(|path| read(&path)), before);
}
