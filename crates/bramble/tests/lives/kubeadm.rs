//! A highly available cluster (kubeadm, a real Kubernetes) after its first installation: a control plane lost, nodes removed,
//! added and replaced, a backup, a wreck, a restore, upgrades.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::Row;
use crate::common::{Rack, WORK, assert_code, read, text, wait_for, without};
use crate::shelf::{Saved, Shelf};
use crate::wreck;

const API: &str = "10.78.10.9";

pub(crate) const ROWS: &[Row] = &[
    Row { name: "lives::ci::kubeadm::the_api_moves_when_its_holder_loses_its_power", test: the_api_moves },
    Row { name: "lives::ci::kubeadm::a_wreck_comes_back_from_a_backup", test: a_wreck_comes_back },
    Row { name: "lives::kubeadm::a_worker_leaves_as_it_came_and_comes_back_as_another_board", test: a_worker_leaves },
    Row { name: "lives::kubeadm::boards_are_replaced_and_no_host_key_is_taken_for_granted", test: boards_are_replaced },
    Row { name: "lives::kubeadm::programs_have_the_arguments_of_the_cluster_file", test: programs_have_arguments },
    Row { name: "lives::kubeadm::a_certificate_that_ends_soon_is_renewed", test: a_certificate_is_renewed },
    Row { name: "lives::kubeadm::an_upgrade_costs_a_service_no_request", test: an_upgrade_costs_nothing },
    Row {
        name: "lives::kubeadm::a_budget_that_forbids_it_stops_an_upgrade_by_its_name",
        test: a_budget_stops_an_upgrade,
    },
];

/// Three control planes, whose API has an address that moves, and two workers.
pub(crate) fn on_three_planes(shelf: &Shelf, test: impl FnOnce(&mut Saved)) {
    shelf.with("t-life", make, test);
}

fn make(name: &'static str) -> (Rack, BTreeMap<String, String>) {
    let rack = Rack::up(name, &["--control-planes", "3", "--workers", "2", "--subnet", "10.78.10.0/24"]);
    let file = read(&rack.file()).replace("cni: routed }", &format!("cni: routed, api: {API} }}"));
    fs::write(rack.file(), &file).unwrap();
    let before = rack.listing(&rack.node(5));
    let said = rack.go_up();
    assert!(said.contains("Smoke test passed: 25 paths between pods"), "{said}");
    assert_eq!(etcd_members(&rack, 2), rack.names(&[1, 2, 3]));
    (rack, before)
}

/// Whether the API answers at the address that moves.
fn api_answers(rack: &Rack, from: usize) -> bool {
    let ask = format!("curl -sfk --max-time 2 https://{API}:6443/readyz");
    rack.shell(&rack.node(from), &ask) == "ok"
}

fn etcd_members(rack: &Rack, n: usize) -> BTreeSet<String> {
    let command = format!(
        "-n kube-system exec etcd-{} -- etcdctl --endpoints=https://127.0.0.1:2379 --cacert=/etc/kubernetes/pki/etcd/ca.crt \
         --cert=/etc/kubernetes/pki/etcd/server.crt --key=/etc/kubernetes/pki/etcd/server.key member list",
        rack.node(n)
    );
    rack.kubectl(n, &command).lines().filter_map(|line| line.split(", ").nth(2)).map(str::to_owned).collect()
}

fn the_api_moves(shelf: &Shelf) {
    on_three_planes(shelf, |Saved { rack, .. }| {
        let holder =
            (1..=3).find(|n| rack.shell(&rack.node(*n), "ip -4 addr show").contains(&format!("{API}/32"))).unwrap();
        rack.cut(holder);
        let took = wait_for("the API, elsewhere", || api_answers(rack, holder % 3 + 1));
        assert!(took > Duration::ZERO);
        let status = rack.well();
        assert_eq!(status["conditions"][0]["state"], "good", "{status:#}");
        rack.start(holder);
        rack.assert_well();
    });
}

