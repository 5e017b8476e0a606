//! `bramble netboot`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use bramble_engine::{Project, random};
use bramble_fetch::refuse_unfit;
use bramble_installer::{Job, Order, Piece, Word};
use bramble_kube::Destruction;
use bramble_netboot::{Addresses, Board, Dnsmasq, Event, Firmware, Heard, Parts, Prepared, Server, Tree};
use bramble_remote::{HostKeys, printable};
use bramble_spec::{Arch, MacAddr, Node, NodeName, hex, name_ranges};
use ipnet::Ipv4Net;
use serde_json::json;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use crate::commands::image::identity;
use crate::commands::outlets;
use crate::confirmed::Yes;
use crate::ui::live::LiveLine;
use crate::ui::printer::{Format, Printer, Style};
use crate::ui::quarters::Quarters;
use crate::{Common, Done, cluster_file};

/// Let boards boot from the network and write their own disks.
#[derive(clap::Args)]
pub(crate) struct Netboot {
    /// The nodes whose boards are answered; all if none is named. Each needs its `mac` in the cluster file
    #[arg(value_name = "NODE")]
    nodes: Vec<String>,
    /// The disk that each board writes, by its name (/dev/nvme0n1) or its kind (sd, emmc, nvme, usb, sata); without this, the
    /// only one that it has
    #[arg(long, value_name = "DISK")]
    disk: Option<String>,
    /// Give the boards their addresses, too: for networks without a DHCP server
    #[arg(long)]
    dhcp: bool,
    /// Cycle the power of the boards first, of those whose power bramble switches
    #[arg(long)]
    cycle: bool,
    /// The folder with bramble-installer-arm64 and bramble-installer-amd64; the one that bramble is in, if not given
    #[arg(long, value_name = "FOLDER")]
    installers: Option<PathBuf>,
    #[command(flatten)]
    yes: Yes,
}

/// What a board's firmware asks within this time is of one start.
const ONE_START: Duration = Duration::from_secs(5);

/// Where this machine is in the network of the nodes.
struct Place {
    interface: String,
    address: Ipv4Addr,
}

impl Netboot {
    pub(crate) async fn run(self, common: &Common, printer: &Printer) -> anyhow::Result<Done> {
        let project = cluster_file::open(common, printer)?;
        let nodes = self.nodes(&project)?;
        let parts = self.parts(&nodes)?;
        let place = place(project.cluster.network.subnet)?;
        if !rustix::process::geteuid().is_root() {
            bail!("only root may answer DHCP and TFTP: run this with sudo");
        }
        self.agree(&project, &nodes, printer)?;
        let packed = cluster_file::os_image(&project, printer)?;
        let boards: Vec<Board> = nodes.iter().map(|node| board(&project, node)).collect::<Result<_, _>>()?;
        refuse_unfit(&packed, nodes.iter().copied().zip(boards.iter().map(|board| &board.identity)))?;
        let folder = folder()?;
        let prepared = prepare(&packed, folder.path(), printer).await?;
        let (said, events) = unbounded_channel();
        let server = Server::start(place.address, prepared.packed().to_owned(), self.disk.clone(), said).await?;
        let root = folder.path().join("tftp");
        let tree = Tree::new(&root, &prepared)?;
        for board in &boards {
            let token = hex(&random::<16>()?);
            tree.add(board, &parts, server.address(), &token)?;
            let changes = prepared.changes(&board.identity)?;
            let changes = changes.iter().map(Piece::from).collect();
            server.add(token, Job { node: board.node.to_string(), bytes: prepared.bytes, changes });
        }
        let addresses = if self.dhcp { Addresses::Planned } else { Addresses::Network };
        let subnet = project.cluster.network.subnet;
        let dnsmasq = Dnsmasq::start(&place.interface, subnet, addresses, &boards, tree.root(), folder.path()).await?;
        let mut shelf = Shelf::new(&project, boards, prepared.bytes, tree, dnsmasq, printer);
        printer.info(format!(
            "Answering on {} ({}), with the image at port {}. Boards that boot from the network now write their disks; Ctrl-C ends it.",
            place.interface,
            place.address,
            server.address().port()
        ));
        if self.cycle {
            cycle(&project, &nodes, printer).await?;
        }
        shelf.serve(events).await?;
        shelf.report()
    }

