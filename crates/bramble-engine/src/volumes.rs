//! Volumes that nodes have saved: what there is, and one put back.

use std::sync::Arc;

use anyhow::{Context, anyhow};
use bramble_kube::{Inputs, Lifecycle, ca, lifecycle};
use bramble_spec::{Backups, Node};
use bramble_state::Observation;
use serde::Deserialize;

use crate::backup::refuse_foreign;
use crate::error::{Result, bail};
use crate::event::{Event, Interface};
use crate::project::Project;
use crate::session::Session;
use crate::survey::{Fleet, losses, speaker};
use crate::transport::Network;

/// A volume as it was at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct SavedVolume {
    /// The claim, as `namespace/name`.
    #[serde(skip)]
    pub claim: String,
    /// The place, by its number in the cluster file's list.
    #[serde(skip)]
    pub at: usize,
    /// The number by which restic knows it.
    pub id: String,
    /// When it was saved (RFC 3339).
    pub time: String,
    /// The node that it was on.
    #[serde(rename = "hostname")]
    pub node: String,
    tags: Vec<String>,
}

impl SavedVolume {
    /// The beginning of its number that restic shows.
    pub fn short_id(&self) -> &str {
        self.id.get(..8).unwrap_or(&self.id)
    }
}

/// What is saved.
#[derive(Debug, Default)]
pub struct SavedVolumes {
    /// All of it, of each claim the newest first.
    pub volumes: Vec<SavedVolume>,
    /// Places that could not be asked, each with why.
    pub unread: Vec<String>,
}

/// Where the volume of a claim is now.
#[derive(Debug, Clone)]
pub struct Volume {
    /// The node.
    pub node: Node,
    /// Its folder there.
    pub folder: String,
}

/// The volumes of a project's cluster.
pub struct Volumes<'a> {
    /// The project.
    pub project: &'a Project,
    /// What the plan needs besides the cluster file.
    pub inputs: &'a Inputs,
}

impl Volumes<'_> {
    /// Lists what is saved, asked on the first member that answers.
    ///
    /// # Errors
    /// The cluster file asks for no volumes, or no member answers.
    pub async fn saved<N: Network>(&self, network: &Arc<N>, interface: &Arc<dyn Interface>) -> Result<SavedVolumes> {
        let (backups, life) = self.wanted()?;
        let members: Vec<Node> = self.project.cluster.members().cloned().collect();
        let fleet = self.look(network, &members, interface).await?;
        let Some((session, _)) = fleet.nodes.first() else { bail!("no node answers:{}", losses(&fleet.lost)) };
        let cluster = &self.project.cluster;
        session.say(Event::Waiting("the places of backups".into()));
        let script = bramble_kube::saved_volumes_script(cluster, &session.node, backups, &*life);
        let told = session.ask(&script, |_, _| {}).await.with_context(|| session.node.name.to_string())?;
        Ok(parse(&told, backups))
    }

    /// Asks where the volume of a claim is, which no pod may have.
    ///
    /// # Errors
    /// There is none, it is no folder of a node of the cluster file, or a pod has it.
    pub async fn find<N: Network>(
        &self,
        network: &Arc<N>,
        interface: &Arc<dyn Interface>,
        claim: &str,
    ) -> Result<Volume> {
        let (_, life) = self.wanted()?;
        let cluster = &self.project.cluster;
        let Some((space, name)) = claim.split_once('/') else { bail!("write the claim as `namespace/name`") };
        let planes: Vec<Node> = cluster.control_planes().cloned().collect();
        let fleet = self.look(network, &planes, interface).await?;
        let plane = speaker(&*life, fleet.nodes.iter().map(|(session, _)| session)).await?;
        let script = bramble_kube::find_volume_script(cluster, &plane.node, &*life, (space, name));
        let told = plane.ask(&script, |_, _| {}).await.with_context(|| plane.node.name.to_string())?;
        let pods: Vec<&str> = told.lines().filter_map(|line| line.strip_prefix("pod\t")).collect();
        if !pods.is_empty() {
            bail!(
                "{claim} is in use by {}: scale what made it down to 0 first, such as `kubectl -n {space} scale --replicas 0 …`",
                pods.join(", ")
            );
        }
        let line = told.lines().find_map(|line| line.strip_prefix("volume\t"));
        let Some((folder, nodes)) = line.and_then(|line| line.split_once('\t')) else {
            bail!(
                "no volume is bound to {claim}: make the claim, and let a pod of it start once, so that it has a volume"
            );
        };
        if folder.is_empty() {
            bail!("the volume of {claim} is no folder of a node");
        }
        let is_there = |node: &&Node| match nodes {
            "" => Some(&node.name) == cluster.storage.holder(),
            _ => nodes.split(' ').any(|name| name == node.name.as_str()),
        };
        let node = cluster.members().find(is_there);
        let node =
            node.ok_or_else(|| anyhow!("the volume of {claim} is on {nodes}, which the cluster file does not have"))?;
        Ok(Volume { node: node.clone(), folder: folder.to_owned() })
    }

    /// Puts what was saved into a volume; what it has stays until all of that is there.
    ///
    /// # Errors
    /// The node does not answer, or the place does not give it back whole.
    pub async fn restore<N: Network>(
        &self,
        network: &Arc<N>,
        interface: &Arc<dyn Interface>,
        volume: &Volume,
        saved: &SavedVolume,
    ) -> Result<()> {
        let (backups, life) = self.wanted()?;
        let nodes = self.look(network, std::slice::from_ref(&volume.node), interface).await?.complete()?;
        let Some((session, _)) = nodes.first() else {
            bail!("{} is no member of the cluster; `bramble up` makes it one", volume.node.name)
        };
        session.say(Event::Waiting(format!("{} to come back", saved.claim)));
        let what = (volume.folder.as_str(), saved.id.as_str(), saved.at);
        let script = bramble_kube::restore_volume_script(&self.project.cluster, &session.node, backups, &*life, what);
        session.act(&script, |_, _| {}).await.with_context(|| session.node.name.to_string())?;
        session.say(Event::Done(format!("{} is back", saved.claim)));
        Ok(())
    }

    fn wanted(&self) -> Result<(&Backups, Box<dyn Lifecycle + '_>)> {
        let cluster = &self.project.cluster;
        let life = lifecycle(cluster, self.inputs).ok_or_else(|| anyhow!("{} has no Kubernetes", cluster.name))?;
        match &cluster.backups {
            Some(backups) if !backups.volumes.is_empty() => Ok((backups, life)),
            _ => bail!("the cluster file saves no volumes; `backup: {{ …, volumes: [namespace/claim] }}` does"),
        }
    }

    async fn look<N: Network>(
        &self,
        network: &Arc<N>,
        nodes: &[Node],
        interface: &Arc<dyn Interface>,
    ) -> Result<Fleet<(Session<N>, Observation)>> {
        let mut fleet = Fleet::observe(network, nodes, interface).await?;
        let looked: Vec<_> = fleet.nodes.iter().map(|(session, seen)| (&session.node, seen)).collect();
        refuse_foreign(&self.project.cluster, self.project.identity()?.as_ref(), &looked)?;
        fleet.nodes.retain(|(_, seen)| ca(seen).is_some());
        Ok(fleet)
    }
}

