//! The functions of the shell libraries, each with all of its programs succeeding and with each of them failing.

#![allow(clippy::unwrap_used)]

mod coverage;
mod ledgers;
mod look;
mod places;
mod turn;
mod updates;

use bramble_shell::testing::{Case, Run};

const STEPS: &str = include_str!("../../src/steps.sh");
const LOCK: &str = include_str!("../../src/lock.sh");
const LEDGER: &str = concat!(
    include_str!("../../src/places.sh"),
    include_str!("../../src/lock.sh"),
    include_str!("../../src/ledger.sh")
);
const UNDO: &str = include_str!("../../src/undo.sh");

fn ends(body: &str) -> Case {
    Case::new(STEPS, body).file("/var/lib/bramble/done/", "").file("/var/lib/bramble/pending/", "")
}

/// On a node that was changed before, whose turn this is.
fn plan(body: &str) -> Case {
    let folders = ["ledger", "done", "pending"];
    let case = Case::new(format!("{STEPS}{LEDGER}"), body)
        .may_fail("flock -n 9", "then it waits")
        .file("/proc/sys/kernel/random/boot_id", "a-boot\n");
    folders.into_iter().fold(case, |case, name| case.file(&format!("/var/lib/bramble/{name}/"), ""))
}

/// Runs a case with each of its programs failing in its turn.
fn check(case: Case) -> Run {
    case.check()
}

/// What the kernel says when something is mounted there, which is written as the kernel does.
fn mounted(points: &[&str]) -> String {
    points.iter().map(|point| format!("36 25 8:1 / {point} rw,relatime shared:1 - ext4 /dev/sda1 rw\n")).collect()
}

/// A change and then its undoing, each with each of its programs failing.
fn undone(change: &str, case: impl Fn(Case) -> Case, undo: impl Fn(Case) -> Case) -> Run {
    undone_after(change, "", case, undo)
}

/// The same, when something has happened in between.
fn undone_after(change: &str, between: &str, case: impl Fn(Case) -> Case, undo: impl Fn(Case) -> Case) -> Run {
    check(case(plan(change)));
    let after = Case::new(format!("{STEPS}{LEDGER}"), "give_back h").after(format!("{change}\n{between}"));
    check(undo(case(after)))
}

#[test]
fn why_a_unit_failed_is_what_is_said() {
    let journal = r#"E1128 17:00:00.000000    1234 server.go:302] "command failed" err="no token"
time="2026-11-28T17:00:00Z" level=fatal msg="starting kubernetes: preparing server: bootstrap data already found"
panic: runtime error: invalid memory address or nil pointer dereference
[signal SIGSEGV: segmentation violation code=0x1 addr=0x0 pc=0x1]

goroutine 1 [running]:
main.main()
	/go/src/main.go:42 +0x1d
github.com/x/y.(*Server).Run(0xc000123, {0x1, 0x2})
	/go/src/y/server.go:7 +0x2
net/http.(*conn).serve(...)
	/go/src/net.go:1
k8s.io/client-go/tools/cache.(*Reflector).Run({0xc0001, 0x1})
	/go/src/reflector.go:1
created by main.run in goroutine 1
	/go/src/main.go:1
k3s.service: Main process exited, code=exited, status=1/FAILURE
k3s.service: Main process exited, code=exited, status=1/FAILURE
"#;
    let case = ends("unit_failed k3s").file("/journal", journal).on("journalctl*", "cat $R/journal");
    let run = case.refuses("the last lines of k3s:");
    let said: Vec<&str> = run.stdout.lines().skip(1).collect();
    let kept: Vec<&str> = journal.lines().take(4).chain(journal.lines().last()).collect();
    assert_eq!(said, kept);
    // Without a journal it has failed all the same.
    assert_eq!(ends("unit_failed k3s").on("journalctl*", "false").run(None).code, 1);
    assert_eq!(ends("if unit_failed k3s; then :; else exit 7; fi").run(None).code, 7);
}

