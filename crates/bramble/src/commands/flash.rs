//! `bramble flash`.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use bramble_fetch::refuse_unfit;
use bramble_image::{Disk, Identity, Machine, Progress, Target, board, write};
use bramble_remote::{HostKeys, printable};
use bramble_spec::Node;
use serde_json::json;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::commands::image::identity;
use crate::ui::live::LiveLine;
use crate::ui::printer::{Format, Printer, Style};
use crate::ui::quarters::Quarters;
use crate::{Common, Done, cluster_file};
use bramble_engine::Project;

/// Write the disks of boards.
#[derive(clap::Args)]
pub(crate) struct Flash {
    /// The nodes whose disks are written, in this order; all if none is named
    #[arg(value_name = "NODE")]
    nodes: Vec<String>,
    /// A disk, such as /dev/sda: one for each node, in their order. One that is built in must be named twice. Without this,
    /// those that can be taken out, and the ones that are put in after them
    #[arg(long = "disk", value_name = "DISK")]
    disks: Vec<PathBuf>,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

/// How a disk and the node that it is for came together.
struct Pair<'a> {
    node: &'a Node,
    disk: Disk,
    /// The node of the device that the disk was found by.
    device: PathBuf,
    /// How often it was named.
    named: u8,
}

/// How the work on a disk ended.
struct Ended {
    node: String,
    disk: String,
    result: anyhow::Result<u64>,
    /// Until all was written, and until all was read back.
    written: Option<f64>,
    seconds: f64,
}

impl Flash {
    pub(crate) fn run(self, common: &Common, printer: &Printer) -> anyhow::Result<Done> {
        let project = cluster_file::open(common, printer)?;
        let nodes = self.nodes(&project)?;
        let packed = cluster_file::os_image(&project, printer)?;
        let size = size(&packed).with_context(|| format!("cannot read {}", packed.display()))?;
        // At least as much as what is packed.
        let needed = size.map_or_else(|| fs::metadata(&packed).map(|file| file.len()), Ok)?;
        let signals = Signals::new()?;
        let mut ended = Vec::new();
        if self.disks.is_empty() {
            self.may_ask()?;
            let mut seen = Seen::default();
            let mut rest = nodes;
            while !rest.is_empty() && !signals.stop.load(Ordering::Relaxed) {
                let found = wait(&rest, needed, &mut seen, printer)?;
                let later = rest.split_off(found.len().min(rest.len()));
                let pairs: Vec<Pair<'_>> = rest
                    .iter()
                    .zip(found)
                    .map(|(node, disk)| Pair { node, device: disk.node(), disk, named: 0 })
                    .collect();
                seen.done.extend(pairs.iter().map(|pair| (pair.disk.name.clone(), pair.disk.medium)));
                self.ask(&pairs, printer)?;
                let now = batch(&project, &packed, &pairs, size, &signals, false, printer)?;
                show(&now, printer);
                // Where somebody is there to put in another disk, a node whose disk failed is asked for again.
                let failed = |node: &&Node| now.iter().any(|one| one.result.is_err() && one.node == node.name.as_str());
                rest.retain(|node| std::io::stdin().is_terminal() && failed(node));
                rest.extend(later);
                ended.retain(|before: &Ended| !now.iter().any(|one| one.node == before.node));
                ended.extend(now);
            }
        } else {
            let pairs = self.named(&nodes, needed)?;
            self.ask(&pairs, printer)?;
            ended = batch(&project, &packed, &pairs, size, &signals, true, printer)?;
            show(&ended, printer);
        }
        report(&ended, printer)
    }

