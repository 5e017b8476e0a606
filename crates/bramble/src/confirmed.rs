//! What a person has confirmed on the command line.

use std::collections::BTreeSet;
use std::io::IsTerminal;

use bramble_kube::Destruction;

use crate::ui::printer::{Printer, Style};

/// The flag `--yes`.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct Yes {
    /// Do not ask. What is destroyed must be named: nodes that leave or are reset, add-ons that go, the cluster that is
    /// made anew
    #[arg(short, long, value_name = "NAME,…", num_args = 0..=1, require_equals = true, value_delimiter = ',')]
    yes: Option<Vec<String>>,
}

/// What needs no question any more.
#[derive(Debug, Clone, Default)]
pub(crate) struct Confirmed {
    /// Whether changes that destroy nothing are made without a question.
    pub(crate) changes: bool,
    /// The names of what may be destroyed.
    names: BTreeSet<String>,
}

impl Yes {
    /// For a command that destroys nothing that the person who calls it does not name.
    pub(crate) fn confirmed(self) -> Confirmed {
        Confirmed { changes: self.yes.is_some(), names: self.yes.into_iter().flatten().collect() }
    }

    /// For a command that names with its own name and the cluster file what it destroys: `--yes` alone confirms that.
    pub(crate) fn confirmed_for(self, cluster: &str) -> Confirmed {
        let mut confirmed = self.confirmed();
        if confirmed.changes && confirmed.names.is_empty() {
            confirmed.names.insert(cluster.to_owned());
        }
        confirmed
    }
}

impl Confirmed {
    /// Leaves what has yet to be confirmed.
    pub(crate) fn missing(&self, destroys: Vec<Destruction>) -> Vec<Destruction> {
        destroys.into_iter().filter(|destruction| !self.names.contains(&destruction.name)).collect()
    }

    /// Goes on with what destroys something if all of it was named, or somebody says yes to it now. Tells whether it was named.
    pub(crate) fn agree(
        &self,
        printer: &Printer,
        destroys: Vec<Destruction>,
        heading: &str,
        question: &str,
    ) -> anyhow::Result<bool> {
        let mut missing = self.missing(destroys);
        if missing.is_empty() {
            return Ok(true);
        }
        let mut names: Vec<&str> = missing.iter().map(|destruction| destruction.name.as_str()).collect();
        names.dedup();
        let flag = format!("--yes={}", names.join(","));
        missing.dedup_by(|one, other| one.what == other.what);
        let list: String = missing.iter().map(|destruction| format!("\n  {}", destruction.what)).collect();
        if std::io::stdin().is_terminal() {
            printer.info(format!("{}{list}", printer.style(Style::Bad, heading)));
        }
        let instead = format!("nothing was changed, because this has to be confirmed:{list}\npass {flag} to confirm");
        printer.agree(question, &instead, "nothing was changed")?;
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        yes: Yes,
    }

    fn parse(arguments: &[&str]) -> Yes {
        Cli::parse_from([&["bramble"], arguments].concat()).yes
    }

    fn missing(confirmed: &Confirmed) -> Vec<String> {
        let all = ["home", "kube2"].map(|name| Destruction { name: name.into(), what: String::new() });
        confirmed.missing(all.into()).into_iter().map(|destruction| destruction.name).collect()
    }

    #[test]
    fn only_what_is_named_may_be_destroyed() {
        for (arguments, changes, left) in [
            (&[][..], false, &["home", "kube2"][..]),
            (&["--yes"], true, &["home", "kube2"]),
            (&["-y"], true, &["home", "kube2"]),
            (&["--yes=kube2"], true, &["home"]),
            (&["--yes=kube2,home"], true, &[]),
            (&["-y=home"], true, &["kube2"]),
        ] {
            let confirmed = parse(arguments).confirmed();
            assert_eq!(
                (confirmed.changes, missing(&confirmed)),
                (changes, left.iter().map(|n| (*n).to_owned()).collect())
            );
        }
    }

    #[test]
    fn a_command_that_destroys_the_cluster_of_its_file_needs_no_name() {
        assert_eq!(missing(&parse(&["--yes"]).confirmed_for("home")), ["kube2"]);
        assert_eq!(missing(&parse(&["--yes=kube2"]).confirmed_for("home")), ["home"]);
        assert_eq!(missing(&parse(&[]).confirmed_for("home")), ["home", "kube2"]);
    }
}