fn programs_have_arguments(shelf: &Shelf) {
    on_three_planes(shelf, |Saved { rack, .. }| {
        let file = read(&rack.file());
        let before = rack.shell(&rack.node(2), "cat /etc/kubernetes/manifests/*.yaml");
        let told = "arguments: { kubelet: { max-pods: 47 }, kube-apiserver: { audit-log-maxage: 7 }, \
                    kube-scheduler: { v: 2 }, etcd: { backend-batch-interval: 5s } }\nnodes:";
        fs::write(rack.file(), file.replace("nodes:", told)).unwrap();
        rack.go_up();
        let pods = || rack.kubectl(1, "get nodes -o 'jsonpath={.items[*].status.capacity.pods}'");
        wait_for("kubelets to report", || pods() == "47 47 47 47 47");
        for n in 1..=3 {
            let api = rack.kubectl(
                n,
                &format!(
                    "-n kube-system get pod kube-apiserver-{} -o jsonpath={{.spec.containers[0].command}}",
                    rack.node(n)
                ),
            );
            assert!(api.contains("--audit-log-maxage=7"), "{api}");
            let etcd = rack
                .shell(&rack.node(n), "tr '\\0' '\\n' </proc/$(pgrep -o -x etcd)/cmdline | grep -c batch-interval=5s");
            assert_eq!(etcd, "1\n");
        }
        rack.assert_well();
        // A node that comes later has them from its first start on.
        rack.replace(5);
        rack.go_up();
        wait_for("the new kubelet to report", || pods() == "47 47 47 47 47");
        rack.assert_well();
        fs::write(rack.file(), &file).unwrap();
        rack.go_up();
        wait_for("kubelets to report", || pods() == "110 110 110 110 110");
        assert_eq!(rack.shell(&rack.node(2), "cat /etc/kubernetes/manifests/*.yaml"), before);
        rack.assert_well();
    });
}

fn a_worker_leaves(shelf: &Shelf) {
    on_three_planes(shelf, |Saved { rack, before, .. }| {
        let file = read(&rack.file());
        fs::write(rack.file(), without(&file, &rack.node(5))).unwrap();
        let plan = rack.run(&["plan"]);
        assert_code(&plan, 3);
        assert!(text(&plan).contains("leave the cluster t-life"), "{}", text(&plan));
        for unnamed in [&["up"][..], &["up", "--yes"], &["up", "--yes=t-life"]] {
            let refused = rack.run(unnamed);
            assert_code(&refused, 1);
            assert!(text(&refused).contains(&format!("pass --yes={}", rack.node(5))), "{}", text(&refused));
        }
        rack.go_up_without(&[&rack.node(5)]);
        assert!(!rack.kubectl(1, "get nodes").contains(&rack.node(5)));
        rack.assert_undone(&rack.node(5), before);
        rack.assert_well();

        // It comes back, as a new board with an empty disk and other host keys.
        fs::write(rack.file(), &file).unwrap();
        rack.replace(5);
        rack.go_up();
        rack.assert_well();
    });
}

fn boards_are_replaced(shelf: &Shelf) {
    on_three_planes(shelf, |Saved { rack, .. }| {
        let known = rack.dir.path().join(".bramble/known_hosts");
        let old_keys = read(&known);
        let old = [4, 2].map(|n| rack.uid(1, &format!("node {}", rack.node(n))));
        for n in [4, 2] {
            rack.replace(n);
        }
        let new_keys = read(&known);
        fs::write(&known, &old_keys).unwrap();
        let refused = rack.run(&["up", "--yes"]);
        assert_code(&refused, 1);
        assert!(text(&refused).contains("up --replaced"), "{}", text(&refused));
        let unseen = rack.run(&["up", "--yes", "--replaced", &rack.node(2), "--replaced", &rack.node(4)]);
        assert_code(&unseen, 1);
        assert!(text(&unseen).contains("New host keys"), "{}", text(&unseen));
        fs::write(&known, &new_keys).unwrap();
        let plan = rack.run(&["plan"]);
        assert!(text(&plan).contains("in the place of the board that had this name"), "{}", text(&plan));
        rack.go_up();
        rack.assert_well();
        assert_eq!(etcd_members(rack, 2), rack.names(&[1, 2, 3]));
        for (n, old) in [4, 2].into_iter().zip(&old) {
            assert_ne!(rack.uid(1, &format!("node {}", rack.node(n))), *old, "node {n} has its old record");
        }
    });
}

