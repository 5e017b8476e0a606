//! Which disks may be written, in the situations of the table in docs/disks.md: told by what the kernel would say, by
//! signatures on real loop devices, by what people name, and by what changed between the question and the answer.

#![allow(clippy::unwrap_used)]

mod fake;
mod held;
mod loops;
mod names;
mod signatures;
mod sysfs;

use std::collections::BTreeMap;

use bramble_image::Refusal;

/// What becomes of a disk, in the words of the table.
fn verdict(refusals: &[Refusal]) -> &'static str {
    match refusals {
        [] => "written",
        [Refusal::Drive(_) | Refusal::Unnamed] => "if named",
        all if all.iter().all(Refusal::can_be_meant) => "if named twice",
        _ => "refused",
    }
}

#[test]
fn the_table_of_situations_in_the_documentation_is_what_is_tested() {
    let mut tested: BTreeMap<&str, &str> = BTreeMap::new();
    for (what, fake, named, _) in sysfs::situations() {
        tested.insert(what, verdict(&fake.asked().refusals(4_000_000_000, named)));
    }
    tested.extend(signatures::SITUATIONS.iter().map(|(what, ..)| (*what, "if named twice")));
    tested.extend(names::SITUATIONS);
    tested.extend(held::SITUATIONS);
    let text = include_str!("../../../../docs/disks.md");
    let rows = text.lines().filter_map(|line| {
        let mut cells = line.strip_prefix("| ")?.split(" | ");
        Some((cells.next()?, cells.next()?))
    });
    let table = text.lines().position(|line| line.starts_with("| Situation | bramble |")).unwrap();
    let before = text.lines().take(table + 1).filter(|line| line.starts_with("| ")).count();
    let told: BTreeMap<&str, &str> = rows.skip(before).collect();
    assert_eq!(told, tested);
    assert!(tested.len() >= 50, "{}", tested.len());
}