    fn nodes<'a>(&self, project: &'a Project) -> anyhow::Result<Vec<&'a Node>> {
        let nodes = project.nodes(&self.nodes)?;
        let without: Vec<&str> =
            nodes.iter().filter(|node| node.mac.is_none()).map(|node| node.name.as_str()).collect();
        if !without.is_empty() {
            bail!(
                "boards are known by their Ethernet address while they boot: give {} a `mac` in the cluster file \
                 (it is on the board's box, in `bramble discover`, or in what this command says of boards that it does not know)",
                name_ranges(without)
            );
        }
        Ok(nodes)
    }

    /// The programs that write the disks of these nodes.
    fn parts(&self, nodes: &[&Node]) -> anyhow::Result<Parts> {
        let own = std::env::current_exe().context("cannot find out where bramble is")?;
        let beside = own.parent().unwrap_or(Path::new("/")).to_owned();
        let folders = match &self.installers {
            Some(folder) => vec![folder.clone()],
            None => vec![beside.clone(), beside.join("../lib/bramble")],
        };
        let mut installers = BTreeMap::new();
        for arch in nodes.iter().map(|node| node.board.arch).collect::<BTreeSet<Arch>>() {
            let name = format!("bramble-installer-{arch}");
            let found = folders.iter().map(|folder| folder.join(&name)).find(|path| path.is_file());
            let Some(path) = found else {
                bail!(
                    "there is no {name}, the program that writes the disk of a board: it comes with bramble; from the source, \
                     `make installer ARCH={arch}` builds it into target/installer. Name its folder with --installers"
                );
            };
            installers.insert(arch, path);
        }
        Ok(Parts { installers, stubs: Parts::STUBS.into() })
    }

    fn agree(&self, project: &Project, nodes: &[&Node], printer: &Printer) -> anyhow::Result<()> {
        let of = |node: &&Node| Destruction {
            name: node.name.to_string(),
            what: format!("all that is on the disk of {}'s board is lost when it boots from the network", node.name),
        };
        let confirmed = self.yes.clone().confirmed_for(project.cluster.name.as_str());
        // A node that was named on the command line was named; a role or a label is no name.
        let named = confirmed.changes && !self.nodes.is_empty() && !self.nodes.iter().any(|word| word.contains('='));
        let destroys: Vec<Destruction> = nodes.iter().map(of).filter(|_| !named).collect();
        confirmed.agree(printer, destroys, "What is lost:", "Let these boards write their disks?")?;
        Ok(())
    }
}

/// Switches boards off and on, wakes those that can only be woken, and names the others.
async fn cycle(project: &Project, nodes: &[&Node], printer: &Printer) -> anyhow::Result<()> {
    let all = outlets::outlets(project, nodes.iter().copied())?;
    let names: Vec<NodeName> = all.iter().map(|outlet| outlet.node.clone()).collect();
    let done = outlets::with_all(all, |outlet| async move {
        if outlet.is_switched() { outlet.cycle().await } else { outlet.set(true).await }
    })
    .await;
    for (name, error) in names.iter().zip(done).filter_map(|(name, result)| Some((name, result.err()?))) {
        printer.error(format!("{} {name}: {error}", printer.style(Style::Bad, "✗")));
    }
    let by_hand = nodes.iter().map(|node| &node.name).filter(|name| !names.contains(name));
    let by_hand: Vec<&str> = by_hand.map(NodeName::as_str).collect();
    if !by_hand.is_empty() {
        printer.info(format!("Nothing switches the power of {}: switch them off and on.", name_ranges(by_hand)));
    }
    Ok(())
}

/// The interface of this machine that is in the network of the nodes.
fn place(subnet: Ipv4Net) -> anyhow::Result<Place> {
    let all = if_addrs::get_if_addrs().context("cannot list this machine's addresses")?;
    let here = |one: if_addrs::Interface| match one.addr.ip() {
        std::net::IpAddr::V4(address) if subnet.contains(&address) => Some(Place { interface: one.name, address }),
        _ => None,
    };
    all.into_iter().find_map(here).with_context(|| {
        format!(
            "this machine has no address in {subnet}: boards that boot from the network are answered by a machine in it"
        )
    })
}

