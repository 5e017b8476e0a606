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
const SFTP: &str = r#"while read -r c a b; do case $c in get) /bin/cat /var/lib/bramble/backups-state/work/shelf-*.bramble-backup >"$b" ;;
ls) printf '%s\n' 'sftp> ls -1 /b' /b/shelf-1000000001.bramble-backup /b/shelf-1000000003.bramble-backup /b/shelf-1000000002.bramble-backup /b/shelf-2-1000000000.bramble-backup /b/notes ;;
*) echo "$c $a" >>/etc/done ;; esac; done"#;

fn automatic(places: &str) -> Case {
    let body = format!(
        "{SETTINGS}\n{}\nsnapshot_state() {{ kubectl get >\"$1/etcd.db\"; }}\nbegin_backup\n[ \"$due\" = yes ] || exit 0\n{places}\nend_backup",
        [include_str!("../../src/backup/places.sh"), include_str!("../../src/backup/automatic.sh")].join("\n")
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
    assert!(run.file("var/lib/bramble/backups-state/made").is_some_and(|made| made.ends_with(" 60\n")));
    assert!(run.file("var/lib/bramble/backups-state/work/manifest.json").is_none(), "nothing of the state stays");
}

#[test]
fn a_backup_goes_to_s3_and_is_read_back() {
    let back = "/bin/cat /var/lib/bramble/backups-state/work/shelf-*.bramble-backup";
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
    assert!(!run.file("var/lib/bramble/backups-state/made").unwrap().starts_with("0 "));
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

/// Volumes as the API tells of them: two of this node, one of another, one of a plugin, one that nobody has any more.
const VOLUMES: &str = "shop/db\\t$R/var/lib/volumes/db\\tn1\\tBound\nshop/files\\t$R/var/lib/volumes/files\\t\\tBound\nshop/far\\t/var/far\\tn2\\tBound\nshop/csi\\t\\t\\tBound\nshop/old\\t/var/old\\tn1\\tReleased";

fn volumes(settings: &str, body: &str) -> Case {
    let libraries =
        [include_str!("../../src/backup/places.sh"), include_str!("../../src/backup/volumes.sh")].join("\n");
    let script = format!("cluster=shelf node=n1 every=600 keep=2 first=no shared=no {settings}\n{libraries}\n{body}");
    k3s(&script)
        .on("k3s kubectl*get persistentvolumes*", &format!("printf \"{}\\n\"", VOLUMES.replace('\n', "\\n")))
        .file("/var/lib/volumes/db/", "")
        .file("/var/lib/volumes/files/", "")
}

const SAVES: &str = "begin_volumes\n[ \"$due\" = yes ] || exit 0\nto_repository n2:/b place0 sftp:place0:/b/shelf-volumes '' ''\nend_volumes";

#[test]
fn a_node_saves_the_volumes_that_it_has() {
    let case = volumes("claims='shop/db shop/far'", SAVES);
    let run = check(case.clone());
    let saved = "restic -q -r sftp:place0:/b/shelf-volumes -o sftp.command=ssh -F * place0 -s sftp backup --host n1 --tag shop/db *";
    assert!(run.called(saved), "{:?}", run.calls);
    assert!(!run.called("restic*shop/far*") && !run.called("restic* init") && !run.called("restic*forget*"));
    assert!(run.file("var/lib/bramble/backups-volumes/saved").unwrap().ends_with(" 600 1\n"));
    // A place that says no is named, and what was saved before stays known.
    let case = case
        .file("/var/lib/bramble/backups-volumes/saved", "5 5 600 1\n")
        .on("restic*backup*", "echo 'no space left' >&2; exit 1");
    let run = case.refuses("n2:/b: no space left");
    assert!(run.file("var/lib/bramble/backups-volumes/saved").unwrap().starts_with("5 "));
}

#[test]
fn the_first_control_plane_makes_the_repository_takes_old_ones_away_and_names_what_nobody_has() {
    let first = |claims: &str, shared: &str| volumes(&format!("claims='{claims}' first=yes shared={shared}"), SAVES);
    let made = ("restic*cat config", "it is made then");
    let run =
        check(first("shop/db shop/files", "yes").may_fail(made.0, made.1).may_fail("timeout 100 *cat config", made.1));
    assert!(run.called("k3s kubectl* apply -f -") && run.called("restic*--tag shop/files *"), "{:?}", run.calls);
    assert!(run.called("restic*forget --group-by tags --keep-last 2 --prune") && run.called("restic*check"));
    let run = first("shop/db", "no").on("restic*cat config", "exit 1").run(None);
    assert!(run.code == 0 && run.called("restic* init"), "{:?}", run.calls);
    for (claims, shared, why) in [
        ("shop/nobody", "no", "shop/nobody: no volume is bound"),
        ("shop/old", "no", "shop/old: no volume is bound"),
        ("shop/csi", "no", "shop/csi: its volume is no folder"),
        ("shop/files", "none", "shop/files: its volume does not say on which node"),
    ] {
        first(claims, shared).refuses(why);
    }
}

#[test]
fn a_locked_repository_is_waited_for_and_a_folder_that_went_is_named() {
    let locked = "[ -e /etc/free ] || { : >/etc/free; echo 'repository is already locked exclusively' >&2; exit 1; }";
    let run = volumes("claims=shop/db", SAVES).file("/etc/x", "").on("restic*backup*", locked).run(None);
    assert!(run.code == 0, "{}", run.stderr);
    let run =
        volumes("claims=shop/db", SAVES).file("/etc/x", "").on("restic*backup*", "echo 'locked by kin' >&2; exit 1");
    run.refuses("locked by kin");
    let gone = VOLUMES.replace("volumes/db", "volumes/gone").replace('\n', "\\n");
    volumes("claims=shop/db", SAVES)
        .before_all("k3s kubectl*get persistentvolumes*", &format!("printf \"{gone}\\n\""))
        .refuses("/var/lib/volumes/gone is not there");
    let early =
        volumes("claims=shop/db", SAVES).file("/var/lib/bramble/backups-volumes/saved", "1199 1199 600 1\n").run(None);
    assert!(early.code == 0 && !early.called("restic*"), "{:?}", early.calls);
    let ahead = volumes("claims=shop/db", SAVES).file("/var/lib/bramble/backups-volumes/saved", "99999 99999 600 1\n");
    assert!(ahead.run(None).called("restic*backup*"));
}

#[test]
fn a_place_that_is_away_is_not_waited_for_without_end() {
    for first in ["no", "yes"] {
        let run = volumes(&format!("claims=shop/db first={first}"), SAVES)
            .on("timeout 100 *", "exit 124")
            .refuses("n2:/b: it does not answer within 100 s");
        assert!(!run.called("restic*init") && !run.called("restic*backup*"), "{:?}", run.calls);
    }
    let run =
        volumes("", "saved_in s3://b '' s3:http://nas/b/v us-east-1 /etc/key").on("timeout *", "exit 124").run(None);
    assert_eq!((run.code, run.stdout.as_str()), (0, "unread\ts3://b\ts3://b: it does not answer within 100 s\n"));
}

#[test]
fn a_node_waits_until_the_first_control_plane_lets_it_ask() {
    let listed = format!("printf \"{}\\n\"", VOLUMES.replace('\n', "\\n"));
    let said = "echo 'Error from server (Forbidden): persistentvolumes is forbidden' >&2; exit 1";
    let later = format!("if [ ! -e /etc/asked ]; then : >/etc/asked; {said}; fi; {listed}");
    let case = volumes("claims=shop/db", SAVES).file("/etc/x", "");
    let run = case.clone().before_all("k3s kubectl*get persistentvolumes*", &later).run(None);
    assert!(run.code == 0 && run.called("restic*--tag shop/db *"), "{} {:?}", run.stderr, run.calls);
    // Not for ever, and not for another reason.
    let asked = |run: &bramble_shell::testing::Run| {
        run.calls.iter().filter(|call| call.contains(" get persistentvolumes ")).count()
    };
    let run = case.clone().before_all("k3s kubectl*get persistentvolumes*", said).refuses("(Forbidden)");
    assert!(asked(&run) > 1, "{:?}", run.calls);
    let run =
        case.before_all("k3s kubectl*get persistentvolumes*", "echo 'it is away' >&2; exit 1").refuses("it is away");
    assert_eq!(asked(&run), 1, "{:?}", run.calls);
}

#[test]
fn what_is_saved_is_listed_and_a_place_that_is_away_is_told() {
    let body = "saved_in s3://b '' s3:http://nas/b/shelf-volumes us-east-1 /etc/key";
    let run = volumes("", body).on("restic*snapshots*", "printf '[{\\n}]'").run(None);
    assert_eq!(run.stdout, "saved\ts3://b\t[{}]\n");
    assert!(run.called("restic -q -r s3:http://nas/b/shelf-volumes --no-lock snapshots --json"), "{:?}", run.calls);
    let run = volumes("", body).on("restic*", "echo 'Access Denied.' >&2; exit 1").run(None);
    assert_eq!((run.code, run.stdout.as_str()), (0, "unread\ts3://b\ts3://b: Access Denied.\n"));
}

#[test]
fn a_volume_is_found_with_the_pods_that_have_it() {
    let pods = "printf 'db-0\\tRunning\\tdb\\ndb-1\\tSucceeded\\tdb\\nweb\\tPending\\tother db-2\\n'";
    let run = check(volumes("", "find_volume shop db").on("k3s kubectl*get pods*", pods));
    assert!(
        run.stdout.starts_with("volume\t/") && run.stdout.ends_with("/var/lib/volumes/db\tn1\npod\tdb-0\n"),
        "{}",
        run.stdout
    );
}

#[test]
fn a_volume_comes_back_whole_or_stays_as_it_is() {
    let restored =
        "/bin/mkdir -p .bramble-restore/sub; echo then >.bramble-restore/sub/a; echo then >.bramble-restore/.hidden";
    let case = volumes("", "restore_volume /var/lib/volumes/db ab12 place0 sftp:place0:/b '' ''")
        .file("/var/lib/volumes/db/sub/b", "now")
        .file("/var/lib/volumes/db/.bramble-restore.old/sub/b", "of a restore that ended early")
        .on("restic*restore*", restored);
    let run = check(case.clone());
    assert_eq!(run.file("var/lib/volumes/db/sub/a").as_deref(), Some("then\n"));
    assert_eq!(run.file("var/lib/volumes/db/.hidden").as_deref(), Some("then\n"));
    assert!(
        run.file("var/lib/volumes/db/sub/b").is_none() && run.file("var/lib/volumes/db/.bramble-restore").is_none()
    );
    let run = case.before_all("restic*", "echo 'ciphertext verification failed' >&2; exit 1");
    let run = run.refuses("ciphertext verification failed");
    assert_eq!(run.file("var/lib/volumes/db/sub/b").as_deref(), Some("now"));
    assert!(run.file("var/lib/volumes/db/.bramble-restore/sub/a").is_none());
    volumes("", "restore_volume /var/none ab12 place0 sftp:place0:/b '' ''").refuses("/var/none is not there");
}

#[test]
fn a_node_tells_what_it_wrote_down() {
    let seen = include_str!("../../src/backup/volumes_seen.sh");
    let run =
        k3s(seen).file("/var/lib/bramble/backups-volumes/saved", "900 900 600 2\nn2:/b: no space left\n").run(None);
    let age = run.stdout.split(' ').nth(1).and_then(|age| age.parse::<u64>().ok());
    assert!(age.is_some_and(|age| (100..1000).contains(&age)), "{}", run.stdout);
    assert!(run.stdout.ends_with(" 900 2\nvolumes-failed n2:/b: no space left\n"), "{}", run.stdout);
    assert_eq!(k3s(seen).run(None).stdout, "");
}
