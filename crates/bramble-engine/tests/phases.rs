//! Every kind of run on pretended nodes, in which each step in turn fails, is late, hangs, is cut off, or lies.

#![allow(clippy::unwrap_used)]

mod model;

use std::sync::Arc;

use std::path::Path;

use bramble_engine::{Backup, BackupKey, Goal, Interface, Project, Restored};
use bramble_spec::{Cluster, Node};
use bramble_state::{Resource, Upload};
use model::{Ended, FAULTS, Fault, Listener, Model, Pretended, cluster, go, inputs, up, world};

/// Nodes on which nothing was done yet.
async fn fresh(cluster: &Arc<Cluster>) -> Arc<Model> {
    world(cluster, &inputs(36))
}

#[tokio::test(start_paused = true)]
async fn from_nothing_to_a_cluster_and_back() {
    for nodes in ["p", "pw", "pww", "ppp", "pppww"] {
        let model = fresh(&cluster(nodes, 36)).await;
        let Ended::Went(summary) = up(&model).await.unwrap() else { panic!("{nodes}") };
        assert_eq!(summary.nodes, nodes.len());
        assert!(model.lock().is_well(), "{nodes}: {:#?}", model.lock().trace);
        assert!(matches!(up(&model).await.unwrap(), Ended::Done), "{nodes}: a second run has something to do");
        go(&model, Goal::Down { partial: false }).await.unwrap();
        assert!(model.lock().is_clean());
    }
}

const UP: fn() -> Goal = || Goal::Up { prepare_only: false };

fn well(model: &Model) -> bool {
    model.lock().is_well()
}

/// What a case came to.
#[derive(Debug, Default)]
struct Counts {
    cases: usize,
    refused: usize,
    survived: usize,
    wrong: Vec<String>,
}

/// Lets each step of a run go wrong in each way, and then does what a person would: runs it again.
async fn every_step_goes_wrong(
    what: &str,
    begin: Arc<Model>,
    goal: impl Fn() -> Goal,
    is_good: impl Fn(&Model) -> bool,
) -> Counts {
    let (steps, connections) = {
        let model = begin.copy();
        let before = model.lock().step;
        go(&model, goal()).await.unwrap();
        assert!(is_good(&model), "{what}");
        let world = model.lock();
        let connects = |line: &String| line.ends_with(": connect").then(|| line.split(' ').next()?.parse().ok());
        let connections: Vec<usize> = world.trace.iter().filter_map(|line| connects(line).flatten()).collect();
        (before..world.step, connections)
    };
    let mut counts = Counts::default();
    for step in steps {
        let connects = connections.contains(&step);
        // Whatever goes wrong with a connection, there is none; but it may take its time.
        for fault in
            FAULTS.into_iter().filter(|fault| !connects || matches!(fault, Fault::Fails | Fault::Hangs | Fault::Late))
        {
            counts.cases += 1;
            let model = begin.copy();
            model.lock().fault = Some((step, fault));
            let first = go(&model, goal()).await;
            let case = || {
                let world = model.lock();
                let at = world.trace.iter().find(|line| line.starts_with(&format!("{step} ")));
                format!("{what}, {fault:?} at step {}", at.map_or("(none)", String::as_str))
            };
            let mut wrong = |why: String| counts.wrong.push(format!("{}: {why}", case()));
            match &first {
                Ok(Ended::Without(_)) => counts.refused += 1,
                Ok(_) => {
                    counts.survived += 1;
                    if !is_good(&model) {
                        wrong("it is called done, and is not".into());
                    }
                }
                Err(error) => {
                    counts.refused += 1;
                    if fault == Fault::Late || error.chain().trim().is_empty() {
                        wrong(error.chain());
                    }
                }
            }
            model.lock().fault = None;
            let trace = model.lock().trace.len();
            match go(&model, goal()).await {
                Ok(Ended::Obstacles(found)) => wrong(format!("again: {found:?}")),
                Ok(Ended::Without(lost)) => wrong(format!("again without {lost:?}")),
                Ok(_) if is_good(&model) => {}
                Ok(_) => wrong("the second run says that all is well, and it is not".into()),
                Err(error) => {
                    let rest = model.lock().trace[trace..].join("\n    ");
                    wrong(format!("again: {}\n    {rest}", error.chain()));
                }
            }
        }
    }
    assert!(counts.wrong.is_empty(), "{} of {} cases:\n{}", counts.wrong.len(), counts.cases, counts.wrong.join("\n"));
    counts
}

