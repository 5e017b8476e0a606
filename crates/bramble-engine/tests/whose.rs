//! Whose cluster it is: what a run finds on nodes that are not, or not any more, what its cluster file says; and two runs that
//! work on the same nodes.

#![allow(clippy::unwrap_used)]

mod model;

use std::sync::Arc;
use std::time::Duration;

use bramble_engine::{Goal, Run};
use bramble_kube::{Identity, OWNER};
use bramble_spec::Cluster;
use bramble_state::Upload;
use model::{Ended, Model, Pretended, cluster, finish, go, inputs, look, look_as, ours, up, world};
use proptest::prelude::*;

const UP: Goal = Goal::Up { prepare_only: false };

async fn running(nodes: &str) -> (Arc<Cluster>, Arc<Model>) {
    let cluster = cluster(nodes, 36);
    let model = world(&cluster, &inputs(36));
    assert!(matches!(up(&model).await.unwrap(), Ended::Went(_)));
    (cluster, model)
}

/// The cluster file says something else from now on.
fn file(model: &Model, change: impl FnOnce(&mut Cluster)) {
    let mut world = model.lock();
    let mut cluster = (*world.cluster).clone();
    change(&mut cluster);
    world.cluster = Arc::new(cluster);
}

fn other() -> Identity {
    Identity { id: "b".repeat(32).parse().unwrap(), ca: None }
}

/// What stands against a run, as one text. Nothing may have been done to any node.
async fn refused(model: &Arc<Model>, goal: Goal, identity: Option<Identity>) -> String {
    let before = states(model);
    let run = look_as(model, goal, identity).await.unwrap();
    let planned = run.plan().unwrap();
    assert!(!planned.obstacles.is_empty(), "nothing stands against it");
    assert_eq!(planned.count(), 0, "and yet something is planned");
    assert_eq!(before, states(model));
    planned.obstacles.iter().map(|problem| format!("{} {problem}\n", problem.place)).collect()
}

fn states(model: &Model) -> String {
    format!("{:?}", model.lock().nodes)
}

fn destroys(run: &Run<Pretended>) -> Vec<(String, String)> {
    run.destroys().into_iter().map(|destruction| (destruction.name, destruction.what)).collect()
}

#[tokio::test(start_paused = true)]
async fn roles_that_are_swapped_in_the_file_are_refused() {
    let (_, model) = running("pww").await;
    file(&model, |cluster| {
        let role = cluster.nodes[0].role;
        cluster.nodes[0].role = cluster.nodes[1].role;
        cluster.nodes[1].role = role;
    });
    let said = refused(&model, UP, None).await;
    assert!(said.contains("p0 it is a control-plane of the cluster, and the cluster file says worker"), "{said}");
    assert!(said.contains("w1 it is a worker of the cluster, and the cluster file says control-plane"), "{said}");
}

