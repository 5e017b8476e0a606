//! A run, as a person sees it: what would change is shown, asked for, and done.

use std::io::IsTerminal;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::{anyhow, bail};
use bramble_engine::{
    Fleet, Goal, Interface, Planned, Project, Run, RunLog, Session, Setup, SshNetwork, Summary, refuse_foreign, speaker,
};
use bramble_fetch::LockFile;
use bramble_kube::{Identity, Inputs, Lifecycle};
use bramble_shell::Script;
use bramble_spec::{Distribution, Node, NodeName, civil, group, lines, name_ranges};
use serde_json::json;

use crate::confirmed::Confirmed;
use crate::ui::plan;
use crate::ui::printer::{Format, Printer, Style};
use crate::ui::progress::Progress;
use crate::{Done, cluster_file, sudo_user};

/// How a run is driven.
pub(crate) struct Drive<'a> {
    pub(crate) project: &'a Project,
    pub(crate) printer: &'a Printer,
    /// What was called.
    pub(crate) command: &'static str,
    /// What is not asked any more.
    pub(crate) confirmed: Confirmed,
    /// Whether a cluster that the lock file does not know is managed from here.
    pub(crate) adopt: bool,
    /// The identity of the cluster, where the lock file may not know it.
    pub(crate) identity: Option<Identity>,
    /// The phase with which it begins, if not with the first.
    pub(crate) from: Option<String>,
}

/// A run that has looked, with what hears of it.
pub(crate) struct Looked {
    pub(crate) run: Run<SshNetwork>,
    log: Arc<RunLog>,
}

