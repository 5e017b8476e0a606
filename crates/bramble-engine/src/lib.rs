//! From what the nodes are to what they should be.
//!
//! A [`Run`] looks at the nodes of a cluster, says what would change, and changes it: each kind of run (up, restore, down) is
//! a list of phases. Nodes are reached through a [`Network`]; what happens is told to an [`Interface`]. Nothing here prints,
//! asks, or reads the environment.

mod backup;
mod backup_archive;
mod backup_verify;
mod error;
mod event;
mod kept_tokens;
mod log;
mod maintenance;
mod node_plan;
mod phase;
mod phases;
mod power;
mod project;
mod rotate;
mod run;
mod run_state;
mod session;
mod ssh;
mod survey;
mod transport;
mod volumes;

pub use backup::{Backup, Saved, refuse_foreign};
pub use backup_archive::{BackupKey, Manifest, read as read_backup};
pub use backup_verify::{Verified, verify_backup};
pub use error::{EngineError, Result};
pub use event::{Event, Interface};
pub use kept_tokens::file as tokens_file;
pub use log::RunLog;
pub use maintenance::{Maintained, Maintenance, Work};
pub use node_plan::NodePlan;
pub use phase::Phase;
pub use power::{Off, Running, on};
pub use project::{Project, RunLock, random};
pub use rotate::Rotation;
pub use run::{Planned, Run, Summary};
pub use run_state::{Goal, Restored, Setup};
pub use session::Session;
pub use ssh::{SshNetwork, SshSetup, SshTransport};
pub use survey::{Fleet, Survey, speaker, without_address};
pub use transport::{Network, Transport};
pub use volumes::{SavedVolume, SavedVolumes, Volume, Volumes};
