//! What a Kubernetes cluster asks of its nodes, stage by stage.
//!
//! This crate decides: resources, steps, scripts, checks. How they reach a node is not known here.

mod addons;
mod bundle;
mod containerd;
mod gates;
mod gateway;
mod images;
mod k0s;
mod k3s;
mod keepalived;
mod kubeadm;
mod lifecycle;
mod manifest;
mod members;
mod microk8s;
mod preflight;
mod prepare;
mod release;
mod routed;
mod status;
mod storage;

pub use addons::{ADDONS, AddonPlan, Rendered, apply_script, mark_script, remove_script, render, sources};
pub use bundle::{Bundle, BundleError, BundleFile, BundleManifest};
pub use gates::{
    TOKENS, UNREADY, adopt_script, drain_script, forget_tokens_script, health_script, ready_script, smoke_mark,
    smoke_script,
};
pub use images::{Image, Images};
pub use k0s::K0S;
pub use k3s::K3S;
pub use lifecycle::{JoinFacts, Lifecycle, MEMBER, MissingFact, Packages, VERSION, lifecycle};
pub use manifest::{
    Place, Platform, Reference, Requirement, Run, has_large_pages, images, needs_small_pages, objects, title,
};
pub use members::{
    ANSWERS, Agenda, FORGOTTEN, Leaver, Task, agenda, answers_script, backup_script, ca, drain_node_script,
    forget_script, members_script, objects_script, restoration, stop_script, uncordon_script, updated_script,
};
pub use microk8s::MICROK8S;
pub use preflight::{check, check_together};
pub use prepare::{Archive, Inputs, LocalFile, prepare};
pub use release::{Release, Upstream, minor};
pub use status::{
    ClusterReport, Condition, NodeReport, State, cluster_conditions, node_conditions, parse_nodes, status_script,
    watched,
};
pub use storage::{mount_script, pool_script, storage_marks};
