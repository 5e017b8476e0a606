//! Kubernetes manifests: their objects, and the container images that these run.

use std::collections::BTreeMap;
use std::fmt;

use bramble_spec::{Cluster, Node, Role};
use serde_json::Value;

/// Reads the objects of a manifest: all documents, and those within lists.
///
/// # Errors
/// The text is not a manifest; the error has its line.
pub fn objects(text: &str) -> Result<Vec<Value>, String> {
    let mut options = serde_saphyr::Options::default();
    // Upstream manifests are longer and deeper than what a configuration file may be: the largest have some 100 000 lines.
    let mut budget = serde_saphyr::Budget::default();
    (budget.max_events, budget.max_nodes, budget.max_documents, budget.max_depth) = (4_000_000, 2_000_000, 10_000, 200);
    options.budget = Some(budget);
    // `n` and `on` are texts: what is true in a manifest says so.
    options.strict_booleans = true;
    let documents: Vec<Value> =
        serde_saphyr::from_multiple_with_options(text, options).map_err(|error| error.to_string())?;
    let mut found = Vec::new();
    for document in documents {
        flatten(document, &mut found)?;
    }
    Ok(found)
}

fn flatten(value: Value, found: &mut Vec<Value>) -> Result<(), String> {
    if value.is_null() {
        return Ok(());
    }
    let is_list = value["kind"].as_str().is_some_and(|kind| kind.ends_with("List"));
    if let (true, Some(items)) = (is_list, value["items"].as_array()) {
        return items.iter().cloned().try_for_each(|item| flatten(item, found));
    }
    for key in ["apiVersion", "kind"] {
        if !value[key].is_string() {
            return Err(format!("an object has no `{key}`: is this a Kubernetes manifest?"));
        }
    }
    if !value["metadata"]["name"].is_string() {
        return Err(format!("a {} has no `metadata.name`", value["kind"].as_str().unwrap_or_default()));
    }
    found.push(value);
    Ok(())
}

/// Names an object: `Deployment monitoring/grafana`.
pub fn title(object: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (kind, name) = (text(&object["kind"]), text(&object["metadata"]["name"]));
    match object["metadata"]["namespace"].as_str() {
        Some(namespace) => format!("{kind} {namespace}/{name}"),
        None => format!("{kind} {name}"),
    }
}

/// An image that an object runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// The image as it is written.
    pub image: String,
    /// By whom.
    pub object: String,
    /// Its demands on its node.
    pub place: Place,
}

/// A pod's demands on the node that it runs on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Place {
    /// Labels that a node must have.
    pub selector: BTreeMap<String, String>,
    /// Sets of requirements, of which one must be met whole; without any, none.
    pub terms: Vec<Vec<Requirement>>,
}

/// A requirement of a node affinity: a label, how it is compared, and with what.
pub type Requirement = (String, String, Vec<String>);

