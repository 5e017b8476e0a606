//! One node during a run: looking, applying, uploading, rebooting.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, anyhow, bail};
use bramble_remote::{Exit, LineReader, printable};
use bramble_shell::{Commands, Script};
use bramble_spec::Node;
use bramble_state::{
    GO_DOWN, Observation, ObservationError, Plan, Record, Resource, Turn, observe_script, parse_record, who,
};

use crate::event::{Event, Interface};
use crate::transport::{Network, Transport};

/// A node and the one connection to it.
pub struct Session<N: Network> {
    /// The node, as in the cluster file.
    pub node: Node,
    network: Arc<N>,
    transport: N::Transport,
    interface: Arc<dyn Interface>,
    /// Its turn, if it belongs to a run that changes nodes.
    turn: Option<Turn>,
}

/// How long a board may take to come back.
const REBOOT_TIMEOUT: Duration = Duration::from_secs(300);
/// The silence of a board that waits for its packages before it goes down: longer than [`GO_DOWN`] waits.
pub(crate) const HELD: Duration = Duration::from_secs(16 * 60);
/// How often a change may be found to be still missing after it was made.
const ROUNDS: usize = 4;
/// How many of the last lines of a program an error shows.
const TAIL: usize = 25;

/// What a node of this kind should have, given what it is.
pub(crate) type Desired<'a> = dyn Fn(&Observation) -> Vec<Resource> + Sync + 'a;

impl<N: Network> Session<N> {
    pub(crate) fn new(
        node: Node,
        network: Arc<N>,
        transport: N::Transport,
        interface: Arc<dyn Interface>,
    ) -> Session<N> {
        Session { node, network, transport, interface, turn: None }
    }

    /// Begins a run's turn: from now on what changes the node fails if another run has changed it.
    pub(crate) fn begin_turn(&mut self, turn: Turn) {
        self.turn = Some(turn);
    }

    /// Gives the way to the node.
    pub fn transport(&self) -> &N::Transport {
        &self.transport
    }

    /// Tells what happens at the node.
    pub fn say(&self, event: Event) {
        self.interface.event(self.node.name.as_str(), event);
    }

    /// Runs a script; each line that it prints goes to `on_line`, as it is.
    async fn run(&self, script: &Script, mut on_line: impl FnMut(&str) + Send) -> anyhow::Result<Exit> {
        let mut lines = LineReader::default();
        let exit = self.run_raw(script, &mut |bytes| lines.feed(bytes, &mut on_line)).await?;
        lines.end(&mut on_line);
        Ok(exit)
    }

    async fn run_raw(&self, script: &Script, on_output: &mut (dyn FnMut(&[u8]) + Send)) -> anyhow::Result<Exit> {
        self.say(Event::Script(script.name().to_owned()));
        let began = Instant::now();
        let result = self.transport.run(script, on_output).await;
        let how = match &result {
            Ok(exit) if exit.success() => "done".to_owned(),
            Ok(exit) => format!("exit code {} {}", exit.code, exit.stderr),
            Err(error) => error.to_string(),
        };
        self.say(Event::ScriptEnded { name: script.name().to_owned(), took: began.elapsed(), how });
        Ok(result?)
    }

    /// Looks at the node: one exchange.
    ///
    /// # Errors
    /// The connection broke, or its answer cannot be read.
    pub async fn observe(&self, resources: &[Resource]) -> anyhow::Result<Observation> {
        let mut output = String::new();
        let mut ahead = None;
        let script = observe_script(resources);
        let exit = self
            .run(&script, |line| {
                if line == "waiting" {
                    self.say(waiting_for(""));
                }
                // Clocks are compared at the moment of the answer: a node may have been met late.
                if let Some(time) = line.strip_prefix("fact time ") {
                    ahead = time.parse::<i64>().ok().and_then(|time| time.checked_sub(now()));
                }
                output.push_str(line);
                output.push('\n');
            })
            .await?;
        match Observation::parse(&output, resources) {
            Ok(mut seen) if exit.success() => {
                seen.facts.ahead = ahead;
                Ok(seen)
            }
            Ok(_) => bail!("looking at the node failed with exit code {}: {}", exit.code, exit.stderr),
            Err(error) if exit.stderr.is_empty() => Err(error.into()),
            Err(error) => bail!("{error}: {}", exit.stderr),
        }
    }

