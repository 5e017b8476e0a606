//! How far long work is, where lines do not move: said four times, and not at every step.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// What was said of each piece of work.
#[derive(Default)]
pub(crate) struct Quarters {
    said: Mutex<BTreeMap<String, (&'static str, u64)>>,
}

impl Quarters {
    /// The words for so many bytes of so many, if a quarter more is done than was said: `kube1: 25 % written`.
    pub(crate) fn reached(&self, name: &str, word: &'static str, bytes: u64, of: u64) -> Option<String> {
        let quarter = 4 * bytes / of.max(1);
        if quarter == 0 {
            return None;
        }
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let before = said.insert(name.to_owned(), (word, quarter));
        (before != Some((word, quarter))).then(|| format!("{name}: {} % {word}", 25 * quarter))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_quarter_is_said_once() {
        let quarters = Quarters::default();
        let said: Vec<String> =
            [(0, "written"), (10, "written"), (25, "written"), (26, "written"), (100, "written"), (30, "verified")]
                .into_iter()
                .filter_map(|(bytes, word)| quarters.reached("kube1", word, bytes, 100))
                .collect();
        assert_eq!(said, ["kube1: 25 % written", "kube1: 100 % written", "kube1: 25 % verified"]);
        assert_eq!(quarters.reached("kube2", "written", 50, 100), Some("kube2: 50 % written".to_owned()));
    }
}
