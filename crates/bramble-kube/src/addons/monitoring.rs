//! Monitoring: node exporter on the boards, and in the cluster a Prometheus that is small enough for one of them.

use bramble_spec::{AddonKind, Cluster, Monitoring, Node, hex};
use bramble_state::{Cleanup, File, Resource, Unit};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::lifecycle::Lifecycle;

const SPACE: &str = "monitoring";
const DEFAULTS: &str = "/etc/default/prometheus-node-exporter";
const PATIENCE: &str = "/etc/systemd/system/prometheus-node-exporter.service.d/bramble.conf";
const SCRIPT: &str = "/etc/bramble/metrics";
const SERVICE: &str = "/etc/systemd/system/bramble-metrics.service";
const TIMER: &str = "/etc/systemd/system/bramble-metrics.timer";
/// Where node exporter answers.
const PORT: u16 = 9100;
/// What is asked of a board every half minute costs its card nothing.
const INTERVAL: &str = "30s";

/// What every node has when the cluster is monitored, the gateway too.
pub(crate) fn node_resources(cluster: &Cluster, node: &Node, life: Option<&dyn Lifecycle>) -> Vec<Resource> {
    if !cluster.addons.iter().any(|addon| matches!(addon.kind, AddonKind::Monitoring(_))) {
        return Vec::new();
    }
    let certificates = life.map(|life| life.certificates(node).files.join(" ")).unwrap_or_default();
    let script = include_str!("metrics.sh").replacen(
        "export LC_ALL",
        &format!("certificates='{certificates}'\nexport LC_ALL"),
        1,
    );
    // Only within the rack: what it tells is nobody else's business.
    let defaults = format!("# Written by bramble.\nARGS=\"--web.listen-address={}:{PORT}\"\n", node.address);
    let service = format!(
        "[Unit]\nDescription=What node exporter does not know of a board\n\n[Service]\nType=oneshot\nNice=10\nExecStart=/bin/sh {SCRIPT}\n"
    );
    let timer = "[Unit]\nDescription=What node exporter does not know of a board\n\n[Timer]\nOnActiveSec=1\n\
                 OnUnitActiveSec=30\nAccuracySec=1\n\n[Install]\nWantedBy=timers.target\n";
    // An address that DHCP gives is there late.
    let patient = "# Written by bramble.\n[Unit]\nStartLimitIntervalSec=0\n\n[Service]\nRestart=always\nRestartSec=3\n";
    vec![
        Resource::File(File::new(DEFAULTS, defaults)),
        Resource::File(File::new(PATIENCE, patient)),
        Resource::Unit(Unit::new("prometheus-node-exporter", vec![DEFAULTS.into(), PATIENCE.into()])),
        Resource::File(File::new(SCRIPT, script)),
        Resource::File(File::new(SERVICE, service)),
        Resource::File(File::new(TIMER, timer)),
        Resource::Unit(Unit::new("bramble-metrics.timer", vec![TIMER.into()])),
    ]
}

/// All that nodes have of it.
pub(crate) fn everything() -> Cleanup {
    Cleanup {
        what: "node exporter".to_owned(),
        units: vec!["bramble-metrics.timer".to_owned(), "prometheus-node-exporter.service".to_owned()],
        files: [DEFAULTS, PATIENCE, SCRIPT, SERVICE, TIMER].map(str::to_owned).to_vec(),
        ..Cleanup::default()
    }
}

