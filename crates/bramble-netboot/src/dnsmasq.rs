//! dnsmasq: it answers the firmware of boards, and gives them their files.

use std::fmt::Write;
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use bramble_spec::MacAddr;
use ipnet::Ipv4Net;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStderr, Command};

use crate::tree::PROGRAM;
use crate::{Board, NetbootError};

/// Who gives boards their addresses while they boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Addresses {
    /// The DHCP server that the network has: dnsmasq adds what is to be booted (a "proxy").
    Network,
    /// dnsmasq itself, those of the cluster file, and nobody else's.
    Planned,
}

/// What dnsmasq says that is worth to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// A machine asks for something to boot.
    Asks(MacAddr),
    /// A file was given.
    Gave {
        /// Whom.
        to: Ipv4Addr,
        /// Its path.
        file: PathBuf,
    },
    /// A file was asked for that is not there.
    Missed {
        /// Who asked.
        by: Ipv4Addr,
        /// Its path.
        file: PathBuf,
    },
    /// Something went wrong.
    Trouble(String),
}

/// dnsmasq, running.
#[derive(Debug)]
pub struct Dnsmasq {
    /// It ends when this is dropped.
    _child: Child,
    lines: Lines<BufReader<ChildStderr>>,
    last: String,
}

/// The settings of dnsmasq (dnsmasq(8)).
fn settings(interface: &str, subnet: Ipv4Net, addresses: Addresses, tree: &Path, hosts: &Path) -> String {
    let mut text = format!(
        "port=0\ninterface={interface}\nbind-interfaces\nexcept-interface=lo\nno-ping\nlog-dhcp\nlog-facility=-\nno-resolv\nno-hosts\n\
         leasefile-ro\ndhcp-hostsfile={}\ndhcp-ignore=tag:!known\nenable-tftp={interface}\ntftp-root={}\ntftp-unique-root=mac\n",
        hosts.display(),
        tree.display(),
    );
    let (network, mask) = (subnet.network(), subnet.netmask());
    // The firmware of a Pi wants these words (raspberrypi.com/documentation, "Network booting"), and calls itself a PC (0).
    text.push_str("pxe-service=0,\"Raspberry Pi Boot\"\n");
    match addresses {
        Addresses::Network => {
            writeln!(text, "dhcp-range={network},proxy,{mask}").ok();
            // UEFI for amd64, which has two names, and for arm64.
            for architecture in ["X86-64_EFI", "BC_EFI", "ARM64_EFI"] {
                writeln!(text, "pxe-service={architecture},\"bramble\",{PROGRAM}").ok();
            }
        }
        Addresses::Planned => {
            // Nobody reads the leases, so they are short.
            writeln!(text, "dhcp-range={network},static,{mask},10m").ok();
            // The same by their numbers (IANA, "Processor Architecture Types"): who gives the address as well is to name the
            // program in its first answer. UEFI takes a menu (`pxe-service`) from nobody else than a proxy.
            for number in [7, 9, 11] {
                writeln!(text, "dhcp-match=set:uefi,option:client-arch,{number}").ok();
            }
            writeln!(text, "dhcp-boot=tag:uefi,{PROGRAM}").ok();
        }
    }
    text
}

/// The boards that are answered (`dhcp-hostsfile`).
fn list(boards: &[Board], addresses: Addresses) -> String {
    let line = |board: &Board| match addresses {
        Addresses::Network => format!("{},set:bramble\n", board.mac),
        Addresses::Planned => format!("{},set:bramble,{}\n", board.mac, board.address),
    };
    boards.iter().map(line).collect()
}

