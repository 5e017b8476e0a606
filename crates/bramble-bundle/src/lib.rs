//! What a rack's Kubernetes is made of: the bundle from Debian's source package, and stand-ins for the distributions whose
//! releases cannot be had from a Debian mirror.

mod archive;
mod bundle;
mod error;
mod releases;
mod snaps;
mod standins;

pub use bundle::{DebianBundle, Release};
pub use error::Error;
pub use releases::releases;
pub use standins::{STANDINS, Standin};
