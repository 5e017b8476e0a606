//! The relay by itself, as a node runs it: no SSH is needed to talk to it.

#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

const BYTES: &[u8] = b"what all nodes want";

fn digest() -> String {
    let text = std::str::from_utf8(BYTES).unwrap();
    let output = Command::new("sh").args(["-c", "printf %s \"$1\" | sha256sum", "sh", text]).output().unwrap();
    String::from_utf8(output.stdout).unwrap()[..64].to_owned()
}

/// A relay, with its lines as they come.
struct Relay {
    child: Child,
    input: Option<ChildStdin>,
    lines: Receiver<String>,
}

impl Relay {
    /// `abandoned`: after how many seconds without a word it ends.
    fn start(folder: &Path, abandoned: u32) -> Relay {
        let mut child = Command::new("perl")
            .args(["-e", include_str!("../src/relay.pl"), &digest(), &BYTES.len().to_string()])
            .arg(folder)
            .args(["127.0.0.1", &abandoned.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, lines) = channel();
        let output = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let input = child.stdin.take();
        Relay { child, input, lines }
    }

    fn tell(&mut self, bytes: &[u8]) {
        self.input.as_mut().unwrap().write_all(bytes).unwrap();
    }

    /// The next line that begins so; others before it are passed over.
    fn until(&self, begin: &str) -> String {
        loop {
            let line = self.lines.recv_timeout(Duration::from_secs(20));
            let line = line.unwrap_or_else(|_| panic!("no `{begin}` came"));
            if line.starts_with(begin) {
                return line;
            }
        }
    }

    fn ends(&mut self, within: Duration) -> bool {
        let started = Instant::now();
        while self.child.try_wait().unwrap().is_none() {
            if started.elapsed() > within {
                return false;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        true
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

#[test]
fn a_second_run_waits_for_the_first_and_then_has_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let mut first = Relay::start(folder.path(), 60);
    first.until("at 0 ");
    let mut second = Relay::start(folder.path(), 60);
    second.until("busy");
    first.tell(format!("token t\ndata {}\n", BYTES.len()).as_bytes());
    first.tell(BYTES);
    first.until("good");
    second.until("busy");
    drop(first.input.take());
    assert!(first.ends(Duration::from_secs(5)));
    // All of it is there: it is only verified.
    assert_eq!(second.until("at ").split(' ').nth(1).unwrap(), BYTES.len().to_string());
    second.tell(b"token t\n");
    second.until("good");
    assert_eq!(std::fs::read(folder.path().join(digest())).unwrap(), BYTES);
}

#[test]
fn a_relay_whose_controller_says_nothing_any_more_ends() {
    let folder = tempfile::tempdir().unwrap();
    let mut relay = Relay::start(folder.path(), 2);
    relay.until("at 0 ");
    relay.tell(b"token t\n");
    for _ in 0..4 {
        std::thread::sleep(Duration::from_secs(1));
        relay.tell(b"ping\n");
    }
    assert!(!relay.ends(Duration::ZERO), "it is spoken to");
    assert!(relay.ends(Duration::from_secs(10)), "nobody speaks to it any more, though its input is open");
}

#[test]
fn a_relay_that_was_held_up_hears_what_was_said_meanwhile() {
    let folder = tempfile::tempdir().unwrap();
    let mut relay = Relay::start(folder.path(), 2);
    relay.until("at 0 ");
    let signal = |name: &str, id: u32| Command::new("kill").args([name, &id.to_string()]).status().unwrap().success();
    let id = relay.child.id();
    assert!(signal("-STOP", id));
    std::thread::sleep(Duration::from_secs(4));
    relay.tell(format!("token t\ndata {}\n", BYTES.len()).as_bytes());
    relay.tell(BYTES);
    assert!(signal("-CONT", id));
    relay.until("good");
}

#[test]
fn a_guest_that_comes_before_the_token_waits_at_the_door() {
    let folder = tempfile::tempdir().unwrap();
    let mut relay = Relay::start(folder.path(), 60);
    let port: u16 = relay.until("at 0 ").rsplit(' ').next().unwrap().parse().unwrap();
    let mut guest = TcpStream::connect(("127.0.0.1", port)).unwrap();
    guest.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    guest.write_all(b"secret 0\n").unwrap();
    std::thread::sleep(Duration::from_secs(2));
    relay.tell(format!("token secret\ndata {}\n", BYTES.len()).as_bytes());
    relay.tell(BYTES);
    relay.until("good");
    // Empty frames may come before: they say that the relay is still there.
    let mut got = Vec::new();
    guest.read_to_end(&mut got).unwrap();
    assert!(got.ends_with(BYTES), "{got:?}");
}

#[test]
fn a_guest_without_a_token_is_shown_out() {
    let folder = tempfile::tempdir().unwrap();
    let mut relay = Relay::start(folder.path(), 60);
    let port: u16 = relay.until("at 0 ").rsplit(' ').next().unwrap().parse().unwrap();
    relay.tell(format!("token secret\ndata {}\n", BYTES.len()).as_bytes());
    relay.tell(BYTES);
    relay.until("good");
    let gets = |says: &[u8]| {
        let mut guest = TcpStream::connect(("127.0.0.1", port)).unwrap();
        guest.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        guest.write_all(says).unwrap();
        let mut got = Vec::new();
        guest.read_to_end(&mut got).map(|_| got)
    };
    assert_eq!(gets(b"").unwrap(), b"", "who says nothing is shown out, and does not wait for ever");
    assert_eq!(gets(b"guess 0\n").unwrap(), b"");
    let frame = [&u32::try_from(BYTES.len()).unwrap().to_be_bytes(), BYTES].concat();
    assert_eq!(gets(b"secret 0\n").unwrap(), frame);
}