#[test]
fn a_step_ends_when_it_is_on_the_disk() {
    let run = check(ends("step_ends version 1.36.0").file("/var/lib/bramble/pending/step.version", ""));
    assert_eq!(run.file("var/lib/bramble/done/version").as_deref(), Some("1.36.0\n"));
    assert!(run.file("var/lib/bramble/pending/step.version").is_none());
}

#[test]
fn what_stays_mounted_is_said() {
    let case = ends("unmount_below /var/a/").file("/proc/self/mountinfo", &mounted(&["/var/a/b", "/var/ab"]));
    let run = case.refuses("these stay mounted:\n/var/a/b\n");
    assert!(run.stdout.is_empty() && run.calls == ["readlink -m -- /var/a", "umount -l /var/a/b"], "{:?}", run.calls);
    check(case.on("umount*", ": >$R/proc/self/mountinfo"));
}

#[test]
fn a_run_waits_for_its_turn_and_says_how_changes_ended() {
    let run = check(plan("c0() { systemctl start a; }\nrun 0"));
    assert_eq!(run.stdout, "@start 0\n@ok 0\n");
    let failed = plan("c0() { systemctl start a; echo never; }\nrun 0").on("systemctl*", "false").run(None);
    assert!(failed.code == 1 && failed.stdout == "@start 0\n@fail 0 1\n", "{}", failed.stdout);
    let waits = plan("").on("flock -n 9", "false").on("flock -w 10 9", "[ -e $R/x ] || { : >$R/x; false; }").run(None);
    assert!(waits.code == 0 && waits.stdout == "@waiting\n@waiting\n", "{}", waits.stdout);
    let busy = plan("").on("flock*", "false").run(None);
    assert!(busy.code == 75 && busy.stdout.ends_with("@busy\n"));
    let new = Case::new(format!("{STEPS}{LEDGER}"), "").may_fail("flock -n 9", "then it waits");
    check(new);
}

#[test]
fn nothing_is_changed_that_cannot_be_remembered() {
    let run = check(plan("entry h title\n: >\"$E/undo\"\nkeep h"));
    assert_eq!(run.file("var/lib/bramble/ledger/000001.h/title").as_deref(), Some("title\n"));
    let next = plan("entry h title\n: >\"$E/undo\"\nkeep h").file("/var/lib/bramble/ledger/000009.g/undo", "");
    assert!(check(next).file("var/lib/bramble/ledger/000010.h/title").is_some());
    let known =
        plan("if entry h title; then echo new; else echo known; fi").file("/var/lib/bramble/ledger/000001.h/undo", "");
    assert_eq!(check(known).stdout, "known\n");
    // In a condition, too, a ledger that cannot be written is not the answer that it is there already.
    let full =
        plan("if entry h title; then :; fi\necho changed").on("mkdir*new.h", "false").refuses("cannot be written");
    assert!(!full.stdout.contains("changed"));
}

#[test]
fn files_are_written_and_given_back() {
    let put = "put_file h /etc/a/b 640 none Yg==";
    let run = undone(put, |case| case, |case| case.may_fail("rmdir*", "others may have put something there"));
    assert!(run.file("etc/a/b").is_none());
    let over = |case: Case| case.file("/etc/a/b", "before");
    assert_eq!(undone(put, over, |case| case).file("etc/a/b").as_deref(), Some("before"));
    check(plan("remember_file h /etc/a").file("/etc/a", "x"));
    check(plan("beside /etc/b\necho x >./new\nsettle /etc/b"));
    let sshd = |name: &str| {
        plan("put_file h /etc/ssh/a 600 sshd Yg==").file("/etc/ssh/a", "before").on(name, "false").run(None)
    };
    for call in ["sshd -t -f*", "sshd -t"] {
        let run = sshd(call);
        assert!(run.code != 0 && run.file("etc/ssh/a").as_deref() == Some("before"), "{call}");
    }
    check(plan("put_file h /etc/ssh/a 600 sshd Yg==").file("/etc/ssh/a", "before"));
    check(plan("put_file h /etc/ssh/a 600 sshd Yg=="));
    check(plan("put_file h /etc/sudoers.d/a 440 sudoers Yg=="));
}

