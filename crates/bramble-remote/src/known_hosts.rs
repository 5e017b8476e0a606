//! The lines of known_hosts files (sshd(8), "SSH_KNOWN_HOSTS FILE FORMAT"), as ssh reads them.

use std::collections::HashMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use russh::keys::{PublicKey, parse_public_key_base64};
use sha1::Sha1;

/// What a line says of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Marker {
    /// It is the host's.
    Host,
    /// It signs certificates of hosts.
    Authority,
    /// It must not be trusted.
    Revoked,
}

/// What a file says. A thousand nodes look into it: plain names are found without a search.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    /// By host as known_hosts writes it: line number and key in base64.
    plain: HashMap<String, Vec<(usize, String)>>,
    /// The lines with markers, patterns, or digests of names.
    others: Vec<Line>,
}

#[derive(Debug)]
struct Line {
    number: usize,
    marker: Marker,
    hosts: String,
    key: String,
}

impl Lines {
    pub(crate) fn parse(text: &str) -> Lines {
        let mut lines = Lines::default();
        for (number, text) in (1..).zip(text.lines()) {
            let Some((marker, hosts, key)) = split(text) else { continue };
            if marker == Marker::Host && !hosts.contains(['*', '?', '!', '|']) {
                for host in hosts.split(',') {
                    lines.plain.entry(host.to_ascii_lowercase()).or_default().push((number, key.to_owned()));
                }
            } else {
                lines.others.push(Line { number, marker, hosts: hosts.to_owned(), key: key.to_owned() });
            }
        }
        lines
    }

    /// Gives the keys with a marker that are for a host, each with its line. `host`: as known_hosts writes it.
    pub(crate) fn keys(&self, marker: Marker, host: &str) -> Vec<(usize, PublicKey)> {
        let host = host.to_ascii_lowercase();
        let plain = self.plain.get(&host).filter(|_| marker == Marker::Host).into_iter().flatten();
        let plain = plain.map(|(number, key)| (*number, key));
        let others = self.others.iter().filter(|line| line.marker == marker && is_for(&line.hosts, &host));
        let mut keys: Vec<_> = plain.chain(others.map(|line| (line.number, &line.key))).collect();
        keys.sort_unstable_by_key(|(number, _)| *number);
        keys.into_iter().filter_map(|(number, key)| Some((number, parse_public_key_base64(key).ok()?))).collect()
    }

    /// Tells whether a host is known by this key (in base64), by its plain name.
    pub(crate) fn has_plain(&self, host: &str, key: &str) -> bool {
        self.plain.get(host).is_some_and(|keys| keys.iter().any(|(_, known)| known == key))
    }

    /// Adds a key (in base64) of a host; its line has no number before the file is read again.
    pub(crate) fn add(&mut self, host: &str, key: &str) {
        self.plain.entry(host.to_ascii_lowercase()).or_default().push((0, key.to_owned()));
    }
}

/// Gives the text of a file without the keys of a host; lines for others, too, stay for those.
pub(crate) fn without(text: &str, host: &str) -> String {
    let mut kept = String::new();
    for line in text.lines() {
        let is_own = |name: &str| name.eq_ignore_ascii_case(host) || is_hidden(name, &host.to_ascii_lowercase());
        match split(line) {
            Some((Marker::Host, hosts, _)) if hosts.split(',').any(is_own) => {
                let others: Vec<&str> = hosts.split(',').filter(|name| !is_own(name)).collect();
                if others.iter().any(|name| !name.starts_with('!')) {
                    kept.push_str(&line.replacen(hosts, &others.join(","), 1));
                    kept.push('\n');
                }
            }
            _ => {
                kept.push_str(line);
                kept.push('\n');
            }
        }
    }
    kept
}

