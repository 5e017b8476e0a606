//! The state of a cluster, saved: `backup.sh`, `automatic.sh`, `receive.sh`.

use super::*;

#[test]
fn a_backup_is_whole_or_fails() {
    let run = check(k3s("snapshot_state() { kubectl get >\"$1/x\"; }\nprint_state"));
    assert!(run.file("var/lib/bramble/backup/x").is_none() && !run.stdout.is_empty());
    check(k3s("print_objects"));
}

const SETTINGS: &str = "cluster=shelf distribution=k3s api=10.0.0.1 every=60 wait=0 keep=2 recipient=age1x";

/// A server of SFTP that gives back what it got, and has three older ones.
const SFTP: &str = r#"while read -r c a b; do case $c in get) /bin/cat /var/lib/bramble/backups/shelf-*.bramble-backup >"$b" ;;
ls) printf '%s\n' 'sftp> ls -1 /b' /b/shelf-1000000001.bramble-backup /b/shelf-1000000003.bramble-backup /b/shelf-1000000002.bramble-backup /b/shelf-2-1000000000.bramble-backup /b/notes ;;
*) echo "$c $a" >>/etc/done ;; esac; done"#;

fn automatic(places: &str) -> Case {
    let body = format!(
        "{SETTINGS}\n{}\nsnapshot_state() {{ kubectl get >\"$1/etcd.db\"; }}\nbegin_backup\n[ \"$due\" = yes ] || exit 0\n{places}\nend_backup",
        include_str!("../../src/backup/automatic.sh")
    );
    let here = "the API is away, or this node is no control plane yet: another one makes it";
    k3s(&body)
        .file("/var/lib/bramble/done/version", "1.34.3\n")
        .file("/var/lib/bramble/done/kubernetes", "control-plane sha256:00\n")
        .file("/var/lib/bramble/done/cluster", "ab12 shelf n1\n")
        .file("/etc/done", "")
        .may_fail("k3s kubectl*get --raw /readyz", here)
        .says("k3s kubectl*get namespaces*", "u1 Namespace /default")
        .on("age *", r#"echo sealed >"$4""#)
}

#[test]
fn a_control_plane_makes_a_backup_when_it_is_time_and_every_failure_is_told() {
    let run = check(automatic("to_sftp kube2:/b place0 /b").on("sftp *", SFTP));
    let done = run.file("etc/done").unwrap();
    assert!(done.contains("put ") && done.contains("rename /b/.shelf-"), "{done}");
    // The two newest stay; what is another cluster's, or no backup, is left alone.
    assert!(done.contains("rm /b/shelf-1000000001.") && !done.contains("rm /b/shelf-1000000002."), "{done}");
    assert!(!done.contains("shelf-2-") && !done.contains("notes"), "{done}");
    assert!(run.file("var/lib/bramble/backup-made").is_some_and(|made| made.ends_with(" 60\n")));
    assert!(run.file("var/lib/bramble/backups/manifest.json").is_none(), "nothing of the state stays");
}

#[test]
fn a_backup_goes_to_s3_and_is_read_back() {
    let back = "/bin/cat /var/lib/bramble/backups/shelf-*.bramble-backup";
    let case = automatic("to_s3 s3://b/f b/f Other http://nas us-east-1 /etc/key").on("rclone cat *", back).says(
        "rclone lsf *",
        "shelf-1000000001.bramble-backup\nshelf-1000000002.bramble-backup\nshelf-1000000003.bramble-backup",
    );
    let run = check(case.clone());
    assert!(run.called("rclone deletefile :s3:b/f/shelf-1000000001.bramble-backup"), "{:?}", run.calls);
    let run = case.before_all("rclone cat *", "echo other").refuses("what was read back is not what was written");
    assert!(!run.called("rclone deletefile*"));
    let record = run.calls.iter().find(|call| call.contains(" apply -f "));
    assert!(record.is_some(), "{:?}", run.calls);
}

#[test]
fn a_place_that_fails_leaves_the_others_their_backup() {
    let run = automatic("to_sftp a:/b place0 /b\nto_sftp b:/b place1 /b")
        .on("sftp *place0", "cat >/dev/null; echo 'No space left on device' >&2; exit 1")
        .on("sftp *", SFTP)
        .refuses("a:/b: No space left on device");
    assert!(run.file("etc/done").unwrap().contains("rename"), "{:?}", run.calls);
    assert!(!run.file("var/lib/bramble/backup-made").unwrap().starts_with("0 "));
}

#[test]
fn a_backup_waits_for_its_time_and_for_a_clock_that_is_right() {
    let told = |record: &str| automatic("to_sftp a:/b place0 /b").says("k3s kubectl*get configmap*", record);
    // The clock of a case is at 1200 then.
    let run = told("1190 1190").run(None);
    assert!(run.code == 0 && !run.called("age *"), "{:?}", run.calls);
    told("9000 9000").refuses("the clock is wrong");
}

#[test]
fn a_folder_takes_backups_unless_somebody_has_it() {
    let receive = |folder: &str| {
        let body = format!("{}\nreceive_backups {folder}", include_str!("../../src/backup/receive.sh"));
        k3s(&body).may_fail("getent *", "there is no such user yet").on("chown *", ":")
    };
    check(receive("/var/backups/shelf").says("stat *", "root"));
    receive("/var/old").file("/var/old/photo", "").says("stat *", "pi").refuses("holds files of pi");
}
