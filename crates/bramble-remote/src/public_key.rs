//! Files of public keys, as people have them.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use russh::keys::{Algorithm, Certificate, PrivateKey, PublicKey, parse_public_key_base64};

/// Fewer bits of an RSA key are refused by sshd (sshd_config(5), `RequiredRSASize`).
const LEAST_RSA: usize = 1024;

/// Reads a file of public keys for an sshd: one in each line, as in authorized_keys (sshd(8)), also with options; one in the form of
/// RFC 4716, as PuTTY writes it; or the public half that stands in the open in an OpenSSH private key. Gives a line for each.
///
/// # Errors
/// The line or the file is no public key that an sshd takes, with what it is and what to do. No word of the file is told.
pub fn public_keys(bytes: &[u8]) -> Result<Vec<String>, String> {
    let text = bramble_files::utf8(bytes)?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if text.contains("PRIVATE KEY-----") || text.trim_start().starts_with("PuTTY-User-Key-File") {
        return Err("it holds a private key, which goes nowhere: name the file of its public half".into());
    }
    if text.contains("-----BEGIN") && text.contains("PUBLIC KEY-----") {
        return Err(
            "it is in the form PEM, which sshd does not read: `ssh-keygen -i -m PKCS8 -f FILE` converts it".into()
        );
    }
    if text.contains("---- BEGIN SSH2 PUBLIC KEY ----") {
        return Ok(vec![rfc4716(text)?]);
    }
    let mut keys = Vec::new();
    for (number, line) in (1..).zip(text.lines().map(str::trim)) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        // Nor what no YAML file may have (YAML 1.2, 5.1): some systems are told by one.
        if line.chars().any(|letter| letter.is_control() && letter != '\t' || u32::from(letter) & 0xfffe == 0xfffe) {
            return Err(format!(
                "line {number} has control characters in it, or others that no text has: write it again"
            ));
        }
        check(line).map_err(|why| format!("line {number} {why}"))?;
        keys.push(line.to_owned());
    }
    Ok(keys)
}

/// Tells whether a line is the public half of an OpenSSH private key, whatever its comment.
pub fn are_halves(private: &str, public: &str) -> bool {
    let key = |line: &str| line.split_whitespace().take(2).map(str::to_owned).collect::<Vec<_>>();
    public_half(private).is_some_and(|half| key(&half) == key(public))
}

/// Gives the public half that an OpenSSH private key has in the open, as a line.
pub fn public_half(private: &str) -> Option<String> {
    PrivateKey::from_openssh(private).ok()?.public_key().to_openssh().ok()
}

/// Tells whether an OpenSSH private key has a passphrase.
pub fn is_encrypted(private: &str) -> bool {
    PrivateKey::from_openssh(private).is_ok_and(|key| key.is_encrypted())
}

/// Tells whether a line is a key, with options before it or without.
fn check(line: &str) -> Result<(), String> {
    let key = is_type(line.split_whitespace().next().unwrap_or_default())
        .then_some(line)
        .map_or_else(|| behind_options(line), Ok)?;
    let mut words = key.split_whitespace();
    let (kind, encoded) = (words.next().unwrap_or_default(), words.next());
    let Some(encoded) = encoded else { return Err(format!("has the type {kind} and no key")) };
    if kind.contains("-cert-v01@") && Certificate::from_openssh(key).is_ok() {
        return Err("is a certificate, which lets nobody in by itself: name the key that it was made for".into());
    }
    if kind == "ssh-dss" {
        return Err("is a DSA key, which no sshd takes any more: make one with `ssh-keygen -t ed25519`".into());
    }
    let cut = || "has a part of a key: was it broken into several lines, or not copied to its end?".to_owned();
    let public = parse_public_key_base64(encoded).map_err(|_| cut())?;
    let own = public.algorithm();
    if !kind.starts_with("rsa-sha2-") && own.as_str() != kind {
        return Err(format!("says {kind}, and the key in it is {}", own.as_str()));
    }
    // What follows a whole key is no part of it.
    let whole = STANDARD.decode(encoded).ok().zip(public.to_bytes().ok());
    if whole.is_none_or(|(given, read)| given != read) {
        return Err(cut());
    }
    fits(&public)
}

