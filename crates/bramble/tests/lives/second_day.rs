//! What comes after the first day, on the rack of kubeadm: the system upgraded, boards booted, off and on, one that died, and
//! what is the matter with those that are not well.

use std::fs;
use std::process::Stdio;
use std::time::Instant;

use crate::Row;
use crate::common::{Rack, assert_code, read, text, wait_for};
use crate::kubeadm::{PROBE, SERVICE, on_three_planes};
use crate::shelf::{Saved, Shelf};

pub(crate) const ROWS: &[Row] = &[
    Row {
        name: "lives::second_day::an_upgrade_of_the_system_costs_a_service_no_request",
        test: the_system_is_upgraded,
    },
    Row { name: "lives::second_day::boards_go_off_in_order_and_come_back_as_they_were", test: off_and_on },
    Row { name: "lives::second_day::pods_of_a_board_that_died_go_elsewhere_at_once", test: a_board_died },
    Row { name: "lives::second_day::why_names_the_fault_that_was_made_and_no_other", test: why },
];

/// Makes a repository on a board that has two packages in a newer version than the board, one of them a kernel by its name.
const REPOSITORY: &str = r#"set -eu
make() { # name version folder
    d=$(mktemp -d)
    mkdir "$d/DEBIAN"
    printf 'Package: %s\nVersion: %s\nArchitecture: all\nMaintainer: rack <rack@example.org>\nDescription: of the rack\n' "$1" "$2" >"$d/DEBIAN/control"
    dpkg-deb -b "$d" "$3/$1_$2.deb" >/dev/null
    rm -rf "$d"
}
mkdir -p /srv/repo /srv/old
for p in rack-news linux-image-rack; do
    make "$p" 1 /srv/old
    dpkg -i "/srv/old/${p}_1.deb" >/dev/null
    make "$p" 2 /srv/repo
done
apt-mark hold rack-held >/dev/null 2>&1 || :
cd /srv/repo
for f in *.deb; do
    dpkg-deb -f "$f"
    printf 'Filename: ./%s\nSize: %s\nSHA256: %s\n\n' "$f" "$(stat -c %s "$f")" "$(sha256sum <"$f" | cut -d' ' -f1)"