#[tokio::test(start_paused = true)]
async fn a_file_of_another_cluster_that_lists_these_nodes_is_refused_for_every_kind_of_run() {
    let (_, model) = running("pw").await;
    let restored = || bramble_engine::Restored {
        ca: model::CA.into(),
        moved: false,
        state: Upload {
            name: "state".into(),
            from: "/dev/null".into(),
            sha256: "0".repeat(64).parse().unwrap(),
            secret: true,
        },
        objects: vec!["u1 Namespace /default".into()],
    };
    let twin = refused(&model, UP, Some(other())).await;
    assert!(twin.contains("another cluster with the name shelf (id aaaaaaaa"), "{twin}");
    file(&model, |cluster| cluster.name = "school".parse().unwrap());
    for goal in [UP, Goal::Up { prepare_only: true }, Goal::Restore(restored()), Goal::Down { partial: false }] {
        let said = refused(&model, goal, Some(other())).await;
        assert!(said.contains("it belongs to the cluster shelf (id aaaaaaaa), not to school"), "{said}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_member_is_not_renamed() {
    let (_, model) = running("pw").await;
    file(&model, |cluster| cluster.nodes[1].name = "new".parse().unwrap());
    let state = model.lock().nodes.values().next_back().cloned().unwrap();
    model.lock().nodes.insert("new".parse().unwrap(), state);
    let said = refused(&model, UP, None).await;
    assert!(said.contains("new it is the member w1 of the cluster: a member cannot be renamed"), "{said}");
    assert!(said.contains("call it w1"), "{said}");
}

#[tokio::test(start_paused = true)]
async fn a_control_plane_that_is_gone_is_made_anew_only_by_name() {
    let (cluster, model) = running("pww").await;
    let plane = cluster.nodes[0].name.clone();
    *model.lock().nodes.get_mut(&plane).unwrap() = model::State::default();
    let run = look(&model, UP).await.unwrap();
    let [(name, what)] = destroys(&run).try_into().unwrap();
    assert_eq!(name, "shelf");
    assert!(what.contains("the cluster shelf is made anew on p0: its control plane is gone"), "{what}");
    assert!(what.contains("what is left of it on w1, w2 is deleted"), "{what}");
    // With all of them flashed anew, nothing is left that could be lost.
    for state in model.lock().nodes.values_mut() {
        *state = model::State::default();
    }
    assert_eq!(destroys(&look(&model, UP).await.unwrap()), []);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_made_anew_unasked_while_a_node_that_may_know_the_cluster_is_away() {
    let (cluster, model) = running("pw").await;
    *model.lock().nodes.get_mut(&cluster.nodes[0].name).unwrap() = model::State::default();
    model.lock().nodes.get_mut(&cluster.nodes[1].name).unwrap().dead = true;
    let known = Identity { ca: Some(model::CA.into()), ..ours() };
    let run = look_as(&model, UP, Some(known)).await.unwrap();
    let [(name, what)] = destroys(&run).try_into().unwrap();
    assert_eq!(name, "shelf");
    assert!(what.contains("made anew on p0"), "{what}");
}

#[tokio::test(start_paused = true)]
async fn a_node_that_still_has_a_cluster_of_before_is_reset_only_by_name() {
    let (cluster, model) = running("pw").await;
    let worker = cluster.nodes[1].name.clone();
    let mark = "worker sha256:0000000000000000000000000000000000000000000000000000000000000000";
    model.lock().nodes.get_mut(&worker).unwrap().marks.insert(bramble_kube::MEMBER.into(), mark.into());
    let run = look(&model, UP).await.unwrap();
    assert_eq!(destroys(&run).len(), 1);
    assert_eq!(destroys(&run)[0].0, "w1");
}

#[tokio::test(start_paused = true)]
async fn a_member_leaves_only_by_name_and_down_takes_it_along() {
    let (_, model) = running("pww").await;
    file(&model, |cluster| cluster.nodes.truncate(2));
    let run = look(&model, UP).await.unwrap();
    let [(name, what)] = destroys(&run).try_into().unwrap();
    assert_eq!(name, "w2");
    assert!(what.contains("w2 (10.0.0.52) leaves the cluster shelf"), "{what}");

    let run = look(&model, Goal::Down { partial: false }).await.unwrap();
    let [(name, what)] = destroys(&run).try_into().unwrap();
    assert_eq!(name, "shelf");
    assert!(what.contains("from p0, w1, w2"), "{what}");
    finish(run).await.unwrap();
    assert!(model.lock().is_clean());
}

#[tokio::test(start_paused = true)]
async fn down_does_not_leave_a_member_behind_that_cannot_be_reached() {
    let (_, model) = running("pww").await;
    file(&model, |cluster| cluster.nodes.truncate(2));
    model.lock().nodes.get_mut(&"w2".parse().unwrap()).unwrap().dead = true;
    let error = look(&model, Goal::Down { partial: false }).await.unwrap().plan().err().unwrap().chain();
    assert!(error.contains("w2"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn of_a_cluster_of_which_nobody_is_there_nothing_is_said_to_be_gone() {
    let (_, model) = running("pw").await;
    model.lock().nodes.values_mut().for_each(|state| state.dead = true);
    let error = go(&model, Goal::Down { partial: true }).await.err().unwrap().chain();
    assert!(error.contains("no node can be reached"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn another_machine_at_the_address_of_a_member_that_leaves_is_left_alone() {
    let (_, model) = running("pww").await;
    file(&model, |cluster| cluster.nodes.truncate(2));
    let left = "w2".parse().unwrap();
    let theirs = format!("{} school w2", "c".repeat(32));
    model.lock().nodes.get_mut(&left).unwrap().has.clear();
    model.lock().nodes.get_mut(&left).unwrap().marks.insert(OWNER.into(), theirs);
    let Ended::Went(summary) = up(&model).await.unwrap() else { panic!("nothing was done") };
    assert!(summary.notes[0].contains("is not this member of the cluster any more"), "{:?}", summary.notes);
    assert!(model.lock().is_member(&left), "it was undone");
    assert!(!model.lock().registered.contains_key(&left));
}

#[tokio::test(start_paused = true)]
async fn what_was_planned_before_another_run_changed_a_node_is_not_applied() {
    let cluster = cluster("pw", 36);
    let model = world(&cluster, &inputs(36));
    go(&model, Goal::Up { prepare_only: true }).await.unwrap();
    let (first, second) = (look(&model, UP).await.unwrap(), look(&model, UP).await.unwrap());
    let down = look(&model, Goal::Down { partial: false }).await.unwrap();
    assert!(matches!(finish(first).await.unwrap(), Ended::Went(_)));
    let before = states(&model);
    for late in [second, down] {
        let error = finish(late).await.err().unwrap().chain();
        assert!(error.contains("another run of bramble (me@here) has changed it"), "{error}");
        assert_eq!(before, states(&model));
    }
    assert_eq!(model.lock().births, 1);
    assert!(matches!(up(&model).await.unwrap(), Ended::Done));
}

/// One of several people who work on the same nodes.
async fn person(model: Arc<Model>, starts: u64, thinks: u64, identity: Identity) -> bool {
    tokio::time::sleep(Duration::from_millis(starts)).await;
    let Ok(run) = look_as(&model, UP, Some(identity)).await else { return false };
    tokio::time::sleep(Duration::from_millis(thinks)).await;
    if run.plan().is_ok_and(|planned| !planned.obstacles.is_empty()) || !run.destroys().is_empty() {
        return false;
    }
    finish(run).await.is_ok()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    /// With one identity, as from two clones of one folder, and with two, as from two folders that know nothing of each other.
    #[test]
    fn two_runs_on_the_same_nodes_make_one_cluster_and_reset_nothing(
        delay in 0_u64..400, thinks in 0_u64..400, pause in 1_u64..40, same in any::<bool>(), planes in prop_oneof![Just(1_usize), Just(3)],
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let cluster = cluster(&format!("{}ww", "p".repeat(planes)), 36);
            let model = world(&cluster, &inputs(36));
            model.lock().pause = Duration::from_millis(pause);
            let first = tokio::spawn(person(model.clone(), 0, 50, ours()));
            let second = tokio::spawn(person(model.clone(), delay, thinks, if same { ours() } else { other() }));
            let (first, second) = (first.await.unwrap(), second.await.unwrap());
            // One of them may have to be started again; two different clusters never share the nodes.
            if !model.lock().is_well() {
                assert!(!(first && second), "both said that all is well");
                let winner = if same { Some(ours()) } else { model.lock().owner() };
                let run = look_as(&model, UP, winner).await.unwrap();
                assert!(run.destroys().is_empty(), "{:?}", run.destroys());
                finish(run).await.unwrap();
            }
            let world = model.lock();
            assert!(world.is_well(), "{:#?}", world.trace);
            assert!(world.births <= 1 || (first as u8 + second as u8) < 2, "{} births", world.births);
            assert_eq!(world.reset, 0, "a member was reset: {:#?}", world.trace);
        });
    }
}
