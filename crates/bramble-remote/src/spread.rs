//! One file to many nodes in the time that one takes: it leaves here once, and each node passes on what it gets while
//! it gets it.
//!
//! A node that wants a file starts a relay (`relay.pl`; perl is essential on Debian and its kin), which ends when its
//! SSH channel does. The first one is fed from here; each later one is told to get the file from the one before it. Who
//! shows the token of a relay gets the file from it; tokens are made here and travel inside SSH. Between the nodes the
//! bytes travel in the clear, which is why nothing secret is sent this way, and a wrong byte is found by the digest. A
//! node whose source fails goes on where it was: with the one before that, or else from here.

use std::collections::{BTreeSet, HashMap};
use std::io::SeekFrom;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bramble_shell::{OUTPUT, shell_word};
use bramble_spec::hex;
use russh::{ChannelMsg, ChannelReadHalf, ChannelWriteHalf, client};
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt};
use tokio::sync::watch;

use crate::connection::Connection;
use crate::error::ExecError;
use crate::exec::{Limits, LineReader, Root, TRANSFER_SILENCE};

/// Below this a file is sent to each node from here: starting a relay would take longer.
const RELAYED_FROM: u64 = 4 * 1024 * 1024;
/// Every so many nodes of the chain get the file from the first one of those before, not from the last one: a chain of
/// hundreds would make the last one wait for each of them in turn.
const CHAIN: usize = 32;
/// How long a relay that nobody needs stays, for a node that comes a little later.
const LINGER: Duration = Duration::from_secs(3);
/// How often a relay that passes a file on is told that somebody is still here; it waits a minute for that.
const PING: Duration = Duration::from_secs(10);

const RELAY: &str = include_str!("relay.pl");

/// A file to bring to a node.
#[derive(Debug, Clone, Copy)]
pub struct Parcel<'a> {
    /// What it is called in messages.
    pub name: &'a str,
    /// Its SHA-256 in hexadecimal digits, and its name on the node.
    pub digest: &'a str,
    /// The folder on the node, which only root can read.
    pub folder: &'a str,
    /// Where it is here.
    pub from: &'a Path,
    /// Whether other nodes must not pass it on, for they do so in the clear.
    pub secret: bool,
}

/// A node to bring files to.
#[derive(Clone, Copy)]
pub struct Recipient<'a> {
    /// The connection to it.
    pub connection: &'a Connection,
    /// How root is reached there.
    pub root: &'a Root,
    /// Its address, as other nodes know it.
    pub address: Ipv4Addr,
}

/// The files that are on their way to nodes.
#[derive(Debug, Default)]
pub struct Spreader {
    files: Mutex<HashMap<String, Arc<Spread>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Spreader {
    /// Brings a file to a node, as `folder/digest`, mode 0600, owned by root. `on_progress` gets how many bytes of how
    /// many are there.
    pub async fn deliver(
        &self,
        to: &Recipient<'_>,
        parcel: &Parcel<'_>,
        mut on_progress: impl FnMut(u64, u64),
    ) -> Result<(), ExecError> {
        let unreadable = |source| ExecError::Read { path: parcel.from.to_owned(), source };
        let mut file = File::open(parcel.from).await.map_err(unreadable)?;
        let size = file.metadata().await.map_err(unreadable)?.len();
        if size >= RELAYED_FROM && !parcel.secret {
            let spread = lock(&self.files).entry(parcel.digest.to_owned()).or_default().clone();
            if spread.deliver(to, parcel, &mut file, size, &mut on_progress).await? == Outcome::NoRelay {
                file.rewind().await.map_err(unreadable)?;
            } else {
                return Ok(());
            }
        }
        to.connection.upload(to.root, parcel.name, parcel.digest, parcel.folder, file).await
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Delivered,
    /// The node cannot run a relay.
    NoRelay,
}

/// One file on its way.
#[derive(Debug, Default)]
struct Spread {
    /// In the order in which they came: a node only gets bytes from those before it, so that nobody waits in a circle.
    relays: Mutex<Vec<Relay>>,
    /// How many nodes do not have it yet.
    loading: watch::Sender<usize>,
}

#[derive(Debug, Clone)]
struct Relay {
    address: Ipv4Addr,
    port: u16,
    token: String,
    usable: bool,
}

/// Counts a node among those that load, while it exists.
struct Loading<'a>(&'a watch::Sender<usize>);

impl<'a> Loading<'a> {
    fn new(count: &'a watch::Sender<usize>) -> Loading<'a> {
        count.send_modify(|count| *count += 1);
        Loading(count)
    }
}

impl Drop for Loading<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

/// A relay that others may be sent to, while this exists.
struct Place {
    spread: Arc<Spread>,
    index: usize,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.spread.gone(self.index);
    }
}

/// The relay that is asked first by the one with this number.
fn preferred(index: usize) -> Option<usize> {
    index.checked_sub(if index.is_multiple_of(CHAIN) { CHAIN } else { 1 })
}

impl Spread {
    fn join(&self, address: Ipv4Addr, port: u16) -> (usize, String) {
        let token = hex(&rand::random::<[u8; 16]>());
        let mut relays = lock(&self.relays);
        relays.push(Relay { address, port, token: token.clone(), usable: port != 0 });
        (relays.len() - 1, token)
    }