done >Packages
# Nothing else is new on this board: only this repository counts.
mkdir -p /root/sources && mv /etc/apt/sources.list /etc/apt/sources.list.d/* /root/sources/ 2>/dev/null || :
echo 'deb [trusted=yes] file:/srv/repo ./' >/etc/apt/sources.list.d/rack.list"#;

fn the_system_is_upgraded(shelf: &Shelf) {
    on_three_planes(shelf, |Saved { rack, .. }| {
        rack.apply(SERVICE);
        wait_for("the service", || rack.kubectl(1, "get deployment web -o jsonpath={.status.readyReplicas}") == "2");
        for n in 1..=5 {
            assert_eq!(
                rack.shell(
                    &rack.node(n),
                    &format!(
                        "({REPOSITORY}) 2>&1 | grep -v '^Selecting\\|^(Reading\\|^Preparing\\|^Unpacking\\|^Setting'"
                    )
                ),
                ""
            );
        }
        let versions = |rack: &Rack, n| {
            rack.shell(&rack.node(n), "dpkg-query -W -f='${Package} ${Version} ' rack-news linux-image-rack; cat /proc/sys/kernel/random/boot_id")
        };
        let before: Vec<String> = (1..=5).map(|n| versions(rack, n)).collect();
        let plan = rack.run(&["upgrade", "--system", "--plan"]);
        assert_code(&plan, 3);
        let said = text(&plan);
        for part in
            ["t-life-[1-5]", "upgrade 2 packages", "rack-news 1 → 2", "reboot: kernel is new", "drained meanwhile"]
        {
            assert!(said.contains(part), "{part}: {said}");
        }
        assert_eq!((1..=5).map(|n| versions(rack, n)).collect::<Vec<_>>(), before, "a plan changes nothing");

        // Whom the user cordoned stays cordoned, and the probe runs there, where nothing is upgraded.
        let stays = rack.node(5);
        rack.kubectl(1, &format!("cordon {stays}"));
        wait_for("the service's address", || {
            rack.shell(&stays, "curl -s --max-time 2 http://10.96.0.200/ || :").contains("good")
        });
        rack.shell(&stays, "touch /root/probing");
        let mut probe = rack.lab_command(&["shell", &format!("{}/{stays}", rack.name), "sh", "-c", PROBE]);
        let probe = probe.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let four: Vec<String> = (1..=4).map(|n| rack.node(n)).collect();
        let names: Vec<&str> = four.iter().map(String::as_str).collect();
        let output = rack.run(&[&["upgrade", "--system", "--yes"], &names[..]].concat());
        rack.shell(&stays, "rm /root/probing");
        let said = probe.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&said.stdout).into_owned();
        assert_code(&output, 0);
        assert!(text(&output).contains("4 nodes of t-life are done, 4 of them booted."), "{}", text(&output));
        assert!(said.lines().last().unwrap_or_default().ends_with(" bad 0"), "{said}");
        for n in 1..=4 {
            let now = versions(rack, n);
            assert!(now.starts_with("linux-image-rack 2 rack-news 2 "), "{now}");
            assert_ne!(now.split(' ').next_back(), before[n - 1].split(' ').next_back(), "it has not booted");
        }
        // A board that does not come back stops it, and it goes on from there.
        rack.kubectl(1, &format!("uncordon {stays}"));
        let broken = "systemctl disable ssh ssh.socket 2>/dev/null; systemctl mask ssh ssh.socket";
        rack.shell(&stays, &format!("({broken}) >/dev/null 2>&1"));
        let stopped = rack.run(&["reboot", &rack.node(5), "--yes"]);
        assert_code(&stopped, 1);
        let said = text(&stopped);
        assert!(said.contains("it did not come back within") && said.contains("stays cordoned"), "{said}");
        rack.shell(&stays, "(systemctl unmask ssh ssh.socket; systemctl enable --now ssh) >/dev/null 2>&1");
        rack.go_up();
        rack.assert_well();
        let nodes = rack.kubectl(1, "get nodes");
        assert!(!nodes.contains("SchedulingDisabled"), "{nodes}");
    });
}

fn off_and_on(shelf: &Shelf) {
    on_three_planes(shelf, |Saved { rack, .. }| {
        rack.apply(SERVICE);
        wait_for("the service", || rack.kubectl(1, "get deployment web -o jsonpath={.status.readyReplicas}") == "2");
        let rounds: usize = std::env::var("BRAMBLE_ROUNDS").map_or(1, |text| text.parse().unwrap());
        for round in 1..=rounds {
            let asked = rack.run(&["off"]);
            assert_code(&asked, 1);
            assert!(text(&asked).contains("pass --yes to switch off t-life-[1-5]"), "{}", text(&asked));
            let off = rack.run(&["off", "--yes"]);
            assert_code(&off, 0);
            assert!(text(&off).contains("5 boards of t-life are off."), "{}", text(&off));
            assert!(text(&off).contains(".bramble-backup"), "{}", text(&off));
            assert!(!rack.run(&["run", "true"]).status.success(), "somebody still answers");
            for n in 1..=5 {
                rack.start(n);
            }
            let started = Instant::now();
            let on = rack.run(&["on", "--wait", "5"]);
            assert_code(&on, 0);
            assert!(text(&on).contains("t-life is on: all is as it was."), "{}", text(&on));
            println!("round {round}: as it was after {:.0} s", started.elapsed().as_secs_f64());
        }
        // One that stays off is named.
        assert_code(&rack.run(&["off", "--yes", "--no-backup"]), 0);
        for n in 1..=4 {
            rack.start(n);
        }
        let on = rack.run(&["on", "--wait", "2"]);
        assert_code(&on, 1);
        assert!(text(&on).contains("t-life-5 does not answer"), "{}", text(&on));
        rack.start(5);
        assert_code(&rack.run(&["on", "--wait", "5"]), 0);
        rack.assert_well();
    });
}

/// One pod with a name of its own, on a worker.
const STATEFUL: &str = r#"
apiVersion: apps/v1
kind: StatefulSet
metadata: { name: db }
spec:
  serviceName: db
  replicas: 1
  selector: { matchLabels: { app: db } }
  template:
    metadata: { labels: { app: db } }
    spec:
      terminationGracePeriodSeconds: 0
      containers: [{ name: db, image: "bundle.bramble/busybox:1", command: [sleep, "100000"] }]
"#;

fn a_board_died(shelf: &Shelf) {
    on_three_planes(shelf, |Saved { rack, .. }| {
        rack.apply(STATEFUL);
        let host = || rack.kubectl(1, "get pod db-0 -o 'jsonpath={.spec.nodeName} {.status.phase}'");
        wait_for("the pod", || host().ends_with(" Running"));
        let home = host().split(' ').next().unwrap().to_owned();
        let n = (1..=5).find(|n| rack.node(*n) == home).unwrap();
        let lives = rack.run(&["out", &home, &format!("--yes={home}")]);
        assert_code(&lives, 1);
        assert!(text(&lives).contains("answers, so it is not off"), "{}", text(&lives));
        rack.cut(n);
        // It is missed after 40 s; until then the API believes that it runs.
        wait_for("the API to miss it", || {
            rack.kubectl(
                1,
                &format!("get node {home} -o 'jsonpath={{.status.conditions[?(@.type==\"Ready\")].status}}'"),
            ) == "Unknown"
        });
        let unasked = rack.run(&["out", &home]);
        assert_code(&unasked, 1);
        assert!(
            text(&unasked).contains(&format!("pass --yes={home} if it has no power for certain")),
            "{}",
            text(&unasked)
        );
        assert!(host().starts_with(&home));
        let started = Instant::now();
        assert_code(&rack.run(&["out", &home, &format!("--yes={home}")]), 0);
        wait_for("the pod, elsewhere", || {
            let now = host();
            now.ends_with(" Running") && !now.starts_with(&home)
        });
        println!("elsewhere after {:.1} s", started.elapsed().as_secs_f64());
        rack.start(n);
        rack.go_up();
        let taints = rack.kubectl(1, &format!("get node {home} -o jsonpath={{.spec.taints}}"));
        assert!(!taints.contains("out-of-service"), "{taints}");
        rack.assert_well();
    });
}

/// A fault, how it is made on a node by its own shell, and how it is mended; the cause that must be named.
struct Fault {
    cause: &'static str,
    make: &'static str,
    mend: &'static str,
}

const FAULTS: &[Fault] = &[
    Fault { cause: "program", make: "systemctl stop kubelet", mend: "systemctl start kubelet" },
    Fault { cause: "under-voltage", make: "logger -t kernel 'hwmon hwmon1: Undervoltage detected!'", mend: "" },
    Fault {
        cause: "memory",
        make: "logger -t kernel 'Out of memory: Killed process 4711 (java) total-vm:1kB'",
        mend: "",
    },
    Fault { cause: "disk-failing", make: "logger -t kernel 'mmc0: error -110 whilst initialising SD card'", mend: "" },
    Fault {
        cause: "gateway",
        make: "ip route show default >/root/way; ip route del default",
        mend: "read -r r </root/way; ip route add $r",
    },
    Fault {
        cause: "dns",
        make: "cp --remove-destination /etc/resolv.conf /root/resolv; cp /root/resolv /etc/resolv.new; echo nameserver 192.0.2.9 >/etc/resolv.new; mount --bind /etc/resolv.new /etc/resolv.conf",
        mend: "umount /etc/resolv.conf",
    },
    Fault {
        cause: "certificate",
        make: "cp -L /var/lib/kubelet/pki/kubelet-client-current.pem /root/cert; openssl req -x509 -newkey rsa:2048 -nodes -keyout /dev/null -days 3 -subj /CN=x -out /root/short 2>/dev/null; mount --bind /root/short $(readlink -f /var/lib/kubelet/pki/kubelet-client-current.pem)",
        mend: "umount $(readlink -f /var/lib/kubelet/pki/kubelet-client-current.pem)",
    },
    Fault {
        cause: "heat",
        make: "mkdir -p /root/hot/thermal_zone0; echo 84000 >/root/hot/thermal_zone0/temp; mount --bind /root/hot /sys/class/thermal",
        mend: "umount /sys/class/thermal",
    },
    Fault {
        cause: "under-voltage",
        make: "printf '#!/bin/sh\\necho throttled=0x50001\\n' >/usr/local/bin/vcgencmd; chmod +x /usr/local/bin/vcgencmd",
        mend: "rm /usr/local/bin/vcgencmd",
    },
    Fault {
        cause: "slow-link",
        make: "echo 100 >/root/speed; mount --bind /root/speed $(readlink -f /sys/class/net/$(ip -4 route show default | sed 's/.* dev \\([^ ]*\\).*/\\1/')/speed)",
        mend: "umount $(readlink -f /sys/class/net/$(ip -4 route show default | sed 's/.* dev \\([^ ]*\\).*/\\1/')/speed)",
    },
    Fault { cause: "program", make: "systemctl stop containerd", mend: "systemctl start containerd" },
    Fault { cause: "no-sshd", make: "systemctl stop ssh.socket ssh 2>/dev/null", mend: "systemctl start ssh" },
];