#[test]
fn edits_are_made_where_nothing_changed_and_taken_back() {
    // "a b\n" becomes "a b token\n".
    let before = "1e9a2e4a0b3e";
    plan(&format!("put_edit h /etc/line {before} YSBiIHRva2VuCg== token"))
        .file("/etc/line", "a b\n")
        .refuses("has changed");
    let put = "b=$(sha256sum </etc/line)\nput_edit h /etc/line \"${b%% *}\" YSBiIHRva2VuCg== token";
    let line =
        |case: Case| case.file("/etc/line", "a b\n").may_fail("cp -p -- ../line*", "a boot partition knows no owners");
    assert_eq!(undone(put, line, |case| case).file("etc/line").as_deref(), Some("a b\n"));
    let edited = plan(&format!("{put}\necho more >>/etc/line\ngive_back h")).file("/etc/line", "a b\n").run(None);
    assert_eq!(edited.file("etc/line").as_deref(), Some("a b\nmore\n"));
    // What others wrote around the word stays as it is.
    for (now, left) in [
        ("a  b token\r\n", "a  b\r\n"),
        ("token a token-2 x.token\n", "a token-2 x.token\n"),
        ("token", ""),
        ("a token c", "a c"),
    ] {
        let edited =
            plan(&format!("{put}\nprintf '%s' '{now}' >/etc/line\ngive_back h")).file("/etc/line", "a b\n").run(None);
        assert_eq!(edited.file("etc/line").as_deref(), Some(left), "{now:?}: {}", edited.stderr);
    }
}

#[test]
fn folders_hostnames_and_settings_are_given_back() {
    let own = "own_folder h /var/x";
    assert!(undone_after(own, "mkdir /var/x", |case| case, |case| case).file("var/x/y").is_none());
    undone(own, |case| case.file("/var/x/y", "mine"), |case| case);
    // What is still mounted there is not emptied.
    let stuck = plan(&format!("{own}\nmkdir /var/x\n: >/var/x/y\ngive_back h"))
        .file("/proc/self/mountinfo", &mounted(&["/var/x/m"]));
    assert!(stuck.refuses("these stay mounted").file("var/x/y").is_some());
    let name = |case: Case| case.file("/proc/sys/kernel/hostname", "before\n");
    assert!(undone("set_hostname h n1", name, |case| case).called("hostname before"));
    let key = "set_sysctl h a.b 1 /proc/sys/a/b";
    let there = |case: Case| case.file("/proc/sys/a/b", "0\n");
    assert_eq!(undone(key, there, |case| case.best_effort("cp*")).file("proc/sys/a/b").as_deref(), Some("0\n"));
    let none = plan(key).refuses("this kernel has no setting a.b");
    assert!(none.file("var/lib/bramble/ledger/000001.h/title").is_none());
}

/// A simulation of apt that installs one package, and what dpkg says of it before and afterwards.
fn apt(case: Case) -> Case {
    case.says("apt-get -s*install*", "Inst new (1.0)")
        .says("apt-get -s*purge*", "Purg new [1.0]")
        .says("dpkg-query -W -f=${Package}*", "old")
        .says("dpkg-query -W -f=${Status} new", "install ok installed")
        .says("dpkg-query*Abbrev* new", "ii")
        .says("dpkg-query*Abbrev*", "ii  old")
        .says("dpkg-query*Want*", "hold kept")
        .says("apt-mark show*", "old")
        .file("/var/lib/apt/extended_states", "Package: old\nAuto-Installed: 1\n")
}

