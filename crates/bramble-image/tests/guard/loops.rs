//! Loop devices: files that the kernel shows as disks.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};

pub(crate) const MIB: usize = 1 << 20;

pub(crate) fn tool(program: &str, args: &[&str]) -> Output {
    // They are in folders that only root's PATH has.
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap());
    let output = Command::new(program).args(args).env("PATH", path).output().unwrap();
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

/// A loop device with a number of its own, which nobody else who looks for a free one gets while its file is changed.
pub(crate) struct Loop {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) node: PathBuf,
    number: u32,
}

impl Loop {
    pub(crate) fn new(content: &[u8]) -> Loop {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = 1000 + std::process::id() % 30_000 * 32 + NEXT.fetch_add(1, Ordering::Relaxed);
        let one = Loop { dir: tempfile::tempdir().unwrap(), node: format!("/dev/loop{number}").into(), number };
        one.attach("disk", content);
        one
    }

    /// Shows a new file of this content.
    pub(crate) fn attach(&self, file: &str, content: &[u8]) {
        fs::write(self.file(file), content).unwrap();
        tool("losetup", &[self.node.to_str().unwrap(), self.file(file).to_str().unwrap()]);
    }

    pub(crate) fn detach(&self) {
        tool("losetup", &["--detach", self.node.to_str().unwrap()]);
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let node = self.node.to_str().unwrap();
        // LOOP_CTL_REMOVE (linux/loop.h); losetup has no option for it yet. Who holds the device still may keep it a moment.
        let remove = format!(
            "losetup --detach {node} 2>/dev/null; n=0; until perl -e 'open F, \"+<\", \"/dev/loop-control\" or die; ioctl(F, 0x4C81, {}+0) // exit 1'; \
             do [ $n -lt 50 ] || exit 1; n=$((n + 1)); sleep 0.1; done",
            self.number
        );
        tool("sh", &["-c", &remove]);
    }
}