    fn nodes<'a>(&self, project: &'a Project) -> anyhow::Result<Vec<&'a Node>> {
        Ok(project.nodes(&self.nodes)?)
    }

    /// The disks that were named, each with its node.
    fn named<'a>(&self, nodes: &[&'a Node], needed: u64) -> anyhow::Result<Vec<Pair<'a>>> {
        let machine = here();
        let mut named: Vec<(PathBuf, Disk, u8)> = Vec::new();
        for path in &self.disks {
            let (device, disk) = machine.named(path).map_err(|error| {
                let known = machine.disks().unwrap_or_default();
                let known: Vec<String> = known.iter().map(|disk| disk.node().display().to_string()).collect();
                anyhow::Error::from(error)
                    .context(format!("nothing was written; the disks here are: {}", known.join(", ")))
            })?;
            match named.iter_mut().find(|(_, known, _)| known.number == disk.number) {
                Some((.., times)) => *times = times.saturating_add(1),
                None => named.push((device, disk, 1)),
            }
        }
        if named.len() != nodes.len() {
            bail!("{} disks are named for {} nodes: name one for each", named.len(), nodes.len());
        }
        let mut against = Vec::new();
        let mut pairs = Vec::new();
        for ((device, mut disk, times), node) in named.into_iter().zip(nodes) {
            machine.look_inside(&mut disk, &device);
            for refusal in disk.refusals(needed, times) {
                let meant = if refusal.can_be_meant() { "; repeat --disk to confirm" } else { "" };
                against.push(format!("\n  {} ({}): {refusal}{meant}", device.display(), words(&disk)));
            }
            pairs.push(Pair { node, disk, device, named: times });
        }
        if !against.is_empty() {
            bail!("nothing was written, because of:{}", against.concat());
        }
        Ok(pairs)
    }

    fn may_ask(&self) -> anyhow::Result<()> {
        if !self.yes && !std::io::stdin().is_terminal() {
            bail!("all that is on these disks would be lost: pass --yes to confirm");
        }
        Ok(())
    }

    fn ask(&self, pairs: &[Pair<'_>], printer: &Printer) -> anyhow::Result<()> {
        for pair in pairs {
            printer.info(format!(
                "{} ({}) becomes the disk of {}",
                pair.device.display(),
                words(&pair.disk),
                pair.node.name
            ));
        }
        if self.yes {
            return Ok(());
        }
        self.may_ask()?;
        if !printer.confirm("All that is on them is lost. Write them?")? {
            bail!("nothing was written");
        }
        Ok(())
    }
}

/// How many bytes an image has, unpacked, if that can be told.
fn size(packed: &Path) -> std::io::Result<Option<u64>> {
    bramble_image::unpacked_size(&mut File::open(packed)?)
}

fn here() -> Machine {
    Machine::new(Path::new(ROOT))
}

const ROOT: &str = "/";

fn words(disk: &Disk) -> String {
    let mut words = vec![format!("{:.1} GB", disk.size as f64 / 1e9)];
    words.extend(Some(disk.model.clone()).filter(|model| !model.is_empty()));
    words.extend(Some(format!("serial number {}", disk.serial)).filter(|_| !disk.serial.is_empty()));
    words.extend(disk.file.as_ref().map(|file| format!("the file {file}")));
    let mut contents: Vec<String> = disk.contents.iter().map(ToString::to_string).collect();
    contents.dedup();
    words.extend(Some(format!("with {}", contents.join(" and "))).filter(|_| !contents.is_empty()));
    // What is written on disks may be anything.
    printable(&words.join(", "))
}

/// What comes of Ctrl-C and its like: while disks are written, the first one ends that in order and the second one at once;
/// at any other time one is enough. No disk half boots in any case.
struct Signals {
    stop: Arc<AtomicBool>,
    idle: Arc<AtomicBool>,
}

impl Signals {
    fn new() -> anyhow::Result<Signals> {
        let signals = Signals { stop: Arc::default(), idle: Arc::new(AtomicBool::new(true)) };
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            for at_once in [&signals.idle, &signals.stop] {
                signal_hook::flag::register_conditional_shutdown(signal, 130, at_once.clone())?;
            }
            signal_hook::flag::register(signal, signals.stop.clone())?;
        }
        Ok(signals)
    }
}

/// Disks that were there while this waited, by name and medium.
#[derive(Default)]
struct Seen {
    /// Those that were written.
    done: Vec<(String, u64)>,
    /// Those of which was said why they are left alone.
    told: Vec<(String, u64)>,
}

