//! The Kubernetes of a rack: the bundle out of Go modules, and stand-ins for the distributions whose releases are no
//! modules; and the add-ons that are.

mod addons;
mod archive;
mod bundle;
mod error;
mod kitchen;
mod releases;
mod snaps;
mod standins;

pub use addons::addons;
pub use bundle::{BundleRequest, MINORS, Minor};
pub use error::Error;
pub use releases::releases;
pub use standins::{STANDINS, Standin};
