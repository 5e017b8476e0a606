//! The section `addons`.

use std::collections::BTreeMap;

use super::resolver::Resolver;
use super::text::{is_http, is_label_value, is_user_byte};
use crate::addon::*;
use crate::de::Spanned;
use crate::distribution::{Distribution, Kubeadm, KubeadmSource};
use crate::document::*;
use crate::problem::{Problem, Span};
use crate::published::*;

impl Resolver<'_> {
    pub(super) fn addons(
        &mut self,
        section: AddonsSection,
        distribution: Option<&Distribution>,
        pool: bool,
    ) -> Vec<Addon> {
        let mut all = Vec::new();
        let add = |all: &mut Vec<Addon>, name: &str, kind: AddonKind| all.push(Addon { name: name.to_owned(), kind });
        let k3s = match distribution {
            Some(Distribution::K3s(k3s)) => Some(k3s),
            _ => None,
        };
        let microk8s = matches!(distribution, Some(Distribution::MicroK8s(_)));
        // What the distribution brings under the same name would fight with ours over ports and classes.
        let brings = |this: &mut Self, component: &str, what: &str, span: Span| {
            if k3s.is_some_and(|k3s| !k3s.disable.iter().any(|known| known == component)) {
                this.error(
                    format!("k3s brings {what}"),
                    span,
                    format!(
                        "say `disable: [{component}]` beside k3s' `version` to have this one instead, or remove it here"
                    ),
                );
            }
        };
        let mirror = |section: UpstreamSection, own: &str| section.manifest.map_or_else(|| own.to_owned(), |m| m.value);
        if let Some(Spanned { value, span }) = section.dns {
            brings(self, "coredns", "a cluster DNS", span);
            let bundle =
                matches!(distribution, Some(Distribution::Kubeadm(Kubeadm { source: KubeadmSource::Bundle(_), .. })));
            if k3s.is_none() && !bundle {
                self.error(
                    "this distribution brings a cluster DNS",
                    span,
                    "remove `dns`; it is for bundles without one",
                );
            }
            add(&mut all, "dns", AddonKind::Dns(self.image_name(value.image, COREDNS_IMAGE)));
        }
        if let Some(Spanned { value, span }) = section.metallb {
            brings(self, "servicelb", "a load balancer of its own", span);
            if !pool {
                self.error(
                    "MetalLB has no addresses to give",
                    span,
                    "add some that nobody else gives away: `network: { pool: 10.0.0.240-10.0.0.250 }`",
                );
            }
            add(&mut all, "metallb", AddonKind::Metallb(mirror(value, METALLB)));
        }
        let ingresses = [section.traefik.as_ref().map(|s| s.span), section.ingress_nginx.as_ref().map(|s| s.span)];
        if let [Some(first), Some(second)] = ingresses {
            self.found.push(
                Problem::error("two ingresses want ports 80 and 443 of every node", second)
                    .with(first, "the first")
                    .next("keep one; traefik is looked after"),
            );
        }
        if let Some(Spanned { value, span }) = section.traefik {
            brings(self, "traefik", "Traefik", span);
            let image = self.image_name(value.image, TRAEFIK_IMAGE);
            let manifest = value.manifest.map_or_else(|| TRAEFIK_DEFINITIONS.to_owned(), |manifest| manifest.value);
            add(&mut all, "traefik", AddonKind::Traefik { image, manifest });
        }
        if let Some(Spanned { value, span }) = section.ingress_nginx {
            brings(self, "traefik", "Traefik, which has the same ports", span);
            self.found.push(
                Problem::warning("ingress-nginx is retired since March 2026: holes in it stay open", span)
                    .next("use `traefik`, which serves Ingress objects of the class nginx and understands most of their annotations"),
            );
            add(&mut all, "ingress-nginx", AddonKind::IngressNginx(mirror(value, INGRESS_NGINX)));
        }
        if let Some(Spanned { value, .. }) = section.cert_manager {
            let manifest = value.manifest.map_or_else(|| CERT_MANAGER.to_owned(), |manifest| manifest.value);
            add(&mut all, "cert-manager", AddonKind::CertManager { manifest, ca: value.ca.unwrap_or(true) });
        }
        if let Some(Spanned { value, span }) = section.local_path {
            brings(self, "local-storage", "these volumes", span);
            add(&mut all, "local-path", AddonKind::LocalPath(mirror(value, LOCAL_PATH)));
        }
        if let Some(Spanned { value, .. }) = section.longhorn {
            add(&mut all, "longhorn", AddonKind::Longhorn(mirror(value, LONGHORN)));
        }
        if let Some(Spanned { value, span }) = section.metrics_server {
            brings(self, "metrics-server", "metrics-server", span);
            add(&mut all, "metrics-server", AddonKind::MetricsServer(mirror(value, METRICS_SERVER)));
        }
        if let Some(Spanned { value, .. }) = section.monitoring {
            let monitoring = self.monitoring(value);
            add(&mut all, "monitoring", AddonKind::Monitoring(monitoring));
        }
        if let Some(Spanned { value, .. }) = section.accelerators {
            let image = self.image_name(value.image, DEVICE_PLUGIN_IMAGE);
            add(&mut all, "accelerators", AddonKind::Accelerators(image));
        }
        let mayastor = section.mayastor.map(|section| Spanned { value: "mayastor".to_owned(), span: section.span });
        if let Some(mayastor) = mayastor.as_ref().filter(|_| !microk8s) {
            self.error(
                "Mayastor is published as a Helm chart alone",
                mayastor.span,
                "use MicroK8s, which has it as an add-on, or `longhorn`; or render the chart into a folder for `own`",
            );
        }
        for addon in section.microk8s.into_iter().chain(mayastor.filter(|_| microk8s)) {
            if !microk8s {
                self.error(
                    "only MicroK8s has these add-ons",
                    addon.span,
                    "remove them, or use `distribution: microk8s`",
                );
                continue;
            }
            let (name, argument) = match addon.value.split_once(':') {
                Some((name, argument)) => (name, Some(argument.to_owned())),
                None => (addon.value.as_str(), None),
            };
            let plain = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._/:=,".contains(&b));
            if !self.plain_name("an add-on's name", name, addon.span) || !argument.as_deref().is_none_or(plain) {
                continue;
            }
            if name == "mayastor" && k3s.is_none() {
                self.found.push(
                    Problem::warning("Mayastor takes 2 GiB of huge pages and a core of every node", addon.span)
                        .next("it wants three nodes with 4 GB and a disk of their own at least"),
                );
            }
            let whole = format!("microk8s-{name}");
            if all.iter().any(|known| known.name == whole) {
                self.error(format!("`{name}` is named twice"), addon.span, "keep one of them");
                continue;
            }
            add(&mut all, &whole, AddonKind::MicroK8s { name: name.to_owned(), argument });
        }
        for (name, section) in section.own {
            let span = section.span;
            if !self.plain_name("an add-on's name", &name, span) {
                continue;
            }
            let ours = name == "limits" || ["storage-", "microk8s-"].iter().any(|start| name.starts_with(start));
            if ours || all.iter().any(|addon| addon.name == name) {
                self.error(format!("bramble has an add-on `{name}` itself"), span, "give yours another name");
            }
            let OwnSection { from, git, revision, path } = section.value;
            let source = match (from, git) {
                (Some(from), None) => OwnSource::From(from.value),
                (None, Some(git)) => {
                    if git.value.starts_with('-') || revision.as_ref().is_some_and(|r| r.value.starts_with('-')) {
                        self.error("this is no git repository", git.span, "give its URL");
                    }
                    if git.value.contains("://") && git.value.split('/').nth(2).is_some_and(|host| host.contains('@')) {
                        self.error(
                            "a name or a password in the URL would be read by everybody who reads bramble.lock",
                            git.span,
                            "leave it out, and let git's credential helper or an SSH key do this",
                        );
                    }
                    OwnSource::Git {
                        url: git.value,
                        revision: revision.map(|revision| revision.value),
                        path: path.map_or_else(|| ".".to_owned(), |path| path.value),
                    }
                }
                _ => {
                    self.error(
                        format!("`{name}` comes from one place"),
                        span,
                        "write `from: ./folder`, or `git: https://…` with `revision` and `path`",
                    );
                    continue;
                }
            };
            add(&mut all, &name, AddonKind::Own(source));
        }
        // The namespaces may be those of the others.
        if let Some(Spanned { value, .. }) = section.limits {
            let limits = self.limits(value);
            add(&mut all, "limits", AddonKind::Limits(limits));
        }
        if distribution == Some(&Distribution::None) && !all.is_empty() {
            self.error("add-ons live in Kubernetes, and there is none", Span::default(), "choose a distribution");
        }
        all
    }

    /// Names that become parts of the names of objects.
    pub(super) fn plain_name(&mut self, what: &str, name: &str, span: Span) -> bool {
        let good = is_label_value(name) && !name.is_empty() && name.len() <= 40;
        let good = good && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if !good {
            self.error(format!("`{name}` cannot be {what}"), span, "use lower-case letters, digits and `-`");
        }
        good
    }

    fn image_name(&mut self, image: Option<Spanned<String>>, own: &str) -> String {
        let Some(image) = image else { return own.to_owned() };
        if image.value.is_empty() || image.value.contains(char::is_whitespace) || is_http(&image.value) {
            self.error(
                format!("`{}` is no name of an image", image.value),
                image.span,
                "write it like quay.io/prometheus/prometheus:v3.5.0",
            );
        }
        image.value
    }

    fn monitoring(&mut self, section: MonitoringSection) -> Monitoring {
        let grafana = match section.grafana {
            Some(grafana) if grafana.value == "none" => None,
            grafana => Some(self.image_name(grafana, GRAFANA_IMAGE)),
        };
        let retention = section.retention.map_or_else(
            || "15d".to_owned(),
            |retention| {
                let number = retention.value.strip_suffix(['h', 'd', 'w', 'y']).unwrap_or_default();
                if !number.parse::<u32>().is_ok_and(|number| number > 0) {
                    self.error(
                        format!("`{}` is no time", retention.value),
                        retention.span,
                        "write it like 12h, 15d or 1y",
                    );
                }
                retention.value
            },
        );
        for manager in &section.alertmanagers {
            let host =
                manager.value.rsplit_once(':').filter(|(_, port)| port.parse::<u16>().is_ok_and(|port| port != 0));
            if !host.is_some_and(|(host, _)| !host.is_empty() && host.bytes().all(is_user_byte)) {
                self.error(
                    format!("`{}` is no host with its port", manager.value),
                    manager.span,
                    "write it like alertmanager.example.org:9093",
                );
            }
        }
        if let Some(class) = section.class.as_ref().filter(|class| class.value == "nfs") {
            self.found.push(
                Problem::warning("Prometheus does not support NFS (prometheus.io/docs, \"Storage\")", class.span)
                    .next("take a class of the node's own disk, such as `local-path`, or none"),
            );
        }
        let alertmanagers = section.alertmanagers.into_iter().map(|manager| manager.value).collect();
        Monitoring {
            prometheus: self.image_name(section.prometheus, PROMETHEUS_IMAGE),
            grafana,
            retention,
            size: section.size.map_or(2, |size| size.value.max(1)),
            class: section.class.map(|class| class.value),
            alertmanagers,
        }
    }

    fn limits(&mut self, section: LimitsSection) -> Limits {
        let mut spans = BTreeMap::new();
        let mut resources = |section: Option<BTreeMap<String, Spanned<String>>>, own: &[(&str, &str)]| match section {
            None => own.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
            Some(section) => {
                let mut found = BTreeMap::new();
                for (key, value) in section {
                    if !["cpu", "memory", "ephemeral-storage"].contains(&key.as_str()) {
                        self.error(
                            format!("`{key}` cannot be limited"),
                            value.span,
                            "use cpu, memory, ephemeral-storage",
                        );
                    } else if amount(&value.value).is_none() {
                        self.error(format!("`{}` is no amount", value.value), value.span, "write it like 50m or 64Mi");
                    }
                    spans.insert(key.clone(), value.span);
                    found.insert(key, value.value);
                }
                found
            }
        };
        let requests = resources(section.requests, &[("cpu", "50m"), ("memory", "64Mi")]);
        let limits = resources(section.limits, &[("memory", "256Mi")]);
        for (key, most) in &limits {
            let asked = requests.get(key);
            if let (Some(asked), Some(span)) = (asked, spans.get(key))
                && let (Some(less), Some(more)) = (amount(asked), amount(most))
                && less > more
            {
                self.error(
                    format!("{asked} of {key} would be reserved, and {most} be the most"),
                    *span,
                    "give `requests` less than `limits`",
                );
            }
        }
        for namespace in &section.namespaces {
            self.plain_name("a namespace", &namespace.value, namespace.span);
        }
        let mut namespaces: Vec<String> = section.namespaces.into_iter().map(|namespace| namespace.value).collect();
        if namespaces.is_empty() {
            namespaces.push("default".to_owned());
        }
        Limits { namespaces, requests, limits }
    }
}

/// How much an amount of Kubernetes' is (apimachinery, pkg/api/resource: digits, then a suffix); `None` if it is none.
fn amount(text: &str) -> Option<f64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let (base, power) = match &text[digits.len()..] {
        "" => (1.0, 0),
        "m" => (0.001, 1),
        "k" => (1e3, 1),
        "M" => (1e3, 2),
        "G" => (1e3, 3),
        "T" => (1e3, 4),
        "Ki" => (1024.0, 1),
        "Mi" => (1024.0, 2),
        "Gi" => (1024.0, 3),
        "Ti" => (1024.0, 4),
        _ => return None,
    };
    let number = digits.bytes().all(|b| b.is_ascii_digit() || b == b'.').then(|| digits.parse::<f64>().ok())??;
    Some(number * f64::powi(base, power))
}
