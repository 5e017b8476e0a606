//! Tests on racks, which are raised one at a time, and beside them boards that boot in QEMU.

#![allow(clippy::unwrap_used, clippy::print_stderr)]

#[path = "../common/mod.rs"]
mod common;
#[path = "../common/registry.rs"]
mod registry;

mod addons;
mod boards;
mod boot;
mod cluster;
mod gateway;
mod interrupt;
mod limits;
mod power;
mod rack;
mod soak;
mod spread;
mod ssh;
mod whose;
