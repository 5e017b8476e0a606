//! What a cluster does by itself: it saves its state, and goes off in order when its UPS runs empty.

use std::fs;
use std::path::PathBuf;

use crate::Row;
use crate::common::{Rack, assert_code, read, text, wait_for};
use crate::kubeadm::on_three_planes;
use crate::shelf::{Saved, Shelf};

pub(crate) const ROWS: &[Row] = &[
    Row { name: "lives::kept::a_cluster_makes_backups_by_itself_that_bring_it_back", test: backups },
    Row { name: "lives::kept::volumes_are_saved_at_every_place_and_come_back_whole", test: volumes },
    Row { name: "lives::kept::boards_behind_a_ups_go_off_in_order_before_it_is_empty", test: ups },
];

fn address(rack: &Rack, n: usize) -> String {
    let file = read(&rack.file());
    let line = file.lines().find(|line| line.contains(&format!("name: {},", rack.node(n)))).unwrap();
    line.split("address: ").nth(1).unwrap().split([',', ' ', '}']).next().unwrap().to_owned()
}

/// The backups in a folder of a board, the oldest first.
fn kept(rack: &Rack, n: usize, folder: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(rack.disk(&rack.node(n)).join(folder)).unwrap();
    let mut all: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    all.sort();
    all
}

/// Lets the first control plane make a backup now, whenever the last one was made, and tells what it said.
fn make_now(rack: &Rack) -> String {
    rack.kubectl(1, "-n kube-system delete configmap bramble-backups");
    rack.shell(
        &rack.node(1),
        "systemctl stop bramble-backup; systemctl start bramble-backup; journalctl -q -o cat -n 30 -u bramble-backup",
    )
}

fn condition(rack: &Rack) -> (String, String) {
    let status = rack.well();
    let all = status["conditions"].as_array().unwrap();
    let own = all.iter().find(|condition| condition["name"] == "BackupMade").unwrap();
    let word = |key: &str| own[key].as_str().unwrap_or_default().to_owned();
    (word("state"), word("reason"))
}

