//! `bramble ssh`.

use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::Context;
use bramble_engine::Project;
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

/// What ssh is told: the user, the keys, the pinned host keys and the way of the cluster file. What it does not say is as the user's own
/// configuration has it.
fn arguments(project: &Project, name: &str) -> anyhow::Result<Vec<String>> {
    let node = project.node(name)?;
    let access = &project.cluster.access;
    // ssh takes `%` for the beginning of a token.
    let known = project.known_hosts()?.display().to_string().replace('%', "%%");
    let mut all =
        vec!["-o".to_owned(), format!("UserKnownHostsFile=\"{known}\" ~/.ssh/known_hosts ~/.ssh/known_hosts2")];
    for key in &access.keys {
        // The private half, also where the public one is named.
        let path = project.path(key);
        let private = path.with_extension("");
        let path = if path.extension().is_some_and(|end| end == "pub") && private.exists() { private } else { path };
        all.extend(["-i".to_owned(), path.display().to_string()]);
    }
    if access.port != 22 {
        all.extend(["-p".to_owned(), access.port.to_string()]);
    }
    let gateway =
        project.cluster.gateway().filter(|(gateway, uplink)| uplink.reach.is_some() && gateway.name != node.name);
    let through = gateway.map(|(gateway, _)| Jump {
        user: Some(access.user.clone()),
        host: gateway.host(),
        port: (access.port != 22).then_some(access.port),
    });
    let hops: Vec<String> = access.jump.iter().chain(&through).map(hop).collect();
    if !hops.is_empty() {
        all.extend(["-J".to_owned(), hops.join(",")]);
    }
    all.extend(["-l".to_owned(), access.user.clone(), "--".to_owned(), node.host()]);
    Ok(all)
}

/// A host to go through, as `-J` takes it.
fn hop(jump: &Jump) -> String {
    let user = jump.user.as_ref().map(|user| format!("{user}@")).unwrap_or_default();
    let host = if jump.host.contains(':') { format!("[{}]", jump.host) } else { jump.host.clone() };
    let port = jump.port.map(|port| format!(":{port}")).unwrap_or_default();
    format!("{user}{host}{port}")
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
    fn ssh_gets_the_user_the_keys_the_port_and_the_way_of_the_cluster_file() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("id"), "").unwrap();
        let more = "access: { user: ada, port: 2222, keys: [id.pub, ~/other.pub], jump: bastion.lan }\n";
        let all = arguments(&project(dir.path(), more, ""), "kube1").unwrap();
        let known = format!("UserKnownHostsFile=\"{}/.bramble/known_hosts\" ~/.ssh/", dir.path().display());
        assert!(all[1].starts_with(&known), "{all:?}");
        let id = dir.path().join("id").display().to_string();
        let expected =
            ["-i", &id, "-i", "/home/ada/other.pub", "-p", "2222", "-J", "bastion.lan", "-l", "ada", "--", "10.0.0.51"];
        assert_eq!(all[2..], expected);
        let error = arguments(&project(dir.path(), "", ""), "kube9").unwrap_err().to_string();
        assert_eq!(error, "the cluster file has no node `kube9`");
    }

    #[test]
    fn nodes_behind_a_gateway_are_reached_through_it() {
        let dir = tempfile::tempdir().unwrap();
        let gateway = "  - { name: gate, role: gateway, board: rpi-4b-8gb, address: 10.0.0.1, uplink: { interface: wlan0, reach: gate.lan } }\n";
        let project = project(dir.path(), "access: { user: ada, keys: [] }\n", gateway);
        let all = arguments(&project, "kube1").unwrap();
        assert_eq!(all[2..], ["-J", "ada@gate.lan", "-l", "ada", "--", "10.0.0.51"]);
        assert_eq!(arguments(&project, "gate").unwrap()[2..], ["-l", "ada", "--", "gate.lan"]);
    }
}
