//! An add-on whose objects are known.

use std::collections::BTreeSet;

use bramble_spec::hex;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// The label of all objects of an add-on.
const LABEL: &str = "bramble/addon";

/// An add-on whose objects are known.
#[derive(Debug, Clone, PartialEq)]
pub struct Rendered {
    /// Its name.
    pub name: String,
    /// Its objects.
    pub objects: Vec<Value>,
    /// Its own name in MicroK8s, with its argument, if it is one that MicroK8s has.
    pub microk8s: Option<String>,
    /// Changes with its objects.
    pub digest: String,
}

impl Rendered {
    /// Labels the objects of an add-on, and says what they leave unsaid.
    pub(super) fn new(name: &str, mut objects: Vec<Value>, microk8s: Option<String>) -> Rendered {
        for object in &mut objects {
            name_protocols(object);
            if !object["metadata"]["labels"].is_object() {
                object["metadata"]["labels"] = json!({});
            }
            object["metadata"]["labels"][LABEL] = json!(name);
        }
        let mut hasher = Sha256::new();
        for object in &objects {
            hasher.update(object.to_string());
        }
        hasher.update(microk8s.as_deref().unwrap_or_default());
        let digest = hex(&hasher.finalize()[..6]);
        Rendered { name: name.to_owned(), objects, microk8s, digest }
    }

    /// Names each of its objects that stays, whatever version of its API it is written in.
    pub fn keys(&self) -> impl Iterator<Item = String> {
        // A Job may say that it goes by itself when it is done.
        let stays = |object: &&Value| !object["spec"]["ttlSecondsAfterFinished"].is_number();
        self.objects.iter().filter(stays).map(key)
    }

    /// Lists the kinds of its objects, as kubectl takes them: `Deployment.v1.apps`, `ConfigMap.v1.`.
    pub fn kinds(&self) -> impl Iterator<Item = String> {
        self.objects.iter().map(|object| {
            let version = object["apiVersion"].as_str().unwrap_or_default();
            let (group, version) = version.split_once('/').unwrap_or(("", version));
            format!("{}.{version}.{group}", object["kind"].as_str().unwrap_or_default())
        })
    }

    /// Writes its objects in the form that [`apply_script`] reads: a line for each, with its stage, what it is whatever
    /// its version, what names it, and all of it.
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

/// Says in which order objects are made, and in the opposite one removed: what others live in or are an instance of,
/// then what runs, then what only that understands.
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

/// Names an object, whatever version of its API it is written in.
pub(super) fn key(object: &Value) -> String {
    let version = object["apiVersion"].as_str().unwrap_or_default();
    let group = version.split_once('/').map_or("", |(group, _)| group);
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let namespace = object["metadata"]["namespace"].as_str().unwrap_or("default");
    format!("{group}/{}/{namespace}/{}", text(&object["kind"]), text(&object["metadata"]["name"]))
}

/// Says of ports that they are TCP where nothing is said: the keys of lists that are merged server-side have no
/// defaults in older Kubernetes (kubernetes/kubernetes#92332).
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instances_come_after_what_understands_them() {
        let objects = crate::manifest::objects(
            "{ apiVersion: x.io/v1, kind: Pool, metadata: { name: p } }\n---\n{ apiVersion: v1, kind: Secret, metadata: { name: s, namespace: n } }\n---\n\
             { apiVersion: apiextensions.k8s.io/v1, kind: CustomResourceDefinition, metadata: { name: pools.x.io }, spec: { group: x.io } }\n",
        )
        .unwrap();
        let addon = Rendered::new("x", objects, None);
        let kinds: Vec<String> =
            addon.lines().lines().map(|line| line.split('\t').nth(2).unwrap().to_owned()).collect();
        assert!(
            kinds[0].contains("Definition") && kinds[1].contains("\"namespace\":\"n\"") && kinds[2].contains("Pool"),
            "{kinds:?}"
        );
    }
}
