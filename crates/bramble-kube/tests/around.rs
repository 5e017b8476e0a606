//! What stands around a cluster: the gateway's and the shared folders' files, word for word.

#![allow(clippy::unwrap_used)]

use std::path::Path;

use bramble_kube::{Archive, Images, Inputs, Rendered, prepare, render};
use bramble_spec::Cluster;
use bramble_state::{Observation, Resource};

const FILE: &str = r#"
cluster: shelf
network: { subnet: 10.0.0.0/24, dns: [9.9.9.9], dhcp: 10.0.0.200-10.0.0.220, pool: 10.0.0.240-10.0.0.250 }
distribution: none
storage:
  nfs: { server: gate, disk: /dev/sda }
  glusterfs: { nodes: [kube1, kube2], disk: /dev/sdb, volume: own }
nodes:
  - { name: gate, role: gateway, board: rpi-4b-2gb, address: 10.0.0.1, mac: "dc:a6:32:00:00:00", uplink: { interface: wlan0, reach: gate.local, open: [9100], publish: { 443: "10.0.0.240:443" } } }
  - { name: kube1, role: worker, board: rpi-4b-4gb, address: 10.0.0.50, mac: "dc:a6:32:00:00:01" }
  - { name: kube2, role: worker, board: rpi-4b-4gb, address: 10.0.0.51, mac: "dc:a6:32:00:00:02" }
"#;

fn cluster(text: &str) -> Cluster {
    let loaded = bramble_spec::load(Path::new("bramble.yaml"), text);
    assert!(!loaded.report.has_errors(), "{}", loaded.report.render(false));
    loaded.clusters.into_iter().next().unwrap()
}

/// The files and units of a node, without what every board has.
fn given(node: usize, facts: &str) -> String {
    let (cluster, inputs) = (cluster(FILE), Inputs::default());
    let seen = Observation::parse(&format!("bramble 1\n{facts}end\n"), &[]).unwrap();
    let mut text = String::new();
    for resource in prepare(&cluster, &cluster.nodes[node], &seen, &inputs) {
        match resource {
            Resource::File(file) => text.push_str(&format!("--- {} {}\n{}", file.path, file.mode, file.content)),
            Resource::Unit(unit) => {
                text.push_str(&format!("--- {} runs: {}, reads {:?}\n", unit.name, unit.running, unit.reads))
            }
            Resource::Disk(disk) => text.push_str(&format!("--- {disk:?}\n")),
            Resource::Packages(names) => text.push_str(&format!("--- packages {}\n", names.join(" "))),
            Resource::OwnedFolder(path) => text.push_str(&format!("--- {path} goes with bramble\n")),
            Resource::Sysctls(values) => text.push_str(&format!("--- {values:?}\n")),
            _ => {}
        }
    }
    text
}

#[test]
fn a_gateway_is_given_its_files() {
    insta::assert_snapshot!(given(0, "fact network NetworkManager\ndone storage x\n"));
}

/// The files of a node of a cluster with this `nfs`.
fn with_nfs(nfs: &str, node: usize) -> String {
    let file = FILE.replace("nfs: { server: gate, disk: /dev/sda }", nfs);
    let (cluster, inputs) = (cluster(&file), Inputs::default());
    let resources = prepare(&cluster, &cluster.nodes[node], &Observation::default(), &inputs);
    let files = resources.into_iter().filter_map(|resource| match resource {
        Resource::File(file) => Some(format!("--- {}\n{}", file.path, file.content)),
        _ => None,
    });
    files.collect()
}

#[test]
fn an_nfs_folder_is_exported_to_the_other_nodes_alone() {
    let given = with_nfs("nfs: { server: kube1 }", 1);
    let lines: Vec<&str> = given.lines().filter(|line| line.starts_with("/srv/nfs ")).collect();
    let expected = ["10.0.0.1", "10.0.0.51"].map(|a| format!("/srv/nfs {a}(rw,sync,no_subtree_check,root_squash)"));
    assert_eq!(lines, expected);
}

#[test]
fn root_of_other_nodes_is_root_in_an_nfs_folder_only_if_the_cluster_file_asks_for_it() {
    let given = with_nfs("nfs: { server: kube1, no_root_squash: true }", 1);
    assert!(given.contains("/srv/nfs 10.0.0.51(rw,sync,no_subtree_check,no_root_squash)\n"), "{given}");
}

#[test]
fn what_an_nfs_folder_holds_is_no_device_and_gives_nobody_another_user() {
    for (node, mount) in [(1, "mount --bind -o nosuid,nodev "), (2, "mount -t nfs4 -o hard,noatime,nosuid,nodev,")] {
        let given = with_nfs("nfs: { server: kube1 }", node);
        assert!(given.contains(mount), "{given}");
    }
}

/// A server that starts again makes its clients wait until its grace period is over.
#[test]
fn another_node_is_no_reason_to_start_the_nfs_server_again() {
    let cluster = cluster(&FILE.replace("server: gate", "server: kube1"));
    let resources = prepare(&cluster, &cluster.nodes[1], &Observation::default(), &Inputs::default());
    let reads = resources.iter().find_map(|resource| match resource {
        Resource::Unit(unit) if unit.name == "nfs-server.service" => Some(&unit.reads),
        _ => None,
    });
    assert_eq!(reads.unwrap(), &["/etc/systemd/system/nfs-server.service.d/bramble.conf"]);
}

