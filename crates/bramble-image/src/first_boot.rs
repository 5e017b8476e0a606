//! What the first boots of several systems have in common.

use std::io::{Read, Seek};

use crate::boot::BootFiles;
use crate::error::ImageError;

/// Adds arguments to the kernel's command line.
pub(crate) fn add_kernel_args<R: Read + Seek>(
    boot: &BootFiles<'_, R>,
    path: &str,
    more: impl IntoIterator<Item = String>,
) -> Result<(), ImageError> {
    let text = boot.read(path)?.unwrap_or_default();
    let tokens: Vec<String> = more.into_iter().collect();
    boot.write(path, &bramble_state::with_tokens(&text, &tokens))
}

/// Done at the first boot by a board that does without swap: dphys-swapfile until Bookworm, rpi-swap since Trixie.
pub(crate) fn swap_off() -> String {
    let (file, text) = (bramble_state::RPI_SWAP_FILE, bramble_state::RPI_SWAP_TEXT.replace('\n', "\\n"));
    format!(
        "systemctl disable --now dphys-swapfile 2>/dev/null; \
         [ ! -e /usr/lib/systemd/system-generators/rpi-swap-generator ] || \
         {{ mkdir -p \"$(dirname {file})\" && printf '{text}' >{file}; }}"
    )
}