fn fits(public: &PublicKey) -> Result<(), String> {
    if let Algorithm::Rsa { .. } = public.algorithm()
        && let Some(rsa) = public.key_data().rsa()
    {
        let bits = rsa
            .n()
            .as_positive_bytes()
            .map_or(0, |bytes| bytes.len() * 8 - bytes.first().map_or(0, |first| first.leading_zeros() as usize));
        if bits < LEAST_RSA {
            return Err(format!(
                "is an RSA key of {bits} bits, which no sshd takes: make one with `ssh-keygen -t ed25519`"
            ));
        }
    }
    Ok(())
}

fn is_type(word: &str) -> bool {
    ["ssh-", "ecdsa-", "sk-ssh-", "sk-ecdsa-"].iter().any(|kind| word.starts_with(kind))
}

/// The options of a line (sshd(8), "AUTHORIZED_KEYS FILE FORMAT"); one that sshd does not know makes the whole line none.
const OPTIONS: [&str; 24] = [
    "agent-forwarding",
    "cert-authority",
    "command",
    "environment",
    "expiry-time",
    "from",
    "no-agent-forwarding",
    "no-port-forwarding",
    "no-pty",
    "no-touch-required",
    "no-user-rc",
    "no-verify-required",
    "no-X11-forwarding",
    "permitlisten",
    "permitopen",
    "port-forwarding",
    "principals",
    "pty",
    "restrict",
    "tunnel",
    "user-rc",
    "verify-required",
    "touch-required",
    "X11-forwarding",
];

/// Gives what follows the options of a line of authorized_keys: words with commas between them, in which blanks stand between
/// double quotes.
fn behind_options(line: &str) -> Result<&str, String> {
    let none = || "is no public key".to_owned();
    let mut quoted = false;
    let mut escaped = false;
    let mut begins = 0;
    for (at, letter) in line.char_indices() {
        match letter {
            '"' if !escaped => quoted = !quoted,
            ',' | ' ' | '\t' if !quoted => {
                let name = line[begins..at].split('=').next().unwrap_or_default();
                begins = at + 1;
                let known = OPTIONS.iter().any(|option| option.eq_ignore_ascii_case(name));
                if letter == ',' && known {
                    continue;
                }
                let rest = line[at..].trim_start();
                let is_key = rest.split_whitespace().next().is_some_and(is_type);
                return match (known, is_key) {
                    (true, true) => Ok(rest),
                    (false, true) => {
                        Err(format!("has `{name}` before the key, which is no option of authorized_keys (sshd(8))"))
                    }
                    _ => Err(none()),
                };
            }
            _ => {}
        }
        escaped = letter == '\\' && !escaped;
    }
    Err(none())
}