/// Waits for disks that can be taken out and were not written yet, and tells them: as many as there are nodes, or fewer.
fn wait(nodes: &[&Node], needed: u64, seen: &mut Seen, printer: &Printer) -> anyhow::Result<Vec<Disk>> {
    let mut said = false;
    loop {
        let machine = here();
        let mut found = machine.disks().context("cannot list this machine's disks")?;
        // Kernels before 5.15 do not number media: a reader that was empty has another one now.
        let there = |(name, medium): &(String, u64)| {
            *medium != 0 || found.iter().any(|disk| disk.name == *name && disk.size > 0)
        };
        seen.done.retain(there);
        seen.told.retain(there);
        found.retain_mut(|disk| {
            let key = (disk.name.clone(), disk.medium);
            if seen.done.contains(&key) {
                return false;
            }
            let mut refusals = disk.refusals(needed, 0);
            if refusals.is_empty() {
                machine.look_inside(disk, &disk.node());
                refusals = disk.refusals(needed, 0);
            }
            if !refusals.is_empty() && disk.removable && disk.size > 0 && !seen.told.contains(&key) {
                let why: Vec<String> = refusals.iter().map(ToString::to_string).collect();
                printer.info(format!("/dev/{} ({}) is left alone: {}", disk.name, words(disk), why.join("; ")));
                seen.told.push(key);
            }
            refusals.is_empty()
        });
        if !found.is_empty() {
            if found.len() > nodes.len() {
                let names: Vec<String> =
                    found.iter().map(|disk| format!("/dev/{} ({})", disk.name, words(disk))).collect();
                bail!("there are more disks than nodes: say which with --disk: {}", names.join(", "));
            }
            return Ok(found);
        }
        if !said {
            let names: Vec<&str> = nodes.iter().map(|node| node.name.as_str()).collect();
            printer.info(format!("put in the disk of {}", names.join(", or those of ")));
            said = true;
        }
        std::thread::sleep(Duration::from_millis(500));
    }
}