impl Place {
    /// Reads what a pod's specification says (kubernetes.io/docs, "Assigning Pods to Nodes").
    fn of(pod: &serde_json::Map<String, Value>) -> Place {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let selector = pod.get("nodeSelector").and_then(Value::as_object);
        let mut selector: BTreeMap<String, String> =
            selector.into_iter().flatten().filter_map(|(key, value)| Some((key.clone(), text(value)?))).collect();
        if let Some(name) = pod.get("nodeName").and_then(text) {
            selector.insert(HOSTNAME.to_owned(), name);
        }
        let required = pod
            .get("affinity")
            .map(|affinity| &affinity["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]);
        let terms = required.and_then(|required| required["nodeSelectorTerms"].as_array());
        let requirement = |value: &Value| -> Option<Requirement> {
            let values = value["values"].as_array().into_iter().flatten().filter_map(text).collect();
            Some((text(&value["key"])?, text(&value["operator"])?, values))
        };
        let term = |term: &Value| -> Vec<Requirement> {
            let both = [&term["matchExpressions"], &term["matchFields"]];
            both.into_iter().filter_map(Value::as_array).flatten().filter_map(requirement).collect()
        };
        Place { selector, terms: terms.into_iter().flatten().map(term).collect() }
    }

    /// Says in words what it asks for.
    pub fn words(&self) -> String {
        let labels = self.selector.iter().map(|(key, value)| format!("{key}={value}"));
        let terms = self.terms.iter().map(|term| {
            let words = |(key, how, values): &Requirement| match values.is_empty() {
                true => format!("{key} {how}"),
                false => format!("{key} {how} {}", values.join(" ")),
            };
            term.iter().map(words).collect::<Vec<_>>().join(", ")
        });
        labels.chain(terms).collect::<Vec<_>>().join(" or ")
    }

    /// Tells whether a pod may come to run on a node whose system is for this processor.
    pub fn allows(&self, node: &Node, arch: &str) -> bool {
        let is = |key: &str, value: &str| match key {
            "kubernetes.io/arch" | "beta.kubernetes.io/arch" => go_arch(arch) == value,
            "kubernetes.io/os" | "beta.kubernetes.io/os" => value == "linux",
            HOSTNAME | "metadata.name" => node.name.as_str() == value,
            // Its value is another one in each distribution.
            "node-role.kubernetes.io/control-plane" | "node-role.kubernetes.io/master" => {
                node.role == Role::ControlPlane
            }
            _ => node.labels.get(key).is_some_and(|own| own == value),
        };
        let has = |key: &str| match key {
            "kubernetes.io/arch" | "beta.kubernetes.io/arch" | "kubernetes.io/os" | "beta.kubernetes.io/os" => true,
            HOSTNAME => true,
            _ => is(key, "") || node.labels.contains_key(key),
        };
        let meets = |(key, how, values): &Requirement| match how.as_str() {
            "In" => values.iter().any(|value| is(key, value)),
            "NotIn" => !values.iter().any(|value| is(key, value)),
            "Exists" => has(key),
            "DoesNotExist" => !has(key),
            _ => true,
        };
        self.selector.iter().all(|(key, value)| is(key, value))
            && (self.terms.is_empty() || self.terms.iter().any(|term| term.iter().all(meets)))
    }
}

const HOSTNAME: &str = "kubernetes.io/hostname";

/// Gives Go's name for what Debian calls an architecture.
fn go_arch(arch: &str) -> &str {
    if arch == "armhf" { "arm" } else { arch }
}

/// Lists the images that objects run, in their order.
pub fn images(objects: &[Value]) -> Vec<Run> {
    let mut found = Vec::new();
    for object in objects {
        let name = title(object);
        pods(object, &name, &mut found);
        // Provisioners of volumes have the pod that makes a folder in a text of their settings.
        let texts = object["data"].as_object().filter(|_| object["kind"] == "ConfigMap");
        for text in texts.into_iter().flatten().filter_map(|(_, text)| text.as_str()) {
            if text.contains("kind: Pod") || text.contains("\"kind\":\"Pod\"") {
                self::objects(text).iter().flatten().for_each(|pod| pods(pod, &name, &mut found));
            }
        }
    }
    found
}

/// Finds pod templates wherever they are: every workload has one, and custom resources carry them in places of their
/// own.
fn pods(value: &Value, object: &str, found: &mut Vec<Run>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| pods(item, object, found)),
        Value::Object(fields) => {
            let place = Place::of(fields);
            for key in ["initContainers", "containers", "ephemeralContainers"] {
                for container in fields.get(key).and_then(Value::as_array).into_iter().flatten() {
                    if let Some(image) = container["image"].as_str() {
                        let run = Run { image: image.to_owned(), object: object.to_owned(), place: place.clone() };
                        found.push(run);
                    }
                }
            }
            fields.values().for_each(|value| pods(value, object, found));
        }
        _ => {}
    }
}

/// The processor that an image was made for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Platform {
    /// The processor, by Go's name for it.
    pub architecture: String,
    /// Which of them, such as `v7`; empty if nothing is said.
    pub variant: String,
}

