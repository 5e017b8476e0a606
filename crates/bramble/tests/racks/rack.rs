//! Boards of a virtual rack, prepared over real SSH: real sshd, systemd, sudo, apt and dpkg of Debian.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;

use crate::common::{Rack, assert_code, read, text, traces};
use sha2::{Digest, Sha256};

const FETCHED: &str = "the file that every node fetches\n";

/// Serves one file to whoever asks, for as long as the test runs.
fn serve(address: &str) -> String {
    let listener = TcpListener::bind((address, 0)).unwrap();
    let url = format!("http://{}/fetched", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let stream = stream.unwrap();
            let mut lines = BufReader::new(&stream).lines();
            while lines.next().is_some_and(|line| !line.unwrap().is_empty()) {}
            write!(
                &stream,
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{FETCHED}",
                FETCHED.len()
            )
            .unwrap();
        }
    });
    url
}

#[test]
#[ignore = "needs root: `make test`"]
fn the_23_steps_are_done_once_mended_exactly_and_undone_wholly() {
    let rack = Rack::bare("t-w23", 2, "10.78.1.0/24", &[]);
    let node = rack.node(1);
    let url = serve("10.78.1.1");
    let digest: String = Sha256::digest(FETCHED).iter().map(|byte| format!("{byte:02x}")).collect();
    let steps = include_str!("../../../../bench/w23/prepare.yaml").replace("@URL@", &url).replace("@SHA256@", &digest);
    rack.append(&steps);
    // sudo leaves its own mark in the home folder when it is first used.
    assert_code(&rack.run(&["run", "--sudo", "true"]), 0);
    let before = rack.listing(&node);

    let (code, plan) = rack.plan();
    assert_eq!(code, 3, "{plan:#}");
    assert_code(&rack.run(&["up", "--yes"]), 0);
    assert_eq!(rack.plan().0, 0, "{:?}", rack.titles());
    let again = rack.run(&["up", "--yes"]);
    assert_code(&again, 0);
    assert!(text(&again).contains("Nothing changed"), "{}", text(&again));

    // The node itself says so.
    let say = |script: &str| rack.shell(&node, script).trim().to_owned();
    assert_eq!(say("hostname"), node);
    assert_eq!(say("date +%Z | grep -c CE"), "1", "Berlin's time");
    assert_eq!(say("locale -a | grep -c en_GB.utf8"), "1");
    assert_eq!(say("apt-mark showhold | tr '\\n' ' '"), "jq rsync tree");
    assert_eq!(say("cat /proc/sys/vm/swappiness"), "10");
    assert_eq!(say("sshd -T | grep -c -e '^maxauthtries 4$' -e '^x11forwarding no$'"), "2");
    assert_eq!(
        say("grep -c 'cgroup_enable=memory cgroup_memory=1' /proc/cmdline"),
        "1",
        "it booted with the new arguments"
    );
    assert_eq!(say("cat /usr/local/share/fetched"), FETCHED.trim());
    assert_eq!(say("stat -c %a /etc/rancher/k3s/config.yaml"), "600");
    assert_eq!(say("systemctl is-active cron"), "active");

    // Somebody changes three things by hand.
    rack.shell(&node, "sed -i 's/10/60/' /etc/sysctl.d/90-bramble.conf");
    rack.shell(&node, "sed -i 's/ cgroup_memory=1//' /boot/firmware/cmdline.txt");
    rack.shell(&node, "systemctl stop cron");
    let titles = rack.titles();
    let named = ["change /boot/firmware/cmdline.txt", "change /etc/sysctl.d/90-bramble.conf", "start cron.service"];
    assert_eq!(titles, named.map(|title| format!("{node}: {title}")));
    assert_code(&rack.run(&["up", "--yes"]), 0);
    assert_eq!(rack.titles(), [] as [String; 0]);
    assert_eq!(say("systemctl is-active cron"), "active");

    // sshd and sudo refuse what is wrong before it takes effect.
    let good = read(&rack.file());
    fs::write(rack.file(), good.replace("MaxAuthTries: \"4\"", "MaxAuthTries: \"many\"")).unwrap();
    let refused = rack.run(&["up", "--yes"]);
    assert_code(&refused, 1);
    assert!(text(&refused).contains("sshd_config.d"), "{}", text(&refused));
    assert_eq!(say("sshd -t && sshd -T | grep -c '^maxauthtries 4$'"), "1");
    fs::write(rack.file(), good.replace("Defaults timestamp_timeout=5", "Defaults =")).unwrap();
    assert_code(&rack.run(&["up", "--yes"]), 1);
    assert_eq!(say("visudo -cq && echo fine"), "fine");
    fs::write(rack.file(), good).unwrap();
    assert_code(&rack.run(&["up", "--yes"]), 0);

    assert_code(&rack.run(&["down", "--yes"]), 0);
    rack.assert_undone(&node, &before);
}

