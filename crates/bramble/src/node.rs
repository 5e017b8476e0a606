//! One node during a run: looking, applying, uploading, rebooting.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use bramble_remote::{ConnectError, Connection, Credentials, Dialer, Exit, Parcel, Recipient, Root, Spreader, Target};
use bramble_shell::{Commands, Script};
use bramble_spec::Node;
use bramble_state::{BLOBS, Observation, Plan, Record, Resource, observe_script, parse_record};

use crate::progress::{Event, Progress};

/// A node and the one connection to it.
pub(crate) struct NodeSession {
    pub(crate) node: Node,
    pub(crate) target: Target,
    pub(crate) credentials: Credentials,
    pub(crate) dialer: Arc<Dialer>,
    pub(crate) spreader: Arc<Spreader>,
    pub(crate) root: Root,
    pub(crate) connection: Connection,
    pub(crate) progress: Progress,
}

/// How long a board may take to come back.
const REBOOT_TIMEOUT: Duration = Duration::from_secs(300);
/// How often a change may be found to be still missing after it was made.
const ROUNDS: usize = 4;

impl NodeSession {
    pub(crate) fn say(&self, event: Event) {
        self.progress.event(self.node.name.as_str(), event);
    }

    async fn script(&self, script: &Script, on_line: impl FnMut(&str)) -> anyhow::Result<Exit> {
        Ok(self.connection.run_script(&self.root, script, on_line).await?)
    }

    /// Looks at the node: one exchange.
    pub(crate) async fn observe(&self, resources: &[Resource]) -> anyhow::Result<Observation> {
        let mut output = String::new();
        let script = observe_script(resources);
        let exit = self
            .script(&script, |line| {
                if line == "waiting" {
                    self.say(Event::Waiting("another run on this node".into()));
                }
                output.push_str(line);
                output.push('\n');
            })
            .await?;
        let seen = Observation::parse(&output, resources);
        match seen {
            Ok(seen) if exit.success() => Ok(seen),
            Ok(_) => bail!("looking at the node failed with exit code {}: {}", exit.code, exit.stderr),
            Err(error) if exit.stderr.is_empty() => Err(error.into()),
            Err(error) => bail!("{error}: {}", exit.stderr),
        }
    }

    /// Looks, until what there is can be compared with what `wish` wants of a node like this one.
    pub(crate) async fn look(
        &self,
        wish: &(dyn Fn(&Observation) -> Vec<Resource> + Sync),
    ) -> anyhow::Result<(Vec<Resource>, Observation)> {
        let guess = wish(&Observation::default());
        let seen = self.observe(&guess).await?;
        let resources = wish(&seen);
        // The first look asked about a node nobody knew; where that left a text unread, look again.
        if resources != guess && !seen.suffices(&resources, &guess) {
            let seen = self.observe(&resources).await?;
            return Ok((wish(&seen), seen));
        }
        Ok((resources, seen))
    }

    /// Carries out a plan in one exchange, after the uploads it needs. `on_fact` gets what later stages need.
    pub(crate) async fn apply(&self, plan: &Plan, mut on_fact: impl FnMut(&str, &str)) -> anyhow::Result<()> {
        for upload in plan.changes.iter().flat_map(|change| &change.uploads) {
            self.say(Event::Upload(upload.name.clone()));
            let parcel = Parcel {
                name: &upload.name,
                digest: upload.sha256.as_str(),
                folder: BLOBS,
                from: &upload.from,
                secret: upload.secret,
            };
            let to = Recipient { connection: &self.connection, root: &self.root, address: self.node.address };
            self.spreader
                .deliver(&to, &parcel, |have, size| {
                    self.say(Event::Uploaded(format!("{} {} %", upload.name, have * 100 / size.max(1))));
                })
                .await?;
        }
        let total = plan.changes.len();
        let mut tail: Vec<String> = Vec::new();
        let mut failed = None;
        let mut busy = false;
        let exit = self
            .script(&plan.script(), |line| match parse_record(line) {
                Record::Waiting => self.say(Event::Waiting("another run on this node".into())),
                Record::Busy => busy = true,
                Record::Start(index) => {
                    tail.clear();
                    if let Some(change) = plan.changes.get(index)
                        && !change.quiet
                    {
                        self.say(Event::Change { number: index + 1, total, title: change.title.clone() });
                    }
                }
                Record::Done(_) => {}
                Record::Failed(index, code) => failed = Some((index, code)),
                Record::Fact(name, value) => on_fact(name, value),
                Record::Title(text) | Record::Tried(text) | Record::Line(text) => {
                    self.say(Event::Line(text.to_owned()));
                    if tail.len() == 25 {
                        tail.remove(0);
                    }
                    tail.push(text.to_owned());
                }
            })
            .await?;
        if busy {
            bail!("another run of bramble has been working on this node for 15 minutes; end it, or wait for it");
        }
        if let Some((index, code)) = failed {
            let title = plan.changes.get(index).map_or("a change", |change| change.title.as_str());
            return Err(failure(title, code, &tail));
        }
        if !exit.success() {
            bail!("the changes failed with exit code {}: {}", exit.code, exit.stderr);
        }
        Ok(())
    }