fn backups(shelf: &Shelf) {
    on_three_planes(shelf, |Saved { rack, .. }| {
        // Two of three places are servers that bramble did not make: an account on a board's sshd, and later a full disk.
        let host_key = fs::read_to_string(rack.disk(&rack.node(5)).join("etc/ssh/ssh_host_ed25519_key.pub")).unwrap();
        let there = address(rack, 5);
        rack.append(&format!(
            "backup:\n  every: 10m\n  keep: 2\n  to:\n    - {}:/srv/backups\n    - {{ url: \"ssh://keeper@{there}/srv/keep\", host_key: \"{}\" }}\n",
            rack.node(4),
            host_key.trim()
        ));
        let places = rack.run(&["backup", "places"]);
        assert_code(&places, 0);
        let line = text(&places).lines().find(|line| line.starts_with("ssh-ed25519 ")).unwrap().to_owned();
        rack.shell(&rack.node(5), &format!(
            "useradd -m keeper && mkdir -m 700 ~keeper/.ssh && echo '{line}' >~keeper/.ssh/authorized_keys && chown -R keeper: ~keeper/.ssh && install -d -o keeper /srv/keep"
        ));
        let said = rack.go_up();
        assert!(said.contains("let backups of the cluster into /srv/backups") || rack.plan().0 == 0, "{said}");
        // The timer makes the first one, and no other control plane makes a second.
        wait_for("the first backup", || condition(rack).0 == "good");
        assert_eq!((kept(rack, 4, "srv/backups").len(), kept(rack, 5, "srv/keep").len()), (1, 1));
        assert_eq!(rack.shell(&rack.node(2), "systemctl start bramble-backup; echo $?"), "0\n");
        assert_eq!(kept(rack, 4, "srv/backups").len(), 1);
        rack.assert_well();

        // It is whole, opens with the key here, and a flipped bit is noticed.
        let own = rack.dir.path().join("own.bramble-backup");
        fs::copy(&kept(rack, 5, "srv/keep")[0], &own).unwrap();
        let good = rack.run(&["backup", "verify", own.to_str().unwrap()]);
        assert_code(&good, 0);
        assert!(
            text(&good).contains("its digest is right") && text(&good).contains("objects are in it"),
            "{}",
            text(&good)
        );
        println!("{}", text(&good));
        // It comes back on a board beside, which then goes, and that is remembered.
        let back = rack.run(&["backup", "verify", own.to_str().unwrap(), "--rack"]);
        assert_code(&back, 0);
        let again = text(&rack.run(&["backup", "verify", own.to_str().unwrap()]));
        assert!(again.contains("it came back on a rack on "), "{again}");
        println!("{again}");
        let mut bytes = fs::read(&own).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        let bad = rack.dir.path().join("bad.bramble-backup");
        fs::write(&bad, bytes).unwrap();
        let flipped = rack.run(&["backup", "verify", bad.to_str().unwrap()]);
        assert_code(&flipped, 1);
        assert!(text(&flipped).contains("is damaged or no backup"), "{}", text(&flipped));

        // Two stay at each place.
        let first = kept(rack, 4, "srv/backups")[0].clone();
        for _ in 0..2 {
            std::thread::sleep(std::time::Duration::from_secs(1));
            let said = make_now(rack);
            assert!(said.contains("it is there, and was read back"), "{said}");
        }
        let now = kept(rack, 4, "srv/backups");
        assert!(now.len() == 2 && !now.contains(&first), "{now:?}");

        // A place that is full keeps what it has, the other one gets its own, and both are told of.
        rack.shell(&rack.node(5), "mount -t tmpfs -o size=64k none /srv/keep && chown keeper /srv/keep");
        make_now(rack);
        let (state, reason) = condition(rack);
        assert_eq!(state, "bad", "{reason}");
        assert!(reason.contains("is not everywhere") && reason.contains("ssh://keeper@"), "{reason}");
        println!("full: {reason}");
        assert_ne!(kept(rack, 4, "srv/backups"), now);
        assert_eq!(rack.shell(&rack.node(5), "ls -A /srv/keep; umount /srv/keep"), "");

        // A server that has another key than the cluster file says gets nothing.
        let other = fs::read_to_string(rack.disk(&rack.node(3)).join("etc/ssh/ssh_host_ed25519_key.pub")).unwrap();
        fs::write(rack.file(), read(&rack.file()).replace(host_key.trim(), other.trim())).unwrap();
        rack.go_up();
        make_now(rack);
        let (state, reason) = condition(rack);
        assert!(state == "bad" && reason.contains("ssh://keeper@"), "{reason}");
        println!("another key: {reason}");

        // The file that the timer made brings the cluster back.
        rack.kubectl(1, "create namespace later");
        let restored = rack.run(&["restore", own.to_str().unwrap(), "--yes=t-life"]);
        assert_code(&restored, 0);
        wait_for("the namespace to be gone", || rack.kubectl(1, "get namespace later").contains("NotFound"));

        // Without `backup:` all of it goes but the backups.
        let file = read(&rack.file());
        fs::write(rack.file(), file.split("backup:\n").next().unwrap()).unwrap();
        rack.go_up();
        let left = "ls -A /etc/bramble/backup 2>/dev/null; ls -d /etc/systemd/system/bramble-backup.* /etc/ssh/sshd_config.d/10-bramble-backup.conf 2>/dev/null; getent passwd bramble-backup; ls /srv/backups 2>/dev/null | wc -l";
        assert_eq!(rack.shell(&rack.node(1), left), "0\n");
        assert_eq!(rack.shell(&rack.node(4), left), "2\n");
    });
}

/// A folder of the fourth board that a claim is bound to, and a claim that nothing is bound to.
const CLAIMS: &str = r#"
{ apiVersion: v1, kind: Namespace, metadata: { name: shop } }
---
apiVersion: v1
kind: PersistentVolume
metadata: { name: db }
spec:
  capacity: { storage: 1Gi }
  accessModes: [ReadWriteOnce]
  local: { path: /srv/volumes/db }
  nodeAffinity: { required: { nodeSelectorTerms: [{ matchExpressions: [{ key: kubernetes.io/hostname, operator: In, values: [NODE] }] }] } }
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: { name: db, namespace: shop }
spec: { storageClassName: "", volumeName: db, accessModes: [ReadWriteOnce], resources: { requests: { storage: 1Gi } } }
"#;