fn board(project: &Project, node: &Node) -> anyhow::Result<Board> {
    let firmware = if node.board.id.starts_with("rpi") { Firmware::RaspberryPi } else { Firmware::Uefi };
    Ok(Board {
        node: node.name.clone(),
        mac: node.mac.clone().context("it has no `mac`")?,
        address: node.address,
        prefix: project.cluster.network.subnet.prefix_len(),
        arch: node.board.arch,
        firmware,
        identity: identity(project, node)?,
    })
}

/// A folder for what boards get, not in memory: an image has gigabytes. dnsmasq gives files of it that all may read.
fn folder() -> anyhow::Result<tempfile::TempDir> {
    use std::os::unix::fs::PermissionsExt;
    let all = std::fs::Permissions::from_mode(0o755);
    let made = tempfile::Builder::new().prefix("bramble-netboot-").permissions(all).tempdir_in("/var/tmp");
    made.context("cannot make a folder for what boards boot")
}

async fn prepare(packed: &Path, folder: &Path, printer: &Printer) -> anyhow::Result<Prepared> {
    let line = printer.lines.step();
    line.begin("unpacking the image");
    let (packed, folder) = (packed.to_owned(), folder.to_owned());
    let work = tokio::task::spawn_blocking(move || Prepared::new(&packed, &folder));
    let prepared = work.await;
    line.end();
    Ok(prepared??)
}

/// How far a board is.
#[derive(Default)]
struct State {
    /// When its firmware last asked.
    asked: Option<Instant>,
    done: bool,
    /// What it last failed at.
    failed: Option<String>,
    since: Option<Instant>,
    seconds: Option<f64>,
}

/// All boards, and who answers them.
struct Shelf<'p> {
    project: &'p Project,
    boards: Vec<Board>,
    states: BTreeMap<NodeName, State>,
    lines: BTreeMap<NodeName, LiveLine>,
    quarters: Quarters,
    bytes: u64,
    tree: Tree,
    dnsmasq: Dnsmasq,
    strangers: BTreeSet<MacAddr>,
    printer: &'p Printer,
}