pub(super) fn objects(cluster: &Cluster, config: &Monitoring) -> Vec<Value> {
    let mut all = vec![
        json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": SPACE } }),
        map(
            "prometheus",
            json!({
                "prometheus.yml": format!("{:#}\n", prometheus(cluster, config)), "rules.yml": format!("{:#}\n", rules()),
            }),
        ),
    ];
    let labels = json!({ "app": "prometheus" });
    let storage = json!({ "requests": { "storage": format!("{}Gi", config.size + 1) } });
    let data = match &config.class {
        Some(class) => {
            // What a claim asks for cannot be changed: another class or size is another claim.
            let claim = format!("prometheus-{class}-{}", config.size);
            all.push(json!({
                "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": { "name": claim, "namespace": SPACE },
                "spec": { "accessModes": ["ReadWriteOnce"], "storageClassName": class, "resources": storage },
            }));
            json!({ "name": "data", "persistentVolumeClaim": { "claimName": claim } })
        }
        None => json!({ "name": "data", "emptyDir": { "sizeLimit": format!("{}Gi", config.size + 1) } }),
    };
    all.push(service("prometheus", 9090));
    all.push(json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "prometheus", "namespace": SPACE },
        "spec": {
            "replicas": 1, "strategy": { "type": "Recreate" }, "selector": { "matchLabels": labels },
            "template": {
                // A changed configuration is another pod.
                "metadata": { "labels": labels, "annotations": { "bramble/config": digest(&all) } },
                "spec": {
                    "automountServiceAccountToken": false,
                    "securityContext": { "runAsUser": 65534, "runAsGroup": 65534, "runAsNonRoot": true, "fsGroup": 65534 },
                    "containers": [{
                        "name": "prometheus", "image": config.prometheus,
                        "args": [
                            "--config.file=/etc/prometheus/prometheus.yml", "--storage.tsdb.path=/prometheus",
                            format!("--storage.tsdb.retention.time={}", config.retention),
                            format!("--storage.tsdb.retention.size={}GB", config.size),
                        ],
                        "ports": [{ "name": "http", "containerPort": 9090 }],
                        "readinessProbe": { "httpGet": { "path": "/-/ready", "port": "http" }, "periodSeconds": 5 },
                        "resources": { "requests": { "cpu": "100m", "memory": "192Mi" }, "limits": { "memory": "512Mi" } },
                        "securityContext": { "allowPrivilegeEscalation": false, "capabilities": { "drop": ["ALL"] } },
                        "volumeMounts": [
                            { "name": "config", "mountPath": "/etc/prometheus" }, { "name": "data", "mountPath": "/prometheus" },
                        ],
                    }],
                    "volumes": [{ "name": "config", "configMap": { "name": "prometheus" } }, data],
                },
            },
        },
    }));
    if let Some(image) = &config.grafana {
        all.extend(grafana(image));
    }
    all
}

fn digest(objects: &[Value]) -> String {
    let text: String = objects.iter().map(Value::to_string).collect();
    hex(&Sha256::digest(text.as_bytes())[..8])
}

fn map(name: &str, data: Value) -> Value {
    json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": name, "namespace": SPACE }, "data": data })
}

fn service(name: &str, port: u16) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": { "name": name, "namespace": SPACE },
        "spec": { "selector": { "app": name }, "ports": [{ "name": "http", "port": port, "targetPort": "http" }] },
    })
}

/// prometheus.io/docs, "Configuration". JSON is YAML.
fn prometheus(cluster: &Cluster, config: &Monitoring) -> Value {
    let targets: Vec<Value> = cluster
        .nodes
        .iter()
        .map(|node| {
            json!({
                "targets": [format!("{}:{PORT}", node.address)],
                "labels": { "node": node.name, "role": node.role.to_string(), "board": node.board.id },
            })
        })
        .collect();
    let mut whole = json!({
        "global": { "scrape_interval": INTERVAL, "evaluation_interval": INTERVAL, "external_labels": { "cluster": cluster.name } },
        "rule_files": ["/etc/prometheus/rules.yml"],
        "scrape_configs": [{ "job_name": "node", "static_configs": targets }],
    });
    if !config.alertmanagers.is_empty() {
        whole["alerting"] = json!({ "alertmanagers": [{ "static_configs": [{ "targets": config.alertmanagers }] }] });
    }
    whole
}

/// File systems of a disk of the node's own: what all nodes mount would be told of by each.
macro_rules! local {
    () => {
        "fstype!~\"tmpfs|overlay|ramfs|nfs.*|fuse.*\""
    };
}

