//! The options that say which cluster a command is about: before the command or after it, where they mean something.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use clap::error::ErrorKind;
use clap::{ArgMatches, Args, CommandFactory, FromArgMatches};

use crate::{Arguments, sudo_user};

/// Which cluster a command is about.
#[derive(Debug, Clone)]
pub(crate) struct Common {
    pub(crate) file: PathBuf,
    pub(crate) cluster: Option<String>,
    pub(crate) bundle: Option<PathBuf>,
}

#[derive(Args, Debug, Default)]
struct Which {
    /// The cluster file; without it $BRAMBLE_FILE, or bramble.yaml here or in the nearest folder above
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// The cluster, if the file holds several
    #[arg(short, long, value_name = "NAME")]
    cluster: Option<String>,
    /// Take programs and images from this bundle, and nothing from the network
    #[arg(long, value_name = "FOLDER")]
    bundle: Option<PathBuf>,
}

/// What each command makes of them; a command that is not here makes nothing of any.
const MEANING: [(&str, &[&str]); 34] = [
    ("init", &["file"]),
    ("parts", &["file", "cluster"]),
    ("design", &["file", "cluster"]),
    ("plan", &["file", "cluster", "bundle"]),
    ("up", &["file", "cluster", "bundle"]),
    ("upgrade", &["file", "cluster", "bundle"]),
    ("reboot", &["file", "cluster", "bundle"]),
    ("off", &["file", "cluster", "bundle"]),
    ("on", &["file", "cluster", "bundle"]),
    ("power", &["file", "cluster"]),
    ("adopt", &["file", "cluster"]),
    ("out", &["file", "cluster", "bundle"]),
    ("status", &["file", "cluster", "bundle"]),
    ("watch", &["file", "cluster"]),
    ("why", &["file", "cluster"]),
    ("wear", &["file", "cluster"]),
    ("soak", &["file", "cluster", "bundle"]),
    ("report", &["file", "cluster"]),
    ("addons", &["file", "cluster", "bundle"]),
    ("run", &["file", "cluster"]),
    ("ssh", &["file", "cluster"]),
    ("logs", &["file", "cluster"]),
    ("kubeconfig", &["file", "cluster"]),
    ("backup", &["file", "cluster", "bundle"]),
    ("restore", &["file", "cluster", "bundle"]),
    ("rotate", &["file", "cluster", "bundle"]),
    ("bundle", &["file", "cluster"]),
    ("flash", &["file", "cluster"]),
    ("netboot", &["file", "cluster"]),
    ("discover", &["file", "cluster"]),
    ("boot-order", &["file", "cluster"]),
    ("move-root", &["file", "cluster"]),
    ("image", &["file", "cluster", "bundle"]),
    ("down", &["file", "cluster", "bundle"]),
];

/// Parses the arguments of this process; ends it with what is wrong with them, or with the help that they ask for.
pub(crate) fn parse() -> (Arguments, Common) {
    let mut all = command();
    let matches = all.get_matches_mut();
    parsed(&matches).unwrap_or_else(|error| error.format(&mut all).exit())
}

/// All commands, with the options that mean something to each.
pub(crate) fn command() -> clap::Command {
    let mut all = Which::augment_args(Arguments::command());
    for (name, meant) in MEANING {
        all = all.mut_subcommand(name, |command| with(command, meant));
    }
    all
}

/// Adds the options with these names to a command and to all below it.
fn with(command: clap::Command, meant: &'static [&'static str]) -> clap::Command {
    let options = Which::augment_args(clap::Command::new(""));
    let options = options.get_arguments().filter(|option| meant.contains(&option.get_id().as_str())).cloned();
    command.args(options.collect::<Vec<_>>()).mut_subcommands(|below| with(below, meant))
}

fn parsed(matches: &ArgMatches) -> Result<(Arguments, Common), clap::Error> {
    let arguments = Arguments::from_arg_matches(matches)?;
    let mut which = Which::from_arg_matches(matches)?;
    if let Some((name, below)) = matches.subcommand() {
        let meant = MEANING.iter().find(|(known, _)| *known == name).map_or(&[][..], |(_, meant)| meant);
        let said =
            [("file", which.file.is_some()), ("cluster", which.cluster.is_some()), ("bundle", which.bundle.is_some())];
        if let Some((option, _)) = said.iter().find(|(option, said)| *said && !meant.contains(option)) {
            let text = format!("--{option} means nothing to `bramble {name}`");
            return Err(clap::Error::raw(ErrorKind::ArgumentConflict, text));
        }
        which.take(Some(below));
    }
    // A first one is written here.
    let writes = matches.subcommand_name() == Some("init");
    let known = if writes { named() } else { meant() };
    let file = which.file.or(known).unwrap_or_else(|| FILE.into());
    Ok((arguments, Common { file, cluster: which.cluster, bundle: which.bundle }))
}

/// What a cluster file is called.
const FILE: &str = "bramble.yaml";

