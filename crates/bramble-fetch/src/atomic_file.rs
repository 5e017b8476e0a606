//! Files that are there whole, or not at all.

use std::path::Path;

use crate::error::{Context, Result};

/// Writes a file: it is there whole, with its mode from the start, or what was there before is.
///
/// # Errors
/// The file cannot be written.
pub fn replace_file(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    bramble_files::replace_file(path, bytes, mode).with_context(|| format!("cannot write {}", path.display()))
}
