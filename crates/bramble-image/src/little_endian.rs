//! Numbers as disks and packed files have them: the lowest byte first.

/// Takes the bytes that begin at a place. A place outside is a fault of this program: lengths are checked before.
fn at<const N: usize>(bytes: &[u8], place: usize) -> [u8; N] {
    let mut taken = [0; N];
    taken.copy_from_slice(&bytes[place..place + N]);
    taken
}

pub(crate) fn u16_at(bytes: &[u8], place: usize) -> u16 {
    u16::from_le_bytes(at(bytes, place))
}

pub(crate) fn u32_at(bytes: &[u8], place: usize) -> u32 {
    u32::from_le_bytes(at(bytes, place))
}

pub(crate) fn u64_at(bytes: &[u8], place: usize) -> u64 {
    u64::from_le_bytes(at(bytes, place))
}