#[test]
fn packages_come_and_go() {
    let change = "apt_do h install new";
    let asked = "one that is not there has no state";
    let run = undone(change, apt, |case| case.may_fail("dpkg-query -W -f=${Status} new", asked));
    assert!(run.called("apt-get -q -y*purge new") && run.called("apt-mark auto old"));
    // Unless it is written down that they are ours, none is installed.
    let unknown = apt(plan(change).on("apt-get -s*", "false")).run(None);
    assert!(unknown.code != 0 && !unknown.called("apt-get -q*install*"));
    let ours = |case: Case| {
        apt(case)
            .file("/var/lib/bramble/ledger/000001.h/ours", "new\nother\n")
            .file("/var/lib/bramble/ledger/000001.h/before", "old\n")
    };
    assert!(check(ours(plan("drop_packages h new"))).called("apt-get*purge new"));
    let none = ours(plan("drop_packages h new").on("apt-get -s*", ":")).run(None);
    assert!(none.code == 0 && !none.called("apt-get*-y*"));
    let hold = |case: Case| apt(case).file("/var/lib/dpkg/status", "");
    undone("hold h new", hold, |case| case);
}

/// As apt and dpkg of Debian 13 say it.
#[test]
fn locks_of_apt_and_dpkg_are_waited_for_and_nothing_else_is() {
    for said in [
        "E: Could not get lock /var/lib/apt/lists/lock. It is held by process 392 (apt-get)",
        "E: Unable to lock directory /var/cache/apt/archives/",
        "dpkg: error: dpkg frontend lock was locked by /usr/bin/apt-get process with pid 392",
    ] {
        let held = format!("[ -e /run/tried ] || {{ : >/run/tried; echo '{said}' >&2; exit 100; }}");
        let run = plan("mkdir -p /run\npatient dpkg --configure -a").on("dpkg --configure*", &held).run(None);
        assert_eq!(
            (run.code, run.calls.iter().filter(|call| call.starts_with("dpkg")).count()),
            (0, 2),
            "{}",
            run.stdout
        );
        assert!(run.stdout.contains("@waiting another program that installs packages: "));
    }
    let broken =
        plan("apt_get install new").on("apt-get*", "echo 'E: Unable to locate package new' >&2; exit 100").run(None);
    assert!(broken.code == 100 && !broken.stdout.contains("@waiting"), "{}", broken.stdout);
    // A configuration file that is there stays, and nobody is asked.
    assert!(check(plan("apt_get install new")).called("apt-get -q -y*force-confdef*force-confold install new"));
}

#[test]
fn units_are_given_back_as_they_were() {
    let was = |enabled: &'static str, active: &'static str| {
        move |case: Case| {
            case.says("systemctl is-enabled*", enabled)
                .says("systemctl is-active*", active)
                .says("systemctl show*", "loaded")
        }
    };
    for (enabled, active, calls) in [
        ("disabled", "inactive", ["systemctl stop a", "systemctl disable a"]),
        ("enabled", "inactive", ["systemctl stop a", "systemctl enable a"]),
        ("masked", "inactive", ["systemctl stop a", "systemctl mask a"]),
        ("enabled", "active", ["systemctl start a", "systemctl enable a"]),
    ] {
        let case =
            was(enabled, active)(Case::new(format!("{STEPS}{LEDGER}"), "give_back h").after("remember_unit h a"))
                .may_fail("systemctl reset-failed*", "it is not loaded");
        let case = if active == "active" { case.best_effort("systemctl start a") } else { case };
        let run = check(case);
        assert!(calls.iter().all(|call| run.called(call)), "{:?}", run.calls);
    }
    check(
        was("enabled", "active")(plan("remember_unit h a")).may_fail("systemctl is-enabled*", "then the answer is no"),
    );
    let gone = plan("remember_unit h a\ngive_back h")
        .says("systemctl is-active*", "inactive")
        .says("systemctl show*", "not-found");
    assert!(!gone.run(None).called("systemctl stop*"));
    plan("remember_unit h a").refuses("systemd does not say");
    check(plan("restart_later a"));
    check(plan("reboot_later"));
    check(plan("unit_do restart a"));
    plan("unit_do restart a").on("systemctl*", "false").refuses("the last lines of a:");
    check(
        plan("read_again a b")
            .on("systemctl -q is-active b", "false")
            .may_fail("systemctl -q is-active*", "then it does not run"),
    );
}