fn a_certificate_is_renewed(shelf: &Shelf) {
    let resign = "cd /etc/kubernetes/pki && c=apiserver-kubelet-client && exec 2>/dev/null && \
                  echo extendedKeyUsage=clientAuth >/tmp/ext && openssl x509 -x509toreq -in $c.crt -signkey $c.key -out /tmp/csr && \
                  openssl x509 -req -in /tmp/csr -CA ca.crt -CAkey ca.key -CAserial /tmp/serial -CAcreateserial -days 10 \
                  -extfile /tmp/ext -out /tmp/short && cat /tmp/short >$c.crt && rm /tmp/csr /tmp/short /tmp/serial /tmp/ext";
    on_three_planes(shelf, |Saved { rack, .. }| {
        rack.shell(&rack.node(3), resign);
        let status = text(&rack.run(&["status"]));
        assert!(status.contains("apiserver-kubelet-client.crt ends in "), "{status}");
        assert_eq!(rack.titles(), [format!("{}: renew the certificates", rack.node(3))]);
        rack.go_up();
        rack.assert_well();
    });
}

fn a_wreck_comes_back(shelf: &Shelf) {
    on_three_planes(shelf, |Saved { rack, .. }| {
        wreck::comes_back(rack, "var/lib/etcd/member", etcd_members, |rack| {
            let left = rack.shell(&rack.node(1), "ls -d /var/lib/bramble/backup /var/lib/etcd/bramble.db 2>/dev/null");
            assert_eq!(left, "", "the state was left on the node");
        });
        assert_code(&rack.run(&["down", "--yes"]), 0);
    });
}

/// Two pods that answer HTTP behind a Service. As upstream advises, one that ends answers until nobody is sent there any more.
pub(crate) const SERVICE: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: { name: web }
spec:
  replicas: 2
  selector: { matchLabels: { app: web } }
  template:
    metadata: { labels: { app: web } }
    spec:
      tolerations: [{ operator: Exists, key: node-role.kubernetes.io/control-plane }]
      terminationGracePeriodSeconds: 30
      topologySpreadConstraints:
        - { maxSkew: 1, topologyKey: kubernetes.io/hostname, whenUnsatisfiable: DoNotSchedule, labelSelector: { matchLabels: { app: web } } }
      containers:
        - name: web
          image: "bundle.bramble/busybox:1"
          command: [sh, -c, "mkdir -p /www && echo good >/www/index.html && exec httpd -f -p 8080 -h /www"]
          readinessProbe: { httpGet: { port: 8080 }, periodSeconds: 1 }
          lifecycle: { preStop: { exec: { command: [sleep, "8"] } } }
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: { name: web }
spec: { minAvailable: 1, selector: { matchLabels: { app: web } } }
---
apiVersion: v1
kind: Service
metadata: { name: web }
spec: { clusterIP: 10.96.0.200, selector: { app: web }, ports: [{ port: 80, targetPort: 8080 }] }
"#;

