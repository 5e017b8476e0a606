//! Add-ons: their objects, and how these come and go.
//!
//! Objects are applied on a control plane, server-side and under a field manager of their own, so that what others set on
//! them stays. A ConfigMap for each add-on holds the books of what it has, written before anything is made and after
//! everything is removed: an add-on that was cut off anywhere can be mended, and leaves nothing when it goes.

mod monitoring;
mod own;

use std::collections::{BTreeMap, BTreeSet};

use bramble_shell::{Commands, Script};
use bramble_spec::{Addon, AddonKind, Cluster, hex};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::lifecycle::Lifecycle;
use crate::manifest;

pub(crate) use monitoring::{everything, node_resources};

/// The mark on control planes that holds the add-ons of the cluster, `name=digest` each.
pub const ADDONS: &str = "addons";
/// The label of all objects of an add-on.
const LABEL: &str = "bramble/addon";

/// An add-on whose objects are known.
#[derive(Debug, Clone, PartialEq)]
pub struct Rendered {
    /// Its name.
    pub name: String,
    /// Its objects.
    pub objects: Vec<Value>,
    /// What it is by MicroK8s' own name, with its argument.
    pub microk8s: Option<String>,
    /// Changes with its objects.
    pub digest: String,
}

/// Which files an add-on is made of: URLs, or files and folders as written. A git repository is not among them.
pub fn sources(addon: &Addon) -> Option<&str> {
    match &addon.kind {
        AddonKind::Metallb(manifest)
        | AddonKind::IngressNginx(manifest)
        | AddonKind::LocalPath(manifest)
        | AddonKind::Longhorn(manifest)
        | AddonKind::MetricsServer(manifest)
        | AddonKind::CertManager { manifest, .. } => Some(manifest),
        AddonKind::Own(bramble_spec::OwnSource::From(from)) => Some(from),
        _ => None,
    }
}

/// The objects of an add-on. `text`: what its source holds.
///
/// # Errors
/// What is wrong with the text.
pub fn render(cluster: &Cluster, addon: &Addon, text: &str) -> Result<Rendered, String> {
    let mut objects = manifest::objects(text)?;
    let mut microk8s = None;
    match &addon.kind {
        AddonKind::Metallb(_) => objects.extend(own::metallb(cluster)),
        AddonKind::Dns(image) => objects.extend(own::dns(cluster, image)),
        AddonKind::Traefik(image) => objects.extend(own::traefik(cluster, image)),
        AddonKind::CertManager { ca: true, .. } => objects.extend(own::authority(cluster)),
        AddonKind::MetricsServer(_) => own::trust_kubelets(&mut objects),
        AddonKind::IngressNginx(_) => own::on_every_node(&mut objects),
        AddonKind::Shared(shared) => objects.extend(own::shared(shared)),
        AddonKind::Monitoring(config) => objects.extend(monitoring::objects(cluster, config)),
        AddonKind::Limits(limits) => objects.extend(own::limits(limits)),
        AddonKind::MicroK8s { name, argument } => {
            microk8s = Some(argument.as_ref().map_or_else(|| name.clone(), |argument| format!("{name}:{argument}")));
        }
        AddonKind::CertManager { .. } | AddonKind::LocalPath(_) | AddonKind::Longhorn(_) | AddonKind::Own(_) => {}
    }
    for object in &mut objects {
        name_protocols(object);
        if !object["metadata"]["labels"].is_object() {
            object["metadata"]["labels"] = json!({});
        }
        object["metadata"]["labels"][LABEL] = json!(addon.name);
    }
    let mut hasher = Sha256::new();
    for object in &objects {
        hasher.update(object.to_string());
    }
    hasher.update(microk8s.as_deref().unwrap_or_default());
    let digest = hex(&hasher.finalize()[..6]);
    Ok(Rendered { name: addon.name.clone(), objects, microk8s, digest })
}

/// Says of ports that they are TCP where nothing is said: the keys of lists that are merged server-side have no defaults in
/// older Kubernetes (kubernetes/kubernetes#92332).
fn name_protocols(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(name_protocols),
        Value::Object(fields) => {
            for port in fields.get_mut("ports").and_then(Value::as_array_mut).into_iter().flatten() {
                let is_port = port["containerPort"].is_number() || port["port"].is_number();
                if let Some(port) = port.as_object_mut().filter(|_| is_port) {
                    port.entry("protocol").or_insert(json!("TCP"));
                }
            }
            fields.values_mut().for_each(name_protocols);
        }
        _ => {}
    }
}

/// What lies between the add-ons that a cluster has and those of the cluster file.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct AddonPlan {
    /// Those that come or change; whether it is there already.
    pub apply: Vec<(Rendered, bool)>,
    /// Those that go, by name.
    pub remove: Vec<String>,
    /// What the mark says when all is done.
    pub mark: String,
    /// What it says before: all that is there or may come to be there.
    pub before: String,
    /// What each add-on of the cluster file has, by its name: no other one may remove it.
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

    /// What others than this add-on have, a line each.
    fn kept_by_others(&self, name: &str) -> String {
        let others = self.kept.iter().filter(|(other, _)| *other != name);
        others.flat_map(|(_, keys)| keys).map(String::as_str).collect::<Vec<_>>().join("\n")
    }

    /// Whether all is as it should be.
    pub fn is_empty(&self) -> bool {
        self.apply.is_empty() && self.remove.is_empty()
    }

    /// What will be done, in words.
    pub fn steps(&self) -> Vec<String> {
        let mut steps: Vec<String> = self.remove.iter().map(|name| format!("remove the add-on {name}")).collect();
        for (addon, there) in &self.apply {
            let verb = if *there { "change" } else { "add" };
            let what = match &addon.microk8s {
                Some(name) => format!("microk8s enable {name}"),
                None => format!("{} objects", addon.objects.len()),
            };
            steps.push(format!("{verb} the add-on {} ({what})", addon.name));
        }
        steps
    }
}

