//! Power that is switched from afar: a real SNMP agent (Debian's snmpd), whose PoE ports are the power of the rack's boards.

use std::fs;
use std::net::UdpSocket;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::common::{Rack, assert_code, read, text, wait_for};

/// The agent of a switch with two ports, that of the rack's first board and that of its second.
struct Agent {
    address: String,
    dir: tempfile::TempDir,
    snmpd: Child,
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.snmpd.kill().ok();
        self.snmpd.wait().ok();
    }
}

/// What snmpd calls for an object (snmpd.conf(5), `pass`): RFC 3621's switch of each port, TP-Link's with its watts, and NETGEAR's
/// watts. A port that is switched cuts its board, or starts it.
const PASS: &str = r#"#!/bin/sh
cd "$(dirname "$0")" || exit
case $2 in
.1.3.6.1.2.1.105.1.1.1.3.1.[12]) port=${2##*.} on=1 off=2 ;;
.1.3.6.1.4.1.11863.6.56.1.1.2.1.1.2.[12]) port=${2##*.} on=1 off=0 ;;
.1.3.6.1.4.1.11863.6.56.1.1.2.1.1.7.[12]) [ "$1" = -s ] || printf '%s\ninteger\n47\n' "$2"; exit ;;
.1.3.6.1.4.1.4526.11.15.1.1.1.2.1.[12]) [ "$1" = -s ] || printf '%s\ngauge\n5250\n' "$2"; exit ;;
*) exit ;;
esac
case $1 in
-g) if [ -e "off-$port" ]; then v=$off; else v=$on; fi; printf '%s\ninteger\n%s\n' "$2" "$v" ;;
-s)
    if [ "$4" = "$on" ]; then ./switch start "$port" && rm -f "off-$port"
    else ./switch cut "$port" && : >"off-$port"; fi >>said 2>&1
    ;;
esac
"#;

impl Agent {
    fn start(rack: &Rack) -> Agent {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let program = |name: &str, text: &str| {
            fs::write(path(name), text).unwrap();
            fs::set_permissions(path(name), fs::Permissions::from_mode(0o755)).unwrap();
        };
        program("pass", PASS);
        let lab = rack.lab_command(&[]);
        let words: Vec<String> =
            [lab.get_program()].into_iter().chain(lab.get_args()).map(|word| word.display().to_string()).collect();
        let nodes = [1, 2].map(|n| rack.node(n)).join(" ");
        program(
            "switch",
            &format!(
                "#!/bin/sh\nact=$1 port=$2\nset -- {nodes}\n[ \"$port\" = 1 ] || shift\nexec {} \"$act\" {}/\"$1\"\n",
                words.join(" "),
                rack.name
            ),
        );
        let port = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let pass = path("pass").display().to_string();
        fs::write(
            path("snmpd.conf"),
            format!(
                "agentAddress udp:127.0.0.1:{port}\nrwcommunity writes 127.0.0.1\nrocommunity reads 127.0.0.1\n\
                 createUser shelf SHA authpassword AES privpassword\nrwuser shelf priv\n\
                 pass .1.3.6.1.2.1.105.1.1.1 {pass}\npass .1.3.6.1.4.1.11863.6.56 {pass}\npass .1.3.6.1.4.1.4526.11.15 {pass}\n"
            ),
        )
        .unwrap();
        let mut snmpd = Command::new("snmpd");
        snmpd
            .args(["-f", "-LF", "w"])
            .arg(path("log"))
            .args(["-C", "-c"])
            .arg(path("snmpd.conf"))
            .arg("-p")
            .arg(path("pid"));
        let snmpd = snmpd
            .env("SNMP_PERSISTENT_DIR", dir.path())
            .env("MIBS", "")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Agent { address: format!("127.0.0.1:{port}"), dir, snmpd }
    }

    fn credentials(&self, name: &str, text: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        fs::write(&path, text).unwrap();
        path
    }

    /// Writes the rack's file with the boards on the ports of this switch.
    fn wire(&self, rack: &Rack, plain: &str, control: &str, credentials: &Path) {
        let mut file = plain.to_owned();
        for n in [1, 2] {
            let name = format!("name: {},", rack.node(n));
            assert!(file.contains(&name), "{file}");
            file = file.replace(&name, &format!("{name} hardware: {{ outlet: {n} }},"));
        }
        let hardware = format!(
            "hardware:\n  devices:\n    switch: {{ part: tl-sg105pe, control: {{ snmp: \"{}\"{control}, credentials: {} }} }}\n  \
             each: {{ power: switch }}\n  accept: [poe, feed, budget]\n",
            self.address,
            credentials.display()
        );
        fs::write(rack.file(), file + &hardware).unwrap();
    }
}

