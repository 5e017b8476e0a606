//! What a distribution does in each stage of a cluster's life.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use bramble_shell::Commands;
use bramble_spec::{Node, Problem};
use bramble_state::{Certificates, File, Observation, Resource, Step};

/// The mark that a node is part of a cluster: as what, and the digest of the cluster's CA.
pub const MEMBER: &str = "kubernetes";
/// The mark that holds the version that a node runs.
pub const VERSION: &str = "version";
/// The mark on control planes that holds the cluster's nodes, `name=address` each.
pub(crate) const MEMBERS: &str = "members";

/// The most bytes that the API of a large cluster may say of its nodes, pods and workloads, in JSON.
pub(crate) const REPORT: u64 = 256 * 1024 * 1024;

/// The silence of scripts that wait for nodes and their programs.
pub(crate) const WAITING: Duration = Duration::from_secs(10 * 60);

/// Facts that a control plane tells those that join, by name: tokens, keys, digests. Their values are never shown.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct JoinFacts(BTreeMap<String, String>);

/// A fact that a node needs to join, and nobody told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the control plane did not tell the {0} that a node needs to join; run bramble again")]
pub struct MissingFact(pub(crate) &'static str);

impl JoinFacts {
    /// The name of the fact that holds the digest of the cluster's CA.
    pub const CA: &str = "ca-hash";
    /// The name of the fact that says that workers can join, while the first control plane is still being made.
    pub const JOINABLE: &str = "joinable";

    /// Takes a fact in.
    pub fn set(&mut self, name: &str, value: &str) {
        self.0.insert(name.to_owned(), value.trim().to_owned());
    }

    /// Writes the facts down, a line each: the name, a blank, the value.
    pub fn to_text(&self) -> String {
        self.0.iter().map(|(name, value)| format!("{name} {value}\n")).collect()
    }

    /// Reads what [`JoinFacts::to_text`] has written.
    pub fn parse(text: &str) -> JoinFacts {
        let pair = |line: &str| line.split_once(' ').map(|(name, value)| (name.to_owned(), value.to_owned()));
        JoinFacts(text.lines().filter_map(pair).collect())
    }

    /// Gives the fact of this name.
    pub fn get(&self, name: &'static str) -> Result<&str, MissingFact> {
        self.0.get(name).map(String::as_str).ok_or(MissingFact(name))
    }
}

impl fmt::Debug for JoinFacts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// A secret of a cluster that can be made anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Secret {
    /// What lets nodes in.
    Tokens,
    /// What Secrets are encrypted with in the datastore.
    EncryptionKeys,
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Secret::Tokens => "the tokens",
            Secret::EncryptionKeys => "the encryption keys",
        })
    }
}

/// Debian packages that a distribution wants.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Packages {
    /// Files of apt that say where they come from.
    pub sources: Vec<File>,
    /// Those that must be there, `name` or `name=version`.
    pub install: Vec<String>,
    /// Those that keep their version.
    pub hold: Vec<String>,
}

/// A distribution's part in each stage of a cluster's life. The stages call this and know no distribution by name.
///
/// Scripts that it gives run as root. Those that run on a control plane of a running cluster begin with what
/// [`Lifecycle::kubectl`] gives.
pub trait Lifecycle: Send + Sync {
    /// Gives its name in a cluster file.
    fn name(&self) -> &'static str;

    /// Gives the exact version that every node is to run, such as `1.36.4`.
    fn version(&self) -> String;

    /// Gives the version that the kubelet says it has.
    fn kubelet_version(&self) -> String {
        self.version()
    }

