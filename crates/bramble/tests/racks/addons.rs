//! Add-ons on a real Kubernetes, behind a gateway: applied, changed, removed; a real Prometheus (Debian's program, in an image that nodes pull
//! through a real registry) that watches a real node exporter on every node. What `vcgencmd` says is the test's.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::common::{Rack, assert_code, read, text, wait_for};
use crate::registry::Registry;
use serde_json::{Value, json};

/// A root with Debian's Prometheus, where the image of the project has it, as a tar archive.
fn prometheus() -> Vec<u8> {
    let place = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("prometheus");
    let tar = place.join("root.tar");
    if !tar.exists() {
        fs::create_dir_all(&place).unwrap();
        let script = "set -e; rm -rf deb root; apt-get -q download prometheus; dpkg -x prometheus_*.deb deb; mkdir -p root/bin root/etc root/tmp
            cp deb/usr/bin/prometheus root/bin; cp deb/usr/bin/promtool .
            for l in $(ldd deb/usr/bin/prometheus | grep -o '/[^ ]*'); do mkdir -p root$(dirname $l); cp -L $l root$l; done
            echo 'nobody:x:65534:65534::/:/bin/false' >root/etc/passwd; chmod 1777 root/tmp
            tar -C root --owner=0 --group=0 -cf root.tar .; rm -rf deb root prometheus_*.deb";
        let output = Command::new("sh").args(["-c", script]).current_dir(&place).output().unwrap();
        assert!(output.status.success(), "{}", text(&output));
    }
    fs::read(tar).unwrap()
}

/// What the firmware would say of the board; `throttled` in its own notation.
fn firmware(rack: &Rack, board: &str, throttled: &str) {
    let script = format!(
        "cat >/usr/bin/vcgencmd <<'E'\n#!/bin/sh\ncase $1 in measure_temp) echo \"temp=48.3'C\" ;; get_throttled) echo throttled={throttled} ;; esac\nE\nchmod 755 /usr/bin/vcgencmd"
    );
    rack.shell(board, &script);
}

/// What stands behind `key` on the line that has `mark`.
fn rest_of(file: &str, mark: &str, key: &str) -> String {
    let line = &file[file.find(mark).unwrap()..];
    let rest = &line[line.find(key).unwrap() + key.len()..];
    rest.split([',', ' ']).next().unwrap().to_owned()
}

fn ask(rack: &Rack, path: &str) -> Value {
    let address = rack.kubectl(1, "-n monitoring get service prometheus -o jsonpath={.spec.clusterIP}");
    let answer = rack.shell(&rack.node(1), &format!("curl -sg --max-time 5 'http://{address}:9090/api/v1/{path}'"));
    serde_json::from_str(&answer).unwrap_or(Value::Null)
}

/// The value of a figure for each node.
fn series(rack: &Rack, query: &str) -> Vec<(String, String)> {
    let answer = ask(rack, &format!("query?query={query}"));
    let mut found: Vec<(String, String)> = answer["data"]["result"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|one| (one["metric"]["node"].as_str().unwrap().to_owned(), one["value"][1].as_str().unwrap().to_owned()))
        .collect();
    found.sort();
    found
}

fn shop(dir: &Path, web: &str, second: bool) {
    fs::create_dir_all(dir).unwrap();
    let text = format!(
        "apiVersion: v1\nkind: Namespace\nmetadata: {{ name: shop }}\n---\n\
         apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {{ name: wares.shop.example }}\nspec:\n  group: shop.example\n  \
         scope: Cluster\n  names: {{ plural: wares, kind: Ware }}\n  versions: [{{ name: v1, served: true, storage: true, schema: {{ openAPIV3Schema: \
         {{ type: object, x-kubernetes-preserve-unknown-fields: true }} }} }}]\n---\n\
         {{ apiVersion: shop.example/v1, kind: Ware, metadata: {{ name: apple }} }}\n---\n\
         apiVersion: apps/v1\nkind: Deployment\nmetadata: {{ name: web, namespace: shop }}\nspec:\n  replicas: 1\n  \
         selector: {{ matchLabels: {{ app: web }} }}\n  template:\n    metadata: {{ labels: {{ app: web }} }}\n    spec:\n      terminationGracePeriodSeconds: 0\n      \
         containers: [{{ name: web, image: \"{web}\", command: [sleep, \"100000\"] }}]\n"
    );
    fs::write(dir.join("web.yaml"), text).unwrap();
    let map = dir.join("map.yaml");
    if second {
        fs::write(
            map,
            "apiVersion: v1\nkind: ConfigMap\nmetadata: { name: prices, namespace: shop }\ndata: { apple: '1' }\n",
        )
        .unwrap();
    } else {
        fs::remove_file(map).unwrap();
    }
}