/// Faults that are made from outside of a board, by the lab.
const OUTSIDE: &[(&str, &[&str], &[&str])] = &[
    ("clock", &["clock", "NODE", "+1h"], &["clock", "NODE", "real"]),
    ("disk-full", &["fill", "NODE"], &["fill", "NODE", "--undo"]),
    ("unreachable", &["link", "down", "NODE"], &["link", "up", "NODE"]),
    ("hung", &["hang", "NODE"], &[]),
];

fn why(shelf: &Shelf) {
    on_three_planes(shelf, |Saved { rack, .. }| {
        let causes = |rack: &Rack| -> Vec<(String, String)> {
            let output = rack.run(&["why", "-o", "json"]);
            let said: serde_json::Value =
                serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", text(&output)));
            let pair = |cause: &serde_json::Value| {
                let of = |key: &str| cause[key].as_str().unwrap_or("cluster").to_owned();
                (of("node"), of("kind"))
            };
            let all = said["causes"].as_array().unwrap().iter().map(pair);
            // How fast the disk below is, is the machine's.
            all.filter(|(_, kind)| kind != "etcd-slow").collect()
        };
        let node = rack.node(4);
        // Of a board without a name nobody knows how fast its link could be.
        let file = read(&rack.file());
        let generic = format!("name: {node}, role: worker, board: generic-amd64");
        assert!(file.contains(&generic), "{file}");
        fs::write(rack.file(), file.replace(&generic, &generic.replace("generic-amd64", "rock-pi-x-4gb"))).unwrap();
        assert_eq!(causes(rack), [], "{}", text(&rack.run(&["why"])));
        for fault in FAULTS {
            assert_eq!(rack.shell(&node, &format!("({}) 2>&1", fault.make)), "", "{}", fault.cause);
            let found = causes(rack);
            assert_eq!(found, [(node.clone(), fault.cause.to_owned())], "{}", text(&rack.run(&["why"])));
            rack.shell(&node, fault.mend);
            // What the kernel has said it has said until the next boot.
            if fault.mend.is_empty() {
                rack.shell(&node, "sleep 2; journalctl --rotate -q && journalctl --vacuum-time=1s -q");
            }
        }
        for (cause, make, mend) in OUTSIDE {
            let own = format!("{}/{node}", rack.name);
            let lab = |words: &[&str]| {
                let words: Vec<&str> =
                    words.iter().map(|word| if *word == "NODE" { own.as_str() } else { word }).collect();
                assert_code(&rack.lab(&words), 0);
            };
            lab(make);
            let found = causes(rack);
            assert_eq!(found, [(node.clone(), (*cause).to_owned())], "{}", text(&rack.run(&["why"])));
            if mend.is_empty() {
                rack.cut(4);
                rack.start(4);
            } else {
                lab(mend);
            }
            rack.assert_well();
        }
        // A pod that fits nowhere.
        rack.apply(&STATEFUL.replace("containers:", "nodeSelector: { nowhere: here }\n      containers:"));
        wait_for("the pod that fits nowhere", || {
            rack.kubectl(1, "get events --field-selector reason=FailedScheduling").contains("db-0")
        });
        assert_eq!(causes(rack), [("cluster".to_owned(), "pending".to_owned())], "{}", text(&rack.run(&["why"])));
        rack.kubectl(1, "delete statefulset db");
        // A workload whose image nobody has, and a board that hangs: both, and nothing of what follows from them.
        rack.apply(&STATEFUL.replace("bundle.bramble/busybox:1", "nowhere.invalid/none:1"));
        wait_for("the image that does not come", || rack.kubectl(1, "get pods").contains("ImagePull"));
        assert_code(&rack.lab(&["cut", &format!("{}/{}", rack.name, rack.node(5))]), 0);
        let mut found = causes(rack);
        found.sort();
        assert_eq!(
            found,
            [("cluster".to_owned(), "image".to_owned()), (rack.node(5), "unreachable".to_owned())],
            "{}",
            text(&rack.run(&["why"]))
        );
        let report = rack.run(&["report", "--yes"]);
        assert_code(&report, 0);
        assert!(text(&report).contains("-report.tar.gz is written."), "{}", text(&report));
        rack.start(5);
    });
}
