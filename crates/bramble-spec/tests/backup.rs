//! Backups that a cluster makes by itself: where they may go, and what is said of places that are none.

#![allow(clippy::unwrap_used)]

use std::path::Path;

use bramble_spec::{BackupPlace, Loaded, load};

fn loaded(backup: &str) -> Loaded {
    let text = format!(
        "cluster: home\nnetwork: {{ subnet: 10.0.0.0/24 }}\ndistribution: {{ k3s: {{ version: stable }} }}\nbackup: {backup}\nnodes:\n  \
         - {{ name: kube1, role: control-plane, board: rpi-4b-8gb, address: 10.0.0.51 }}\n  \
         - {{ name: kube2, role: worker, board: rpi-4b-8gb, address: 10.0.0.52 }}\n"
    );
    load(Path::new("bramble.yaml"), &text)
}

#[test]
fn places_are_folders_of_nodes_ssh_servers_and_buckets() {
    let loaded = loaded(
        "\n  every: 90m\n  keep: 3\n  volumes: [shop/database-0, media/photos.2026]\n  to:\n    - kube2:/srv/backups/\n    \
         - { url: 'ssh://me@nas.lan:2222/volume1/kube', host_key: 'ssh-ed25519 AAAAC3Nz me@nas', key: ~/.ssh/nas }\n    \
         - { url: 's3://bucket/home', endpoint: 'https://nas.lan:9000/', credentials: s3.ini }",
    );
    assert!(!loaded.report.has_errors(), "{}", loaded.report.render(false));
    let backups = loaded.clusters[0].backups.clone().unwrap();
    assert_eq!((backups.every, backups.keep), (5400, 3));
    assert_eq!(backups.volumes, ["shop/database-0", "media/photos.2026"]);
    let places: Vec<String> = backups.to.iter().map(BackupPlace::to_string).collect();
    assert_eq!(places, ["kube2:/srv/backups", "ssh://me@nas.lan:2222/volume1/kube", "s3://bucket/home"]);
    let BackupPlace::Ssh { host_key, key, .. } = &backups.to[1] else { panic!() };
    assert_eq!((host_key.as_str(), key.as_deref()), ("ssh-ed25519 AAAAC3Nz", Some("~/.ssh/nas")));
    let BackupPlace::S3 { endpoint, region, .. } = &backups.to[2] else { panic!() };
    assert_eq!((endpoint.as_deref(), region.as_str()), (Some("https://nas.lan:9000"), "us-east-1"));
}

#[test]
fn what_is_no_place_and_no_time_is_named_with_what_to_write() {
    for (backup, said) in [
        ("{ every: 6h, to: [] }", "`to` is missing"),
        ("{ to: [kube2:/b] }", "`every` is missing"),
        ("{ every: 6 hours, to: [kube2:/b] }", "`6 hours` is no span of time"),
        ("{ every: 99999999d, to: [kube2:/b] }", "`99999999d` is no span of time"),
        ("{ every: 5m, to: [kube2:/b] }", "`5m` is too often"),
        ("{ every: 6h, keep: 0, to: [kube2:/b] }", "`keep: 0` would keep none"),
        ("{ every: 6h, to: [kube3:/b] }", "there is no node `kube3`"),
        ("{ every: 6h, to: [kube2] }", "`kube2` is no place for backups"),
        ("{ every: 6h, to: ['kube2:/'] }", "`` is no folder for backups"),
        ("{ every: 6h, to: ['kube2:/srv/../etc'] }", "is no folder for backups"),
        ("{ every: 6h, to: ['kube2:/b', 'kube2:/b/'] }", "kube2:/b is named twice"),
        ("{ every: 6h, to: ['ssh://nas/b'] }", "nothing says by which key nas is known"),
        ("{ every: 6h, to: [{ url: 'ssh://nas/b', host_key: nonsense }] }", "this is no public key"),
        (
            "{ every: 6h, to: [{ url: 'ssh://-oProxyCommand=x/b', host_key: 'ssh-ed25519 AAAA' }] }",
            "is no place for backups",
        ),
        ("{ every: 6h, to: ['s3://b'] }", "nothing says with which key S3 is opened"),
        ("{ every: 6h, to: [{ url: 's3://b', credentials: f, host_key: x }] }", "`host_key` says nothing about S3"),
        ("{ every: 6h, to: [{ url: 'ftp://b/c' }] }", "`ftp://b/c` is no place for backups"),
        ("{ every: 6h, to: [{ path: /b }] }", "url"),
        ("{ every: 6h, to: [kube2:/b], volumes: [database] }", "`database` is no claim of a volume"),
        ("{ every: 6h, to: [kube2:/b], volumes: [shop/../x] }", "`shop/../x` is no claim of a volume"),
        ("{ every: 6h, to: [kube2:/b], volumes: ['shop/a b'] }", "`shop/a b` is no claim of a volume"),
        ("{ every: 6h, to: [kube2:/b], volumes: [shop/Files] }", "`shop/Files` is no claim of a volume"),
        ("{ every: 6h, to: [kube2:/b], volumes: [shop/a, shop/a] }", "shop/a is named twice"),
        ("{ every: 6h, to: [kube2:/b], volumes: shop/a }", "volumes"),
        ("{ every: 6h, to: [3] }", "expected a place, or a map with `url`, found `3`"),
    ] {
        let loaded = loaded(backup);
        let report = loaded.report.render(false);
        assert!(loaded.report.has_errors() && report.contains(said), "{backup}: {report}");
        assert!(!report.contains("untagged"), "{report}");
    }
}

#[test]
fn where_the_state_is_in_a_database_elsewhere_volumes_alone_are_saved() {
    let loaded = |volumes: &str| {
        let text = format!(
            "cluster: home\nnetwork: {{ subnet: 10.0.0.0/24 }}\n\
             distribution: {{ k3s: {{ version: stable, server: {{ datastore-endpoint: 'postgres://10.0.0.9/k3s' }} }} }}\n\
             backup: {{ every: 6h, to: [kube2:/srv/backups], volumes: [{volumes}] }}\nnodes:\n  \
             - {{ name: kube1, role: control-plane, board: rpi-4b-8gb, address: 10.0.0.51 }}\n  \
             - {{ name: kube2, role: worker, board: rpi-4b-8gb, address: 10.0.0.52 }}\n"
        );
        load(Path::new("bramble.yaml"), &text)
    };
    let refused = loaded("").report.render(false);
    assert!(refused.contains("in a database elsewhere") && refused.contains("those alone are saved"), "{refused}");
    let loaded = loaded("shop/db");
    assert!(!loaded.report.has_errors(), "{}", loaded.report.render(false));
    assert!(!loaded.clusters[0].backups.as_ref().unwrap().state);
}
