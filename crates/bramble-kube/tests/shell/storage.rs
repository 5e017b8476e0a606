//! Shared storage: `storage/gluster.sh` and `storage/mount.sh`.

use super::*;

fn gluster(body: &str) -> Case {
    Case::new(include_str!("../../src/storage/gluster.sh"), body)
}

fn mount(body: &str) -> Case {
    Case::new(format!("{STEPS}{}", include_str!("../../src/storage/mount.sh")), body)
}

#[test]
fn folders_are_mounted() {
    let started = mount("mounted a.service")
        .file("/var/lib/bramble/pending/restart.a.service", "")
        .on("systemctl -q is-active*", "[ -e $R/up ]")
        .on("systemctl start*", ": >$R/up")
        .best_effort("systemctl restart*");
    check(started);
    mount("mounted a.service").on("systemctl -q is-active*", "false").refuses("a.service does not mount");
}

#[test]
fn the_pool_has_its_members() {
    let case = || gluster("gluster_pool 10.0.0.1 10.0.0.2").says("ip -o*", "2: eth0 inet 10.0.0.1/24");
    let status = "printf 'Hostname: 10.0.0.2\\nState: Peer in Cluster (Connected)\\n'";
    check(case().on("gluster*peer status", status));
    case().refuses("10.0.0.2 does not join the pool");
    gluster("gluster_pool 10.0.0.1").on("gluster*pool list", "false").refuses("glusterd does not answer");
    check(gluster("q volume list"));
    gluster("q volume list").on("gluster*", "echo why; false").refuses("gluster volume list: why");
}

#[test]
fn the_volume_has_its_bricks() {
    let case = || gluster("gluster_volume v /b 10.0.0.0/24 10.0.0.1 10.0.0.2");
    let new = case().on("gluster*volume info v", "[ -e $R/made ]").on("gluster*volume create*", ": >$R/made");
    let run = check(new);
    assert!(run.called("gluster*volume create v replica 2*10.0.0.1:/b 10.0.0.2:/b force"));
    let info = "printf 'Status: Started\\nBrick1: 10.0.0.1:/b/v\\nBrick2: 10.0.0.9:/b/v\\n'";
    let more = case().on("gluster*volume info v", info);
    let run = more.run(None);
    assert!(run.code == 0 && run.called("gluster*add-brick v replica 3 10.0.0.2:/b force"));
    assert!(run.stdout.contains("has a brick at 10.0.0.9") && !run.called("gluster*volume start v"));
}
