//! The section `distribution`, and what a distribution asks of other sections.

use std::collections::BTreeMap;

use super::resolver::Resolver;
use super::text::{has_control, is_http};
use crate::catalogue::Board;
use crate::cluster::Role;
use crate::de::{Spanned, nearest};
use crate::distribution::*;
use crate::k3s_flags::{K3S_AGENT_FLAGS, K3S_SERVER_FLAGS};
use crate::names::KubeVersion;
use crate::problem::{Problem, Span};

/// kubeadm's own preflight asks for 1700 MB on a control plane.
const KUBEADM_CONTROL_PLANE_MIB: u32 = 1700;
/// What an agent of k3s and a worker of k0s need at least; a controller of k0s needs twice as much (docs.k3s.io,
/// "Requirements"; docs.k0sproject.io, "System requirements").
const SMALL_MIB: u32 = 512;
/// What MicroK8s needs at least (microk8s.io, "Getting started").
const MICROK8S_MIB: u32 = 540;
/// Where the Kubernetes project publishes Debian packages (kubernetes.io, "Installing kubeadm").
const KUBERNETES_APT: &str = "https://pkgs.k8s.io/core:/stable:/v{minor}/deb/";
/// The range of minors whose kubeadm configuration bramble knows.
const KUBEADM_MINORS: std::ops::RangeInclusive<u32> = 28..=37;

/// The minors whose flags of k3s bramble knows.
const MINORS: std::ops::RangeInclusive<u32> = 28..=37;
/// The minors whose k0s.yaml bramble knows.
const K0S_MINORS: std::ops::RangeInclusive<u32> = 28..=37;
/// The minors of MicroK8s that have certificates instead of tokens.
const MICROK8S_MINORS: std::ops::RangeInclusive<u32> = 28..=37;
/// What can be switched off (k3s, pkg/cli/cmds/server.go, `disable`).
const COMPONENTS: [&str; 6] = ["coredns", "local-storage", "metrics-server", "runtimes", "servicelb", "traefik"];
/// Settings that follow from the cluster file, each with where they are said there.
const OURS: &[(&str, &str)] = &[
    ("agent-token", "bramble makes the tokens"),
    ("agent-token-file", "bramble makes the tokens"),
    ("cluster-cidr", "say `network: { pods: … }`"),
    ("cluster-dns", "it follows from `network: { services: … }`"),
    ("cluster-init", "say `datastore: etcd`"),
    ("cluster-reset", "`bramble restore` does this"),
    ("cluster-reset-restore-path", "`bramble restore` does this"),
    ("config", "bramble writes the configuration"),
    ("data-dir", "bramble looks after /var/lib/rancher/k3s"),
    ("disable", "say `disable: […]` beside `version`"),
    ("disable-agent", "every control plane is a node"),
    ("disable-apiserver", "every control plane has all programs"),
    ("disable-controller-manager", "every control plane has all programs"),
    ("disable-etcd", "every control plane has all programs"),
    ("disable-scheduler", "every control plane has all programs"),
    ("flannel-backend", "say `network: { cni: routed }` or `flannel`"),
    ("https-listen-port", "the API answers at 6443"),
    ("node-ip", "it is the node's `address`"),
    ("node-label", "say `labels:` of a node"),
    ("node-name", "it is the node's `name`"),
    ("node-taint", "say `taints:` of a node"),
    ("private-registry", "say `registries: FILE` beside `version`"),
    ("server", "say `network: { api: … }`"),
    ("service-cidr", "say `network: { services: … }`"),
    ("token", "bramble makes the tokens"),
    ("token-file", "bramble makes the tokens"),
    ("with-node-id", "nodes have the names of the cluster file"),
];

/// The setting of k3s' servers that says where the state is kept.
pub(super) const ENDPOINT: &str = "datastore-endpoint";
/// Settings of k3s' servers that are secrets.
const SECRETS: [&str; 3] = ["etcd-s3-secret-key", "etcd-s3-session-token", "vpn-auth"];
/// How it begins (kine, pkg/drivers).
const DATABASES: [&str; 6] = ["postgres://", "postgresql://", "mysql://", "nats://", "https://", "http://"];

