//! `bramble flash`.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::IsTerminal;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use bramble_image::{Disk, Identity, Progress, Target, WriteError, board, disks, write};
use bramble_remote::HostKeys;
use bramble_spec::Node;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use rustix::fs::OFlags;
use rustix::io::Errno;
use serde_json::json;

use crate::commands::image::{identity, source, threads};
use crate::output::{Format, Printer, Style};
use crate::project::Project;
use crate::{Common, Done};

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
}

/// How the work on a disk ended.
struct Ended {
    node: String,
    disk: String,
    result: Result<u64, WriteError>,
    seconds: f64,
}

impl Flash {
    pub(crate) fn run(self, common: &Common, printer: &Printer) -> anyhow::Result<Done> {
        let project = Project::open(common, printer)?;
        let nodes = self.nodes(&project)?;
        let packed = source(&project, printer)?;
        let needed = fs::metadata(&packed).with_context(|| format!("cannot read {}", packed.display()))?.len();
        let mut ended = Vec::new();
        if self.disks.is_empty() {
            let mut done = Vec::new();
            let mut rest = nodes.as_slice();
            while !rest.is_empty() {
                let found = wait(rest, needed, &done, printer)?;
                let (now, later) = rest.split_at(found.len().min(rest.len()));
                let pairs: Vec<Pair<'_>> = now.iter().zip(found).map(|(node, disk)| Pair { node, disk }).collect();
                done.extend(pairs.iter().map(|pair| (pair.disk.name.clone(), pair.disk.medium)));
                self.ask(&pairs, printer)?;
                ended.extend(batch(&project, &packed, pairs, printer)?);
                rest = later;
            }
        } else {
            let pairs = self.named(&nodes, needed)?;
            self.ask(&pairs, printer)?;
            ended = batch(&project, &packed, pairs, printer)?;
        }
        report(&ended, printer)
    }

    fn nodes<'a>(&self, project: &'a Project) -> anyhow::Result<Vec<&'a Node>> {
        if self.nodes.is_empty() {
            return Ok(project.cluster.nodes.iter().collect());
        }
        self.nodes.iter().map(|name| project.node(name)).collect()
    }

    /// The disks that were named, each with its node.
    fn named<'a>(&self, nodes: &[&'a Node], needed: u64) -> anyhow::Result<Vec<Pair<'a>>> {
        let mut named: Vec<(&Path, u8)> = Vec::new();
        for path in &self.disks {
            match named.iter_mut().find(|(known, _)| known == path) {
                Some((_, times)) => *times = times.saturating_add(1),
                None => named.push((path, 1)),
            }
        }
        if named.len() != nodes.len() {
            bail!("{} disks are named for {} nodes: name one for each", named.len(), nodes.len());
        }
        let all = here()?;
        let mut against = Vec::new();
        let mut pairs = Vec::new();
        for ((path, times), node) in named.into_iter().zip(nodes) {
            // Links such as those below /dev/disk/by-id are as good.
            let real = fs::canonicalize(path).with_context(|| format!("there is no disk {}", path.display()))?;
            let name = real.file_name().unwrap_or_default().to_string_lossy();
            let disk = all.iter().find(|disk| disk.name == name).ok_or_else(|| {
                let known: Vec<String> = all.iter().map(|disk| format!("/dev/{}", disk.name)).collect();
                anyhow!("{} is no disk; there are: {}", path.display(), known.join(", "))
            })?;
            for refusal in disk.refusals(needed, times) {
                let meant = if refusal.can_be_meant() { "; name it twice if it is meant" } else { "" };
                against.push(format!("\n  /dev/{name} ({}): {refusal}{meant}", words(disk)));
            }
            pairs.push(Pair { node, disk: disk.clone() });
        }
        if !against.is_empty() {
            bail!("nothing was written, because of:{}", against.concat());
        }
        Ok(pairs)
    }

    fn ask(&self, pairs: &[Pair<'_>], printer: &Printer) -> anyhow::Result<()> {
        for pair in pairs {
            printer.info(format!(
                "/dev/{} ({}) becomes the disk of {}",
                pair.disk.name,
                words(&pair.disk),
                pair.node.name
            ));
        }
        if self.yes {
            return Ok(());
        }
        if !std::io::stdin().is_terminal() {
            bail!("all that is on these disks would be lost: say --yes if that is meant");
        }
        if !printer.confirm("All that is on them is lost. Write them?")? {
            bail!("nothing was written");
        }
        Ok(())
    }
}

