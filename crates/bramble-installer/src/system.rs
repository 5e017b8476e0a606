//! The machine below: its kernel's file systems, its console, its end.

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use rustix::mount::MountFlags;
use rustix::system::RebootCommand;

use crate::Failure;

/// Where `sys` and `proc` are.
pub(crate) const ROOT: &str = "/";

/// Prints a line on the console.
pub(crate) fn say(text: &str) {
    // A board without a console has nobody who would read it.
    if let Ok(mut console) = std::fs::File::options().write(true).open("/dev/console") {
        writeln!(console, "bramble: {text}\r").ok();
    }
}

/// Mounts what the kernel offers, unless that was done.
pub(crate) fn mount() -> Result<(), Failure> {
    for (kind, at) in [("proc", "/proc"), ("sysfs", "/sys"), ("devtmpfs", "/dev")] {
        std::fs::create_dir_all(at).map_err(|error| Failure::Io("make a folder to mount at", error))?;
        match rustix::mount::mount(kind, at, kind, MountFlags::empty(), None) {
            Ok(()) | Err(rustix::io::Errno::BUSY) => {}
            Err(error) => return Err(Failure::Io("mount what the kernel offers", error.into())),
        }
    }
    Ok(())
}

/// A word of the kernel's command line.
pub(crate) fn word<'l>(line: &'l str, key: &'static str) -> Result<&'l str, Failure> {
    line.split_whitespace().find_map(|word| word.strip_prefix(key)).ok_or(Failure::NoWord(key))
}

/// Loads the drivers for the devices that are there, where the image's own initramfs brings them and what loads them; kernels for
/// Raspberry Pis have those that are needed built in.
pub(crate) fn load_drivers() {
    let Some(modprobe) = ["/sbin/modprobe", "/usr/sbin/modprobe"].into_iter().find(|path| Path::new(path).exists())
    else {
        return;
    };
    let mut aliases = Vec::new();
    collect(Path::new("/sys/devices"), &mut aliases, 0);
    aliases.sort();
    aliases.dedup();
    // A device without a driver is no failure: the network or the disk that is missing in the end is.
    std::process::Command::new(modprobe).args(["-a", "-b", "-q"]).args(aliases).status().ok();
}

fn collect(folder: &Path, into: &mut Vec<String>, depth: u8) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        if entry.file_name() == "modalias" {
            into.extend(std::fs::read_to_string(&path).map(|text| text.trim().to_owned()).ok());
        } else if depth < 16 && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            collect(&path, into, depth + 1);
        }
    }
}

/// Starts the machine anew. It comes back only if the kernel refuses.
pub(crate) fn restart() {
    rustix::fs::sync();
    std::thread::sleep(Duration::from_millis(200));
    if let Err(error) = rustix::system::reboot(RebootCommand::Restart) {
        say(&format!("cannot restart: {error}; switch the board off and on"));
    }
}
