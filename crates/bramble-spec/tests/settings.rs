//! Settings of a distribution whose values are in files.

#![allow(clippy::unwrap_used)]

use std::path::Path;

use bramble_spec::{Datastore, Distribution, Setting, load_with};

const FILE: &str = "cluster: home\nnetwork: { subnet: 10.0.0.0/24 }\ndistribution:\n  k3s:\n    version: stable\n    \
                    server: { vpn-auth: { file: secrets/vpn }, datastore-endpoint: { file: db }, write-kubeconfig-mode: 600 }\n\
                    nodes:\n  - { name: kube1, role: control-plane, board: rpi-4b-8gb, address: 10.0.0.51 }\n";

#[test]
fn a_secret_can_be_in_a_file_of_its_own() {
    let read = |path: &str| match path {
        "secrets/vpn" => Ok("name=tailscale,joinKey=hunter2\n".to_owned()),
        "db" => Ok("postgres://bramble:pass word@10.0.0.9/k3s\r\n".to_owned()),
        _ => Err(std::io::ErrorKind::NotFound.into()),
    };
    let loaded = load_with(Path::new("bramble.yaml"), FILE, &[], &read);
    assert!(!loaded.report.has_errors(), "{}", loaded.report.render(false));
    let Distribution::K3s(k3s) = &loaded.clusters[0].distribution else { panic!() };
    assert_eq!(k3s.server["vpn-auth"], Setting::Secret("name=tailscale,joinKey=hunter2".into()));
    assert_eq!(k3s.server["datastore-endpoint"], Setting::Secret("postgres://bramble:pass word@10.0.0.9/k3s".into()));
    assert_eq!(k3s.datastore, Datastore::External);
    assert!(!serde_json::to_string(&loaded.clusters[0]).unwrap().contains("hunter2"));
}

#[test]
fn a_secret_that_stands_in_the_cluster_file_is_told_of_and_shown_nowhere() {
    let server = "{ etcd-s3: true, etcd-s3-access-key: AKIA1, etcd-s3-secret-key: hunter2 }";
    let at = FILE.find("{ vpn-auth").unwrap();
    let file = FILE.replacen(&FILE[at..FILE[at..].find('\n').unwrap() + at], server, 1);
    let loaded = load_with(Path::new("bramble.yaml"), &file, &[], &|_| Err(std::io::ErrorKind::NotFound.into()));
    let said = loaded.report.render(false);
    assert!(said.contains("warning: the value of `etcd-s3-secret-key` is a secret"), "{said}");
    let Distribution::K3s(k3s) = &loaded.clusters[0].distribution else { panic!() };
    assert_eq!(k3s.server["etcd-s3-secret-key"], Setting::Secret("hunter2".into()));
    assert_eq!(k3s.server["etcd-s3-access-key"], Setting::One("AKIA1".into()));
}

#[test]
fn a_database_is_named_once_and_one_that_servers_can_share() {
    let said = |datastore: &str, endpoint: &str| {
        let file = FILE.replace("version: stable\n", &format!("version: stable\n{datastore}"));
        let loaded = load_with(Path::new("bramble.yaml"), &file, &[], &|_| Ok(endpoint.to_owned()));
        loaded.report.render(false)
    };
    let shared = said("", "mysql://k3s:hunter2@tcp(10.0.0.9:3306)/k3s");
    assert!(!shared.contains("error") && !shared.contains("hunter2"), "{shared}");
    let twice = said("    datastore: etcd\n", "postgres://10.0.0.9/k3s");
    assert!(twice.contains("`datastore-endpoint` says where the state is kept"), "{twice}");
    let local = said("", "sqlite:///var/lib/hunter2.db");
    assert!(local.contains("names no database that k3s can share") && !local.contains("hunter2"), "{local}");
    let list =
        load_with(Path::new("bramble.yaml"), &FILE.replace("{ file: db }", "[postgres://10.0.0.9/k3s]"), &[], &|_| {
            Ok("x".into())
        });
    assert!(list.report.render(false).contains("names no database that k3s can share"));
    let two = FILE.trim_end().to_owned()
        + "\n  - { name: kube2, role: control-plane, board: rpi-4b-8gb, address: 10.0.0.52 }\n";
    let two = load_with(Path::new("bramble.yaml"), &two, &[], &|_| Ok("postgres://10.0.0.9/k3s".into()));
    assert!(!two.report.has_errors(), "{}", two.report.render(false));
    let word = said("    datastore: external\n", "postgres://10.0.0.9/k3s");
    assert!(word.contains("possible: sqlite, etcd\n"), "{word}");
}

#[test]
fn a_file_that_cannot_be_read_is_named_with_the_setting_and_its_line() {
    let loaded = load_with(Path::new("bramble.yaml"), FILE, &[], &|_| Err(std::io::ErrorKind::NotFound.into()));
    let said = loaded.report.render(false);
    assert!(said.contains("cannot read secrets/vpn, the value of `vpn-auth`: entity not found"), "{said}");
    assert!(said.contains("bramble.yaml:6:"), "{said}");
}