#[tokio::test(start_paused = true)]
async fn up_copes_with_every_step_that_goes_wrong() {
    for nodes in ["pw", "ppp"] {
        let cluster = cluster(nodes, 36);
        let counts = every_step_goes_wrong(&format!("up of {nodes}"), fresh(&cluster).await, UP, well).await;
        println!("up of {nodes}: {counts:?}");
    }
}

/// A cluster that runs, at Kubernetes 1.36; from now on its file says something else.
async fn running(cluster: &Arc<Cluster>, then: &Arc<Cluster>, minor: u32) -> Arc<Model> {
    let model = fresh(cluster).await;
    up(&model).await.unwrap();
    let mut world = model.lock();
    world.cluster = then.clone();
    world.inputs = inputs(minor);
    for node in &then.nodes {
        world.nodes.entry(node.name.clone()).or_default();
    }
    drop(world);
    model
}

#[tokio::test(start_paused = true)]
async fn an_upgrade_copes_with_every_step_that_goes_wrong() {
    for nodes in ["pw", "pppw"] {
        let (old, new) = (cluster(nodes, 36), cluster(nodes, 37));
        let counts =
            every_step_goes_wrong(&format!("upgrade of {nodes}"), running(&old, &new, 37).await, UP, well).await;
        println!("upgrade of {nodes}: {counts:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn joining_and_leaving_cope_with_every_step_that_goes_wrong() {
    for (before, after) in [("pw", "pww"), ("pww", "pw"), ("p", "ppp")] {
        let (old, new) = (cluster(before, 36), cluster(after, 36));
        let what = format!("{before} becomes {after}");
        let counts = every_step_goes_wrong(&what, running(&old, &new, 36).await, UP, well).await;
        println!("{what}: {counts:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn down_copes_with_every_step_that_goes_wrong() {
    let cluster = cluster("pww", 36);
    let goal = || Goal::Down { partial: false };
    let clean = |model: &Model| model.lock().is_clean();
    let begin = running(&cluster, &cluster, 36).await;
    let counts = every_step_goes_wrong("down", begin, goal, clean).await;
    println!("down: {counts:?}");
}

#[tokio::test(start_paused = true)]
async fn a_restore_copes_with_every_step_that_goes_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    std::fs::write(&state, "state").unwrap();
    for nodes in ["pw", "ppp"] {
        let cluster = cluster(nodes, 36);
        let goal = || {
            Goal::Restore(Restored {
                ca: model::CA.into(),
                moved: false,
                state: Upload {
                    name: "the state of the cluster".into(),
                    from: state.clone(),
                    sha256: "0".repeat(64).parse().unwrap(),
                    secret: true,
                },
                objects: vec!["u1 Namespace /default".into()],
            })
        };
        let begin = running(&cluster, &cluster, 36).await;
        let counts = every_step_goes_wrong(&format!("restore of {nodes}"), begin, goal, well).await;
        println!("restore of {nodes}: {counts:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_control_plane_whose_api_answers_speaks_for_the_cluster() {
    let (old, new) = (cluster("ppp", 36), cluster("pppw", 36));
    let model = running(&old, &new, 36).await;
    let first = old.nodes[0].name.clone();
    model.lock().nodes.get_mut(&first).unwrap().mute_api = true;
    // The worker joins through another one, and the first one is what is said to be wrong.
    let error = up(&model).await.err().unwrap().chain();
    assert!(model.lock().is_member(&new.nodes[3].name), "{error}");
    assert!(error.contains("the cluster does not become ready"), "{error}");
    model.lock().nodes.get_mut(&first).unwrap().mute_api = false;
    up(&model).await.unwrap();
    assert!(well(&model));
}

#[tokio::test(start_paused = true)]
async fn a_control_plane_that_does_not_come_back_from_a_change_leaves_the_others_alone() {
    let old = cluster("ppp", 36);
    let mut new = Cluster::clone(&old);
    new.preparation.timezone = Some("Europe/Berlin".into());
    let new = Arc::new(new);
    let begin = running(&old, &new, 36).await;
    let steps = {
        let model = begin.copy();
        up(&model).await.unwrap();
        begin.lock().step..model.lock().step
    };
    let mut held = 0;
    for step in steps {
        let model = begin.copy();
        model.lock().fault = Some((step, Fault::Fails));
        let Err(error) = up(&model).await else { continue };
        let is_changed = |node: &&Node| {
            let world = model.lock();
            world.nodes[&node.name].has.iter().any(|resource| matches!(resource, Resource::Timezone(_)))
        };
        if error.chain().contains("did not come back from its changes") {
            held += 1;
            assert!(old.nodes.iter().filter(is_changed).count() < 3, "{}", error.chain());
        }
        model.lock().fault = None;
        up(&model).await.unwrap();
        assert_eq!(old.nodes.iter().filter(is_changed).count(), 3);
    }
    // Each of the first two, while it is changed and while its API is waited for.
    assert!(held >= 4, "{held}");
}

#[tokio::test(start_paused = true)]
async fn nothing_is_called_up_while_a_node_is_not_ready() {
    let cluster = cluster("pw", 36);
    let model = running(&cluster, &cluster, 36).await;
    assert!(matches!(up(&model).await.unwrap(), Ended::Done));
    model.lock().nodes.get_mut(&cluster.nodes[1].name).unwrap().mute_api = true;
    let error = up(&model).await.err().unwrap().chain();
    assert!(error.contains("a node is not Ready"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn one_hung_node_of_twelve_costs_one_timeout_and_the_others_are_done() {
    let cluster = cluster("pwwwwwwwwwww", 36);
    let model = fresh(&cluster).await;
    // Its connection stands, and its shell never says a word.
    let hung = cluster.nodes[7].name.clone();
    model.lock().hangs = Some(hung.clone());
    let began = tokio::time::Instant::now();
    let Ended::Without(lost) = up(&model).await.unwrap() else { panic!("it is called up") };
    assert_eq!(lost, std::slice::from_ref(&hung));
    assert!(began.elapsed().as_secs() < 2 * 60, "{:?}", began.elapsed());
    for node in cluster.nodes.iter().filter(|node| node.name != hung) {
        assert!(model.lock().is_member(&node.name), "{}", node.name);
    }
}

#[tokio::test(start_paused = true)]
async fn clocks_that_are_wrong_stop_a_run_also_when_all_are_wrong_together() {
    let cluster = cluster("pw", 36);
    let model = fresh(&cluster).await;
    for state in model.lock().nodes.values_mut() {
        state.clock = -86_400;
    }
    let Ended::Obstacles(found) = up(&model).await.unwrap() else { panic!("it is called up") };
    assert!(found.iter().all(|problem| problem.message.contains("86400 s behind")), "{found:?}");
}

#[tokio::test(start_paused = true)]
async fn a_backup_is_whole_or_an_error_and_comes_from_a_control_plane_whose_api_answers() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = cluster("ppp", 36);
    let project =
        Project { cluster: (*cluster).clone(), dir: dir.path().to_owned(), home: None, bundle: None, user_cache: None };
    let key = BackupKey::open(&dir.path().join("key"), true).unwrap();
    let inputs = inputs(36);
    let begin = running(&cluster, &cluster, 36).await;
    begin.lock().nodes.get_mut(&cluster.nodes[0].name).unwrap().mute_api = true;
    let save = async |model: &Arc<Model>, name: &str| {
        let to = Some(dir.path().join(name));
        let backup = Backup { project: &project, inputs: &inputs, key: &key, to, cluster_file: Path::new("none") };
        let interface: Arc<dyn Interface> = Arc::new(Listener::default());
        backup.save(&Arc::new(Pretended(model.clone())), &interface).await
    };
    let before = begin.lock().step;
    let model = begin.copy();
    assert_eq!(save(&model, "good").await.unwrap().objects, 1);
    let steps = before..model.lock().step;
    let mut cases = 0;
    for step in steps {
        for fault in FAULTS {
            cases += 1;
            let model = begin.copy();
            model.lock().fault = Some((step, fault));
            let name = format!("{step}-{fault:?}");
            let saved = save(&model, &name).await;
            match &saved {
                // What was saved is what there is.
                Ok(saved) => assert_eq!((saved.objects, saved.state), (1, "the state".len() as u64), "{name}"),
                Err(_) => assert!(!dir.path().join(&name).exists(), "{name}"),
            }
            assert!(saved.is_ok() || fault != Fault::Late, "{name}");
        }
    }
    println!("backup: {cases} cases");
    begin.lock().objects.clear();
    let error = save(&begin, "empty").await.unwrap_err().chain();
    assert!(error.contains("no objects at all"), "{error}");
}