/// A pod that waits for a node that there is not, with the claim.
const WAITS: &str = r#"{ apiVersion: v1, kind: Pod, metadata: { name: db-0, namespace: shop }, spec: { nodeSelector: { none: none },
  containers: [{ name: c, image: none }], volumes: [{ name: v, persistentVolumeClaim: { claimName: db } }] } }"#;

const BEGIN: &str = r#"set -e; cd /srv/volumes/db
mkdir -p sub/deep; echo one >sub/deep/a; chown 1234:4321 sub/deep/a; chmod 640 sub/deep/a; ln -s sub/deep/a link; echo hidden >.hidden; truncate -s 50M sparse; head -c 3000000 /dev/urandom >blob"#;
const SEEN: &str = r"cd /srv/volumes/db; ls -A | tr '\n' ' '; cat sub/deep/a; stat -c '%u:%g %a' sub/deep/a; readlink link; sha256sum <blob";

/// Volumes go to a folder of a board and to a real S3 server (versitygw, which `go install` brings); the state of the cluster, too.
fn volumes(shelf: &Shelf) {
    on_three_planes(shelf, |Saved { rack, .. }| {
        let there = address(rack, 5);
        let bin = rack.dir.path().join("go");
        let built = std::process::Command::new("go")
            .args(["install", "github.com/versity/versitygw/cmd/versitygw@v1.8.0"])
            .envs([("GOBIN", bin.as_os_str()), ("CGO_ENABLED", "0".as_ref()), ("GOFLAGS", "-p=2".as_ref())])
            .output()
            .expect("this row builds an S3 server: it wants Go");
        assert_code(&built, 0);
        fs::copy(bin.join("versitygw"), rack.disk(&rack.node(5)).join("usr/local/bin/versitygw")).unwrap();
        let serve = "mkdir -p /srv/s3/shelf && systemd-run -q --unit rack-s3 --setenv ROOT_ACCESS_KEY=shelf --setenv ROOT_SECRET_KEY=secretsecret \
                     versitygw --port :7070 posix /srv/s3";
        assert_eq!(rack.shell(&rack.node(5), serve), "");
        fs::write(
            rack.dir.path().join("s3.ini"),
            "[default]\naws_access_key_id = shelf\naws_secret_access_key = secretsecret\n",
        )
        .unwrap();
        rack.shell(&rack.node(4), &format!("mkdir -p /srv/volumes/db; {BEGIN}"));
        rack.apply(&CLAIMS.replace("NODE", &rack.node(4)));
        wait_for("the claim to be bound", || rack.kubectl(1, "-n shop get pvc db").contains("Bound"));
        rack.append(&format!(
            "backup:\n  every: 10m\n  keep: 2\n  volumes: [shop/db]\n  to:\n    - {}:/srv/backups\n    - {{ url: \"s3://shelf/home\", endpoint: \"http://{there}:7070\", credentials: s3.ini }}\n",
            rack.node(4)
        ));
        rack.go_up();
        // Their own timers do it.
        let saved = || rack.run(&["backup", "volumes"]);
        let places = ["/srv/backups", "s3://shelf/home"];
        wait_for("the first volumes to be saved at both places", || {
            let said = saved();
            said.status.code() == Some(0) && places.iter().all(|place| text(&said).contains(place))
        });
        println!("{}", text(&saved()));
        wait_for("the state to be saved", || condition(rack).0 == "good");
        assert!(rack.shell(&rack.node(5), "ls /srv/s3/shelf/home").contains(".bramble-backup"));
        let of = |n: usize| node_condition(rack, n, "VolumesSaved");
        assert_eq!(of(4).map(|(state, _)| state).as_deref(), Some("good"));
        assert_eq!(of(5), None);

        // Nothing happens while a pod has it; then it is as it was.
        let before = rack.shell(&rack.node(4), SEEN);
        assert!(before.contains("one\n1234:4321 640\nsub/deep/a\n"), "{before}");
        let changes =
            "cd /srv/volumes/db; echo two >sub/deep/a; chown root: sub/deep/a; rm .hidden blob link; echo x >more";
        rack.shell(&rack.node(4), changes);
        rack.apply(WAITS);
        let refused = rack.run(&["restore", "--volume", "shop/db", "--yes"]);
        assert_code(&refused, 1);
        assert!(text(&refused).contains("shop/db is in use by db-0"), "{}", text(&refused));
        rack.kubectl(1, "-n shop delete pod db-0 --force");
        let asked = rack.run(&["restore", "--volume", "shop/db"]);
        assert!(
            asked.status.code() == Some(1) && text(&asked).contains("pass --yes=shop/db to confirm"),
            "{}",
            text(&asked)
        );
        assert_ne!(rack.shell(&rack.node(4), SEEN), before);
        let back = rack.run(&["restore", "--volume", "shop/db", "--yes"]);
        assert_code(&back, 0);
        assert_eq!(rack.shell(&rack.node(4), SEEN), before);

        // From the other place, by its ID; what is flipped there is noticed, and the volume stays.
        let list = rack.run(&["backup", "volumes", "-o", "json"]);
        let list: serde_json::Value = serde_json::from_slice(&list.stdout).unwrap();
        let rows = list["volumes"].as_array().unwrap();
        let id = |place: &str| {
            rows.iter().find(|row| row["place"].as_str().unwrap().ends_with(place)).unwrap()["id"]
                .as_str()
                .unwrap()
                .to_owned()
        };
        rack.shell(&rack.node(4), changes);
        assert_code(&rack.run(&["restore", "--volume", "shop/db", "--id", &id("s3://shelf/home"), "--yes"]), 0);
        assert_eq!(rack.shell(&rack.node(4), SEEN), before);
        rack.shell(&rack.node(4), "for f in /srv/backups/t-life-volumes/data/*/*; do dd if=/dev/zero of=$f bs=1 seek=1000 count=64 conv=notrunc status=none; done");
        let flipped = rack.run(&["restore", "--volume", "shop/db", "--id", &id("/srv/backups"), "--yes"]);
        assert_code(&flipped, 1);
        println!("flipped: {}", text(&flipped));
        assert_eq!(rack.shell(&rack.node(4), SEEN), before);

        // A place that is away, and a claim that nobody has.
        rack.shell(&rack.node(5), "systemctl stop rack-s3");
        let file = read(&rack.file());
        fs::write(rack.file(), file.replace("[shop/db]", "[shop/db, shop/none]")).unwrap();
        rack.go_up();
        let now = "rm -f /var/lib/bramble/backups-volumes/saved; systemctl start bramble-volumes";
        rack.shell(&rack.node(4), now);
        rack.shell(&rack.node(1), now);
        let (state, reason) = of(4).unwrap();
        assert!(state == "bad" && reason.contains("s3://shelf/home"), "{reason}");
        println!("away: {reason}");
        let (state, reason) = of(1).unwrap();
        assert!(state == "bad" && reason.contains("shop/none: no volume is bound to this claim"), "{reason}");

        fs::write(rack.file(), file.split("backup:\n").next().unwrap()).unwrap();
        rack.go_up();
        let left =
            "ls -dA /etc/bramble/backup/* /etc/systemd/system/bramble-volumes.* /var/lib/bramble/backups* 2>/dev/null";
        assert_eq!((rack.shell(&rack.node(1), left), rack.shell(&rack.node(4), left)), (String::new(), String::new()));
        assert_eq!(rack.shell(&rack.node(4), SEEN), before);
    });
}

