//! The catalogue of boards.

use std::fmt;
use std::sync::LazyLock;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::de;
use crate::yaml;

/// A processor architecture, by Debian's name for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Arch {
    /// 64-bit Arm.
    Arm64,
    /// 64-bit x86.
    Amd64,
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Arch::Arm64 => "arm64",
            Arch::Amd64 => "amd64",
        })
    }
}

/// A board that can be bought.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Board {
    /// The word for it in a cluster file.
    pub id: String,
    /// The name on its box.
    pub name: String,
    /// What its processor runs.
    pub arch: Arch,
    /// Processor cores, where known.
    pub cores: Option<u32>,
    /// Memory in MiB as sold, where known.
    pub memory: Option<u32>,
}

/// All boards that bramble knows, in the order of the catalogue.
pub fn catalogue() -> &'static [Board] {
    static BOARDS: LazyLock<Vec<Board>> = LazyLock::new(|| {
        let (documents, _) = yaml::parse(include_str!("boards.yaml"));
        documents.first().and_then(|tree| de::from_tree(tree).value).unwrap_or_default()
    });
    &BOARDS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_catalogue_can_be_read() {
        let (documents, mistakes) = yaml::parse(include_str!("boards.yaml"));
        assert!(mistakes.is_empty(), "{mistakes:?}");
        let reading = de::from_tree::<Vec<Board>>(&documents[0]);
        assert!(reading.diagnostics.is_empty(), "{:?}", reading.diagnostics);
        assert!(catalogue().iter().any(|board| board.id == "rpi-4b-4gb" && board.memory == Some(4096)));
    }
}