    /// Where the relay with this number gets the file: the nearest one before it that may still be there.
    fn source(&self, index: usize, failed: &BTreeSet<usize>) -> Option<(usize, Relay)> {
        let relays = lock(&self.relays);
        let good = |at: &usize| relays[*at].usable && !failed.contains(at);
        let first = preferred(index)?;
        let at = Some(first).filter(good).or_else(|| (0..index).rev().find(good))?;
        Some((at, relays[at].clone()))
    }

    fn gone(&self, index: usize) {
        lock(&self.relays)[index].usable = false;
    }

    async fn deliver(
        self: Arc<Self>,
        to: &Recipient<'_>,
        parcel: &Parcel<'_>,
        file: &mut File,
        size: u64,
        on_progress: &mut impl FnMut(u64, u64),
    ) -> Result<Outcome, ExecError> {
        let failure = |reason: String| ExecError::Upload { name: parcel.name.to_owned(), reason };
        let words = [RELAY, parcel.digest, &size.to_string(), parcel.folder, &to.address.to_string()].map(shell_word);
        let [relay, arguments @ ..] = words;
        let command = format!(
            "command -v perl >/dev/null || {{ echo no-perl; exit; }}; export LC_ALL=C; exec perl -e {relay} {}",
            arguments.join(" ")
        );
        let limits = Limits { doing: &format!("receive {}", parcel.name), silence: TRANSFER_SILENCE, output: OUTPUT };
        let started = to.connection.start(to.root, &command, true, &limits).await?;
        let (reader, writer) = started.channel.split();
        let mut events = Events::new(reader, &started.head);
        let next = async |events: &mut Events| {
            tokio::time::timeout(TRANSFER_SILENCE, events.next()).await.map_err(|_| limits.silent())
        };
        let (mut have, port) = loop {
            match next(&mut events).await? {
                Some(Event::Busy) => on_progress(0, size),
                Some(Event::At(have, port)) => break (have, port),
                Some(Event::Fail(why)) => return Err(failure(why)),
                _ => return Ok(Outcome::NoRelay),
            }
        };
        let (index, token) = self.join(to.address, port);
        let place = Place { spread: self.clone(), index };
        let loading = Loading::new(&self.loading);
        let mut stream = writer.make_writer();
        let mut tell = async |line: String| stream.write_all(line.as_bytes()).await.map_err(|_| ExecError::Lost);
        tell(format!("token {token}\n")).await?;
        let mut failed = BTreeSet::new();
        // Bytes of others may be wrong; then only those from here are trusted.
        let mut only_ours = false;
        let result = 'source: loop {
            on_progress(have, size);
            let source = self.source(index, &failed).filter(|_| have < size && !only_ours);
            let feeds = source.is_none();
            if let Some((_, from)) = &source {
                tell(format!("pull {} {} {}\n", from.address, from.port, from.token)).await?;
            }
            let start = have;
            let mut feed = std::pin::pin!(async {
                if feeds && start < size { feed(&writer, file, parcel.from, start, size).await } else { Ok(()) }
            });
            let mut fed = false;
            loop {
                let event = tokio::select! {
                    result = &mut feed, if !fed => {
                        fed = true;
                        match result {
                            // What went wrong on the node it says itself.
                            Ok(()) | Err(ExecError::Lost) => continue,
                            Err(error) => break 'source Err(error),
                        }
                    }
                    event = next(&mut events) => match event {
                        Ok(event) => event,
                        Err(error) => break 'source Err(error),
                    },
                };
                // It says how far it is every second, and is told as often that somebody is here.
                if (!feeds || fed) && matches!(event, Some(Event::Have(_))) {
                    tell("ping\n".to_owned()).await?;
                }
                match event {
                    Some(Event::Have(bytes)) => on_progress(bytes, size),
                    Some(Event::Lost(bytes)) => {
                        if let Some((at, _)) = &source {
                            self.gone(*at);
                            failed.insert(*at);
                        }
                        have = bytes;
                        continue 'source;
                    }
                    Some(Event::Bad(is)) if feeds && start == 0 => {
                        break 'source Err(failure(format!("the digest of what arrived is {is}")));
                    }
                    Some(Event::Bad(_)) => {
                        only_ours = true;
                        have = 0;
                        continue 'source;
                    }
                    Some(Event::Good) => break 'source Ok(()),
                    Some(Event::Fail(why)) => break 'source Err(failure(why)),
                    Some(Event::At(..) | Event::Busy | Event::Other) => {}
                    None if events.complaint.is_empty() => break 'source Err(ExecError::Lost),
                    None => break 'source Err(failure(events.complaint.trim().to_owned())),
                }
            }
        };
        drop(loading);
        result?;
        on_progress(size, size);
        let dismissed = to.connection.stay();
        tokio::spawn(async move {
            let mut loading = self.loading.subscribe();
            let unneeded = async {
                loop {
                    if loading.wait_for(|count| *count == 0).await.is_err() {
                        return;
                    }
                    tokio::time::sleep(LINGER).await;
                    if *loading.borrow() == 0 {
                        return;
                    }
                }
            };
            let mut stay = tokio::time::interval(PING);
            let mut stream = writer.make_writer();
            tokio::select! {
                () = unneeded => {}
                _ = dismissed => {}
                () = async { while events.next().await.is_some() {} } => {}
                () = async { loop {
                    stay.tick().await;
                    if stream.write_all(b"ping\n").await.is_err() {
                        return;
                    }
                } } => {}
            }
            drop(place);
            // If it is not there any more, that is what was wanted.
            writer.eof().await.ok();
            writer.close().await.ok();
        });
        Ok(Outcome::Delivered)
    }
}

