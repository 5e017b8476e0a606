//! Ledgers that older versions have written: `ledgers/COMMIT` is one of each form that there was, made by `ledgers/make.sh`.

use std::fs;
use std::path::{Path, PathBuf};

use super::*;

fn ledgers() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/ledgers");
    let paths = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    paths.filter(|path| path.is_dir()).collect()
}

/// The node of `make.sh` as the changes left it, with this ledger; one of its lines was edited since.
fn node(ledger: &Path) -> Case {
    node_after(ledger, "")
}

/// The same, after these commands.
fn node_after(ledger: &Path, commands: &str) -> Case {
    let mut case = Case::new(format!("{STEPS}{LEDGER}"), UNDO)
        .file("/etc/file", "after\n")
        .file("/etc/line", "one two three\n")
        .file("/etc/line.edited", "one two three four\n")
        .file("/etc/link", "after\n")
        .file("/usr/zone", "")
        .file("/proc/sys/kernel/hostname", "new-name\n")
        .file("/proc/sys/net/forward", "1\n")
        .file("/var/pi/new/folder/file", "after\n")
        .file("/var/x/ours/of/bramble", "x")
        .file("/var/x/theirs", "x")
        .says("apt-mark showmanual", "new")
        .says("apt-mark showhold", "new")
        .says("dpkg-query -W -f=${Status} new", "install ok installed")
        .says("dpkg-query*Abbrev* *", "ii  old")
        .says("systemctl show*", "loaded");
    let mut links = String::new();
    for entry in fs::read_dir(ledger).unwrap().map(|entry| entry.unwrap()) {
        for file in fs::read_dir(entry.path()).unwrap().map(|file| file.unwrap()) {
            let path = format!("/var/lib/bramble/ledger/{}/{}", name(&entry), name(&file));
            if file.path().is_symlink() {
                let target = fs::read_link(file.path()).unwrap();
                links.push_str(&format!("/usr/bin/ln -s {} $R{path}\n", target.display()));
            } else {
                case = case.file(&path, &fs::read_to_string(file.path()).unwrap());
            }
        }
    }
    case.after(links + commands)
}

fn name(entry: &fs::DirEntry) -> String {
    entry.file_name().into_string().unwrap()
}

/// Undoes each of the ledgers, and asserts something of each node.
fn each(holds: impl Fn(&Run) -> bool) {
    let all = ledgers();
    assert!(all.len() >= 4, "{all:?}");
    for ledger in all {
        let run = node(&ledger).run(None);
        assert_eq!(run.code, 0, "{}: {}{}", ledger.display(), run.stdout, run.stderr);
        assert!(holds(&run), "{}: {}\n{}", ledger.display(), run.stdout, run.calls.join("\n"));
    }
}

#[test]
fn files_of_an_older_ledger_come_back() {
    each(|run| run.file("etc/file").as_deref() == Some("before\n"));
}

#[test]
fn a_relative_link_of_an_older_ledger_is_the_same_link_again() {
    each(|run| fs::read_link(run.root.path().join("etc/link")).unwrap() == Path::new("../usr/zone"));
}

#[test]
fn what_an_older_ledger_brought_goes_with_its_folders() {
    each(|run| !run.root.path().join("var/pi/new").exists() && run.root.path().join("var/pi").exists());
}

#[test]
fn edits_of_an_older_ledger_are_taken_back() {
    each(|run| run.file("etc/line").as_deref() == Some("one two\n"));
}

#[test]
fn what_somebody_wrote_since_an_older_ledger_stays() {
    each(|run| run.file("etc/line.edited").as_deref() == Some("one two four\n"));
}

#[test]
fn folders_of_an_older_ledger_go_and_those_that_were_there_stay() {
    each(|run| run.file("var/x/theirs").is_some() && !run.root.path().join("var/x/ours").exists());
}

#[test]
fn settings_and_the_hostname_of_an_older_ledger_come_back() {
    each(|run| run.called("hostname old-name") && run.file("proc/sys/net/forward").as_deref() == Some("0\n"));
}

#[test]
fn packages_and_units_of_an_older_ledger_are_given_back() {
    let calls = ["apt-get -q -y purge new", "apt-mark unhold new", "systemctl disable new.service"];
    each(|run| calls.iter().all(|call| run.called(call)));
}

#[test]
fn steps_and_swap_of_an_older_ledger_are_undone() {
    each(|run| run.called("systemctl stop a-step.service") && run.called("swapon /swapfile"));
}

#[test]
fn nothing_is_left_of_an_older_ledger() {
    each(|run| run.stdout.ends_with("@fact undone all\n") && !run.root.path().join("var/lib/bramble").exists());
}

/// What they wrote for a file follows a link that lies where they made its neighbour.
#[test]
fn an_older_ledger_is_undone_without_following_a_prepared_link() {
    for ledger in ledgers() {
        let links =
            "for f in etc/file etc/line var/pi/new/folder/file; do /usr/bin/ln -s $R/etc/roots $R/$f.bramble-new; done";
        let run = node_after(&ledger, links).file("/etc/roots", "root's\n").run(None);
        assert_eq!(run.file("etc/roots").as_deref(), Some("root's\n"), "{}", ledger.display());
    }
}
