//! The pretended nodes: what they have, and what every script does to them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bramble_kube::{Identity, Inputs, lifecycle, prepare};
use bramble_shell::Script;
use bramble_spec::{Cluster, Node, NodeName, Role};
use bramble_state::{Observation, Resource, satisfied};

use super::Fault;

/// One pretended node.
#[derive(Debug, Clone, Default)]
pub struct State {
    /// What it was brought to.
    pub has: Vec<Resource>,
    /// The marks of its finished steps.
    pub marks: BTreeMap<String, String>,
    /// How often it has booted.
    pub boots: u32,
    /// Whether its kernel runs with what cmdline.txt says.
    pub booted: bool,
    /// Whether nothing answers there.
    pub dead: bool,
    /// Whether its API does not answer, though the node does.
    pub mute_api: bool,
    /// Seconds by which its clock is wrong.
    pub clock: i64,
    /// Whether the node is cordoned.
    pub cordoned: bool,
    /// The run that changed it last.
    pub run: String,
}

/// All of them.
#[derive(Clone)]
pub struct World {
    pub nodes: BTreeMap<NodeName, State>,
    /// The records that the API has of nodes, each with the version of its kubelet.
    pub registered: BTreeMap<NodeName, String>,
    /// Whether somebody could join with tokens that were made.
    pub tokens: bool,
    /// Objects of the cluster.
    pub objects: Vec<String>,
    /// Steps until now.
    pub step: usize,
    /// Which step goes wrong, and how.
    pub fault: Option<(usize, Fault)>,
    /// A node whose shell never says a word.
    pub hangs: Option<NodeName>,
    /// How often a cluster was made.
    pub births: usize,
    /// How often a member was reset, to join or to begin anew.
    pub reset: usize,
    /// How long each script takes.
    pub pause: Duration,
    /// What happened, for messages.
    pub trace: Vec<String>,
    pub cluster: Arc<Cluster>,
    pub inputs: Arc<Inputs>,
}

/// The digest of the CA of the cluster that this model makes.
pub const CA: &str = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// What a script does and says.
pub struct Answer {
    pub output: String,
    pub stderr: &'static str,
    pub code: u32,
}

fn said(output: impl Into<String>) -> Answer {
    Answer { output: output.into(), stderr: "", code: 0 }
}

fn failed(stderr: &'static str) -> Answer {
    Answer { output: String::new(), stderr, code: 1 }
}

impl World {
    /// Counts a step; says whether and how it goes wrong.
    pub fn step(&mut self, what: String) -> Option<Fault> {
        let at = self.step;
        self.step += 1;
        self.trace.push(format!("{at} {what}"));
        self.fault.filter(|(step, _)| *step == at).map(|(_, fault)| fault)
    }

    fn node(&self, name: &NodeName) -> &Node {
        self.cluster.nodes.iter().find(|node| node.name == *name).unwrap()
    }

