//! The forms of texts in a cluster file.

pub(super) fn is_user_byte(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"._-".contains(&b)
}

/// An absolute path below the root that can stand in a command or a configuration as it is.
pub(super) fn is_folder(path: &str) -> bool {
    path.len() > 1
        && path.starts_with('/')
        && path.bytes().all(|b| b.is_ascii_alphanumeric() || b"/._-".contains(&b))
        && !path.split('/').any(|part| part == "..")
}

pub(super) fn is_http(url: &str) -> bool {
    url.strip_prefix("https://")
        .or(url.strip_prefix("http://"))
        .is_some_and(|rest| !rest.is_empty() && !rest.contains(char::is_whitespace))
}

pub(super) fn is_label_value(text: &str) -> bool {
    let edge = |c: char| c.is_ascii_alphanumeric();
    text.is_empty()
        || (text.len() <= 63
            && text.starts_with(edge)
            && text.ends_with(edge)
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)))
}

pub(super) fn is_label_key(text: &str) -> bool {
    let (prefix, name) = text.split_once('/').unwrap_or(("", text));
    let prefix_ok = prefix.len() <= 253
        && prefix.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-.".contains(&b));
    let has_prefix = text.contains('/');
    prefix_ok && (!has_prefix || !prefix.is_empty()) && !name.is_empty() && is_label_value(name)
}

/// What ends a line, or what no line of text has.
pub(super) fn has_control(text: &str) -> bool {
    text.chars().any(|letter| letter.is_control() && letter != '\t')
}
