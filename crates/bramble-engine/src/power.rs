//! A whole cluster, switched off in order and back on.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use bramble_kube::{Inputs, Lifecycle, MEMBER, lifecycle};
use bramble_shell::{Commands, Script};
use bramble_spec::{NodeName, Role};
use bramble_state::{GO_DOWN, Observation};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::backup::refuse_foreign;
use crate::error::Result;
use crate::event::{Event, Interface};
use crate::project::Project;
use crate::session::{HELD, Session};
use crate::survey::{Fleet, losses, speaker};
use crate::transport::Network;

/// How long a board may take to end its pods and its system.
const HALT: Duration = Duration::from_secs(240);
/// How often nothing must answer before it counts as off.
const SILENT: u32 = 3;
/// Once nothing answers, what is still in memory goes to the card.
const WRITE_OUT: Duration = Duration::from_secs(5);

/// What there is in a cluster: for each node and workload how it is, `node NAME` or `KIND NAMESPACE/NAME`.
pub type Running = BTreeMap<String, String>;

/// A cluster that is about to be switched off.
pub struct Off<N: Network> {
    network: Arc<N>,
    nodes: Vec<Session<N>>,
    /// Those that do not answer, as lines with the reasons; empty if all do.
    pub losses: String,
    /// What runs, if there is Kubernetes whose API answers.
    pub running: Option<Running>,
}

impl<N: Network> Off<N> {
    /// Looks at all nodes, and at what runs.
    ///
    /// # Errors
    /// No node answers, or nodes belong to another cluster.
    pub async fn look(
        project: &Project,
        inputs: &Inputs,
        network: &Arc<N>,
        interface: &Arc<dyn Interface>,
    ) -> Result<Off<N>> {
        let look = async || -> anyhow::Result<Off<N>> {
            let cluster = &project.cluster;
            let fleet = Fleet::observe(network, &cluster.nodes, interface).await?;
            let losses = if fleet.lost.is_empty() { String::new() } else { losses(&fleet.lost) };
            if fleet.nodes.is_empty() {
                bail!("no node answers:{losses}");
            }
            let looked: Vec<_> = fleet.nodes.iter().map(|(session, seen)| (&session.node, seen)).collect();
            refuse_foreign(cluster, project.identity()?.as_ref(), &looked)?;
            let running = match lifecycle(cluster, inputs) {
                Some(life) => running(&*life, &fleet.nodes).await.ok(),
                None => None,
            };
            let nodes = fleet.nodes.into_iter().map(|(session, _)| session).collect();
            Ok(Off { network: network.clone(), nodes, losses, running })
        };
        Ok(look().await?)
    }

    /// Names the nodes that answer.
    pub fn names(&self) -> Vec<NodeName> {
        self.nodes.iter().map(|session| session.node.name.clone()).collect()
    }

    /// Switches them off: workers first, then control planes, one after the other and the first of the file last, and then the
    /// gateway. Each ends its pods by itself when it is told to halt.
    ///
    /// # Errors
    /// One is still on after four minutes; those behind it were left alone.
    pub async fn go(self) -> Result<usize> {
        let count = self.nodes.len();
        let (mut workers, mut planes, mut gateways) = (Vec::new(), Vec::new(), Vec::new());
        for session in self.nodes {
            match session.node.role {
                Role::Worker => workers.push(session),
                Role::ControlPlane => planes.push(session),
                Role::Gateway => gateways.push(session),
            }
        }
        let mut groups = vec![workers];
        groups.extend(planes.into_iter().rev().map(|session| vec![session]));
        groups.push(gateways);
        for group in groups {
            let mut tasks = JoinSet::new();
            for session in group {
                let network = self.network.clone();
                tasks.spawn(async move { halt(&*network, session).await });
            }
            let mut failed = String::new();
            while let Some(ended) = tasks.join_next().await {
                if let Err(error) = ended.context("a task of this program failed").flatten() {
                    failed.push_str(&format!("\n  {error:#}"));
                }
            }
            if !failed.is_empty() {
                return Err(anyhow!(
                    "not all boards went off, and those that come after them were left alone:{failed}"
                )
                .into());
            }
        }
        Ok(count)
    }
}

/// What runs, by a control plane whose API answers.
async fn running<N: Network>(life: &dyn Lifecycle, nodes: &[(Session<N>, Observation)]) -> anyhow::Result<Running> {
    let members = nodes.iter().filter(|(_, seen)| seen.done(MEMBER).is_some()).map(|(session, _)| session);
    let plane = speaker(life, members).await?;
    let text = plane.ask(&bramble_kube::running_script(life), |_, _| {}).await?;
    let pair = |line: &str| {
        let (what, how) = line.rsplit_once(' ')?;
        Some((what.to_owned(), how.to_owned()))
    };
    Ok(text.lines().filter_map(pair).collect())
}