#[test]
#[ignore = "needs root: `make test`"]
fn a_sudo_password_is_asked_for_tested_and_seen_nowhere() {
    let rack = Rack::bare("t-sudo", 1, "10.78.2.0/24", &[]);
    let node = rack.node(1);
    let secret = rack.dir.path().join("password");
    let with = |password: &str, args: &[&str]| {
        fs::write(&secret, format!("{password}\n")).unwrap();
        rack.command(args).env("BRAMBLE_SUDO_PASSWORD_FILE", &secret).output().unwrap()
    };
    let wrong = with("wr0ng-pass", &["up", "--yes"]);
    assert_code(&wrong, 1);
    assert!(text(&wrong).contains("does not accept the password"), "{}", text(&wrong));
    assert_code(&with("raspberry", &["up", "--yes", "-v"]), 0);
    assert_eq!(with("raspberry", &["plan"]).status.code(), Some(0));
    let log = rack.shell(&node, "cat /var/log/auth.log /var/log/syslog 2>/dev/null; journalctl --no-pager; grep -rsl raspberry$ /var/lib/bramble /run/bramble /tmp /etc/sudoers.d");
    assert!(!log.contains("wr0ng-pass"), "a password stands in a log");
    assert!(!log.lines().any(|line| line.contains("COMMAND=") && line.contains("raspberry ")), "{log}");

    // Without the setting, bramble says what sudo wants.
    let file = read(&rack.file());
    fs::write(rack.file(), file.replace("  sudo: password\n", "")).unwrap();
    let none = rack.run(&["plan"]);
    assert_code(&none, 1);
    assert!(text(&none).contains("access.sudo: password"), "{}", text(&none));
}

#[test]
#[ignore = "needs root: `make test`"]
fn every_trouble_of_a_first_contact_is_named() {
    let rack = Rack::bare("t-ssh", 2, "10.78.3.0/24", &[]);
    let file = read(&rack.file());
    let known = rack.dir.path().join(".bramble/known_hosts");
    let keys = read(&known);
    let refused = |what: &str| {
        let output = rack.run(&["plan"]);
        assert_code(&output, 1);
        assert!(text(&output).contains(what), "{what}: {}", text(&output));
    };

    fs::write(&known, "").unwrap();
    refused("is not known yet: SHA256:");
    assert_eq!(read(&known), "", "nobody accepted the key");

    let mut lines: Vec<&str> = keys.lines().collect();
    let swapped: Vec<String> = [(0, 1), (1, 0)]
        .iter()
        .map(|(host, key)| {
            format!("{} {}", lines[*host].split_once(' ').unwrap().0, lines[*key].split_once(' ').unwrap().1)
        })
        .collect();
    fs::write(&known, swapped.join("\n") + "\n").unwrap();
    refused("has changed");
    lines.clear();
    fs::write(&known, &keys).unwrap();

    fs::write(rack.file(), file.replace("user: pi", "user: nobody-here")).unwrap();
    refused("accepts none of the keys for user `nobody-here`");
    fs::write(rack.file(), file.replace("user: pi", "user: pi\n  port: 2222")).unwrap();
    refused("refuses connections");
    fs::write(rack.file(), &file).unwrap();

    let node = rack.node(2);
    assert!(rack.lab(&["cut", &format!("{}/{node}", rack.name)]).status.success());
    refused("is unreachable");
    let run = rack.run(&["run", "exit 7"]);
    assert_code(&run, 255);
    assert!(text(&run).contains("(exit code 7)") && text(&run).contains("(no answer)"), "{}", text(&run));
    assert!(rack.lab(&["start", &format!("{}/{node}", rack.name)]).status.success());
    assert_code(&rack.run(&["run", "exit 7"]), 7);

    // A board that sits in the wrong place.
    fs::write(rack.file(), file.replace("dc:a6:32:4e:03:00", "dc:a6:32:ff:ff:ff")).unwrap();
    let output = rack.run(&["up", "--yes"]);
    assert_code(&output, 1);
    assert!(text(&output).contains("another board than dc:a6:32:ff:ff:ff"), "{}", text(&output));
}

#[test]
#[ignore = "needs root: `make test`"]
fn a_jump_host_leads_to_a_board() {
    let rack = Rack::bare("t-jump", 2, "10.78.4.0/24", &[]);
    // The second board is reached only through the first.
    let file = read(&rack.file()).replace("  user: pi\n", "  user: pi\n  jump: pi@10.78.4.50\n");
    fs::write(rack.file(), file).unwrap();
    let answer = rack.run(&["run", "-n", &rack.node(2), "echo $SSH_CONNECTION"]);
    assert_code(&answer, 0);
    assert!(text(&answer).contains("10.78.4.50 "), "the connection comes from the jump host: {}", text(&answer));
}

#[test]
#[ignore = "needs root: `make test`"]
fn two_racks_side_by_side_and_nothing_is_left_of_them() {
    let rack = Rack::bare("t-left", 1, "10.78.5.0/24", &[]);
    let dir = rack.dir.path().join("second");
    let up = [
        "up",
        "--name",
        "t-right",
        "--bare",
        "--control-planes",
        "0",
        "--workers",
        "1",
        "--subnet",
        "10.78.6.0/24",
        "--dir",
    ];
    let mut args: Vec<&str> = up.to_vec();
    args.push(dir.to_str().unwrap());
    assert_code(&rack.lab(&args), 0);
    let second = rack.lab(&["shell", "t-right/t-right-1", "ip", "-o", "addr"]);
    assert!(text(&second).contains("10.78.6.50") && !text(&second).contains("10.78.5"), "{}", text(&second));
    assert!(!traces("t-right").is_empty(), "the test looks in the right places");
    assert_code(&rack.lab(&["down", "t-right"]), 0);
    assert_code(&rack.run(&["run", "true"]), 0);
    // Raising is cut off half way: taking down still finds everything.
    let mut half = crate::common::bramble();
    let state = rack.disk("x").ancestors().nth(5).unwrap().to_owned();
    let mut child = half.arg("lab").arg("--state").arg(state).args(&args).spawn().unwrap();
    std::thread::sleep(std::time::Duration::from_millis(400));
    child.kill().unwrap();
    child.wait().unwrap();
    rack.lab(&["down", "t-right"]);
    assert_code(&rack.lab(&["down", "t-left"]), 0);
    assert_eq!(traces("t-left"), [] as [String; 0]);
    assert_eq!(traces("t-right"), [] as [String; 0]);
}
