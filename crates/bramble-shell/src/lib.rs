//! Shell text that runs on nodes.
//!
//! Commands are quoted by construction ([`Commands`]). What a node is sent is always a whole [`Script`], which ends at the
//! first command that fails, says so with its exit code, and has limits: how long it may be silent, and how much it may
//! print.

mod commands;
mod script;
#[cfg(feature = "testing")]
pub mod testing;
mod word;

pub use commands::Commands;
pub use script::{OUTPUT, SILENCE, STRICT, Script};
pub use word::shell_word;
