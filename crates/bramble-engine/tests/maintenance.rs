//! Nodes that are booted and upgraded in their turns, on pretended nodes.

#![allow(clippy::unwrap_used)]

mod model;

use std::sync::Arc;

use bramble_engine::{Interface, Maintained, Maintenance, Project, Result, Work};
use bramble_spec::NodeName;
use bramble_state::{RebootWhen, Wanted};
use model::{Ended, FAULTS, Fault, Listener, Model, Pretended, cluster, inputs, up, world};

const UPGRADE: Work = Work::Upgrade(Wanted { system: true, firmware: true, reboot: RebootWhen::Needed });

async fn running(nodes: &str) -> Arc<Model> {
    let model = world(&cluster(nodes, 36), &inputs(36));
    assert!(matches!(up(&model).await.unwrap(), Ended::Went(_)));
    model
}

async fn maintain(model: &Arc<Model>, names: &[&str], work: Work) -> Result<Maintained> {
    let dir = tempfile::tempdir().unwrap();
    let cluster = model.lock().cluster.clone();
    let project =
        Project { cluster: (*cluster).clone(), dir: dir.path().to_owned(), home: None, bundle: None, user_cache: None };
    let names: Vec<NodeName> = names.iter().map(|name| name.parse().unwrap()).collect();
    let interface: Arc<dyn Interface> = Arc::new(Listener::default());
    let network = Arc::new(Pretended(model.clone()));
    let inputs = (*inputs(36)).clone();
    let looked = Maintenance::look(&project, inputs, "me@here".into(), &names, work, &network, &interface).await?;
    looked.go().await
}

fn boots(model: &Model) -> Vec<u32> {
    model.lock().nodes.values().map(|state| state.boots).collect()
}

fn cordoned(model: &Model) -> Vec<String> {
    let world = model.lock();
    world.nodes.iter().filter(|(_, state)| state.cordoned).map(|(name, _)| name.to_string()).collect()
}

#[tokio::test(start_paused = true)]
async fn all_boot_once_control_planes_one_after_the_other_and_first() {
    let model = running("pppww").await;
    let before = boots(&model);
    let from = model.lock().trace.len();
    let done = maintain(&model, &[], Work::Reboot).await.unwrap();
    assert_eq!(done, Maintained { nodes: 5, booted: 5 });
    assert_eq!(boots(&model), before.iter().map(|n| n + 1).collect::<Vec<_>>());
    assert!(cordoned(&model).is_empty() && model.lock().is_well());
    let world = model.lock();
    let at = |what: &str, name: &str| {
        let begins =
            |line: &String| line.contains(&format!("{what} {name}")) || line.ends_with(&format!("{name}: {what}"));
        world.trace[from..].iter().position(begins).unwrap_or_else(|| panic!("{what} {name}"))
    };
    let back = |name: &str| at(&format!("wait until {name} is Ready"), "again");
    for (one, next) in [("p0", "p1"), ("p1", "p2"), ("p2", "w3"), ("w3", "w4")] {
        assert!(back(one) < at("boot", next), "{next} does not wait for {one}");
    }
}

#[tokio::test(start_paused = true)]
async fn whatever_goes_wrong_it_stops_there_and_goes_on_when_it_is_mended() {
    let begin = running("pww").await;
    for work in [Work::Reboot, UPGRADE] {
        let steps = {
            let model = begin.copy();
            let before = model.lock().step;
            maintain(&model, &[], work).await.unwrap();
            before..model.lock().step
        };
        for step in steps {
            for fault in FAULTS {
                let model = begin.copy();
                let before = boots(&model);
                model.lock().fault = Some((step, fault));
                let first = maintain(&model, &[], work).await;
                let case = format!("{work:?}, {fault:?} at step {step}");
                model.lock().fault = None;
                let booted = boots(&model).iter().zip(&before).filter(|(now, was)| now > was).count();
                match first {
                    Ok(done) => {
                        assert_eq!(done.booted, booted, "{case}");
                        assert!(done.nodes == 3 || fault == Fault::Lies, "{case}");
                    }
                    Err(error) => {
                        assert!(fault != Fault::Late, "{case}: {}", error.chain());
                        // Whoever was taken out of service is there again.
                        assert!(cordoned(&model).len() <= 1, "{case}");
                    }
                }
                let again = maintain(&model, &[], work).await;
                assert!(again.is_ok(), "{case}: {}", again.unwrap_err().chain());
                assert!(matches!(up(&model).await.unwrap(), Ended::Done | Ended::Went(_)), "{case}");
                assert!(cordoned(&model).is_empty() && model.lock().is_well(), "{case}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn no_control_plane_goes_while_another_one_is_away() {
    let model = running("pppw").await;
    model.lock().nodes.get_mut(&"p1".parse().unwrap()).unwrap().dead = true;
    let before = boots(&model);
    let refused = maintain(&model, &["p0"], Work::Reboot).await.unwrap_err().chain();
    assert!(refused.contains("the control plane p1 is away"), "{refused}");
    let all = maintain(&model, &[], Work::Reboot).await.unwrap_err().chain();
    assert!(all.contains("p1"), "{all}");
    assert_eq!(boots(&model), before);
    // One whose API is away is away, too.
    {
        let mut world = model.lock();
        let state = world.nodes.get_mut(&"p1".parse().unwrap()).unwrap();
        (state.dead, state.mute_api) = (false, true);
    }
    let mute = maintain(&model, &["p0"], Work::Reboot).await.unwrap_err().chain();
    assert!(mute.contains("the API of the control plane p1 does not answer"), "{mute}");
    assert_eq!(boots(&model), before);
    // Workers can.
    assert_eq!(maintain(&model, &["w3"], Work::Reboot).await.unwrap().booted, 1);
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_does_not_come_back_is_the_last_one_touched() {
    let model = running("pwww").await;
    let boot = {
        let model = model.copy();
        maintain(&model, &[], Work::Reboot).await.unwrap();
        let world = model.lock();
        world.trace.iter().rposition(|line| line.ends_with("w1: boot")).unwrap()
    };
    let before = boots(&model);
    model.lock().fault = Some((boot, Fault::Lies));
    let said = maintain(&model, &[], Work::Reboot).await.unwrap_err().chain();
    assert!(said.contains("w1: it stays cordoned until this is fixed: it did not come back within 300 s"), "{said}");
    assert!(said.contains("1 nodes are done; w2, w3 left alone"), "{said}");
    let now = boots(&model);
    assert_eq!((now[1], now[2], now[3]), (before[1], before[2], before[3]));
    assert_eq!(cordoned(&model), ["w1"]);
}
