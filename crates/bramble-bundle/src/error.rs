//! Errors of building a bundle.

/// An error of building a bundle.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An error of the machine that builds.
    #[error(transparent)]
    Lab(#[from] bramble_lab::Error),
    /// The list of a bundle's files cannot be made.
    #[error(transparent)]
    Fetch(#[from] bramble_fetch::FetchError),
    /// A bundle that cannot be used.
    #[error(transparent)]
    Bundle(#[from] bramble_kube::BundleError),
    /// The build gave something that cannot be used.
    #[error("{0}")]
    Built(String),
}
