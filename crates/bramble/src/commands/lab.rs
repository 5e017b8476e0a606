//! `bramble lab`: a virtual rack on this machine.

use std::collections::BTreeSet;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};
use bramble_bundle::{BundleRequest, MINORS, Minor, STANDINS, Standin};
use bramble_kube::Bundle;
use bramble_lab::{Lab as Racks, NodeState, Rack, RackRequest, System};
use bramble_spec::Arch;
use clap::Subcommand;
use clap::builder::PossibleValuesParser;
use ipnet::Ipv4Net;
use serde_json::json;

use crate::Done;
use crate::commands::lab_watch::Watch;
use crate::ui::printer::{Format, Printer, Style};

/// Where racks are, and the roots of their boards, unless it is said.
pub(crate) const STATE: &str = "/var/lib/bramble-lab";
pub(crate) const CACHE: &str = "/var/cache/bramble";

#[derive(clap::Args)]
pub(crate) struct Lab {
    /// Where roots and bundles are cached
    #[arg(long, global = true, default_value = CACHE, value_name = "DIR")]
    cache: PathBuf,
    /// Where the racks are
    #[arg(long, global = true, default_value = STATE, value_name = "DIR")]
    state: PathBuf,
    /// A Debian mirror, if not this machine's own
    #[arg(long, global = true, value_name = "URL")]
    mirror: Option<String>,
    #[command(subcommand)]
    command: LabCommand,
}

#[derive(Subcommand)]
enum LabCommand {
    /// Raise a rack and write a cluster file for it
    Up(LabUp),
    /// Remove a rack and all that belongs to it
    Down {
        /// The rack
        #[arg(default_value = "lab")]
        rack: String,
    },
    /// List the racks
    List,
    /// Open a root shell on a node, as with screen and keyboard
    Shell {
        /// The node, as `node` or `rack/node`
        node: String,
        /// A command instead of a shell
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<String>,
    },
    /// Cut a node's power
    Cut {
        /// The node, as `node` or `rack/node`
        node: String,
    },
    /// Give a node its power back
    Start {
        /// The node, as `node` or `rack/node`
        node: String,
    },
    /// Pull the cable out of a node, or put it in: it loses or gets its carrier
    Link {
        /// What becomes of its carrier
        #[arg(value_parser = ["down", "up"])]
        carrier: String,
        /// The node, as `node` or `rack/node`
        node: String,
    },
    /// Set a node's clock, for its programs that start from now on and use its C library (not those of Go, as Kubernetes)
    Clock {
        /// The node, as `node` or `rack/node`
        node: String,
        /// By how much, such as `+1h` or `-3d`; `real` for this machine's time
        #[arg(allow_hyphen_values = true)]
        offset: String,
    },
    /// Let a node hang: its sshd answers and nothing else does, until its power is cut
    Hang {
        /// The node, as `node` or `rack/node`
        node: String,
    },
    /// Fill a node's disk
    Fill {
        /// The node, as `node` or `rack/node`
        node: String,
        /// How many MiB stay free
        #[arg(long, default_value_t = 0, value_name = "MIB")]
        leave: u64,
        /// Give back what an earlier `fill` took
        #[arg(long, conflicts_with = "leave")]
        undo: bool,
    },
    /// Turn a rack's nodes off, keep a copy of their disks, and turn them on again
    Save {
        /// The rack
        #[arg(default_value = "lab")]
        rack: String,
    },
    /// Give all nodes of a rack the disks that were saved, and turn them on
    Restore {
        /// The rack
        #[arg(default_value = "lab")]
        rack: String,
        /// The folder of the cluster file, whose pinned host keys become those of the saved disks
        #[arg(long, default_value = "lab", value_name = "DIR")]
        dir: PathBuf,
    },
    /// Put new boards in the places of some: an empty disk, other host keys
    Replace {
        /// The nodes, as `node` or `rack/node`, all of one rack
        #[arg(required = true, value_name = "NODE")]
        nodes: Vec<String>,
        /// The folder of the cluster file, whose pinned host keys become the new ones
        #[arg(long, default_value = "lab", value_name = "DIR")]
        dir: PathBuf,
    },
    /// Make a bundle with a real Kubernetes: built out of its Go modules, or of what its project releases
    Bundle {
        /// Make it although there is one
        #[arg(long)]
        again: bool,
        /// Take what its project releases, if that can be reached
        #[arg(long)]
        upstream: bool,
        /// A web server with the same files as the project's, and a registry with the same images
        #[arg(long, value_name = "URL", requires = "upstream")]
        mirror: Option<String>,
        /// With containerd 2, which takes the place of the one of the boards' systems
        #[arg(long)]
        containerd: bool,
        /// For boards of these architectures, too, beside those of this machine's own
        #[arg(long, value_parser = architectures(), value_delimiter = ',', value_name = "ARCH,…")]
        arch: Vec<String>,
        #[command(flatten)]
        minor: KubernetesMinor,
    },
    /// Make a bundle with stand-ins for the releases of distributions that are no Go modules, for `bramble --bundle`: their
    /// interfaces, in front of a real Kubernetes
    Standins {
        #[command(flatten)]
        minor: KubernetesMinor,
    },
    /// Make a bundle with add-ons that are Go modules (MetalLB, Traefik, cert-manager, metrics-server, local-path, flannel), for
    /// `bramble --bundle`
    Addons {
        /// Build them even if they are there
        #[arg(long)]
        again: bool,
    },
    /// Keeps a node on (used by `lab up`)
    #[command(hide = true)]
    Keep { rack: PathBuf, node: String },
}