/// The alerts: name, what is asked, for how long, how bad, and what it means with the next step.
const ALERTS: &[(&str, &str, &str, &str, &str)] = &[
    (
        "NodeDown",
        "up{job=\"node\"} == 0",
        "2m",
        "critical",
        "{{ $labels.node }} does not answer: look at its power and its cable, then `bramble status`",
    ),
    (
        "UnderVoltage",
        "bramble_throttled{what=\"under-voltage\",when=\"now\"} == 1",
        "0s",
        "critical",
        "{{ $labels.node }} gets less than 4.63 V: its supply or cable is too weak, and its disk is at risk",
    ),
    (
        "UnderVoltageBefore",
        "bramble_throttled{what=\"under-voltage\",when=\"since-boot\"} == 1",
        "0s",
        "warning",
        "{{ $labels.node }} got less than 4.63 V since it was turned on: `bramble design` tells what it may draw",
    ),
    (
        "BoardHot",
        "bramble_temperature_celsius > 80",
        "2m",
        "critical",
        "{{ $labels.node }} has {{ $value }} °C and slows down: give it air or a heat sink",
    ),
    (
        "BoardThrottled",
        "bramble_throttled{what=~\"throttled|frequency-capped\",when=\"now\"} == 1",
        "1m",
        "warning",
        "{{ $labels.node }} runs slower than it could: heat or power",
    ),
    (
        "PoeOverload",
        "bramble_poe_overcurrent == 1 or bramble_poe_current_amperes / bramble_poe_current_limit_amperes > 0.95",
        "2m",
        "warning",
        "{{ $labels.node }} draws all that its PoE HAT may give: take a device off it, or give it a port of a higher class",
    ),
    (
        "DiskFull",
        concat!("node_filesystem_avail_bytes{", local!(), "} / node_filesystem_size_bytes < 0.1"),
        "5m",
        "warning",
        "{{ $labels.mountpoint }} of {{ $labels.node }} has less than a tenth left: at 15 % the kubelet removes images, at 10 % pods",
    ),
    (
        "DiskReadOnly",
        "node_filesystem_readonly{mountpoint=\"/\"} == 1",
        "1m",
        "critical",
        "{{ $labels.node }} cannot write any more: its card or disk is at its end, or lost power",
    ),
    (
        "DiskWorn",
        "bramble_disk_life_used_ratio > 0.8",
        "10m",
        "warning",
        "{{ $labels.device }} of {{ $labels.node }} has used up most of its life: `bramble move-root` takes the system elsewhere",
    ),
    (
        "MemoryLow",
        "node_memory_MemAvailable_bytes / node_memory_MemTotal_bytes < 0.05",
        "5m",
        "warning",
        "{{ $labels.node }} has almost no memory left",
    ),
    (
        "CertificateEnds",
        "bramble_certificate_end_seconds - time() < 14 * 24 * 3600",
        "10m",
        "warning",
        "{{ $labels.file }} of {{ $labels.node }} ends soon: `bramble up` renews it",
    ),
    (
        "ClockUnsynced",
        "node_timex_sync_status == 0",
        "15m",
        "warning",
        "the clock of {{ $labels.node }} follows nobody: certificates depend on it (timedatectl)",
    ),
];

fn rules() -> Value {
    let rule = |(name, expr, long, severity, text): &(&str, &str, &str, &str, &str)| {
        json!({
            "alert": name, "expr": expr, "for": long, "labels": { "severity": severity }, "annotations": { "summary": text },
        })
    };
    json!({ "groups": [{ "name": "boards", "rules": ALERTS.iter().map(rule).collect::<Vec<_>>() }] })
}

