//! What the user wants: the cluster file, read and resolved.
//!
//! A cluster file is first parsed into a [`ClusterDocument`] (what was written, with the place of every value) and
//! then resolved into a [`Cluster`] (what it means: every default filled in, every board looked up, every rule
//! checked). Nothing behind [`load`] can meet an invalid cluster.

mod addon;
mod adopt;
mod arguments;
mod catalogue;
mod civil;
mod cluster;
mod de;
mod distribution;
mod document;
mod hardware;
mod k3s_flags;
mod name_ranges;
mod names;
mod problem;
pub mod published;
mod quantity;
mod report;
mod resolve;
mod selection;
mod yaml;

pub use addon::{ADDON_PACKAGES, Addon, AddonKind, Limits, Monitoring, Needs, OwnSource, SharedVolumes};
pub use adopt::add_node;
pub use arguments::{Arguments, Component};
pub use catalogue::{
    Accelerator, Adapter, Arch, Board, Cable, Case, Catalogue, Charger, Chip, Connector, DiskKind, Family, Fan,
    From as Sources, Hat, Heatsink, Medium, Need, NetworkDevice, Other, Part, PartKind, Poe, Source, Supply,
    UasQuality, UsbBoot, parts_schema,
};
pub use civil::{civil, utc};
pub use cluster::{
    Access, BackupPlace, Backups, BootSettings, Cluster, Cni, Control, ControlWay, Download, Gluster, HeldFile,
    ImageSource, Jump, Network, Nfs, Node, PoeMib, PowerSwitch, Preparation, Published, Role, Sent, Storage, Sudo,
    Swap, Taint, TaintEffect, Update, Uplink, Ups, Wear, Wifi,
};
pub use de::Spanned;
pub use distribution::*;
pub use document::ClusterDocument;
pub use hardware::{AddressRange, Device, Disk, Feed, Fitting, Guest, Hardware, Holds, Line};
pub use k3s_flags::{K3S_AGENT_FLAGS, K3S_SERVER_FLAGS};
pub use name_ranges::{group, name_ranges, short_name_ranges};
pub use names::{ClusterId, ClusterName, DeviceName, FileMode, KubeVersion, MacAddr, NodeName, Sha256Digest, hex};
pub use problem::{Place, Problem, Severity, Span, lines};
pub use quantity::{BitRate, ByteRate, Celsius, Currency, Length, Money, Power, Price, Seconds, Size, Voltage};
pub use report::Report;
pub use resolve::{Loaded, Override, load, load_with};
pub use selection::select;

/// The JSON Schema (draft 2020-12) of one document of a cluster file, made from the types that parse it.
pub fn schema() -> serde_json::Value {
    let mut schema = schemars::schema_for!(ClusterDocument);
    schema.insert("title".into(), "bramble cluster file".into());
    schema.to_value()
}