fn parse(told: &str, backups: &Backups) -> SavedVolumes {
    let mut all = SavedVolumes::default();
    for line in told.lines() {
        let mut words = line.splitn(3, '\t');
        let (Some(kind), Some(place), Some(text)) = (words.next(), words.next(), words.next()) else { continue };
        let at = backups.to.iter().position(|known| known.to_string() == place);
        match (kind, at, serde_json::from_str::<Vec<SavedVolume>>(text)) {
            ("saved", Some(at), Ok(found)) => all.volumes.extend(found.into_iter().filter_map(|mut saved| {
                saved.at = at;
                saved.claim = saved.tags.first()?.clone();
                Some(saved)
            })),
            ("unread", ..) => all.unread.push(text.to_owned()),
            _ => all.unread.push(format!("{place}: what restic lists there is not understood")),
        }
    }
    all.volumes.sort_by(|one, other| one.claim.cmp(&other.claim).then(other.time.cmp(&one.time)));
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn what_restic_lists_is_known_by_claim_and_place_and_a_place_that_is_away_is_named() {
        let text = include_str!("../../../examples/smallest.yaml").to_owned()
            + "backup: { every: 6h, to: ['kube1:/srv/a', 'kube1:/srv/b'], volumes: [shop/db] }\n";
        let loaded = bramble_spec::load(Path::new("shelf.yaml"), &text);
        let backups = loaded.clusters[0].backups.clone().unwrap();
        let told = r#"saved	kube1:/srv/a	[{"id":"aa","time":"2026-12-01T02:00:00Z","hostname":"kube2","tags":["shop/db"],"paths":["/x"]},{"id":"bb","time":"2026-12-01T08:00:00Z","hostname":"kube3","tags":["shop/db"]}]
unread	kube1:/srv/b	Connection refused
saved	kube1:/srv/b	null and void
"#;
        let all = parse(told, &backups);
        let seen: Vec<_> =
            all.volumes.iter().map(|saved| (saved.id.as_str(), saved.at, saved.claim.as_str())).collect();
        assert_eq!(seen, [("bb", 0, "shop/db"), ("aa", 0, "shop/db")]);
        assert_eq!(all.unread.len(), 2, "{:?}", all.unread);
        assert!(all.unread[0].contains("Connection refused") && all.unread[1].contains("not understood"));
    }
}
