//! Desired state of one node: what should be there ([`Resource`]), what is there ([`Observation`]), what to change
//! ([`Plan`]), and how to undo it (the ledger on the node).
//!
//! Everything here is pure: scripts go out as text, records come in as lines. How they travel is not known here.
//!
//! Each kind of resource is one file below `resource`: what is wanted, the question that a node is asked, how its answer
//! is read, and what must change. It implements [`Kind`]; other crates can bring kinds of their own ([`ExternalKind`]).

mod diff;
mod digest;
mod facts;
mod kind;
mod observation;
mod observe;
mod paths;
mod plan;
mod planner;
mod probe;
mod record;
mod resource;
#[cfg(any(test, feature = "testing"))]
mod testing;
#[cfg(test)]
mod tests;
mod turn;
mod undo;
mod updates;

pub use diff::plan;
pub use digest::entry_hash;
pub use facts::{Facts, NetworkManager, Root};
pub use kind::{ExternalKind, Kind};
pub use observation::{FileKind, FileSeen, Observation, ObservationError, UnitSeen};
pub use observe::observe_script;
#[cfg(any(test, feature = "testing"))]
pub use observe::satisfied;
pub use paths::{BLOBS, DONE, EEPROM, GO_DOWN, HOME, STEPS};
pub use plan::{Change, Detail, Plan, Upload};
pub use planner::Planner;
pub use probe::{Answer, Names, Probe, Question, Reader, first_word};
pub use record::{Record, parse_record};
pub use resource::{
    Blob, BlobSource, Certificates, Check, Cleanup, DISK_IDENTITY, Disk, File, MEMORY_CGROUP, RPI_SWAP_FILE,
    RPI_SWAP_TEXT, Resource, Step, Unit, effective_boot_config, with_boot_config, with_tokens,
};
#[cfg(any(test, feature = "testing"))]
pub use testing::SatisfiedNode;
pub use turn::{Turn, who};
pub use undo::{UNDONE, undo_script};
pub use updates::{RebootWhen, Updates, Wanted};
