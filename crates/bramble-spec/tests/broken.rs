//! The message for every broken cluster file, word for word.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;

#[test]
fn every_broken_file_is_refused_with_the_place_and_the_next_step() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/broken");
    let mut names: Vec<_> = fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    let mut all = String::new();
    let mut count = 0;
    for name in names {
        let name = name.to_str().unwrap();
        if !name.ends_with(".yaml") {
            continue;
        }
        count += 1;
        let text = fs::read_to_string(dir.join(name)).unwrap();
        let loaded = bramble_spec::load(Path::new("bramble.yaml"), &text);
        assert!(loaded.report.has_errors(), "{name} was accepted");
        assert!(loaded.clusters.is_empty());
        for problem in &loaded.report.problems {
            assert!(problem.next.is_some() || problem.message.len() > 20, "{name}: {problem:?} gives no next step");
        }
        all.push_str(&format!("=== {name}\n{}\n", loaded.report.render(false)));
    }
    assert!(count >= 20);
    insta::assert_snapshot!(all);
}
