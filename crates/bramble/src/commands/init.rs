//! `bramble init`.

use std::io::IsTerminal;
use std::net::Ipv4Addr;

use anyhow::{Context, bail};

use crate::ui::printer::Printer;
use crate::{Common, Done};

#[derive(clap::Args)]
pub(crate) struct Init {
    /// The cluster's name
    #[arg(long)]
    name: Option<String>,
    /// The user on the boards
    #[arg(long)]
    user: Option<String>,
    /// The first board's address; the others follow
    #[arg(long, value_name = "ADDRESS")]
    first: Option<Ipv4Addr>,
    /// How many boards
    #[arg(long, value_name = "N")]
    nodes: Option<u8>,
    /// Which boards (`bramble boards`)
    #[arg(long)]
    board: Option<String>,
    /// The version of Kubernetes
    #[arg(long)]
    version: Option<String>,
    /// Replace a file that is there
    #[arg(long)]
    force: bool,
}

impl Init {
    pub(crate) fn run(self, common: &Common, printer: &Printer) -> anyhow::Result<Done> {
        let path = &common.file;
        if path.exists() && !self.force {
            bail!("{} is there already; edit it, or say --force to replace it", path.display());
        }
        let ask = |given: Option<String>, question: &str, default: &str| -> anyhow::Result<String> {
            if let Some(given) = given {
                return Ok(given);
            }
            if !std::io::stdin().is_terminal() {
                return Ok(default.to_owned());
            }
            let answer = printer.ask(&format!("{question} [{default}]: "))?;
            Ok(if answer.is_empty() { default.to_owned() } else { answer })
        };
        let name = ask(self.name, "Name of the cluster", "shelf")?;
        let user = ask(self.user, "User on the boards", "pi")?;
        let board = ask(self.board, "Which boards (`bramble boards` lists them)", "rpi-4b-4gb")?;
        let nodes = ask(self.nodes.map(|n| n.to_string()), "How many boards", "3")?;
        let nodes: u8 =
            nodes.parse().ok().filter(|n| *n > 0).with_context(|| format!("`{nodes}` is not a number of boards"))?;
        let first = ask(self.first.map(|a| a.to_string()), "Address of the first board", "192.168.1.50")?;
        let first: Ipv4Addr = first.parse().with_context(|| format!("`{first}` is not an IPv4 address"))?;
        let version = ask(self.version, "Version of Kubernetes", "1.36")?;
        let text = starter(&name, &user, &board, nodes, first, &version);
        let loaded = bramble_spec::load(path, &text);
        if loaded.report.has_errors() {
            printer.error(loaded.report.render(printer.colour));
            bail!("nothing was written: these answers do not make a valid cluster file");
        }
        bramble_fetch::replace_file(path, text.as_bytes(), 0o644)?;
        printer.result(format!("{} is written. Look it over, then: bramble plan", path.display()));
        Ok(Done::Good)
    }
}

fn starter(name: &str, user: &str, board: &str, nodes: u8, first: Ipv4Addr, version: &str) -> String {
    let [a, b, c, _] = first.octets();
    let image = match board.starts_with("rpi-") {
        true => {
            "\
# What `bramble flash` writes onto the boards' disks; boards that you flash yourself do without.
image: { name: Raspberry Pi OS Lite (64-bit) }

"
        }
        false => {
            "\
# What `bramble flash` would write onto the boards' disks.
# image: { url: https://… }

"
        }
    };
    let mut text = format!(
        "\
# A bramble cluster. `bramble plan` shows what would change, `bramble up` makes it so, `bramble down` undoes it.
# All settings: `bramble schema`.
cluster: {name}

access:
  user: {user}
  # The private half of these keys logs in, beside those that your SSH agent holds.
  keys: [~/.ssh/id_ed25519.pub]
  # sudo: password          # if sudo on the boards asks for one: Raspberry Pi OS does since April 2026, unless `bramble flash` wrote it
  # jump: {user}@gateway        # if the boards are reached through another host

network:
  subnet: {a}.{b}.{c}.0/24
  # The router: with it `bramble flash` gives boards their addresses. Without it they ask for one (DHCP).
  gateway: {a}.{b}.{c}.1
  # How pods reach each other: routed (boards on one switch), flannel or calico.
  cni: routed

distribution:
  kubeadm: {{ version: \"{version}\" }}

# What every board gets before Kubernetes; all of it can be left out.
# prepare:
#   timezone: Europe/Berlin
#   packages: [vim, htop]
#   boot: {{ config: {{ gpu_mem: 16 }} }}

{image}nodes:
  # mac: \"dc:a6:32:…\" lets bramble notice when a cable is in the wrong board.
"
    );
    for index in 0..nodes {
        let address = Ipv4Addr::from(u32::from(first).saturating_add(u32::from(index)));
        let role = if index == 0 { "control-plane, " } else { "worker,        " };
        text.push_str(&format!(
            "  - {{ name: {name}{}, role: {role}board: {board}, address: {address} }}\n",
            index + 1
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_file_is_valid_and_names_what_flash_writes() {
        for (board, flashes) in [("rpi-4b-4gb", true), ("generic-amd64", false)] {
            let text = starter("shelf", "pi", board, 3, Ipv4Addr::new(192, 168, 1, 50), "1.36");
            let loaded = bramble_spec::load(std::path::Path::new("bramble.yaml"), &text);
            assert!(!loaded.report.has_errors(), "{}", loaded.report.render(false));
            let cluster = &loaded.clusters[0];
            assert_eq!((cluster.image.is_some(), cluster.nodes.len()), (flashes, 3));
            assert_eq!(cluster.network.gateway, Some(Ipv4Addr::new(192, 168, 1, 1)));
        }
    }
}
