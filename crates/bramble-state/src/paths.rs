//! Places of bramble's own on a node.

/// Where bramble keeps its own things on a node: the ledger, markers, uploaded bytes.
pub const HOME: &str = "/var/lib/bramble";
/// Where uploads go, named by their digest.
pub const BLOBS: &str = "/var/lib/bramble/blobs";
/// Where a finished step leaves its mark.
pub const DONE: &str = "/var/lib/bramble/done";
/// Shell functions of every plan for other scripts as well: `unit_failed UNIT` shows the last words of a unit and fails,
/// `step_ends ID VERSION` leaves the mark of a finished step.
pub const STEPS: &str = include_str!("steps.sh");

/// `go_down reboot|poweroff`, which lets a board boot or go off when nothing holds it any more.
pub const GO_DOWN: &str = include_str!("go_down.sh");
/// Shell functions for scripts that change a node: `take_turn` fails if another run has changed it since it was looked at,
/// `one_turn` does the same for scripts that do not keep the node's lock.
pub(crate) const TURN: &str = include_str!("turn.sh");
/// Shell functions that keep other runs off a node.
pub(crate) const LOCK: &str = include_str!("lock.sh");
/// What every script that changes a node begins with, after [`STEPS`].
pub(crate) const LEDGER: &str = concat!(include_str!("places.sh"), include_str!("lock.sh"), include_str!("ledger.sh"));
/// Shell functions for the EEPROM of a Raspberry Pi.
pub const EEPROM: &str = include_str!("eeprom.sh");