#[derive(clap::Args)]
struct KubernetesMinor {
    /// The minor version
    #[arg(long, value_parser = minors(), default_value = MINORS[0].name, value_name = "MINOR")]
    kubernetes: String,
}

impl KubernetesMinor {
    fn get(&self) -> anyhow::Result<Minor> {
        Minor::named(&self.kubernetes).with_context(|| format!("Kubernetes {} cannot be built", self.kubernetes))
    }
}

/// The architectures that boards can have.
fn architectures() -> PossibleValuesParser {
    PossibleValuesParser::new(Arch::ALL.map(|arch| arch.to_string()))
}

/// The minors that a bundle can have.
fn minors() -> PossibleValuesParser {
    PossibleValuesParser::new(MINORS.iter().map(|minor| minor.name))
}

#[derive(clap::Args)]
struct LabUp {
    /// The rack's name
    #[arg(long, default_value = "lab")]
    name: String,
    /// How many control planes
    #[arg(long, default_value_t = 1)]
    control_planes: u8,
    /// How many workers
    #[arg(long, default_value_t = 2)]
    workers: u8,
    /// The rack's network, if not the first free one
    #[arg(long, value_name = "NETWORK")]
    subnet: Option<Ipv4Net>,
    /// The folder for the cluster file
    #[arg(long, default_value = "lab", value_name = "DIR")]
    dir: PathBuf,
    /// Without Kubernetes: boards only
    #[arg(long, conflicts_with = "distribution")]
    bare: bool,
    /// Which Kubernetes; others than kubeadm by a stand-in
    #[arg(long, value_parser = distributions(), default_value = OWN, value_name = "NAME")]
    distribution: String,
    /// A bundle with Kubernetes (`lab bundle`), instead of the one that is built
    #[arg(long, value_name = "FOLDER", conflicts_with = "kubernetes")]
    from: Option<PathBuf>,
    #[command(flatten)]
    minor: KubernetesMinor,
    /// The systems of the boards; several are taken in turn
    #[arg(id = "system", long, value_parser = systems(), value_delimiter = ',', default_value = System::ALL[0].name(), value_name = "NAME,…")]
    systems: Vec<String>,
    /// A node more, between the others and this machine: the rack has no other way out, and its nodes no addresses of their own
    #[arg(long)]
    gateway: bool,
    /// Nodes whose sudo asks for no password, as Raspberry Pi OS had it until April 2026; else it is `raspberry`
    #[arg(long)]
    passwordless_sudo: bool,
}

/// The systems that boards can have.
fn systems() -> PossibleValuesParser {
    PossibleValuesParser::new(System::ALL.iter().map(|system| system.name()))
}

/// The distribution that the bundle is.
const OWN: &str = "kubeadm";

/// The distributions that a rack can have.
fn distributions() -> PossibleValuesParser {
    PossibleValuesParser::new([OWN].into_iter().chain(STANDINS.iter().map(Standin::name)))
}