/// grafana.com/docs, "Provision Grafana". Anybody in the cluster may look, nobody may change.
fn grafana(image: &str) -> Vec<Value> {
    let source = json!({
        "apiVersion": 1,
        "datasources": [{
            "name": "Prometheus", "uid": "prometheus", "type": "prometheus", "access": "proxy", "isDefault": true,
            // By the variables that Kubernetes gives to pods: a cluster may have no DNS.
            "url": "http://$PROMETHEUS_SERVICE_HOST:$PROMETHEUS_SERVICE_PORT",
        }],
    });
    let provider = json!({
        "apiVersion": 1,
        "providers": [{ "name": "bramble", "type": "file", "options": { "path": "/etc/grafana/dashboards" } }],
    });
    let labels = json!({ "app": "grafana" });
    let data = [
        map("grafana", json!({ "datasource.yml": source.to_string(), "provider.yml": provider.to_string() })),
        map("grafana-dashboards", json!({ "boards.json": format!("{:#}\n", dashboard()) })),
    ];
    let setting = |name: &str, value: &str| json!({ "name": name, "value": value });
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "grafana", "namespace": SPACE },
        "spec": {
            "replicas": 1, "selector": { "matchLabels": labels },
            "template": {
                "metadata": { "labels": labels, "annotations": { "bramble/config": digest(&data) } },
                "spec": {
                    "automountServiceAccountToken": false,
                    "securityContext": { "runAsUser": 472, "runAsGroup": 472, "runAsNonRoot": true, "fsGroup": 472 },
                    "containers": [{
                        "name": "grafana", "image": image,
                        "env": [
                            setting("GF_AUTH_ANONYMOUS_ENABLED", "true"), setting("GF_AUTH_ANONYMOUS_ORG_ROLE", "Viewer"),
                            setting("GF_AUTH_DISABLE_LOGIN_FORM", "true"), setting("GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION", "true"),
                            setting("GF_ANALYTICS_REPORTING_ENABLED", "false"), setting("GF_ANALYTICS_CHECK_FOR_UPDATES", "false"),
                            setting("GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH", "/etc/grafana/dashboards/boards.json"),
                        ],
                        "ports": [{ "name": "http", "containerPort": 3000 }],
                        "readinessProbe": { "httpGet": { "path": "/api/health", "port": "http" }, "periodSeconds": 10 },
                        "resources": { "requests": { "cpu": "50m", "memory": "128Mi" }, "limits": { "memory": "256Mi" } },
                        "securityContext": { "allowPrivilegeEscalation": false, "capabilities": { "drop": ["ALL"] } },
                        "volumeMounts": [
                            { "name": "config", "mountPath": "/etc/grafana/provisioning/datasources/bramble.yml", "subPath": "datasource.yml" },
                            { "name": "config", "mountPath": "/etc/grafana/provisioning/dashboards/bramble.yml", "subPath": "provider.yml" },
                            { "name": "dashboards", "mountPath": "/etc/grafana/dashboards" },
                            { "name": "data", "mountPath": "/var/lib/grafana" },
                        ],
                    }],
                    "volumes": [
                        { "name": "config", "configMap": { "name": "grafana" } },
                        { "name": "dashboards", "configMap": { "name": "grafana-dashboards" } },
                        { "name": "data", "emptyDir": {} },
                    ],
                },
            },
        },
    });
    data.into_iter().chain([service("grafana", 3000), deployment]).collect()
}

/// The dashboard: title, what is asked, its unit, and from which value on it is yellow and red.
const PANELS: &[(&str, &str, &str, f64, f64)] = &[
    ("Temperature", "bramble_temperature_celsius", "celsius", 70.0, 80.0),
    ("Held back now", "sum by (node, what) (bramble_throttled{when=\"now\"})", "none", 0.5, 1.0),
    ("Drawn by PoE", "bramble_poe_current_amperes", "amp", 3.5, 4.0),
    ("Processor", "1 - avg by (node) (rate(node_cpu_seconds_total{mode=\"idle\"}[2m]))", "percentunit", 0.8, 0.95),
    ("Memory in use", "1 - node_memory_MemAvailable_bytes / node_memory_MemTotal_bytes", "percentunit", 0.8, 0.95),
    (
        "Disks in use",
        concat!("1 - node_filesystem_avail_bytes{", local!(), "} / node_filesystem_size_bytes"),
        "percentunit",
        0.8,
        0.9,
    ),
    ("Written to disks", "sum by (node) (rate(node_disk_written_bytes_total[5m]))", "Bps", 1e6, 1e7),
    ("Life of disks used up", "bramble_disk_life_used_ratio", "percentunit", 0.6, 0.8),
    (
        "Network",
        "sum by (node) (rate(node_network_receive_bytes_total{device!~\"lo|veth.*|cni.*|flannel.*\"}[2m]))",
        "Bps",
        5e7,
        1e8,
    ),
];

