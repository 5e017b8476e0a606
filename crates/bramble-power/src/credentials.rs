//! What lets one in at a device: a file that is no part of the cluster file.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::error::{PowerError, Result};

/// The keys that such a file may have.
const KEYS: [&str; 6] = ["community", "user", "password", "privacy-password", "authentication", "privacy"];

/// What a file of credentials says. What is in it is never shown.
#[derive(Clone, Default)]
pub struct Credentials(BTreeMap<String, String>);

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Credentials {
    /// Reads a file with lines `key = value`; `#` begins a comment.
    ///
    /// # Errors
    /// It cannot be read, or has a line that is something else.
    pub fn read(path: &Path) -> Result<Credentials> {
        let refuse = |said: String| PowerError::Credentials { path: path.to_owned(), said };
        let text = fs::read_to_string(path).map_err(|error| refuse(error.to_string()))?;
        Credentials::parse(&text).map_err(refuse)
    }

    fn parse(text: &str) -> std::result::Result<Credentials, String> {
        let mut all = BTreeMap::new();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            // The line itself may be a password.
            let (key, value) = line
                .split_once('=')
                .map(|(key, value)| (key.trim(), value.trim()))
                .filter(|(key, _)| KEYS.contains(key))
                .ok_or_else(|| format!("line {} is no `KEY = VALUE` with one of {}", number + 1, KEYS.join(", ")))?;
            all.insert(key.to_owned(), value.to_owned());
        }
        Ok(Credentials(all))
    }

    pub(crate) fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    /// Gives the user and the password, if both are there.
    pub(crate) fn login(&self) -> Option<(&str, &str)> {
        Some((self.get("user")?, self.get("password")?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_credentials_is_read_and_never_shown() {
        let credentials = Credentials::parse("# of the switch\nuser = admin\npassword = a = b\n\n").unwrap();
        assert_eq!(credentials.login(), Some(("admin", "a = b")));
        assert_eq!(format!("{credentials:?}"), "{\"password\", \"user\"}");
        for wrong in ["hunter2\n", "pass word = hunter2\n"] {
            let said = Credentials::parse(wrong).unwrap_err();
            assert!(said.contains("line 1") && !said.contains("hunter2"), "{said}");
        }
    }
}
