//! The administrator's certificate and key, out of a kubeconfig that a node shows.
//!
//! A node can show what it likes, and a kubeconfig can hold programs that kubectl starts (`exec`), files that it reads and
//! servers that it sends secrets to. So nothing is taken but certificates and a key, which are read to their DER and written
//! anew.

use std::fmt::Write;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use rustls_pki_types::pem::{PemObject, SectionKind};
use serde::Deserialize;

/// How many bytes a kubeconfig may have: those of control planes have six thousand.
const FILE_LIMIT: usize = 256 << 10;
/// How many bytes of PEM a value may have: a chain of certificates with RSA keys has less than three thousand for each.
const VALUE_LIMIT: usize = 32 << 10;
/// How many certificates a value may have.
const CHAIN_LIMIT: usize = 8;

/// Where a kubeconfig has its values, as errors name them.
const AUTHORITY: &str = "certificate-authority-data";
const CERTIFICATE: &str = "client-certificate-data";
const KEY: &str = "client-key-data";

/// What kubectl needs to be the administrator of a cluster. Each is PEM in base64, as a kubeconfig has it.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The certificates of those who sign the API's.
    pub authority: String,
    /// The administrator's certificate, and those between it and the authority.
    pub certificate: String,
    /// Its private key.
    pub key: String,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").field("authority", &self.authority).finish_non_exhaustive()
    }
}

/// Says what a node's kubeconfig lacks, or has too much of. No text of the node is in it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CredentialsError {
    /// It is too long.
    #[error("it has {0} bytes, and bramble reads at most {FILE_LIMIT}")]
    TooLong(usize),
    /// It cannot be read.
    #[error("it is not a kubeconfig")]
    NotAKubeconfig,
    /// It has more or less than one cluster or user.
    #[error("its `{list}` has {found} entries instead of one")]
    Entries {
        /// `clusters` or `users`.
        list: &'static str,
        /// How many there are.
        found: usize,
    },
    /// A value is not there.
    #[error("it has no `{0}`")]
    Missing(&'static str),
    /// A value is not what it should be.
    #[error("its `{value}` {why}")]
    Odd {
        /// Its key.
        value: &'static str,
        /// What is wrong with it.
        why: &'static str,
    },
}

#[derive(Deserialize)]
struct Kubeconfig {
    #[serde(default)]
    clusters: Vec<NamedCluster>,
    #[serde(default)]
    users: Vec<NamedUser>,
}

#[derive(Deserialize)]
struct NamedCluster {
    cluster: Cluster,
}

#[derive(Deserialize)]
struct Cluster {
    #[serde(rename = "certificate-authority-data")]
    authority: Option<String>,
}

#[derive(Deserialize)]
struct NamedUser {
    user: User,
}

#[derive(Deserialize)]
struct User {
    #[serde(rename = "client-certificate-data")]
    certificate: Option<String>,
    #[serde(rename = "client-key-data")]
    key: Option<String>,
}

impl Credentials {
    /// Takes the credentials out of the text of a kubeconfig with one cluster and one user. All else in it is ignored.
    ///
    /// # Errors
    ///
    /// Fails if the text is too long or not a kubeconfig, or if a value is missing, too long, or not PEM of its kind.
    pub fn from_kubeconfig(text: &str) -> Result<Credentials, CredentialsError> {
        if text.len() > FILE_LIMIT {
            return Err(CredentialsError::TooLong(text.len()));
        }
        let file: Kubeconfig = serde_saphyr::from_str(text).map_err(|_| CredentialsError::NotAKubeconfig)?;
        let cluster = one("clusters", file.clusters)?.cluster;
        let user = one("users", file.users)?.user;
        Ok(Credentials {
            authority: checked(AUTHORITY, cluster.authority, CHAIN_LIMIT, is_certificate)?,
            certificate: checked(CERTIFICATE, user.certificate, CHAIN_LIMIT, is_certificate)?,
            key: checked(KEY, user.key, 1, is_key)?,
        })
    }
}

