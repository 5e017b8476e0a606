//! A rack that the tests of a row share: each begins with the same disks and the same folder.

use std::collections::BTreeMap;
use std::fs;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::common::{Rack, assert_code};

/// A rack that was saved, and what the tests need to know of it.
pub(crate) struct Saved {
    pub(crate) rack: Rack,
    /// Every file of the last node before it joined.
    pub(crate) before: BTreeMap<String, String>,
    folder: BTreeMap<PathBuf, Vec<u8>>,
}

#[derive(Default)]
pub(crate) struct Shelf(Mutex<Option<(&'static str, Saved)>>);

impl Shelf {
    /// Runs a test on the rack with this name, which is made at its first use. What a test left is gone for the next one.
    pub(crate) fn with(
        &self,
        name: &'static str,
        make: impl FnOnce(&'static str) -> (Rack, BTreeMap<String, String>),
        test: impl FnOnce(&mut Saved),
    ) {
        self.bare(name, make, |saved| {
            saved.rack.assert_well();
            test(saved);
        });
    }

    /// The same on a rack without a cluster.
    pub(crate) fn bare(
        &self,
        name: &'static str,
        make: impl FnOnce(&'static str) -> (Rack, BTreeMap<String, String>),
        test: impl FnOnce(&mut Saved),
    ) {
        let mut place = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if place.as_ref().is_none_or(|(known, _)| *known != name) {
            // Two racks are too many.
            *place = None;
            let (rack, before) = make(name);
            assert_code(&rack.lab(&["save", name]), 0);
            let folder = files(rack.dir.path());
            *place = Some((name, Saved { rack, before, folder }));
        } else if let Some((_, saved)) = place.as_mut() {
            saved.again();
        }
        let Some((_, saved)) = place.as_mut() else { return };
        let outcome = std::panic::catch_unwind(AssertUnwindSafe(|| test(saved)));
        if let Err(failure) = outcome {
            saved.rack.keep();
            std::panic::resume_unwind(failure);
        }
    }

    /// Takes its rack down: whoever raises another one waits for that.
    pub(crate) fn clear(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

impl Saved {
    fn again(&mut self) {
        let dir = self.rack.dir.path();
        self.rack.bundle = None;
        assert_code(&self.rack.lab(&["restore", &self.rack.name, "--dir", &dir.display().to_string()]), 0);
        for path in files(dir).keys().filter(|path| !self.folder.contains_key(*path)) {
            fs::remove_file(path).unwrap();
        }
        for (path, bytes) in &self.folder {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
    }
}

/// All files below a folder.
fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            let bytes = fs::read(&path).unwrap();
            found.insert(path, bytes);
        }
    }
    found
}