    /// Looks, until what there is can be compared with what is `desired` of a node like this one.
    ///
    /// # Errors
    /// As of [`Session::observe`].
    pub(crate) async fn look(&self, desired: &Desired<'_>) -> anyhow::Result<(Vec<Resource>, Observation)> {
        let guess = desired(&Observation::default());
        let seen = self.observe(&guess).await?;
        let resources = desired(&seen);
        // The first look asked about a node nobody knew; where that left a text unread, look again.
        if resources != guess && !seen.suffices(&resources, &guess) {
            let seen = self.observe(&resources).await?;
            return Ok((desired(&seen), seen));
        }
        Ok((resources, seen))
    }

    /// Carries out a plan in one exchange, after the uploads it needs. `on_fact` gets what later phases need.
    pub(crate) async fn apply(&self, plan: &Plan, mut on_fact: impl FnMut(&str, &str) + Send) -> anyhow::Result<()> {
        for upload in plan.changes.iter().flat_map(|change| &change.uploads) {
            self.say(Event::Upload(upload.name.clone()));
            let mut on_progress = |have: u64, size: u64| {
                self.say(Event::Uploaded(format!("{} {} %", upload.name, have.saturating_mul(100) / size.max(1))));
            };
            self.transport.deliver(upload, &mut on_progress).await?;
        }
        let total = plan.changes.len();
        let mut tail = Tail::default();
        let mut failed = None;
        let mut busy = false;
        let mut done = 0;
        let mut stale = None;
        let exit = self
            .run(&self.in_turn(plan.script()), |line| match parse_record(line) {
                Record::Waiting(what) => self.say(waiting_for(what)),
                Record::Busy => busy = true,
                Record::Stale(run) => stale = Some(over(run)),
                Record::Start(index) => {
                    tail.clear();
                    if let Some(change) = plan.changes.get(index)
                        && !change.quiet
                    {
                        self.say(Event::Change { number: index + 1, total, title: change.title.clone() });
                    }
                }
                Record::Done(_) => done += 1,
                Record::Failed(index, code) => failed = Some((index, code)),
                Record::Fact(name, value) => on_fact(name, value),
                Record::Title(text) | Record::Tried(text) | Record::Line(text) => self.line(&mut tail, text),
            })
            .await?;
        if busy {
            return Err(ObservationError::Busy.into());
        }
        if let Some(error) = stale {
            return Err(error);
        }
        if let Some((index, code)) = failed {
            let title = plan.changes.get(index).map_or("a change", |change| change.title.as_str());
            return Err(failure(title, code, &tail));
        }
        if !exit.success() {
            bail!("the changes failed with exit code {}: {}", exit.code, exit.stderr);
        }
        if done != total {
            bail!("the node says of {done} of {total} changes that they are made, and nothing of the others");
        }
        Ok(())
    }

    fn in_turn(&self, script: Script) -> Script {
        match &self.turn {
            Some(turn) => turn.for_plan(script),
            None => script,
        }
    }

    fn line(&self, tail: &mut Tail, text: &str) {
        // Of a line that a program wrote over and over, a terminal shows the last state.
        let text = printable(text.trim_end_matches('\r').rsplit('\r').next().unwrap_or_default());
        tail.push(text.clone());
        self.say(Event::Line(text));
    }