fn dashboard() -> Value {
    let source = json!({ "type": "prometheus", "uid": "prometheus" });
    let mut panels = vec![json!({
        "id": 1, "type": "stat", "title": "Nodes that answer", "datasource": source,
        "gridPos": { "x": 0, "y": 0, "w": 12, "h": 4 },
        "targets": [{ "refId": "A", "expr": "up{job=\"node\"}", "legendFormat": "{{node}}" }],
        "fieldConfig": { "defaults": {
            "mappings": [{ "type": "value", "options": { "0": { "text": "down", "color": "red" }, "1": { "text": "up", "color": "green" } } }],
        }, "overrides": [] },
        "options": { "colorMode": "background", "reduceOptions": { "calcs": ["lastNotNull"] } },
    })];
    panels.push(json!({
        "id": 2, "type": "table", "title": "Alerts", "datasource": source, "gridPos": { "x": 12, "y": 0, "w": 12, "h": 4 },
        "targets": [{ "refId": "A", "expr": "ALERTS{alertstate=\"firing\"}", "format": "table", "instant": true }],
    }));
    for (number, (title, expr, unit, yellow, red)) in (0u32..).zip(PANELS) {
        panels.push(json!({
            "id": 3 + number, "type": "timeseries", "title": title, "datasource": source,
            "gridPos": { "x": number % 2 * 12, "y": 4 + number / 2 * 8, "w": 12, "h": 8 },
            "targets": [{ "refId": "A", "expr": expr, "legendFormat": "{{node}} {{what}}{{mountpoint}}{{device}}" }],
            "fieldConfig": { "defaults": {
                "unit": unit,
                "custom": { "thresholdsStyle": { "mode": "dashed" } },
                "thresholds": { "mode": "absolute", "steps": [
                    { "color": "green", "value": null }, { "color": "yellow", "value": yellow }, { "color": "red", "value": red },
                ] },
            }, "overrides": [] },
        }));
    }
    json!({
        "uid": "bramble-boards", "title": "Boards", "tags": ["bramble"], "timezone": "browser", "schemaVersion": 39,
        "refresh": "30s", "time": { "from": "now-6h", "to": "now" }, "panels": panels,
    })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::process::Command;

    /// What a board's kernel shows is laid out in a folder, in the place of /sys.
    #[test]
    fn a_board_tells_of_its_heat_its_power_and_its_disks() {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in [
            ("sys/class/thermal/thermal_zone0/temp", "54321\n"),
            ("sys/devices/platform/soc/soc:firmware/get_throttled", "50005\n"),
            ("sys/class/power_supply/rpi-poe/current_now", "1250000\n"),
            ("sys/class/power_supply/rpi-poe/current_max", "5000000\n"),
            ("sys/class/power_supply/rpi-poe/health", "Over current\n"),
            ("sys/block/mmcblk0/device/life_time", "0x02 0x03\n"),
            ("sys/fs/ext4/mmcblk0p2/lifetime_write_kbytes", "42\n"),
        ] {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let here = root.path().display().to_string();
        let script = include_str!("metrics.sh")
            .replace("/sys/", &format!("{here}/sys/"))
            .replace("d=/var/", &format!("d={here}/var/"));
        let done = Command::new("sh").args(["-c", &format!("certificates=''\n{script}")]).output().unwrap();
        assert!(done.status.success() && done.stderr.is_empty(), "{}", String::from_utf8_lossy(&done.stderr));
        let told = fs::read_to_string(root.path().join("var/lib/prometheus/node-exporter/bramble.prom")).unwrap();
        let told: Vec<&str> = told.lines().filter(|line| !line.starts_with('#')).collect();
        for line in [
            "bramble_temperature_celsius 54.3",
            "bramble_throttled{what=\"under-voltage\",when=\"now\"} 1",
            "bramble_throttled{what=\"frequency-capped\",when=\"now\"} 0",
            "bramble_throttled{what=\"throttled\",when=\"since-boot\"} 1",
            "bramble_poe_current_amperes 1.250",
            "bramble_poe_current_limit_amperes 5.000",
            "bramble_poe_overcurrent 1",
            "bramble_disk_life_used_ratio{device=\"mmcblk0\"} 0.3",
            "bramble_filesystem_written_bytes{device=\"mmcblk0p2\"} 42000",
        ] {
            assert!(told.contains(&line), "{line}\nis not in\n{}", told.join("\n"));
        }
    }
}