impl Drive<'_> {
    /// Looks at all nodes.
    pub(crate) async fn look(&self, inputs: Inputs, goal: Goal) -> anyhow::Result<Looked> {
        let project = self.project;
        let names = project.cluster.nodes.iter().map(|node| node.name.as_str());
        let progress = Arc::new(Progress::new(self.printer, names));
        let private = project.private_dir()?;
        let log = begin_log(project, self.command, progress.clone())?;
        log.text("run", &format!("bramble {} {} on {}", env!("CARGO_PKG_VERSION"), self.command, project.cluster.name));
        let setup = Setup {
            network: cluster_file::network(project)?,
            cluster: Arc::new(project.cluster.clone()),
            inputs: Arc::new(inputs),
            releases: project.sources()?.releases(),
            private,
            interface: log.clone(),
            from: self.from.clone(),
            identity: project.identity()?.or_else(|| self.identity.clone()),
            adopt: self.adopt,
            who: sudo_user::who(),
        };
        let run = Run::look(setup, goal).await;
        progress.end();
        Ok(Looked { run: run?, log })
    }

    /// Goes from what is to what should be: asks, changes, waits until all is well. Nothing comes back if there was nothing
    /// to do. `title`: what is said first if there is.
    pub(crate) async fn go(&self, looked: &mut Looked, mut title: Option<String>) -> anyhow::Result<Option<Summary>> {
        let Looked { run, log } = looked;
        loop {
            let planned = run.plan().map_err(|error| with_log(error.into(), log))?;
            if let Some(title) = title.take().filter(|_| self.printer.format == Format::Text && !planned.is_done) {
                self.printer.info(title);
            }
            if !planned.obstacles.is_empty() {
                let list = lines(&planned.obstacles);
                log.text("obstacles", &list);
                bail!("nothing was changed, because of:{list}");
            }
            if planned.is_done {
                self.keep_identity(run)?;
                return Ok(None);
            }
            log.text("planned", &plan::render_plans(&self.printer.plain(), &planned.nodes));
            self.announce(run, &planned);
            self.ask(run, &planned)?;
            self.keep_identity(run)?;
            let names = run.names();
            let progress = Arc::new(Progress::new(self.printer, names.iter().map(String::as_str)));
            log.pass_on(progress.clone());
            let applied = run.apply().await;
            progress.end();
            self.keep_identity(run)?;
            match applied {
                Ok(None) => {}
                Ok(Some(summary)) => return Ok(Some(summary)),
                Err(error) => return Err(with_log(error.into(), log)),
            }
        }
    }

    fn announce(&self, run: &Run<SshNetwork>, planned: &Planned) {
        if let Some(phase) = planned.first {
            let (behind, _) = run.losses();
            self.printer.info(match behind.is_empty() {
                true => format!("The {phase} comes first: it boots, and the way to the others leads through it."),
                false => format!(
                    "The {phase} comes first: {} may have no address before.",
                    name_ranges(behind.iter().map(|name| name.as_str()))
                ),
            });
        }
        // What is undone is written on the nodes.
        let undoes = self.command == "down";
        if self.printer.format == Format::Text && !self.printer.quiet && !undoes {
            self.printer.info(summary(self.printer, planned));
        }
    }

    fn ask(&self, run: &Run<SshNetwork>, planned: &Planned) -> anyhow::Result<()> {
        let named = self.confirmed.agree(self.printer, run.destroys(), "This cannot be undone:", "Go on?")?;
        let asks = named && std::io::stdin().is_terminal() && !self.confirmed.changes && planned.count() > 0;
        if asks && !self.printer.confirm("Make these changes?")? {
            bail!("nothing was changed");
        }
        Ok(())
    }

    fn lock_file(&self) -> anyhow::Result<LockFile> {
        Ok(self.project.sources()?.lock_file()?)
    }

    /// Keeps whose the nodes are, so that no other cluster is taken for this one.
    fn keep_identity(&self, run: &Run<SshNetwork>) -> anyhow::Result<()> {
        if self.command != "down" {
            self.lock_file()?.set_identity(&self.project.cluster.name, Some(run.identity()))?;
        }
        Ok(())
    }

    /// Forgets the cluster, which is gone.
    pub(crate) fn forget_identity(&self) -> anyhow::Result<()> {
        Ok(self.lock_file()?.set_identity(&self.project.cluster.name, None)?)
    }

    /// Says how it ended.
    pub(crate) fn report(
        &self,
        run: &Run<SshNetwork>,
        summary: Option<Summary>,
        started: Instant,
    ) -> anyhow::Result<Done> {
        let (printer, cluster) = (self.printer, &self.project.cluster);
        let seconds = started.elapsed().as_secs_f64();
        let (changes, smoke, notes) = match &summary {
            Some(summary) => (summary.changes, summary.smoke.clone(), summary.notes.clone()),
            None => (run.changes(), None, Vec::new()),
        };
        for note in &notes {
            printer.info(note);
        }
        if printer.format == Format::Json {
            printer.json(&json!({ "cluster": cluster.name, "changes": changes, "seconds": seconds, "smoke": smoke }));
        } else if changes == 0 && smoke.is_none() {
            let nodes = run.answering();
            printer.result(format!("Nothing changed: {nodes} nodes are as the cluster file says ({seconds:.1} s)."));
        } else {
            if let Some(smoke) = smoke {
                printer.result(format!("Smoke test {smoke}."));
            }
            printer.result(format!(
                "{} {} is up: {changes} changes in {seconds:.1} s.",
                printer.style(Style::Good, "✓"),
                cluster.name
            ));
            if cluster.distribution != Distribution::None {
                printer.result(format!(
                    "Next: `bramble kubeconfig` adds the context {} to your kubeconfig, `bramble status` shows how it is.",
                    cluster.name
                ));
            }
        }
        let (lost, losses) = run.losses();
        if lost.is_empty() {
            return Ok(Done::Good);
        }
        let switched = |name: &&NodeName| {
            let node = cluster.nodes.iter().find(|node| node.name == **name);
            node.is_some_and(|node| cluster.power_switch(node).is_some())
        };
        let hint = match lost.iter().find(switched) {
            Some(name) => {
                format!("\n`bramble power cycle {name}` takes the power of a board that hangs away, and gives it back")
            }
            None => String::new(),
        };
        bail!(
            "{} nodes could not be reached and are unchanged; run `bramble up` again when they can:{losses}{hint}",
            lost.len()
        )
    }
}

/// Begins the log of a run of this command.
pub(crate) fn begin_log(project: &Project, command: &str, next: Arc<dyn Interface>) -> anyhow::Result<Arc<RunLog>> {
    let name = format!("{}-{command}-{}", stamp(), project.cluster.name);
    Ok(Arc::new(RunLog::begin(&project.private_dir()?.join("log"), &name, next)?))
}