impl Resolver<'_> {
    pub(super) fn distribution(&mut self, section: Spanned<DistributionSection>) -> Option<Distribution> {
        let kubeadm = match section.value {
            DistributionSection::Kubeadm(kubeadm) => kubeadm,
            DistributionSection::K3s(k3s) => return self.k3s(k3s, section.span),
            DistributionSection::K0s(k0s) => return self.k0s(k0s, section.span),
            DistributionSection::None => return Some(Distribution::None),
            DistributionSection::MicroK8s(microk8s) => return self.microk8s(microk8s, section.span),
            // This never comes out of the parser: reading it is the error.
            DistributionSection::OpenShift(_) => return None,
        };
        let Some(version) = kubeadm.version else {
            self.missing("version", section.span, section.span, "add `version: \"1.36\"`");
            return None;
        };
        if !KUBEADM_MINORS.contains(&version.value.minor) {
            self.error(
                format!("kubeadm {} is outside of what bramble knows", version.value),
                version.span,
                format!("versions 1.{} to 1.{} can be installed", KUBEADM_MINORS.start(), KUBEADM_MINORS.end()),
            );
        }
        let source = match kubeadm.source.map(|source| source.value) {
            None => KubeadmSource::Apt(self.apt(AptSection::default(), version.value)),
            Some(SourceSection::Apt(apt)) => KubeadmSource::Apt(self.apt(apt, version.value)),
            Some(SourceSection::Bundle(path)) => KubeadmSource::Bundle(path),
        };
        Some(Distribution::Kubeadm(Kubeadm { version: version.value, source }))
    }

    fn apt(&mut self, section: AptSection, version: KubeVersion) -> AptRepository {
        if let Some(url) = &section.url
            && !is_http(&url.value)
        {
            self.error(format!("`{}` is not a URL", url.value), url.span, "it starts with https:// or http://");
        }
        let url = section.url.map_or_else(|| KUBERNETES_APT.to_owned(), |url| url.value);
        let url = url.replace("{minor}", &format!("1.{}", version.minor));
        let url = if url.ends_with('/') { url } else { url + "/" };
        AptRepository { url, key: section.key.map(|key| key.value) }
    }

    /// `whole` is the place of the section.
    fn k3s(&mut self, section: K3sSection, whole: Span) -> Option<Distribution> {
        let Some(version) = section.version else {
            self.missing("version", whole, whole, "add `version: stable`");
            return None;
        };
        self.release(&version, "k3s", "k3s", MINORS);
        let mirror = self.mirror(section.mirror);
        for component in &section.disable {
            if !COMPONENTS.contains(&component.value.as_str()) {
                self.error(
                    format!("k3s has no component `{}`", component.value),
                    component.span,
                    format!("it has: {}", COMPONENTS.join(", ")),
                );
            }
        }
        let endpoint = section.server.get(ENDPOINT).map(|setting| setting.span);
        let server = self.settings(section.server, "server", K3S_SERVER_FLAGS);
        let is_known = |setting: &Setting| match setting {
            Setting::One(text) | Setting::Secret(text) => DATABASES.iter().any(|scheme| text.starts_with(scheme)),
            _ => false,
        };
        if let (Some(span), Some(setting)) = (endpoint, server.get(ENDPOINT))
            && !is_known(setting)
        {
            let known = DATABASES.map(|scheme| format!("`{scheme}`")).join(", ");
            self.error(
                format!("`{ENDPOINT}` names no database that k3s can share"),
                span,
                format!("it begins with one of {known} (a web address is an etcd)"),
            );
        }
        let agent = self.settings(section.agent, "agent", K3S_AGENT_FLAGS);
        self.datastore = section.datastore;
        let mut disable: Vec<String> = section.disable.into_iter().map(|component| component.value).collect();
        disable.sort();
        disable.dedup();
        Some(Distribution::K3s(K3s {
            version: version.value,
            mirror,
            images: section.images,
            // Settled when the control planes are counted.
            datastore: Datastore::Etcd,
            disable,
            registries: section.registries.map(|file| file.value),
            server,
            agent,
        }))
    }

    /// `whole` is the place of the section.
    fn k0s(&mut self, section: K0sSection, whole: Span) -> Option<Distribution> {
        let Some(version) = section.version else {
            self.missing("version", whole, whole, "add `version: stable`");
            return None;
        };
        self.release(&version, "k0s", "k0s.", K0S_MINORS);
        if version.value.build().is_none() && version.value.minor().is_some() {
            self.error(
                format!("k0s has no channel for {}", version.value),
                version.span,
                "use `stable`, `latest`, or a release by its own name, such as v1.36.3+k0s.2",
            );
        }
        let mirror = self.mirror(section.mirror);
        Some(Distribution::K0s(K0s { version: version.value, mirror, images: section.images }))
    }

    /// `whole` is the place of the section.
    fn microk8s(&mut self, section: MicroK8sSection, whole: Span) -> Option<Distribution> {
        let Some(version) = section.version else {
            self.missing("version", whole, whole, "add `version: \"1.36\"`");
            return None;
        };
        self.release(&version, "MicroK8s", "r", MICROK8S_MINORS);
        if version.value.to_string() == "latest" {
            self.error(
                "MicroK8s has no channel `latest`",
                version.span,
                "use a minor such as \"1.36\", or `stable`, which goes to the next minor when that is stable",
            );
        }
        let mirror = self.mirror(section.mirror);
        Some(Distribution::MicroK8s(MicroK8s { version: version.value, mirror }))
    }

    fn mirror(&mut self, mirror: Option<Spanned<String>>) -> Option<String> {
        let mirror = mirror?;
        if !is_http(&mirror.value) {
            self.error(format!("`{}` is not a URL", mirror.value), mirror.span, "it starts with https:// or http://");
        }
        Some(mirror.value.trim_end_matches('/').to_owned())
    }

    /// Checks that a release is one of this distribution, and of a minor that is known. `own`: what begins the builds of
    /// its releases.
    fn release(
        &mut self,
        release: &Spanned<WantedRelease>,
        distribution: &str,
        own: &str,
        minors: std::ops::RangeInclusive<u32>,
    ) {
        if let Some(build) = release.value.build()
            && !build.starts_with(own)
        {
            self.error(
                format!("`{}` is not a release of {distribution}", release.value),
                release.span,
                format!("releases of {distribution} have `+{own}` in their names"),
            );
        }
        if let Some(minor) = release.value.minor()
            && !minors.contains(&minor)
        {
            self.error(
                format!("{distribution} {} is outside of what bramble knows", release.value),
                release.span,
                format!("versions 1.{} to 1.{} can be installed", minors.start(), minors.end()),
            );
        }
    }

    fn settings(
        &mut self,
        section: BTreeMap<String, Spanned<Setting>>,
        kind: &str,
        flags: &[&str],
    ) -> BTreeMap<String, Setting> {
        let mut settings = BTreeMap::new();
        for (key, setting) in section {
            if let Some((_, instead)) = OURS.iter().find(|(ours, _)| *ours == key) {
                self.error(format!("`{key}` is not for you to set"), setting.span, *instead);
            } else if !flags.contains(&key.as_str()) {
                let help = match nearest(&key, flags.iter().copied()) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("`k3s {kind} --help` lists its flags"),
                };
                self.error(format!("`k3s {kind}` has no flag `{key}`"), setting.span, help);
            }
            let value = match setting.value {
                Setting::File(file) => match (self.read)(&file) {
                    Ok(text) => {
                        let text = text.trim_start_matches('\u{feff}').trim_end_matches(['\r', '\n']);
                        if text.trim().is_empty() || has_control(text) {
                            let what = format!("{file}, the value of `{key}`, is not one line of text");
                            self.error(what, setting.span, "write the value into it, and nothing else");
                        }
                        Setting::Secret(text.to_owned())
                    }
                    Err(error) => {
                        self.error(
                            format!("cannot read {file}, the value of `{key}`: {error}"),
                            setting.span,
                            "its path begins at the cluster file",
                        );
                        continue;
                    }
                },
                Setting::One(text) if SECRETS.contains(&key.as_str()) => {
                    self.found.push(
                        Problem::warning(
                            format!("the value of `{key}` is a secret, and this file is no place for one"),
                            setting.span,
                        )
                        .next(format!("put it into a file that git ignores: `{key}: {{ file: secrets/{key} }}`")),
                    );
                    Setting::Secret(text)
                }
                value => value,
            };
            settings.insert(key, value);
        }
        settings
    }

    /// Settles where k3s keeps its state, now that the control planes are counted.
    pub(super) fn settle_datastore(&mut self, distribution: &mut Distribution, control_planes: usize) {
        let Distribution::K3s(k3s) = distribution else { return };
        let fits = if control_planes == 1 { Datastore::Sqlite } else { Datastore::Etcd };
        k3s.datastore = match self.datastore.take() {
            Some(asked) if k3s.server.contains_key(ENDPOINT) => {
                self.error(
                    format!("`{ENDPOINT}` says where the state is kept, and so does `datastore`"),
                    asked.span,
                    "remove one of them",
                );
                Datastore::External
            }
            None if k3s.server.contains_key(ENDPOINT) => Datastore::External,
            Some(Spanned { value: Datastore::Sqlite, span }) if control_planes > 1 => {
                self.error(
                    format!("SQLite cannot be shared by {control_planes} control planes"),
                    span,
                    "use `etcd`, or remove `datastore`",
                );
                fits
            }
            Some(asked) => asked.value,
            None => fits,
        };
    }

    /// Checks that the distribution loads archives of images.
    pub(super) fn archives(&mut self, archives: &[Spanned<String>], distribution: Option<&Distribution>) {
        if let (Some(Distribution::MicroK8s(_)), Some(first)) = (distribution, archives.first()) {
            self.error(
                "MicroK8s' images are not loaded from here",
                first.span,
                "`microk8s images import` on one node gives them to all",
            );
        }
    }

    pub(super) fn role(
        &mut self,
        node: &str,
        role: &Spanned<Role>,
        distribution: &Distribution,
        board: Option<&Board>,
        at: Option<Span>,
    ) {
        match (distribution, role.value) {
            (_, Role::Gateway) => {}
            (Distribution::None, Role::ControlPlane) => self.error(
                format!("{node}: without a distribution there is no control plane"),
                role.span,
                "use `worker`, or choose a distribution",
            ),
            (Distribution::Kubeadm(_), role) => {
                if let (Some(board), Some(memory)) = (board, board.and_then(|board| board.memory)) {
                    let span = at.unwrap_or_default();
                    if role == Role::ControlPlane && memory < KUBEADM_CONTROL_PLANE_MIB {
                        self.error(
                            format!("{node}: a {} has {memory} MiB, too little for a kubeadm control plane", board.name),
                            span,
                            format!("it needs {KUBEADM_CONTROL_PLANE_MIB} MiB; make it a worker, or use a board with 2 GB or more"),
                        );
                    } else if role == Role::Worker && memory < 1024 {
                        self.found.push(
                            Problem::warning(
                                format!("{node}: {memory} MiB leave little for pods beside kubelet and containerd"),
                                span,
                            )
                            .next("1 GB is the least that is useful"),
                        );
                    }
                }
            }
            (Distribution::K3s(_) | Distribution::K0s(_) | Distribution::MicroK8s(_), role) => {
                let (name, least) = match (distribution, role) {
                    (Distribution::K0s(_), Role::ControlPlane) => ("a controller of k0s", 2 * SMALL_MIB),
                    (Distribution::K0s(_), _) => ("k0s", SMALL_MIB),
                    (Distribution::MicroK8s(_), _) => ("MicroK8s", MICROK8S_MIB),
                    _ => ("k3s", SMALL_MIB),
                };
                if let Some((board, memory)) = board.and_then(|board| board.memory.map(|memory| (board, memory)))
                    && memory < least
                {
                    self.error(
                        format!("{node}: a {} has {memory} MiB, too little for {name}", board.name),
                        at.unwrap_or_default(),
                        format!("it needs {least} MiB"),
                    );
                }
            }
            (Distribution::None, Role::Worker) => {}
        }
    }
}