impl Lab {
    pub(crate) fn run(self, printer: &Printer) -> anyhow::Result<Done> {
        let racks = racks(&self.state, &self.cache, self.mirror)?;
        match self.command {
            LabCommand::Up(up) => up.run(&racks, printer)?,
            LabCommand::Down { rack } => {
                racks.down(&rack)?;
                printer.result(format!("Rack {rack} is gone."));
            }
            LabCommand::List => list(&racks, printer)?,
            LabCommand::Shell { node, command } => shell(&racks, &node, &command)?,
            LabCommand::Cut { node } => {
                let (rack, node) = find(&racks, &node)?;
                racks.cut(&rack, &node)?;
                printer.result(format!("{node} has no power."));
            }
            LabCommand::Start { node } => {
                let (rack, node) = find(&racks, &node)?;
                racks.start(&rack, &node)?;
                printer.result(format!("{node} is on."));
            }
            LabCommand::Link { carrier, node } => {
                let (rack, node) = find(&racks, &node)?;
                racks.link(&rack, &node, carrier == "up")?;
                printer.result(format!("The cable of {node} is {}.", if carrier == "up" { "in" } else { "out" }));
            }
            LabCommand::Clock { node, offset } => {
                let (rack, node) = find(&racks, &node)?;
                racks.clock(&rack, &node, &offset)?;
                printer.result(format!("The clock of {node} is set."));
            }
            LabCommand::Hang { node } => {
                let (rack, node) = find(&racks, &node)?;
                racks.hang(&rack, &node)?;
                printer.result(format!("{node} hangs. `bramble lab cut` and `start` end it."));
            }
            LabCommand::Fill { node, leave, undo } => {
                let (rack, node) = find(&racks, &node)?;
                racks.fill(&rack, &node, (!undo).then_some(leave << 20))?;
                printer.result(format!("The disk of {node} {}.", if undo { "has room again" } else { "is full" }));
            }
            LabCommand::Save { rack } => {
                let watch = Watch::new(printer);
                racks.save(&racks.open(&rack)?, &|event| watch.event(event))?;
                watch.end();
                printer.result(format!("Rack {rack} is saved."));
            }
            LabCommand::Restore { rack, dir } => {
                let watch = Watch::new(printer);
                let rack = racks.open(&rack)?;
                racks.restore(&rack, &|event| watch.event(event))?;
                watch.end();
                pin_host_keys(&rack, &dir)?;
                printer.result(format!("Rack {} is as it was saved.", rack.name));
            }
            LabCommand::Replace { nodes, dir } => {
                let found = nodes.iter().map(|node| find(&racks, node)).collect::<anyhow::Result<Vec<_>>>()?;
                let Some((rack, _)) = found.first() else { bail!("no board is named") };
                if let Some((other, node)) = found.iter().find(|(other, _)| other.name != rack.name) {
                    bail!(
                        "{node} is in the rack {}, and others are in {}: name boards of one rack",
                        other.name,
                        rack.name
                    );
                }
                let names: BTreeSet<&String> = found.iter().map(|(_, node)| node).collect();
                for node in names {
                    racks.replace(rack, node)?;
                    pin_host_keys(rack, &dir)?;
                    printer.result(format!("{node} is another board."));
                }
            }
            LabCommand::Bundle { again, upstream, mirror, containerd, arch, minor } => {
                let minor = minor.get()?;
                let others = Arch::ALL.into_iter().filter(|own| arch.contains(&own.to_string())).collect();
                let request = BundleRequest { others, containerd, again };
                let released = upstream.then(|| minor.released(&racks, mirror.as_deref(), &request, printer));
                let released = released.transpose();
                let bundle = match released {
                    Ok(Some(bundle)) => bundle,
                    Err(error) if mirror.is_some() => return Err(error.into()),
                    other => {
                        if let Err(error) = other {
                            printer.info(format!("{error:#}: it is built out of its Go modules instead"));
                        }
                        bundle(&racks, minor, &request, printer)?
                    }
                };
                printer.result(format!("Kubernetes {} is in {}", bundle.manifest.kubernetes, bundle.dir.display()));
            }
            LabCommand::Standins { minor } => {
                let dir = standins(&racks, minor.get()?, printer)?;
                printer.result(format!("Stand-ins are in {}", dir.display()));
            }
            LabCommand::Addons { again } => {
                let watch = Watch::new(printer);
                let dir = bramble_bundle::addons(&racks, again, &|event| watch.event(event))?;
                watch.end();
                printer.result(format!("Add-ons are in {}", dir.display()));
            }
            LabCommand::Keep { rack, node } => bramble_lab::keep(&rack, &node)?,
        }
        Ok(Done::Good)
    }
}

