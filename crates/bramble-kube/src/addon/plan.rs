//! What add-ons a cluster has, and which it should have.

use std::collections::{BTreeMap, BTreeSet};

use crate::addon::microk8s;
use crate::addon::rendered::{Rendered, key};

/// The difference between the add-ons that a cluster has and those of the cluster file.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct AddonPlan {
    /// Those that come, change or are mended, and how the cluster has each.
    pub apply: Vec<(Rendered, Has)>,
    /// Those that go, by name.
    pub remove: Vec<String>,
    /// The text of the mark when all is done.
    pub mark: String,
    /// Its text before: all that is there or may come to be there.
    pub before: String,
    /// The objects of each add-on of the cluster file, by its name: no other one may remove it.
    kept: BTreeMap<String, Vec<String>>,
}

/// How a cluster has an add-on that is to be applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Has {
    /// Not at all.
    Nothing,
    /// In another form.
    Another,
    /// Without this many of its objects, which somebody else removed.
    Without(usize),
}

/// When an add-on may go, as others may need it: first those that nobody knows, which are the user's own.
fn leaves(name: &str) -> u8 {
    match name {
        "monitoring" => 1,
        "traefik" | "ingress-nginx" | "metallb" | "metrics-server" | "limits" => 2,
        "cert-manager" => 3,
        "local-path" | "longhorn" => 4,
        storage if storage.starts_with("storage-") => 4,
        "dns" => 5,
        _ => 0,
    }
}

impl AddonPlan {
    /// Compares the mark of a control plane with what is wanted. `there`: the objects of add-ons that the API has, by their
    /// keys, if it was asked.
    pub fn new(mark: Option<&str>, wanted: &[Rendered], there: Option<&BTreeSet<String>>) -> AddonPlan {
        let has: BTreeMap<&str, &str> =
            mark.unwrap_or_default().split_whitespace().filter_map(|entry| entry.split_once('=')).collect();
        let names: BTreeSet<&str> = wanted.iter().map(|addon| addon.name.as_str()).collect();
        let how = |addon: &Rendered| match has.get(addon.name.as_str()) {
            None => Some(Has::Nothing),
            Some(digest) if *digest != addon.digest => Some(Has::Another),
            Some(_) => {
                let gone = there.map_or(0, |there| addon.keys().filter(|key| !there.contains(key)).count());
                (gone > 0).then_some(Has::Without(gone))
            }
        };
        let apply: Vec<(Rendered, Has)> =
            wanted.iter().filter_map(|addon| Some((addon.clone(), how(addon)?))).collect();
        // Who provides volumes goes after all who may have some, and who defines objects after those who have them.
        let mut gone: Vec<&str> = has.keys().copied().filter(|name| !names.contains(name)).collect();
        gone.sort_by_key(|name| leaves(name));
        let mut before: BTreeMap<&str, &str> = has.clone();
        before.extend(apply.iter().map(|(addon, _)| (addon.name.as_str(), "0")));
        AddonPlan {
            before: before.iter().map(|(name, digest)| format!("{name}={digest}")).collect::<Vec<_>>().join(" "),
            kept: wanted.iter().map(|addon| (addon.name.clone(), addon.objects.iter().map(key).collect())).collect(),
            remove: gone.into_iter().map(str::to_owned).collect(),
            apply,
            mark: wanted.iter().map(|addon| format!("{}={}", addon.name, addon.digest)).collect::<Vec<_>>().join(" "),
        }
    }

    /// Gives the text of the mark if these could not be brought, and those not be removed.
    pub fn mark_without(&self, failed: &[&str], stuck: &[&str]) -> String {
        let entries = self.mark.split_whitespace().map(|entry| match entry.split_once('=') {
            Some((name, _)) if failed.contains(&name) => format!("{name}=0"),
            _ => entry.to_owned(),
        });
        entries.chain(stuck.iter().map(|name| format!("{name}=0"))).collect::<Vec<_>>().join(" ")
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
        for (addon, has) in &self.apply {
            let all = addon.objects.len();
            let (verb, what) = match (&addon.microk8s, has) {
                (_, Has::Without(gone)) => ("mend", format!("{gone} of its {all} objects are gone")),
                (Some(name), Has::Nothing) => ("add", microk8s::words(name)),
                (Some(name), Has::Another) => ("change", microk8s::words(name)),
                (None, Has::Nothing) => ("add", format!("{all} objects")),
                (None, Has::Another) => ("change", format!("{all} objects")),
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
        let plan = AddonPlan::new(Some("a=1 b=0 old=9"), &wanted, None);
        assert_eq!(
            plan.apply.iter().map(|(addon, has)| (addon.name.as_str(), *has)).collect::<Vec<_>>(),
            [("b", Has::Another), ("c", Has::Nothing)]
        );
        assert_eq!(plan.remove, ["old"]);
        assert!(AddonPlan::new(Some(&plan.mark), &wanted, None).is_empty());
        assert_eq!(plan.mark_without(&["b"], &["old"]), "a=1 b=0 c=3 old=0");
        let all = AddonPlan::new(
            Some("cert-manager=1 dns=1 local-path=1 metallb=1 monitoring=1 shop=1 storage-nfs=1"),
            &[],
            None,
        );
        assert_eq!(all.remove, ["shop", "monitoring", "metallb", "cert-manager", "local-path", "storage-nfs", "dns"]);
        // What was begun and is not wanted any more goes, too.
        assert_eq!(AddonPlan::new(Some(&plan.before), &wanted[..1], None).remove, ["b", "c", "old"]);
    }

    #[test]
    fn objects_that_somebody_removed_come_back() {
        let objects = crate::manifest::objects(
            "{ apiVersion: v1, kind: Namespace, metadata: { name: n } }\n---\n{ apiVersion: apps/v1, kind: Deployment, metadata: { name: d, namespace: n } }\n---\n\
             { apiVersion: batch/v1, kind: Job, metadata: { name: j, namespace: n }, spec: { ttlSecondsAfterFinished: 9 } }\n",
        );
        let wanted = [Rendered::new("x", objects.unwrap(), None)];
        assert_eq!(wanted[0].kinds().collect::<Vec<_>>(), ["Namespace.v1.", "Deployment.v1.apps", "Job.v1.batch"]);
        let mark = format!("x={}", wanted[0].digest);
        let steps = |there: &[&str]| {
            let there = there.iter().map(|key| (*key).to_owned()).collect();
            AddonPlan::new(Some(&mark), &wanted, Some(&there)).steps()
        };
        assert_eq!(steps(&["/Namespace/default/n", "apps/Deployment/n/d"]), [] as [&str; 0]);
        assert_eq!(steps(&["/Namespace/default/n"]), ["mend the add-on x (1 of its 3 objects are gone)"]);
        assert_eq!(steps(&[]), ["mend the add-on x (2 of its 3 objects are gone)"]);
    }
}