fn one<T>(list: &'static str, mut entries: Vec<T>) -> Result<T, CredentialsError> {
    match (entries.pop(), entries.len()) {
        (Some(entry), 0) => Ok(entry),
        (last, rest) => Err(CredentialsError::Entries { list, found: rest + usize::from(last.is_some()) }),
    }
}

fn is_certificate(kind: &SectionKind) -> bool {
    matches!(kind, SectionKind::Certificate)
}

fn is_key(kind: &SectionKind) -> bool {
    matches!(kind, SectionKind::PrivateKey | SectionKind::RsaPrivateKey | SectionKind::EcPrivateKey)
}

/// Reads a value to the DER in it, and writes that as PEM in base64 again.
fn checked(
    value: &'static str,
    found: Option<String>,
    most: usize,
    fits: fn(&SectionKind) -> bool,
) -> Result<String, CredentialsError> {
    let odd = |why| CredentialsError::Odd { value, why };
    let text = found.filter(|text| !text.is_empty()).ok_or(CredentialsError::Missing(value))?;
    if text.len() / 4 * 3 > VALUE_LIMIT {
        return Err(odd("is too long"));
    }
    let pem = BASE64_STANDARD.decode(&text).map_err(|_| odd("is not base64"))?;
    let mut out = String::new();
    let mut count = 0;
    for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(&pem) {
        let (kind, der) = section.map_err(|_| odd("is not PEM"))?;
        if !fits(&kind) {
            return Err(odd("holds PEM of another kind"));
        }
        if !is_der(&der) {
            return Err(odd("holds something else than DER"));
        }
        count += 1;
        write_pem(&mut out, label(&kind), &der);
    }
    match count {
        0 => Err(odd("holds no PEM of its kind")),
        _ if count > most => Err(odd("holds too many of its kind")),
        _ => Ok(BASE64_STANDARD.encode(out)),
    }
}

fn label(kind: &SectionKind) -> &'static str {
    match kind {
        SectionKind::RsaPrivateKey => "RSA PRIVATE KEY",
        SectionKind::EcPrivateKey => "EC PRIVATE KEY",
        SectionKind::PrivateKey => "PRIVATE KEY",
        _ => "CERTIFICATE",
    }
}

/// Tells whether bytes are one sequence in DER (X.690, 8.1), which all certificates and keys are.
fn is_der(bytes: &[u8]) -> bool {
    let (Some(0x30), Some(&first)) = (bytes.first(), bytes.get(1)) else { return false };
    let (length, head) = match first {
        0..=0x7f => (usize::from(first), 2),
        0x81..=0x83 => {
            let digits = usize::from(first & 0x7f);
            let Some(digits) = bytes.get(2..2 + digits) else { return false };
            (digits.iter().fold(0, |sum, digit| sum << 8 | usize::from(*digit)), 2 + digits.len())
        }
        _ => return false,
    };
    length > 0 && bytes.len() == head + length
}

