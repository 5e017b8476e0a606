//! How the engine reaches a node. SSH is one way; tests have another, which fails as they like.

use bramble_remote::{ConnectError, ExecError, Exit};
use bramble_shell::Script;
use bramble_spec::Node;
use bramble_state::Upload;

/// The way to one node.
pub trait Transport: Send + Sync + 'static {
    /// Runs a script as root; its output goes to `on_output` as it comes.
    ///
    /// # Errors
    /// The connection broke, or the script went over its limits. One that ran and failed is no error: its exit code says so.
    fn run<'a>(
        &'a self,
        script: &'a Script,
        on_output: &'a mut (dyn FnMut(&[u8]) + Send),
    ) -> impl Future<Output = Result<Exit, ExecError>> + Send + 'a;

    /// Brings a file to [`BLOBS`](bramble_state::BLOBS) on the node, under the name of its digest. `on_progress` gets how many
    /// bytes of how many are there.
    ///
    /// # Errors
    /// The connection broke, or other bytes arrived than were sent.
    fn deliver<'a>(
        &'a self,
        upload: &'a Upload,
        on_progress: &'a mut (dyn FnMut(u64, u64) + Send),
    ) -> impl Future<Output = Result<(), ExecError>> + Send + 'a;
}

/// The ways to all nodes of a cluster.
pub trait Network: Send + Sync + 'static {
    /// The way to one of them.
    type Transport: Transport;

    /// Connects to a node.
    ///
    /// # Errors
    /// It does not answer, or one of the two does not trust the other.
    fn connect(&self, node: &Node) -> impl Future<Output = Result<Self::Transport, ConnectError>> + Send;

    /// Trusts a host key from now on.
    ///
    /// # Errors
    /// That cannot be written down.
    fn trust(&self, key: &bramble_remote::UnknownKey) -> Result<(), ConnectError>;
}