/// Asks the Service ten times a second from a board that stays, until the file is gone; prints how often and what went wrong.
pub(crate) const PROBE: &str = "\
n=0 bad=0; while [ -e /root/probing ]; do
    n=$((n + 1)); a=$(curl -s --max-time 2 http://10.96.0.200/) || :
    [ \"$a\" = good ] || { bad=$((bad + 1)); echo \"$(date +%T) no answer\"; }
    sleep 0.1
done; echo \"asked $n bad $bad\"";

/// The next bundle, which has containerd 2, too: its version and the cluster file with it.
fn next(rack: &Rack) -> (String, String, String) {
    let bundle = |next: &[&str]| {
        let output = rack.lab(&[&["bundle"], next].concat());
        let said = String::from_utf8(output.stdout).unwrap();
        let (version, path) = said.trim().strip_prefix("Kubernetes ").unwrap().split_once(" is in ").unwrap();
        (version.to_owned(), path.to_owned())
    };
    let (now, next) = (bundle(&[]), bundle(&["--kubernetes", "1.37", "--containerd"]));
    let file = read(&rack.file()).replace(&now.1, &next.1).replace(&now.0, &next.0);
    (now.0, next.0, file)
}

fn an_upgrade_costs_nothing(shelf: &Shelf) {
    on_three_planes(shelf, |Saved { rack, .. }| {
        let (now, next, upgraded) = next(rack);
        rack.apply(SERVICE);
        let ready = |rack: &Rack| rack.kubectl(1, "get deployment web -o jsonpath={.status.readyReplicas}");
        wait_for("the service", || ready(rack) == "2");
        // Whom the user cordoned stays cordoned.
        rack.kubectl(1, &format!("cordon {}", rack.node(5)));
        fs::write(rack.file(), upgraded).unwrap();
        let plan = rack.run(&["plan"]);
        assert_code(&plan, 3);
        let step = format!("upgrade Kubernetes from {now} to {next}");
        assert!(text(&plan).contains(&step), "{}", text(&plan));

        let stays = rack.node(5);
        // Boards that were off set up the Service's address only when they have asked the API.
        let answers = || rack.shell(&stays, "curl -s --max-time 2 http://10.96.0.200/ || :").contains("good");
        wait_for("the service's address", answers);
        rack.shell(&stays, "touch /root/probing");
        let probe = rack.lab_command(&["shell", &format!("{}/{stays}", rack.name), "sh", "-c", PROBE]);
        let mut probe: Command = probe;
        let probe = probe.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let output = rack.run(&["up", "--yes"]);
        rack.shell(&stays, "rm /root/probing");
        let said = probe.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&said.stdout).into_owned();
        assert_code(&output, 0);
        let asked = said.lines().last().unwrap_or_default();
        assert!(asked.ends_with(" bad 0"), "{said}");
        println!("{asked}");

        let versions = rack.kubectl(1, "get nodes -o 'jsonpath={.items[*].status.nodeInfo.kubeletVersion}'");
        assert_eq!(versions.split_whitespace().collect::<Vec<_>>(), vec![format!("v{next}"); 5]);
        let runtimes = rack.kubectl(1, "get nodes -o 'jsonpath={.items[*].status.nodeInfo.containerRuntimeVersion}'");
        assert!(runtimes.split_whitespace().all(|runtime| runtime.starts_with("containerd://2.")), "{runtimes}");
        let server = rack.kubectl(1, "get --raw /version");
        assert!(server.contains(&format!("v{next}")), "{server}");
        let cordoned =
            |n: usize| rack.kubectl(1, &format!("get node {} -o jsonpath={{.spec.unschedulable}}", rack.node(n)));
        assert_eq!([cordoned(1), cordoned(4), cordoned(5)], ["", "", "true"]);
        rack.kubectl(1, &format!("uncordon {}", rack.node(5)));
        rack.assert_well();
        assert_code(&rack.run(&["down", "--yes"]), 0);
    });
}

fn a_budget_stops_an_upgrade(shelf: &Shelf) {
    on_three_planes(shelf, |Saved { rack, .. }| {
        let (_, _, upgraded) = next(rack);
        rack.apply(
            &WORK
                .replace("minAvailable: 3", "minAvailable: 4")
                .replace("name: work }\nspec: { min", "name: never }\nspec: { min"),
        );
        wait_for("the workload", || rack.ready_pods(1) == Some(4));
        let limited = upgraded.replace("distribution:\n", "update: { drain: 20 }\ndistribution:\n");
        fs::write(rack.file(), limited).unwrap();
        let output = rack.run(&["up", "--yes"]);
        assert_code(&output, 1);
        assert!(text(&output).contains("never"), "{}", text(&output));
        assert_eq!(rack.ready_pods(1), Some(4), "nothing was evicted");
    });
}