/// Root of another node may not remove what pods have in a volume.
#[test]
fn volumes_in_an_nfs_folder_are_made_and_removed_on_its_server() {
    let file = FILE
        .replace("server: gate", "server: kube1")
        .replace("distribution: none", "distribution: { k3s: { version: stable } }");
    let file = file.replace("name: kube1, role: worker", "name: kube1, role: control-plane");
    let cluster = cluster(&file);
    let addon = cluster.addons.iter().find(|addon| addon.name == "storage-nfs").unwrap();
    let bramble_spec::AddonKind::Shared(shared) = &addon.kind else { panic!("{addon:?}") };
    assert_eq!(shared.owner.as_ref().map(|name| name.as_str()), Some("kube1"));
}

#[test]
fn a_node_with_a_brick_is_given_its_files() {
    insta::assert_snapshot!(given(1, ""));
}

fn rendered(text: &str, name: &str, manifest: &str) -> Rendered {
    let file = FILE.replace(
        "distribution: none",
        &format!("distribution: {{ kubeadm: {{ version: \"1.36\" }} }}\naddons: {text}"),
    );
    let file = file.replace("kube1, role: worker", "kube1, role: control-plane");
    let cluster = cluster(&file);
    let addon = cluster.addons.iter().find(|addon| addon.name == name).unwrap();
    render(&cluster, addon, manifest).unwrap()
}

#[test]
fn manifests_of_projects_get_what_this_cluster_needs() {
    let pool = rendered("{ metallb: {} }", "metallb", "");
    assert_eq!(pool.objects[0]["spec"]["addresses"][0], "10.0.0.240-10.0.0.250");
    let server = "apiVersion: apps/v1\nkind: Deployment\nmetadata: { name: metrics-server }\nspec: { template: { spec: { containers: [{ name: m, args: [--a], ports: [{ containerPort: 1 }] }] } } }\n";
    let server = rendered("{ metrics-server: {} }", "metrics-server", server);
    let container = &server.objects[0]["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(container["args"][1], "--kubelet-insecure-tls");
    assert_eq!(container["ports"][0]["protocol"], "TCP");
    assert_eq!(server.objects[0]["metadata"]["labels"]["bramble/addon"], "metrics-server");
    let controller = "apiVersion: apps/v1\nkind: Deployment\nmetadata: { name: ingress-nginx-controller }\nspec: { replicas: 1, strategy: {}, template: { spec: {} } }\n";
    let controller = rendered("{ ingress-nginx: {} }", "ingress-nginx", controller);
    assert_eq!(controller.objects[0]["kind"], "DaemonSet");
    assert!(controller.objects[0]["spec"].get("replicas").is_none());
    let (with, without) = (
        rendered("{ cert-manager: {} }", "cert-manager", ""),
        rendered("{ cert-manager: { ca: false } }", "cert-manager", ""),
    );
    assert_eq!((with.objects.len(), without.objects.len()), (3, 0));
    assert_ne!(with.digest, without.digest);
}

#[test]
fn registries_and_archives_go_where_each_distribution_looks_for_them() {
    for (distribution, folder, file, says) in [
        (
            "k3s: { version: v1.34.6+k3s1 }",
            "/var/lib/rancher/k3s/agent/images",
            "/etc/rancher/k3s/registries.yaml",
            "endpoint",
        ),
        (
            "k0s: { version: v1.34.3+k0s.0 }",
            "/var/lib/k0s/images",
            "/etc/k0s/certs.d/quay.io/hosts.toml",
            "[host.\"http://10.0.0.9:5000\"]",
        ),
        (
            "kubeadm: { version: \"1.36\" }",
            "",
            "/etc/containerd/certs.d/quay.io/hosts.toml",
            "server = \"https://quay.io\"",
        ),
    ] {
        let text = format!(
            "cluster: shelf\nnetwork: {{ subnet: 10.0.0.0/24 }}\ndistribution: {{ {distribution} }}\nregistries: {{ quay.io: \"http://10.0.0.9:5000/\" }}\n\
             archives: [web.tar]\nnodes: [{{ name: kube1, role: control-plane, board: rpi-4b-4gb, address: 10.0.0.50 }}]\n"
        );
        let cluster = cluster(&text);
        let images = vec![("docker.io/acme/web:1".to_owned(), Vec::new())];
        let web = Archive { images, path: "web.tar".into(), sha256: "0".repeat(64).parse().unwrap() };
        let inputs = Inputs { archives: vec![web], ..Inputs::default() };
        let all = prepare(&cluster, &cluster.nodes[0], &Observation::default(), &inputs);
        let held = all.iter().any(|resource| match resource {
            Resource::Blob(blob) => blob.path == format!("{folder}/bramble-docker-io-acme-web-1.tar"),
            other => other.as_other::<Images>().is_some_and(|images| {
                folder.is_empty() && images.0.iter().any(|image| image.names == ["docker.io/acme/web:1"])
            }),
        });
        assert!(held, "{distribution}");
        let told = all
            .iter()
            .any(|resource| matches!(resource, Resource::File(f) if f.path == file && f.content.contains(says)));
        assert!(told, "{distribution}");
    }
}