/// In which order objects are made, and in the opposite one removed: what others live in or are an instance of, then what
/// runs, then what only that understands.
fn stage(object: &Value, own_groups: &BTreeSet<String>) -> u8 {
    match object["kind"].as_str().unwrap_or_default() {
        "Namespace" | "CustomResourceDefinition" => 1,
        _ => {
            let group =
                object["apiVersion"].as_str().and_then(|version| version.split_once('/')).map(|(group, _)| group);
            if group.is_some_and(|group| own_groups.contains(group)) { 3 } else { 2 }
        }
    }
}

/// What an object is, whatever version of its API it is written in.
fn key(object: &Value) -> String {
    let version = object["apiVersion"].as_str().unwrap_or_default();
    let group = version.split_once('/').map_or("", |(group, _)| group);
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let namespace = object["metadata"]["namespace"].as_str().unwrap_or("default");
    format!("{group}/{}/{namespace}/{}", text(&object["kind"]), text(&object["metadata"]["name"]))
}

impl Rendered {
    /// Its objects in the form that [`apply_script`] reads: a line for each, with its stage, what it is whatever its version,
    /// what names it, and all of it.
    pub fn lines(&self) -> String {
        let groups: BTreeSet<String> = self
            .objects
            .iter()
            .filter(|object| object["kind"] == "CustomResourceDefinition")
            .filter_map(|object| object["spec"]["group"].as_str().map(str::to_owned))
            // Not there yet, but known: cert-manager's and MetalLB's webhooks must answer first.
            .collect();
        let mut lines: Vec<(u8, String)> = self
            .objects
            .iter()
            .map(|object| {
                let metadata = &object["metadata"];
                let mut name = json!({
                    "apiVersion": object["apiVersion"], "kind": object["kind"], "metadata": { "name": metadata["name"] },
                });
                if metadata["namespace"].is_string() {
                    name["metadata"]["namespace"] = metadata["namespace"].clone();
                }
                let stage = stage(object, &groups);
                (stage, format!("{stage}\t{}\t{name}\t{object}\n", key(object)))
            })
            .collect();
        lines.sort_by_key(|(stage, _)| *stage);
        lines.into_iter().map(|(_, line)| line).collect()
    }
}

fn script(life: &dyn Lifecycle) -> Commands {
    let mut script = Commands::new();
    script.fixed("mkdir -p /run/bramble").append(&life.kubectl()).fixed(include_str!("addons.sh"));
    script
}

/// Run on a control plane: makes the cluster have an add-on, whose [`Rendered::lines`] are in the file `lines` there;
/// `there`: whether it has it already, in another form.
pub fn apply_script(life: &dyn Lifecycle, plan: &AddonPlan, addon: &Rendered, there: bool, lines: &str) -> Commands {
    let mut script = script(life);
    match &addon.microk8s {
        Some(name) => script.call("addon_enable", [name.as_str(), if there { "again" } else { "" }]),
        None => script.call("addon_apply", [addon.name.as_str(), lines, &plan.kept_by_others(&addon.name)]),
    };
    script
}

/// Run on a control plane: removes an add-on and all that is in its books.
pub fn remove_script(life: &dyn Lifecycle, plan: &AddonPlan, name: &str) -> Commands {
    let mut script = script(life);
    match name.strip_prefix("microk8s-") {
        Some(theirs) => script.call("addon_disable", [theirs]),
        None => script.call("addon_remove", [name, &plan.kept_by_others(name)]),
    };
    script
}

/// Run on each control plane: writes down which add-ons there are.
pub fn mark_script(mark: &str) -> Script {
    let mut script = Commands::new();
    script.fixed(bramble_state::ENDS).call("step_ends", [ADDONS, mark]);
    Script::new("write down which add-ons there are", &script)
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

    #[test]
    fn instances_come_after_what_understands_them() {
        let objects = manifest::objects(
            "{ apiVersion: x.io/v1, kind: Pool, metadata: { name: p } }\n---\n{ apiVersion: v1, kind: Secret, metadata: { name: s, namespace: n } }\n---\n\
             { apiVersion: apiextensions.k8s.io/v1, kind: CustomResourceDefinition, metadata: { name: pools.x.io }, spec: { group: x.io } }\n",
        )
        .unwrap();
        let addon = Rendered { objects, ..rendered("x", "") };
        let kinds: Vec<String> =
            addon.lines().lines().map(|line| line.split('\t').nth(2).unwrap().to_owned()).collect();
        assert!(
            kinds[0].contains("Definition") && kinds[1].contains("\"namespace\":\"n\"") && kinds[2].contains("Pool"),
            "{kinds:?}"
        );
    }
}
