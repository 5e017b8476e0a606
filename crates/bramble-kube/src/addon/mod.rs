//! Add-ons: their objects, and how these come and go.
//!
//! Objects are applied on a control plane, server-side and under a field manager of their own, so that what others set on
//! them stays. A ConfigMap for each add-on holds the books of what it has, written before anything is made and after
//! everything is removed: an add-on that was cut off anywhere can be mended, and leaves nothing when it goes.

mod accelerators;
mod cert_manager;
mod dns;
mod ingress_nginx;
mod limits;
mod metallb;
mod metrics_server;
mod microk8s;
mod monitoring;
mod object;
mod plan;
pub(crate) mod rendered;
mod scripts;
mod shared;
mod storage_class;
mod traefik;

use bramble_spec::{ADDON_PACKAGES, Addon, AddonKind, Cluster, Node, OwnSource};
use bramble_state::{Cleanup, Resource};

use crate::lifecycle::Lifecycle;

pub use plan::{AddonPlan, Has};
pub use rendered::Rendered;
pub use scripts::{ADDONS, apply_script, ca_script, mark_script, remove_script};

/// Names the files that an add-on is made of: URLs, or files and folders as written. A git repository is not among them.
pub fn sources(addon: &Addon) -> Option<&str> {
    match &addon.kind {
        AddonKind::Metallb(manifest)
        | AddonKind::IngressNginx(manifest)
        | AddonKind::LocalPath(manifest)
        | AddonKind::Longhorn(manifest)
        | AddonKind::MetricsServer(manifest)
        | AddonKind::Traefik { manifest, .. }
        | AddonKind::CertManager { manifest, .. } => Some(manifest),
        AddonKind::Own(OwnSource::From(from)) => Some(from),
        _ => None,
    }
}

/// Makes the objects of an add-on. `text`: what its source holds.
///
/// # Errors
/// The text is not a manifest.
pub fn render(cluster: &Cluster, addon: &Addon, text: &str) -> Result<Rendered, String> {
    let mut objects = crate::manifest::objects(text)?;
    let mut enabled = None;
    match &addon.kind {
        AddonKind::Metallb(_) => {
            metallb::announce_anywhere(cluster, &mut objects);
            objects.extend(metallb::objects(cluster));
        }
        AddonKind::Dns(image) => objects.extend(dns::objects(cluster, image)),
        AddonKind::Traefik { image, .. } => objects.extend(traefik::objects(cluster, image)),
        AddonKind::LocalPath(_) => storage_class::make_default(cluster, addon, &mut objects),
        AddonKind::CertManager { ca: true, .. } => objects.extend(cert_manager::objects(cluster)),
        AddonKind::MetricsServer(_) => metrics_server::trust_kubelets(&mut objects),
        AddonKind::IngressNginx(_) => ingress_nginx::on_every_node(&mut objects),
        AddonKind::Shared(shared) => {
            objects.extend(shared::objects(shared));
            storage_class::make_default(cluster, addon, &mut objects);
        }
        AddonKind::Monitoring(config) => objects.extend(monitoring::objects(cluster, config)),
        AddonKind::Accelerators(image) => objects.extend(accelerators::objects(cluster, image)),
        AddonKind::Limits(limits) => objects.extend(limits::objects(limits)),
        AddonKind::MicroK8s { name, argument } => {
            enabled = Some(microk8s::enabled(name, argument.as_deref()));
        }
        AddonKind::CertManager { .. } | AddonKind::Longhorn(_) | AddonKind::Own(_) => {}
    }
    Ok(Rendered::new(&addon.name, objects, enabled))
}

/// Says what stays on nodes that nobody removes with the cluster: the data of volumes.
pub fn left_behind(cluster: &Cluster) -> Vec<String> {
    // The folders are those of the projects' own manifests.
    let folder = |addon: &Addon| match &addon.kind {
        AddonKind::LocalPath(_) => Some("/opt/local-path-provisioner"),
        AddonKind::Longhorn(_) => Some("/var/lib/longhorn"),
        _ => None,
    };
    let say = |addon: &Addon| {
        let folder = folder(addon)?;
        Some(format!("the volumes of {} stay on the nodes, in {folder}: remove it where nobody needs them", addon.name))
    };
    cluster.addons.iter().filter_map(say).collect()
}

/// Gives what a node has for the add-ons of its cluster; `life` if it is a member of one.
pub(crate) fn node_resources(cluster: &Cluster, node: &Node, life: Option<&dyn Lifecycle>) -> Vec<Resource> {
    let monitored = cluster.addons.iter().any(|addon| matches!(addon.kind, AddonKind::Monitoring(_)));
    if monitored { monitoring::node_resources(node, life) } else { Vec::new() }
}

/// Gives what any node may have of add-ons.
pub(crate) fn cleanup() -> Cleanup {
    let packages = ADDON_PACKAGES.concat().into_iter().map(str::to_owned).collect();
    Cleanup { packages, ..monitoring::cleanup() }
}
