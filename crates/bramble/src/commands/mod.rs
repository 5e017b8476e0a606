//! One file for each command.

pub(crate) mod addons;
pub(crate) mod backup;
pub(crate) mod boot_order;
pub(crate) mod bundle;
pub(crate) mod design;
pub(crate) mod discover;
pub(crate) mod down;
pub(crate) mod flash;
pub(crate) mod image;
pub(crate) mod image_check;
pub(crate) mod init;
pub(crate) mod kubeconfig;
pub(crate) mod lab;
pub(crate) mod maintain;
pub(crate) mod move_root;
pub(crate) mod parts;
pub(crate) mod plan;
pub(crate) mod power;
pub(crate) mod report;
pub(crate) mod restore;
pub(crate) mod rotate;
pub(crate) mod run;
pub(crate) mod status;
pub(crate) mod up;
pub(crate) mod wear;
pub(crate) mod why;
