//! Why a bundle could not be made.

/// Why a bundle could not be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Something of the machine below did not work.
    #[error(transparent)]
    Lab(#[from] bramble_lab::Error),
    /// A bundle that cannot be used.
    #[error(transparent)]
    Bundle(#[from] bramble_kube::BundleError),
    /// What was built is not what it should be.
    #[error("{0}")]
    Built(String),
}