fn here() -> anyhow::Result<Vec<Disk>> {
    disks(Path::new("/")).context("cannot list this machine's disks")
}

fn words(disk: &Disk) -> String {
    format!("{:.1} GB{}{}", disk.size as f64 / 1e9, if disk.model.is_empty() { "" } else { ", " }, disk.model)
}

/// Waits for disks that can be taken out and were not written yet, and tells them: as many as there are nodes, or fewer.
fn wait(nodes: &[&Node], needed: u64, done: &[(String, u64)], printer: &Printer) -> anyhow::Result<Vec<Disk>> {
    let mut said = false;
    loop {
        let mut found = here()?;
        found.retain(|disk| disk.refusals(needed, 0).is_empty() && !done.contains(&(disk.name.clone(), disk.medium)));
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

/// Writes disks at once, and trusts the keys of those that hold the image.
fn batch(project: &Project, packed: &Path, pairs: Vec<Pair<'_>>, printer: &Printer) -> anyhow::Result<Vec<Ended>> {
    let identities: Vec<Identity> = pairs.iter().map(|pair| identity(project, pair.node)).collect::<Result<_, _>>()?;
    let mut targets = Vec::new();
    for (pair, identity) in pairs.iter().zip(&identities) {
        let customise =
            move |written: &mut bramble_image::Written<'_>| board(written, identity).map(|(_, changes)| changes);
        targets.push(Target { disk: open(&pair.disk)?, customise: Box::new(customise) });
    }
    let image = bramble_image::decompress(File::open(packed)?, threads())
        .with_context(|| format!("cannot unpack {}", packed.display()))?;
    let bars = Bars::new(&pairs, printer);
    let started = Instant::now();
    let results = write(image, targets, &|number, progress| bars.show(number, progress));
    let seconds = started.elapsed().as_secs_f64();
    bars.end();
    let known = HostKeys::open([project.known_hosts()?]);
    let mut ended = Vec::new();
    for ((pair, identity), result) in pairs.iter().zip(&identities).zip(results) {
        if result.is_ok() {
            let (host, port) = (pair.node.address.to_string(), project.cluster.access.port);
            known.forget(&host, port)?;
            known.pin(&host, port, &identity.host_key.public)?;
        }
        ended.push(Ended { node: pair.node.name.to_string(), disk: pair.disk.name.clone(), result, seconds });
    }
    Ok(ended)
}

/// Opens a disk for nobody else: the kernel refuses one that is in use, whoever uses it.
fn open(disk: &Disk) -> anyhow::Result<File> {
    let path = format!("/dev/{}", disk.name);
    let with =
        |flags: OFlags| fs::OpenOptions::new().read(true).write(true).custom_flags(flags.bits() as i32).open(&path);
    let opened = with(OFlags::EXCL | OFlags::DIRECT).or_else(|error| {
        // Not everything that is shown as a disk can do without the cache.
        if error.raw_os_error() == Some(Errno::INVAL.raw_os_error()) { with(OFlags::EXCL) } else { Err(error) }
    });
    opened.map_err(|error| match error.raw_os_error() {
        Some(code) if code == Errno::BUSY.raw_os_error() => {
            anyhow!("{path} is in use by another program: close it, or take the disk out and put it in again")
        }
        Some(code) if code == Errno::ACCESS.raw_os_error() || code == Errno::PERM.raw_os_error() => {
            anyhow!("{path} may only be written by root: run this with sudo")
        }
        _ => anyhow::Error::from(error).context(format!("cannot open {path}")),
    })
}

/// A line for each disk.
struct Bars {
    each: Vec<ProgressBar>,
    /// Where lines do not move: how many quarters were told.
    quarters: Mutex<BTreeMap<usize, u64>>,
    names: Vec<String>,
    printer: Printer,
}

impl Bars {
    fn new(pairs: &[Pair<'_>], printer: &Printer) -> Bars {
        let live = printer.format == Format::Text && !printer.quiet && std::io::stderr().is_terminal();
        let multi = MultiProgress::new();
        let style = ProgressStyle::with_template("{prefix}  {msg:<12} {bytes:>10} {bytes_per_sec:>12} {elapsed:>5}")
            .unwrap_or_else(|_| ProgressStyle::default_spinner());
        let names: Vec<String> =
            pairs.iter().map(|pair| format!("{} (/dev/{})", pair.node.name, pair.disk.name)).collect();
        let width = names.iter().map(String::len).max().unwrap_or(0);
        let bar = |name: &String| {
            let bar = multi.add(ProgressBar::no_length().with_style(style.clone()));
            bar.set_prefix(format!("{name:width$}"));
            bar
        };
        let each = if live { names.iter().map(bar).collect() } else { Vec::new() };
        Bars { each, quarters: Mutex::default(), names, printer: printer.clone() }
    }

    fn show(&self, number: usize, progress: Progress) {
        if let Some(bar) = self.each.get(number) {
            match progress {
                Progress::Written(bytes) => {
                    bar.set_message("writing");
                    bar.set_position(bytes);
                }
                Progress::Customising => bar.set_message("customising"),
                Progress::Verified(bytes, _) => {
                    bar.set_message("verifying");
                    bar.set_position(bytes);
                }
            }
            return;
        }
        let said = match progress {
            Progress::Customising => "written, now customised and verified".to_owned(),
            Progress::Verified(bytes, of) => {
                let quarter = 4 * bytes / of.max(1);
                let mut quarters = self.quarters.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                if quarters.insert(number, quarter) == Some(quarter) || quarter == 0 {
                    return;
                }
                format!("{} % verified", 25 * quarter)
            }
            Progress::Written(_) => return,
        };
        self.printer.info(format!("{}: {said}", self.names[number]));
    }

    fn end(&self) {
        self.each.iter().for_each(ProgressBar::finish_and_clear);
    }
}

fn report(ended: &[Ended], printer: &Printer) -> anyhow::Result<Done> {
    let failed = ended.iter().filter(|ended| ended.result.is_err()).count();
    if printer.format == Format::Json {
        let list: Vec<_> = ended
            .iter()
            .map(|ended| {
                let error = ended.result.as_ref().err().map(ToString::to_string);
                json!({ "node": ended.node, "disk": format!("/dev/{}", ended.disk), "bytes": ended.result.as_ref().ok(), "seconds": ended.seconds, "error": error })
            })
            .collect();
        printer.json(&json!({ "disks": list }));
    }
    for Ended { node, disk, result, seconds } in ended {
        if let (Ok(bytes), Format::Text) = (result, printer.format) {
            printer.result(format!(
                "{} /dev/{disk} is the disk of {node}: {:.1} GB in {seconds:.0} s ({:.0} MB/s), read back and compared.",
                printer.style(Style::Good, "✓"),
                *bytes as f64 / 1e9,
                *bytes as f64 / 1e6 / seconds
            ));
        }
    }
    if failed > 0 {
        let mut text = String::new();
        for Ended { node, disk, result, .. } in ended {
            if let Err(error) = result {
                text.push_str(&format!("\n  /dev/{disk}, for {node}: {error}"));
                if let Some(cause) = std::error::Error::source(error) {
                    text.push_str(&format!(": {cause}"));
                }
            }
        }
        bail!("{failed} of {} disks do not hold the image, and will not boot:{text}", ended.len());
    }
    printer.info("Next: put the disks into their boards, switch them on, and run `bramble up`.");
    Ok(Done::Good)
}