async fn feed(
    writer: &ChannelWriteHalf<client::Msg>,
    file: &mut File,
    path: &Path,
    start: u64,
    size: u64,
) -> Result<(), ExecError> {
    let unreadable = |source| ExecError::Read { path: path.to_owned(), source };
    let mut stream = writer.make_writer();
    file.seek(SeekFrom::Start(start)).await.map_err(unreadable)?;
    stream.write_all(format!("data {}\n", size - start).as_bytes()).await.map_err(|_| ExecError::Lost)?;
    let mut left = size - start;
    let mut buffer = vec![0u8; 256 * 1024];
    while left > 0 {
        let most = usize::try_from(left).map_or(buffer.len(), |left| left.min(buffer.len()));
        let n = file.read(&mut buffer[..most]).await.map_err(unreadable)?;
        if n == 0 {
            return Err(unreadable(std::io::Error::other("it became shorter while it was sent")));
        }
        stream.write_all(&buffer[..n]).await.map_err(|_| ExecError::Lost)?;
        left -= n as u64;
    }
    Ok(())
}

/// What a relay says.
#[derive(Debug, PartialEq, Eq)]
enum Event {
    /// Another run brings the same file.
    Busy,
    At(u64, u16),
    Have(u64),
    Lost(u64),
    Bad(String),
    Good,
    Fail(String),
    Other,
}

