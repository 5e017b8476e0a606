//! Signatures of what is fetched, and the keys that are pinned in the program (OpenPGP, RFC 9580).

use std::borrow::Cow;
use std::io::{BufReader, Cursor, Read};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use pgp::composed::{Deserializable, DetachedSignature, SignedPublicKey};
use pgp::crypto::hash::HashAlgorithm;
use pgp::packet::{Signature, SignatureType};
use pgp::types::{KeyDetails, Tag};

use crate::error::{Context, Result, bail, failure};

/// Larger than any file of signatures or keys.
pub(crate) const SIGNATURE_LIMIT: u64 = 256 * 1024;

/// A public key that this program has in it.
pub(crate) struct PinnedKey {
    /// Whose key it is, as it says itself.
    pub(crate) name: Cow<'static, str>,
    /// In hexadecimal digits, upper case.
    pub(crate) fingerprint: Cow<'static, str>,
    pub(crate) armored: Cow<'static, str>,
}

/// Where somebody publishes images, and how they are signed.
pub(crate) struct Signer {
    /// The beginnings of addresses, without the scheme.
    pub(crate) places: Vec<Cow<'static, str>>,
    pub(crate) way: Way,
    pub(crate) key: PinnedKey,
}

/// What a signature is of.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// Of the file: `FILE.sig` lies beside it.
    File,
    /// Of the list of digests in its folder, `SHA256SUMS`: `SHA256SUMS.gpg`.
    Digests,
}

/// Lists those whose images are signed with keys that are pinned here.
pub(crate) fn signers() -> Vec<Signer> {
    let places = |all: &[&'static str]| all.iter().map(|place| Cow::Borrowed(*place)).collect();
    vec![
        // www.raspberrypi.com/documentation/computers/getting-started.html; each image has a `.sig` beside it.
        Signer {
            places: places(&["downloads.raspberrypi.com/rasp", "downloads.raspberrypi.org/rasp"]),
            way: Way::File,
            key: PinnedKey {
                name: "Raspberry Pi Downloads Signing Key".into(),
                fingerprint: "54C3DD610D9D1B4AF82A37758738CD6B956F460C".into(),
                armored: include_str!("../keys/raspberrypi-downloads.asc").into(),
            },
        },
        // ubuntu.com/tutorials/how-to-verify-ubuntu
        Signer {
            places: places(&["cdimage.ubuntu.com/", "releases.ubuntu.com/", "old-releases.ubuntu.com/"]),
            way: Way::Digests,
            key: PinnedKey {
                name: "Ubuntu CD Image Automatic Signing Key (2012)".into(),
                fingerprint: "843938DF228D22F7B3742BC0D94AA3F0EFE21092".into(),
                armored: include_str!("../keys/ubuntu-cdimage-2012.asc").into(),
            },
        },
    ]
}

/// Finds who signs what is at an address.
pub(crate) fn signer_of<'a>(signers: &'a [Signer], url: &str) -> Option<&'a Signer> {
    let (_, place) = url.split_once("://")?;
    let place = place.to_ascii_lowercase();
    signers.iter().find(|signer| signer.places.iter().any(|known| place.starts_with(&**known)))
}