#[test]
#[ignore = "needs root: `make test`"]
fn addons_come_change_and_go_and_a_real_prometheus_tells_of_every_board() {
    let mut rack = Rack::up("t-add", &["--gateway", "--workers", "1"]);
    rack.bundle = None;
    let file = read(&rack.file());
    let outside = rest_of(&file, "role: gateway", "reach: ");
    let host = format!("{}.1", outside.strip_suffix(".2").unwrap());
    let registry = Registry::start(&host);
    let amd64 = json!({ "os": "linux", "architecture": std::env::consts::ARCH.replace("x86_64", "amd64").replace("aarch64", "arm64") });
    let root = prometheus();
    let config = json!({ "Entrypoint": ["/bin/prometheus"], "User": "65534" });
    registry.image("prometheus/prometheus", "v3.5.0", &amd64, Some((&root, config)));
    registry.image("acme/mainframe", "1", &json!({ "os": "linux", "architecture": "s390x" }), None);
    let bundled = "bundle.bramble/busybox:1";
    let dir = rack.dir.path().join("shop");
    shop(&dir, "quay.io/acme/mainframe:1", true);
    // The first control plane's API is published by the gateway.
    let first = rest_of(&file, "name: t-add-1,", "address: ");
    let file =
        file.replace(&format!("reach: {outside}"), &format!("reach: {outside}, publish: {{ 7443: \"{first}:6443\" }}"));
    let mirror = registry.address.clone();
    let with = |addons: &str| {
        let text = file.replace(
            "distribution:",
            &format!("registries: {{ quay.io: \"http://{mirror}\" }}\naddons:\n{addons}distribution:"),
        );
        fs::write(rack.file(), text).unwrap();
    };
    let all = "  limits: {}\n  monitoring: { grafana: none }\n  own: { shop: { from: shop } }\n";
    with(all);
    let boards = ["t-add-1".to_owned(), "t-add-2".to_owned(), "t-add-gate".to_owned()];
    for board in &boards {
        firmware(&rack, board, "0x0");
    }

    // An image that no node can run is found before anything is done.
    let refused = rack.run(&["up", "--yes"]);
    assert_code(&refused, 1);
    assert!(
        text(&refused).contains("nothing was changed") && text(&refused).contains("nothing for"),
        "{}",
        text(&refused)
    );
    assert!(!rack.shell(&rack.node(1), "ls /var/lib/bramble/ledger 2>&1").contains("0000"), "something was changed");
    shop(&dir, bundled, true);
    rack.go_up();
    rack.assert_well();
    assert_eq!(rack.kubectl(1, "-n shop get configmap prices -o jsonpath={.data.apple}"), "1");
    assert_eq!(rack.kubectl(1, "get ware apple -o name"), "ware.shop.example/apple\n");
    assert!(
        rack.kubectl(1, "get limitrange bramble -o jsonpath={.spec.limits[0].defaultRequest.memory}").contains("64Mi")
    );
    let manager = rack.kubectl(1, "-n shop get deployment web -o jsonpath={.metadata.managedFields[*].manager}");
    assert!(manager.contains("bramble"), "{manager}");

    // kubectl is told where the API is from here, and whose certificate it shows.
    let config = rack.run(&["kubeconfig", "--print"]);
    assert_code(&config, 0);
    let config = text(&config);
    assert!(config.contains(&format!("server: https://{outside}:7443")), "{config}");
    assert!(config.replace('"', "").contains(&format!("tls-server-name: {first}")), "{config}");
    let authority = rack.dir.path().join("ca.crt");
    std::fs::write(&authority, rack.shell(&rack.node(1), "cat /etc/kubernetes/pki/ca.crt")).unwrap();
    let mut curl = Command::new("curl");
    curl.args(["-sS", "--cacert"]).arg(&authority);
    curl.args(["--connect-to", &format!("{first}:7443:{outside}:7443"), &format!("https://{first}:7443/version")]);
    assert!(text(&curl.output().unwrap()).contains("gitVersion"));
    // Temperature and throttling of every board, from its own exporter, and nothing is wrong.
    let nodes = |value: &str| boards.iter().map(|board| (board.clone(), value.to_owned())).collect::<Vec<_>>();
    wait_for("the temperature of all boards", || series(&rack, "bramble_temperature_celsius") == nodes("48.3"));
    assert_eq!(series(&rack, "bramble_throttled{what=\"throttled\",when=\"now\"}"), nodes("0"));
    assert_eq!(series(&rack, "up{job=\"node\"}"), nodes("1"));
    assert!(!series(&rack, "node_memory_MemAvailable_bytes").is_empty());
    let rules = ask(&rack, "rules");
    assert_eq!(rules["data"]["groups"][0]["rules"].as_array().unwrap().len(), 14, "{rules}");
    let certificates = ask(&rack, "query?query=count(bramble_certificate_end_seconds>time())");
    assert_ne!(certificates["data"]["result"], json!([]), "{certificates}");
    let well = rack.well();
    let conditions = well["conditions"].as_array().unwrap().iter();
    let told: Vec<&str> =
        conditions.filter(|c| c["name"] == "AddonReady").map(|c| c["reason"].as_str().unwrap()).collect();
    assert_eq!(told, ["monitoring: 1 of 1 workloads ready", "shop: 1 of 1 workloads ready"]);
    let firing = || {
        let answer = ask(&rack, "alerts");
        let list = answer["data"]["alerts"].as_array().cloned().unwrap_or_default();
        let firing =
            list.iter().filter(|alert| alert["state"] == "firing" && alert["labels"]["severity"] == "critical");
        firing
            .map(|alert| {
                format!(
                    "{} {}",
                    alert["labels"]["alertname"].as_str().unwrap(),
                    alert["labels"]["node"].as_str().unwrap()
                )
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(firing(), Vec::<String>::new());
    // A supply that is too weak: bits 0 and 16.
    firmware(&rack, &boards[1], "0x10001");
    wait_for("the alert", || firing() == [format!("UnderVoltage {}", rack.node(2))]);

    // What goes out of a manifest goes out of the cluster, and an add-on with all that it had.
    shop(&dir, bundled, false);
    let planned = rack.run(&["plan"]);
    assert_code(&planned, 3);
    assert!(text(&planned).contains("change the add-on shop (4 objects)"), "{}", text(&planned));
    rack.go_up();
    assert!(rack.kubectl(1, "-n shop get configmap prices").contains("NotFound"));
    with("  limits: {}\n");
    let refused = rack.run(&["up", "--yes"]);
    assert_code(&refused, 1);
    assert!(text(&refused).contains("pass --yes=shop,monitoring"), "{}", text(&refused));
    rack.go_up_without(&["shop", "monitoring"]);
    for gone in [
        "get namespace shop",
        "get namespace monitoring",
        "get crd wares.shop.example",
        "get configmap -n kube-system bramble-addon-shop",
    ] {
        assert!(rack.kubectl(1, gone).contains("NotFound"), "{gone}: {}", rack.kubectl(1, gone));
    }
    assert!(rack.kubectl(1, "get limitrange bramble -o name").contains("limitrange/bramble"));
    for board in &boards {
        let left = "ls -d /etc/bramble/metrics /etc/systemd/system/bramble-metrics* /etc/default/prometheus-node-exporter \
                    /etc/systemd/system/*.wants/bramble-metrics* /var/lib/prometheus /usr/sbin/smartctl 2>/dev/null; \
                    systemctl -q is-active prometheus-node-exporter bramble-metrics.timer && echo runs";
        assert_eq!(rack.shell(board, left), "", "{board}");
    }
    assert_eq!(rack.plan().0, 0, "{:?}", rack.titles());

    // The API server takes every object of ours, and its schema knows every field.
    // The definitions of Traefik's own objects are its project's: one of them stands for all.
    let routes = "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: { name: middlewares.traefik.io }\nspec:\n  group: traefik.io\n  \
         scope: Namespaced\n  names: { plural: middlewares, kind: Middleware }\n  versions: [{ name: v1alpha1, served: true, storage: true, schema: { openAPIV3Schema: \
         { type: object, x-kubernetes-preserve-unknown-fields: true } } }]\n";
    fs::write(rack.dir.path().join("routes.yaml"), routes).unwrap();
    with(
        "  dns: {}\n  traefik: { manifest: routes.yaml }\n  monitoring: { class: local-path, alertmanagers: [\"10.0.0.9:9093\"] }\n  \
         limits: { namespaces: [default, kube-public], requests: { cpu: 10m }, limits: { cpu: \"1\", memory: 1Gi } }\nstorage: { nfs: { server: t-add-1 } }\n",
    );
    for name in ["storage-nfs", "dns", "traefik", "monitoring", "limits"] {
        let shown = rack.run(&["addons", "show", name]);
        assert_code(&shown, 0);
        let list: Value = serde_json::from_slice(&shown.stdout).unwrap();
        let spaces = list["items"].as_array().unwrap().iter().filter(|object| object["kind"] == "Namespace");
        for space in spaces {
            rack.kubectl(1, &format!("create namespace {}", space["metadata"]["name"].as_str().unwrap()));
        }
        fs::write(rack.disk(&rack.node(1)).join("root/objects.json"), &shown.stdout).unwrap();
        let said = rack.kubectl(1, "apply --dry-run=server --validate=true -f /root/objects.json");
        let count = list["items"].as_array().unwrap().len();
        assert_eq!(said.lines().filter(|line| line.ends_with("(server dry run)")).count(), count, "{name}: {said}");
    }
    let rules = rack.run(&["addons", "show", "monitoring"]);
    let list: Value = serde_json::from_slice(&rules.stdout).unwrap();
    let map = list["items"].as_array().unwrap().iter().find(|object| object["data"]["rules.yml"].is_string()).unwrap();
    let rules = rack.dir.path().join("rules.yml");
    fs::write(&rules, map["data"]["rules.yml"].as_str().unwrap()).unwrap();
    let promtool = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("prometheus/promtool");
    let output = Command::new(promtool).args(["check", "rules"]).arg(&rules).output().unwrap();
    assert!(output.status.success() && text(&output).contains("14 rules found"), "{}", text(&output));

    // A bundle brings the image of an add-on, for the processors of the nodes, where no registry is.
    let other = json!({ "os": "linux", "architecture": "s390x" });
    registry.list("acme/air", true, &[(other, None), (amd64, Some((root.as_slice(), json!({}))))]);
    let air = rack.dir.path().join("air");
    shop(&air, "quay.io/acme/air:1", true);
    let own = read(&air.join("web.yaml")).replace("command: [sleep, \"100000\"]", "command: [/bin/prometheus, --web.listen-address=127.0.0.1:9099, --config.file=/dev/null, --storage.tsdb.path=/tmp/data]");
    fs::write(air.join("web.yaml"), own).unwrap();
    with("  own: { air: { from: air } }\n");
    let folder = rack.dir.path().join("supplies").display().to_string();
    let made = rack.run(&["bundle", "create", "--to", &folder]);
    assert_code(&made, 0);
    assert!(text(&made).contains("add-ons: 0 manifests from elsewhere, 1 images"), "{}", text(&made));
    drop(registry);
    rack.bundle = Some(folder);
    rack.go_up_without(&["limits"]);
    let held = rack.shell(&rack.node(2), "ctr -n k8s.io images ls -q name==quay.io/acme/air:1");
    assert_eq!(held, "quay.io/acme/air:1\n");
    assert_eq!(rack.plan().0, 0, "{:?}", rack.titles());
}