/// Writes one section of PEM (RFC 7468).
fn write_pem(out: &mut String, label: &str, der: &[u8]) {
    let encoded = BASE64_STANDARD.encode(der);
    writeln!(out, "-----BEGIN {label}-----").unwrap_or_default();
    let mut rest = encoded.as_str();
    while !rest.is_empty() {
        let (line, more) = rest.split_at(rest.len().min(64));
        writeln!(out, "{line}").unwrap_or_default();
        rest = more;
    }
    writeln!(out, "-----END {label}-----").unwrap_or_default();
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pem(label: &str, der: &[u8]) -> String {
        let mut text = String::new();
        write_pem(&mut text, label, der);
        text
    }

    fn value(text: &str) -> String {
        BASE64_STANDARD.encode(text)
    }

    /// A sequence in DER of that many bytes.
    fn der(length: u16) -> Vec<u8> {
        let [high, low] = length.to_be_bytes();
        [vec![0x30, 0x82, high, low], vec![7; length.into()]].concat()
    }

    fn certificate() -> String {
        value(&pem("CERTIFICATE", &der(300)))
    }

    fn key() -> String {
        value(&pem("EC PRIVATE KEY", &der(60)))
    }

    /// A kubeconfig as kubeadm writes it, with these values.
    fn file(authority: &str, certificate: &str, key: &str) -> String {
        format!(
            "apiVersion: v1\nkind: Config\nclusters:\n- name: kubernetes\n  cluster:\n    server: https://10.0.0.1:6443\n    \
             certificate-authority-data: {authority}\nusers:\n- name: kubernetes-admin\n  user:\n    \
             client-certificate-data: {certificate}\n    client-key-data: {key}\n"
        )
    }

    fn refused(text: &str) -> String {
        Credentials::from_kubeconfig(text).unwrap_err().to_string()
    }

    #[test]
    fn the_certificates_and_the_key_are_taken() {
        let taken = Credentials::from_kubeconfig(&file(&certificate(), &certificate(), &key())).unwrap();
        assert_eq!(taken, Credentials { authority: certificate(), certificate: certificate(), key: key() });
    }

    #[test]
    fn keys_of_each_form_are_taken() {
        for label in ["PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY"] {
            let key = value(&pem(label, &der(60)));
            assert_eq!(Credentials::from_kubeconfig(&file(&certificate(), &certificate(), &key)).unwrap().key, key);
        }
    }

    #[test]
    fn a_chain_of_certificates_is_taken_whole() {
        let chain = value(&format!("{}{}", pem("CERTIFICATE", &der(300)), pem("CERTIFICATE", &der(400))));
        let taken = Credentials::from_kubeconfig(&file(&certificate(), &chain, &key())).unwrap();
        assert_eq!(taken.certificate, chain);
    }

    #[test]
    fn text_around_a_certificate_is_left_out() {
        let around = value(&format!("# run this\nexec: /bin/sh\n{}trailing\n", pem("CERTIFICATE", &der(300))));
        let taken = Credentials::from_kubeconfig(&file(&around, &certificate(), &key())).unwrap();
        assert_eq!(taken.authority, certificate());
    }

    #[test]
    fn what_else_a_user_has_is_ignored() {
        let more = "    exec: { apiVersion: client.authentication.k8s.io/v1, command: /bin/sh, args: [-c, id] }\n    \
                    token: abc\n    tokenFile: /etc/shadow\n    auth-provider: { name: x }\n    as: root\n";
        let text = format!("{}{more}extensions: [{{ name: x }}]\n", file(&certificate(), &certificate(), &key()));
        let taken = Credentials::from_kubeconfig(&text).unwrap();
        assert_eq!(taken, Credentials { authority: certificate(), certificate: certificate(), key: key() });
    }

    #[test]
    fn odd_values_are_refused_by_their_names() {
        let (good, key) = (certificate(), key());
        let long = value(&pem("CERTIFICATE", &vec![0; VALUE_LIMIT]));
        let many = value(&pem("CERTIFICATE", &der(10)).repeat(9));
        let odd_der = value(&pem("CERTIFICATE", b"exec: sh"));
        let cut = value("-----BEGIN CERTIFICATE-----\nMAA=\n");
        for (authority, certificate, key, why) in [
            ("'!'", &*good, &*key, "its `certificate-authority-data` is not base64"),
            ("{ a: b }", &*good, &*key, "it is not a kubeconfig"),
            ("[a]", &*good, &*key, "it is not a kubeconfig"),
            ("''", &*good, &*key, "it has no `certificate-authority-data`"),
            (&*good, "QUJD", &*key, "its `client-certificate-data` holds no PEM of its kind"),
            (&*good, &*key, &*key, "its `client-certificate-data` holds PEM of another kind"),
            (&*good, &*good, &*good, "its `client-key-data` holds PEM of another kind"),
            (&*long, &*good, &*key, "its `certificate-authority-data` is too long"),
            (&*good, &*many, &*key, "its `client-certificate-data` holds too many of its kind"),
            (&*good, &*odd_der, &*key, "its `client-certificate-data` holds something else than DER"),
            (&*cut, &*good, &*key, "its `certificate-authority-data` is not PEM"),
        ] {
            assert_eq!(refused(&file(authority, certificate, key)), why);
        }
    }

    #[test]
    fn an_encrypted_key_is_no_key() {
        let encrypted = value(&pem("ENCRYPTED PRIVATE KEY", &der(60)));
        let why = refused(&file(&certificate(), &certificate(), &encrypted));
        assert_eq!(why, "its `client-key-data` holds no PEM of its kind");
    }

    #[test]
    fn a_file_with_two_users_or_none_is_refused() {
        let text = file(&certificate(), &certificate(), &key());
        let two = format!("{text}- name: other\n  user: {{ token: x }}\n");
        let none = text.split("users:").next().unwrap();
        assert_eq!(refused(&two), "its `users` has 2 entries instead of one");
        assert_eq!(refused(none), "its `users` has 0 entries instead of one");
    }

    #[test]
    fn a_key_that_is_given_twice_is_refused() {
        let text = format!("{}    client-key-data: {}\n", file(&certificate(), &certificate(), &key()), key());
        assert_eq!(refused(&text), "it is not a kubeconfig");
    }

    #[test]
    fn a_file_without_end_is_refused() {
        assert_eq!(refused(&"a".repeat(FILE_LIMIT + 1)), "it has 262145 bytes, and bramble reads at most 262144");
    }

    /// Aliases of aliases, which would be gigabytes when they are written out.
    #[test]
    fn a_bomb_is_refused() {
        let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for at in 1..12 {
            let list = vec![format!("*a{}", at - 1); 10].join(", ");
            text.push_str(&format!("a{at}: &a{at} [{list}]\n"));
        }
        text.push_str("clusters: *a11\n");
        assert_eq!(refused(&text), "it is not a kubeconfig");
    }

    #[test]
    fn a_key_is_not_shown_by_a_debug_print() {
        let taken = Credentials::from_kubeconfig(&file(&certificate(), &certificate(), &key())).unwrap();
        assert!(!format!("{taken:?}").contains(&key()));
    }

    proptest! {
        /// Whatever a node shows: what is taken is PEM in base64, and is the same when it is taken again.
        #[test]
        fn what_is_taken_is_nothing_but_pem(
            authority in part(), certificate in part(), key in part(), more in "[ -~\n]{0,80}"
        ) {
            let text = format!("{}{more}", file(&authority, &certificate, &key));
            if let Ok(taken) = Credentials::from_kubeconfig(&text) {
                for value in [&taken.authority, &taken.certificate, &taken.key] {
                    let pem = String::from_utf8(BASE64_STANDARD.decode(value).unwrap()).unwrap();
                    prop_assert!(pem.lines().all(|line| line.starts_with("-----") || BASE64_STANDARD.decode(line).is_ok()));
                }
                let again = Credentials::from_kubeconfig(&file(&taken.authority, &taken.certificate, &taken.key));
                prop_assert_eq!(again, Ok(taken));
            }
        }

        #[test]
        fn no_text_makes_it_panic(text in "\\PC{0,300}") {
            prop_assert!(Credentials::from_kubeconfig(&text).is_err());
        }
    }

    /// Values: good ones, PEM with text around it, and anything.
    fn part() -> impl Strategy<Value = String> {
        prop_oneof![
            3 => Just(certificate()),
            3 => Just(key()),
            2 => "[ -~\n]{0,40}".prop_map(|text| value(&format!("{text}\n{}", pem("CERTIFICATE", &der(50))))),
            1 => proptest::collection::vec(any::<u8>(), 0..60).prop_map(|bytes| BASE64_STANDARD.encode(bytes)),
            1 => "[ -~]{0,30}",
        ]
    }
}
