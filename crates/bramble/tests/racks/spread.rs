//! Files that leave here once and are passed on by the boards, on a rack whose way out of this machine is narrow.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::common::{Rack, assert_code, text};

const SIZE: u64 = 24_000_000;

/// The bridge through which this machine reaches the rack.
fn bridge(rack: &Rack) -> String {
    let tag = Command::new("sh").args(["-c", "printf %s \"$0\" | sha256sum | cut -c1-6", &rack.name]).output().unwrap();
    format!("bl{}", String::from_utf8_lossy(&tag.stdout).trim())
}

/// Bytes that this machine has sent to the rack.
fn sent(rack: &Rack) -> u64 {
    let path = format!("/sys/class/net/{}/statistics/tx_bytes", bridge(rack));
    fs::read_to_string(path).unwrap().trim().parse().unwrap()
}

fn narrow(rack: &Rack, rate: &str) {
    let link = bridge(rack);
    let args = ["qdisc", "replace", "dev", &link, "root", "tbf", "rate", rate, "burst", "128kb", "latency", "50ms"];
    assert!(Command::new("tc").args(args).status().unwrap().success());
}

/// Writes new bytes to the file that all boards shall have.
fn renew(rack: &Rack) {
    let script = format!("head -c {SIZE} /dev/urandom >'{}/big'", rack.dir.path().display());
    assert!(Command::new("sh").args(["-c", &script]).status().unwrap().success());
}

fn digest(rack: &Rack) -> String {
    let output = Command::new("sha256sum").arg(rack.dir.path().join("big")).output().unwrap();
    String::from_utf8_lossy(&output.stdout)[..64].to_owned()
}

fn blobs(rack: &Rack, n: usize) -> PathBuf {
    rack.disk(&rack.node(n)).join("var/lib/bramble/blobs")
}

/// How much of the file a board has got so far.
fn got(rack: &Rack, n: usize) -> u64 {
    let part = blobs(rack, n).join(format!(".part.{}", digest(rack)));
    fs::metadata(part).map_or(0, |part| part.len())
}