    /// Brings the node to what is `desired`: look, change, boot if needed, look again, until nothing is left.
    pub(crate) async fn converge(
        &mut self,
        desired: &Desired<'_>,
        mut first: Option<(Plan, Observation)>,
    ) -> anyhow::Result<(Observation, usize)> {
        let mut changes = 0;
        for _ in 0..ROUNDS {
            let (plan, seen) = match first.take() {
                Some(first) => first,
                None => {
                    self.say(Event::Looking);
                    let (resources, seen) = self.look(desired).await?;
                    (bramble_state::plan(&resources, &seen), seen)
                }
            };
            if let Some(problem) = plan.problems.first() {
                bail!("{problem}");
            }
            if plan.is_empty() {
                return Ok((seen, changes));
            }
            changes += plan.changes.iter().filter(|change| !change.quiet).count();
            if !plan.changes.is_empty() {
                self.apply(&plan, |_, _| {}).await?;
            }
            if let Some(reason) = &plan.reboot {
                self.reboot(&seen.facts.boot_id, reason).await?;
            }
        }
        self.say(Event::Looking);
        let (resources, seen) = self.look(desired).await?;
        let plan = bramble_state::plan(&resources, &seen);
        if plan.is_empty() {
            return Ok((seen, changes));
        }
        let mut left: Vec<String> = plan.changes.iter().map(|change| change.title.clone()).collect();
        left.extend(plan.reboot);
        bail!(
            "after {ROUNDS} rounds there is still something to change: {}; does something else on the node undo it?",
            left.join(", ")
        )
    }

    /// Boots the node and waits until it is another boot.
    pub(crate) async fn reboot(&mut self, boot_id: &str, reason: &str) -> anyhow::Result<()> {
        self.say(Event::Rebooting(reason.to_owned()));
        let boot = Script::new("boot", Commands::new().fixed(GO_DOWN).fixed("go_down reboot"));
        let boot = boot.silent_for(HELD);
        // The connection goes down with the board, at any moment. A slow card takes its time to write out what it holds.
        let boot = match &self.turn {
            Some(turn) => turn.for_step(boot),
            None => boot,
        };
        let mut stale = None;
        let over_turn = |line: &str| {
            if let Record::Stale(run) = parse_record(line) {
                stale = Some(over(run));
            }
        };
        if let Ok(exit) = self.run(&boot, over_turn).await
            && !exit.success()
        {
            if let Some(error) = stale {
                return Err(error);
            }
            bail!("it does not boot ({reason}): exit code {} {}", exit.code, exit.stderr);
        }
        let which = Script::new("say which boot this is", Commands::new().fixed("cat /proc/sys/kernel/random/boot_id"))
            .silent_for(Duration::from_secs(15));
        let started = tokio::time::Instant::now();
        loop {
            tokio::time::sleep(Duration::from_millis(300)).await;
            if let Ok(Ok(transport)) =
                tokio::time::timeout(Duration::from_secs(15), self.network.connect(&self.node)).await
            {
                self.transport = transport;
                let mut id = String::new();
                let look = self.run(&which, |line| id = line.to_owned()).await;
                if look.is_ok_and(|exit| exit.success()) && !id.is_empty() && id != boot_id {
                    return Ok(());
                }
            }
            if started.elapsed() > REBOOT_TIMEOUT {
                bail!(
                    "it did not come back within {} s after a reboot ({reason}): look at its screen or its power, then run bramble again",
                    REBOOT_TIMEOUT.as_secs()
                );
            }
        }
    }

    /// Runs a script that changes the node or the cluster, if the run still has its turn on the node; else as
    /// [`Session::ask`].
    ///
    /// # Errors
    /// Another run has changed the node since this one looked at it; or as of [`Session::ask`].
    pub async fn act(&self, script: &Script, on_fact: impl FnMut(&str, &str) + Send) -> anyhow::Result<String> {
        match &self.turn {
            Some(turn) => self.ask(&turn.for_step(script.clone()), on_fact).await,
            None => self.ask(script, on_fact).await,
        }
    }

