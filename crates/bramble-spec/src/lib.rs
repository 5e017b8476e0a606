//! What the user wants: the cluster file, read and resolved.
//!
//! A cluster file is first parsed into a [`ClusterDocument`] (what was written, with the place of every value) and
//! then resolved into a [`Cluster`] (what it means: every default filled in, every board looked up, every rule
//! checked). Nothing behind [`load`] can meet an invalid cluster.

mod boards;
mod cluster;
mod de;
mod diagnostic;
mod document;
mod k3s_flags;
mod names;
mod resolve;
mod shell;
mod yaml;

pub use boards::{Arch, Board, catalogue};
pub use cluster::{
    Access, AptRepository, BootSettings, Cluster, Cni, Datastore, Distribution, Download, HeldFile, ImageSource,
    Images, Jump, K0s, K3s, Kubeadm, KubeadmSource, MicroK8s, Network, Node, Preparation, Role, Setting, Sudo, Swap,
    Taint, TaintEffect, Wifi,
};
pub use de::Spanned;
pub use diagnostic::{Diagnostic, Report, Severity, Span};
pub use document::ClusterDocument;
pub use k3s_flags::{K3S_AGENT_FLAGS, K3S_SERVER_FLAGS};
pub use names::{ClusterName, FileMode, KubeVersion, MacAddr, NodeName, Release, Sha256Digest, hex};
pub use resolve::{Loaded, load};
pub use shell::shell_word;

/// The JSON Schema (draft 2020-12) of one document of a cluster file, made from the types that parse it.
pub fn schema() -> serde_json::Value {
    let mut schema = schemars::schema_for!(ClusterDocument);
    schema.insert("title".into(), "bramble cluster file".into());
    schema.to_value()
}
