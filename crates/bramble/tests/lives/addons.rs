//! Add-ons as their projects publish them, out of Go modules: each comes with its defaults, is used, and goes without a rest.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Command;

use crate::Row;
use crate::common::{Rack, assert_code, read, text, wait_for};
use crate::shelf::{Saved, Shelf};

pub(crate) const ROWS: &[Row] = &[
    Row { name: "lives::addons::an_address_of_metallb_moves_when_who_announces_it_is_cut", test: an_address_moves },
    Row { name: "lives::addons::traefik_serves_what_the_clusters_own_authority_signed", test: an_ingress_is_trusted },
    Row { name: "lives::addons::metrics_server_tells_what_nodes_use", test: nodes_are_measured },
    Row { name: "lives::addons::a_volume_of_local_path_keeps_its_data", test: a_volume_keeps_its_data },
    Row { name: "lives::addons::pods_talk_over_flannel", test: pods_talk_over_flannel },
];

/// The newest local-path-provisioner that is published as a module.
const LOCAL_PATH: &str =
    "https://raw.githubusercontent.com/rancher/local-path-provisioner/v0.0.30/deploy/local-path-storage.yaml";

/// A control plane and two workers with the bundle of add-ons, but none of them.
fn on_three_boards(shelf: &Shelf, test: impl FnOnce(&mut Saved)) {
    shelf.with("t-real", make, |saved| {
        saved.rack.bundle = Some(bundle(&saved.rack));
        test(saved);
    });
}

fn make(name: &'static str) -> (Rack, BTreeMap<String, String>) {
    let rack = Rack::up(name, &["--control-planes", "1", "--workers", "2", "--subnet", "10.78.30.0/24"]);
    let pool = "cni: routed, pool: 10.78.30.240-10.78.30.250 }";
    fs::write(rack.file(), read(&rack.file()).replace("cni: routed }", pool)).unwrap();
    rack.go_up();
    (rack, BTreeMap::new())
}

