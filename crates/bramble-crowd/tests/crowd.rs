//! Three hundred nodes, ten of them dead, two mute and a few slow, answering as one real node of a rack does.
//! All of it happens in a network namespace that ends with the test.

#![allow(clippy::unwrap_used)]

#[path = "../../bramble/tests/common/mod.rs"]
mod common;

use std::fs;
use std::process::{Command, Output, Stdio};

use common::{Rack, assert_code, program, text};

const NODES: usize = 300;
const DEAD: std::ops::RangeInclusive<usize> = 101..=110;
const MUTE: std::ops::RangeInclusive<usize> = 201..=202;

fn address(n: usize) -> String {
    format!("10.79.{}.{}", n / 200, n % 200 + 10)
}

fn mac(n: usize) -> String {
    format!("dc:a6:32:79:{:02x}:{:02x}", n / 256, n % 256)
}

/// Runs bramble among the crowd, with the nodes of `dead` unreachable.
fn among(rack: &Rack, dead: &[usize], args: &str) -> Output {
    let dir = rack.dir.path().join("crowd");
    let drop = match dead {
        [] => String::new(),
        dead => {
            let list: Vec<String> = dead.iter().map(|n| address(*n)).collect();
            format!(
                "nft add table inet t; nft add chain inet t i '{{ type filter hook input priority 0; }}'; \
                 nft add rule inet t i ip daddr '{{ {} }}' drop",
                list.join(",")
            )
        }
    };
    let script = format!(
        r#"set -eu
        ip link set lo up
        ip route add local 10.79.0.0/16 dev lo
        {drop}
        '{crowd}' --members members --host-key host_key --real '{real}' \
            --command "'{bramble}' lab --state '{state}' shell {rack}/{node} su pi -c \"\$1\"" &
        crowd=$!
        trap 'kill $crowd' EXIT
        for try in $(seq 100); do ! bash -c ': </dev/tcp/10.79.0.11/22' 2>/dev/null || break; sleep 0.1; done
        code=0
        '{bramble}' {args} </dev/null || code=$?
        exit $code"#,
        crowd = env!("CARGO_BIN_EXE_crowd"),
        bramble = program("bramble").display(),
        state = rack.state().display(),
        rack = rack.name,
        node = rack.node(1),
        real = format_args!("{} 10.78.6.50 dc:a6:32:4e:06:00 0", rack.node(1)),
    );
    let mut command = Command::new("unshare");
    command.args(["--net", "--kill-child", "sh", "-c", &script]).current_dir(dir);
    command.env("NO_COLOR", "1").env_remove("SSH_AUTH_SOCK").stdin(Stdio::null()).output().unwrap()
}

#[test]
#[ignore = "needs root: `make test`"]
fn a_crowd_is_looked_after_and_the_dead_do_not_hold_it_up() {
    let rack = Rack::bare("t-crowd", 1, "10.78.6.0/24", &["--passwordless-sudo", "--system", "bookworm"]);
    assert_code(&rack.run(&["up", "--yes"]), 0);
    let dir = rack.dir.path().join("crowd");
    fs::create_dir_all(dir.join(".bramble")).unwrap();
    let key = dir.join("host_key");
    let made = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&key).status().unwrap();
    assert!(made.success());
    let public = fs::read_to_string(key.with_extension("pub")).unwrap();
    let file = fs::read_to_string(rack.file()).unwrap();
    let (head, _) = file.split_once("nodes:\n").unwrap();
    let mut big = head.replace("10.78.6.0/24", "10.79.0.0/16") + "nodes:\n";
    let (mut members, mut known) = (String::new(), String::new());
    for n in 1..=NODES {
        let (address, mac) = (address(n), mac(n));
        let pace = match n {
            n if MUTE.contains(&n) => "mute".to_owned(),
            n if n % 50 == 0 => "300".to_owned(),
            _ => "1".to_owned(),
        };
        big.push_str(&format!(
            "  - {{ name: n{n}, role: worker, board: generic-amd64, address: {address}, mac: \"{mac}\" }}\n"
        ));
        members.push_str(&format!("n{n} {address} {mac} {pace}\n"));
        known.push_str(&format!("{address} {public}"));
    }
    fs::write(dir.join("bramble.yaml"), big).unwrap();
    fs::write(dir.join("members"), members).unwrap();
    fs::write(dir.join(".bramble/known_hosts"), known).unwrap();
    // The crowd belongs to the cluster of the node that speaks for it.
    fs::copy(rack.file().with_file_name("bramble.lock"), dir.join("bramble.lock")).unwrap();

    // The mute would be waited for; those that answer are as they should be.
    let dead: Vec<usize> = DEAD.chain(MUTE).collect();
    let up = among(&rack, &dead, "up --yes");
    assert_code(&up, 1);
    assert!(text(&up).contains("Nothing changed: 288 nodes"), "{}", text(&up));
    assert!(text(&up).contains("12 nodes could not be reached"), "{}", text(&up));

    let run = among(&rack, &dead, "run hostname -s");
    assert_code(&run, 255);
    let all = text(&run);
    assert!(all.contains("\nn300\n  n300\n"), "each has its own name: {all}");
    let status = among(&rack, &dead, "status");
    assert_code(&status, 1);
    let all = text(&status);
    assert!(all.contains("288 of 300 nodes are well: n[1-100,111-200,203-300]"), "{all}");
    assert!(all.contains("n101 (worker, 10.79.0.111)"), "{all}");
    assert!(all.lines().count() < 60, "the well are not listed: {all}");

    let dead: Vec<usize> = DEAD.collect();
    let run = among(&rack, &dead, "run true");
    let all = text(&run);
    assert!(all.contains("n[1-100,111-200,203-300] (288 nodes)\n"), "{all}");
    assert!(all.contains("sshd does not finish the handshake"), "the mute are told from the dead: {all}");
}
