//! After a restore: every object of the backup is there, with its UID.

use std::collections::BTreeSet;

use bramble_kube::lifecycle;

use crate::backup::objects;
use crate::error::{Result, bail};
use crate::phase::Phase;
use crate::run_state::{Goal, RunState};
use crate::transport::Network;

pub(crate) fn phase<N: Network>() -> Phase<N> {
    Phase::new("verify", |run| Box::pin(apply(run)))
}

async fn apply<N: Network>(run: &mut RunState<N>) -> Result<()> {
    let (Goal::Restore(restored), Some(life)) = (&run.goal, lifecycle(&run.cluster, &run.inputs)) else {
        return Ok(());
    };
    let plane = run.any_speaker(&*life).await?;
    let there: BTreeSet<String> = objects(plane, &*life).await?.into_iter().collect();
    let missing: Vec<&str> =
        restored.objects.iter().filter(|object| !there.contains(*object)).map(String::as_str).collect();
    if !missing.is_empty() {
        bail!(
            "the cluster is up, but {} of {} objects of the backup are not there:\n  {}",
            missing.len(),
            restored.objects.len(),
            missing.join("\n  ")
        );
    }
    let all = restored.objects.len();
    run.notes.push(format!("All {all} objects of the backup are there, with their UIDs."));
    Ok(())
}
