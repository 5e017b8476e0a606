//! A rack behind a gateway: real dnsmasq, real nftables. This machine has no part in the rack's own network. Kubernetes behind a
//! gateway is in the test of the add-ons.

use std::io::Read;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::time::Duration;

use crate::common::{Rack, assert_code, read, text, traces, wait_for};

fn connects(address: &str) -> bool {
    let address: SocketAddr = address.parse().unwrap();
    TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok()
}

fn ip(arguments: &str) {
    let output = Command::new("ip").args(arguments.split(' ')).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
}

/// A value of the cluster file's line of the gateway.
fn value(file: &str, key: &str) -> String {
    let rest = &file[file.find(&format!("{key}: ")).unwrap() + key.len() + 2..];
    rest.split([',', ' ', '}']).next().unwrap().to_owned()
}

#[test]
#[ignore = "needs root: `make test`"]
fn a_rack_behind_a_gateway_keeps_its_addresses_and_reaches_out_only_through_it() {
    let rack = Rack::up("t-gate", &["--gateway", "--bare", "--workers", "1"]);
    let gate = "t-gate-gate";
    let file = read(&rack.file());
    let (inside, outside) = (value(&file, "address"), value(&file, "reach"));
    let net = inside.strip_suffix(".1").unwrap().to_owned();
    let (here, first) = (outside.strip_suffix(".2").map(|net| format!("{net}.1")).unwrap(), format!("{net}.51"));
    // Nobody has an address yet, so `plan` tells of the gateway alone.
    assert!(!rack.shell(&rack.node(1), "ip -4 -br addr show eth0").contains(&net));
    let planned = rack.run(&["plan"]);
    assert_code(&planned, 3);
    assert!(text(&planned).contains("t-gate-1, t-gate-2 may have no address before"), "{}", text(&planned));
    let before = rack.listing(gate);

    rack.go_up();
    assert_eq!(rack.plan().0, 0, "{:?}", rack.titles());
    rack.assert_units(gate, "/etc/systemd/system/bramble-gateway-*.service");

    // By MAC, from dnsmasq's own books.
    let held = |n: usize| {
        let address = rack.shell(&rack.node(n), "ip -4 -o addr show dev eth0 scope global");
        let lease = rack.shell(gate, "cat /var/lib/bramble-gateway/leases");
        let mac = value(&file[file.find(&format!("name: t-gate-{n},")).unwrap()..], "mac").replace('"', "");
        address.contains(&format!("{net}.5{n}/24"))
            && address.contains("dynamic")
            && lease.contains(&format!("{mac} {net}.5{n} t-gate-{n} "))
    };
    assert!(held(1) && held(2), "{}", rack.shell(gate, "cat /var/lib/bramble-gateway/leases"));
    assert!(rack.shell(&rack.node(2), "getent hosts t-gate-1").contains(&first));

    // Out only through the gateway, whose address is the one that is seen.
    let listener = TcpListener::bind(format!("{here}:0")).unwrap();
    let port = listener.local_addr().unwrap().port();
    let seen = std::thread::spawn(move || {
        let (mut stream, peer) = listener.accept().unwrap();
        let mut said = String::new();
        stream.read_to_string(&mut said).unwrap();
        (peer.ip().to_string(), said)
    });
    rack.shell(&rack.node(2), &format!("bash -c 'echo out >/dev/tcp/{here}/{port}'"));
    assert_eq!(seen.join().unwrap(), (outside.clone(), "out\n".to_owned()));

    // In comes sshd of the gateway, and nothing else: no name server, and no node although there is a route.
    assert!(connects(&format!("{outside}:22")));
    assert!(!connects(&format!("{outside}:53")));
    ip(&format!("route add {first}/32 via {outside}"));
    assert!(!connects(&format!("{first}:22")));
    // What is published does.
    let open =
        file.replace(&format!("reach: {outside}"), &format!("reach: {outside}, publish: {{ 2222: \"{first}:22\" }}"));
    std::fs::write(rack.file(), open).unwrap();
    rack.go_up();
    assert!(connects(&format!("{outside}:2222")));
    ip(&format!("route del {first}/32 via {outside}"));

    // Everything without power, twice, and back in both orders.
    let all = [gate.to_owned(), rack.node(1), rack.node(2)];
    for backwards in [false, true] {
        for node in &all {
            assert_code(&rack.lab(&["cut", &format!("t-gate/{node}")]), 0);
        }
        let mut order = all.clone();
        if backwards {
            order.reverse();
        }
        for node in &order {
            assert_code(&rack.lab(&["start", &format!("t-gate/{node}")]), 0);
        }
        wait_for("the addresses after a power cut", || held(1) && held(2));
        wait_for("all nodes, through the gateway", || rack.run(&["run", "true"]).status.success());
        assert_eq!(rack.plan().0, 0, "{:?}", rack.titles());
    }

    let output = rack.run(&["down", "--yes"]);
    assert_code(&output, 0);
    let mut left = rack.left_on(gate, &before);
    // Debian keeps the user of a daemon that was purged.
    left.retain(|line| !line.contains("/etc/passwd") && !line.contains("/etc/shadow"));
    assert_eq!(left, Vec::<String>::new());
    drop(rack);
    assert_eq!(traces("t-gate"), Vec::<String>::new());
}
