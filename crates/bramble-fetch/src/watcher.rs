//! Who is told what goes on.

/// Hears what goes on while something is fetched.
pub trait Watcher: Sync {
    /// Takes a line for people who watch.
    fn note(&self, text: &str);

    /// Takes how many bytes of a file have come, and how many it has where the server says so. The last call for a file
    /// has the same number twice.
    fn transfer(&self, what: &str, done: u64, total: Option<u64>);
}

/// Hears nothing.
#[cfg(test)]
pub(crate) struct Silent;

#[cfg(test)]
impl Watcher for Silent {
    fn note(&self, _: &str) {}
    fn transfer(&self, _: &str, _: u64, _: Option<u64>) {}
}
