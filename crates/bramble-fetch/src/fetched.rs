//! A manifest that was fetched.

/// A manifest that comes from elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// Where it comes from.
    pub source: String,
    /// Its text.
    pub text: String,
    /// Its commit, if it is of a git repository.
    pub commit: Option<String>,
}
