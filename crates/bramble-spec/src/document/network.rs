//! The section `network`.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::cluster::Cni;
use crate::de::Spanned;

/// Addresses.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NetworkSection {
    /// The network of the nodes, such as 10.0.0.0/24.
    #[schemars(required)]
    pub(crate) subnet: Option<Spanned<String>>,
    /// The range of pod addresses; 10.244.0.0/16 if not given, and for MicroK8s its own 10.1.0.0/16.
    pub(crate) pods: Option<Spanned<String>>,
    /// The range of service addresses; 10.96.0.0/12 if not given, and for MicroK8s its own 10.152.183.0/24.
    pub(crate) services: Option<Spanned<String>>,
    /// The way out of the subnet: with it each board is told its address by its image, without it boards ask DHCP.
    pub(crate) gateway: Option<Spanned<String>>,
    /// Who resolves names for boards that are told their address; the gateway if not given.
    #[serde(default)]
    pub(crate) dns: Vec<Spanned<String>>,
    /// The addresses that the router hands out, as FIRST-LAST.
    pub(crate) dhcp: Option<Spanned<String>>,
    /// The addresses that services get from a load balancer, as FIRST-LAST.
    pub(crate) pool: Option<Spanned<String>>,
    /// The Wi-Fi that boards are in, if they are not on Ethernet.
    pub(crate) wifi: Option<Spanned<WifiSection>>,
    /// How pods reach each other; `routed` if not given, and `calico` for MicroK8s.
    pub(crate) cni: Option<Spanned<Cni>>,
    /// The manifest of the CNI, a URL or a file, instead of the one its project publishes.
    pub(crate) cni_manifest: Option<Spanned<String>>,
    /// The address of the Kubernetes API if it is not that of the first control plane: a free one of the subnet moves
    /// to a control plane whose API answers.
    pub(crate) api: Option<Spanned<String>>,
}

/// A Wi-Fi, which boards join at their first boot.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct WifiSection {
    /// The country whose rules for radio hold, by its two letters, such as DE.
    #[schemars(required)]
    pub(crate) country: Option<Spanned<String>>,
    /// Its name. Without one, only the country is set.
    pub(crate) ssid: Option<Spanned<String>>,
    /// A file with its passphrase, or with its key in 64 hexadecimal digits.
    pub(crate) password: Option<Spanned<String>>,
}
