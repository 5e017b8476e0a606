//! What a Kubernetes cluster asks of its nodes, stage by stage.
//!
//! This crate decides: resources, steps, scripts, checks. How they reach a node is not known here. What differs from one
//! distribution to the other is behind two traits: [`DistributionFacts`] for what is the same in all its clusters, and
//! [`Lifecycle`] for its part in the life of one. [`distributions`] lists them.

mod addon;
mod backup;
mod bundle;
mod credentials;
mod distribution;
mod files;
mod gateway;
mod identity;
mod images;
mod inputs;
mod lifecycle;
mod manifest;
mod membership;
mod power;
mod preflight;
mod prepare;
mod readiness;
mod records;
mod rolling;
mod smoke;
mod soak;
mod status;
mod storage;
mod template;
mod ups;
mod watch;
mod wear;
mod why;

pub use addon::{
    ADDONS, AddonPlan, Has, Rendered, apply_script, ca_script, left_behind, mark_script, remove_script, render, sources,
};
pub use backup::volumes::{find_volume_script, restore_volume_script, saved_volumes_script};
pub use backup::{backup_script, objects_script};
pub use bundle::{Bundle, BundleError, BundleFile, BundleFiles, BundleManifest, CONTAINERD_PROGRAMS};
pub use credentials::{Credentials, CredentialsError};
pub use distribution::facts::{CniManifest, DistributionFacts, Programs};
pub use distribution::upstream::{Release, Upstream, minor};
pub use distribution::{cni_manifest, distribution, distributions, lifecycle, upstream, upstreams};
pub use files::{Archive, LocalFile};
pub use gateway::{Lease, leases};
pub use identity::{Destruction, Identity, OWNER, Owner, adoptable, foreign, owner, owner_step};
pub use images::{Image, Images};
pub use inputs::{BackupKeys, Inputs};
pub use lifecycle::{JoinFacts, Lifecycle, MEMBER, MissingFact, Packages, Secret, VERSION};
pub use manifest::{
    Place, Platform, Reference, Requirement, Run, has_large_pages, images, needs_small_pages, objects, title,
};
pub use membership::{
    ANSWERS, Agenda, FORGOTTEN, Leaver, Task, agenda, answers_script, ca, forget_script, members, members_script,
    restoration, stop_script,
};
pub use power::{out_script, running_script};
pub use preflight::{check, check_together};
pub use prepare::prepare;
pub use readiness::{
    OBJECT, OBJECTS, TOKENS, UNREADY, adopt_script, drain_script, forget_tokens_script, health_script, ready_script,
};
pub use records::{
    RECORD, Record, RecordChange, SERVICE, changed_ranges, record_changes, record_script, records_script,
};
pub use rolling::{drain_node_script, uncordon_script, updated_script};
pub use smoke::{smoke_mark, smoke_script};
pub use soak::{Heat, Soaked, soak_begin_script, soak_end_script, soak_look_script, soaked};
pub use status::{
    BackupReport, ClusterReport, Condition, NodeReport, State, cluster_conditions, node_conditions, parse_nodes,
    status_script, watched,
};
pub use storage::{mount_script, pool_script, storage_marks};
pub use watch::{ClusterEvent, ClusterSample, NodeSample, Sample, journal_script, sample_script};
pub use wear::{Writes, writes_script};
pub use why::{Case, Cause, NodeCase, Told, causes, pods_script, why_script};
