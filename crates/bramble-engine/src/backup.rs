//! The state of a cluster, saved.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, anyhow, bail};
use bramble_kube::{Identity, Inputs, Lifecycle, adoptable, lifecycle};
use bramble_spec::{Cluster, Node, lines};
use bramble_state::Observation;

use crate::backup_archive::{self, BackupKey, Manifest};
use crate::error::Result;
use crate::event::{Event, Interface};
use crate::project::Project;
use crate::session::Session;
use crate::survey::{Fleet, losses, speaker};
use crate::transport::Network;

/// A backup that is to be made.
pub struct Backup<'a> {
    /// The project whose cluster is saved.
    pub project: &'a Project,
    /// What the plan needs besides the cluster file.
    pub inputs: &'a Inputs,
    /// The key that opens it.
    pub key: &'a BackupKey,
    /// The file to write, if not one beside the cluster file with the time in its name.
    pub to: Option<PathBuf>,
    /// The cluster file.
    pub cluster_file: &'a Path,
}

/// A backup that was made.
#[derive(Debug)]
pub struct Saved {
    /// Where it is.
    pub file: PathBuf,
    /// Its size in bytes.
    pub bytes: u64,
    /// How many objects it knows.
    pub objects: usize,
    /// The size of the cluster's state in it, in bytes.
    pub state: u64,
}

impl Backup<'_> {
    /// Saves the cluster, asked on a control plane whose API answers.
    ///
    /// # Errors
    /// There is none, or it cannot save the state.
    pub async fn save<N: Network>(self, network: &Arc<N>, interface: &Arc<dyn Interface>) -> Result<Saved> {
        Ok(self.make(network, interface).await?)
    }

    async fn make<N: Network>(self, network: &Arc<N>, interface: &Arc<dyn Interface>) -> anyhow::Result<Saved> {
        let cluster = &self.project.cluster;
        let life = lifecycle(cluster, self.inputs).ok_or_else(|| anyhow!("{} has no Kubernetes", cluster.name))?;
        if let Some(elsewhere) = life.state_elsewhere() {
            bail!("{elsewhere}");
        }
        let planes: Vec<Node> = cluster.control_planes().cloned().collect();
        let fleet = Fleet::observe(network, &planes, interface).await?;
        let members: Vec<_> = fleet.nodes.iter().filter(|(_, seen)| bramble_kube::ca(seen).is_some()).collect();
        if members.is_empty() {
            match fleet.lost.first() {
                Some(_) => bail!("no control plane of the cluster can be reached:{}", losses(&fleet.lost)),
                None => bail!("there is no cluster yet; `bramble up` makes it"),
            }
        }
        let known = self.project.identity()?;
        let looked: Vec<_> = fleet.nodes.iter().map(|(session, seen)| (&session.node, seen)).collect();
        refuse_foreign(cluster, known.as_ref(), &looked)?;
        let plane = speaker(&*life, members.iter().map(|(session, _)| session)).await?;
        let seen = members.iter().find(|(session, _)| session.node.name == plane.node.name).map(|(_, seen)| seen);
        let seen = seen.ok_or_else(|| anyhow!("the control plane was not looked at"))?;
        plane.say(Event::Waiting("the state of the cluster".into()));
        let objects = objects(plane, &*life).await?;
        let mut state = self.project.private_file()?;
        plane
            .read(&bramble_kube::backup_script(&*life), state.file())
            .await
            .context("the control plane cannot save the state of the cluster")?;
        let state_size = state.file().metadata()?.len();
        if state_size == 0 {
            bail!("the control plane sent no state at all");
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        let manifest = Manifest {
            format: Manifest::FORMAT,
            cluster: cluster.name.to_string(),
            distribution: life.name().to_owned(),
            kubernetes: seen.done(bramble_kube::VERSION).map_or_else(|| life.version(), str::to_owned),
            api: cluster.network.api,
            ca: bramble_kube::ca(seen).unwrap_or_default().to_owned(),
            id: known.map(|known| known.id).or_else(|| bramble_kube::owner(seen).map(|owner| owner.id)),
            made: now,
            objects,
        };
        let name = || self.project.dir.join(format!("{}-{now}.bramble-backup", cluster.name));
        let to = self.to.clone().unwrap_or_else(name);
        let beside = [self.cluster_file.to_owned(), self.project.dir.join("bramble.lock")];
        let size = backup_archive::write(&to, self.key, &manifest, state.path(), &beside)?;
        plane.say(Event::Done(format!("{size} bytes")));
        Ok(Saved { file: to, bytes: size, objects: manifest.objects.len(), state: state_size })
    }
}

/// Refuses nodes that belong to another cluster than the lock file says.
///
/// # Errors
/// One does: then whose it is.
pub fn refuse_foreign(
    cluster: &Cluster,
    known: Option<&Identity>,
    seen: &[(&Node, &Observation)],
) -> anyhow::Result<()> {
    let Some(id) = known.map(|known| known.id.clone()).or_else(|| adoptable(cluster, seen)) else { return Ok(()) };
    let problems = bramble_kube::foreign(cluster, &id, known, seen);
    if !problems.is_empty() {
        bail!("these nodes are not those of {}:{}", cluster.name, lines(&problems));
    }
    Ok(())
}

/// Lists the objects that tell whether a cluster is the same.
pub(crate) async fn objects<N: Network>(plane: &Session<N>, life: &dyn Lifecycle) -> anyhow::Result<Vec<String>> {
    let text =
        plane.ask(&bramble_kube::objects_script(life), |_, _| {}).await.context("the API does not tell its objects")?;
    if text.trim().is_empty() {
        bail!("the API tells of no objects at all, and every cluster has namespaces: is its datastore well?");
    }
    Ok(text.lines().map(str::to_owned).collect())
}
