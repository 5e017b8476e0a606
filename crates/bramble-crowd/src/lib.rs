//! A crowd: many SSH servers in one process, each a member with an address and a delay of its own.
//!
//! What a member is asked is asked of one real node, once; its answer is given to everybody, with the real node's name,
//! addresses and digests replaced by the member's. So the answers are always those of a real system to the very script
//! that bramble sends, while a thousand nodes cost no more than their connections.

mod answer;
mod delay;
mod server;

pub use answer::{Member, Pace, Real};
pub use server::Crowd;