fn bundle(racks: &Racks, minor: Minor, request: &BundleRequest, printer: &Printer) -> anyhow::Result<Bundle> {
    let watch = Watch::new(printer);
    let bundle = minor.bundle(racks, request, &|event| watch.event(event))?;
    watch.end();
    Ok(bundle)
}

fn standins(racks: &Racks, minor: Minor, printer: &Printer) -> anyhow::Result<PathBuf> {
    let watch = Watch::new(printer);
    let dir = bramble_bundle::releases(racks, minor, &|event| watch.event(event))?;
    watch.end();
    Ok(dir)
}

impl LabUp {
    fn run(self, racks: &Racks, printer: &Printer) -> anyhow::Result<()> {
        let planes = usize::from(self.control_planes);
        let total = planes + usize::from(self.workers);
        let gateway = self.gateway.then(|| format!("{}-gate", self.name));
        let nodes: Vec<String> = gateway.into_iter().chain((1..=total).map(|n| format!("{}-{n}", self.name))).collect();
        let (mut distribution, mut standins) = ("  none\n".to_owned(), None);
        let standin = STANDINS.iter().find(|standin| standin.name() == self.distribution);
        if let Some(standin) = standin {
            standins = Some(self::standins(racks, self.minor.get()?, printer)?);
            let settings = standin.settings().iter().map(|line| format!("    {line}\n")).collect::<String>();
            distribution = format!("  {}:\n    version: stable\n{settings}", standin.name());
        } else if !self.bare {
            let bundle = match &self.from {
                Some(folder) => Bundle::open(folder)?,
                None => bundle(racks, self.minor.get()?, &BundleRequest::default(), printer)?,
            };
            distribution = format!(
                "  {OWN}:\n    version: \"{}\"\n    source: {{ bundle: {} }}\n",
                bundle.manifest.kubernetes,
                bundle.dir.display()
            );
        }
        let request = RackRequest {
            name: self.name.clone(),
            nodes,
            subnet: self.subnet,
            sudo_password: !self.passwordless_sudo,
            packages: standin.map(Standin::packages).unwrap_or_default(),
            systems: self.systems.iter().filter_map(|name| System::named(name)).collect(),
            gateway: self.gateway,
        };
        let watch = Watch::new(printer);
        let rack = racks.up(&request, &|event| watch.event(event))?;
        watch.end();
        let file = self.dir.join("bramble.yaml");
        pin_host_keys(&rack, &self.dir)?;
        if file.exists() {
            printer.info(format!("{} stays as it is", file.display()));
        } else {
            let planes = if self.bare { 0 } else { planes };
            let cni = standin.map_or(Some("routed"), Standin::cni);
            let cni = cni.map_or_else(String::new, |cni| format!(", cni: {cni}"));
            let text = cluster_file(&rack, planes, &distribution, &cni, !self.passwordless_sudo);
            bramble_fetch::replace_file(&file, text.as_bytes(), 0o644)?;
        }
        if !self.passwordless_sudo {
            printer.info(format!("sudo on the nodes asks for a password: {}", Rack::PASSWORD));
        }
        printer.result(format!(
            "Rack {} has {} nodes on {}. Next: bramble{} -f {} up",
            rack.name,
            rack.nodes.len(),
            rack.subnet,
            standins.map_or_else(String::new, |dir| format!(" --bundle {}", dir.display())),
            file.display()
        ));
        Ok(())
    }
}

/// Gives the way to racks, whose boards this program itself keeps on.
pub(crate) fn racks(state: &Path, cache: &Path, mirror: Option<String>) -> anyhow::Result<Racks> {
    let own = std::env::current_exe().context("cannot find the program itself")?;
    // Mounts are known by whole paths.
    let (state, cache) = (std::path::absolute(state)?, std::path::absolute(cache)?);
    let keeper = vec![own, "lab".into(), "--state".into(), state.clone(), "keep".into()];
    Ok(Racks { keeper, cache, state, mirror })
}

/// The word of the catalogue for the boards of racks.
pub(crate) fn board() -> String {
    format!("generic-{}", Arch::HERE)
}

/// The lab wrote these host keys to the nodes' disks itself, so they are known from the first contact on.
pub(crate) fn pin_host_keys(rack: &Rack, dir: &Path) -> anyhow::Result<()> {
    let private = dir.join(".bramble");
    std::fs::create_dir_all(&private).with_context(|| format!("cannot create {}", private.display()))?;
    set_private(&private)?;
    Ok(bramble_fetch::replace_file(&private.join("known_hosts"), rack.known_hosts()?.as_bytes(), 0o600)?)
}

