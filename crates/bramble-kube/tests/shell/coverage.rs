//! No shell text without its test.

use bramble_shell::testing::assert_covered;

#[test]
fn every_function_that_a_node_runs_has_its_test() {
    let addon = "addon_apply and addon_remove are made of it";
    let exceptions = [
        ("manage", addon),
        ("books", addon),
        ("keep_books", addon),
        ("delete_listed", addon),
        ("addon_begin", addon),
        ("without", addon),
        ("make_archive", "begin_backup does it"),
        ("place", "to_sftp and to_s3 are made of it"),
        ("failed_place", "to_sftp and to_s3 are made of it"),
        ("work_folder", "begin_backup and begin_volumes begin with it"),
        ("for_place", "to_sftp, to_s3 and to_repository are made of it"),
        ("put_sftp", "to_sftp does it"),
        ("sftp_does", "to_sftp does it"),
        ("put_s3", "to_s3 does it"),
        ("same_back", "to_sftp and to_s3 ask it"),
        ("too_many", "to_sftp and to_s3 ask it"),
        ("kubectl_node", "begin_volumes asks with it"),
        ("service_begins", "service_runs is made of it"),
        ("service_until", "service_runs is made of it"),
        ("takes_tokens", "k0s_init waits for it"),
        ("let_in", "k3s_join waits for it"),
        ("folders_of_claims", "begin_volumes and find_volume ask it"),
        ("let_nodes_look", "begin_volumes does it"),
        ("restic_soon", "to_repository and saved_in ask with it"),
        ("list_volumes", "begin_volumes does it"),
        ("find_mine", "begin_volumes does it"),
        ("nobodys", "begin_volumes does it"),
        ("restic_at", "to_repository, saved_in and restore_volume call it"),
        ("patient", "to_repository does it"),
        ("for_s3", "to_repository and saved_in do it"),
        ("has_repository", "to_repository does it"),
        ("save_volumes", "to_repository does it"),
        ("list_saved", "saved_in does it"),
        ("longhorn_has", "addon_remove asks it"),
        ("their_addon_is", "addon_enable and addon_disable wait for it"),
        ("copy_sqlite", "snapshot_state does it"),
        ("etcd_runs_with", "etcd_settings waits for it"),
        ("descendants", "end_pods asks it"),
        ("plain_token", "tell_tokens asks it"),
        ("g", "q and all of gluster.sh call it"),
        ("node_lease", "node_returns asks it"),
        ("node_says", "node_returns asks it"),
        ("smoke_fail", "smoke_test ends with it"),
        ("smoke_kubectl", "smoke_test calls it"),
        ("metrics", "metrics.sh is a program of its own, which exporter.rs tests"),
        ("src/soak/load.sh", "it keeps a board busy, which tests on racks do"),
        ("src/addon/monitoring/metrics.sh", "exporter.rs tests it"),
    ];
    assert_covered(env!("CARGO_MANIFEST_DIR"), &["tests/shell"], &exceptions);
}