/// What `bramble power status` says: for each node whether it is on, and its watts.
fn status(rack: &Rack) -> Vec<(bool, Option<f64>)> {
    let output = rack.run(&["power", "status", "-o", "json"]);
    assert_code(&output, 0);
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    said["nodes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|node| (node["on"].as_bool().unwrap(), node["watts"].as_f64()))
        .collect()
}

#[test]
#[ignore = "needs root: `make test`"]
fn boards_have_their_power_from_a_switch_that_bramble_switches() {
    let rack = Rack::bare("t-power", 2, "10.78.44.0/24", &[]);
    let agent = Agent::start(&rack);
    let plain = read(&rack.file());
    let writes = agent.credentials("writes", "community = writes\n");
    agent.wire(&rack, &plain, "", &writes);
    let answers = |n: usize| rack.run(&["run", "-n", &rack.node(n), "true"]).status.success();
    wait_for("the boards", || answers(1) && answers(2));
    wait_for("the switch", || rack.run(&["power", "status"]).status.success());
    assert_eq!(status(&rack), [(true, None), (true, None)]);
    let shown = text(&rack.run(&["power", "status"]));
    assert!(shown.contains("nobody knows") || shown.contains(&format!("{}  on", rack.node(1))), "{shown}");

    // Nothing goes off without a question that names it.
    let second = rack.node(2);
    for flags in [
        &["power", "off", &second][..],
        &["power", "cycle", &second, "--yes"],
        &["power", "off", &second, "--yes=other"],
    ] {
        let refused = rack.run(flags);
        assert_code(&refused, 1);
        assert!(text(&refused).contains(&format!("pass --yes={second}")), "{}", text(&refused));
    }
    assert!(answers(2));
    assert_code(&rack.run(&["power", "off", &second, &format!("--yes={second}")]), 0);
    assert!(!answers(2), "{}", read(&agent.dir.path().join("said")));
    assert_eq!(status(&rack), [(true, None), (false, None)]);
    assert_code(&rack.run(&["power", "on", &second]), 0);
    wait_for("the second board", || answers(2));

    // Its power goes in the middle of `up`, by bramble itself: the first board is done, the second one named, and goes on later.
    rack.append("prepare: { packages: [tree], sysctls: { vm.swappiness: 10 } }\n");
    let mut up = rack.command(&["up", "--yes"]);
    let mut up = up.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let boot = |n: usize| rack.shell(&rack.node(n), "cat /proc/sys/kernel/random/boot_id");
    wait_for("the changes to begin", || !rack.shell(&second, "ls /var/lib/bramble 2>/dev/null").is_empty());
    assert_code(&rack.run(&["power", "off", &second, &format!("--yes={second}")]), 0);
    assert_eq!(up.wait().unwrap().code(), Some(1));
    let lost = rack.run(&["up", "--yes"]);
    assert_code(&lost, 1);
    assert!(text(&lost).contains(&format!("bramble power cycle {second}")), "{}", text(&lost));
    assert_code(&rack.run(&["power", "cycle", &second, &format!("--yes={second}")]), 0);
    wait_for("the second board", || answers(2));
    assert_code(&rack.run(&["up", "--yes"]), 0);
    assert_code(&rack.run(&["plan"]), 0);
    assert!(!boot(2).is_empty());

    // Who lets one in, and what the makers' own tables say.
    let reads = agent.credentials("reads", "community = reads\n");
    let wrong = agent.credentials("wrong", "community = wrong\n");
    let user = agent.credentials("user", "user = shelf\npassword = authpassword\nprivacy-password = privpassword\n");
    let stranger =
        agent.credentials("stranger", "user = shelf\npassword = wrongpassword\nprivacy-password = privpassword\n");
    agent.wire(&rack, &plain, "", &user);
    assert_eq!(status(&rack), [(true, None), (true, None)]);
    for (control, file, watts) in [(", mib: tp-link", &writes, 4.7), (", mib: netgear", &user, 5.25)] {
        agent.wire(&rack, &plain, control, file);
        assert_eq!(status(&rack), [(true, Some(watts)), (true, Some(watts))]);
        assert_code(&rack.run(&["power", "off", &second, &format!("--yes={second}")]), 0);
        assert_eq!(status(&rack)[1], (false, Some(watts)));
        assert_code(&rack.run(&["power", "on", &second]), 0);
    }
    for (file, says) in [
        (&reads, "it may be read, and not written"),
        (&wrong, "is the community right?"),
        (&stranger, "look at user, password and kinds of encryption"),
    ] {
        agent.wire(&rack, &plain, "", file);
        let refused = rack.run(&["power", "on", &second]);
        assert_code(&refused, 1);
        assert!(text(&refused).contains(says), "{}", text(&refused));
    }
    agent.wire(
        &rack,
        &plain.replace(&format!("name: {second},"), &format!("name: {second}, hardware: {{ outlet: 9 }},")),
        "",
        &writes,
    );
    let both = read(&rack.file()).replace(" hardware: { outlet: 2 },", "");
    fs::write(rack.file(), both).unwrap();
    let refused = rack.run(&["power", "status"]);
    assert_code(&refused, 1);
    assert!(
        text(&refused).contains(&format!("it has no outlet 9, on which {second} is said to be")),
        "{}",
        text(&refused)
    );
}
