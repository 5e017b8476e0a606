//! Whose turn it is on a node.

use bramble_shell::testing::{Case, Run};

use crate::{LEDGER, LOCK, STEPS, check};

const TURN: &str = include_str!("../../src/turn.sh");

/// A script of the run `aa`, which found `seen` there; on the node there is `there` now.
fn case(library: &str, body: &str, seen: &str, there: Option<&str>) -> Case {
    let turn = format!("B=/var/lib/bramble\nRUN=aa\nWHO=me@here\nSEEN='{seen}'\n{TURN}{LOCK}");
    let case = Case::new(format!("{turn}{library}"), body);
    let case = if body.starts_with("take_turn") { case } else { case.may_fail("flock -n 9", "then it waits") };
    match there {
        Some(there) => case.file("/var/lib/bramble/run", &format!("{there}\n")),
        None => case,
    }
}

fn turn_after(run: &Run) -> Option<String> {
    run.file("/var/lib/bramble/run")
}

#[test]
fn a_turn_is_taken_where_nobody_was_or_where_all_is_as_it_was_seen() {
    for (seen, there, after) in [
        ("", None, "aa.1 me@here\n"),
        ("bb.3 you@there", Some("bb.3 you@there"), "aa.1 me@here\n"),
        ("bb.3 you@there", Some("aa.1 me@here"), "aa.2 me@here\n"),
        ("", Some("aa.9 me@here"), "aa.10 me@here\n"),
    ] {
        let run = case("", "take_turn\necho done", seen, there).check();
        assert_eq!((turn_after(&run).as_deref(), run.stdout.as_str()), (Some(after), "done\n"), "{seen} {there:?}");
    }
}

#[test]
fn a_turn_is_over_where_another_run_was() {
    for (seen, there) in [
        ("", Some("bb.1 you@there")),
        ("bb.3 you@there", Some("bb.4 you@there")),
        ("bb.3 you@there", None),
        ("aa", Some("aab.1 x")),
    ] {
        for (library, body) in
            [("", "take_turn\necho done"), ("", "one_turn\necho done"), (&*format!("{STEPS}{LEDGER}"), "echo done")]
        {
            let run = case(library, body, seen, there).run(None);
            assert_eq!(run.code, 76, "{seen} {there:?}: {}", run.stderr);
            assert_eq!(run.stdout, format!("@stale {}\n", there.unwrap_or_default()));
            assert_eq!(turn_after(&run), there.map(|there| format!("{there}\n")));
        }
    }
}

#[test]
fn a_script_that_does_not_keep_the_lock_waits_for_it() {
    let run = case("", "one_turn\necho done", "", None).check();
    assert_eq!((run.stdout.as_str(), turn_after(&run).as_deref()), ("done\n", Some("aa.1 me@here\n")));
    let busy = case("", "one_turn\necho done", "", None).on("flock*", "false").run(None);
    assert_eq!(busy.code, 75);
    assert!(busy.stdout.ends_with("@waiting\n@busy\n"), "{}", busy.stdout);
}

#[test]
fn a_plan_takes_its_turn_before_it_opens_the_ledger() {
    let run = case(&format!("{STEPS}{LEDGER}"), "echo done", "", None).check();
    assert_eq!((run.stdout.as_str(), turn_after(&run).as_deref()), ("done\n", Some("aa.1 me@here\n")));
}

#[test]
fn a_node_is_locked_or_waited_for() {
    let case = || Case::new(LOCK, "lock_node\necho done").may_fail("flock -n 9", "then it waits");
    assert_eq!(case().check().stdout, "done\n");
    let late = case().on("flock -n 9", "false").on("flock -w 10 9", "[ -e $R/x ] || { : >$R/x; false; }").run(None);
    assert_eq!((late.code, late.stdout.as_str()), (0, "@waiting\n@waiting\ndone\n"));
}

#[test]
fn a_board_goes_down_when_its_packages_are_done() {
    let go = Case::new(include_str!("../../src/go_down.sh"), "go_down reboot");
    check(go.clone());
    let holds = "case $(/bin/cat /etc/seen 2>/dev/null) in 11) ;; *) printf 1 >>/etc/seen; echo 'Call to Reboot failed: Access denied' >&2; exit 1 ;; esac";
    let apt = "NetworkManager 0 root 228 NetworkManager sleep NetworkManager needs to turn off networks delay\napt-get        0 root 77 apt-get shutdown Debian package management block";
    let held = go.clone().file("/etc/x", "").on("systemctl *", holds).says("systemd-inhibit *", apt);
    let run = held.run(None);
    let asked = run.calls.iter().filter(|call| call.starts_with("systemctl")).count();
    assert_eq!((run.code, asked), (0, 3), "{}", run.stderr);
    // Nobody holds it, and it is refused.
    go.clone().on("systemctl *", "echo 'Access denied' >&2; exit 1").refuses("Access denied");
    let ever = go.on("systemctl *", "exit 1").says("systemd-inhibit *", apt);
    ever.refuses("held by apt-get 0 root 77 apt-get shutdown Debian package management block");
}
