//! Secrets of a cluster, made anew while it runs.

use std::sync::Arc;

use anyhow::{Context, anyhow, bail};
use bramble_kube::{Inputs, JoinFacts, Secret, ca, lifecycle};
use bramble_shell::Script;
use bramble_spec::{Node, Role};

use crate::backup::refuse_foreign;
use crate::error::Result;
use crate::event::{Event, Interface};
use crate::kept_tokens;
use crate::phases::RESTART;
use crate::project::{Project, random};
use crate::survey::{Fleet, speaker};
use crate::transport::Network;

/// A secret that is to be made anew.
pub struct Rotation<'a> {
    /// The project of the cluster.
    pub project: &'a Project,
    /// What the plan needs besides the cluster file.
    pub inputs: &'a Inputs,
    /// Which one.
    pub secret: Secret,
}

impl Rotation<'_> {
    /// Makes it on a control plane, and gives it to all others, one after the other. Gives the number of nodes.
    ///
    /// # Errors
    /// The distribution has no such secret; a node is missing; or one does not take it: the others keep what they have, and
    /// the same again goes on.
    pub async fn go<N: Network>(self, network: &Arc<N>, interface: &Arc<dyn Interface>) -> Result<usize> {
        Ok(self.rotate(network, interface).await?)
    }

    async fn rotate<N: Network>(self, network: &Arc<N>, interface: &Arc<dyn Interface>) -> anyhow::Result<usize> {
        let cluster = &self.project.cluster;
        let life = lifecycle(cluster, self.inputs).ok_or_else(|| anyhow!("{} has no Kubernetes", cluster.name))?;
        let begin = life.rotate(self.secret).map_err(|why| anyhow!("{why}"))?;
        let members: Vec<Node> = cluster.members().cloned().collect();
        let nodes = Fleet::observe(network, &members, interface).await?.complete()?;
        let looked: Vec<_> = nodes.iter().map(|(session, seen)| (&session.node, seen)).collect();
        refuse_foreign(cluster, self.project.identity()?.as_ref(), &looked)?;
        if let Some((session, _)) = nodes.iter().find(|(_, seen)| ca(seen).is_none()) {
            bail!("{} is no member of the cluster yet; `bramble up` makes it one", session.node.name);
        }
        let (planes, workers): (Vec<_>, Vec<_>) =
            nodes.iter().partition(|(session, _)| session.node.role == Role::ControlPlane);
        let plane = speaker(&*life, planes.iter().map(|(session, _)| session)).await?;
        let mut facts = life.secrets(random()?);
        for (_, seen) in &planes {
            facts.set(JoinFacts::CA, ca(seen).unwrap_or_default());
        }
        plane.say(Event::Waiting(format!("{} to be made anew", self.secret)));
        let mut commands = life.kubectl();
        commands.append(&begin);
        let script = Script::new(format!("make {} anew", self.secret), &commands).silent_for(RESTART);
        plane.ask(&script, |name, value| facts.set(name, value)).await?;
        if self.secret == Secret::Tokens && life.state_elsewhere().is_some() {
            kept_tokens::keep(&self.project.private_dir()?, &cluster.name, &facts)?;
        }
        let mut count = 0;
        for (session, _) in planes.into_iter().chain(workers) {
            let node = &session.node;
            let Some(commands) = life.take(self.secret, node, &facts)? else { continue };
            session.say(Event::Waiting(format!("it to take {}", self.secret)));
            let script = Script::new(format!("take {}", self.secret), &commands).silent_for(RESTART);
            let taken = async {
                session.ask(&script, |_, _| {}).await?;
                if node.role == Role::ControlPlane {
                    session.ask(&bramble_kube::updated_script(&*life, node.address), |_, _| {}).await?;
                }
                anyhow::Ok(())
            };
            taken.await.with_context(|| {
                format!("{} does not take {}; once this is fixed, run the same command again", node.name, self.secret)
            })?;
            session.say(Event::Done("done".into()));
            count += 1;
        }
        Ok(count)
    }
}
