//! The data of all control planes are lost, and one board with them.

use std::collections::BTreeSet;
use std::fs;

use crate::common::{Rack, WORK, assert_code, text, wait_for};

/// Brings a cluster of three control planes back from a backup. `data`: the folder of etcd's, without the first `/`;
/// `members`: the names of its members as a node has them; `saved`: what else holds once the backup is made.
pub(crate) fn comes_back(
    rack: &Rack,
    data: &str,
    members: impl Fn(&Rack, usize) -> BTreeSet<String>,
    saved: impl FnOnce(&Rack),
) {
    rack.apply(WORK);
    wait_for("the workload", || rack.ready_pods(1) == Some(4));
    let work = rack.uid(1, "deployment work");
    let backup = rack.dir.path().join("backup");
    assert_code(&rack.run(&["backup", "--to", backup.to_str().unwrap()]), 0);
    saved(rack);
    rack.kubectl(1, "delete deployment work");
    for n in 1..=3 {
        rack.cut(n);
        fs::remove_dir_all(rack.disk(&rack.node(n)).join(data)).unwrap();
    }
    rack.replace(1);
    for n in 2..=3 {
        rack.start(n);
    }
    let restored = rack.run(&["restore", backup.to_str().unwrap(), "--yes"]);
    assert_code(&restored, 0);
    assert!(text(&restored).contains("objects of the backup are there, with their UIDs"), "{}", text(&restored));
    assert_eq!(rack.uid(1, "deployment work"), work);
    assert_eq!(members(rack, 1), rack.names(&[1, 2, 3]));
    rack.assert_well();
}
