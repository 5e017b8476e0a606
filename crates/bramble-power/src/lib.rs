//! Switches the power of boards: ports of PoE switches, smart plugs, slots of carrier boards, whatever a program switches, and
//! boards that wake up by themselves.

mod command;
mod credentials;
mod error;
mod snmp;
mod wake;
mod web;

use std::net::Ipv4Addr;
use std::time::Duration;

use bramble_spec::{Cluster, Control, ControlWay, MacAddr, Node, NodeName, PowerSwitch};
use tokio::time::{Instant, sleep};

pub use credentials::Credentials;
pub use error::{PowerError, Result};
pub use wake::wake;

/// How long a device may take until it says that it did what it was told.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a board stays without power when it is cycled: what its capacitors hold is used up then.
pub const CYCLE: Duration = Duration::from_secs(5);

/// What is known of the power of a board.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Reading {
    /// Whether it has power; `None` if that cannot be asked.
    pub on: Option<bool>,
    /// What it takes, in watts.
    pub watts: Option<f64>,
}

/// The power of one board.
#[derive(Debug, Clone)]
pub struct Outlet {
    /// The board's node.
    pub node: NodeName,
    /// What switches it.
    control: Control,
    /// The name of the device whose control it is.
    device: Option<String>,
    /// The outlet, port or slot of it.
    number: Option<String>,
    /// What lets one in there.
    credentials: Credentials,
    /// The board's own network card, and the broadcast address by which it is woken.
    card: Option<(MacAddr, Ipv4Addr)>,
}

impl Outlet {
    /// Gives what switches the power of a node; `None` if the cluster file names nothing.
    pub fn of(cluster: &Cluster, node: &Node, credentials: Credentials) -> Option<Outlet> {
        let PowerSwitch { control, device, outlet } = cluster.power_switch(node)?;
        Some(Outlet {
            node: node.name.clone(),
            control: control.clone(),
            device: device.map(str::to_owned),
            number: outlet.map(str::to_owned),
            credentials,
            card: node.mac.clone().map(|mac| (mac, cluster.network.subnet.broadcast())),
        })
    }

    /// Asks whether the board has power, and how much it takes.
    ///
    /// # Errors
    /// The device does not answer, lets nobody in, or has no such outlet.
    pub async fn read(&self) -> Result<Reading> {
        match &self.control.way {
            ControlWay::Snmp { host, mib } => snmp::read(self, host, *mib).await,
            ControlWay::Command(words) => command::read(self, words).await,
            ControlWay::WakeOnLan => Ok(Reading::default()),
            _ => web::read(self).await,
        }
    }

    /// Switches the board on or off, and waits until the device says so.
    ///
    /// # Errors
    /// As for [`Outlet::read`]; a device that takes the order and does not follow it.
    pub async fn set(&self, on: bool) -> Result<()> {
        match &self.control.way {
            ControlWay::Snmp { host, mib } => snmp::set(self, host, *mib, on).await?,
            ControlWay::Command(words) => command::set(self, words, on).await?,
            ControlWay::WakeOnLan => return wake::set(self, on).await,
            _ => web::set(self, on).await?,
        }
        let began = Instant::now();
        loop {
            match self.read().await?.on {
                Some(now) if now != on => {}
                _ => return Ok(()),
            }
            if began.elapsed() > PATIENCE {
                let what = if on { "on" } else { "off" };
                let said = format!(
                    "it was told to switch {} {what}, and says after {} s that it is not",
                    self.outlet_name(),
                    PATIENCE.as_secs()
                );
                return Err(PowerError::Refused { device: self.device(), said });
            }
            sleep(Duration::from_millis(250)).await;
        }
    }

    /// Takes the power away for [`CYCLE`].
    ///
    /// # Errors
    /// As for [`Outlet::set`].
    pub async fn cycle(&self) -> Result<()> {
        self.set(false).await?;
        sleep(CYCLE).await;
        self.set(true).await
    }

    /// Tells whether its device can be asked, and can switch it off.
    pub fn is_switched(&self) -> bool {
        self.control.way != ControlWay::WakeOnLan
    }

    /// Gives the outlet, port or slot, as the cluster file has it.
    pub fn number(&self) -> Option<&str> {
        self.number.as_deref()
    }

    /// Names the device as messages do: by its name in the cluster file and its address.
    pub fn device(&self) -> String {
        let by = match &self.control.way {
            ControlWay::Snmp { host, .. } => format!("SNMP at {host}"),
            ControlWay::Mikrotik(host) => format!("RouterOS at {host}"),
            ControlWay::TuringPi(host) => format!("the BMC at {host}"),
            ControlWay::Shelly(host) => format!("Shelly at {host}"),
            ControlWay::Tasmota(host) => format!("Tasmota at {host}"),
            ControlWay::Command(words) => words.first().cloned().unwrap_or_default(),
            ControlWay::WakeOnLan => "Wake-on-LAN".to_owned(),
        };
        match &self.device {
            Some(name) => format!("{name} ({by})"),
            None => by,
        }
    }

    fn outlet_name(&self) -> String {
        self.number.as_deref().map_or_else(|| "its outlet".to_owned(), |outlet| format!("outlet {outlet}"))
    }

    /// Gives the outlet, which must be said.
    fn outlet(&self) -> Result<&str> {
        self.number
            .as_deref()
            .ok_or_else(|| PowerError::NoOutlet { node: self.node.to_string(), device: self.device() })
    }

    fn no_such_outlet(&self) -> PowerError {
        PowerError::Refused {
            device: self.device(),
            said: format!("it has no {}, on which {} is said to be", self.outlet_name(), self.node),
        }
    }
}
