//! `bramble logs`.

use anyhow::bail;
use bramble_engine::Transport;
use bramble_remote::printable;
use bramble_shell::{Commands, Script};

use super::run::A_YEAR;
use crate::drive::visit;
use crate::ui::printer::Printer;
use crate::{Common, Done, cluster_file};

#[derive(clap::Args)]
pub(crate) struct Logs {
    /// The node
    #[arg(value_name = "NODE")]
    node: String,
    /// Only what this unit says, such as kubelet, k3s or containerd; several by several --unit
    #[arg(short, long, value_name = "UNIT")]
    unit: Vec<String>,
    /// How many lines, counted from the end; 100, unless --since says from when
    #[arg(short = 'n', long, value_name = "N")]
    lines: Option<u32>,
    /// What was said since then, as journalctl takes it: "10 min ago", "2026-11-28 07:00"
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Go on with what comes, until Ctrl-C
    #[arg(long)]
    follow: bool,
}

const LINES: u32 = 100;

impl Logs {
    pub(crate) async fn run(self, common: &Common, printer: &Printer) -> anyhow::Result<Done> {
        let project = cluster_file::open(common, printer)?;
        let node = project.node(&self.node)?.clone();
        let mut words = vec!["-q".to_owned(), "--no-pager".to_owned(), "-o".to_owned(), "short-iso".to_owned()];
        let lines = self.lines.or(Some(LINES).filter(|_| self.since.is_none()));
        words.extend(lines.map(|lines| format!("--lines={lines}")));
        words.extend(self.unit.iter().map(|unit| format!("--unit={unit}")));
        words.extend(self.since.iter().map(|since| format!("--since={since}")));
        if self.follow {
            words.push("-f".to_owned());
        }
        let mut commands = Commands::new();
        commands.call("journalctl", &words);
        let script = Script::new("read the journal", &commands).silent_for(A_YEAR).printing(u64::MAX);
        let told = printer.clone();
        let work = move |session: bramble_engine::Session<bramble_engine::SshNetwork>| {
            let (script, told) = (script.clone(), told.clone());
            async move {
                let mut lines = Lines::default();
                let exit = session
                    .transport()
                    .run(&script, &mut |bytes| lines.take(bytes, &mut |line| told.result(line)))
                    .await?;
                lines.end(&mut |line| told.result(line));
                Ok((exit.code, exit.stderr))
            }
        };
        let fleet = visit(&cluster_file::network(&project)?, &[node], printer, work).await?;
        if let Some((node, error)) = fleet.lost.into_iter().next() {
            bail!("{}", bramble_engine::without_address(&node, &error));
        }
        match fleet.nodes.into_iter().next() {
            Some((0, _)) => Ok(Done::Good),
            Some((_, said)) => bail!("{}: {}", self.node, printable(said.trim())),
            None => bail!("{} did not answer", self.node),
        }
    }
}

/// Puts lines together out of the pieces in which they come.
#[derive(Default)]
struct Lines {
    rest: Vec<u8>,
}

impl Lines {
    fn take(&mut self, bytes: &[u8], say: &mut dyn FnMut(String)) {
        self.rest.extend_from_slice(bytes);
        if let Some(end) = self.rest.iter().rposition(|byte| *byte == b'\n') {
            let whole: Vec<u8> = self.rest.drain(..=end).collect();
            say(printable(&String::from_utf8_lossy(&whole)));
        }
    }

    fn end(self, say: &mut dyn FnMut(String)) {
        if !self.rest.is_empty() {
            say(printable(&String::from_utf8_lossy(&self.rest)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_said_whole() {
        let (mut lines, mut said) = (Lines::default(), Vec::new());
        for piece in ["one\ntw", "o\nthree", "\u{1b}[2J"] {
            lines.take(piece.as_bytes(), &mut |line| said.push(line));
        }
        lines.end(&mut |line| said.push(line));
        assert_eq!(said[..2], ["one\n", "two\n"]);
        assert!(said[2].starts_with("three") && !said[2].contains('\u{1b}'), "{said:?}");
    }
}