/// Takes a line apart: marker, hosts, and key in base64.
fn split(line: &str) -> Option<(Marker, &str, &str)> {
    let mut words = line.split_whitespace().peekable();
    let marker = match *words.peek()? {
        "@revoked" => Marker::Revoked,
        "@cert-authority" => Marker::Authority,
        // Comments, and markers that nobody knows yet.
        word if word.starts_with(['#', '@']) => return None,
        _ => Marker::Host,
    };
    if marker != Marker::Host {
        words.next();
    }
    let (hosts, _, key) = (words.next()?, words.next()?, words.next()?);
    Some((marker, hosts, key))
}

/// Tells whether a list of names is for a host, in lower case: one of them means it, and none that begins with `!`.
fn is_for(hosts: &str, host: &str) -> bool {
    let mut found = false;
    for name in hosts.split(',') {
        match name.strip_prefix('!') {
            Some(name) if means(name, host) => return false,
            Some(_) => {}
            None => found |= means(name, host) || is_hidden(name, host),
        }
    }
    found
}

/// Tells whether a pattern means a text in lower case: `*` is any number of characters, `?` one.
pub(crate) fn means(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.to_ascii_lowercase().into_bytes(), text.as_bytes());
    let (mut at, mut from) = (0, 0);
    // Where the last `*` was, and how far it reaches.
    let mut star = None;
    while from < text.len() {
        match pattern.get(at) {
            Some(b'*') => {
                star = Some((at, from));
                at += 1;
            }
            Some(byte) if *byte == b'?' || *byte == text[from] => {
                at += 1;
                from += 1;
            }
            _ => {
                let Some((before, reach)) = star else { return false };
                star = Some((before, reach + 1));
                at = before + 1;
                from = reach + 1;
            }
        }
    }
    pattern[at..].iter().all(|byte| *byte == b'*')
}

/// Tells whether a name is the digest of a host's, as `HashKnownHosts` makes them (ssh_config(5)).
fn is_hidden(name: &str, host: &str) -> bool {
    let Some((salt, digest)) = name.strip_prefix("|1|").and_then(|rest| rest.split_once('|')) else { return false };
    let (Ok(salt), Ok(digest)) = (STANDARD.decode(salt), STANDARD.decode(digest)) else { return false };
    let Ok(mut hmac) = Hmac::<Sha1>::new_from_slice(&salt) else { return false };
    hmac.update(host.as_bytes());
    hmac.verify_slice(&digest).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_mean_what_they_mean_to_ssh() {
        for (hosts, host, wanted) in [
            ("10.77.0.*", "10.77.0.50", true),
            ("10.77.0.*,!10.77.0.50", "10.77.0.50", false),
            ("!10.77.0.50,10.77.0.*", "10.77.0.51", true),
            ("!10.77.0.50", "10.77.0.51", false),
            ("kube?", "kube1", true),
            ("kube?", "kube12", false),
            ("*", "[10.0.0.1]:2222", true),
            ("[*]:2222", "[10.0.0.1]:2222", true),
            ("*a*b*", "xaxxbx", true),
            ("*a*b", "xaxxbx", false),
            ("KUBE1", "kube1", true),
        ] {
            assert_eq!(is_for(hosts, host), wanted, "{hosts} {host}");
        }
    }

    #[test]
    fn a_pattern_of_many_stars_takes_no_time() {
        assert!(!means(&"*a".repeat(1000), &"a".repeat(999)));
    }

    #[test]
    fn a_host_is_taken_out_of_its_lines_and_others_stay() {
        let text = "# mine\n10.0.0.1 ssh-ed25519 A\nkube1,10.0.0.1 ssh-ed25519 A\n@revoked 10.0.0.1 ssh-ed25519 B\n10.0.0.12 ssh-ed25519 C";
        let left = "# mine\nkube1 ssh-ed25519 A\n@revoked 10.0.0.1 ssh-ed25519 B\n10.0.0.12 ssh-ed25519 C\n";
        assert_eq!(without(text, "10.0.0.1"), left);
    }
}
