//! Add-ons that MicroK8s itself has: it is told to enable and to disable them.

/// The beginning of these add-ons' names.
const PREFIX: &str = "microk8s-";

/// Gives the name by which MicroK8s enables it, with its argument.
pub(super) fn enabled(name: &str, argument: Option<&str>) -> String {
    argument.map_or_else(|| name.to_owned(), |argument| format!("{name}:{argument}"))
}

/// Gives the name by which MicroK8s disables the add-on that a cluster calls so; `None` if it is not one of these.
pub(super) fn disabled(addon: &str) -> Option<&str> {
    addon.strip_prefix(PREFIX)
}

/// Says what enabling it is, in words.
pub(super) fn words(enabled: &str) -> String {
    format!("microk8s enable {enabled}")
}
