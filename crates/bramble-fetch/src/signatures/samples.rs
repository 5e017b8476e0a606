//! Keys that gpg made for tests, and what they signed.

use super::PinnedKey;

/// What was signed.
pub(crate) const IMAGE: &[u8] = include_bytes!("samples/image");

/// Gives a key by the name of its file: `own`, `other`, or `expired` (in 2021).
pub(crate) fn key(name: &str) -> PinnedKey {
    let (fingerprint, armored) = match name {
        "own" => ("F27958CEFD76DC473D71BCACFBAE44CB287EFAD9", include_str!("samples/own.asc")),
        "other" => ("231E81604B2D27930E150FD7B43942572877E901", include_str!("samples/other.asc")),
        "expired" => ("9A34BC2DC1A505312AB8E4C89FCF42F8B0761BBE", include_str!("samples/expired.asc")),
        other => panic!("there is no key {other}"),
    };
    PinnedKey { name: "bramble test".into(), fingerprint: fingerprint.into(), armored: armored.into() }
}
