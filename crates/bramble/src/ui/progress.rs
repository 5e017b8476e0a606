//! What goes on at each node: on a terminal one live line each, or, where they would not fit on it, numbers and the
//! nodes that take longest; plain lines elsewhere.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use bramble_engine::{Event, Interface};
use bramble_fetch::Watcher;
use bramble_remote::UnknownKey;

use crate::ui::live::LiveLine;
use crate::ui::printer::{Printer, Style};

/// The lines of all nodes.
#[derive(Clone)]
pub(crate) struct Progress {
    inner: Arc<Inner>,
}

struct Inner {
    printer: Printer,
    shown: Shown,
    width: usize,
    started: Instant,
}

/// What of it is on the screen.
enum Shown {
    /// Nothing: events are printed as lines. What each node was last said to wait for is not said again.
    Nothing(Mutex<BTreeMap<String, String>>),
    /// A line for each node.
    Each(BTreeMap<String, LiveLine>),
    /// Numbers, and the nodes that take longest.
    Crowd(Arc<Crowd>, Vec<LiveLine>),
}

/// How far each of many nodes is.
#[derive(Default)]
struct Crowd {
    nodes: Mutex<BTreeMap<String, (Phase, Instant, String)>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Done,
    Failed,
    Rebooting,
    Waiting,
    Changing,
    Looking,
    Connecting,
}

impl Phase {
    const ALL: [Phase; 7] = [
        Phase::Done,
        Phase::Failed,
        Phase::Rebooting,
        Phase::Waiting,
        Phase::Changing,
        Phase::Looking,
        Phase::Connecting,
    ];

    fn of(event: &Event) -> Phase {
        match event {
            Event::Connecting => Phase::Connecting,
            Event::Looking | Event::Running => Phase::Looking,
            Event::Upload(_)
            | Event::Uploaded(_)
            | Event::Change { .. }
            | Event::Script(_)
            | Event::ScriptEnded { .. }
            | Event::Line(_)
            | Event::Undo(_) => Phase::Changing,
            Event::Rebooting(_) => Phase::Rebooting,
            Event::Waiting(_) => Phase::Waiting,
            Event::Looked | Event::Done(_) => Phase::Done,
            Event::Lost | Event::Failed(_) => Phase::Failed,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Phase::Done => "done",
            Phase::Failed => "failed",
            Phase::Rebooting => "rebooting",
            Phase::Waiting => "waiting",
            Phase::Changing => "changing",
            Phase::Looking => "at work",
            Phase::Connecting => "connecting",
        }
    }
}

/// Lines for the nodes that take longest.
const SLOWEST: usize = 5;

impl Crowd {
    fn note(&self, name: &str, event: &Event, text: String) {
        let mut nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        let phase = Phase::of(event);
        let since = nodes.get(name).filter(|(old, ..)| *old == phase).map_or_else(Instant::now, |(_, since, _)| *since);
        nodes.insert(name.to_owned(), (phase, since, text));
    }

    fn numbers(&self) -> String {
        let nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        let count = |phase: &Phase| (nodes.values().filter(|(is, ..)| is == phase).count(), *phase);
        let numbers = Phase::ALL.iter().map(count).filter(|(count, _)| *count > 0);
        numbers.map(|(count, phase)| format!("{count} {}", phase.word())).collect::<Vec<_>>().join(" · ")
    }

    /// The node that is the `place`-th in how long it has been at the same thing.
    fn slowest(&self, place: usize) -> Option<String> {
        let nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        let at_work = |(_, (phase, ..)): &(&String, &(Phase, Instant, String))| *phase > Phase::Failed;
        let mut all: Vec<_> =
            nodes.iter().filter(at_work).map(|(name, (_, since, text))| (since, name, text)).collect();
        all.sort();
        let (since, name, text) = all.get(place)?;
        let seconds = since.elapsed().as_secs();
        (seconds > 0).then(|| format!("{name}: {text} ({seconds} s)"))
    }
}