fn set_private(dir: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o700))
        .with_context(|| format!("cannot protect {}", dir.display()))
}

fn cluster_file(rack: &Rack, planes: usize, distribution: &str, cni: &str, sudo_password: bool) -> String {
    let board = board();
    let mut text = format!(
        "# The virtual rack `{}`. For real boards, change board, address and mac.\ncluster: {}\naccess:\n  user: pi\n  keys: [{}]\n{}\
         network: {{ subnet: {}{cni} }}\ndistribution:\n{distribution}nodes:\n",
        rack.name,
        rack.name,
        rack.key().display(),
        if sudo_password { "  sudo: password\n" } else { "" },
        rack.subnet,
    );
    let mut planes = planes;
    for node in &rack.nodes {
        let (role, more) = match rack.reach(node) {
            Some(reach) => ("gateway", format!(", uplink: {{ interface: eth1, reach: {reach} }}")),
            None if planes > 0 => {
                planes -= 1;
                ("control-plane", String::new())
            }
            None => ("worker", String::new()),
        };
        text.push_str(&format!(
            "  - {{ name: {}, role: {role}, board: {board}, address: {}, mac: \"{}\"{more} }}\n",
            node.name, node.address, node.mac
        ));
    }
    text
}

fn list(racks: &Racks, printer: &Printer) -> anyhow::Result<()> {
    let all = racks.list()?;
    if printer.format == Format::Json {
        let mut list = Vec::new();
        for rack in &all {
            let mut nodes = Vec::new();
            for node in &rack.nodes {
                let on = rack.node_state(node)? == NodeState::On;
                nodes.push(json!({ "name": node.name, "address": node.address, "mac": node.mac, "on": on }));
            }
            list.push(json!({ "name": rack.name, "subnet": rack.subnet, "nodes": nodes }));
        }
        printer.json(&json!(list));
        return Ok(());
    }
    if all.is_empty() {
        printer.result("There is no rack. `bramble lab up` raises one.");
    }
    for rack in &all {
        printer.result(format!("{} {}", printer.style(Style::Bold, &rack.name), rack.subnet));
        for node in &rack.nodes {
            let state = match rack.node_state(node)? {
                NodeState::On => printer.style(Style::Good, "on "),
                NodeState::Off => printer.style(Style::Bad, "off"),
            };
            printer.result(format!("  {state} {:<16} {:<15} {}", node.name, node.address, node.mac));
        }
    }
    Ok(())
}

/// `rack/node`, or a node's name if only one rack has it.
fn find(racks: &Racks, name: &str) -> anyhow::Result<(Rack, String)> {
    if let Some((rack, node)) = name.split_once('/') {
        let rack = racks.open(rack)?;
        if !rack.nodes.iter().any(|own| own.name == node) {
            bail!("the rack {} has no node `{node}`; `bramble lab list` shows all", rack.name);
        }
        return Ok((rack, node.to_owned()));
    }
    let mut found: Vec<Rack> =
        racks.list()?.into_iter().filter(|rack| rack.nodes.iter().any(|node| node.name == name)).collect();
    match (found.pop(), found.is_empty()) {
        (Some(rack), true) => Ok((rack, name.to_owned())),
        (Some(_), false) => bail!("several racks have a node `{name}`: say RACK/{name}"),
        (None, _) => bail!("no rack has a node `{name}`; `bramble lab list` shows all"),
    }
}

fn shell(racks: &Racks, name: &str, command: &[String]) -> anyhow::Result<()> {
    let (rack, node) = find(racks, name)?;
    let pid = rack.init_pid(&node)?;
    let mut enter = Command::new("nsenter");
    enter.args([
        "--target",
        &pid.to_string(),
        "--mount",
        "--uts",
        "--ipc",
        "--net",
        "--pid",
        "--cgroup",
        "--root",
        "--",
    ]);
    enter.args([
        "/usr/bin/env",
        "-i",
        "TERM=xterm",
        "HOME=/root",
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    ]);
    enter.args(["/bin/sh", "-c", "cd && exec \"$@\"", "sh"]);
    if command.is_empty() {
        enter.args(["/bin/bash", "-l"]);
    } else {
        enter.args(command);
    }
    // It only comes back if it failed.
    Err(enter.exec()).context("cannot enter the node; is nsenter (util-linux) installed?")
}
