use std::io;

use bramble_spec::Arch;

/// Why an image cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// Reading or writing failed.
    #[error("cannot {action}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// There is no partition table that is known.
    #[error(
        "it has no partition table: an image of a whole disk is needed; this may be one partition, a page that says why there is no \
         image, or an archive that has to be unpacked"
    )]
    NoTable,
    /// Its partitions reach further than it does.
    #[error("it broke off: it has {has} bytes, and its partitions reach to {wants}; fetch it again")]
    BrokeOff {
        /// Its size in bytes.
        has: u64,
        /// Where its last partition ends, in bytes.
        wants: u64,
    },
    /// The partition table says what cannot be.
    #[error("its partition table is damaged: {0}")]
    BadTable(&'static str),
    /// The file system of the boot partition says what cannot be.
    #[error("the file system of its boot partition is damaged: {0}")]
    BadBoot(&'static str),
    /// No partition can be a boot partition.
    #[error("none of its partitions has a FAT file system, which a Raspberry Pi boots from")]
    NoBoot,
    /// The boot partition has none of the marks of a known system.
    #[error(
        "its system is not known: its boot partition `{label}` has none of user-data (cloud-init), rpi-preseed.toml, dietpi.txt (DietPi), and what Raspberry Pi OS has (issue.txt or the cmdline.txt of its first boot)"
    )]
    UnknownSystem {
        /// The name of the boot partition.
        label: String,
    },
    /// The image ended before its end.
    #[error("the image broke off")]
    CutOff,
    /// Somebody said that it is enough.
    #[error("it was stopped")]
    Stopped,
    /// There is nothing in the file.
    #[error("it is empty: fetch it again")]
    Empty,
    /// It is packed in a way that is not unpacked here.
    #[error("it is {what}: unpack it (`{program}`), and name the image that is in it")]
    OtherPacking {
        /// How.
        what: &'static str,
        /// The program that unpacks it.
        program: &'static str,
    },
    /// The image is for other machines.
    #[error("it is for {image}, and the board is {board}")]
    OtherArchitecture {
        /// What it is for.
        image: &'static str,
        /// What the board is.
        board: Arch,
    },
    /// A file of the boot partition is larger than any text there.
    #[error("{0} on its boot partition is too large for a text")]
    TooLarge(String),
    /// The system's mechanism cannot say something that the cluster file wants.
    #[error("{system} cannot be told at its first boot: {what}")]
    CannotSay {
        /// The mechanism.
        system: &'static str,
        /// What it cannot be told, and the next step.
        what: String,
    },
}

pub(crate) trait Context<T> {
    fn during(self, action: &'static str) -> Result<T, ImageError>;
}

impl<T> Context<T> for Result<T, io::Error> {
    fn during(self, action: &'static str) -> Result<T, ImageError> {
        self.map_err(|source| ImageError::Io { action, source })
    }
}
