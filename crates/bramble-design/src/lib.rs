//! The hardware plan: what a cluster draws, carries, wears out and costs, from the cluster file alone.
//!
//! [`Design::of`] is a pure function of a [`Cluster`]: figures of every node and device, and [`Problem`]s. What is not
//! known of a part counts as nothing and is said. All sums are of whole milliwatts, bits per second and cents.

mod addresses;
mod bill;
mod compare;
mod heat;
mod memory;
mod network;
mod page;
mod picture;
mod power;
mod rules;
mod single;
mod storage;
mod system;

use bramble_spec::{Cluster, Problem, Severity};
use serde::Serialize;

pub use addresses::{AddressPlan, Claim};
pub use bill::{Alternative, Bill, BillLine};
pub use compare::{Comparison, Row, Summary};
pub use memory::Capacity;
pub use network::{Port, Traffic};
pub use page::page;
pub use picture::{Theme, network as network_picture, rack as rack_picture, wiring as wiring_picture};
pub use power::{Consumer, Draw, Source, of_node as node_draw};
pub use rules::Rule;
pub use single::SinglePoint;

use rules::Findings;

/// What follows from the hardware of a cluster.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Design {
    /// What each node draws, in the order of the cluster's nodes.
    pub draws: Vec<Draw>,
    /// What each device gives, in the order of the cluster's devices.
    pub sources: Vec<Source>,
    /// What each device carries, in the same order.
    pub traffic: Vec<Traffic>,
    /// The link of each node.
    pub ports: Vec<Port>,
    /// What is left for workloads on each node.
    pub capacity: Vec<Capacity>,
    /// The addresses of the subnet.
    pub addresses: AddressPlan,
    /// What takes the cluster, or a part of it, down when it fails.
    pub single_points: Vec<SinglePoint>,
    /// What all draws together, the devices themselves included.
    pub total: Draw,
    /// What was found, the worst first.
    pub findings: Vec<Problem>,
}

impl Design {
    /// Looks at everything.
    pub fn of(cluster: &Cluster) -> Design {
        let mut findings = Findings::new(cluster);
        let draws: Vec<Draw> = cluster.nodes.iter().map(power::of_node).collect();
        let sources = power::sources(cluster, &draws, &mut findings);
        let total = power::total(cluster, &draws);
        let traffic = network::traffic(cluster, &mut findings);
        let ports = network::ports(cluster, &mut findings);
        let capacity = memory::capacity(cluster, &mut findings);
        storage::check(cluster, &mut findings);
        heat::check(cluster, &mut findings);
        system::check(cluster, &mut findings);
        let addresses = addresses::plan(cluster, &mut findings);
        let single_points = single::points(cluster);
        let findings = findings.sorted();
        Design { draws, sources, traffic, ports, capacity, addresses, single_points, total, findings }
    }

    /// Whether something was found that must not be.
    pub fn fails(&self) -> bool {
        self.findings.iter().any(|finding| finding.severity == Severity::Error)
    }
}
