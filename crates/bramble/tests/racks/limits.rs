//! Boards that hang or talk too much, and what a run leaves behind, over real SSH.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::Duration;

use crate::common::{Rack, assert_code, program, read, text};

#[test]
#[ignore = "needs root: `make test`"]
fn a_board_that_hangs_or_talks_too_much_is_given_up_by_name_and_runs_leave_a_trace() {
    let rack = Rack::bare("t-lim", 3, "10.78.31.0/24", &[]);
    rack.append("prepare: { sysctls: { vm.swappiness: 10 } }\n");

    // A gigabyte without a newline, with little memory.
    let flood = "head -c 1073741824 /dev/zero | tr '\\0' x";
    for sudo in ["", "--sudo "] {
        let line = format!(
            "ulimit -v 1000000; exec {} -f {} run {sudo}-n {} \"$1\"",
            program("bramble").display(),
            rack.file().display(),
            rack.node(1)
        );
        let mut command = Command::new("sh");
        command.env("BRAMBLE_SUDO_PASSWORD_FILE", rack.password_file());
        let output = command.args(["-c", &line, "sh", flood]).output().unwrap();
        assert!(!output.status.success());
        assert!(text(&output).contains("has printed more than 16 MiB"), "{}", text(&output));
    }
    assert_code(&rack.run(&["run", "--sudo", "false"]), 1);
    let steers = rack.run(&["run", "-n", &rack.node(1), "printf '\\033]0;owned\\007'"]);
    assert!(!text(&steers).contains('\u{1b}') && text(&steers).contains("owned"), "{}", text(&steers));

    // sshd answers, and the shell never says a word.
    let hung = rack.node(2);
    rack.shell(&hung, "printf 'Match User pi\\n  ForceCommand sleep 1000\\n' >/etc/ssh/sshd_config.d/00-hang.conf; systemctl reload ssh");
    let output = rack.run(&["up", "--yes"]);
    assert_code(&output, 1);
    let said = text(&output);
    assert!(said.contains("1 nodes could not be reached") && said.contains("said nothing for"), "{said}");
    assert!(said.contains(&hung), "{said}");
    for number in [1, 3] {
        assert_eq!(rack.shell(&rack.node(number), "cat /etc/sysctl.d/90-bramble.conf").trim(), "vm.swappiness = 10");
    }
    rack.shell(&hung, "rm /etc/ssh/sshd_config.d/00-hang.conf; systemctl reload ssh");
    // sshd starts itself again for that.
    let answers = || rack.run(&["run", "-n", &hung, "true"]).status.success();
    let mut tries = 0;
    while !answers() {
        tries += 1;
        assert!(tries < 20, "it does not answer");
        std::thread::sleep(Duration::from_millis(500));
    }
    assert_code(&rack.run(&["up", "--yes"]), 0);

    // What was planned, each script with its end, what the nodes printed: for the last ten runs, and for nobody else.
    let folder = rack.dir.path().join(".bramble/log");
    let logs = || {
        let mut all: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        all.sort();
        all
    };
    let last = logs().pop().unwrap();
    let log = read(&last);
    for part in
        ["== planned", "set vm.swappiness", "make the changes: done after", &format!("{hung} look at the node: done")]
    {
        assert!(log.contains(part), "{part} is not in\n{log}");
    }
    assert_eq!(fs::metadata(&last).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700);
    for _ in 0..11 {
        rack.run(&["plan"]);
    }
    assert_eq!(logs().len(), 10);
}