    /// Lists the folders that belong to the distribution's programs.
    fn folders(&self) -> &'static [&'static str];

    /// Lists the Debian packages of a node.
    fn packages(&self, _node: &Node, _seen: &Observation) -> Packages {
        Packages::default()
    }

    /// Gives what a node has before it becomes a member: programs, images, configuration, units.
    fn resources(&self, node: &Node, seen: &Observation) -> Vec<Resource>;

    /// Tells whether a resource brings a new version: on a member it waits until the node is drained.
    fn is_program(&self, resource: &Resource) -> bool;

    /// Says what stands against this node.
    fn check(&self, node: &Node, seen: &Observation) -> Vec<Problem>;

    /// Makes the secrets of a cluster that is about to be made, or of nodes that are about to join it.
    fn secrets(&self, random: [u8; 64]) -> JoinFacts;

    /// Makes the cluster on its first control plane, out of the state that is in the archive `restored` if there is one.
    /// While it runs it tells the facts [`JoinFacts::CA`] and [`JoinFacts::JOINABLE`].
    fn init(
        &self,
        node: &Node,
        seen: &Observation,
        secrets: &JoinFacts,
        restored: Option<&str>,
    ) -> Result<Step, MissingFact>;

    /// Lets a node join.
    fn join(&self, node: &Node, seen: &Observation, facts: &JoinFacts) -> Result<Step, MissingFact>;

    /// Gives the commands that tell what these nodes need to join, for the control plane `plane` of a cluster that runs.
    fn join_facts(
        &self,
        plane: &Node,
        seen: &Observation,
        joining: &[&Node],
        secrets: &JoinFacts,
    ) -> Result<Commands, MissingFact>;

    /// Gives the commands for each control plane, one after the other, when others have joined; nothing if they take
    /// that well.
    fn settle(&self) -> Option<Commands> {
        None
    }

    /// Tells whether a worker learns from the control planes at its start alone what their files say: then it changes after
    /// them.
    fn follows_control_planes(&self) -> bool {
        false
    }

    /// Gives the commands for each member that stays while the cluster's state goes back to a backup: the programs
    /// there that watch the API wait for changes newer than any that it knows now, and begin again. `facts`: how others join
    /// that backup's cluster; what a member was given since by a rotation, nobody knows there.
    fn refresh(&self, node: &Node, facts: &JoinFacts) -> Result<Commands, MissingFact>;

    /// Takes a node to [`Lifecycle::version`], its programs being there already and the node drained. `first`: no
    /// other node runs it yet.
    fn upgrade(&self, node: &Node, seen: &Observation, first: bool) -> Step;

    /// Gives the shell functions for scripts that run on a control plane:
    /// `kubectl_admin …`, kubectl as the cluster's administrator;
    /// `forget_node NAME ADDRESS`, after which no record of a node is left, nor its member of the datastore;
    /// `forget_tokens`, after which those that this control plane made for nodes let nobody in any more;
    /// `snapshot_state FOLDER`, which puts all that makes the cluster what it is into a folder, and prints nothing;
    /// and those of `cluster.sh`.
    fn kubectl(&self) -> Commands;

    /// Gives what makes a secret anew on a control plane whose API answers, behind [`Lifecycle::kubectl`]; it tells the facts
    /// that others need.
    ///
    /// # Errors
    /// There is no such secret: then why, and what there is instead.
    fn rotate(&self, secret: Secret) -> Result<Commands, &'static str> {
        Err(match secret {
            Secret::Tokens => {
                "this distribution has no tokens that last: those that `bramble up` makes let nobody in any more when it ends"
            }
            Secret::EncryptionKeys => "bramble encrypts Secrets in the datastore of k3s only",
        })
    }

    /// Gives what lets a member go on with a secret that was made anew, if it has to do with it.
    fn take(&self, _: Secret, _: &Node, _: &JoinFacts) -> Result<Option<Commands>, MissingFact> {
        Ok(None)
    }

    /// Says where the state of the cluster is, if it is not on its nodes: then neither a backup nor a restore is bramble's.
    fn state_elsewhere(&self) -> Option<&'static str> {
        None
    }

    /// Gives the path of the administrator's kubeconfig on a control plane.
    fn admin_config(&self) -> &'static str;

    /// Gives the port at which control planes' APIs answer.
    fn api_port(&self) -> u16 {
        6443
    }

    /// Tells whether a control plane is a cluster of its own first, and its API answers before it has joined.
    fn begins_alone(&self) -> bool {
        false
    }

    /// Gives what curl needs besides the address to be told by the API of its own node that it is ready: arguments,
    /// each with a space before it.
    fn api_probe(&self) -> &'static str {
        ""
    }

    /// Gives the whole name of an image with a small HTTP server and client, for the smoke test; `None` if nodes that
    /// have to do without the network have none.
    fn smoke_image(&self) -> Option<String>;

    /// Gives the certificates whose end is watched on a node.
    fn certificates(&self, node: &Node) -> Certificates;
}

/// Says what the mark [`MEMBER`] of a node holds.
pub(crate) fn membership(node: &Node, ca: &str) -> String {
    format!("{} {ca}", node.role)
}

/// Gives the step that makes a node a member: of the cluster with this CA, or of one that it begins.
pub(crate) fn member(
    of: &impl Lifecycle,
    node: &Node,
    ca: Option<&str>,
    title: String,
    mut apply: Commands,
    undo: Commands,
) -> Step {
    apply.call("step_ends", [VERSION, &of.version()]);
    let version = ca.map_or_else(|| node.role.to_string(), |ca| membership(node, ca));
    Step { id: MEMBER, title, version, apply, undo: Some(undo) }
}