fn node_condition(rack: &Rack, n: usize, name: &str) -> Option<(String, String)> {
    let output = rack.run(&["status", "-o", "json"]);
    let status: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let own = status["nodes"][rack.node(n)].as_array().unwrap();
    let found = own.iter().find(|condition| condition["name"] == name)?;
    let word = |key: &str| found[key].as_str().unwrap_or_default().to_owned();
    Some((word("state"), word("reason")))
}

/// A UPS that is a file: the driver reads its state there (dummy-ups(8)).
const UPS: &str = r#"set -eu
DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends nut-server >/dev/null 2>&1
systemctl disable --now nut-server nut-driver.target nut-driver-enumerator.path >/dev/null 2>&1 || :
mkdir -p /root/ups /run/ups
printf '[ups]\ndriver = dummy-ups\nport = state.dev\nmode = dummy-loop\n' >/root/ups/ups.conf
printf 'ups.status: OL\nbattery.charge: 100\nTIMER 2\n' >/root/ups/state.dev
printf 'LISTEN 0.0.0.0 3493\n' >/root/ups/upsd.conf
printf '[watcher]\npassword = pass word\nupsmon secondary\n' >/root/ups/upsd.users
export NUT_CONFPATH=/root/ups NUT_STATEPATH=/run/ups NUT_ALTPIDPATH=/run/ups
d=$(ls /lib/nut/dummy-ups /usr/libexec/nut/dummy-ups 2>/dev/null | head -n 1)
systemd-run -q --unit rack-ups --setenv NUT_CONFPATH=/root/ups --setenv NUT_STATEPATH=/run/ups "$d" -a ups -u root -F
sleep 2
systemd-run -q --unit rack-upsd --setenv NUT_CONFPATH=/root/ups --setenv NUT_STATEPATH=/run/ups "$(ls /lib/nut/upsd /usr/libexec/nut/upsd 2>/dev/null | head -n 1)" -u root -F
sleep 1
upsc ups@localhost ups.status >/dev/null 2>&1"#;

