//! What is written to nodes' disks, measured.

use std::time::Duration;

use bramble_shell::{Commands, Script};

/// What a node has written while it was watched.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Writes {
    /// Bytes, by the program that wrote them, the most first.
    pub writers: Vec<(String, u64)>,
    /// The disk of its root.
    pub disk: String,
    /// Bytes that this disk has written.
    pub written: u64,
}

/// Gives the script that watches what a node writes for so many seconds.
pub fn writes_script(seconds: u32) -> Script {
    let mut script = Commands::new();
    script.set("seconds", &seconds.to_string()).fixed(include_str!("wear.sh")).fixed("tell_writes");
    Script::new("watch what is written", &script).silent_for(Duration::from_secs(u64::from(seconds) + 120))
}

impl Writes {
    /// Reads what [`writes_script`] printed.
    pub fn parse(text: &str) -> Writes {
        let mut writes = Writes::default();
        for line in text.lines() {
            let mut words = line.splitn(3, ' ');
            let (kind, bytes, name) = (words.next(), words.next(), words.next().unwrap_or_default());
            let bytes: u64 = bytes.and_then(|bytes| bytes.parse().ok()).unwrap_or(0);
            match kind {
                Some("writer") => writes.writers.push((name.to_owned(), bytes)),
                Some("disk") => (writes.disk, writes.written) = (name.to_owned(), bytes),
                _ => {}
            }
        }
        writes.writers.sort_by_key(|(_, bytes)| std::cmp::Reverse(*bytes));
        writes
    }

    /// Adds up what programs have written.
    pub fn by_programs(&self) -> u64 {
        self.writers.iter().map(|(_, bytes)| bytes).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writers_are_sorted_by_how_much_they_wrote() {
        let writes =
            Writes::parse("writer 4096 sshd\nwriter 81920 etcd\nwriter 512 tokio runtime w\ndisk 122880 mmcblk0\n");
        assert_eq!(writes.writers[0], ("etcd".to_owned(), 81_920));
        assert_eq!(writes.writers[2], ("tokio runtime w".to_owned(), 512));
        assert_eq!((writes.disk.as_str(), writes.written, writes.by_programs()), ("mmcblk0", 122_880, 86_528));
    }
}