impl<'p> Shelf<'p> {
    fn new(
        project: &'p Project,
        boards: Vec<Board>,
        bytes: u64,
        tree: Tree,
        dnsmasq: Dnsmasq,
        printer: &'p Printer,
    ) -> Shelf<'p> {
        let width = boards.iter().map(|board| board.node.as_str().len()).max().unwrap_or(0);
        let live = printer.live;
        let line = |board: &Board| {
            let line = printer.lines.bytes(&format!("{:width$}", board.node), Some(bytes));
            line.say("waiting");
            (board.node.clone(), line)
        };
        let lines = if live { boards.iter().map(line).collect() } else { BTreeMap::new() };
        let states = boards.iter().map(|board| (board.node.clone(), State::default())).collect();
        Shelf {
            project,
            boards,
            states,
            lines,
            quarters: Quarters::default(),
            bytes,
            tree,
            dnsmasq,
            strangers: BTreeSet::new(),
            printer,
        }
    }

    async fn serve(&mut self, mut events: UnboundedReceiver<(NodeName, Event)>) -> anyhow::Result<()> {
        while self.states.values().any(|state| !state.done) {
            tokio::select! {
                heard = self.dnsmasq.hear() => self.hear(heard?)?,
                Some((node, event)) = events.recv() => self.take(&node, event)?,
            }
        }
        Ok(())
    }

    fn hear(&mut self, heard: Heard) -> anyhow::Result<()> {
        match heard {
            Heard::Asks(mac) => {
                let known = self.boards.iter().find(|board| board.mac == mac).map(|board| board.node.clone());
                match known {
                    Some(node) => {
                        let Some(state) = self.states.get_mut(&node).filter(|state| !state.done) else { return Ok(()) };
                        // It asks several times each time that it starts.
                        let before = state.asked.replace(Instant::now());
                        if before.is_none_or(|before| before.elapsed() > ONE_START) {
                            self.tell(&node, "boots");
                        }
                    }
                    None if self.strangers.insert(mac.clone()) => self.printer.info(format!(
                        "{mac} asks for something to boot, and is no node of this run: it is not answered"
                    )),
                    None => {}
                }
            }
            Heard::Missed { file, .. } => {
                // `…/MAC/SERIAL/start4.elf`
                let mut above = file.ancestors().skip(1).filter_map(|path| path.file_name()?.to_str());
                if let (Some(serial), Some(folder)) = (above.next(), above.next())
                    && let Ok(mac) = folder.replace('-', ":").parse()
                {
                    self.tree.know_serial(&mac, serial)?;
                }
            }
            Heard::Gave { .. } => {}
            Heard::Trouble(text) => self.printer.info(format!("dnsmasq: {}", printable(&text))),
        }
        Ok(())
    }

    /// Says where a board is: on its line, or in a line of its own where lines do not move.
    fn tell(&self, node: &NodeName, what: &'static str) {
        match self.lines.get(node) {
            Some(line) => line.say(what),
            None => self.printer.info(format!("{node}: {what}")),
        }
    }

    fn take(&mut self, node: &NodeName, event: Event) -> anyhow::Result<()> {
        let Some(state) = self.states.get_mut(node) else { return Ok(()) };
        match event {
            Event::Runs => {
                state.since = Some(Instant::now());
                self.tell(node, "runs");
            }
            Event::Ordered(disks, Order::Write(name)) => {
                let disk = disks.iter().find(|disk| disk.name == name);
                let words = disk.map(|disk| {
                    let held = if disk.empty { "empty" } else { "what was on it is lost" };
                    let model = Some(&disk.model).filter(|model| !model.is_empty());
                    let model = model.map(|model| format!(", {model}")).unwrap_or_default();
                    format!(" ({}, {:.1} GB{model}; {held})", disk.kind, disk.size as f64 / 1e9)
                });
                let text = format!("{node} writes /dev/{name}{}", words.unwrap_or_default());
                self.printer.info(printable(&text));
                if let Some(line) = self.lines.get(node) {
                    line.again();
                    line.say("writing");
                }
            }
            Event::Ordered(_, Order::Refuse(why)) => self.fail(node, &format!("no disk is written: {why}")),
            Event::Said(Word::Written(bytes)) => self.progress(node, ("writing", "written"), bytes),
            Event::Said(Word::Verified(bytes)) => self.progress(node, ("verifying", "verified"), bytes),
            Event::Said(Word::Failed(why)) => self.fail(node, &why),
            Event::Said(Word::Done) => self.done(node)?,
        }
        Ok(())
    }

    fn progress(&self, node: &NodeName, (doing, done): (&str, &'static str), bytes: u64) {
        if let Some(line) = self.lines.get(node) {
            line.say(doing);
            line.at(bytes);
        } else if let Some(said) = self.quarters.reached(node.as_str(), done, bytes, self.bytes) {
            self.printer.info(said);
        }
    }

    fn fail(&mut self, node: &NodeName, why: &str) {
        let why = printable(why);
        if let Some(state) = self.states.get_mut(node)
            && state.failed.as_ref() != Some(&why)
        {
            self.printer.info(format!("{node}: {why}; it tries again"));
            state.failed = Some(why);
        }
    }

    fn done(&mut self, node: &NodeName) -> anyhow::Result<()> {
        let Some(board) = self.boards.iter().find(|board| board.node == *node) else { return Ok(()) };
        let known = HostKeys::open([self.project.known_hosts()?])?;
        let port = self.project.cluster.access.port;
        let host = self.project.node(node.as_str())?.host();
        known.forget(&host, port)?;
        known.pin(&host, port, &board.identity.host_key.public)?;
        self.tree.remove(&board.mac)?;
        if let Some(state) = self.states.get_mut(node) {
            state.done = true;
            state.failed = None;
            state.seconds = state.since.map(|since| since.elapsed().as_secs_f64());
        }
        if let Some(line) = self.lines.get(node) {
            line.end();
        }
        let seconds = self.states[node].seconds.unwrap_or_default();
        let good = self.printer.style(Style::Good, "✓");
        if self.printer.format == Format::Text {
            self.printer.result(format!(
                "{good} {node} has its system: {:.1} GB in {seconds:.0} s, read back and compared; it starts from its disk.",
                self.bytes as f64 / 1e9
            ));
        }
        Ok(())
    }

    fn report(self) -> anyhow::Result<Done> {
        if self.printer.format == Format::Json {
            let one = |(node, state): (&NodeName, &State)| json!({ "node": node, "bytes": self.bytes, "seconds": state.seconds });
            self.printer.json(&json!({ "boards": self.states.iter().map(one).collect::<Vec<_>>() }));
        }
        self.printer.info("Next: run `bramble up`.");
        Ok(Done::Good)
    }
}