    /// What a node says of itself, and its marks.
    fn facts(&self, name: &NodeName) -> String {
        let state = &self.nodes[name];
        let number = self.nodes.keys().position(|known| known == name).unwrap();
        let address = self.cluster.nodes.iter().find(|node| node.name == *name).map(|node| node.address);
        let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()).unwrap();
        let mut facts = format!(
            "fact model Raspberry Pi 4 Model B Rev 1.4\nfact boot-id boot-{number}-{}\nfact os debian 13 trixie\n\
             fact kernel 6.12\nfact arch arm64\nfact cgroup 2\nfact memory 7900000\nfact machine-id {number:032x}\n\
             fact time {}\nfact cmdline-file /boot/firmware/cmdline.txt\nfact address {} eth0\nfact disk-free 9000000 4096\n",
            state.boots,
            now + state.clock,
            address.map(|address| address.to_string()).unwrap_or_default(),
        );
        if !state.run.is_empty() {
            facts.push_str(&format!("fact run {}\n", state.run));
        }
        for (name, value) in &state.marks {
            facts.push_str(&format!("done {name} {value}\n"));
        }
        facts
    }

    /// What a look at a node finds.
    fn look(&self, name: &NodeName) -> String {
        let state = &self.nodes[name];
        let facts = self.facts(name);
        if state.has.is_empty() {
            let text = "text /boot/firmware/cmdline.txt\n=root=x\n.\ntext /etc/hosts\n=127.0.0.1 localhost\n.\ntext /etc/fstab\n=# none\n.\n";
            return format!("bramble 1\n{facts}{text}fact cmdline root=x\nfact controllers cpu\nend\n");
        }
        let answer = satisfied(&state.has, &facts);
        if state.booted {
            answer
        } else {
            answer.replace("fact controllers memory", "fact controllers cpu").replace("cgroup_enable=memory", "")
        }
    }

    /// What the node should have, as the engine works it out.
    fn desired(&self, name: &NodeName) -> Vec<Resource> {
        let empty = format!("bramble 1\n{}end\n", self.facts(name));
        let seen = Observation::parse(&empty, &[]).unwrap();
        let mut inputs = (*self.inputs).clone();
        if let Some(owner) = bramble_kube::owner(&seen) {
            inputs.id = Some(owner.id);
        }
        prepare(&self.cluster, self.node(name), &seen, &inputs)
    }

    /// The same without programs, which a member gets at its turn.
    fn without_programs(&self, mut all: Vec<Resource>) -> Vec<Resource> {
        let life = lifecycle(&self.cluster, &self.inputs).unwrap();
        all.retain(|resource| !life.is_program(resource));
        all
    }

    fn planned(&self, name: &NodeName, resources: &[Resource]) -> Vec<String> {
        let seen = Observation::parse(&self.look(name), resources).unwrap();
        bramble_state::plan(resources, &seen).changes.into_iter().map(|change| change.title).collect()
    }

    pub fn is_member(&self, name: &NodeName) -> bool {
        self.nodes[name].marks.contains_key(bramble_kube::MEMBER)
    }

    fn api_answers(&self, name: &NodeName) -> bool {
        let state = &self.nodes[name];
        self.is_member(name) && !state.dead && !state.mute_api && self.node(name).role == Role::ControlPlane
    }

    fn unready(&self) -> Vec<String> {
        let mut found = Vec::new();
        for node in self.cluster.members() {
            let state = &self.nodes[&node.name];
            if !self.is_member(&node.name) || !self.registered.contains_key(&node.name) {
                found.push(format!("the node {} is not there", node.name));
            } else if state.dead || state.mute_api || state.cordoned {
                found.push(format!("the node {} is not Ready", node.name));
            }
        }
        found
    }

    /// The identity that the first node was given.
    pub fn owner(&self) -> Option<Identity> {
        let mark = self.nodes.values().find_map(|state| state.marks.get(bramble_kube::OWNER))?;
        Some(Identity { id: mark.split(' ').next()?.parse().ok()?, ca: None })
    }

    /// Whether the cluster is what its file says.
    pub fn is_well(&self) -> bool {
        let version = lifecycle(&self.cluster, &self.inputs).unwrap().version();
        let right = |node: &Node| self.nodes[&node.name].marks.get(bramble_kube::VERSION) == Some(&version);
        self.unready().is_empty()
            && !self.tokens
            && self.cluster.members().all(right)
            && self.registered.keys().all(|name| self.cluster.members().any(|node| node.name == *name))
    }

    /// Whether nothing of bramble is left on any node.
    pub fn is_clean(&self) -> bool {
        self.nodes.values().all(|state| state.marks.is_empty() && state.has.is_empty())
    }

    /// Makes the changes of a script, one after the other, as far as none goes wrong.
    fn change(&mut self, name: &NodeName, text: &str) -> (Answer, Option<Fault>) {
        let count = text.lines().filter(|line| line.starts_with("run ")).count();
        let is_step = text.contains("\nstep_begins ") && text.contains(&format!(" {} ", bramble_kube::MEMBER));
        let mut brought = None;
        if !is_step {
            let is_meant = |wanted: &Vec<Resource>| self.planned(name, wanted).len() == count;
            let whole = self.desired(name);
            brought = match is_meant(&whole) {
                true => Some(whole),
                false => Some(self.without_programs(whole)).filter(is_meant),
            };
        }
        let mut output = String::new();
        // Each function of a change is followed by the line that runs it.
        for (index, body) in text.split("\nrun ").take(count).enumerate() {
            let body = body.rsplit_once(&format!("\nc{index}() {{\n")).unwrap().1;
            let title = format!("{name} change {index} of {count}");
            output.push_str(&format!("@start {index}\n"));
            match self.step(title) {
                Some(Fault::Fails) => {
                    output.push_str(&format!("why it failed\n@fail {index} 3\n"));
                    return (Answer { output, stderr: "", code: 1 }, None);
                }
                Some(Fault::Lies) => return (Answer { output: String::new(), stderr: "", code: 0 }, None),
                Some(Fault::CutAfter) => {
                    self.effects(name, body);
                    return (said(output), Some(Fault::CutAfter));
                }
                Some(Fault::Late) => {
                    output.push_str(&self.effects(name, body));
                    output.push_str(&format!("@ok {index}\n"));
                    // The rest of it is done in time.
                    continue;
                }
                Some(fault) => return (said(output), Some(fault)),
                None => {}
            }
            output.push_str(&self.effects(name, body));
            output.push_str(&format!("@ok {index}\n"));
        }
        if let Some(brought) = brought {
            let state = self.nodes.get_mut(name).unwrap();
            state.has = brought;
        }
        (said(output), None)
    }

    /// What the commands of a change do, and say.
    fn effects(&mut self, name: &NodeName, body: &str) -> String {
        let mut told = String::new();
        if body.contains("\nkubeadm_init ") || body.contains("\nkubeadm_join\n") {
            self.reset += usize::from(self.is_member(name));
        }
        let is_known = |line: &&str| line.starts_with("step_ends ") || line.starts_with("kubeadm_init ");
        for line in body.lines().filter(is_known) {
            let words: Vec<String> = words(line);
            match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
                ["step_ends", id, value] => {
                    self.nodes.get_mut(name).unwrap().marks.insert((*id).to_owned(), (*value).to_owned());
                    if *id == bramble_kube::MEMBER {
                        let version = self.nodes[name].marks.get(bramble_kube::VERSION).cloned();
                        self.registered.insert(name.clone(), version.unwrap_or_default());
                    }
                }
                ["kubeadm_init", ..] => {
                    self.births += 1;
                    self.nodes.get_mut(name).unwrap().marks.insert("ca-hash".into(), CA.into());
                    self.tokens = true;
                    if self.objects.is_empty() {
                        self.objects.push("u1 Namespace /default".into());
                    }
                    told.push_str(&format!("@fact ca-hash {CA}\n@fact joinable yes\n"));
                }
                _ => {}
            }
        }
        told
    }

    /// Takes the turn that a script brings with it, as `turn.sh` does; names the run that was faster.
    fn takes_turn(&mut self, name: &NodeName, text: &str) -> Option<String> {
        let value = |variable: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(variable))?;
            Some(words(&line.replace(' ', "\u{a0}"))[0].replace('\u{a0}', " "))
        };
        let (run, seen) = (value("RUN=")?, value("SEEN=")?);
        let state = self.nodes.get_mut(name).unwrap();
        let own = state.run.strip_prefix(&format!("{run}.")).map(|rest| rest.split(' ').next().unwrap().to_owned());
        if own.is_none() && state.run != seen {
            return Some(state.run.clone());
        }
        let number: u32 = own.map_or(0, |number| number.parse().unwrap());
        state.run = format!("{run}.{} {}", number + 1, value("WHO=")?);
        None
    }

    /// What a script does and says when nothing goes wrong.
    pub fn answer(&mut self, name: &NodeName, script: &Script) -> (Answer, Option<Fault>) {
        let text = script.text();
        let what = script.name();
        let ok = |answer: Answer| (answer, None);
        if let Some(last) = self.takes_turn(name, text) {
            return ok(Answer { output: format!("@stale {last}\n"), stderr: "", code: 76 });
        }
        let drained = what.strip_prefix("drain ");
        let returned =
            what.strip_prefix("wait until ").and_then(|rest| rest.strip_suffix(" is Ready again, and uncordon it"));
        if let Some(other) = drained.or(returned) {
            if !self.api_answers(name) {
                return ok(failed("the API does not answer"));
            }
            if let Some(state) = self.nodes.get_mut(&other.parse().unwrap()) {
                state.cordoned = drained.is_some();
            }
            return ok(said(""));
        }
        ok(match what {
            "look at the node" => {
                // What only one kind of resource asks is not answered to others.
                let asked = |line: &&str| !line.starts_with("pod-route ") || text.contains("pod-route");
                let answer = self.look(name);
                said(answer.lines().filter(asked).map(|line| format!("{line}\n")).collect::<String>())
            }
            "make the changes" => return self.change(name, text),
            "undo what bramble did" => {
                let state = self.nodes.get_mut(name).unwrap();
                state.has.clear();
                state.marks.clear();
                state.run.clear();
                said("@title restore all\n@start 0\n@ok 0\n@fact undone all\n")
            }
            "boot" => {
                let state = self.nodes.get_mut(name).unwrap();
                state.boots += 1;
                state.booted = !state.has.is_empty();
                said("")
            }
            "say which boot this is" => {
                let number = self.nodes.keys().position(|known| known == name).unwrap();
                said(format!("boot-{number}-{}\n", self.nodes[name].boots))
            }
            "ask the API how the cluster is" => match self.api_answers(name) {
                false => said("@fact answers no\n"),
                true => {
                    let unready = self.unready();
                    let lines: String = unready.iter().map(|line| format!("@fact unready {line}\n")).collect();
                    said(format!("{lines}@fact answers yes\n"))
                }
            },
            "ask the API for its records of the nodes" => said(""),
            "ask whether its API answers" => {
                said(format!("@fact answers {}\n", if self.api_answers(name) { "yes" } else { "no" }))
            }
            "give the nodes their ranges of pods"
            | "wait until its API answers"
            | "settle after others have joined"
            | "start its programs again"
            | "remove the records of nodes" => {
                let mut told = String::new();
                if what == "remove the records of nodes" {
                    for line in text.lines().filter(|line| line.starts_with("forget_node ")) {
                        let gone: NodeName = words(line)[1].parse().unwrap();
                        told.push_str(&format!("@fact forgotten {gone}\n"));
                        self.registered.remove(&gone);
                    }
                }
                match self.api_answers(name) || what == "start its programs again" || self.is_being_made(name) {
                    true => said(told),
                    false => failed("the API does not answer"),
                }
            }
            "tell how nodes join" => match self.api_answers(name) {
                true => {
                    self.tokens = true;
                    said("@fact token abcdef.0123456789abcdef\n")
                }
                false => failed("the API does not answer"),
            },
            "wait until all nodes are Ready and the pods of the system run" => {
                if self.api_answers(name) {
                    self.nodes.values_mut().for_each(|state| state.cordoned = false);
                }
                match self.api_answers(name) && self.unready().is_empty() {
                    true => said("@fact gate nodes-appeared\n@fact gate nodes-ready\n@fact gate system-ready\n"),
                    false => failed("a node is not Ready"),
                }
            }
            "remove the join tokens" => {
                self.tokens = false;
                said("@fact tokens removed\n")
            }
            "run the smoke test" => {
                let mark = bramble_kube::smoke_mark(&self.cluster);
                self.nodes.get_mut(name).unwrap().marks.insert("smoke".into(), mark);
                said("@fact smoke 9 paths between pods, 3 through the service\n")
            }
            "write down who the members are" => {
                self.effects(name, text);
                said("")
            }
            "look for updates" => said("package libc6 1 2\nheld kubelet\n"),
            "save the state of the cluster" => match self.api_answers(name) {
                true => said("the state"),
                false => failed("there is no database"),
            },
            "end the pods" => said(""),
            "stop its control plane" => said(""),
            "list the objects of the cluster" => {
                said(self.objects.iter().map(|o| format!("{o}\n")).collect::<String>())
            }
            unknown => panic!("the model knows no script `{unknown}`:\n{text}"),
        })
    }

    /// Whether `kubeadm init` has run on a node, whose mark is not written yet.
    fn is_being_made(&self, name: &NodeName) -> bool {
        self.nodes[name].marks.contains_key("ca-hash")
    }
}

/// The words of a line as a shell has them; without its variables.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut quoted = false;
    for c in line.chars() {
        match c {
            '\'' => quoted = !quoted,
            ' ' if !quoted => words.push(std::mem::take(&mut word)),
            c => word.push(c),
        }
    }
    words.push(word);
    words
}