impl Progress {
    pub(crate) fn new<'a>(printer: &Printer, names: impl IntoIterator<Item = &'a str>) -> Progress {
        let names: Vec<&str> = names.into_iter().collect();
        let width = names.iter().map(|name| name.len()).max().unwrap_or(0);
        let rows = rustix::termios::tcgetwinsize(std::io::stderr()).map_or(24, |size| usize::from(size.ws_row));
        let shown = match () {
            () if !printer.live => Shown::Nothing(Mutex::default()),
            () if names.len() + 2 <= rows => {
                let line = |name: &&str| ((*name).to_owned(), printer.lines.spinner(&format!("{name:width$}")));
                Shown::Each(names.iter().map(line).collect())
            }
            () => {
                let crowd = Arc::new(Crowd::default());
                let lines = crowd_lines(printer, &crowd, names.len());
                Shown::Crowd(crowd, lines)
            }
        };
        Progress { inner: Arc::new(Inner { printer: printer.clone(), shown, width, started: Instant::now() }) }
    }

    fn show(&self, name: &str, event: Event) {
        let inner = &*self.inner;
        let printer = &inner.printer;
        let text = match &event {
            Event::Script(_) => return,
            Event::Line(_) | Event::ScriptEnded { .. } => {
                if printer.verbose {
                    let text = printer.style(Style::Dim, &event.describe());
                    printer.info(format!("{name:width$}   {text}", width = inner.width));
                }
                return;
            }
            // All of it is said at the end.
            Event::Failed(why) => format!("failed: {}", why.lines().next().unwrap_or("")),
            other => other.describe(),
        };
        match &inner.shown {
            Shown::Each(lines) => {
                let Some(line) = lines.get(name) else { return };
                match event {
                    Event::Done(_) => line.stay(format!("{} {text}", printer.style(Style::Good, "✓"))),
                    Event::Failed(_) => line.stay(format!("{} {text}", printer.style(Style::Bad, "✗"))),
                    _ => line.say(text),
                }
            }
            Shown::Crowd(crowd, _) => crowd.note(name, &event, text),
            Shown::Nothing(said) => {
                let before = said.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), text.clone());
                if matches!(event, Event::Waiting(_)) && before.is_some_and(|before| before == text) {
                    return;
                }
                let dull = matches!(
                    event,
                    Event::Connecting
                        | Event::Looking
                        | Event::Looked
                        | Event::Running
                        | Event::Lost
                        | Event::Uploaded(_)
                );
                if printer.verbose || !dull {
                    let seconds = inner.started.elapsed().as_secs_f32();
                    printer.info(format!("{name:width$} {seconds:6.1}s {text}", width = inner.width));
                }
            }
        }
    }

    /// Leaves the lines as they are and gives the terminal back.
    pub(crate) fn end(&self) {
        match &self.inner.shown {
            Shown::Nothing(_) => {}
            Shown::Each(lines) => lines.values().for_each(LiveLine::end),
            Shown::Crowd(_, lines) => lines.iter().for_each(LiveLine::end),
        }
        self.inner.printer.lines.close();
    }
}

/// One line with the numbers, and one each for the slowest; all of them read the crowd when they are drawn.
fn crowd_lines(printer: &Printer, crowd: &Arc<Crowd>, nodes: usize) -> Vec<LiveLine> {
    let numbers = crowd.clone();
    let head = printer.lines.told(Some(&format!("{nodes} nodes")), Arc::new(move || numbers.numbers()));
    let slowest = (0..SLOWEST).map(|place| {
        let crowd = crowd.clone();
        printer.lines.told(None, Arc::new(move || crowd.slowest(place).unwrap_or_default()))
    });
    std::iter::once(head).chain(slowest).collect()
}

impl Watcher for Progress {
    fn note(&self, text: &str) {
        self.inner.printer.info(text);
    }

    fn transfer(&self, what: &str, done: u64, total: Option<u64>) {
        self.inner.printer.transfer(what, done, total);
    }
}

impl Interface for Progress {
    fn event(&self, node: &str, event: Event) {
        self.show(node, event);
    }

    fn trusts(&self, keys: &[UnknownKey]) -> bool {
        self.end();
        let printer = &self.inner.printer;
        let mut text = "New host keys:\n".to_owned();
        for key in keys {
            text.push_str(&format!("  {:<24} {}\n", key.host, key.fingerprint));
        }
        printer.error(text);
        // Without an answer there is no trust.
        printer.confirm("Trust these host keys? Compare them with the boards").unwrap_or(false)
    }
}
