//! Pictures of a cluster as SVG: the rack, the wiring, the network.
//!
//! Everything is placed by arithmetic on a grid whose cells hold the longest text that is put there; longer names are cut
//! and stand in full in the `<title>`. So texts cannot overlap, whatever the number of nodes.

mod map;
mod shelf;
mod svg;
mod wires;

pub use map::network;
pub use shelf::rack;
pub use svg::Theme;
pub(crate) use svg::{STYLE, colours, escape};
pub use wires::wiring;