#[test]
fn what_is_given_back_is_forgotten_and_what_cannot_be_is_not() {
    let entry = |text: &str| {
        plan("give_back h")
            .file("/var/lib/bramble/ledger/000001.h/undo", text)
            .file("/var/lib/bramble/ledger/000001.h/title", "t")
    };
    // Entries of older versions use what was never set.
    let run = check(entry("[ -z \"$nobody\" ] || exit 1\nsystemctl stop a\n"));
    assert!(run.file("var/lib/bramble/ledger/000001.h/title").is_none());
    let kept = entry("systemctl stop a\n:\n").on("systemctl*", "false").run(None);
    assert!(kept.code != 0 && kept.file("var/lib/bramble/ledger/000001.h/title").is_some());
    check(plan("give_back h"));
}

#[test]
fn blobs_are_what_they_should_be() {
    let digest = "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881";
    let install = format!("install_blob h /var/x/b 755 {digest} note /var/staged");
    let run = check(plan(&install).file("/var/staged", "x"));
    assert_eq!(run.file("var/x/b").as_deref(), Some("x"));
    let far = plan(&install).file("/var/staged", "x").on("stat -c %d -- */staged", "echo 7");
    check(far);
    let wrong =
        plan(&install).file("/var/staged", "y").on("stat -c %d -- */staged", "echo 7").refuses("has the digest");
    assert!(wrong.file("var/x/b").is_none());
    let fetch = format!("fetch_blob h /var/x/b 755 {digest} note https://x");
    let curl = "while [ \"$1\" != -o ]; do shift; done; printf x >\"$2\"";
    check(plan(&fetch).on("curl*", curl));
    check(plan(&fetch).without("curl").on("wget*", "printf x >\"$7\""));
    let wrong =
        plan(&fetch).on("curl*", "while [ \"$1\" != -o ]; do shift; done; printf y >\"$2\"").refuses("expected was");
    assert!(wrong.file("var/x/b.bramble-new").is_none());
    check(plan("verified /etc/a d note").file("/etc/a", "x"));
    check(plan("beside /etc/b\necho x >./new\nplace_blob /etc/b 644 d note"));
    assert_eq!(plan("digest_is /etc/a d").file("/etc/a", "x").run(None).code, 1);
}

#[test]
fn steps_begin_with_how_to_undo_them() {
    let run = check(
        plan("step_begins h version title OgAK\necho \"again=$again\"").file("/var/lib/bramble/done/version", "1"),
    );
    assert!(run.stdout == "again=no\n" && run.file("var/lib/bramble/done/version").is_none());
    assert!(run.file("var/lib/bramble/ledger/000001.h/undo").is_some());
    let again =
        plan("step_begins h version title ''\necho \"again=$again\"").file("/var/lib/bramble/pending/step.version", "");
    assert_eq!(check(again).stdout, "again=yes\n");
}

/// Formats a disk that was planned as the one that this says.
fn format(how: &str, planned: &str) -> Case {
    let case = plan(&format!("disk_identity() {{ echo one; }}\nformat_disk /run/sda data {how} {planned}"));
    case.file("/run/sda", "").says("readlink -f -- */run/sda", "/dev/sda")
}