impl Platform {
    /// Tells whether it runs on a system for this processor, by Debian's name: one for 64-bit Arm also runs what was
    /// made for 32 bits, which containerd takes if there is nothing better (containerd/platforms, compare.go).
    pub fn runs_on(&self, arch: &str) -> bool {
        match arch {
            "amd64" => self.architecture == "amd64" && matches!(self.variant.as_str(), "" | "v1"),
            "arm64" => matches!(self.architecture.as_str(), "arm64" | "arm"),
            _ => self.architecture == go_arch(arch),
        }
    }

    /// Tells whether it was made for just this one.
    pub fn is_own(&self, arch: &str) -> bool {
        self.architecture == go_arch(arch)
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.architecture.as_str(), self.variant.as_str()) {
            (architecture, "") | (architecture @ "arm64", "v8") => f.write_str(architecture),
            (architecture, variant) => write!(f, "{architecture}/{variant}"),
        }
    }
}

/// The place of an image: what its name means (distribution/reference, normalize.go).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reference {
    /// The registry's host, and its port if it is named.
    pub registry: String,
    /// The image's place there.
    pub repository: String,
    /// A tag, or a digest with its algorithm.
    pub version: String,
}

impl Reference {
    /// Takes a name apart; `None` if it cannot be the name of an image.
    pub fn parse(name: &str) -> Option<Reference> {
        let (rest, digest) = match name.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest)),
            None => (name, None),
        };
        let (path, tag) = match rest.rsplit_once(':') {
            Some((path, tag)) if !tag.contains('/') => (path, Some(tag)),
            _ => (rest, None),
        };
        let (registry, repository) = match path.split_once('/') {
            Some((first, rest)) if first.contains(['.', ':']) || first == "localhost" => (first, rest),
            _ => ("docker.io", path),
        };
        let registry = if registry == "index.docker.io" { "docker.io" } else { registry };
        let official = registry == "docker.io" && !repository.is_empty() && !repository.contains('/');
        let repository = if official { format!("library/{repository}") } else { repository.to_owned() };
        let plain =
            |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-/:".contains(&b));
        let version = digest.or(tag).unwrap_or("latest").to_owned();
        let lower = !repository.bytes().any(|b| b.is_ascii_uppercase());
        (plain(registry) && plain(&repository) && !repository.ends_with('/') && plain(&version) && lower)
            .then(|| Reference { registry: registry.to_owned(), repository, version })
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.version.contains(':') { '@' } else { ':' };
        write!(f, "{}/{}{sign}{}", self.registry, self.repository, self.version)
    }
}

/// Repositories whose images carry a jemalloc that was built for pages of 4 KiB: they die at once on kernels with larger
/// ones, each with the report of it.
const SMALL_PAGES: [(&str, &str); 3] = [
    ("ghcr.io/postgresml/pgcat", "postgresml/pgcat#922"),
    ("docker.io/library/influxdb", "influxdata/influxdb#26066"),
    ("ghcr.io/sebadob/rauthy", "sebadob/rauthy#1287"),
];

/// Finds the report that says that an image needs memory pages of 4 KiB, if there is one.
pub fn needs_small_pages(image: &Reference) -> Option<&'static str> {
    let name = format!("{}/{}", image.registry, image.repository);
    SMALL_PAGES.iter().find(|(known, _)| *known == name).map(|(_, report)| *report)
}

