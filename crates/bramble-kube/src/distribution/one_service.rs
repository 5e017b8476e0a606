//! Distributions that are one program under one service: what they share.

use bramble_shell::Commands;
use bramble_spec::{Node, WantedRelease};
use bramble_state::{Blob, BlobSource, File, Observation, Resource, Step, Unit};

use crate::files::Archive;
use crate::inputs::Inputs;
use crate::lifecycle::{Lifecycle, MEMBER, VERSION};

/// Starts the service again: it is then what lies there now. `on`: what scripts on the node begin with.
pub(crate) fn restart(mut on: Commands) -> Commands {
    on.fixed("service_runs restart");
    on
}

/// Gives the last step of an upgrade: it starts the service again.
pub(crate) fn upgrade(life: &dyn Lifecycle, node: &Node, on: Commands) -> Step {
    Step {
        id: VERSION,
        title: format!("upgrade {} to {} {} (restart its service)", node.name, life.name(), life.version()),
        version: life.version(),
        apply: restart(on),
        undo: None,
    }
}

/// Gives the version of the release that was chosen; before that, what the cluster file says.
pub(crate) fn version(inputs: &Inputs, wanted: &WantedRelease) -> String {
    inputs.release.as_ref().map_or_else(|| wanted.to_string(), |release| release.version.clone())
}

/// Gives the archives of images that every node gets, in the folder from which a distribution loads all that it finds.
pub(crate) fn archives(inputs: &Inputs, folder: &str) -> Vec<Resource> {
    let blob = |archive: &Archive| {
        let name = archive.images.first().map_or("", |(name, _)| name);
        let plain: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
        Resource::Blob(Blob {
            path: format!("{folder}/bramble-{plain}.tar"),
            sha256: archive.sha256.clone(),
            mode: "644".into(),
            source: BlobSource::Upload(archive.path.clone()),
        })
    };
    inputs.archives.iter().map(blob).collect()
}

/// Gives the kubectl that a distribution's own program has in it, under its own name.
pub(crate) fn kubectl(program: &str) -> Resource {
    let text = format!("#!/bin/sh\n# Written by bramble.\nexec {program} kubectl \"$@\"\n");
    Resource::File(File { mode: "755".into(), ..File::new("/usr/local/bin/kubectl", text) })
}

/// Gives the distribution's one service. Before its node is a member there is nobody that it could run with.
pub(crate) fn service(name: &str, reads: Vec<String>, seen: &Observation) -> Resource {
    Resource::Unit(Unit { running: seen.done(MEMBER).is_some(), ..Unit::new(name, reads) })
}
