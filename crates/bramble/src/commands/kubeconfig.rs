//! `bramble kubeconfig`.

use std::net::SocketAddrV4;
use std::path::PathBuf;

use anyhow::{Context, anyhow, bail};
use bramble_kube::{Credentials, Inputs, lifecycle};
use bramble_shell::{Commands, Script};
use bramble_spec::{Cluster, Uplink};
use serde_json::{Value, json};

use crate::drive::ask_plane;
use crate::ui::printer::Printer;
use crate::user_file::UserFile;
use crate::{Common, Done, cluster_file};
use bramble_engine::Project;

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
        let mut cat = Commands::new();
        cat.call("cat --", [life.admin_config()]);
        let (admin, plane) = ask_plane(
            &cluster_file::network(&project)?,
            &project,
            printer,
            &*life,
            &Script::new("print the kubeconfig", &cat),
        )
        .await
        .context("no control plane gives a kubeconfig; if there is no cluster yet, run `bramble up`")?;
        let name = project.cluster.name.as_str();
        let (server, known_as) = way(&project.cluster, life.api_port());
        let credentials = Credentials::from_kubeconfig(&admin)
            .with_context(|| format!("the kubeconfig on {} cannot be used; run `bramble up`", plane))?;
        let mut own = own_entries(&credentials, name, &server);
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
        let file = UserFile::find(&path)?;
        let text = file.read()?;
        let merged = merge(&text, &own, name).with_context(|| format!("{} cannot be changed", path.display()))?;
        file.replace(&merged)?;
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

/// Makes a kubeconfig of the administrator's credentials; all else in it is known here.
fn own_entries(credentials: &Credentials, name: &str, server: &str) -> Value {
    let user = json!({ "client-certificate-data": credentials.certificate, "client-key-data": credentials.key });
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{
            "name": name,
            "cluster": { "server": server, "certificate-authority-data": credentials.authority },
        }],
        "users": [{ "name": name, "user": user }],
        "contexts": [{ "name": name, "context": { "cluster": name, "user": name } }],
        "current-context": name,
    })
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
    use proptest::prelude::*;

    use super::*;

    fn own() -> Value {
        let credentials = Credentials { authority: "QUJD".into(), certificate: "REVG".into(), key: "R0hJ".into() };
        own_entries(&credentials, "dramble", "https://10.0.0.50:6443")
    }

    const BEFORE: &str = "apiVersion: v1\nkind: Config\ncurrent-context: work\npreferences: {colors: true}\nclusters:\n- name: work\n  cluster: {server: 'https://work'}\ncontexts:\n- name: work\n  context: {cluster: work, user: me, namespace: x}\nusers:\n- name: me\n  user: {token: \"0123\"}\n";

    #[test]
    fn other_contexts_stay_as_they_are() {
        let before = parse(BEFORE).unwrap();
        let after = parse(&merge(BEFORE, &own(), "dramble").unwrap()).unwrap();
        for key in ["current-context", "preferences"] {
            assert_eq!(after[key], before[key]);
        }
        for key in ["clusters", "contexts", "users"] {
            assert_eq!(after[key][0], before[key][0]);
        }
    }

    #[test]
    fn the_cluster_is_added_to_other_contexts() {
        let after = parse(&merge(BEFORE, &own(), "dramble").unwrap()).unwrap();
        assert_eq!(after["clusters"][1]["cluster"]["server"], "https://10.0.0.50:6443");
    }

    #[test]
    fn a_second_time_changes_nothing() {
        let once = merge(BEFORE, &own(), "dramble").unwrap();
        assert_eq!(merge(&once, &own(), "dramble").unwrap(), once);
    }

    #[test]
    fn an_empty_file_becomes_a_kubeconfig() {
        let value = parse(&merge("", &own(), "dramble").unwrap()).unwrap();
        assert_eq!(value, own());
    }

    #[test]
    fn what_is_no_kubeconfig_is_left_alone() {
        for text in ["- a\n- b\n", "clusters: 7\n", "users: {}\n", "a: b\n---\na: b\n"] {
            assert!(merge(text, &own(), "dramble").is_err(), "{text}");
        }
    }

    proptest! {
        /// Whatever others have in their kubeconfig stays, word for word.
        #[test]
        fn all_else_in_a_kubeconfig_stays(
            names in proptest::collection::vec("[a-z0-9: #'\"-]{1,12}", 0..4),
            token in "\\PC{0,20}",
            more in proptest::collection::btree_map("x-[a-z]{1,5}", "\\PC{0,20}", 0..3),
        ) {
            let entries: Vec<Value> = names.iter().map(|name| json!({ "name": name, "user": { "token": token } })).collect();
            let mut before = json!({ "apiVersion": "v1", "kind": "Config", "current-context": "x", "users": entries });
            for (key, value) in more {
                before[key] = json!(value);
            }
            let after = parse(&merge(&to_yaml(&before).unwrap(), &own(), "dramble").unwrap()).unwrap();
            let (mut kept, mut added) = (after.clone(), after["users"].as_array().unwrap().clone());
            prop_assert_eq!(added.pop(), Some(own()["users"][0].clone()));
            kept["users"] = Value::Array(added);
            for key in ["clusters", "contexts"] {
                prop_assert_eq!(&kept[key], &own()[key]);
                kept.as_object_mut().unwrap().remove(key);
            }
            prop_assert_eq!(kept, before);
        }
    }
}
