//! A cgroup for each node, on hosts with cgroup v1, v2 or both.
//!
//! The node's whole life happens below its own cgroup: systemd-nspawn gives it a cgroup namespace, so that a kubelet
//! in it sees no other node's pods, and a power cut is the end of every process in it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::host::{Error, PathContext};

const TOP: &str = "bramble-lab";

/// The mount points of all cgroup hierarchies that a node takes part in.
fn hierarchies() -> Result<Vec<PathBuf>, Error> {
    let path = Path::new("/proc/self/mounts");
    let mounts = fs::read_to_string(path).at("read", path)?;
    Ok(mounts
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(' ');
            let (_, at, kind, options) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
            // A hierarchy that is mounted read-only, or twice (cpu,cpuacct), is taken at its first mount.
            let wanted = kind == "cgroup" || kind == "cgroup2";
            (wanted && options.split(',').any(|o| o == "rw") && at.starts_with("/sys/fs/cgroup"))
                .then(|| PathBuf::from(at))
        })
        .collect())
}

/// The cgroup of one node (or of the helpers of a rack) in every hierarchy.
#[derive(Debug)]
pub(crate) struct Group {
    name: PathBuf,
}

impl Group {
    pub(crate) fn node(rack: &str, node: &str) -> Group {
        Group { name: Path::new(TOP).join(rack).join(node) }
    }

    /// The group of a whole rack, for taking it down.
    pub(crate) fn rack(rack: &str) -> Group {
        Group { name: Path::new(TOP).join(rack) }
    }

    /// Tells whether some rack of this machine is up.
    pub(crate) fn any() -> bool {
        hierarchies().is_ok_and(|all| all.iter().any(|top| top.join(TOP).exists()))
    }

    /// The group of the process that keeps a node on; it lies beside the node, never above it, as cgroup v2 wants
    /// processes in leaves only.
    pub(crate) fn keeper(rack: &str, node: &str) -> Group {
        Group::node(rack, &format!("_keep-{node}"))
    }

    /// The group of a rack's name server.
    pub(crate) fn dns(rack: &str) -> Group {
        Group::node(rack, "_dns")
    }

    /// Makes the group everywhere and returns the files to write a process id to.
    pub(crate) fn create(&self) -> Result<Vec<PathBuf>, Error> {
        let mut entries = Vec::new();
        for top in hierarchies()? {
            let mut path = top.clone();
            for part in &self.name {
                // cgroup v2 hands controllers down level by level.
                let controllers = path.join("cgroup.controllers");
                if let Ok(known) = fs::read_to_string(&controllers)
                    && !known.trim().is_empty()
                {
                    let words: Vec<String> = known.split_whitespace().map(|c| format!("+{c}")).collect();
                    let control = path.join("cgroup.subtree_control");
                    fs::write(&control, words.join(" ")).at("hand controllers down in", &control)?;
                }
                path.push(part);
                fs::create_dir_all(&path).at("create", &path)?;
                // A new v1 cpuset takes no process until it has processors and memory.
                for file in ["cpuset.cpus", "cpuset.mems"] {
                    let own = path.join(file);
                    if path.join("tasks").exists() && fs::read_to_string(&own).is_ok_and(|text| text.trim().is_empty())
                    {
                        let parent = path.parent().unwrap_or(&top).join(file);
                        let value = fs::read_to_string(&parent).at("read", &parent)?;
                        fs::write(&own, value).at("write", &own)?;
                    }
                }
            }
            entries.push(path.join("cgroup.procs"));
        }
        Ok(entries)
    }

    fn walk(&self) -> Result<Vec<PathBuf>, Error> {
        fn below(path: &Path, found: &mut Vec<PathBuf>) {
            let Ok(entries) = fs::read_dir(path) else { return };
            for entry in entries.flatten() {
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    below(&entry.path(), found);
                }
            }
            found.push(path.to_owned());
        }
        let mut found = Vec::new();
        for top in hierarchies()? {
            below(&top.join(&self.name), &mut found);
        }
        Ok(found)
    }

    pub(crate) fn processes(&self) -> Result<Vec<i32>, Error> {
        let mut pids: Vec<i32> = Vec::new();
        for path in self.walk()? {
            if let Ok(text) = fs::read_to_string(path.join("cgroup.procs")) {
                pids.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()).filter(|pid| *pid > 0));
            }
        }
        pids.sort_unstable();
        pids.dedup();
        Ok(pids)
    }

    /// Ends every process of the group at once, and waits until they are gone.
    pub(crate) fn kill(&self) -> Result<(), Error> {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let pids = self.processes()?;
            if pids.is_empty() {
                return Ok(());
            }
            for pid in &pids {
                if let Some(pid) = rustix::process::Pid::from_raw(*pid) {
                    // One that ended meanwhile is what we want.
                    rustix::process::kill_process(pid, rustix::process::Signal::KILL).ok();
                }
            }
            if Instant::now() > deadline {
                return Err(Error::Request(format!("the processes {pids:?} of {} do not end", self.name.display())));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Removes the group, which must be empty of processes, and what lies below it.
    pub(crate) fn remove(&self) -> Result<(), Error> {
        let deadline = Instant::now() + Duration::from_secs(5);
        for path in self.walk()? {
            loop {
                match fs::remove_dir(&path) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => break,
                    // The kernel lets go of a group a little after its last process.
                    Err(error) if error.kind() == io::ErrorKind::ResourceBusy && Instant::now() < deadline => {
                        std::thread::sleep(Duration::from_millis(20));
                    }
                    other => {
                        other.at("remove", &path)?;
                        break;
                    }
                }
            }
        }
        // The top goes with the last rack.
        for top in hierarchies()? {
            fs::remove_dir(top.join(TOP)).ok();
        }
        Ok(())
    }
}
