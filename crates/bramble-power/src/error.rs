//! What can go wrong with power that is switched from afar.

use std::path::PathBuf;

/// The result of what switches power.
pub type Result<T, E = PowerError> = std::result::Result<T, E>;

/// Why the power of a board cannot be asked for or switched.
#[derive(Debug, thiserror::Error)]
pub enum PowerError {
    /// Nobody answers.
    #[error("{device} does not answer: {said}")]
    Silent {
        /// The device.
        device: String,
        /// What the network says.
        said: String,
    },
    /// It answers, and does not do it.
    #[error("{device}: {said}")]
    Refused {
        /// The device.
        device: String,
        /// What it says.
        said: String,
    },
    /// It lets nobody in who does not say who they are.
    #[error("{device} lets nobody in: {said}")]
    NoEntry {
        /// The device.
        device: String,
        /// What is missing or wrong, and the next step.
        said: String,
    },
    /// Nobody said which outlet it is.
    #[error(
        "{node}: which outlet of {device} it hangs on is not said: write `hardware: {{ outlet: NUMBER }}` at the node"
    )]
    NoOutlet {
        /// The node.
        node: String,
        /// The device.
        device: String,
    },
    /// The file with the credentials cannot be used.
    #[error("{}: {said}", path.display())]
    Credentials {
        /// The file.
        path: PathBuf,
        /// What is the matter with it.
        said: String,
    },
    /// It can do one of the two only.
    #[error("{node} can only be woken by Wake-on-LAN: `bramble off` halts boards, and power is cut at their plug")]
    OnlyWakes {
        /// The node.
        node: String,
    },
}
