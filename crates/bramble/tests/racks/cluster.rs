//! The whole of it: a real Kubernetes (out of its Go modules) on a virtual rack of one control plane and two workers.

use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::common::{Rack, assert_code, read, text};
use bramble_spec::Arch;
use serde_json::Value;

fn status(rack: &Rack) -> Value {
    let output = rack.run(&["status", "-o", "json"]);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", text(&output)))
}

fn kubectl(rack: &Rack, arguments: &str) -> String {
    rack.shell(
        &rack.node(1),
        &format!("kubectl --cache-dir /tmp/kc --kubeconfig /etc/kubernetes/admin.conf {arguments} 2>&1"),
    )
}

/// Starts `up` and waits until its output holds `mark`; then kills it as a crash does.
fn up_until(rack: &Rack, mark: &str) {
    let log = rack.dir.path().join("up.log");
    let file = fs::File::create(&log).unwrap();
    let errors = file.try_clone().unwrap();
    let mut child =
        rack.command(&["up", "--yes", "-v"]).stdin(Stdio::null()).stdout(file).stderr(errors).spawn().unwrap();
    let started = Instant::now();
    while !read(&log).contains(mark) {
        assert!(started.elapsed() < Duration::from_secs(300), "`{mark}` never came: {}", read(&log));
        assert!(child.try_wait().unwrap().is_none(), "up ended before `{mark}`: {}", read(&log));
        std::thread::sleep(Duration::from_millis(50));
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

fn assert_healthy(rack: &Rack) {
    assert_eq!(rack.plan().0, 0, "{:?}", rack.titles());
    let status = status(rack);
    assert_eq!(status["well"], true, "{status:#}");
    assert_eq!(status["conditions"][1]["reason"], "3 of 3", "{status:#}");
}

#[test]
#[ignore = "needs root: `make test`"]
fn a_cluster_comes_up_survives_crashes_and_power_cuts_and_goes_again() {
    let rack = Rack::up("t-kube", &["--subnet", "10.78.9.0/24"]);
    let worker = rack.node(2);
    assert_code(&rack.run(&["run", "--sudo", "true"]), 0);
    let before: Vec<_> = (1..=3).map(|n| rack.listing(&rack.node(n))).collect();

    // bramble dies while the control plane starts, and again while a worker joins.
    up_until(&rack, "[wait-control-plane]");
    up_until(&rack, "(kubeadm join)");
    let up = rack.run(&["up", "--yes"]);
    assert_code(&up, 0);
    assert!(text(&up).contains("Smoke test passed: 9 paths between pods, 3 through the service"), "{}", text(&up));
    assert_healthy(&rack);
    let again = rack.run(&["up", "--yes"]);
    assert_code(&again, 0);
    assert!(text(&again).contains("Nothing changed"), "{}", text(&again));

    for n in 1..=3 {
        rack.assert_units(&rack.node(n), "/etc/systemd/system/kubelet.service /etc/systemd/system/bramble-*.service");
    }

    // Nothing of the smoke test and no join token is left.
    assert!(!kubectl(&rack, "get namespaces").contains("smoke"));
    assert_eq!(
        kubectl(&rack, "-n kube-system get secrets --field-selector type=bootstrap.kubernetes.io/token").trim(),
        "No resources found in kube-system namespace."
    );
    let left = rack.shell(&worker, "ls /run/bramble/*.yaml /run/bramble/*.json 2>/dev/null; grep -rsl -e 'token: [a-z0-9]\\{6\\}\\.' /var/lib/bramble /etc/bramble /var/log");
    assert_eq!(left, "", "a secret was left behind");

    // The user's kubeconfig gets one context more.
    let config = rack.dir.path().join("kubeconfig");
    fs::write(&config, "apiVersion: v1\nkind: Config\ncurrent-context: mine\ncontexts:\n- name: mine\n  context: {cluster: c, user: u}\n").unwrap();
    assert_code(&rack.run(&["kubeconfig", "--into", config.to_str().unwrap()]), 0);
    let text_of = read(&config);
    assert!(text_of.contains("current-context: mine") && text_of.contains("https://10.78.9.50:6443"), "{text_of}");
    let bundle = read(&rack.file())
        .lines()
        .find_map(|l| l.split_once("bundle: ").map(|(_, p)| p.trim_end_matches(" }").to_owned()))
        .unwrap();
    let nodes = Command::new(format!("{bundle}/{}/bin/kubectl", Arch::HERE))
        .args(["--kubeconfig", config.to_str().unwrap(), "--context", "t-kube", "--cache-dir"])
        .arg(rack.dir.path().join("cache"))
        .args(["get", "nodes", "--no-headers"])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&nodes.stdout).matches(" Ready ").count(), 3, "{}", text(&nodes));

    // Two runs do not get in each other's way.
    let lock = fs::File::options().write(true).open(rack.dir.path().join(".bramble/t-kube.lock")).unwrap();
    lock.lock().unwrap();
    let second = rack.run(&["up", "--yes"]);
    assert_code(&second, 1);
    assert!(text(&second).contains("another bramble"), "{}", text(&second));
    drop(lock);

    // A worker loses its power: the cluster notices, and comes back without help.
    assert!(rack.lab(&["cut", &format!("t-kube/{worker}")]).status.success());
    let output = rack.run(&["status"]);
    assert_code(&output, 1);
    assert!(text(&output).contains("is unreachable"), "{}", text(&output));
    // The others are still looked after.
    let up = rack.run(&["up", "--yes"]);
    assert_code(&up, 1);
    assert!(text(&up).contains("1 nodes could not be reached"), "{}", text(&up));
    assert!(rack.lab(&["start", &format!("t-kube/{worker}")]).status.success());
    assert_code(&rack.run(&["up", "--yes"]), 0);
    let started = Instant::now();
    while status(&rack)["well"] != true {
        assert!(started.elapsed() < Duration::from_secs(120), "{:#}", status(&rack));
        std::thread::sleep(Duration::from_secs(1));
    }

    let down = rack.run(&["down", "--yes"]);
    assert_code(&down, 0);
    for (n, before) in (1..=3).zip(&before) {
        rack.assert_undone(&rack.node(n), before);
    }
    // And up works again, also when a board dies under it.
    up_until(&rack, "import the image");
    assert!(rack.lab(&["cut", &format!("t-kube/{worker}")]).status.success());
    assert!(rack.lab(&["start", &format!("t-kube/{worker}")]).status.success());
    assert_code(&rack.run(&["up", "--yes"]), 0);
    assert_healthy(&rack);
}
