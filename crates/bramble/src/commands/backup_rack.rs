//! A backup, brought back on a virtual rack beside the cluster.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, anyhow, bail};
use bramble_engine::{Manifest, Project};
use bramble_fetch::{file_digest, replace_file};
use bramble_lab::{Rack, RackRequest, System};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::lab::{CACHE, STATE, board, pin_host_keys, racks};
use super::lab_watch::Watch;
use crate::Common;
use crate::ui::printer::Printer;

/// That a backup was brought back on a rack.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Stamp {
    /// The digest of the backup (SHA-256).
    pub(crate) sha256: String,
    /// When, in seconds since 1970.
    pub(crate) at: u64,
    /// How many objects had come back, each under its UID.
    pub(crate) objects: usize,
}

fn stamps_file(project: &Project) -> anyhow::Result<PathBuf> {
    Ok(project.private_dir()?.join("verified.json"))
}

fn stamps(project: &Project) -> anyhow::Result<Vec<Stamp>> {
    let path = stamps_file(project)?;
    match fs::read_to_string(&path) {
        Ok(text) => serde_json::from_str(&text).with_context(|| format!("cannot read {}; remove it", path.display())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(anyhow!(error).context(format!("cannot read {}", path.display()))),
    }
}

/// Gives what is known of an earlier time that this backup was brought back.
pub(crate) fn stamp(project: &Project, backup: &Path) -> anyhow::Result<Option<Stamp>> {
    let sha256 = file_digest(backup)?.to_string();
    Ok(stamps(project)?.into_iter().rfind(|stamp| stamp.sha256 == sha256))
}

/// Raises a rack of one control plane, restores the backup there, and takes the rack down again, however it ended. What came
/// back is written down.
pub(crate) fn bring_back(
    common: &Common,
    project: &Project,
    backup: &Path,
    key: &Path,
    manifest: &Manifest,
    printer: &Printer,
) -> anyhow::Result<Stamp> {
    let name = format!("check-{}", project.cluster.name);
    let racks = racks(Path::new(STATE), Path::new(CACHE), None)?;
    let Some(plane) = project.cluster.control_planes().next() else { bail!("the cluster has no control plane") };
    let request = RackRequest {
        name: name.clone(),
        nodes: vec![plane.name.to_string()],
        subnet: None,
        sudo_password: false,
        packages: Vec::new(),
        systems: vec![System::ALL[0]],
        gateway: false,
    };
    if racks.open(&name).is_ok() {
        bail!(
            "there is a rack {name} already, of a check that goes on or ended early: `bramble lab down {name}` removes it"
        );
    }
    let watch = Watch::new(printer);
    let rack = racks.up(&request, &|event| watch.event(event));
    watch.end();
    let rack = rack.context("the backup was not brought back")?;
    let done = restore_on(&rack, common, project, backup, key, manifest);
    racks.down(&name)?;
    done?;
    let at = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_secs();
    let stamp = Stamp { sha256: file_digest(backup)?.to_string(), at, objects: manifest.objects.len() };
    let mut all = stamps(project)?;
    all.retain(|known| known.sha256 != stamp.sha256);
    all.push(stamp.clone());
    replace_file(&stamps_file(project)?, &serde_json::to_vec_pretty(&all)?, 0o600)?;
    Ok(stamp)
}

/// The restore compares the UIDs of all objects itself.
fn restore_on(
    rack: &Rack,
    common: &Common,
    project: &Project,
    backup: &Path,
    key: &Path,
    manifest: &Manifest,
) -> anyhow::Result<()> {
    let dir = tempfile::tempdir().context("cannot make a folder for the rack's cluster file")?;
    pin_host_keys(rack, dir.path())?;
    let text = fs::read_to_string(&common.file).with_context(|| format!("cannot read {}", common.file.display()))?;
    let file = dir.path().join("bramble.yaml");
    let document = document(&text, project, manifest, rack)?;
    replace_file(&file, serde_json::to_string_pretty(&document)?.as_bytes(), 0o600)?;
    let mut command = Command::new(std::env::current_exe().context("cannot find the program itself")?);
    command.arg("-f").arg(&file);
    if let Some(bundle) = &common.bundle {
        command.arg("--bundle").arg(bundle);
    }
    let status = command.arg("restore").arg(backup).arg("--key").arg(key).arg("--yes").status();
    if !status.context("cannot run bramble restore")?.success() {
        bail!("the backup does not come back on a rack: what `bramble restore` said there is above");
    }
    Ok(())
}

/// Gives the cluster file for the rack: what the cluster is, on one board.
fn document(text: &str, project: &Project, manifest: &Manifest, rack: &Rack) -> anyhow::Result<Value> {
    let name = project.cluster.name.as_str();
    let documents: Vec<Value> =
        serde_saphyr::from_multiple(text).map_err(|error| anyhow!("cannot read the cluster file again: {error}"))?;
    let written = documents.into_iter().find(|document| document["cluster"] == name);
    let written = written.ok_or_else(|| anyhow!("the cluster file has no cluster {name}"))?;
    let mut distribution = written["distribution"].clone();
    for section in distribution.as_object_mut().into_iter().flat_map(|all| all.values_mut()) {
        if section.get("version").is_some() {
            section["version"] = json!(manifest.kubernetes);
        }
        if let Some(bundle) = section["source"]["bundle"].as_str() {
            section["source"]["bundle"] = json!(absolute(project, bundle)?);
        }
    }
    let network = &project.cluster.network;
    let mut own = json!({ "subnet": rack.subnet, "pods": network.pods, "services": network.services });
    if !written["network"]["cni"].is_null() {
        own["cni"] = written["network"]["cni"].clone();
    }
    let mut whole = json!({
        "cluster": name, "network": own, "distribution": distribution,
        "access": { "user": "pi", "keys": [rack.key()] },
    });
    for section in ["arguments", "registries"] {
        if !written[section].is_null() {
            whole[section] = written[section].clone();
        }
    }
    if let Some(archives) = written["archives"].as_array() {
        let paths = archives.iter().filter_map(Value::as_str).map(|path| absolute(project, path));
        whole["archives"] = json!(paths.collect::<anyhow::Result<Vec<_>>>()?);
    }
    let board = board();
    let nodes = rack.nodes.iter().map(|node| {
        json!({ "name": node.name, "role": "control-plane", "board": board, "address": node.address, "mac": node.mac })
    });
    whole["nodes"] = nodes.collect();
    Ok(whole)
}

fn absolute(project: &Project, written: &str) -> anyhow::Result<PathBuf> {
    Ok(std::path::absolute(project.path(written))?)
}