impl PinnedKey {
    /// Checks that this key has signed some data. `signatures`: all of them, as upstream publishes them, binary or
    /// armored; `what`: the name of the data, for people.
    ///
    /// # Errors
    /// No signature is of this key, or it is of other data, too weak, or made when the key had expired.
    pub(crate) fn verify(&self, signatures: &[u8], data: impl Read, what: &str) -> Result<()> {
        let way_out = "if you trust the file nevertheless, give its `sha256` in the cluster file";
        let key = self.open()?;
        let all = parsed(signatures).with_context(|| format!("the signature of {what} cannot be read"))?;
        let is_own = |signature: &&Signature| {
            signature.issuer_fingerprint().contains(&&key.fingerprint())
                || signature.issuer_key_id().contains(&&key.legacy_key_id())
        };
        let own = all.iter().find(is_own).ok_or_else(|| {
            let others: Vec<String> =
                all.iter().flat_map(Signature::issuer_key_id).map(|id| id.to_string().to_ascii_uppercase()).collect();
            failure!(
                "{what} is not signed with the key of its publisher ({}, {}), but with {}: it is refused; {way_out}",
                self.name,
                self.fingerprint,
                if others.is_empty() { "an unknown one".to_owned() } else { others.join(", ") }
            )
        })?;
        let strong = matches!(
            own.hash_alg(),
            Some(
                HashAlgorithm::Sha256
                    | HashAlgorithm::Sha384
                    | HashAlgorithm::Sha512
                    | HashAlgorithm::Sha3_256
                    | HashAlgorithm::Sha3_512
            )
        );
        if !strong || own.typ() != Some(SignatureType::Binary) {
            bail!("the signature of {what} is of a kind that proves nothing any more: it is refused; {way_out}");
        }
        own.verify(&key.primary_key, data).map_err(|_| {
            failure!(
                "{what} is not what {} ({}) has signed: it was altered, and is refused",
                self.name,
                self.fingerprint
            )
        })?;
        let made = own.created().map_or(0, |time| u64::from(time.as_secs()));
        if let Some(end) = expiry(&key)
            && made >= end
        {
            bail!(
                "{what} was signed after the key of its publisher ({}) had expired, as far as this bramble knows: \
                 update bramble, which may know a longer term; {way_out}",
                self.name
            );
        }
        let lasts = own.signature_expiration_time().map_or(0, |time| u64::from(time.as_secs()));
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs();
        if lasts > 0 && made + lasts <= now {
            bail!("the signature of {what} has expired: it is refused; {way_out}");
        }
        Ok(())
    }

    fn open(&self) -> Result<SignedPublicKey> {
        let cannot = || format!("the key of {} cannot be used", self.name);
        let (key, _) = SignedPublicKey::from_string(&self.armored).with_context(cannot)?;
        if fingerprint(&key) != self.fingerprint {
            bail!("the key of {} has the fingerprint {}, not {}", self.name, fingerprint(&key), self.fingerprint);
        }
        Ok(key)
    }
}

/// Lists the fingerprints of the keys in an armored text, in hexadecimal digits, upper case.
///
/// # Errors
/// It is no text of keys.
pub(crate) fn fingerprints(armored: &str) -> Result<Vec<String>> {
    if armored.len() as u64 > SIGNATURE_LIMIT {
        bail!("it is larger than a key");
    }
    let (keys, _) = SignedPublicKey::from_armor_many(Cursor::new(armored)).context("it is no OpenPGP key")?;
    let all: Vec<String> =
        keys.map(|key| Ok(fingerprint(&key?))).collect::<pgp::errors::Result<_>>().context("it is no OpenPGP key")?;
    if all.is_empty() {
        bail!("it holds no OpenPGP key");
    }
    Ok(all)
}

fn fingerprint(key: &SignedPublicKey) -> String {
    format!("{:X}", key.fingerprint())
}

fn parsed(signatures: &[u8]) -> Result<Vec<Signature>> {
    if signatures.len() as u64 > SIGNATURE_LIMIT {
        bail!("it is larger than a signature");
    }
    let (all, _) =
        DetachedSignature::from_reader_many(BufReader::new(signatures)).context("it is no OpenPGP signature")?;
    let all: Vec<Signature> = all.filter_map(|one| Some(one.ok()?.signature)).collect();
    if all.is_empty() {
        bail!("it is no OpenPGP signature");
    }
    Ok(all)
}

/// Tells when a key expires, by the newest word that it has said about itself: in seconds since 1970; `None` if never.
fn expiry(key: &SignedPublicKey) -> Option<u64> {
    let primary = &key.primary_key;
    let newest = key.details.users.iter().flat_map(|user| {
        let own = |signature: &&Signature| signature.verify_certification(primary, Tag::UserId, &user.id).is_ok();
        user.signatures.iter().filter(own)
    });
    let term = newest.max_by_key(|signature| signature.created().map(|time| time.as_secs()))?.key_expiration_time()?;
    (term.as_secs() > 0).then(|| u64::from(primary.created_at().as_secs()) + u64::from(term.as_secs()))
}

