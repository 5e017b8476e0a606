//! A cluster of pretended nodes: a transport without SSH that answers every script as a node does, remembers what was done to
//! it, and can fail at every step.
//!
//! A step is a script, a file that is brought, a connection, or a change within a script of changes. What a node has is kept
//! as the resources that it was brought to and the marks of its finished steps; its answer to a look is made of those
//! ([`bramble_state::satisfied`]). A script that this model does not know makes the test fail.

#![allow(clippy::unwrap_used, dead_code, unreachable_pub, unused_imports)]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bramble_engine::{Event, Goal, Interface, Network, Planned, Result, Run, Setup, Summary, Transport};
use bramble_fetch::Watcher;
use bramble_kube::{Identity, Inputs};
use bramble_remote::{ConnectError, ExecError, Exit, UnknownKey};
use bramble_shell::Script;
use bramble_spec::{Cluster, Node, NodeName, Problem};
use bramble_state::Upload;

mod world;

pub use world::{CA, State, World};

/// How a step goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It says that it failed, and has done nothing.
    Fails,
    /// It takes almost as long as it may, and does what it should.
    Late,
    /// Nothing is ever said.
    Hangs,
    /// The connection breaks before anything is done.
    CutBefore,
    /// The connection breaks when all is done, before that is said.
    CutAfter,
    /// It says that all went well, and has done nothing.
    Lies,
}

pub const FAULTS: [Fault; 6] =
    [Fault::Fails, Fault::Late, Fault::Hangs, Fault::CutBefore, Fault::CutAfter, Fault::Lies];

pub struct Model(pub Mutex<World>);

pub struct Way {
    node: NodeName,
    model: Arc<Model>,
    boots: u32,
}

impl Model {
    /// Another model in the same state.
    pub fn copy(&self) -> Arc<Model> {
        Arc::new(Model(Mutex::new(self.lock().clone())))
    }

    pub fn lock(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap()
    }
}

impl Transport for Way {
    async fn run(
        &self,
        script: &Script,
        on_output: &mut (dyn FnMut(&[u8]) + Send),
    ) -> std::result::Result<Exit, ExecError> {
        let silent = ExecError::Silent { doing: script.name().to_owned(), silence: script.silence() };
        let (fault, dead) = {
            let mut world = self.model.lock();
            let mut fault = world.step(format!("{}: {}", self.node, script.name()));
            if world.hangs.as_ref() == Some(&self.node) {
                fault = Some(Fault::Hangs);
            }
            let state = &world.nodes[&self.node];
            (fault, state.dead || state.boots != self.boots)
        };
        if dead {
            return Err(ExecError::Lost);
        }
        let almost = script.silence().saturating_sub(Duration::from_secs(1));
        match fault {
            Some(Fault::Fails) => return Ok(Exit { code: 9, stderr: "it was made to fail".into() }),
            Some(Fault::Hangs) => {
                tokio::time::sleep(script.silence()).await;
                return Err(silent);
            }
            Some(Fault::CutBefore) => return Err(ExecError::Lost),
            Some(Fault::Lies) => return Ok(Exit { code: 0, stderr: String::new() }),
            Some(Fault::Late) => tokio::time::sleep(almost).await,
            Some(Fault::CutAfter) | None => {}
        }
        // Other nodes, and other people, have their turn, as they would over a network.
        let pause = self.model.lock().pause;
        match pause.is_zero() {
            true => tokio::task::yield_now().await,
            false => tokio::time::sleep(pause).await,
        }
        let (answer, inner) = self.model.lock().answer(&self.node, script);
        on_output(answer.output.as_bytes());
        match (fault, inner) {
            (Some(Fault::CutAfter), _) | (_, Some(Fault::CutBefore | Fault::CutAfter)) => return Err(ExecError::Lost),
            (_, Some(Fault::Hangs)) => {
                tokio::time::sleep(script.silence()).await;
                return Err(silent);
            }
            _ => {}
        }
        Ok(Exit { code: answer.code, stderr: answer.stderr.to_owned() })
    }

    async fn deliver(
        &self,
        upload: &Upload,
        on_progress: &mut (dyn FnMut(u64, u64) + Send),
    ) -> std::result::Result<(), ExecError> {
        let fault = self.model.lock().step(format!("{}: receive {}", self.node, upload.name));
        match fault {
            None | Some(Fault::Late | Fault::Lies) => {}
            Some(Fault::Hangs) => {
                let silence = Duration::from_secs(300);
                tokio::time::sleep(silence).await;
                return Err(ExecError::Silent { doing: format!("receive {}", upload.name), silence });
            }
            Some(Fault::Fails) => {
                return Err(ExecError::Upload { name: upload.name.clone(), reason: "it was made to fail".into() });
            }
            Some(Fault::CutBefore | Fault::CutAfter) => return Err(ExecError::Lost),
        }
        on_progress(1, 1);
        Ok(())
    }
}

/// The network is shared by all ways, so it is held by its own name.
pub struct Pretended(pub Arc<Model>);

impl Network for Pretended {
    type Transport = Way;

