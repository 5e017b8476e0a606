//! The cluster file, opened for a command: its findings are shown, and the environment is read here and nowhere else.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail};
use bramble_engine::{Project, SshNetwork, SshSetup};
use bramble_kube::{Inputs, lifecycle};
use bramble_remote::{Root, Secret};
use bramble_spec::{Override, Severity, Sudo};

use crate::ui::printer::{Printer, Style};
use crate::{Common, sudo_user};

/// The cluster file is not there, or not valid.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct InvalidFile(pub(crate) String);

pub(crate) fn open(common: &Common, printer: &Printer) -> anyhow::Result<Project> {
    open_with(common, printer, &[])
}

/// Opens it with some of its values given anew.
pub(crate) fn open_with(common: &Common, printer: &Printer, overrides: &[Override]) -> anyhow::Result<Project> {
    let path = &common.file;
    let bytes = fs::read(path).map_err(|error| {
        let hint =
            if error.kind() == std::io::ErrorKind::NotFound { "; `bramble init` writes a first one" } else { "" };
        InvalidFile(format!("cannot read {}: {error}{hint}", path.display()))
    })?;
    let text =
        bramble_files::utf8(&bytes).map_err(|why| InvalidFile(format!("{} cannot be read: {why}", path.display())))?;
    let dir = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    };
    let home = sudo_user::home();
    let read = |written: &str| {
        fs::read_to_string(match (written.strip_prefix("~/"), &home) {
            (Some(rest), Some(home)) => home.join(rest),
            _ => dir.join(written),
        })
    };
    let loaded = bramble_spec::load_with(path, text, overrides, &read);
    if loaded.report.problems.iter().any(|d| d.severity == Severity::Error) {
        printer.error(loaded.report.render(printer.colour));
        return Err(InvalidFile(format!("{} is not a valid cluster file", path.display())).into());
    }
    if !loaded.report.problems.is_empty() {
        printer.info(loaded.report.render(printer.colour));
    }
    let names: Vec<String> = loaded.clusters.iter().map(|cluster| cluster.name.to_string()).collect();
    let mut clusters = loaded.clusters;
    let cluster = match &common.cluster {
        Some(name) => clusters
            .into_iter()
            .find(|cluster| cluster.name.as_str() == name)
            .with_context(|| format!("{} has no cluster `{name}`; it has: {}", path.display(), names.join(", ")))?,
        None if clusters.len() == 1 => clusters.remove(0),
        None => {
            bail!("{} holds several clusters: choose one with --cluster ({})", path.display(), names.join(", "))
        }
    };
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let user_cache = cache.or_else(|| home.as_ref().map(|home| home.join(".cache")));
    Ok(Project { cluster, dir, home, bundle: common.bundle.clone(), user_cache })
}

/// Gathers what the plan needs besides the cluster file. What must be fetched is fetched once and pinned.
pub(crate) fn inputs(project: &Project, printer: &Printer) -> anyhow::Result<Inputs> {
    let sources = project.sources()?;
    let mut inputs = bramble_fetch::inputs(&sources, &mut sources.lock_file()?, printer)?;
    if let Some((keys, key)) = project.backup_keys()? {
        if key.fresh {
            printer.info(format!(
                "The key of the backups is new, in {}: keep a copy of it elsewhere, without it none can be opened.\n",
                key.path.display()
            ));
        }
        inputs.backups = Some(keys);
    }
    if let Some(written) = project.cluster.ups.as_ref().and_then(|ups| ups.password_file.as_ref()) {
        let path = project.path(written);
        inputs.ups_password = Some(one_line(&path).context("the password of the UPS is not there")?);
    }
    Ok(inputs)
}

/// Brings the image of the boards' system here, and tells where it is.
pub(crate) fn os_image(project: &Project, printer: &Printer) -> anyhow::Result<PathBuf> {
    let sources = project.sources()?;
    Ok(bramble_fetch::fetch_os_image(&sources, &mut sources.lock_file()?, printer)?)
}

/// Says in a line what the cluster is; with inputs it names the version that was chosen.
pub(crate) fn title(project: &Project, inputs: &Inputs, printer: &Printer) -> String {
    let kubernetes = match lifecycle(&project.cluster, inputs) {
        Some(life) => format!("{} {}", life.name(), life.version()),
        None => "no Kubernetes".to_owned(),
    };
    let name = printer.style(Style::Bold, project.cluster.name.as_str());
    format!("{name}: {kubernetes}, {} nodes", project.cluster.nodes.len())
}

/// Finds the ways to the nodes. The sudo password is asked for if the cluster file says that there is one.
pub(crate) fn network(project: &Project) -> anyhow::Result<Arc<SshNetwork>> {
    let access = &project.cluster.access;
    let root = match (access.user.as_str(), access.sudo) {
        ("root", _) => Root::Already,
        (_, Sudo::Passwordless) => Root::Sudo,
        (_, Sudo::Password) => Root::SudoPassword(Secret::new(password(&access.user)?)),
    };
    let setup = SshSetup {
        root,
        home: project.home.clone(),
        agent: std::env::var_os("SSH_AUTH_SOCK").map(PathBuf::from),
        keys: access.keys.iter().map(|key| project.path(key)).collect(),
        known_hosts: project.known_hosts()?,
    };
    Ok(Arc::new(SshNetwork::new(&project.cluster, setup)?))
}

/// The sudo password: from a file for machines, else asked once.
fn password(user: &str) -> anyhow::Result<String> {
    if let Some(path) = std::env::var_os("BRAMBLE_SUDO_PASSWORD_FILE") {
        return one_line(Path::new(&path));
    }
    rpassword::prompt_password(format!("sudo password of {user} on the nodes: "))
        .context("there is no terminal to ask for the sudo password; put it into a file and name that in BRAMBLE_SUDO_PASSWORD_FILE")
}

/// Reads a secret that a file has in a line of its own.
fn one_line(path: &Path) -> anyhow::Result<String> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}
