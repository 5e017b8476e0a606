//! `bramble kubeconfig`.

use std::net::SocketAddrV4;
use std::path::PathBuf;

use anyhow::{Context, anyhow, bail};
use bramble_fetch::replace_file;
use bramble_kube::{Inputs, lifecycle};
use bramble_shell::{Commands, Script};
use bramble_spec::{Cluster, Node, Uplink};
use serde_json::{Value, json};

use crate::drive::visit;
use crate::ui::printer::Printer;
use crate::{Common, Done, cluster_file};
use bramble_engine::{Project, speaker};

#[derive(clap::Args)]
pub(crate) struct Kubeconfig {
    /// The kubeconfig to add to; otherwise $KUBECONFIG or ~/.kube/config
    #[arg(long, value_name = "FILE")]
    into: Option<PathBuf>,
    /// Print it instead
    #[arg(long)]
    print: bool,
}

impl Kubeconfig {
    pub(crate) async fn run(self, common: &Common, printer: &Printer) -> anyhow::Result<Done> {
        let project = cluster_file::open(common, printer)?;
        let inputs = Inputs::default();
        let Some(life) = lifecycle(&project.cluster, &inputs) else {
            bail!("{} has no Kubernetes", project.cluster.name)
        };
        let planes: Vec<Node> = project.cluster.control_planes().cloned().collect();
        let fleet = visit(&project, &planes, printer, async |session| Ok(session)).await?;
        if fleet.nodes.is_empty() {
            fleet.complete()?;
            bail!("{} has no control plane", project.cluster.name);
        }
        let plane = speaker(&*life, &fleet.nodes).await?;
        let mut cat = Commands::new();
        cat.call("cat --", [life.admin_config()]);
        let admin = plane
            .ask(&Script::new("print the kubeconfig", &cat), |_, _| {})
            .await
            .context("the control plane has no kubeconfig yet; run `bramble up`")?;
        let name = project.cluster.name.as_str();
        let (server, known_as) = way(&project.cluster, life.api_port());
        let mut own = own_entries(&admin, name, &server)?;
        match known_as {
            Some(known_as) => own["clusters"][0]["cluster"]["tls-server-name"] = json!(known_as),
            None => {
                if let Some((gateway, Uplink { reach: Some(_), .. })) = project.cluster.gateway() {
                    printer.info(format!(
                        "The API is behind {} and not published: from here kubectl finds it with `uplink: {{ publish: {{ {port}: \
                         \"{}:{port}\" }} }}`.",
                        gateway.name,
                        project.cluster.network.api,
                        port = life.api_port()
                    ));
                }
            }
        }
        if self.print {
            printer.result(to_yaml(&own)?);
            return Ok(Done::Good);
        }
        let path = self
            .into
            .clone()
            .or_else(|| first_kubeconfig(&project))
            .ok_or_else(|| anyhow!("there is no home folder; name a file with --into"))?;
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
        };
        let merged = merge(&text, &own, name).with_context(|| format!("{} cannot be changed", path.display()))?;
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).with_context(|| format!("cannot create {}", parent.display()))?;
        }
        // A link (to a file kept elsewhere) stays a link.
        let target = std::fs::canonicalize(&path).unwrap_or_else(|_| path.clone());
        replace_file(&target, merged.as_bytes(), 0o600)?;
        printer.result(format!("The context {name} is in {}: `kubectl --context {name} get nodes`.", path.display()));
        Ok(Done::Good)
    }
}

/// Where kubectl finds the API, and the name that its certificate has if that is another one: behind a gateway that is
/// reached from outside it is where the gateway publishes it.
fn way(cluster: &Cluster, port: u16) -> (String, Option<String>) {
    let api = SocketAddrV4::new(cluster.network.api, port);
    if let Some((_, Uplink { reach: Some(reach), publish, .. })) = cluster.gateway()
        && let Some(published) = publish.iter().find(|published| published.to == api)
    {
        return (format!("https://{reach}:{}", published.port), Some(api.ip().to_string()));
    }
    (format!("https://{api}"), None)
}

fn first_kubeconfig(project: &Project) -> Option<PathBuf> {
    let listed = std::env::var_os("KUBECONFIG")
        .and_then(|list| std::env::split_paths(&list).find(|path| !path.as_os_str().is_empty()));
    listed.or_else(|| project.home.as_ref().map(|home| home.join(".kube/config")))
}