impl Event {
    fn parse(line: &str) -> Event {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        let mut numbers = rest.split(' ');
        let number = numbers.next().and_then(|number| number.parse().ok());
        match (word, number) {
            ("at", Some(have)) => Event::At(have, numbers.next().and_then(|port| port.parse().ok()).unwrap_or(0)),
            ("have", Some(have)) => Event::Have(have),
            ("lost", Some(have)) => Event::Lost(have),
            ("bad", _) => Event::Bad(rest.to_owned()),
            ("busy", _) => Event::Busy,
            ("good", _) => Event::Good,
            ("fail", _) => Event::Fail(rest.to_owned()),
            _ => Event::Other,
        }
    }
}

/// Reads what a relay says, as it would come in pieces of any size, and counts its events.
#[cfg(feature = "testing")]
pub fn relay_events(pieces: &[&[u8]]) -> usize {
    let mut lines = LineReader::default();
    let mut events = 0;
    for piece in pieces {
        lines.feed(piece, &mut |line: &str| events += usize::from(Event::parse(line) != Event::Other));
    }
    events
}

struct Events {
    reader: ChannelReadHalf,
    /// What it wrote to its standard error: words of a perl that died, or of one that only warns.
    complaint: String,
    lines: LineReader,
    waiting: std::collections::VecDeque<Event>,
}

impl Events {
    fn new(reader: ChannelReadHalf, head: &[u8]) -> Events {
        let mut events =
            Events { reader, complaint: String::new(), lines: LineReader::default(), waiting: Default::default() };
        events.feed(head);
        events
    }

    fn feed(&mut self, bytes: &[u8]) {
        let Events { lines, waiting, .. } = self;
        lines.feed(bytes, &mut |line: &str| waiting.push_back(Event::parse(line)));
    }

    /// The next event; `None` when the relay has ended. Nothing is lost if the future is dropped.
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.waiting.pop_front() {
                return Some(event);
            }
            match self.reader.wait().await? {
                ChannelMsg::Data { data } => self.feed(&data),
                ChannelMsg::ExtendedData { data, .. } if self.complaint.len() < 4096 => {
                    self.complaint.push_str(&String::from_utf8_lossy(&data));
                }
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_gets_it_from_the_one_before_and_chains_stay_short() {
        assert_eq!(preferred(0), None);
        assert_eq!(preferred(1), Some(0));
        assert_eq!(preferred(31), Some(30));
        assert_eq!(preferred(32), Some(0));
        assert_eq!(preferred(33), Some(32));
        let depth = |mut index| {
            let mut depth = 0;
            while let Some(before) = preferred(index) {
                (index, depth) = (before, depth + 1);
            }
            depth
        };
        assert_eq!((0..1000).map(depth).max(), Some(31 + 30));
    }

    #[test]
    fn who_fails_is_passed_over() {
        let spread = Spread::default();
        for last in 1..=4 {
            spread.join(Ipv4Addr::new(10, 0, 0, last), if last == 2 { 0 } else { 1000 });
        }
        let source =
            |index, failed: &[usize]| spread.source(index, &failed.iter().copied().collect()).map(|(at, _)| at);
        assert_eq!(source(0, &[]), None, "the first is fed from here");
        assert_eq!(source(2, &[]), Some(0), "the second cannot be reached by others");
        assert_eq!(source(3, &[]), Some(2));
        assert_eq!(source(3, &[2]), Some(0), "it failed for this one, not for all");
        spread.gone(0);
        assert_eq!(source(3, &[2]), None);
    }

    #[test]
    fn a_relay_is_understood() {
        assert_eq!(Event::parse("at 17 4000"), Event::At(17, 4000));
        assert_eq!(Event::parse("lost 9 Connection refused"), Event::Lost(9));
        assert_eq!(Event::parse("fail the disk is full"), Event::Fail("the disk is full".into()));
        assert_eq!(Event::parse("at x"), Event::Other);
    }
}
