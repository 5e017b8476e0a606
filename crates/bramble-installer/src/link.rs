//! The board's address, for as long as it writes its disk.

use std::net::Ipv4Addr;
use std::path::Path;
use std::time::{Duration, Instant};

use futures_util::TryStreamExt;
use rtnetlink::LinkUnspec;

use crate::Failure;
use crate::system::load_drivers;

/// How long drivers and switches may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Gives the interface with this Ethernet address its address (`10.0.0.51/24`), and waits until there is a link.
pub(crate) fn up(mac: &str, address: &str) -> Result<(), Failure> {
    let wrong = || Failure::Network(format!("`{address}` is no address with the length of a prefix"));
    let (ip, length) = address.split_once('/').ok_or_else(wrong)?;
    let (ip, length): (Ipv4Addr, u8) = (ip.parse().map_err(|_| wrong())?, length.parse().map_err(|_| wrong())?);
    let name = wait_for(&format!("there is no interface with the address {mac}"), || {
        load_drivers();
        interface(mac)
    })?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::Io("begin to speak to the kernel", error))?;
    runtime.block_on(set(&name, ip, length)).map_err(|error| Failure::Network(error.to_string()))?;
    wait_for(&format!("{name} has no link: is its cable plugged in?"), || {
        let carrier = std::fs::read_to_string(format!("/sys/class/net/{name}/carrier")).ok()?;
        (carrier.trim() == "1").then_some(())
    })
}

fn wait_for<T>(missing: &str, mut look: impl FnMut() -> Option<T>) -> Result<T, Failure> {
    let began = Instant::now();
    loop {
        if let Some(found) = look() {
            return Ok(found);
        }
        if began.elapsed() > PATIENCE {
            return Err(Failure::Network(missing.to_owned()));
        }
        std::thread::sleep(Duration::from_millis(500));
    }
}

fn interface(mac: &str) -> Option<String> {
    let of = |path: &Path| std::fs::read_to_string(path.join("address")).unwrap_or_default();
    let mut entries = std::fs::read_dir("/sys/class/net").ok()?.flatten();
    let entry = entries.find(|entry| of(&entry.path()).trim().eq_ignore_ascii_case(mac))?;
    Some(entry.file_name().to_string_lossy().into_owned())
}

async fn set(name: &str, address: Ipv4Addr, length: u8) -> Result<(), rtnetlink::Error> {
    let (connection, handle, _) = rtnetlink::new_connection().map_err(|_| rtnetlink::Error::RequestFailed)?;
    let talk = tokio::spawn(connection);
    let found = handle.link().get().match_name(name.to_owned()).execute().try_next().await?;
    let index = found.ok_or(rtnetlink::Error::RequestFailed)?.header.index;
    handle.link().set(LinkUnspec::new_with_index(index).up().build()).execute().await?;
    // A second try finds what the first one did.
    handle.address().add(index, address.into(), length).replace().execute().await?;
    talk.abort();
    Ok(())
}
