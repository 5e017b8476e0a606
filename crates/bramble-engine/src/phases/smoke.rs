//! Pods on every node talk to each other, once for each set of nodes.

use anyhow::Context;
use bramble_kube::lifecycle;

use crate::error::{Result, bail};
use crate::event::Event;
use crate::phase::Phase;
use crate::run_state::RunState;
use crate::transport::Network;

pub(crate) fn phase<N: Network>() -> Phase<N> {
    Phase::new("smoke", |run| Box::pin(apply(run)))
}

async fn apply<N: Network>(run: &mut RunState<N>) -> Result<()> {
    let Some(life) = lifecycle(&run.cluster, &run.inputs).filter(|_| run.asks_all()) else { return Ok(()) };
    if run.smoked && run.changes == 0 {
        return Ok(());
    }
    let Some(image) = life.smoke_image() else {
        run.smoke = Some("left out: the bundle has no image with a web server in it".into());
        return Ok(());
    };
    let plane = run.any_speaker(&*life).await?;
    plane.say(Event::Waiting("the smoke test: pods on every node talk to each other".into()));
    let mut result = None;
    plane
        .act(&bramble_kube::smoke_script(&run.cluster, &*life, &image), |name, value| {
            if name == "smoke" {
                result = Some(format!("passed: {value}"));
            }
        })
        .await
        .context("the smoke test failed")?;
    if result.is_none() {
        bail!("{} does not say how the smoke test ended", plane.node.name);
    }
    run.smoke = result;
    Ok(())
}