    /// Brings the node to what `wish` wants: look, change, boot if needed, look again, until nothing is left.
    pub(crate) async fn converge(
        &mut self,
        wish: &(dyn Fn(&Observation) -> Vec<Resource> + Sync),
        mut first: Option<(Plan, Observation)>,
    ) -> anyhow::Result<(Observation, usize)> {
        let mut changes = 0;
        for _ in 0..ROUNDS {
            let (plan, seen) = match first.take() {
                Some(first) => first,
                None => {
                    self.say(Event::Looking);
                    let (resources, seen) = self.look(wish).await?;
                    (bramble_state::plan(&resources, &seen), seen)
                }
            };
            if let Some(problem) = plan.problems.first() {
                bail!("{}", problem.message);
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
        let (resources, seen) = self.look(wish).await?;
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
    async fn reboot(&mut self, boot_id: &str, reason: &str) -> anyhow::Result<()> {
        self.say(Event::Rebooting(reason.to_owned()));
        // The connection goes down with the board, so how the command ends does not matter.
        let mut ask = Commands::new();
        ask.fixed("sync\nsystemctl --no-block reboot");
        let script = Script::new("boot", &ask);
        let ask = self.script(&script, |_| {});
        tokio::time::timeout(Duration::from_secs(20), ask).await.ok();
        let started = Instant::now();
        loop {
            tokio::time::sleep(Duration::from_millis(300)).await;
            if let Ok(Ok(connection)) = tokio::time::timeout(Duration::from_secs(15), self.connect()).await {
                self.connection = connection;
                let mut id = String::new();
                let mut ask = Commands::new();
                ask.fixed("cat /proc/sys/kernel/random/boot_id");
                let script = Script::new("say which boot this is", &ask);
                let look = self.script(&script, |line| id = line.to_owned()).await;
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

    async fn connect(&self) -> Result<Connection, ConnectError> {
        Connection::open(&self.target, &self.credentials, &self.dialer).await
    }

    /// Runs a script that only asks, or that is a gate; its facts go to `on_fact`, its output comes back.
    pub(crate) async fn ask(&self, script: &Script, mut on_fact: impl FnMut(&str, &str)) -> anyhow::Result<String> {
        let mut output = String::new();
        let exit = self
            .script(script, |line| match parse_record(line) {
                Record::Fact(name, value) => on_fact(name, value),
                Record::Tried(text) => self.say(Event::Line(text.to_owned())),
                _ => {
                    output.push_str(line);
                    output.push('\n');
                }
            })
            .await?;
        if exit.success() {
            return Ok(output);
        }
        let why = if exit.stderr.is_empty() { output.trim() } else { exit.stderr.as_str() };
        Err(anyhow!("{why}"))
    }

    /// Runs a script whose output is no text, but a file; it goes to `to`.
    pub(crate) async fn read(&self, script: &Script, to: &mut impl std::io::Write) -> anyhow::Result<()> {
        let mut written = Ok(());
        let exit = self
            .connection
            .read_script(&self.root, script, |bytes| {
                if written.is_ok() {
                    written = to.write_all(bytes);
                }
            })
            .await?;
        written.context("cannot keep what the node sends")?;
        if !exit.success() {
            bail!("{}", exit.stderr);
        }
        Ok(())
    }

    /// Replays the ledger.
    pub(crate) async fn undo(&self) -> anyhow::Result<usize> {
        let mut title = String::new();
        let mut tail: Vec<String> = Vec::new();
        let mut failed = None;
        let mut count = 0;
        let exit = self
            .script(&bramble_state::undo_script(), |line| match parse_record(line) {
                Record::Title(text) => {
                    title = text.to_owned();
                    self.say(Event::Undo(text.to_owned()));
                    tail.clear();
                }
                Record::Done(_) => count += 1,
                Record::Failed(_, code) => failed = Some(code),
                Record::Line(text) => {
                    self.say(Event::Line(text.to_owned()));
                    tail.push(text.to_owned());
                }
                _ => {}
            })
            .await?;
        if let Some(code) = failed {
            return Err(failure(&title, code, &tail));
        }
        if !exit.success() {
            bail!("undoing failed with exit code {}: {}", exit.code, exit.stderr);
        }
        Ok(count)
    }
}

fn failure(title: &str, code: u32, tail: &[String]) -> anyhow::Error {
    let lines: String = tail.iter().map(|line| format!("\n    {line}")).collect();
    anyhow!("`{title}` failed with exit code {code}{lines}")
}
