//! Where the boards' power comes from.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A UPS that a server of Network UPS Tools watches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Ups {
    /// The UPS and its server, `ups@host` or `ups@host:port`.
    pub name: String,
    /// The user that may watch it.
    pub user: String,
    /// The file with the user's password, as written; without it, the password is `secret`.
    pub password_file: Option<String>,
}

/// How power is switched from afar.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Control {
    /// By what.
    pub way: ControlWay,
    /// The file with what lets one in, as written.
    pub credentials: Option<String>,
}

/// By what power is switched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ControlWay {
    /// A switch that is managed by SNMP, at `host` or `host:port`.
    Snmp {
        /// The switch.
        host: String,
        /// The tables that it has.
        mib: PoeMib,
    },
    /// The REST API of RouterOS 7, at an address or a web address.
    Mikrotik(String),
    /// The BMC of a Turing Pi 2, at an address or a web address.
    TuringPi(String),
    /// A plug or relay of Shelly, at an address or a web address.
    Shelly(String),
    /// A plug or relay with Tasmota, at an address or a web address.
    Tasmota(String),
    /// A program of this machine with its arguments.
    Command(Vec<String>),
    /// The packet that wakes a board, which no packet switches off.
    WakeOnLan,
}

/// The tables in which a switch tells of its PoE ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PoeMib {
    /// POWER-ETHERNET-MIB (RFC 3621).
    #[default]
    Rfc3621,
    /// TP-Link's own for JetStream and Omada (TPLINK-POWER-OVER-ETHERNET-MIB).
    TpLink,
    /// RFC 3621 with NETGEAR's watts of each port.
    Netgear,
}

/// What switches the power of one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PowerSwitch<'c> {
    /// How.
    pub control: &'c Control,
    /// The name of the device whose control it is; `None` if it is the node's own.
    pub device: Option<&'c str>,
    /// The outlet, port or slot.
    pub outlet: Option<&'c str>,
}