fn ups(shelf: &Shelf) {
    on_three_planes(shelf, |Saved { rack, .. }| {
        let state = |rack: &Rack, name: &str| {
            let output = rack.lab(&["list", "-o", "json"]);
            let racks: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
            let own = racks.as_array().unwrap().iter().find(|own| own["name"] == rack.name.as_str()).unwrap();
            own["nodes"].as_array().unwrap().iter().find(|node| node["name"] == name).unwrap()["on"] == true
        };
        // The machine at the UPS is a board that leaves the cluster.
        let server = address(rack, 5);
        let file = crate::common::without(&read(&rack.file()), &rack.node(5));
        fs::write(rack.file(), &file).unwrap();
        rack.go_up_without(&[&rack.node(5)]);
        assert_eq!(rack.shell(&rack.node(5), &format!("({UPS}) 2>&1")), "");
        fs::write(rack.dir.path().join("nut.secret"), "pass word\n").unwrap();
        rack.append(&format!(
            "power: {{ nut: {{ ups: \"ups@{server}\", user: watcher, password_file: nut.secret }} }}\n"
        ));
        let said = rack.go_up();
        rack.assert_well();
        assert!(!said.contains("pass word"), "{said}");
        let watches = |n| {
            rack.shell(
                &rack.node(n),
                &format!("upsc ups@{server} ups.status 2>/dev/null; systemctl is-active nut-monitor"),
            )
        };
        for n in 1..=4 {
            assert_eq!(
                watches(n),
                "OL\nactive\n",
                "{}",
                rack.shell(&rack.node(n), "journalctl -q -n 20 -u nut-monitor")
            );
        }
        // On battery nothing happens yet; when that is low, workers go first.
        let says = |state: &str| {
            rack.shell(&rack.node(5), &format!("printf 'ups.status: {state}\\nTIMER 2\\n' >/root/ups/state.dev"))
        };
        says("OB DISCHRG");
        std::thread::sleep(std::time::Duration::from_secs(20));
        assert!((1..=4).all(|n| state(rack, &rack.node(n))), "off too early");
        says("OB DISCHRG LB");
        wait_for("the worker to go off", || !state(rack, &rack.node(4)));
        assert!((1..=3).all(|n| state(rack, &rack.node(n))), "a control plane went before the worker was off");
        wait_for("the control planes to go off", || (1..=3).all(|n| !state(rack, &rack.node(n))));
        // Power again: the boards boot, and the cluster is as it was.
        says("OL");
        for n in 1..=4 {
            rack.start(n);
        }
        rack.assert_well();
        let nodes = rack.kubectl(1, "get nodes");
        assert!(!nodes.contains("SchedulingDisabled"), "{nodes}");
    });
}
