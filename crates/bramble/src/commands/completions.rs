//! `bramble completions`, what shells ask when Tab is pressed, and `bramble man`.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use anyhow::Context;
use bramble_spec::Cluster;
use clap::ValueEnum;
use clap_complete::CompleteEnv;
use clap_complete::engine::{ArgValueCompleter, CompletionCandidate};
use clap_complete::env::Shells;

use crate::Done;
use crate::arguments;
use crate::ui::printer::Printer;

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Shell {
    Bash,
    Elvish,
    Fish,
    Powershell,
    Zsh,
}

#[derive(clap::Args)]
#[command(after_help = "For bash:  echo 'source <(bramble completions bash)' >>~/.bashrc\n\
                        For zsh:   echo 'source <(bramble completions zsh)' >>~/.zshrc\n\
                        For fish:  bramble completions fish >~/.config/fish/completions/bramble.fish")]
pub(crate) struct Completions {
    /// The shell
    shell: Shell,
}

/// The variable by which a shell asks.
const ASKS: &str = "COMPLETE";

impl Completions {
    pub(crate) fn run(self, printer: &Printer) -> anyhow::Result<Done> {
        let name = self.shell.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
        let shells = Shells::builtins();
        let shell = shells.completer(&name).with_context(|| format!("nothing is known of {name}"))?;
        let mut text = Vec::new();
        shell.write_registration(ASKS, "bramble", "bramble", "bramble", &mut text)?;
        printer.result(String::from_utf8_lossy(&text));
        Ok(Done::Good)
    }
}

#[derive(clap::Args)]
pub(crate) struct Man {
    /// The folder; the pages of a user are in ~/.local/share/man/man1
    #[arg(value_name = "FOLDER")]
    folder: PathBuf,
}

impl Man {
    pub(crate) fn run(self) -> anyhow::Result<Done> {
        let to = self.folder.display();
        std::fs::create_dir_all(&self.folder).with_context(|| format!("cannot make {to}"))?;
        clap_mangen::generate_to(arguments::command(), &self.folder)
            .with_context(|| format!("cannot write to {to}"))?;
        Ok(Done::Good)
    }
}

/// Answers a shell that asks what may come next, and ends this process; else does nothing.
pub(crate) fn answer() {
    CompleteEnv::with_factory(|| completing(arguments::command())).var(ASKS).complete();
}

/// Lets nodes and clusters be completed wherever an argument stands for one.
fn completing(command: clap::Command) -> clap::Command {
    let completer = |argument: &clap::Arg| {
        let names = argument.get_value_names().unwrap_or_default();
        match argument.get_id().as_str() {
            "cluster" => Some(ArgValueCompleter::new(clusters)),
            _ if names.iter().any(|name| name.as_str() == "NODE") => Some(ArgValueCompleter::new(nodes)),
            _ => None,
        }
    };
    let command = command.mut_args(|argument| match completer(&argument) {
        Some(completer) => argument.add(completer),
        None => argument,
    });
    command.mut_subcommands(completing)
}

/// The clusters of the file that is meant where a command names none; none if it cannot be read.
fn known() -> Vec<Cluster> {
    let text = arguments::meant().and_then(|path| std::fs::read_to_string(path).ok()).unwrap_or_default();
    bramble_spec::load(Path::new("bramble.yaml"), &text).clusters
}

fn candidates(names: impl Iterator<Item = String>, begun: &OsStr) -> Vec<CompletionCandidate> {
    // Of a list only the last name is completed.
    let begun = begun.to_string_lossy();
    let (before, last) = begun.rsplit_once(',').map_or(("", begun.as_ref()), |(before, last)| (before, last));
    let comma = if before.is_empty() { "" } else { "," };
    let fits = names.filter(|name| name.starts_with(last));
    fits.map(|name| CompletionCandidate::new(format!("{before}{comma}{name}"))).collect()
}

fn nodes(begun: &OsStr) -> Vec<CompletionCandidate> {
    let all = known();
    candidates(all.iter().flat_map(|cluster| &cluster.nodes).map(|node| node.name.to_string()), begun)
}

fn clusters(begun: &OsStr) -> Vec<CompletionCandidate> {
    candidates(known().into_iter().map(|cluster| cluster.name.to_string()), begun)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_completed_also_at_the_end_of_a_list() {
        let all = ["kube1", "kube2", "gate"];
        let found = |begun: &str| {
            let found = candidates(all.iter().map(ToString::to_string), OsStr::new(begun));
            found.iter().map(|one| one.get_value().to_string_lossy().into_owned()).collect::<Vec<_>>()
        };
        assert_eq!(found("kube"), ["kube1", "kube2"]);
        assert_eq!(found("gate,k"), ["gate,kube1", "gate,kube2"]);
        assert_eq!(found("x"), [""; 0]);
        // Every argument that stands for a node is found by its name.
        let takes_nodes = |command: &clap::Command| {
            command
                .get_arguments()
                .any(|one| one.get_value_names().unwrap_or_default().iter().any(|name| name.as_str() == "NODE"))
        };
        let command = arguments::command();
        let taking: Vec<&str> =
            command.get_subcommands().filter(|one| takes_nodes(one)).map(clap::Command::get_name).collect();
        for name in ["run", "ssh", "logs", "why", "reboot", "soak", "netboot"] {
            assert!(taking.contains(&name), "{name}: {taking:?}");
        }
    }
}