fn parse(text: &str) -> anyhow::Result<Value> {
    if text.trim().is_empty() {
        return Ok(json!({}));
    }
    serde_saphyr::from_str(text).map_err(|error| anyhow!("it is not a kubeconfig: {error}"))
}

fn to_yaml(value: &Value) -> anyhow::Result<String> {
    serde_saphyr::to_string(value).map_err(|error| anyhow!("{error}"))
}

/// kubeadm's admin kubeconfig under the cluster's own name.
fn own_entries(admin: &str, name: &str, server: &str) -> anyhow::Result<Value> {
    let admin = parse(admin)?;
    let authority = admin["clusters"][0]["cluster"]["certificate-authority-data"].clone();
    let user = admin["users"][0]["user"].clone();
    if !authority.is_string() || !user.is_object() {
        bail!("the kubeconfig of the control plane has no certificate; run `bramble up`");
    }
    Ok(json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{ "name": name, "cluster": { "server": server, "certificate-authority-data": authority } }],
        "users": [{ "name": name, "user": user }],
        "contexts": [{ "name": name, "context": { "cluster": name, "user": name } }],
        "current-context": name,
    }))
}

/// The user's kubeconfig with our three entries in it. Every other entry stays, and so does the current context.
fn merge(text: &str, own: &Value, name: &str) -> anyhow::Result<String> {
    let mut whole = parse(text)?;
    if !whole.is_object() {
        bail!("it is not a kubeconfig");
    }
    for (key, default) in [("apiVersion", json!("v1")), ("kind", json!("Config")), ("current-context", json!(name))] {
        if whole[key].is_null() || whole[key] == "" {
            whole[key] = default;
        }
    }
    for key in ["clusters", "users", "contexts"] {
        if whole[key].is_null() {
            whole[key] = json!([]);
        }
        let list = whole[key].as_array_mut().ok_or_else(|| anyhow!("its `{key}` is no list"))?;
        list.retain(|entry| entry["name"] != name);
        list.extend(own[key].as_array().into_iter().flatten().cloned());
    }
    to_yaml(&whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADMIN: &str = "clusters:\n- cluster:\n    certificate-authority-data: QUJD\n    server: https://x\n  name: kubernetes\nusers:\n- name: kubernetes-admin\n  user:\n    client-certificate-data: REVG\n    client-key-data: R0hJ\n";

    #[test]
    fn other_contexts_stay_as_they_are() {
        let own = own_entries(ADMIN, "dramble", "https://10.0.0.50:6443").unwrap();
        let before = "apiVersion: v1\nkind: Config\ncurrent-context: work\npreferences: {colors: true}\nclusters:\n- name: work\n  cluster: {server: 'https://work'}\ncontexts:\n- name: work\n  context: {cluster: work, user: me, namespace: x}\nusers:\n- name: me\n  user: {token: \"0123\"}\n";
        let once = merge(before, &own, "dramble").unwrap();
        let value = parse(&once).unwrap();
        assert_eq!(value["current-context"], "work");
        assert_eq!(value["preferences"]["colors"], true);
        assert_eq!(value["users"][0], json!({ "name": "me", "user": { "token": "0123" } }));
        assert_eq!(value["contexts"][0]["context"]["namespace"], "x");
        assert_eq!(value["clusters"][1]["cluster"]["server"], "https://10.0.0.50:6443");
        assert_eq!(merge(&once, &own, "dramble").unwrap(), once, "a second time changes nothing");
    }

    #[test]
    fn an_empty_file_becomes_a_kubeconfig() {
        let own = own_entries(ADMIN, "dramble", "https://10.0.0.50:6443").unwrap();
        let value = parse(&merge("", &own, "dramble").unwrap()).unwrap();
        assert_eq!(value["current-context"], "dramble");
        assert_eq!(value["users"][0]["user"]["client-key-data"], "R0hJ");
    }

    #[test]
    fn what_is_no_kubeconfig_is_left_alone() {
        let own = own_entries(ADMIN, "dramble", "https://10.0.0.50:6443").unwrap();
        assert!(merge("- a\n- b\n", &own, "dramble").is_err());
        assert!(merge("clusters: 7\n", &own, "dramble").is_err());
    }
}