fn wait(what: &str, mut is: impl FnMut() -> bool) {
    let started = Instant::now();
    while !is() {
        assert!(started.elapsed() < Duration::from_secs(60), "{what} does not happen");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn assert_all_have_it(rack: &Rack, nodes: std::ops::RangeInclusive<usize>) {
    let digest = digest(rack);
    for n in nodes {
        let has = rack.shell(&rack.node(n), "sha256sum /var/lib/big");
        assert!(has.starts_with(&digest), "node {n}: {has}");
        assert_eq!(fs::read_dir(blobs(rack, n)).unwrap().count(), 0, "nothing is left of it on node {n}");
    }
}

fn relays(rack: &Rack) -> String {
    (1..=4).map(|n| rack.shell(&rack.node(n), "pgrep -a perl || :")).collect()
}

#[test]
#[ignore = "needs root: `make test`"]
fn a_file_leaves_here_once_and_reaches_all_boards() {
    let rack = Rack::bare("t-spread", 4, "10.78.7.0/24", &[]);
    rack.append("prepare:\n  uploads:\n    - { from: ./big, path: /var/lib/big }\n");
    let keys = |n: usize| rack.shell(&rack.node(n), "cat /home/pi/.ssh/* /root/.ssh/* 2>/dev/null");
    let before: Vec<String> = (1..=4).map(keys).collect();
    renew(&rack);
    (1..=4).for_each(|n| rack.first_boot(&rack.node(n)));
    let start = sent(&rack);
    assert_code(&rack.run(&["up", "--yes"]), 0);
    assert_all_have_it(&rack, 1..=4);
    let bytes = sent(&rack) - start;
    assert!(bytes > SIZE && bytes < SIZE * 3 / 2, "{bytes} bytes were sent for four times {SIZE}");
    assert_eq!(rack.plan().0, 0, "{:?}", rack.titles());

    // One that not everybody may read goes to each node in a connection of its own.
    let open = fs::read_to_string(rack.file()).unwrap();
    fs::write(rack.file(), open.replace("big }", "big, mode: \"0640\" }")).unwrap();
    renew(&rack);
    let start = sent(&rack);
    assert_code(&rack.run(&["up", "--yes"]), 0);
    assert_all_have_it(&rack, 1..=4);
    assert!(sent(&rack) - start > SIZE * 4);
    fs::write(rack.file(), &open).unwrap();

    // A board without perl, one that others cannot reach, and one with a wrong beginning of the file.
    renew(&rack);
    rack.shell(&rack.node(1), "mv /usr/bin/perl /usr/bin/perl.away");
    let closed = format!("bramble-{}-{}", rack.name, rack.node(2));
    let nft = |rules: &str| Command::new("ip").args(["netns", "exec", &closed, "nft", rules]).status().unwrap();
    assert!(nft("add table inet t; add chain inet t i { type filter hook input priority 0; }").success());
    assert!(nft("add rule inet t i ip saddr 10.78.7.50-10.78.7.60 drop").success());
    fs::write(blobs(&rack, 3).join(format!(".part.{}", digest(&rack))), vec![7; 5_000_000]).unwrap();
    assert_code(&rack.run(&["up", "--yes"]), 0);
    assert_all_have_it(&rack, 1..=4);
    rack.shell(&rack.node(1), "mv /usr/bin/perl.away /usr/bin/perl");
    assert!(nft("delete table inet t").success());

    // More files than an sshd lets sessions be at once: relays that stay for others make room.
    let mut many = open;
    for n in 1..=16 {
        fs::write(rack.dir.path().join(format!("many{n}")), vec![n; 5_000_000]).unwrap();
        many.push_str(&format!("    - {{ from: ./many{n}, path: /var/lib/many{n} }}\n"));
    }
    fs::write(rack.file(), many).unwrap();
    assert_code(&rack.run(&["up", "--yes"]), 0);
    assert_eq!(rack.plan().0, 0, "{:?}", rack.titles());

    let after: Vec<String> = (1..=4).map(keys).collect();
    assert_eq!(before, after, "no key was left anywhere");
    assert_eq!(relays(&rack), "", "nothing was left running");
}

#[test]
#[ignore = "needs root: `make test`"]
fn a_board_that_drops_out_goes_on_where_it_was_and_the_others_do_not_need_it() {
    let rack = Rack::bare("t-drop", 4, "10.78.8.0/24", &[]);
    assert_code(&rack.run(&["up", "--yes"]), 0);
    rack.append("prepare:\n  uploads:\n    - { from: ./big, path: /var/lib/big }\n");
    renew(&rack);
    (1..=4).for_each(|n| rack.first_boot(&rack.node(n)));
    narrow(&rack, "40mbit");
    let mut up = rack.command(&["up", "--yes"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    wait("a third of the transfer", || got(&rack, 2) > SIZE / 3);
    // The first of the chain, or one in its middle: whichever it is.
    assert!(rack.lab(&["cut", &format!("t-drop/{}", rack.node(2))]).status.success());
    let kept = got(&rack, 2);
    let code = up.wait().unwrap().code();
    assert_eq!(code, Some(1), "one node is gone");
    for n in [1, 3, 4] {
        assert_all_have_it(&rack, n..=n);
    }
    assert!(rack.lab(&["start", &format!("t-drop/{}", rack.node(2))]).status.success());
    narrow(&rack, "1gbit");
    let start = sent(&rack);
    assert_code(&rack.run(&["up", "--yes"]), 0);
    assert_all_have_it(&rack, 1..=4);
    let bytes = sent(&rack) - start;
    assert!(bytes < SIZE - kept / 2, "{bytes} bytes were sent although {kept} of {SIZE} were there");

    // bramble is killed half way: what it started ends, and what came is kept.
    renew(&rack);
    narrow(&rack, "40mbit");
    let mut up = rack.command(&["up", "--yes"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    wait("half of the transfer", || (1..=4).all(|n| got(&rack, n) > SIZE / 2));
    up.kill().unwrap();
    up.wait().unwrap();
    wait("the end of the relays", || relays(&rack).is_empty());
    narrow(&rack, "1gbit");
    let start = sent(&rack);
    let again = rack.run(&["up", "--yes"]);
    assert_code(&again, 0);
    assert_all_have_it(&rack, 1..=4);
    let bytes = sent(&rack) - start;
    assert!(bytes < SIZE * 3 / 4, "{bytes} bytes were sent although half was there: {}", text(&again));
}
