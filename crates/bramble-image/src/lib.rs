//! OS images: what is in them, and what a board is told at its first boot.
//!
//! Nothing here mounts anything or needs root: partition tables are read, and the boot partition is written, as bytes.

mod boot;
mod catalogue;
mod cloud_init;
mod contents;
mod customise;
mod dietpi;
mod disks;
mod error;
mod fat;
mod first_boot;
mod firstrun;
mod hold;
mod identity;
mod little_endian;
mod machine;
mod overlay;
mod partitions;
mod preseed;
mod source;
mod system;
mod write;

pub use boot::{BootFiles, edit_boot};
pub use catalogue::{Catalogue, Offer, catalogue};
pub use customise::board;
pub use disks::{Content, DeviceNumber, Disk, LIMIT, Refusal, Transport, Use, User};
pub use error::ImageError;
pub use hold::{HoldError, NotADisk};
pub use identity::{HostKey, Identity, Sides, Static, Wifi};
pub use machine::Machine;
pub use overlay::Change;
pub use partitions::{Partition, boot_partition, is_whole};
pub use source::{Packing, decompress, unpacked_size};
pub use system::System;
pub use write::{Customise, Progress, Target, WriteError, Written, write};
