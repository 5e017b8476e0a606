//! What a board that writes its own disk and the machine that serves it say to each other: JSON over HTTP, below an address
//! that nobody guesses.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bramble_image::Change;
use serde::{Deserialize, Serialize};

/// What the board finds at `job`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// The node that the board becomes.
    pub node: String,
    /// The size of the image in bytes, unpacked. `image` gives it, packed with Zstandard.
    pub bytes: u64,
    /// What makes it the image of this node.
    pub changes: Vec<Piece>,
}

/// Bytes that are to be others, base64.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Piece {
    /// Where they begin on the disk.
    pub offset: u64,
    /// What is to be there.
    pub bytes: String,
}

impl From<&Change> for Piece {
    fn from(change: &Change) -> Piece {
        Piece { offset: change.offset, bytes: STANDARD.encode(&change.bytes) }
    }
}

impl TryFrom<&Piece> for Change {
    type Error = base64::DecodeError;

    fn try_from(piece: &Piece) -> Result<Change, Self::Error> {
        Ok(Change { offset: piece.offset, bytes: STANDARD.decode(&piece.bytes)? })
    }
}

/// A disk of the board.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BoardDisk {
    /// The kernel's name for it, such as `mmcblk0`.
    pub name: String,
    /// In bytes.
    pub size: u64,
    /// What its maker calls it.
    pub model: String,
    /// How it is connected: `sd`, `emmc`, `nvme`, `usb`, `sata` or `other`.
    pub kind: String,
    /// Whether its first megabyte has nothing but zeros.
    pub empty: bool,
    /// What stands against writing it.
    pub refusals: Vec<String>,
}

/// What the board is told when it has sent its disks to `disks`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Order {
    /// To write this disk.
    Write(String),
    /// To write none, and why.
    Refuse(String),
}

/// What the board says to `word` while it works.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Word {
    /// So many bytes of the image were written.
    Written(u64),
    /// So many were read back.
    Verified(u64),
    /// All is written, read back and right; the board starts from its disk now.
    Done,
    /// It failed, and is tried again.
    Failed(String),
}

/// The words of the kernel's command line by which a board knows what to do.
pub mod words {
    /// The Ethernet address of the interface that it uses.
    pub const MAC: &str = "bramble.mac=";
    /// Its address, with the length of the network's prefix.
    pub const ADDRESS: &str = "bramble.address=";
    /// Where it asks for its job.
    pub const FROM: &str = "bramble.from=";
}