/// Makes a line of a key in the form of RFC 4716.
fn rfc4716(text: &str) -> Result<String, String> {
    let mut lines = text.lines().map(str::trim).skip_while(|line| !line.starts_with("---- BEGIN SSH2"));
    lines.next();
    let (mut comment, mut encoded) = (String::new(), String::new());
    let mut in_header = false;
    let mut ends = false;
    for line in lines {
        if line.starts_with("---- END SSH2") {
            ends = true;
            break;
        }
        if in_header {
            in_header = line.ends_with('\\');
            continue;
        }
        match line.split_once(':') {
            Some((name, value)) => {
                in_header = line.ends_with('\\');
                if name.eq_ignore_ascii_case("comment") && !in_header {
                    comment = value.trim().trim_matches('"').to_owned();
                }
            }
            None => encoded.push_str(line),
        }
    }
    let public = parse_public_key_base64(&encoded).ok().filter(|_| ends).ok_or("it has only a part of a key")?;
    fits(&public).map_err(|why| format!("it {why}"))?;
    let comment: String = comment.chars().filter(|letter| !letter.is_control()).collect();
    let key = public.to_openssh().map_err(|error| error.to_string())?;
    Ok(format!("{} {comment}", key.trim()).trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIO5pZB0uvq46GqtMYH7hdeN0dRAPutx6jgDA+3Uh/Nn7";

    #[test]
    fn keys_are_taken_in_the_forms_in_which_people_have_them() {
        let blob = KEY.split_once(' ').unwrap().1;
        let (first, rest) = blob.split_at(40);
        for (text, wanted) in [
            (format!("{KEY} rack"), format!("{KEY} rack")),
            (format!("\u{feff}{KEY} rack\r\n"), format!("{KEY} rack")),
            (format!("# mine\n\n  {KEY}\t\n"), KEY.to_owned()),
            (
                format!("from=\"10.0.0.0/8, a \\\" b\",no-pty {KEY} x"),
                format!("from=\"10.0.0.0/8, a \\\" b\",no-pty {KEY} x"),
            ),
            (
                format!(
                    "---- BEGIN SSH2 PUBLIC KEY ----\r\nComment: \"rack key\"\r\nx-a: b\\\r\nc\r\n{first}\r\n{rest}\r\n---- END SSH2 PUBLIC KEY ----\r\n"
                ),
                format!("{KEY} rack key"),
            ),
        ] {
            assert_eq!(public_keys(text.as_bytes()), Ok(vec![wanted]), "{text}");
        }
    }

    #[test]
    fn options_are_those_of_sshd() {
        for options in
            ["restrict,command=\"a, b\"", "NO-PTY", "cert-authority,principals=\"a,b\"", "from=\"10.0.0.0/8\""]
        {
            assert!(public_keys(format!("{options} {KEY}").as_bytes()).is_ok(), "{options}");
        }
        for (before, name) in [("10.0.0.5", "10.0.0.5"), ("no-ptty", "no-ptty"), ("restrict,no-ptty", "no-ptty")] {
            let why = public_keys(format!("# mine\n{before} {KEY}").as_bytes()).unwrap_err();
            assert!(why.contains(&format!("line 2 has `{name}` before the key")), "{why}");
        }
        let why = public_keys(format!("{KEY}\n{KEY} K\u{fffe}\n").as_bytes()).unwrap_err();
        assert!(why.contains("line 2"), "{why}");
        let why = public_keys(&[KEY.as_bytes(), b"\n\xe4\n"].concat()).unwrap_err();
        assert!(why.contains("line 2 has bytes that are no UTF-8"), "{why}");
    }

    #[test]
    fn what_lets_nobody_in_is_refused_and_no_secret_is_told() {
        let utf16: Vec<u8> = [0xff, 0xfe].into_iter().chain(KEY.bytes().flat_map(|byte| [byte, 0])).collect();
        let broken = format!("{}\n{}", &KEY[..50], &KEY[50..]);
        let other = KEY.replacen("ssh-ed25519", "ssh-rsa", 1);
        let more = format!("{KEY}AAAA");
        for (text, says) in [
            (
                "-----BEGIN OPENSSH PRIVATE KEY-----\nSECRET\n-----END OPENSSH PRIVATE KEY-----\n".as_bytes(),
                "private key",
            ),
            (b"-----BEGIN RSA PRIVATE KEY-----\nSECRET\n", "private key"),
            (b"PuTTY-User-Key-File-3: ssh-rsa\nSECRET\n", "private key"),
            (b"-----BEGIN PUBLIC KEY-----\nSECRET\n", "ssh-keygen -i"),
            (b"---- BEGIN SSH2 PUBLIC KEY ----\nAAAA\n", "part of a key"),
            (&utf16, "UTF-16"),
            (b"ssh-rsa\n", "no key"),
            (b"hello world\n", "line 1 is no public key"),
            (broken.as_bytes(), "part of a key"),
            (&KEY.as_bytes()[..60], "part of a key"),
            (other.as_bytes(), "says ssh-rsa, and the key in it is ssh-ed25519"),
            (more.as_bytes(), "part of a key"),
            (b"ssh-ed25519 AAAA\x1b[2J SECRET", "control characters"),
            (b"\xff\xfa", "UTF-16|no UTF-8"),
        ] {
            let error = public_keys(text).unwrap_err();
            assert!(says.split('|').any(|says| error.contains(says)) && !error.contains("SECRET"), "{error}");
        }
        assert_eq!(public_keys(b"# none\n"), Ok(Vec::new()));
    }
}