/// The file that the environment names.
fn named() -> Option<PathBuf> {
    std::env::var_os("BRAMBLE_FILE").filter(|path| !path.is_empty()).map(PathBuf::from)
}

/// Finds the cluster file that is meant where none is named: what BRAMBLE_FILE names, or the nearest one.
pub(crate) fn meant() -> Option<PathBuf> {
    named().or_else(|| nearest(&std::env::current_dir().ok()?))
}

/// Finds the cluster file in a folder or in the nearest one above it. What another user has put above, or into a folder of theirs,
/// is left alone.
fn nearest(here: &Path) -> Option<PathBuf> {
    if here.join(FILE).symlink_metadata().is_ok() {
        return Some(FILE.into());
    }
    let ours = [0, rustix::process::geteuid().as_raw(), sudo_user::number().unwrap_or_default()];
    let is_ours = |path: &Path| path.symlink_metadata().is_ok_and(|found| ours.contains(&found.uid()));
    let fits = |path: &PathBuf| path.is_file() && is_ours(path) && path.parent().is_some_and(is_ours);
    here.ancestors().skip(1).map(|folder| folder.join(FILE)).find(fits)
}

impl Which {
    /// What stands after a command counts more than what stands before it.
    fn take(&mut self, mut level: Option<&ArgMatches>) {
        fn said<T: Clone + Send + Sync + 'static>(matches: &ArgMatches, option: &str) -> Option<T> {
            matches.try_get_one(option).ok().flatten().cloned()
        }
        while let Some(matches) = level {
            self.file = said(matches, "file").or(self.file.take());
            self.cluster = said(matches, "cluster").or(self.cluster.take());
            self.bundle = said(matches, "bundle").or(self.bundle.take());
            level = matches.subcommand().map(|(_, below)| below);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn parse(line: &str) -> Result<Common, clap::Error> {
        let matches = command().try_get_matches_from(line.split(' '))?;
        parsed(&matches).map(|(_, common)| common)
    }

    #[test]
    fn a_cluster_is_named_before_a_command_or_after_it() {
        command().debug_assert();
        assert_eq!(parse("bramble plan").unwrap().file, PathBuf::from("bramble.yaml"));
        for line in [
            "bramble -f a.yaml -c one plan",
            "bramble plan -f a.yaml -c one",
            "bramble -f b.yaml plan -f a.yaml -c one",
        ] {
            let common = parse(line).unwrap();
            assert_eq!((common.file, common.cluster), ("a.yaml".into(), Some("one".into())), "{line}");
        }
        for line in ["bramble --bundle b up", "bramble up --bundle b", "bramble image check --bundle b x"] {
            assert_eq!(parse(line).unwrap().bundle, Some("b".into()), "{line}");
        }
    }

    #[test]
    fn the_nearest_cluster_file_above_is_taken_unless_it_is_somebody_elses() {
        let dir = tempfile::tempdir().unwrap();
        let below = dir.path().join("a/b");
        std::fs::create_dir_all(&below).unwrap();
        assert_eq!(nearest(&below), None);
        let file = dir.path().join(FILE);
        std::fs::write(&file, "").unwrap();
        assert_eq!(nearest(&below), Some(file.clone()));
        std::fs::write(dir.path().join("a").join(FILE), "").unwrap();
        assert_eq!(nearest(&below), Some(dir.path().join("a").join(FILE)));
        assert_eq!(nearest(dir.path()), Some(FILE.into()));
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(dir.path().join("a").join(FILE), Some(12_345), None).unwrap();
            assert_eq!(nearest(&below), Some(file));
        }
    }

    #[test]
    fn habits_of_other_tools_are_understood() {
        let name =
            |line: &str| command().try_get_matches_from(line.split(' ')).unwrap().subcommand_name().map(str::to_owned);
        for (line, meant) in [("bramble apply", "up"), ("bramble destroy", "down"), ("bramble reset", "down")] {
            assert_eq!(name(line).as_deref(), Some(meant));
        }
    }

    #[test]
    fn what_means_nothing_is_refused_and_not_listed() {
        for line in [
            "bramble --bundle b lab up",
            "bramble lab up --bundle b",
            "bramble -f a boards",
            "bramble --bundle b run true",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
        let mut all = command();
        let up = all.find_subcommand_mut("lab").unwrap().find_subcommand_mut("up").unwrap();
        assert!(!up.render_long_help().to_string().contains("--bundle"));
        let all = command();
        for (name, _) in MEANING {
            assert!(all.find_subcommand(name).is_some(), "{name}");
        }
        // Whoever adds a command that is about a cluster says so.
        for command in all.get_subcommands().map(clap::Command::get_name) {
            let about_none = ["lab", "completions", "man", "boards", "schema"].contains(&command);
            assert_eq!(MEANING.iter().any(|(known, _)| *known == command), !about_none, "{command}");
        }
    }
}