#[cfg(test)]
pub(crate) mod samples;

#[cfg(test)]
mod tests {
    use super::samples::{IMAGE, key};
    use super::*;

    fn verify(name: &str, signature: &[u8], data: &[u8]) -> String {
        key(name).verify(signature, data, "the image").err().map_or_else(String::new, |error| error.chain())
    }

    #[test]
    fn a_signature_of_the_pinned_key_is_good() {
        assert_eq!(verify("own", include_bytes!("signatures/samples/image.sig"), IMAGE), "");
    }

    #[test]
    fn of_several_signatures_the_one_of_the_pinned_key_counts() {
        let sums = include_bytes!("signatures/samples/SHA256SUMS");
        assert_eq!(verify("own", include_bytes!("signatures/samples/SHA256SUMS.gpg"), sums), "");
    }

    #[test]
    fn what_was_altered_is_refused() {
        let error = verify("own", include_bytes!("signatures/samples/image.sig"), b"another image\n");
        assert!(error.contains("it was altered, and is refused"), "{error}");
    }

    #[test]
    fn the_signature_of_another_key_is_refused_with_both_names() {
        let error = verify("own", include_bytes!("signatures/samples/image.other.sig"), IMAGE);
        assert!(error.contains("F27958CEFD76DC473D71BCACFBAE44CB287EFAD9), but with B43942572877E901"), "{error}");
    }

    #[test]
    fn a_signature_with_sha_1_is_refused() {
        let error = verify("own", include_bytes!("signatures/samples/image.sha1.sig"), IMAGE);
        assert!(error.contains("proves nothing any more"), "{error}");
    }

    #[test]
    fn what_was_signed_before_the_key_expired_stays_good() {
        assert_eq!(verify("expired", include_bytes!("signatures/samples/image.before-expiry.sig"), IMAGE), "");
    }

    #[test]
    fn what_was_signed_after_the_key_expired_is_refused() {
        let error = verify("expired", include_bytes!("signatures/samples/image.after-expiry.sig"), IMAGE);
        assert!(error.contains("had expired") && error.contains("update bramble"), "{error}");
    }

    #[test]
    fn a_web_page_is_no_signature() {
        let error = verify("own", b"<!doctype html><title>Not here</title>", IMAGE);
        assert!(error.contains("no OpenPGP signature"), "{error}");
    }

    #[test]
    fn a_key_of_another_fingerprint_is_not_used() {
        let wrong = PinnedKey { fingerprint: "00".repeat(20).into(), ..key("own") };
        let error =
            wrong.verify(include_bytes!("signatures/samples/image.sig"), IMAGE, "the image").unwrap_err().chain();
        assert!(error.contains("has the fingerprint F27958CE"), "{error}");
    }

    #[test]
    fn the_keys_that_are_pinned_have_the_fingerprints_that_upstream_publishes() {
        for signer in signers() {
            assert!(signer.key.open().is_ok(), "{}", signer.key.name);
        }
    }

    #[test]
    fn a_list_that_ubuntu_signed_is_good() {
        let signers = signers();
        let ubuntu = signer_of(&signers, "https://cdimage.ubuntu.com/lubuntu/releases/18.04/release/x.iso").unwrap();
        let sums = include_bytes!("signatures/samples/ubuntu/SHA256SUMS");
        let signature = include_bytes!("signatures/samples/ubuntu/SHA256SUMS.gpg");
        ubuntu.key.verify(signature, &sums[..], "SHA256SUMS").unwrap();
    }

    #[test]
    fn a_publisher_is_known_by_the_whole_name_of_its_host() {
        let signers = signers();
        for (url, known) in [
            ("https://downloads.raspberrypi.com/raspios_lite_arm64/images/a/a.img.xz", true),
            ("http://DOWNLOADS.raspberrypi.org/raspios_lite_arm64/images/a/a.img.xz", true),
            ("https://downloads.raspberrypi.com.example.org/raspios/a.img.xz", false),
            ("https://example.org/cdimage.ubuntu.com/a.img.xz", false),
        ] {
            assert_eq!(signer_of(&signers, url).is_some(), known, "{url}");
        }
    }
}
