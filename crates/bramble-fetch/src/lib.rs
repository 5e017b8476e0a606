//! Everything that an installation needs from elsewhere: releases, manifests, container images, images of systems.
//!
//! What is fetched is pinned in `bramble.lock` and kept in a cache; a bundle takes the place of the network. Nothing here
//! prints: a [`Watcher`] hears what goes on. [`Sources`] tells where the cluster file and the caches are. Of the
//! environment only proxies (`HTTPS_PROXY` and the like) are read, by the HTTP client.

mod addon_bundle;
mod atomic_file;
mod digest;
mod error;
mod fetched;
mod http;
mod image_archive;
mod image_check;
mod image_choice;
mod inputs;
mod kubernetes_release;
mod lockfile;
mod manifests;
mod os_images;
mod registry;
mod releases;
mod signatures;
mod small_file;
mod snap_store;
mod sources;
#[cfg(test)]
mod test_server;
#[cfg(feature = "testing")]
pub mod testing;
mod watcher;

pub use addon_bundle::{AddonBundle, Bundled};
pub use atomic_file::replace_file;
pub use digest::file_digest;
pub use error::{FetchError, Result};
pub use fetched::Fetched;
pub use image_archive::{archive_name, open_image_archive};
pub use image_check::{ImageVerdict, KnownImages, check_images};
pub use image_choice::fetch_os_image;
pub use inputs::{fetch_cni, inputs};
pub use kubernetes_release::{KubernetesRelease, describe};
pub use lockfile::LockFile;
pub use manifests::{fetch_addons, manifest_files, render_addons};
pub use os_images::{CATALOGUE, offers, refuse_unfit};
pub use registry::Registries;
pub use releases::Releases;
pub use sources::Sources;
pub use watcher::Watcher;
