//! Texts that are small, in files that somebody else may have made.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::error::{Context, Result, bail};
use crate::http::TEXT_LIMIT;

/// Reads a text from a plain file that is no larger than any text that bramble reads.
///
/// # Errors
/// It is no plain file, too large, or no text.
pub(crate) fn read_text(path: &Path) -> Result<String> {
    let cannot = || format!("cannot read {}", path.display());
    // A pipe would wait for ever, already when it is opened.
    if !path.metadata().with_context(cannot)?.is_file() {
        bail!("{} is no plain file", path.display());
    }
    let mut text = String::new();
    File::open(path).with_context(cannot)?.take(TEXT_LIMIT + 1).read_to_string(&mut text).with_context(cannot)?;
    if text.len() as u64 > TEXT_LIMIT {
        bail!("{} is larger than {} MiB: it is refused", path.display(), TEXT_LIMIT >> 20);
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_no_text() {
        let error = read_text(Path::new("/dev/zero")).unwrap_err().to_string();
        assert_eq!(error, "/dev/zero is no plain file");
    }

    #[test]
    fn a_file_that_is_too_large_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(TEXT_LIMIT + 5).unwrap();
        let error = read_text(file.path()).unwrap_err().to_string();
        assert!(error.contains("is larger than 32 MiB"), "{error}");
    }
}
