//! The add-ons out of published Go modules: their programs under the names of the images that their projects publish, and
//! these projects' own manifests, as `bramble bundle create` would have fetched them.
//!
//! What is not in the modules, or not in all mirrors of them, is left out: the pages of Traefik's dashboard and the DNS
//! providers of its ACME client, cert-manager's issuer of Venafi, flannel's backends for Tencent's cloud and over UDP.
//! cert-manager's `main` is our own: its programs are modules that are not published for each version. The CNI plugin of
//! flannel is the last one that the plugins of the Kubernetes project had (0.9.1).

use std::fs;
use std::path::{Path, PathBuf};

use bramble_fetch::{AddonBundle, archive_name};
use bramble_lab::{Events, Lab, PathContext, remove_tree, require_root, write};
use bramble_spec::Arch;
use bramble_spec::published::{CERT_MANAGER, FLANNEL, METALLB, METRICS_SERVER, TRAEFIK_DEFINITIONS, TRAEFIK_IMAGE};

use crate::archive;
use crate::error::Error;
use crate::kitchen::{Ingredient, Kitchen, Module, bundles, module, recipe};

const SCRIPT: &str = include_str!("addons.sh");
const MODULES: [(&str, Module); 6] = [
    ("addons", module!("addons")),
    ("cert-manager", module!("cert-manager")),
    ("cni", module!("cni")),
    ("cut", Module { requirements: CUT, digests: include_str!("../modules/cut/go.sum") }),
    ("render", module!("render")),
    ("traefik", module!("traefik")),
];
const CUT: &str = include_str!("../modules/cut/go.mod");
const SOURCES: [(&str, &str); 6] = [
    ("cert-manager/main.go", include_str!("../modules/cert-manager/main.go")),
    ("render/main.go", include_str!("../modules/render/main.go")),
    ("traefik/dns.go", include_str!("../modules/traefik/dns.go")),
    ("traefik/stale.go", include_str!("../modules/traefik/stale.go")),
    ("traefik/ext/go.mod", include_str!("../modules/traefik/ext/go.mod")),
    ("traefik/ext/ext.go", include_str!("../modules/traefik/ext/ext.go")),
];

/// The manifest of the newest local-path-provisioner that is published as a module.
const LOCAL_PATH: &str =
    "https://raw.githubusercontent.com/rancher/local-path-provisioner/v0.0.30/deploy/local-path-storage.yaml";

/// Where each manifest is published, and what the builder calls it.
const MANIFESTS: [(&str, &str); 6] = [
    (METALLB, "metallb"),
    (TRAEFIK_DEFINITIONS, "traefik"),
    (CERT_MANAGER, "cert-manager"),
    (METRICS_SERVER, "metrics-server"),
    (LOCAL_PATH, "local-path"),
    (FLANNEL, "flannel"),
];

/// The images: each name, the file tree that the builder made of it, and its entry point.
const IMAGES: [(&str, &str, &[&str]); 11] = [
    ("quay.io/metallb/controller:v0.16.2", "metallb-controller", &["/controller"]),
    ("quay.io/metallb/speaker:v0.16.2", "metallb-speaker", &["/speaker"]),
    (TRAEFIK_IMAGE, "traefik", &["/traefik"]),
    ("quay.io/jetstack/cert-manager-controller:v1.21.2", "cert-manager", &["/cert-manager", "controller"]),
    ("quay.io/jetstack/cert-manager-webhook:v1.21.2", "cert-manager", &["/cert-manager", "webhook"]),
    ("quay.io/jetstack/cert-manager-cainjector:v1.21.2", "cert-manager", &["/cert-manager", "cainjector"]),
    ("registry.k8s.io/metrics-server/metrics-server:v0.9.0", "metrics-server", &["/metrics-server"]),
    ("docker.io/rancher/local-path-provisioner:v0.0.30", "local-path-provisioner", &["local-path-provisioner"]),
    ("docker.io/library/busybox:latest", "busybox", &["sh"]),
    ("ghcr.io/flannel-io/flannel:v0.28.10", "flannel", &["/opt/bin/flanneld"]),
    ("ghcr.io/flannel-io/flannel-cni-plugin:v1.9.1-flannel3", "flannel-cni-plugin", &["/flannel"]),
];