/// Writes disks at once, and trusts the keys of those that hold the image. `all`: nothing is written if one cannot be opened.
fn batch(
    project: &Project,
    packed: &Path,
    pairs: &[Pair<'_>],
    size: Option<u64>,
    signals: &Signals,
    all: bool,
    printer: &Printer,
) -> anyhow::Result<Vec<Ended>> {
    let identities: Vec<Identity> = pairs.iter().map(|pair| identity(project, pair.node)).collect::<Result<_, _>>()?;
    refuse_unfit(packed, pairs.iter().map(|pair| pair.node).zip(&identities))?;
    let mut results: Vec<anyhow::Result<u64>> = Vec::new();
    let mut numbers = Vec::new();
    let mut targets = Vec::new();
    for (number, (pair, identity)) in pairs.iter().zip(&identities).enumerate() {
        let customise =
            move |written: &mut bramble_image::Written<'_>| board(written, identity).map(|(_, changes)| changes);
        match pair.disk.hold(Path::new(ROOT), &pair.device, size.unwrap_or(0), pair.named) {
            Ok(disk) => {
                targets.push(Target { disk, customise: Box::new(customise) });
                numbers.push(number);
                results.push(Ok(0));
            }
            Err(error) if all => return Err(anyhow::Error::from(error).context("nothing was written")),
            Err(error) => results.push(Err(error.into())),
        }
    }
    let image = bramble_image::decompress(File::open(packed)?)
        .with_context(|| format!("cannot unpack {}", packed.display()))?;
    let bars = Bars::new(pairs, size, printer);
    let started = Instant::now();
    let written: Mutex<BTreeMap<usize, f64>> = Mutex::default();
    signals.idle.store(false, Ordering::Relaxed);
    let ends = write(image, targets, &signals.stop, &|target, progress| {
        if progress == Progress::Customising {
            let mut written = written.lock().unwrap_or_else(PoisonError::into_inner);
            written.insert(numbers[target], started.elapsed().as_secs_f64());
        }
        bars.show(numbers[target], progress);
    });
    signals.idle.store(true, Ordering::Relaxed);
    for (number, end) in numbers.iter().zip(ends) {
        results[*number] = end.map_err(anyhow::Error::from);
    }
    let written = written.into_inner().unwrap_or_else(PoisonError::into_inner);
    let seconds = started.elapsed().as_secs_f64();
    bars.end();
    let known = HostKeys::open([project.known_hosts()?])?;
    let mut ended = Vec::new();
    for (number, ((pair, identity), result)) in pairs.iter().zip(&identities).zip(results).enumerate() {
        if result.is_ok() {
            let (host, port) = (pair.node.host(), project.cluster.access.port);
            known.forget(&host, port)?;
            known.pin(&host, port, &identity.host_key.public)?;
        }
        let (node, disk) = (pair.node.name.to_string(), pair.disk.name.clone());
        ended.push(Ended { node, disk, result, written: written.get(&number).copied(), seconds });
    }
    Ok(ended)
}

/// A line for each disk.
struct Bars {
    each: Vec<LiveLine>,
    /// Of the image, if it is known.
    size: Option<u64>,
    quarters: Quarters,
    names: Vec<String>,
    printer: Printer,
}

impl Bars {
    fn new(pairs: &[Pair<'_>], size: Option<u64>, printer: &Printer) -> Bars {
        let live = printer.format == Format::Text && !printer.quiet && std::io::stderr().is_terminal();
        let names: Vec<String> =
            pairs.iter().map(|pair| format!("{} (/dev/{})", pair.node.name, pair.disk.name)).collect();
        let width = names.iter().map(String::len).max().unwrap_or(0);
        let bar = |name: &String| {
            let line = printer.lines.bytes(&format!("{name:width$}"), size);
            line.say("writing");
            line
        };
        let each = if live { names.iter().map(bar).collect() } else { Vec::new() };
        Bars { each, size, quarters: Quarters::default(), names, printer: printer.clone() }
    }

    fn show(&self, number: usize, progress: Progress) {
        if let Some(line) = self.each.get(number) {
            match progress {
                Progress::Written(bytes) => line.at(bytes),
                Progress::Ending => {}
                Progress::Customising => {
                    line.say("customising");
                    line.again();
                }
                Progress::Verified(bytes, of) => {
                    line.say("verifying");
                    line.of(of);
                    line.at(bytes);
                }
            }
            return;
        }
        let (word, bytes, of) = match progress {
            Progress::Customising | Progress::Ending => return,
            Progress::Written(bytes) => ("written", bytes, self.size),
            Progress::Verified(bytes, of) => ("verified", bytes, Some(of)),
        };
        if let Some(said) = of.and_then(|of| self.quarters.reached(&self.names[number], word, bytes, of)) {
            self.printer.info(said);
        }
    }

    fn end(&self) {
        self.each.iter().for_each(LiveLine::end);
    }
}

/// How the work on some disks ended, as soon as it did.
fn show(ended: &[Ended], printer: &Printer) {
    if printer.format == Format::Json {
        return;
    }
    for Ended { node, disk, result, seconds, .. } in ended {
        printer.result(match result {
            Ok(bytes) => format!(
                "{} /dev/{disk} is the disk of {node}: {:.1} GB in {seconds:.0} s ({:.0} MB/s), read back and compared.",
                printer.style(Style::Good, "✓"),
                *bytes as f64 / 1e9,
                *bytes as f64 / 1e6 / seconds
            ),
            Err(error) => format!("{} /dev/{disk} is not the disk of {node}: {error:#}", printer.style(Style::Bad, "✗")),
        });
    }
}

fn report(ended: &[Ended], printer: &Printer) -> anyhow::Result<Done> {
    if printer.format == Format::Json {
        let list: Vec<_> = ended
            .iter()
            .map(|ended| {
                let error = ended.result.as_ref().err().map(|error| format!("{error:#}"));
                json!({ "node": ended.node, "disk": format!("/dev/{}", ended.disk), "bytes": ended.result.as_ref().ok(), "writtenSeconds": ended.written, "seconds": ended.seconds, "error": error })
            })
            .collect();
        printer.json(&json!({ "disks": list }));
    }
    let failed: Vec<String> = ended
        .iter()
        .filter_map(|one| {
            let error = one.result.as_ref().err()?;
            Some(format!("\n  /dev/{}, for {}: {error:#}", one.disk, one.node))
        })
        .collect();
    if !failed.is_empty() {
        let text = failed.concat();
        bail!("{} of {} disks do not hold the image, and will not boot:{text}", failed.len(), ended.len());
    }
    printer.info("Next: put the disks into their boards, switch them on, and run `bramble up`.");
    Ok(Done::Good)
}