async fn halt<N: Network>(network: &N, session: Session<N>) -> anyhow::Result<()> {
    let name = session.node.name.clone();
    session.say(Event::Waiting("its pods and its system to end".into()));
    let script = Script::new("halt", Commands::new().fixed(GO_DOWN).fixed("go_down poweroff"));
    let script = script.silent_for(HELD);
    session.ask(&script, |_, _| {}).await.with_context(|| format!("{name} does not halt"))?;
    let began = Instant::now();
    let mut silent = 0;
    // Its sshd ends long before the rest: who refuses a connection is still on.
    while silent < SILENT {
        sleep(Duration::from_secs(1)).await;
        match timeout(Duration::from_secs(12), network.connect(&session.node)).await {
            Ok(Err(error)) if error.is_silence() => silent += 1,
            Err(_) => silent += 1,
            Ok(_) => silent = 0,
        }
        if began.elapsed() > HALT {
            bail!("{name} is still on {} s after it was told to halt", HALT.as_secs());
        }
    }
    sleep(WRITE_OUT).await;
    session.say(Event::Done("off".into()));
    Ok(())
}

/// Waits until all nodes answer and all is as it was, or until the time is over. Gives what is not as it was then.
///
/// # Errors
/// A host key that somebody trusts cannot be written down.
pub async fn on<N: Network>(
    project: &Project,
    inputs: &Inputs,
    was: Option<&Running>,
    patience: Duration,
    network: &Arc<N>,
    interface: &Arc<dyn Interface>,
) -> Result<Vec<String>> {
    let cluster = &project.cluster;
    let ends = Instant::now() + patience;
    loop {
        let fleet = Fleet::observe(network, &cluster.nodes, interface).await?;
        let mut missing: Vec<String> =
            fleet.lost.iter().map(|(node, _)| format!("{} does not answer", node.name)).collect();
        let life = lifecycle(cluster, inputs);
        let member = fleet.nodes.iter().any(|(_, seen)| seen.done(MEMBER).is_some());
        if let Some(life) = life.filter(|_| member) {
            match running(&*life, &fleet.nodes).await {
                Ok(now) => missing.extend(differences(was, &now)),
                Err(error) => missing.push(format!("{error:#}")),
            }
        }
        if missing.is_empty() || Instant::now() > ends {
            return Ok(missing);
        }
        for (session, _) in &fleet.nodes {
            session.say(Event::Waiting(missing[0].clone()));
        }
        sleep(Duration::from_secs(2)).await;
    }
}

/// What is less than it was; of a cluster that nobody has looked at before, nodes that are not Ready.
fn differences(was: Option<&Running>, now: &Running) -> Vec<String> {
    let Some(was) = was else {
        let not_ready = |(what, how): (&String, &String)| {
            (what.starts_with("node ") && how != "True").then(|| format!("{what} is not Ready"))
        };
        return now.iter().filter_map(not_ready).collect();
    };
    let mut found = Vec::new();
    for (what, before) in was {
        match (now.get(what), before.parse::<u32>()) {
            (None, _) => found.push(format!("{what} is gone")),
            (Some(now), _) if now == before => {}
            (Some(now), Ok(before)) => {
                let now: u32 = now.parse().unwrap_or(0);
                if now < before {
                    found.push(format!("{what} has {now} pods ready, and had {before}"));
                }
            }
            (Some(_), Err(_)) if before == "True" => found.push(format!("{what} is not Ready")),
            (Some(_), Err(_)) => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_less_than_it_was_is_told() {
        let of = |pairs: &[(&str, &str)]| -> Running {
            pairs.iter().map(|(what, how)| ((*what).to_owned(), (*how).to_owned())).collect()
        };
        let was = of(&[
            ("node a", "True"),
            ("node b", "False"),
            ("Deployment x/web", "3"),
            ("DaemonSet x/d", ""),
            ("StatefulSet x/s", "1"),
        ]);
        assert!(differences(Some(&was), &was).is_empty());
        let now = of(&[
            ("node a", "Unknown"),
            ("node b", "True"),
            ("Deployment x/web", "2"),
            ("DaemonSet x/d", "2"),
            ("node c", "False"),
        ]);
        assert_eq!(
            differences(Some(&was), &now),
            ["Deployment x/web has 2 pods ready, and had 3", "StatefulSet x/s is gone", "node a is not Ready"]
        );
        assert_eq!(differences(None, &now), ["node a is not Ready", "node c is not Ready"]);
    }
}