/// Tells whether the kernel of a node has pages of 16 KiB: that of Raspberry Pi OS on a Raspberry Pi 5 and what is
/// built on its processor, unless config.txt chooses the other one (raspberrypi.com/documentation, config.txt,
/// `kernel`).
pub fn has_large_pages(cluster: &Cluster, node: &Node) -> bool {
    let five = ["rpi-5", "rpi-cm5"].iter().any(|start| node.board.id.starts_with(start));
    let other = cluster
        .preparation
        .boot
        .config
        .get("kernel")
        .is_some_and(|kernel| kernel.iter().any(|kernel| kernel == "kernel8.img"));
    five && !other
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_mean_what_they_mean_to_docker() {
        let whole = |name: &str| Reference::parse(name).map(|reference| reference.to_string());
        for (name, meant) in [
            ("nginx", "docker.io/library/nginx:latest"),
            ("grafana/grafana:12.0.0", "docker.io/grafana/grafana:12.0.0"),
            ("quay.io/metallb/speaker:v0.15.2", "quay.io/metallb/speaker:v0.15.2"),
            ("docker.io/nginx", "docker.io/library/nginx:latest"),
            ("index.docker.io/acme/a:1", "docker.io/acme/a:1"),
            ("localhost/a", "localhost/a:latest"),
            ("127.0.0.1:5000/a/b:1", "127.0.0.1:5000/a/b:1"),
            ("registry.k8s.io/pause:3.9@sha256:ab", "registry.k8s.io/pause@sha256:ab"),
        ] {
            assert_eq!(whole(name).as_deref(), Some(meant), "{name}");
        }
        for wrong in ["", "Nginx", "a b", "docker.io/", "$(IMAGE)"] {
            assert_eq!(whole(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn aliases_that_multiply_each_other_are_refused() {
        let mut text =
            "apiVersion: v1\nkind: ConfigMap\nmetadata: { name: a }\na0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
                .to_owned();
        for level in 1..10 {
            let alias = format!("*a{}", level - 1);
            text += &format!("a{level}: &a{level} [{}]\n", vec![alias; 10].join(", "));
        }
        assert!(objects(&text).is_err());
    }

    #[test]
    fn what_is_nested_too_deep_is_refused() {
        let text = format!(
            "apiVersion: v1\nkind: A\nmetadata: {{ name: a }}\na: {}{}\n",
            "[".repeat(50_000),
            "]".repeat(50_000)
        );
        assert!(objects(&text).is_err());
    }

    #[test]
    fn a_manifest_as_large_as_the_largest_is_read() {
        let line = "    a-key-of-some-length: a value as they have it in definitions\n".replace("a-key", "k");
        let mut text = String::new();
        for object in 0..400 {
            text += &format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{ name: a{object} }}\ndata:\n");
            (0..100).for_each(|number| text += &line.replace("k-of", &format!("k{number}-of")));
            text += "---\n";
        }
        assert_eq!(objects(&text).map(|all| all.len()), Ok(400));
    }

    #[test]
    fn images_are_found_in_all_kinds_of_workloads() {
        let found = objects(
            "apiVersion: v1\nkind: List\nitems:\n- apiVersion: batch/v1\n  kind: CronJob\n  metadata: { name: c, namespace: n }\n  \
             spec: { jobTemplate: { spec: { template: { spec: { nodeSelector: { kubernetes.io/arch: amd64 }, \
             initContainers: [{ image: one }], containers: [{ image: two }] } } } } }\n---\n\
             apiVersion: v1\nkind: ConfigMap\nmetadata: { name: image }\ndata: { image: three }\n---\n",
        )
        .unwrap();
        let images: Vec<_> =
            images(&found).into_iter().map(|run| (run.image, run.object, run.place.selector.len())).collect();
        assert_eq!(images, [("one".into(), "CronJob n/c".into(), 1), ("two".into(), "CronJob n/c".into(), 1)]);
        assert!(objects("kind: Pod\n").unwrap_err().contains("apiVersion"));
    }

    #[test]
    fn thirty_two_bits_run_on_sixty_four_of_arm_and_not_the_other_way() {
        let platform =
            |architecture: &str, variant: &str| Platform { architecture: architecture.into(), variant: variant.into() };
        assert!(platform("arm", "v7").runs_on("arm64"));
        assert!(!platform("arm64", "v8").runs_on("amd64"));
        assert!(platform("arm", "v7").runs_on("armhf") && !platform("arm64", "").runs_on("armhf"));
        assert!(!platform("amd64", "v3").runs_on("amd64"), "boards are older than that");
    }
}
