//! What goes wrong on a shelf of boards, done to a rack's.

use std::path::Path;

use crate::cgroup::Group;
use crate::host::{Error, PathContext, run};
use crate::rack::{Rack, RackNode};

const HANG: &str = include_str!("trouble/hang.sh");
const CLOCK: &str = include_str!("trouble/clock.sh");

/// Lets all processes of a board stop but those of sshd, which go on until somebody logs in.
pub(crate) fn hang(rack: &Rack, node: &RackNode) -> Result<(), Error> {
    inside(rack, node, "hang", HANG, &[])?;
    for pid in Group::node(&rack.name, &node.name).processes()? {
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        // systemd-nspawn is no part of the board.
        if !name.starts_with("sshd")
            && !name.starts_with("systemd-nspawn")
            && let Some(pid) = rustix::process::Pid::from_raw(pid)
        {
            rustix::process::kill_process(pid, rustix::process::Signal::STOP).ok();
        }
    }
    Ok(())
}

/// Sets the clock that programs of a board see which start from now on and use its C library: `+1h`, `-3d`, or `real`.
pub(crate) fn clock(rack: &Rack, node: &RackNode, offset: &str) -> Result<(), Error> {
    let amount = offset.strip_prefix(['+', '-']).map(|rest| rest.trim_end_matches(['s', 'm', 'h', 'd', 'y']));
    if offset != "real" && amount.is_none_or(|amount| amount.parse::<u32>().is_err()) {
        return Err(Error::Request(format!("`{offset}` is no offset of a clock: say +1h, -3d, +90m or real")));
    }
    inside(rack, node, "set its clock", CLOCK, &[offset])
}

/// Runs a script as root on a board. `what` it does there.
fn inside(rack: &Rack, node: &RackNode, what: &str, script: &str, arguments: &[&str]) -> Result<(), Error> {
    let pid = rack.init_pid(&node.name)?.to_string();
    let enter =
        ["--target", &pid, "--mount", "--uts", "--ipc", "--net", "--pid", "--root", "--wd=/", "sh", "-c", script, "sh"];
    match run("nsenter", &[&enter[..], arguments].concat()) {
        Err(Error::Failed { output, .. }) => {
            Err(Error::Request(format!("{} could not be told to {what}: {output}", node.name)))
        }
        other => other.map(|_| ()),
    }
}

/// Asks a board to turn itself off (systemd(1), signals).
pub(crate) fn power_off(rack: &Rack, node: &RackNode) -> Result<(), Error> {
    let pid = rack.init_pid(&node.name)?.to_string();
    run("kill", &["-s", "RTMIN+4", &pid]).map(|_| ())
}

/// Pulls the cable out of a board, or puts it in.
pub(crate) fn link(port: &str, state: &str) -> Result<(), Error> {
    if !Path::new("/sys/class/net").join(port).exists() {
        return Err(std::io::Error::from(std::io::ErrorKind::NotFound)).at("find the link", Path::new(port));
    }
    run("ip", &["link", "set", port, state]).map(|_| ())
}
