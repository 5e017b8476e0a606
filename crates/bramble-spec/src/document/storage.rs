//! The section `storage`.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::de::Spanned;
use crate::names::NodeName;

/// Folders that all nodes share.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct StorageSection {
    /// A folder of one node, which the others mount.
    pub(crate) nfs: Option<Spanned<NfsSection>>,
    /// A volume that several nodes hold, each a whole copy.
    pub(crate) glusterfs: Option<Spanned<GlusterSection>>,
}

/// A folder of one node, which the others mount.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NfsSection {
    /// The node that has it.
    #[schemars(required)]
    pub(crate) server: Option<Spanned<NodeName>>,
    /// The folder there; /srv/nfs if not given.
    pub(crate) folder: Option<Spanned<String>>,
    /// A disk of its own for the folder, such as /dev/sda. It is formatted if it is blank.
    pub(crate) disk: Option<Spanned<String>>,
    /// Whether root of the other nodes is root in the folder, too (exports(5)); false if not given.
    pub(crate) no_root_squash: Option<bool>,
    /// Where every node has it; /mnt/nfs if not given.
    pub(crate) mount: Option<Spanned<String>>,
    /// The storage class whose volumes are folders in it; `nfs` if not given, `none` for none.
    pub(crate) class: Option<Spanned<String>>,
}

/// A volume that several nodes hold, each a whole copy.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct GlusterSection {
    /// The nodes that hold it: three, so that any one may be lost.
    #[serde(default)]
    pub(crate) nodes: Vec<Spanned<NodeName>>,
    /// The volume's name; `shared` if not given.
    pub(crate) volume: Option<Spanned<String>>,
    /// The folder with each node's copy; /srv/brick if not given.
    pub(crate) brick: Option<Spanned<String>>,
    /// A disk of its own for it on each of these nodes, such as /dev/sda. It is formatted if it is blank.
    pub(crate) disk: Option<Spanned<String>>,
    /// Where every node has the volume; /mnt/shared if not given.
    pub(crate) mount: Option<Spanned<String>>,
    /// The storage class whose volumes are folders in it; `shared` if not given, `none` for none.
    pub(crate) class: Option<Spanned<String>>,
}