/// The time in UTC, for the name of a file.
pub(crate) fn stamp() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let seconds = i64::try_from(since.as_secs()).unwrap_or_default();
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days);
    let (hours, minutes, seconds, part) = (rest / 3600, rest / 60 % 60, rest % 60, since.subsec_millis());
    format!("{year:04}{month:02}{day:02}T{hours:02}{minutes:02}{seconds:02}.{part:03}Z")
}

pub(crate) fn with_log(error: anyhow::Error, log: &RunLog) -> anyhow::Error {
    log.text("failed", &format!("{error:#}"));
    anyhow!("{error:#}\nthe log of this run is in {}", log.path().display())
}

fn summary(printer: &Printer, planned: &Planned) -> String {
    let words = |plan: &bramble_engine::NodePlan| {
        let mut words = Vec::new();
        match plan.changes().count() {
            0 => {}
            1 => words.push("1 change".to_owned()),
            n => words.push(format!("{n} changes")),
        }
        words.extend(plan.plan.reboot.iter().map(|_| "reboot".to_owned()));
        words.extend(plan.steps.iter().cloned());
        if words.is_empty() {
            words.push("nothing to change".to_owned());
        }
        words.join(", ")
    };
    let groups = group(planned.nodes.iter().map(|plan| (plan.name.as_str(), words(plan))));
    let lines: Vec<(String, String)> = groups.into_iter().map(|(names, words)| (name_ranges(names), words)).collect();
    let width = lines.iter().map(|(names, _)| names.len()).max().unwrap_or(0).min(40);
    let text: String = lines.iter().map(|(names, words)| format!("  {names:width$}  {words}\n")).collect();
    format!("{text}{}", printer.style(Style::Dim, "(`bramble plan` shows every difference)"))
}

/// Does `work` on these nodes, each as soon as it answers, for commands that only ask. A sudo password is asked for when the network
/// is made: one network serves a whole command.
pub(crate) async fn visit<T: Send + 'static, F>(
    network: &Arc<SshNetwork>,
    nodes: &[Node],
    printer: &Printer,
    work: impl Fn(Session<SshNetwork>) -> F + Send + Sync + 'static,
) -> anyhow::Result<Fleet<T>>
where
    F: Future<Output = anyhow::Result<T>> + Send,
{
    let progress = Arc::new(Progress::new(printer, nodes.iter().map(|node| node.name.as_str())));
    let interface: Arc<dyn Interface> = progress.clone();
    let fleet = Fleet::visit(network, nodes, &interface, work).await;
    progress.end();
    Ok(fleet?)
}

/// Runs a script on a control plane that answers, of the cluster that the cluster file means, and gives what it printed, with
/// the name of the node.
pub(crate) async fn ask_plane(
    network: &Arc<SshNetwork>,
    project: &Project,
    printer: &Printer,
    life: &dyn Lifecycle,
    script: &Script,
) -> anyhow::Result<(String, NodeName)> {
    let planes: Vec<Node> = project.cluster.control_planes().cloned().collect();
    let look = async |session: Session<SshNetwork>| {
        let seen = session.observe(&[]).await?;
        Ok((session, seen))
    };
    let fleet = visit(network, &planes, printer, look).await?;
    if fleet.nodes.is_empty() {
        fleet.complete()?;
        bail!("{} has no control plane", project.cluster.name);
    }
    let looked: Vec<_> = fleet.nodes.iter().map(|(session, seen)| (&session.node, seen)).collect();
    refuse_foreign(&project.cluster, project.identity()?.as_ref(), &looked)?;
    let plane = speaker(life, fleet.nodes.iter().map(|(session, _)| session)).await?;
    Ok((plane.ask(script, |_, _| {}).await?, plane.node.name.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_have_their_dates() {
        assert_eq!(civil(0), (1970, 1, 1));
        assert_eq!(civil(11_016), (2000, 2, 29));
        assert_eq!(civil(20_785), (2026, 11, 28));
        assert_eq!(civil(20_818), (2026, 12, 31));
    }
}
