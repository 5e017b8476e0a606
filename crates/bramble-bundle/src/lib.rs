//! The Kubernetes of a rack: the bundle from Debian's source package, and stand-ins for the distributions whose releases a
//! Debian mirror does not have.

mod archive;
mod bundle;
mod error;
mod releases;
mod snaps;
mod standins;

pub use bundle::{DebianBundle, PatchVersion};
pub use error::Error;
pub use releases::releases;
pub use standins::{STANDINS, Standin};
