//! What must hold of any bytes: nothing panics or goes on for ever, and what is changed lies where it may.

use std::collections::BTreeMap;
use std::io::{Cursor, Read};

use bramble_image::{HostKey, Identity, Wifi, board, boot_partition, decompress, unpacked_size};
use bramble_spec::Arch;

/// A disk: its partition table, and the FAT of its boot partition.
pub(crate) fn disk(bytes: &[u8]) {
    let identity = Identity {
        name: "kube1".parse().expect("a name"),
        user: "dietpi".into(),
        keys: vec!["ssh-ed25519 AAAA".into()],
        host_key: HostKey { private: "private\n".repeat(8), public: "public".into() },
        instance: "shelf-kube1-0".into(),
        password: "0".repeat(32),
        address: None,
        sides: None,
        arch: Arch::Arm64,
        wifi: Some(Wifi { country: "DE".into(), join: Some(("shelf".into(), "0".repeat(64))) }),
        swap_off: true,
        mac: None,
        timezone: Some("Europe/Berlin".into()),
        locale: None,
        kernel_args: vec!["cgroup_enable=memory".into()],
        boot_config: BTreeMap::from([("gpu_mem".to_owned(), vec!["16".to_owned()])]),
    };
    let Ok((_, changes)) = board(&mut Cursor::new(bytes), &identity) else { return };
    let boot = boot_partition(&mut Cursor::new(bytes)).expect("it was written");
    for change in changes {
        let end = change.offset + change.bytes.len() as u64;
        assert!(change.offset >= boot.start && end <= boot.start + boot.length, "outside of the boot partition");
    }
}

/// A list of images.
pub(crate) fn catalogue(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(found) = bramble_image::catalogue(text) else { return };
    for offer in found.offers {
        assert!(offer.url.starts_with("http") && offer.size > 0);
    }
}

/// A packed image.
pub(crate) fn packed(bytes: &[u8]) {
    let told = unpacked_size(&mut Cursor::new(bytes)).expect("there is no disk that fails");
    let Ok(image) = decompress(Cursor::new(bytes.to_vec())) else { return };
    // Bombs are for the disk's end to stop.
    let most = 1 << 20;
    let mut unpacked = Vec::new();
    if image.take(most).read_to_end(&mut unpacked).is_ok()
        && (unpacked.len() as u64) < most
        && bytes.starts_with(b"\xfd7zXZ")
    {
        assert_eq!(told, Some(unpacked.len() as u64), "its index says otherwise");
    }
}
