//! `bramble ssh`.

use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::Context;
use bramble_engine::Project;
use bramble_shell::shell_word;
use bramble_spec::Jump;

use crate::ui::printer::Printer;
use crate::{Common, Done, cluster_file};

#[derive(clap::Args)]
pub(crate) struct Ssh {
    /// The node
    #[arg(value_name = "NODE")]
    node: String,
    /// A command to run there instead of a shell
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

impl Ssh {
    /// Becomes ssh: its exit code is that of the command.
    pub(crate) fn run(self, common: &Common, printer: &Printer) -> anyhow::Result<Done> {
        let project = cluster_file::open(common, printer)?;
        let arguments = arguments(&project, &self.node)?;
        let error = Command::new("ssh").args(arguments).args(&self.command).exec();
        Err(error).context("cannot run ssh: is OpenSSH's client installed?")
    }
}

/// What ssh is told: the user, the keys, the pinned host keys and the way of the cluster file, for the node and for each host on the way.
/// What it does not say is as the user's own configuration has it.
fn arguments(project: &Project, name: &str) -> anyhow::Result<Vec<String>> {
    let node = project.node(name)?;
    let access = &project.cluster.access;
    // New keys go into the user's own file: into this one nothing comes that was not shown.
    let known = token(&project.known_hosts()?.display().to_string());
    let known = format!("GlobalKnownHostsFile=\"{known}\" /etc/ssh/ssh_known_hosts /etc/ssh/ssh_known_hosts2");
    let mut common = vec!["-o".to_owned(), known];
    for key in &access.keys {
        // The private half, also where the public one is named.
        let path = project.path(key);
        let private = path.with_extension("");
        let path = if path.extension().is_some_and(|end| end == "pub") && private.exists() { private } else { path };
        common.extend(["-i".to_owned(), token(&path.display().to_string())]);
    }
    let port = (access.port != 22).then_some(access.port);
    let gateway =
        project.cluster.gateway().filter(|(gateway, uplink)| uplink.reach.is_some() && gateway.name != node.name);
    let through = gateway.map(|(gateway, _)| Jump { user: None, host: gateway.host(), port });
    let to = Jump { user: None, host: node.host(), port };
    let mut way: Option<String> = None;
    let mut all = Vec::new();
    for hop in access.jump.iter().chain(&through).chain([&to]) {
        all.clone_from(&common);
        if let Some(command) = way {
            all.extend(["-o".to_owned(), format!("ProxyCommand={command}")]);
        }
        all.extend(hop.port.iter().flat_map(|port| ["-p".to_owned(), port.to_string()]));
        let user = hop.user.as_ref().unwrap_or(&access.user).clone();
        all.extend(["-l".to_owned(), user, "--".to_owned(), hop.host.clone()]);
        // It carries the connection to the next one, which ssh puts in the places of `%h` and `%p`.
        let words = |words: &[String]| token(&words.iter().map(|word| shell_word(word)).collect::<Vec<_>>().join(" "));
        let (options, host) = all.split_at(all.len() - 2);
        way = Some(format!("ssh {} -W '[%h]:%p' {}", words(options), words(host)));
    }
    Ok(all)
}

/// ssh takes `%` for the beginning of a token.
fn token(text: &str) -> String {
    text.replace('%', "%%")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::path::{Path, PathBuf};

    use super::*;

    fn project(dir: &Path, more: &str, nodes: &str) -> Project {
        let text = format!(
            "cluster: home\nnetwork: {{ subnet: 10.0.0.0/24 }}\ndistribution: {{ k3s: {{ version: stable }} }}\n{more}nodes:\n\
             \x20 - {{ name: kube1, role: control-plane, board: rpi-4b-8gb, address: 10.0.0.51, mac: \"dc:a6:32:00:00:01\" }}\n{nodes}"
        );
        let loaded = bramble_spec::load(Path::new("bramble.yaml"), &text);
        assert!(!loaded.report.has_errors(), "{}", loaded.report.render(false));
        let cluster = loaded.clusters.into_iter().next().unwrap();
        Project { cluster, dir: dir.to_owned(), home: Some(PathBuf::from("/home/ada")), bundle: None, user_cache: None }
    }

    #[test]
    fn ssh_gets_the_user_the_keys_and_the_port_of_the_cluster_file() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("id"), "").unwrap();
        let more = "access: { user: ada, port: 2222, keys: [id.pub, ~/100%.pub] }\n";
        let all = arguments(&project(dir.path(), more, ""), "kube1").unwrap();
        let known = format!("GlobalKnownHostsFile=\"{}/.bramble/known_hosts\" /etc/ssh/", dir.path().display());
        assert!(all[1].starts_with(&known), "{all:?}");
        let id = dir.path().join("id").display().to_string();
        assert_eq!(all[2..], ["-i", &id, "-i", "/home/ada/100%%.pub", "-p", "2222", "-l", "ada", "--", "10.0.0.51"]);
        let error = arguments(&project(dir.path(), "", ""), "kube9").unwrap_err().to_string();
        assert_eq!(error, "the cluster file has no node `kube9`");
    }

    /// What ssh would run for a ProxyCommand, as a shell takes it apart.
    fn proxy(arguments: &[String]) -> Vec<String> {
        let command = arguments.iter().find_map(|word| word.strip_prefix("ProxyCommand=")).unwrap();
        let expanded = command.replace("%%", "\0").replace("%h", "HOST").replace("%p", "PORT").replace('\0', "%");
        let shell =
            Command::new("sh").args(["-c", &format!("set -- {expanded}; printf '%s\\n' \"$@\"")]).output().unwrap();
        String::from_utf8(shell.stdout).unwrap().lines().map(str::to_owned).collect()
    }

    #[test]
    fn hosts_on_the_way_are_met_with_the_same_keys_and_the_same_known_hosts() {
        let dir = tempfile::tempdir().unwrap();
        let gateway = "  - { name: gate, role: gateway, board: rpi-4b-8gb, address: 10.0.0.1, uplink: { interface: wlan0, reach: gate.lan } }\n";
        let project =
            project(dir.path(), "access: { user: ada, keys: [id], jump: \"eve@bastion.lan:22022\" }\n", gateway);
        let all = arguments(&project, "kube1").unwrap();
        assert_eq!(all[all.len() - 4..], ["-l", "ada", "--", "10.0.0.51"]);
        let to_gateway = proxy(&all);
        assert_eq!(to_gateway[..5], [&["ssh".to_owned()][..], &all[..4]].concat());
        assert_eq!(to_gateway[to_gateway.len() - 6..], ["-l", "ada", "-W", "[HOST]:PORT", "--", "gate.lan"]);
        // Of the innermost one the places of the outer one are not taken.
        let command = to_gateway.iter().find(|word| word.starts_with("ProxyCommand=")).unwrap();
        assert!(command.ends_with(" -p 22022 -l eve -W '[%h]:%p' -- bastion.lan"), "{command}");
        let of_gate = arguments(&project, "gate").unwrap();
        assert_eq!(of_gate[of_gate.len() - 4..], ["-l", "ada", "--", "gate.lan"]);
        assert_eq!(proxy(&of_gate).last().map(String::as_str), Some("bastion.lan"));
    }
}
