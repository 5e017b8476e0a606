//! A kernel, its initramfs and its command line as the one program that UEFI loads from the network: what the UAPI group
//! calls a unified kernel image, made with systemd's stub (systemd-stub(7)).

use crate::NetbootError;

/// Where a section of ours begins in memory, and how long it is; the file has it at the multiple that the stub asks for.
struct Section<'a> {
    name: &'static [u8],
    content: &'a [u8],
}

/// The size of a section's header (PE Format, "Section Table").
const HEADER: usize = 40;
/// IMAGE_SCN_CNT_INITIALIZED_DATA | IMAGE_SCN_MEM_READ.
const READ_ONLY_DATA: u32 = 0x4000_0040;

/// Adds a kernel and what it is told to a stub.
///
/// # Errors
/// The stub is no program for UEFI, or has no room for three sections more.
pub(crate) fn unified(stub: &[u8], kernel: &[u8], initramfs: &[u8], line: &str) -> Result<Vec<u8>, NetbootError> {
    add(stub, kernel, initramfs, line).ok_or(NetbootError::Stub)
}

/// Fields by their offsets in the PE format: <https://learn.microsoft.com/windows/win32/debug/pe-format>.
fn add(stub: &[u8], kernel: &[u8], initramfs: &[u8], line: &str) -> Option<Vec<u8>> {
    let mut out = stub.to_vec();
    let pe = usize::try_from(u32_at(stub, 0x3c)?).ok()?;
    if stub.get(pe..pe + 4)? != b"PE\0\0" {
        return None;
    }
    let count = usize::from(u16_at(stub, pe + 6)?);
    let optional = pe + 24;
    let table = optional + usize::from(u16_at(stub, pe + 20)?);
    let (in_memory, in_file) = (u32_at(stub, optional + 32)?, u32_at(stub, optional + 36)?);
    let headers = usize::try_from(u32_at(stub, optional + 60)?).ok()?;
    let line = [line.as_bytes(), &[0]].concat();
    let sections = [
        Section { name: b".cmdline", content: &line },
        Section { name: b".linux", content: kernel },
        Section { name: b".initrd", content: initramfs },
    ];
    let mut at = table + count * HEADER;
    if at + sections.len() * HEADER > headers {
        return None;
    }
    let mut next = 0;
    for index in 0..count {
        let header = table + index * HEADER;
        next = next.max(u32_at(stub, header + 12)?.checked_add(u32_at(stub, header + 8)?)?);
    }
    for section in &sections {
        let begins = next.checked_next_multiple_of(in_memory)?;
        let length = u32::try_from(section.content.len()).ok()?;
        let stored = length.checked_next_multiple_of(in_file)?;
        let place = u32::try_from(out.len()).ok()?.checked_next_multiple_of(in_file)?;
        out.resize(place as usize, 0);
        out.extend_from_slice(section.content);
        out.resize(place as usize + stored as usize, 0);
        let mut header = [0; HEADER];
        header[..section.name.len()].copy_from_slice(section.name);
        for (offset, value) in [(8, length), (12, begins), (16, stored), (20, place), (36, READ_ONLY_DATA)] {
            header[offset..offset + 4].copy_from_slice(&value.to_le_bytes());
        }
        out.get_mut(at..at + HEADER)?.copy_from_slice(&header);
        at += HEADER;
        next = begins.checked_add(length)?;
    }
    let total = u16::try_from(count + sections.len()).ok()?;
    out[pe + 6..pe + 8].copy_from_slice(&total.to_le_bytes());
    let size = next.checked_next_multiple_of(in_memory)?;
    out[optional + 56..optional + 60].copy_from_slice(&size.to_le_bytes());
    Some(out)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_program_for_uefi_is_refused() {
        for stub in [&b""[..], b"MZ", &[0; 4096]] {
            assert!(matches!(unified(stub, b"k", b"i", "quiet"), Err(NetbootError::Stub)));
        }
    }
}