#[test]
fn a_disk_is_formatted_only_if_all_says_that_it_may_be() {
    let case = |how: &str| format(how, "one");
    let run = check(case("blank").file("/proc/swaps", "Filename Type\n").best_effort("udevadm settle"));
    assert!(run.called("flock -w 10 8") && run.called("mkfs.ext4 -q -F -L data /dev/sda"), "{:?}", run.calls);
    // A kernel without swap has no list of it, and what is mounted is found all the same.
    let mounted = case("wipe").file("/proc/self/mounts", "/dev/sda1 / ext4 rw 0 0\n").refuses("/sda is in use");
    assert!(!mounted.called("mkfs*") && !mounted.called("wipefs*"));
    case("wipe").file("/proc/swaps", "/dev/sda2 partition\n").refuses("/sda is in use");
    case("blank").says("wipefs -n*", "0x438,uuid,label,ext4").refuses("is not blank any more");
    // No answer is none that says yes.
    let silent = case("blank").on("wipefs -n*", "false").run(None);
    assert!(silent.code != 0 && !silent.called("mkfs*"));
    let other = case("wipe").says("blkid*", "/dev/sdb").says("readlink -f -- /dev/sdb", "/dev/sdb");
    other.refuses("/dev/sdb has a file system for this already");
    let none = case("wipe").on("blkid*", "exit 2").run(None);
    assert!(none.code == 0 && none.called("mkfs.ext4*"));
}

#[test]
fn a_disk_that_is_not_the_one_that_was_planned_is_not_formatted() {
    for planned in ["two", "''"] {
        let run = format("wipe", planned).refuses("is not the disk that was planned");
        assert!(!run.called("wipefs*") && !run.called("mkfs*"), "{planned}");
    }
}

#[test]
fn a_disk_that_another_program_has_locked_is_not_formatted() {
    let run = format("wipe", "one").on("flock -w 10 8", "false").refuses("is locked by another program");
    assert!(!run.called("wipefs*") && !run.called("mkfs*"));
}

#[test]
fn the_ledger_is_undone_backwards_and_kept_as_long_as_something_is_left() {
    let node = || {
        Case::new(format!("{STEPS}{LEDGER}{UNDO}"), "")
            .may_fail("flock -n 9", "then it waits")
            .file("/var/lib/bramble/done/", "")
            .file("/var/lib/bramble/ledger/000001.a/title", "one\n")
            .file("/var/lib/bramble/ledger/000001.a/undo", "systemctl stop a\n")
            .file("/var/lib/bramble/ledger/000002.b/title", "two\n")
            .file("/var/lib/bramble/ledger/000002.b/undo", "systemctl stop \"b$nobody\"\n")
            .file("/var/lib/bramble/ledger/new.c/title", "three\n")
    };
    let run = check(node());
    assert_eq!(run.stdout, "@title two\n@start 0\n@ok 0\n@title one\n@start 1\n@ok 1\n@fact undone all\n");
    assert!(run.file("var/lib/bramble/ledger/000001.a/undo").is_none());
    let failed = node().on("systemctl stop a", "exit 5").run(None);
    assert!(failed.code == 1 && failed.stdout.ends_with("@title one\n@start 1\n@fail 1 5\n"));
    assert!(failed.file("var/lib/bramble/ledger/000001.a/undo").is_some());
    // Without a list of what there is to undo, nothing is forgotten.
    let blind = node().on("ls*", "false").run(None);
    assert!(blind.code != 0 && blind.file("var/lib/bramble/ledger/000001.a/undo").is_some());
}

#[test]
fn swap_is_turned_off_and_on_again() {
    let swap = include_str!("../../src/resource/swap.sh");
    let swaps = |case: Case| case.file("/proc/swaps", "Filename Type\n/swapfile file\n/dev/sda2 partition\n");
    assert!(check(swaps(plan(swap))).called("swapoff -a"));
    let back = swaps(Case::new(format!("{STEPS}{LEDGER}"), "give_back swap-in-use").after(swap));
    let run = check(back.may_fail("swapon*", "what is gone cannot be swapped to"));
    assert!(run.called("swapon /swapfile") && run.called("swapon /dev/sda2"));
}
