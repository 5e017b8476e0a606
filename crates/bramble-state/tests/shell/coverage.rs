//! No shell text without its test.

use bramble_shell::testing::assert_covered;

#[test]
fn every_function_that_a_node_runs_has_its_test() {
    let exceptions = [
        ("eeprom_waits", "list_firmware asks it"),
        ("has_settings", "list_firmware asks it"),
        ("forget_update", "upgrade_firmware does it"),
        ("undo_all", "undo.sh itself calls it"),
        ("undo_one", "give_back and undo_all do it"),
        ("disk_word", "disk_identity calls it for each of its words"),
    ];
    assert_covered(env!("CARGO_MANIFEST_DIR"), &["tests/shell"], &exceptions);
}