    async fn connect(&self, node: &Node) -> std::result::Result<Way, ConnectError> {
        let unreachable =
            |reason: &str| ConnectError::Unreachable { host: node.name.to_string(), reason: reason.into() };
        let (fault, dead, boots) = {
            let mut world = self.0.lock();
            let fault = world.step(format!("{}: connect", node.name));
            let state = world.nodes.entry(node.name.clone()).or_default();
            (fault, state.dead, state.boots)
        };
        match fault {
            Some(Fault::Hangs) => {
                tokio::time::sleep(Duration::from_secs(10)).await;
                return Err(unreachable("no answer within 10 s"));
            }
            Some(Fault::Late) => tokio::time::sleep(Duration::from_secs(9)).await,
            Some(_) => return Err(unreachable("it was made to fail")),
            None => {}
        }
        if dead {
            return Err(unreachable("no answer within 10 s"));
        }
        Ok(Way { node: node.name.clone(), model: self.0.clone(), boots })
    }

    fn trust(&self, _: &UnknownKey) -> std::result::Result<(), ConnectError> {
        Ok(())
    }
}

/// Hears everything.
#[derive(Default)]
pub struct Listener(pub Mutex<Vec<String>>);

impl Watcher for Listener {
    fn note(&self, text: &str) {
        self.0.lock().unwrap().push(text.to_owned());
    }
    fn transfer(&self, _: &str, _: u64, _: Option<u64>) {}
}

impl Interface for Listener {
    fn event(&self, node: &str, event: Event) {
        self.0.lock().unwrap().push(format!("{node}: {event:?}"));
    }
    fn trusts(&self, _: &[UnknownKey]) -> bool {
        false
    }
}

/// A cluster of these nodes: `p` for each control plane, `w` for each worker.
pub fn cluster(nodes: &str, minor: u32) -> Arc<Cluster> {
    let mut text = format!(
        "cluster: shelf\nnetwork: {{ subnet: 10.0.0.0/24, cni: routed{} }}\ndistribution:\n  kubeadm: {{ version: \"1.{minor}\" }}\nnodes:\n",
        if nodes.matches('p').count() > 1 { ", api: 10.0.0.99" } else { "" }
    );
    for (number, kind) in nodes.chars().enumerate() {
        let role = if kind == 'p' { "control-plane" } else { "worker" };
        text.push_str(&format!(
            "  - {{ name: {kind}{number}, role: {role}, board: rpi-4b-8gb, address: 10.0.0.{} }}\n",
            50 + number
        ));
    }
    let loaded = bramble_spec::load(Path::new("bramble.yaml"), &text);
    assert!(!loaded.report.has_errors(), "{}", loaded.report.render(false));
    Arc::new(loaded.clusters.into_iter().next().unwrap())
}

pub fn inputs(minor: u32) -> Arc<Inputs> {
    Arc::new(Inputs {
        kubernetes: Some(format!("1.{minor}.3").parse().unwrap()),
        apt_key: Some("a key\n".into()),
        id: Some(ours().id),
        ..Inputs::default()
    })
}

pub fn world(cluster: &Arc<Cluster>, inputs: &Arc<Inputs>) -> Arc<Model> {
    let nodes = cluster.nodes.iter().map(|node| (node.name.clone(), State::default())).collect();
    Arc::new(Model(Mutex::new(World {
        nodes,
        registered: BTreeMap::new(),
        tokens: false,
        objects: Vec::new(),
        step: 0,
        fault: None,
        hangs: None,
        births: 0,
        reset: 0,
        pause: Duration::ZERO,
        trace: Vec::new(),
        cluster: cluster.clone(),
        inputs: inputs.clone(),
    })))
}

/// How a whole run ended.
pub enum Ended {
    /// There was nothing to do.
    Done,
    /// All was done.
    Went(Summary),
    /// It went on without these nodes, and says so.
    Without(Vec<NodeName>),
    /// Something stood against it.
    Obstacles(Vec<Problem>),
}

/// Looks, plans and applies, as the command does.
pub async fn go(model: &Arc<Model>, goal: Goal) -> Result<Ended> {
    finish(look(model, goal).await?).await
}

/// Plans and applies.
pub async fn finish(mut run: Run<Pretended>) -> Result<Ended> {
    loop {
        let planned: Planned = run.plan()?;
        if !planned.obstacles.is_empty() {
            return Ok(Ended::Obstacles(planned.obstacles));
        }
        let (lost, _) = run.losses();
        if planned.is_done {
            return Ok(if lost.is_empty() { Ended::Done } else { Ended::Without(lost) });
        }
        if let Some(summary) = run.apply().await? {
            return Ok(if lost.is_empty() { Ended::Went(summary) } else { Ended::Without(lost) });
        }
    }
}

pub async fn look(model: &Arc<Model>, goal: Goal) -> Result<Run<Pretended>> {
    look_as(model, goal, None).await
}

/// The identity of the cluster of the tests.
pub fn ours() -> Identity {
    Identity { id: "a".repeat(32).parse().unwrap(), ca: None }
}

/// The same by a lock file that says this.
pub async fn look_as(model: &Arc<Model>, goal: Goal, identity: Option<Identity>) -> Result<Run<Pretended>> {
    let (cluster, inputs) = {
        let world = model.lock();
        (world.cluster.clone(), world.inputs.clone())
    };
    let setup = Setup {
        network: Arc::new(Pretended(model.clone())),
        cluster,
        inputs,
        releases: None,
        private: std::env::temp_dir(),
        interface: Arc::new(Listener::default()),
        from: None,
        identity: Some(identity.unwrap_or_else(ours)),
        adopt: false,
        who: "me@here".into(),
    };
    Run::look(setup, goal).await
}

/// `up` with all that belongs to it.
pub async fn up(model: &Arc<Model>) -> Result<Ended> {
    go(model, Goal::Up { prepare_only: false }).await
}
