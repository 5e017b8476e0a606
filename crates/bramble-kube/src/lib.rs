//! What a Kubernetes cluster asks of its nodes, stage by stage.
//!
//! This crate decides: resources, steps, scripts, checks. How they reach a node is not known here.

mod bundle;
mod containerd;
mod gates;
mod kubeadm;
mod preflight;
mod prepare;
mod routed;
mod status;

pub use bundle::{Bundle, BundleError, BundleFile, BundleManifest};
pub use gates::{adopt_script, drain_script, forget_tokens_script, ready_script, smoke_mark, smoke_script};
pub use kubeadm::{INIT, JoinFacts, JoinFactsSeed, Token, Token32, init, join, join_facts_script};
pub use preflight::{check, check_together};
pub use prepare::{Inputs, LocalFile, prepare};
pub use status::{
    ClusterReport, Condition, NodeReport, State, cluster_conditions, node_conditions, parse_nodes, status_script,
};
