//! Undoing: the ledger, backwards.

use std::time::Duration;

use bramble_shell::{Commands, Script};

/// The fact that says that all is undone.
pub const UNDONE: &str = "undone";

/// Writes the script that undoes everything that bramble ever changed on a node, newest first, and then removes bramble's own
/// traces. It can be cut off anywhere and run again. It says `@title …`, `@start N`, `@ok N` or `@fail N CODE`.
pub fn undo_script() -> Script {
    let mut script = Commands::new();
    script.fixed(crate::paths::STEPS).fixed(crate::paths::LEDGER).fixed(include_str!("undo.sh"));
    Script::new("undo what bramble did", &script).silent_for(Duration::from_secs(30 * 60))
}
