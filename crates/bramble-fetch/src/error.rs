//! Why something cannot be fetched.

use std::error::Error;
use std::fmt::{self, Display};

/// Gives a value, or the reason why it cannot be had.
pub type Result<T> = std::result::Result<T, FetchError>;

/// Says why something cannot be fetched. Its text is that of the outermost operation; its sources say the rest.
#[derive(Debug)]
pub struct FetchError {
    message: String,
    reason: Reason,
    source: Option<Box<dyn Error + Send + Sync>>,
}

/// Tells apart what callers treat differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reason {
    /// A server has no file at an address.
    Absent,
    /// A registry has no image of a name.
    NoImage,
    /// What a server sends cannot be used, however often it is asked.
    Refused,
    Other,
}

impl FetchError {
    pub(crate) fn new(message: String) -> FetchError {
        FetchError { message, reason: Reason::Other, source: None }
    }

    /// Says that a server has no file at an address.
    pub(crate) fn absent(url: &str) -> FetchError {
        FetchError { reason: Reason::Absent, ..FetchError::new(format!("there is nothing at {url}")) }
    }

    /// Says that what a server sends cannot be used.
    pub(crate) fn refused(message: String) -> FetchError {
        FetchError { reason: Reason::Refused, ..FetchError::new(message) }
    }

    /// Says that a registry has no image of a name.
    pub(crate) fn no_image(name: impl Display) -> FetchError {
        FetchError { reason: Reason::NoImage, ..FetchError::new(format!("there is no image {name}")) }
    }

    /// Adds what was tried when it failed.
    pub(crate) fn context(self, message: impl Display) -> FetchError {
        FetchError { message: message.to_string(), reason: self.reason, source: Some(Box::new(self)) }
    }

    pub(crate) fn is_absent(&self) -> bool {
        self.reason == Reason::Absent
    }

    /// Tells whether asking again would not help.
    pub(crate) fn is_final(&self) -> bool {
        matches!(self.reason, Reason::Absent | Reason::Refused)
    }

    pub(crate) fn is_no_image(&self) -> bool {
        self.reason == Reason::NoImage
    }

    /// Tells the whole chain in a line: what was tried, then why it failed.
    pub fn chain(&self) -> String {
        let mut text = self.message.clone();
        let mut next = self.source();
        while let Some(error) = next {
            text.push_str(&format!(": {error}"));
            next = error.source();
        }
        text
    }
}

impl Display for FetchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for FetchError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&**self.source.as_ref()?)
    }
}

impl From<std::io::Error> for FetchError {
    fn from(error: std::io::Error) -> FetchError {
        FetchError::new(error.to_string())
    }
}

impl From<serde_json::Error> for FetchError {
    fn from(error: serde_json::Error) -> FetchError {
        FetchError::new(error.to_string())
    }
}

/// Adds to an error what was tried when it happened.
pub(crate) trait Context<T> {
    fn context(self, message: impl Display) -> Result<T>;
    fn with_context<M: Display>(self, message: impl FnOnce() -> M) -> Result<T>;
}

impl<T, E: Into<Box<dyn Error + Send + Sync>>> Context<T> for std::result::Result<T, E> {
    fn context(self, message: impl Display) -> Result<T> {
        self.with_context(|| message)
    }

    fn with_context<M: Display>(self, message: impl FnOnce() -> M) -> Result<T> {
        self.map_err(|error| {
            let source: Box<dyn Error + Send + Sync> = error.into();
            let reason = source.downcast_ref::<FetchError>().map_or(Reason::Other, |error| error.reason);
            FetchError { message: message().to_string(), reason, source: Some(source) }
        })
    }
}

/// Makes an error out of a format.
macro_rules! failure {
    ($($text:tt)*) => { $crate::error::FetchError::new(format!($($text)*)) };
}

/// Returns an error made out of a format.
macro_rules! bail {
    ($($text:tt)*) => { return Err($crate::error::failure!($($text)*)) };
}

pub(crate) use {bail, failure};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chain_is_told_from_the_outermost_operation_inwards_and_keeps_its_reason() {
        let inner: Result<()> = Err(FetchError::absent("http://a"));
        let error = inner.context("the add-on web").unwrap_err();
        assert_eq!(error.to_string(), "the add-on web");
        assert_eq!(error.chain(), "the add-on web: there is nothing at http://a");
        assert!(error.is_absent() && !error.is_no_image());
    }
}
