//! The state of a cluster, saved: `backup.sh`.

use super::*;

#[test]
fn a_backup_is_whole_or_fails() {
    let run = check(k3s("snapshot_state() { kubectl get >\"$1/x\"; }\nprint_state"));
    assert!(run.file("var/lib/bramble/backup/x").is_none() && !run.stdout.is_empty());
    check(k3s("print_objects"));
}
