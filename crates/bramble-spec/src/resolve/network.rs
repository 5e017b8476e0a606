//! The section `network`: ranges, addresses, and how pods reach each other.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use super::resolver::Resolver;
use crate::cluster::{Cni, Wifi};
use crate::de::Spanned;
use crate::distribution::{Defaults, Distribution};
use crate::document::{NetworkSection, WifiSection};
use crate::hardware::AddressRange;
use crate::problem::Problem;

/// What the network section says, before the API's address is known.
pub(super) struct NetworkRanges {
    pub(super) subnet: Ipv4Net,
    pub(super) pods: Ipv4Net,
    pub(super) services: Ipv4Net,
    pub(super) gateway: Option<Ipv4Addr>,
    pub(super) dns: Vec<Ipv4Addr>,
    pub(super) dhcp: Option<AddressRange>,
    pub(super) pool: Option<Spanned<AddressRange>>,
    pub(super) wifi: Option<Wifi>,
    pub(super) cni: Cni,
    pub(super) cni_manifest: Option<String>,
    pub(super) api: Option<Spanned<Ipv4Addr>>,
}

impl NetworkRanges {
    /// The node's /24 of the pods' range, chosen by its number within the subnet: 10.0.0.51 has 10.244.51.0/24. It needs
    /// no allocator, so routes can be written before Kubernetes runs, and it never moves while the address stays.
    pub(super) fn pod_range(&self, address: Ipv4Addr) -> Option<Ipv4Net> {
        let number = u32::from(address).checked_sub(u32::from(self.subnet.network()))?;
        let base = u32::from(self.pods.network()).checked_add(number.checked_mul(256)?)?;
        let range = Ipv4Net::new(Ipv4Addr::from(base), 24).ok()?;
        self.pods.contains(&range).then_some(range)
    }
}