fn bundle(rack: &Rack) -> String {
    let output = rack.lab(&["addons"]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    said.trim().strip_prefix("Add-ons are in ").unwrap_or_else(|| panic!("{}", text(&output))).to_owned()
}

/// Brings the add-ons of these lines, beside nothing else.
fn bring(rack: &Rack, bare: &str, lines: &str) {
    fs::write(rack.file(), format!("{bare}addons:\n{lines}")).unwrap();
    let said = rack.go_up();
    assert!(said.contains("changes in"), "{said}");
    rack.assert_well();
}

/// All that the API has of kinds that add-ons bring, by name; what comes and goes by itself is left out.
fn objects(rack: &Rack) -> BTreeSet<String> {
    let kinds = "namespaces,customresourcedefinitions,clusterroles,clusterrolebindings,storageclasses,ingressclasses,apiservices,\
                 mutatingwebhookconfigurations,validatingwebhookconfigurations,deployments,daemonsets,services,configmaps,secrets,\
                 serviceaccounts,roles,rolebindings,persistentvolumes";
    let script = "-A -o 'jsonpath={range .items[*]}{.kind} {.metadata.namespace}/{.metadata.name}{\"\\n\"}{end}'";
    rack.kubectl(1, &format!("get {kinds} {script}")).lines().map(str::to_owned).collect()
}

/// Runs a test with these add-ons, and looks at what is left when they are gone.
fn come_and_go(saved: &mut Saved, lines: &str, names: &[&str], used: impl FnOnce(&mut Rack)) {
    let bare = read(&saved.rack.file());
    let before = objects(&saved.rack);
    bring(&saved.rack, &bare, lines);
    used(&mut saved.rack);
    fs::write(saved.rack.file(), &bare).unwrap();
    saved.rack.go_up_without(names);
    saved.rack.assert_well();
    let after = objects(&saved.rack);
    let left: Vec<_> = after.difference(&before).collect();
    assert!(left.is_empty(), "{left:#?}");
}

/// A pod on each worker that answers HTTP with its node's name.
const WEB: &str = r#"
apiVersion: apps/v1
kind: DaemonSet
metadata: { name: web }
spec:
  selector: { matchLabels: { app: web } }
  template:
    metadata: { labels: { app: web } }
    spec:
      terminationGracePeriodSeconds: 0
      containers:
        - name: web
          image: "bundle.bramble/busybox:1"
          env: [{ name: NODE, valueFrom: { fieldRef: { fieldPath: spec.nodeName } } }]
          command: [sh, -c, "mkdir -p /www && echo good $NODE >/www/index.html && exec httpd -f -p 8080 -h /www"]
          readinessProbe: { httpGet: { port: 8080 }, periodSeconds: 1 }
---
apiVersion: v1
kind: Service
metadata: { name: web }
spec: { type: TYPE, selector: { app: web }, ports: [{ port: 80, targetPort: 8080 }] }
"#;

/// What a web server says to this machine, which is outside of the cluster; empty if nobody answers.
fn get(arguments: &[&str]) -> String {
    let mut curl = Command::new("curl");
    let output = curl.args(["-s", "--max-time", "2", "--noproxy", "*"]).args(arguments).output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn an_address_moves(shelf: &Shelf) {
    on_three_boards(shelf, |saved| {
        come_and_go(saved, "  metallb: {}\n", &["metallb"], |rack| {
            rack.apply(&WEB.replace("TYPE", "LoadBalancer"));
            let address = || rack.kubectl(1, "get service web -o 'jsonpath={.status.loadBalancer.ingress[0].ip}'");
            wait_for("an address", || address().starts_with("10.78.30.24"));
            let address = address();
            let url = format!("http://{address}/");
            wait_for("an answer from outside", || get(&[&url]).starts_with("good"));
            let events = "get events --field-selector reason=nodeAssigned -o 'jsonpath={.items[*].message}'";
            wait_for("who announces it", || rack.kubectl(1, events).contains("announcing from node"));
            let said = rack.kubectl(1, events);
            let announcing = [2, 3].into_iter().find(|n| said.contains(&rack.node(*n)));
            // A control plane is not to announce where workers can.
            let announcing = announcing.unwrap_or_else(|| panic!("{said}"));
            rack.cut(announcing);
            // Its pod is a backend until it is missed: one answer is not enough.
            let mut good = 0;
            let took = wait_for("the address at another board", || {
                good = if get(&[&url]).starts_with("good") { good + 1 } else { 0 };
                good >= 10
            });
            println!("the address answers ten times in a row {:.1} s after the cut", took.as_secs_f64());
            rack.start(announcing);
            rack.kubectl(1, "delete daemonset,service web");
            rack.assert_well();
        });
    });
}

/// An Ingress that asks for a certificate, one of the class of ingress-nginx, and an object of Traefik's own.
const INGRESSES: &str = r#"
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: { name: web, annotations: { cert-manager.io/cluster-issuer: bramble-ca } }
spec:
  tls: [{ hosts: [web.test], secretName: web-tls }]
  rules: [{ host: web.test, http: { paths: [{ path: /, pathType: Prefix, backend: { service: { name: web, port: { number: 80 } } } }] } }]
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: { name: old }
spec:
  ingressClassName: nginx
  rules: [{ host: old.test, http: { paths: [{ path: /, pathType: Prefix, backend: { service: { name: web, port: { number: 80 } } } }] } }]
---
apiVersion: traefik.io/v1alpha1
kind: IngressRoute
metadata: { name: own }
spec:
  entryPoints: [web]
  routes: [{ kind: Rule, match: "Host(`own.test`)", services: [{ name: web, port: 80 }] }]
"#;

fn an_ingress_is_trusted(shelf: &Shelf) {
    on_three_boards(shelf, |saved| {
        let bare = read(&saved.rack.file());
        // Without an address of its own, Traefik is where the nodes are.
        fs::write(saved.rack.file(), bare.replace(", pool: 10.78.30.240-10.78.30.250", "")).unwrap();
        come_and_go(saved, "  traefik: {}\n  cert-manager: {}\n", &["traefik", "cert-manager"], |rack| {
            rack.apply(&format!("{}---{INGRESSES}", WEB.replace("TYPE", "ClusterIP")));
            let ca = rack.dir.path().join("ca.pem");
            wait_for("the authority's certificate", || {
                let output = rack.run(&["addons", "ca"]);
                fs::write(&ca, &output.stdout).unwrap();
                output.status.success()
            });
            let ca = ca.display().to_string();
            for n in 1..=3 {
                let node = format!("10.78.30.{}", 49 + n);
                let at = |host: &str| format!("{host}.test:80:{node}");
                let secure = format!("web.test:443:{node}");
                wait_for("the Ingress with TLS", || {
                    get(&["--cacert", &ca, "--resolve", &secure, "https://web.test/"]).starts_with("good")
                });
                for host in ["old", "own"] {
                    let url = format!("http://{host}.test/");
                    wait_for(host, || get(&["--resolve", &at(host), &url]).starts_with("good"));
                }
                assert_eq!(get(&["--resolve", &secure, "https://web.test/"]), "", "nobody else trusts it");
            }
            let told = "get ingress web old -o 'jsonpath={.items[*].status.loadBalancer.ingress[0].ip}'";
            wait_for("the addresses of the Ingress objects", || rack.kubectl(1, told) == "10.78.30.51 10.78.30.51");
            rack.kubectl(1, "delete ingressroute own; kubectl delete ingress web old; kubectl delete daemonset,service web; kubectl delete secret web-tls");
        });
    });
}

fn nodes_are_measured(shelf: &Shelf) {
    on_three_boards(shelf, |saved| {
        come_and_go(saved, "  metrics-server: {}\n", &["metrics-server"], |rack| {
            wait_for("what nodes use", || {
                let top = rack.kubectl(1, "top nodes --no-headers");
                top.lines().filter(|line| line.starts_with("t-real-") && line.contains("Mi")).count() == 3
            });
        });
    });
}

/// A claim that names no class, and a pod that uses it.
const CLAIM: &str = r#"
apiVersion: v1
kind: PersistentVolumeClaim
metadata: { name: data }
spec: { accessModes: [ReadWriteOnce], resources: { requests: { storage: 16Mi } } }
---
apiVersion: apps/v1
kind: Deployment
metadata: { name: keeper }
spec:
  strategy: { type: Recreate }
  selector: { matchLabels: { app: keeper } }
  template:
    metadata: { labels: { app: keeper } }
    spec:
      terminationGracePeriodSeconds: 0
      volumes: [{ name: data, persistentVolumeClaim: { claimName: data } }]
      containers:
        - { name: keeper, image: "bundle.bramble/busybox:1", command: [sleep, "100000"], volumeMounts: [{ name: data, mountPath: /data }] }
"#;

fn a_volume_keeps_its_data(shelf: &Shelf) {
    on_three_boards(shelf, |saved| {
        let lines = format!("  local-path: {{ manifest: \"{LOCAL_PATH}\" }}\n");
        let bare = read(&saved.rack.file());
        come_and_go(saved, &lines, &["local-path"], |rack| {
            rack.apply(CLAIM);
            let reads = |rack: &Rack| rack.kubectl(1, "exec deploy/keeper -- cat /data/text");
            wait_for("a pod with its volume", || {
                rack.kubectl(1, "exec deploy/keeper -- sh -c 'echo kept >/data/text' && echo written")
                    .contains("written")
            });
            rack.kubectl(1, "delete pod -l app=keeper");
            wait_for("the data in a new pod", || reads(rack) == "kept\n");
            let node = rack.kubectl(1, "get pod -l app=keeper -o 'jsonpath={.items[0].spec.nodeName}'");
            let n = [1, 2, 3].into_iter().find(|n| rack.node(*n) == node).unwrap();
            rack.cut(n);
            rack.start(n);
            wait_for("the data after a cut", || reads(rack) == "kept\n");

            // As long as somebody's data is in it, nobody takes it away.
            let with = read(&rack.file());
            fs::write(rack.file(), &bare).unwrap();
            let refused = rack.run(&["up", "--yes=local-path"]);
            assert_code(&refused, 1);
            assert!(text(&refused).contains("default/data (pvc-"), "{}", text(&refused));
            assert_eq!(reads(rack), "kept\n");
            fs::write(rack.file(), with).unwrap();
            rack.go_up();
            rack.kubectl(1, "delete deployment keeper; kubectl delete pvc data");
        });
    });
}

/// flannel's own plugin is the last one that the Kubernetes project published.
fn pods_talk_over_flannel(shelf: &Shelf) {
    shelf.clear();
    let mut rack = Rack::up("t-flan", &["--control-planes", "1", "--workers", "2", "--subnet", "10.78.31.0/24"]);
    fs::write(rack.file(), read(&rack.file()).replace("cni: routed", "cni: flannel")).unwrap();
    rack.bundle = Some(bundle(&rack));
    let said = rack.go_up();
    assert!(said.contains("Smoke test passed: 9 paths between pods"), "{said}");
    rack.assert_well();
    assert_code(&rack.run(&["down", "--yes"]), 0);
}