impl Dnsmasq {
    /// Starts it on an interface of this machine, for these boards and nobody else, and for files below `tree`; `folder` gets its
    /// settings. A board that has no folder there any more is given nothing, and starts from its disk: the list is not read again,
    /// since dnsmasq 2.90 does not always survive that.
    ///
    /// # Errors
    /// There is no dnsmasq, or it ends at once.
    pub async fn start(
        interface: &str,
        subnet: Ipv4Net,
        addresses: Addresses,
        boards: &[Board],
        tree: &Path,
        folder: &Path,
    ) -> Result<Dnsmasq, NetbootError> {
        let cannot = |what: &'static str| move |source| NetbootError::Io { what, source };
        let (file, hosts) = (folder.join("dnsmasq.conf"), folder.join("hosts"));
        fs::write(&hosts, list(boards, addresses)).map_err(cannot("write dnsmasq's settings"))?;
        let text = settings(interface, subnet, addresses, tree, &hosts);
        fs::write(&file, text).map_err(cannot("write dnsmasq's settings"))?;
        let program = find().ok_or(NetbootError::Missing { what: "dnsmasq".to_owned(), package: "dnsmasq-base" })?;
        // It ends with this program, however that ends: nobody would see why boards write their disks.
        let mut dnsmasq = Command::new("setpriv");
        dnsmasq.args(["--pdeathsig", "TERM", "--"]).arg(program).arg("--keep-in-foreground");
        dnsmasq.arg(format!("--conf-file={}", file.display()));
        // The folder that it would change to another user for is this user's own.
        dnsmasq.args(["--user=root", "--group=root"]).env("LC_ALL", "C").kill_on_drop(true);
        dnsmasq.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = dnsmasq.spawn().map_err(cannot("start dnsmasq (by setpriv of util-linux)"))?;
        let Some(stderr) = child.stderr.take() else { return Err(NetbootError::Dnsmasq(String::new())) };
        let mut started = Dnsmasq { _child: child, lines: BufReader::new(stderr).lines(), last: String::new() };
        // It says that it serves files when it has taken its ports.
        while let Some(line) = started.line().await? {
            if line.contains("TFTP root is ") {
                return Ok(started);
            }
        }
        Err(NetbootError::Dnsmasq(match started.last.contains("in use") {
            true => format!("{}: another DHCP or TFTP server runs on this machine", started.last),
            false => started.last,
        }))
    }

    async fn line(&mut self) -> Result<Option<String>, NetbootError> {
        let line = self.lines.next_line().await;
        let line = line.map_err(|source| NetbootError::Io { what: "hear dnsmasq", source })?;
        if let Some(line) = &line {
            self.last.clone_from(line);
        }
        Ok(line)
    }

    /// Waits for the next thing that is worth to be told.
    ///
    /// # Errors
    /// It ended.
    pub async fn hear(&mut self) -> Result<Heard, NetbootError> {
        while let Some(line) = self.line().await? {
            if let Some(heard) = heard(&line) {
                return Ok(heard);
            }
        }
        Err(NetbootError::Dnsmasq(self.last.clone()))
    }
}

/// Where dnsmasq is: in a folder that often only root's PATH has.
fn find() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    folders.map(|folder| folder.join("dnsmasq")).find(|program| program.is_file())
}

/// What a line of its log says (dnsmasq 2.90: `rfc2131.c`, `tftp.c`).
fn heard(line: &str) -> Option<Heard> {
    let (who, said) = line.split_once(": ")?;
    if who.starts_with("dnsmasq-dhcp") {
        // `3571221 DHCPDISCOVER(eth0) 52:54:00:79:00:50` or, from a proxy, `3571221 PXE(eth0) 52:54:00:79:00:50 proxy`.
        let mut words = said.split_whitespace().skip(1);
        let what = words.next()?;
        if what.starts_with("PXE(") || what.starts_with("DHCPDISCOVER(") {
            return words.find_map(|word| word.parse().ok()).map(Heard::Asks);
        }
        return None;
    }
    if !who.starts_with("dnsmasq-tftp") {
        return said.starts_with("failed").then(|| Heard::Trouble(said.to_owned()));
    }
    if let Some((file, to)) = said.strip_prefix("sent ").and_then(|rest| rest.rsplit_once(" to ")) {
        return Some(Heard::Gave { to: to.trim().parse().ok()?, file: file.into() });
    }
    if let Some((file, by)) = said.strip_prefix("file ").and_then(|rest| rest.rsplit_once(" not found for ")) {
        return Some(Heard::Missed { by: by.trim().parse().ok()?, file: file.into() });
    }
    None
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn its_log_is_understood() {
        let asks = Heard::Asks("52:54:00:79:00:50".parse().unwrap());
        let pi = "10.79.0.50".parse().unwrap();
        for (line, what) in [
            ("dnsmasq-dhcp: 3571221 PXE(board) 52:54:00:79:00:50 proxy", Some(asks.clone())),
            ("dnsmasq-dhcp: 3571221 DHCPDISCOVER(board) 52:54:00:79:00:50 ignored", Some(asks)),
            ("dnsmasq-dhcp: 3571221 vendor class: PXEClient:Arch:00000:UNDI:002001", None),
            (
                "dnsmasq-tftp: sent /t/a-b/kernel8.img to 10.79.0.50",
                Some(Heard::Gave { to: pi, file: "/t/a-b/kernel8.img".into() }),
            ),
            (
                "dnsmasq-tftp: file /t/a-b/1f2e3d4c/start4.elf not found for 10.79.0.50",
                Some(Heard::Missed { by: pi, file: "/t/a-b/1f2e3d4c/start4.elf".into() }),
            ),
            ("dnsmasq: started, version 2.90 DNS disabled", None),
        ] {
            assert_eq!(heard(line), what, "{line}");
        }
    }
}