impl Resolver<'_> {
    fn wifi(&mut self, section: Spanned<WifiSection>) -> Option<Wifi> {
        let whole = section.span;
        let WifiSection { country, ssid, password } = section.value;
        let Some(country) = country else {
            self.missing("country", whole, whole, "radio has other rules in each: `country: DE`");
            return None;
        };
        if country.value == "UK" {
            self.error("`UK` is not a country in the lists of radio", country.span, "the United Kingdom is GB");
        } else if country.value.len() != 2 || !country.value.bytes().all(|byte| byte.is_ascii_uppercase()) {
            self.error(
                format!("`{}` is not a country", country.value),
                country.span,
                "write its two capital letters, such as DE",
            );
        }
        let join = match (ssid, password) {
            (Some(ssid), Some(password)) => {
                // IEEE 802.11, 9.4.2.2; control characters would break the files in which it is written.
                if ssid.value.is_empty() || ssid.value.len() > 32 || !ssid.value.chars().all(is_text) {
                    self.error(
                        "this is no name of a Wi-Fi",
                        ssid.span,
                        "it has 1 to 32 bytes, none of them of a control character",
                    );
                }
                Some((ssid.value, password.value))
            }
            (Some(_), None) if self.has_skipped(whole) => None,
            (Some(ssid), None) => {
                self.error(
                    format!("the Wi-Fi `{}` has no password", ssid.value),
                    ssid.span,
                    "name the file that has it: `password: wifi.txt`",
                );
                None
            }
            (None, Some(password)) => {
                self.error("a password of no Wi-Fi", password.span, "add its name: `ssid: …`");
                None
            }
            (None, None) => None,
        };
        Some(Wifi { country: country.value, join })
    }

    fn range(&mut self, what: &str, text: &Spanned<String>) -> Option<Ipv4Net> {
        let help = "write it like 10.0.0.0/24";
        let Ok(net) = text.value.parse::<Ipv4Net>() else {
            self.error(format!("{what}: `{}` is not an IPv4 network", text.value), text.span, help);
            return None;
        };
        if net.trunc() != net {
            self.error(
                format!("{what}: {net} has bits behind its prefix"),
                text.span,
                format!("the network is {}", net.trunc()),
            );
        }
        Some(net.trunc())
    }

    /// A range of addresses within the subnet.
    fn addresses(&mut self, what: &str, text: &Spanned<String>, subnet: Ipv4Net) -> Option<Spanned<AddressRange>> {
        let Some(range) = AddressRange::parse(&text.value) else {
            self.error(
                format!("{what}: `{}` is not a range of addresses", text.value),
                text.span,
                "write the first and the last, like 10.0.0.200-10.0.0.220",
            );
            return None;
        };
        if !subnet.contains(&range.first) || !subnet.contains(&range.last) {
            self.error(
                format!("{what}: {range} is not within the subnet {subnet}"),
                text.span,
                "choose addresses inside",
            );
            return None;
        }
        Some(Spanned { value: range, span: text.span })
    }

    pub(super) fn network(
        &mut self,
        section: Spanned<NetworkSection>,
        distribution: Option<&Distribution>,
    ) -> Option<NetworkRanges> {
        let whole = section.span;
        let section = section.value;
        if section.subnet.is_none() {
            self.missing("subnet", whole, whole, "give the nodes' network: `subnet: 10.0.0.0/24`");
        }
        let subnet = section.subnet.as_ref().and_then(|text| self.range("subnet", text));
        let Defaults { pods, services, cni } = distribution.map(Distribution::defaults).unwrap_or_default();
        let pods = match &section.pods {
            Some(text) => self.range("pods", text),
            None => Some(pods),
        };
        let services = match &section.services {
            Some(text) => self.range("services", text),
            None => Some(services),
        };
        let (subnet, pods, services) = (subnet?, pods?, services?);
        let span = |text: &Option<Spanned<String>>| text.as_ref().map(|text| text.span);
        let ranges = [
            ("the nodes' subnet", subnet, span(&section.subnet)),
            ("the pods' range", pods, span(&section.pods)),
            ("the services' range", services, span(&section.services)),
        ];
        for (i, a) in ranges.iter().enumerate() {
            for b in &ranges[i + 1..] {
                if a.1.contains(&b.1) || b.1.contains(&a.1) {
                    let at = b.2.or(a.2).unwrap_or(whole);
                    let mut d = Problem::error(format!("{} {} and {} {} overlap", a.0, a.1, b.0, b.1), at)
                        .next("choose ranges that have no address in common, such as 10.244.0.0/16 and 10.96.0.0/12");
                    if let (Some(_), Some(other)) = (b.2, a.2) {
                        d = d.with(other, format!("overlaps {}", a.1));
                    }
                    self.found.push(d);
                }
            }
        }
        let cni = section.cni.as_ref().map_or(cni, |cni| cni.value);
        if let (Some(written), Some(distribution)) = (&section.cni, distribution)
            && let Some((message, help)) = distribution.refuses(cni)
        {
            self.error(message, written.span, help);
        }
        // A node's number within the subnet chooses its /24 of the pods' range.
        let routed = cni == Cni::Routed && matches!(distribution, Some(Distribution::Kubeadm(_)));
        if routed && pods.prefix_len() + (32 - subnet.prefix_len()) > 24 {
            self.error(
                format!("the pods' range {pods} is too small for a /24 for each address of {subnet}"),
                section.pods.as_ref().or(section.subnet.as_ref()).map_or(whole, |text| text.span),
                format!(
                    "with cni `routed` and this subnet, use a pods' range of /{} or larger",
                    (subnet.prefix_len() as i32 - 8).max(1)
                ),
            );
        }
        if (cni == Cni::Routed || !matches!(distribution, Some(Distribution::Kubeadm(_)) | None))
            && let Some(manifest) = &section.cni_manifest
        {
            self.error(
                "this network has no manifest",
                manifest.span,
                "remove `cni_manifest`; it goes with `kubeadm` and the cni `flannel` or `calico`",
            );
        }
        let api = section.api.as_ref().and_then(|text| match text.value.parse::<Ipv4Addr>() {
            Ok(address) if subnet.contains(&address) => Some(Spanned { value: address, span: text.span }),
            Ok(address) => {
                self.error(
                    format!("the API's address {address} is outside of {subnet}"),
                    text.span,
                    "choose one inside",
                );
                None
            }
            Err(_) => {
                self.error(format!("`{}` is not an IPv4 address", text.value), text.span, "write it like 10.0.0.50");
                None
            }
        });
        let cni_manifest = section.cni_manifest.map(|m| m.value);
        let gateway = section.gateway.as_ref().and_then(|text| match text.value.parse::<Ipv4Addr>() {
            Ok(address) if subnet.contains(&address) => Some(address),
            _ => {
                self.error(
                    format!("the gateway `{}` is no address in {subnet}", text.value),
                    text.span,
                    "give the router's address in the nodes' subnet",
                );
                None
            }
        });
        let mut dns = Vec::new();
        for text in &section.dns {
            match text.value.parse::<Ipv4Addr>() {
                Ok(address) => dns.push(address),
                Err(_) => self.error(
                    format!("`{}` is not an IPv4 address", text.value),
                    text.span,
                    "give the address of a name server",
                ),
            }
        }
        if dns.is_empty() {
            dns.extend(gateway);
        }
        let wifi = section.wifi.and_then(|section| self.wifi(section));
        let dhcp = section.dhcp.as_ref().and_then(|text| self.addresses("dhcp", text, subnet));
        let pool = section.pool.as_ref().and_then(|text| self.addresses("pool", text, subnet));
        if let (Some(dhcp), Some(pool)) = (&dhcp, &pool)
            && dhcp.value.overlaps(&pool.value)
        {
            self.found.push(
                Problem::error(
                    format!(
                        "the services' addresses {} are among those that the router hands out, {}",
                        pool.value, dhcp.value
                    ),
                    pool.span,
                )
                .with(dhcp.span, "handed out by the router")
                .next("choose addresses that nobody else gives away"),
            );
        }
        for (what, address) in [("gateway", gateway), ("API", api.as_ref().map(|api| api.value))] {
            if let (Some(pool), Some(address)) = (&pool, address)
                && pool.value.contains(address)
            {
                self.error(
                    format!("the services' addresses {} hold that of the {what}, {address}", pool.value),
                    pool.span,
                    "choose addresses that nobody has",
                );
            }
        }
        let dhcp = dhcp.map(|dhcp| dhcp.value);
        Some(NetworkRanges { subnet, pods, services, gateway, dns, dhcp, pool, wifi, cni, cni_manifest, api })
    }
}

/// Tells whether a character can stand in a YAML file (YAML 1.2, 5.1).
fn is_text(letter: char) -> bool {
    !letter.is_control() && u32::from(letter) & 0xfffe != 0xfffe
}
