//! What add-ons a cluster has, and which it should have.

use std::collections::{BTreeMap, BTreeSet};

use crate::addon::microk8s;
use crate::addon::rendered::{Rendered, key};

/// The difference between the add-ons that a cluster has and those of the cluster file.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct AddonPlan {
    /// Those that come or change; whether it is there already.
    pub apply: Vec<(Rendered, bool)>,
    /// Those that go, by name.
    pub remove: Vec<String>,
    /// The text of the mark when all is done.
    pub mark: String,
    /// Its text before: all that is there or may come to be there.
    pub before: String,
    /// The objects of each add-on of the cluster file, by its name: no other one may remove it.
    kept: BTreeMap<String, Vec<String>>,
}

impl AddonPlan {
    /// Compares the mark of a control plane with what is wanted.
    pub fn new(mark: Option<&str>, wanted: &[Rendered]) -> AddonPlan {
        let has: BTreeMap<&str, &str> =
            mark.unwrap_or_default().split_whitespace().filter_map(|entry| entry.split_once('=')).collect();
        let names: BTreeSet<&str> = wanted.iter().map(|addon| addon.name.as_str()).collect();
        let changed = |addon: &&Rendered| has.get(addon.name.as_str()) != Some(&addon.digest.as_str());
        let mut before: BTreeMap<&str, &str> = has.clone();
        before.extend(wanted.iter().filter(changed).map(|addon| (addon.name.as_str(), "0")));
        AddonPlan {
            before: before.iter().map(|(name, digest)| format!("{name}={digest}")).collect::<Vec<_>>().join(" "),
            kept: wanted.iter().map(|addon| (addon.name.clone(), addon.objects.iter().map(key).collect())).collect(),
            apply: wanted
                .iter()
                .filter(changed)
                .map(|addon| (addon.clone(), has.contains_key(addon.name.as_str())))
                .collect(),
            remove: has.keys().filter(|name| !names.contains(*name)).map(|name| (*name).to_owned()).collect(),
            mark: wanted.iter().map(|addon| format!("{}={}", addon.name, addon.digest)).collect::<Vec<_>>().join(" "),
        }
    }

    /// Lists what others than this add-on have, a line each.
    pub(super) fn kept_by_others(&self, name: &str) -> String {
        let others = self.kept.iter().filter(|(other, _)| *other != name);
        others.flat_map(|(_, keys)| keys).map(String::as_str).collect::<Vec<_>>().join("\n")
    }

    /// Tells whether all is as it should be.
    pub fn is_empty(&self) -> bool {
        self.apply.is_empty() && self.remove.is_empty()
    }

    /// Says in words what will be done.
    pub fn steps(&self) -> Vec<String> {
        let mut steps: Vec<String> = self.remove.iter().map(|name| format!("remove the add-on {name}")).collect();
        for (addon, there) in &self.apply {
            let verb = if *there { "change" } else { "add" };
            let what = match &addon.microk8s {
                Some(name) => microk8s::words(name),
                None => format!("{} objects", addon.objects.len()),
            };
            steps.push(format!("{verb} the add-on {} ({what})", addon.name));
        }
        steps
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(name: &str, digest: &str) -> Rendered {
        Rendered { name: name.into(), objects: Vec::new(), microk8s: None, digest: digest.into() }
    }

    #[test]
    fn a_mark_tells_what_comes_changes_and_goes() {
        let wanted = [rendered("a", "1"), rendered("b", "2"), rendered("c", "3")];
        let plan = AddonPlan::new(Some("a=1 b=0 old=9"), &wanted);
        assert_eq!(
            plan.apply.iter().map(|(addon, there)| (addon.name.as_str(), *there)).collect::<Vec<_>>(),
            [("b", true), ("c", false)]
        );
        assert_eq!(plan.remove, ["old"]);
        assert!(AddonPlan::new(Some(&plan.mark), &wanted).is_empty());
        // What was begun and is not wanted any more goes, too.
        assert_eq!(AddonPlan::new(Some(&plan.before), &wanted[..1]).remove, ["b", "c", "old"]);
    }
}
