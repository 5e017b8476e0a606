//! containerd's configuration, which has another shape from version 2 on.

use bramble_spec::Cluster;
use bramble_state::{File, Observation, Resource};

use crate::bundle::Bundle;

pub(crate) const CONFIG: &str = "/etc/containerd/config.toml";
/// What bramble adds to its unit.
pub(crate) const DROP_IN: &str = "/etc/systemd/system/containerd.service.d/bramble.conf";
/// The folder in which it looks for what is said of registries.
pub(crate) const REGISTRIES: &str = "/etc/containerd/certs.d";

/// Writes the files that say where the images of registries come from, in the folder where a containerd looks for them;
/// it reads them whenever it pulls.
pub(crate) fn registry_files(cluster: &Cluster, folder: &str) -> Vec<Resource> {
    let file = |(registry, mirror): (&String, &String)| {
        Resource::File(File::new(format!("{folder}/{registry}/hosts.toml"), hosts(registry, mirror)))
    };
    cluster.registries.iter().map(file).collect()
}

/// Says where the images of a registry come from (containerd, docs/hosts.md); the registry itself is asked if the
/// mirror has nothing.
fn hosts(registry: &str, mirror: &str) -> String {
    let server = if registry == "docker.io" { "registry-1.docker.io" } else { registry };
    format!(
        "# Written by bramble.\nserver = \"https://{server}\"\n\n[host.\"{mirror}\"]\n  capabilities = [\"pull\", \"resolve\"]\n"
    )
}

/// Makes the system's unit run another containerd, with a client and a program beside each pod of its own; these are found
/// before the system's. systemd.service(5): an empty `ExecStart=` takes away what was there.
pub(crate) fn drop_in(program: &str) -> File {
    File::new(DROP_IN, format!("# Written by bramble.\n[Service]\nExecStart=\nExecStart={program}\n"))
}

/// Gives the version of a bundle's containerd, major and minor, or the one that is installed, or else the one that the
/// node's release would install (Debian 12 has 1.6, Debian 13 and Ubuntu up to 24.04 have 1.7).
pub(crate) fn version(seen: &Observation, bundle: Option<&Bundle>) -> (u32, u32) {
    let bundled = bundle.and_then(|bundle| bundle.manifest.containerd.as_deref());
    let installed = || ["containerd", "containerd.io"].iter().find_map(|name| seen.package_version(name));
    if let Some(version) = bundled.or_else(installed) {
        let version = version.split_once(':').map_or(version, |(_, rest)| rest);
        let mut numbers = version.split('.').map_while(|number| number.parse().ok());
        return (numbers.next().unwrap_or(1), numbers.next().unwrap_or(0));
    }
    let release: f64 = seen.facts.os_version.parse().unwrap_or(0.0);
    match seen.facts.os.as_str() {
        "ubuntu" if release > 24.04 => (2, 0),
        "debian" | "raspbian" if release > 13.0 => (2, 0),
        "debian" | "raspbian" if release < 13.0 => (1, 6),
        _ => (1, 7),
    }
}

/// Writes the configuration. Keys and places: containerd's docs/cri/config.md, for versions 1.7 and 2.x.
pub(crate) fn config(
    version: (u32, u32),
    pause: &str,
    systemd_cgroup: bool,
    cni_bin: &str,
    in_container: bool,
    registries: bool,
) -> String {
    let (format, cri, images) = match version.0 {
        0 | 1 => (2, "io.containerd.grpc.v1.cri", None),
        _ => (3, "io.containerd.cri.v1.runtime", Some("io.containerd.cri.v1.images")),
    };
    let mut text = format!("# Written by bramble.\nversion = {format}\n\n");
    if let Some(images) = images {
        text.push_str(&format!("[plugins.'{images}'.pinned_images]\n  sandbox = \"{pause}\"\n\n"));
    }
    if registries {
        let owner = images.unwrap_or(cri);
        text.push_str(&format!("[plugins.'{owner}'.registry]\n  config_path = \"{REGISTRIES}\"\n\n"));
    }
    text.push_str(&format!("[plugins.'{cri}']\n"));
    if images.is_none() {
        text.push_str(&format!("  sandbox_image = \"{pause}\"\n"));
    }
    if in_container {
        // A container may neither load AppArmor profiles nor lower its own OOM score.
        text.push_str("  disable_apparmor = true\n  restrict_oom_score_adj = true\n");
    }
    text.push_str(&format!(
        "\n[plugins.'{cri}'.containerd]\n  default_runtime_name = \"runc\"\n\n\
         [plugins.'{cri}'.containerd.runtimes.runc]\n  runtime_type = \"io.containerd.runc.v2\"\n\n\
         [plugins.'{cri}'.containerd.runtimes.runc.options]\n  SystemdCgroup = {systemd_cgroup}\n\n"
    ));
    // The list came with 2.1, and the single key is gone since (seen with 2.4.2, which looks into its own folder then).
    let folders = match version >= (2, 1) {
        true => format!("bin_dirs = [\"{cni_bin}\"]"),
        false => format!("bin_dir = \"{cni_bin}\""),
    };
    text.push_str(&format!("[plugins.'{cri}'.cni]\n  {folders}\n  conf_dir = \"/etc/cni/net.d\"\n"));
    text
}