    /// Runs a script that only asks, or that is a gate; its facts go to `on_fact`, its output comes back.
    ///
    /// # Errors
    /// The connection broke, or the script failed: then with what it said.
    pub async fn ask(&self, script: &Script, mut on_fact: impl FnMut(&str, &str) + Send) -> anyhow::Result<String> {
        let mut output = String::new();
        let mut stale = None;
        let exit = self
            .run(script, |line| match parse_record(line) {
                Record::Waiting(what) => self.say(waiting_for(what)),
                Record::Stale(run) => stale = Some(over(run)),
                Record::Fact(name, value) => on_fact(name, value),
                Record::Tried(text) => self.say(Event::Line(printable(text))),
                _ => {
                    output.push_str(line);
                    output.push('\n');
                }
            })
            .await?;
        if exit.success() {
            return Ok(output);
        }
        if let Some(error) = stale {
            return Err(error);
        }
        Err(match (exit.stderr.as_str(), output.trim()) {
            ("", "") => anyhow!("the script that was to {} failed with exit code {}", script.name(), exit.code),
            ("", output) => anyhow!("{}", last_lines(&printable(output))),
            (stderr, _) => anyhow!("{stderr}"),
        })
    }

    /// Runs a script whose output is no text, but a file; it goes to `to`.
    pub(crate) async fn read(&self, script: &Script, to: &mut (impl std::io::Write + Send)) -> anyhow::Result<()> {
        let mut written = Ok(());
        let exit = self
            .run_raw(script, &mut |bytes| {
                if written.is_ok() {
                    written = to.write_all(bytes);
                }
            })
            .await?;
        written.context("cannot keep what the node sends")?;
        if !exit.success() {
            bail!("it failed with exit code {}: {}", exit.code, exit.stderr);
        }
        Ok(())
    }

    /// Replays the ledger; gives how many changes were undone.
    pub(crate) async fn undo(&self) -> anyhow::Result<usize> {
        let mut title = String::new();
        let mut tail = Tail::default();
        let mut failed = None;
        let mut busy = false;
        let mut whole = false;
        let mut count = 0;
        let mut stale = None;
        let exit = self
            .run(&self.in_turn(bramble_state::undo_script()), |line| match parse_record(line) {
                Record::Waiting(what) => self.say(waiting_for(what)),
                Record::Busy => busy = true,
                Record::Stale(run) => stale = Some(over(run)),
                Record::Title(text) => {
                    title = printable(text);
                    self.say(Event::Undo(title.clone()));
                    tail.clear();
                }
                Record::Done(_) => count += 1,
                Record::Failed(_, code) => failed = Some(code),
                Record::Fact(name, _) => whole |= name == bramble_state::UNDONE,
                Record::Line(text) | Record::Tried(text) => self.line(&mut tail, text),
                _ => {}
            })
            .await?;
        if busy {
            return Err(ObservationError::Busy.into());
        }
        if let Some(error) = stale {
            return Err(error);
        }
        if let Some(code) = failed {
            return Err(failure(&title, code, &tail));
        }
        if !exit.success() {
            bail!("undoing failed with exit code {}: {}", exit.code, exit.stderr);
        }
        if !whole {
            bail!("the node does not say that all is undone");
        }
        Ok(count)
    }
}

/// Why nothing was changed on a node whose turn is over.
fn over(run: &str) -> anyhow::Error {
    anyhow!(
        "another run of bramble ({}) has changed it since this one looked at it, so nothing was changed here; run bramble again",
        printable(who(run))
    )
}

/// Seconds since 1970 by this machine's clock.
fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// The last lines that a program printed.
#[derive(Default)]
struct Tail(VecDeque<String>);

impl Tail {
    fn push(&mut self, line: String) {
        if self.0.len() == TAIL {
            self.0.pop_front();
        }
        self.0.push_back(line);
    }

    fn clear(&mut self) {
        self.0.clear();
    }
}

fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(TAIL)..].join("\n")
}

fn failure(title: &str, code: u32, tail: &Tail) -> anyhow::Error {
    let lines: String = tail.0.iter().map(|line| format!("\n    {line}")).collect();
    anyhow!("`{title}` failed with exit code {code}{lines}")
}

/// What a node waits for: by its own words, or for another bramble's turn to end.
fn waiting_for(what: &str) -> Event {
    Event::Waiting(if what.is_empty() { "an earlier run on this node to finish".into() } else { what.to_owned() })
}
