//! Desired state of one node: what should be there ([`Resource`]), what is there ([`Observation`]), what to change
//! ([`Plan`]), and how to undo it (the ledger on the node).
//!
//! Everything here is pure: scripts go out as text, records come in as lines. How they travel is not known here.

mod edit;
mod observation;
mod plan;
mod probe;
mod record;
mod resource;
mod script;
mod undo;

pub use edit::{with_boot_config, with_tokens};
pub use observation::{Facts, FileKind, FileSeen, NetworkManager, Observation, ObservationError, UnitSeen};
pub use plan::{Change, Detail, Plan, Problem, Upload, plan};
pub use probe::observe_script;
pub use probe::{RPI_SWAP_FILE, RPI_SWAP_TEXT};
pub use record::{Record, parse_record};
pub use resource::{
    Blob, BlobSource, Certificates, Check, Cleanup, Disk, File, Image, MEMORY_CGROUP, Resource, Step, Unit,
};
pub use script::Commands;

/// Where bramble keeps its own things on a node: the ledger, markers, uploaded bytes.
pub const HOME: &str = "/var/lib/bramble";
/// Where uploads go, named by their digest.
pub const BLOBS: &str = "/var/lib/bramble/blobs";
/// Shell functions of every plan for other scripts as well: `unit_failed UNIT` shows the last words of a unit and fails,
/// `step_ends ID VERSION` leaves the mark of a finished step.
pub const ENDS: &str = include_str!("ends.sh");
/// Where a finished step leaves its mark.
pub const DONE: &str = "/var/lib/bramble/done";
pub use undo::undo_script;