/// Gives the folder of the add-ons, for `bramble --bundle`: the cached one, or a new one (some ten minutes on two cores).
///
/// # Errors
///
/// Fails without root, and if a module cannot be had or compiled.
pub fn addons(lab: &Lab, again: bool, events: Events) -> Result<PathBuf, Error> {
    require_root()?;
    let mut ingredients: Vec<Ingredient> = MODULES.iter().flat_map(|(name, module)| module.ingredients(name)).collect();
    ingredients.extend(SOURCES.iter().map(|(path, text)| (format!("modules/{path}"), *text)));
    let dir = bundles(lab).join(format!("addons-{}", recipe(SCRIPT, &ingredients)));
    if AddonBundle::is_at(&dir) && !again {
        return Ok(dir);
    }
    let kitchen = Kitchen::open(lab, SCRIPT, ingredients, events)?;
    if AddonBundle::is_at(&dir) && !again {
        return Ok(dir);
    }
    let partial = PathBuf::from(format!("{}.partial", dir.display()));
    for left in [&partial, &dir] {
        remove_tree(left)?;
    }
    kitchen.build(&[], &[], "Building the add-ons (once, some ten minutes)", |out| pack(out, &partial))?;
    fs::rename(&partial, &dir).at("move into place", &dir)?;
    Ok(dir)
}

fn pack(out: &Path, dir: &Path) -> Result<(), Error> {
    let mut texts = Vec::new();
    for (source, name) in MANIFESTS {
        let (from, file) = (out.join("manifests").join(format!("{name}.yaml")), format!("addons/{name}.yaml"));
        write(&dir.join(&file), fs::read(&from).at("read", &from)?, 0o644)?;
        texts.push((source, file));
    }
    let mut archives = Vec::new();
    for (name, tree, entry) in IMAGES {
        let file = format!("addons/{}", archive_name(name));
        // Its manifest says that it is not root, and leaves it to the image who it is.
        let user = if tree == "cert-manager" { "1000" } else { "0" };
        archive::image(&out.join("images").join(tree), Arch::HERE, name, entry, user, &dir.join(&file))?;
        archives.push(file);
    }
    Ok(AddonBundle::of_files(dir, &texts, &archives)?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// The version that a module requires of another.
    fn required(requirements: &str, path: &str) -> Option<String> {
        let mut lines = requirements.lines().map(|line| line.trim().trim_start_matches("require "));
        let line = lines.find(|line| line.starts_with(&format!("{path} v")))?;
        line.split_whitespace().nth(1).map(str::to_owned)
    }

    #[test]
    fn what_is_built_is_what_bramble_names() {
        let (_, all) = MODULES[0];
        let (_, traefik) = MODULES[5];
        for (requirements, path, named) in [
            (all.requirements, "go.universe.tf/metallb", METALLB),
            (all.requirements, "go.universe.tf/metallb", IMAGES[0].0),
            (all.requirements, "go.universe.tf/metallb", IMAGES[1].0),
            (CUT, "github.com/cert-manager/cert-manager", CERT_MANAGER),
            (CUT, "github.com/cert-manager/cert-manager", IMAGES[3].0),
            (all.requirements, "sigs.k8s.io/metrics-server", METRICS_SERVER),
            (all.requirements, "github.com/rancher/local-path-provisioner", LOCAL_PATH),
            (CUT, "github.com/flannel-io/flannel", FLANNEL),
            (traefik.requirements, "github.com/traefik/traefik/v3", TRAEFIK_IMAGE),
            (traefik.requirements, "github.com/traefik/traefik/v3", TRAEFIK_DEFINITIONS),
        ] {
            let version = required(requirements, path).unwrap();
            assert!(named.contains(&version), "{path} {version}: {named}");
        }
    }

    /// What is cut is what the others would have had.
    #[test]
    fn what_is_cut_has_the_version_that_is_required() {
        for (_, module) in MODULES {
            for line in module.requirements.lines().filter(|line| line.contains("=> ../cut/")) {
                let path = line.trim().trim_start_matches("replace ").split_whitespace().next().unwrap();
                // These two stand in for other versions of themselves.
                if path.ends_with("/frr-k8s") || path.ends_with("/go-http-auth") {
                    continue;
                }
                assert_eq!(required(CUT, path), required(module.requirements, path), "{path}");
            }
        }
    }
}
