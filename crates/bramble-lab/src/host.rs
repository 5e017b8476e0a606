//! Commands on the machine that carries the racks.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Progress, for whoever shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A step began.
    Step(String),
    /// A line that a long step printed.
    Line(String),
}

/// The receiver of events.
pub type Events<'a> = &'a (dyn Fn(Event) + Sync);

/// An error of the lab.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The lab makes namespaces and mounts.
    #[error("the virtual rack needs root: it makes network namespaces, cgroups and mounts; run it with sudo")]
    NotRoot,
    /// A program is not installed.
    #[error("the program `{program}` is not installed; on Debian: apt-get install {package}")]
    NoProgram {
        /// The program.
        program: String,
        /// The Debian package that has it.
        package: &'static str,
    },
    /// A program failed.
    #[error("`{command}` failed{}", if output.is_empty() { String::new() } else { format!(":\n{output}") })]
    Failed {
        /// The command as typed.
        command: String,
        /// The end of what it printed.
        output: String,
    },
    /// A file or folder could not be used.
    #[error("cannot {action} {}: {source}", path.display())]
    File {
        /// The operation that was tried.
        action: &'static str,
        /// Its object.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// There is no such rack.
    #[error("there is no rack called `{0}`; `bramble lab list` shows those there are")]
    NoRack(String),
    /// There is no such node.
    #[error("rack `{rack}` has no node `{node}`; it has: {known}")]
    NoNode {
        /// The rack.
        rack: String,
        /// The node asked for.
        node: String,
        /// The nodes it has.
        known: String,
    },
    /// A request that cannot be met.
    #[error("{0}")]
    Request(String),
}

/// Adds to an error of a file what was tried, and on which file.
pub trait PathContext<T> {
    /// Says what was tried (`read`) on which path.
    fn at(self, action: &'static str, path: &Path) -> Result<T, Error>;
}

impl<T> PathContext<T> for Result<T, io::Error> {
    fn at(self, action: &'static str, path: &Path) -> Result<T, Error> {
        self.map_err(|source| Error::File { action, path: path.to_owned(), source })
    }
}

/// The Debian package of each program that the lab runs.
fn package(program: &str) -> &'static str {
    match program {
        "systemd-nspawn" => "systemd-container",
        "ip" | "bridge" => "iproute2",
        "nft" => "nftables",
        "dnsmasq" => "dnsmasq-base",
        "mmdebstrap" => "mmdebstrap",
        "ssh-keygen" => "openssh-client",
        "mount" | "umount" => "mount",
        "mkfs.ext4" => "e2fsprogs",
        "nsenter" => "util-linux",
        "sysctl" | "kill" => "procps",
        _ => "coreutils",
    }
}

fn describe(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ")
}

fn start_error(command: &Command, error: io::Error) -> Error {
    let program = command.get_program().to_string_lossy().into_owned();
    if error.kind() == io::ErrorKind::NotFound {
        let package = package(&program);
        Error::NoProgram { program, package }
    } else {
        Error::Failed { command: describe(command), output: error.to_string() }
    }
}

/// Runs a command to its end and returns what it printed.
pub(crate) fn run(program: &str, args: &[&str]) -> Result<String, Error> {
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null());
    let output = command.output().map_err(|error| start_error(&command, error))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(Error::Failed {
        command: describe(&command),
        output: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
    })
}

/// Runs a long command, passing each line it prints on, and keeps the last lines for the error.
pub(crate) fn stream(mut command: Command, events: Events) -> Result<(), Error> {
    let (reader, writer) = io::pipe().at("open", Path::new("a pipe"))?;
    let errors = writer.try_clone().at("open", Path::new("a pipe"))?;
    command.stdin(Stdio::null()).stdout(writer).stderr(errors);
    let name = describe(&command);
    let mut child = command.spawn().map_err(|error| start_error(&command, error))?;
    // The command holds the writing ends of the pipe: without them the reader sees the end.
    drop(command);
    let mut tail: Vec<String> = Vec::new();
    for line in BufReader::new(reader).split(b'\n') {
        let line = line.at("read from", Path::new(&name))?;
        let line = String::from_utf8_lossy(&line).trim_end().to_owned();
        if line.is_empty() {
            continue;
        }
        events(Event::Line(line.clone()));
        if tail.len() == 20 {
            tail.remove(0);
        }
        tail.push(line);
    }
    let status = child.wait().at("wait for", Path::new(&name))?;
    if status.success() { Ok(()) } else { Err(Error::Failed { command: name, output: tail.join("\n") }) }
}

/// Fails for users other than root.
pub fn require_root() -> Result<(), Error> {
    if rustix::process::geteuid().is_root() { Ok(()) } else { Err(Error::NotRoot) }
}

/// Writes a file with these permission bits; makes the folders above it if they are missing.
pub fn write(path: &Path, content: impl AsRef<[u8]>, mode: u32) -> Result<(), Error> {
    use std::os::unix::fs::PermissionsExt;
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).at("create", parent)?;
    }
    std::fs::write(path, content).at("write", path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).at("set the mode of", path)
}

/// Removes a folder and all in it. A folder that does not exist is no error.
pub fn remove_tree(path: &Path) -> Result<(), Error> {
    unmount_below(path)?;
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error).at("remove", path),
        _ => Ok(()),
    }
}

/// Unmounts all below a folder, the innermost first: what was cut off leaves it behind, and what is mounted is somebody else's.
fn unmount_below(path: &Path) -> Result<(), Error> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").at("read", Path::new("/proc/self/mountinfo"))?;
    let points = mounts.lines().filter_map(|line| line.split(' ').nth(4)).map(|point| point.replace("\\040", " "));
    let below: Vec<String> = points.filter(|point| Path::new(point).starts_with(path)).collect();
    for point in below.iter().rev() {
        run("umount", &["--lazy", point])?;
    }
    Ok(())
}

/// Kernel settings of the host that racks need, and the least value of each: boards reach out through it, and each
/// board's systemd watches files (the default of 128 instances is enough for two dozen boards).
const SETTINGS: [(&str, u32); 2] = [("net/ipv4/ip_forward", 1), ("fs/inotify/max_user_instances", 8192)];

fn setting_file(name: &str) -> PathBuf {
    Path::new("/proc/sys").join(name)
}

/// Reads the settings as they are now.
pub(crate) fn settings() -> BTreeMap<String, u32> {
    let value = |name: &str| fs::read_to_string(setting_file(name)).ok()?.trim().parse().ok();
    SETTINGS.iter().filter_map(|(name, _)| Some(((*name).to_owned(), value(name)?))).collect()
}

/// Raises the settings that are too low.
pub(crate) fn raise_settings() -> Result<(), Error> {
    let now = settings();
    for (name, least) in SETTINGS {
        if now.get(name).is_none_or(|value| *value < least) {
            let path = setting_file(name);
            fs::write(&path, least.to_string()).at("write", &path)?;
        }
    }
    Ok(())
}

/// Gives the settings the values that they had before.
pub(crate) fn restore_settings(earlier: &BTreeMap<String, u32>) -> Result<(), Error> {
    for (name, value) in earlier {
        let path = setting_file(name);
        fs::write(&path, value.to_string()).at("write", &path)?;
    }
    Ok(())
}
