//! The distributions that have releases of their own: `k3s`, `k0s` and MicroK8s.

use std::collections::BTreeMap;

use super::{Resolver, is_http};
use crate::cluster::*;
use crate::de::{Spanned, nearest};
use crate::diagnostic::Span;
use crate::document::{K0sSection, K3sSection, MicroK8sSection};
use crate::k3s_flags::{K3S_AGENT_FLAGS, K3S_SERVER_FLAGS};
use crate::names::Release;

/// The minors whose flags of k3s bramble knows.
const MINORS: std::ops::RangeInclusive<u32> = 20..=36;
/// The minors whose k0s.yaml bramble knows, and 1.20 for the lab.
const K0S_MINORS: std::ops::RangeInclusive<u32> = 20..=36;
/// The minors of MicroK8s that have certificates instead of tokens, and 1.20 for the lab.
const MICROK8S_MINORS: std::ops::RangeInclusive<u32> = 20..=36;
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

impl Resolver<'_> {
    /// `whole` is the place of the section.
    pub(super) fn k3s(&mut self, section: K3sSection, whole: Span) -> Option<Distribution> {
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
        let server = self.settings(section.server, "server", K3S_SERVER_FLAGS);
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
    pub(super) fn k0s(&mut self, section: K0sSection, whole: Span) -> Option<Distribution> {
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
    pub(super) fn microk8s(&mut self, section: MicroK8sSection, whole: Span) -> Option<Distribution> {
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
        release: &Spanned<Release>,
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
            settings.insert(key, setting.value);
        }
        settings
    }
}
