//! What a person sees: the one gate through which everything is printed, progress, and plans.

pub(crate) mod live;
pub(crate) mod plan;
pub(crate) mod plot;
pub(crate) mod printer;
pub(crate) mod progress;
pub(crate) mod quarters;
pub(crate) mod table;
pub(crate) mod transfer;
pub(crate) mod watch;
