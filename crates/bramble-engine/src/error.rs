//! Why the engine stopped.

use std::error::Error;
use std::fmt;

/// Gives a value, or why it cannot be had.
pub type Result<T> = std::result::Result<T, EngineError>;

/// Says why the engine stopped. Its text is that of the outermost operation; its sources say the rest.
pub struct EngineError(anyhow::Error);

impl EngineError {
    /// Tells the whole chain in a line: what was tried, then why it failed.
    pub fn chain(&self) -> String {
        format!("{:#}", self.0)
    }

    /// Finds an error of this type among the causes.
    pub fn cause<E: Error + Send + Sync + 'static>(&self) -> Option<&E> {
        self.0.downcast_ref()
    }
}

impl fmt::Debug for EngineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for EngineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl Error for EngineError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source()
    }
}

impl From<anyhow::Error> for EngineError {
    fn from(error: anyhow::Error) -> EngineError {
        EngineError(error)
    }
}

macro_rules! from {
    ($($error:ty),*) => {
        $(impl From<$error> for EngineError {
            fn from(error: $error) -> EngineError {
                EngineError(error.into())
            }
        })*
    };
}

from!(std::io::Error, bramble_fetch::FetchError, bramble_remote::ConnectError, tokio::task::JoinError);

/// Returns an error made out of a format.
macro_rules! bail {
    ($($text:tt)*) => { return Err(anyhow::anyhow!($($text)*).into()) };
}

pub(crate) use bail;
