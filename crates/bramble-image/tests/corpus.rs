//! What the fuzzers have found, and what they began with (`make fuzz` goes on).

#![allow(clippy::unwrap_used)]

#[path = "../../../fuzz/checks.rs"]
mod checks;

use std::fs;
use std::path::Path;

#[test]
fn the_corpus_holds() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus");
    for (folder, check) in
        [("disk", checks::disk as fn(&[u8])), ("catalogue", checks::catalogue), ("packed", checks::packed)]
    {
        let files: Vec<_> = fs::read_dir(corpus.join(folder)).unwrap().collect();
        assert!(!files.is_empty());
        for file in files {
            check(&fs::read(file.unwrap().path()).unwrap());
        }
    }
}
