//! The CNI `routed`: all nodes share one Ethernet, so a route for each node's range of pods is all it takes. No
//! overlay, no daemon, nothing to download.

use std::net::Ipv4Addr;

use bramble_shell::Commands;
use bramble_spec::{Cluster, Node, NodeName, name_ranges};
use bramble_state::{Answer, Change, File, Kind, Names, Observation, Planner, Probe, Question, Resource, Unit};
use ipnet::Ipv4Net;
use serde_json::json;

use crate::template::fill;

const CONFLIST: &str = "/etc/cni/net.d/10-bramble.conflist";
const ROUTES: &str = "/etc/bramble/routes";
/// Routes that bramble made are known by this number (rtnetlink(7) leaves those above 4 to the user).
const PROTOCOL: u8 = 142;
/// The unit that keeps them.
pub(crate) const SERVICE: &str = "bramble-routes";
const UNIT: &str = "/etc/systemd/system/bramble-routes.service";

pub(crate) fn resources(cluster: &Cluster, node: &Node) -> Vec<Resource> {
    let Some(pods) = node.pods else { return Vec::new() };
    let conflist = json!({
        "cniVersion": "0.4.0",
        "name": "bramble",
        "plugins": [
            {
                "type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": false, "hairpinMode": true,
                "ipam": {
                    "type": "host-local",
                    "ranges": [[{ "subnet": pods.to_string() }]],
                    "routes": [{ "dst": "0.0.0.0/0" }],
                },
            },
            { "type": "portmap", "capabilities": { "portMappings": true } },
        ],
    });
    let ways = PodRoutes::new(cluster, node);
    let up: String = ways.ways.iter().map(|way| format!("    route {} {}\n", way.range, way.address)).collect();
    let ours: String = ways.ways.iter().map(|way| format!("{} ", way.range)).collect();
    // Pods keep their own addresses among themselves and towards the nodes. Nobody else, in the same network or not, knows
    // the way back to them.
    let mut members: Vec<Ipv4Addr> = cluster.members().map(|node| node.address).chain([cluster.network.api]).collect();
    members.sort_unstable();
    members.dedup();
    let members = members.iter().map(Ipv4Addr::to_string).collect::<Vec<_>>().join(", ");
    let (protocol, range) = (PROTOCOL.to_string(), pods.to_string());
    let whole = cluster.network.pods.to_string();
    let routes = [("ROUTES", up.as_str()), ("OURS", &ours), ("PROTOCOL", &protocol)];
    let ranges = [("PODS", range.as_str()), ("CLUSTER_PODS", &whole), ("MEMBERS", &members)];
    let script = fill(include_str!("routes.sh.in"), &[routes, ranges].concat());
    let unit = fill(include_str!("routes.service"), &[("SCRIPT", ROUTES)]);
    let text = serde_json::to_string_pretty(&conflist).unwrap_or_default();
    vec![
        Resource::File(File::new(CONFLIST, format!("{text}\n"))),
        Resource::File(File::new(ROUTES, script)),
        Resource::File(File::new(UNIT, unit)),
        Resource::Unit(Unit::new(SERVICE, vec![ROUTES.into(), UNIT.into()])),
        Resource::other(ways),
    ]
}

/// The way to the pods of another node.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Way {
    node: NodeName,
    range: Ipv4Net,
    address: Ipv4Addr,
}

/// The routes that a node has now. A unit that runs says nothing of them: whoever manages the network may have taken them away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PodRoutes {
    ways: Vec<Way>,
}

const TAG: &str = "pod-route";

/// Asks for the routes that bramble made: range and address each.
static QUESTION: Question = Question { name: TAG, write, records: &[(TAG, read)] };

fn write(_: &Names, script: &mut Commands) {
    let tail = "| while read -r r _ a _; do echo \"pod-route $r $a\"; done";
    script.call_with("ip -4 route show proto", [PROTOCOL.to_string()], tail);
}

fn read(record: &str, _: &mut Answer<'_>, seen: &mut Observation) -> Option<()> {
    let (range, address) = record.split_once(' ')?;
    seen.note(TAG, range, address);
    Some(())
}

impl PodRoutes {
    /// Those that a node should have.
    pub(crate) fn new(cluster: &Cluster, node: &Node) -> PodRoutes {
        let others = cluster.members().filter(|other| other.name != node.name);
        let way = |other: &Node| Some(Way { node: other.name.clone(), range: other.pods?, address: other.address });
        PodRoutes { ways: others.filter_map(way).collect() }
    }

    /// Names the nodes to whose pods there is no way, in ranges.
    pub(crate) fn missing(&self, seen: &Observation) -> Option<String> {
        let is_there = |way: &&Way| seen.noted(TAG, &way.range.to_string()) == Some(&way.address.to_string());
        let missing: Vec<&str> = self.ways.iter().filter(|way| !is_there(way)).map(|way| way.node.as_str()).collect();
        (!missing.is_empty()).then(|| name_ranges(missing))
    }
}

impl Kind for PodRoutes {
    fn ask(&self, probe: &mut Probe) {
        probe.ask(&QUESTION);
    }

    fn plan(&self, planner: &mut Planner<'_>) {
        // A unit that starts brings them.
        if !planner.seen().runs(SERVICE) || planner.restarts(&format!("{SERVICE}.service")) {
            return;
        }
        if let Some(nodes) = self.missing(planner.seen()) {
            let mut script = Commands::new();
            script.fixed("systemctl restart bramble-routes");
            planner.push(Change::new(format!("mend the routes to the pods of {nodes}"), Vec::new(), script));
        }
    }

    fn is_answered(&self, _: &Observation, asked: &Probe) -> bool {
        asked.asks(&QUESTION)
    }

    #[cfg(any(test, feature = "testing"))]
    fn satisfied(&self, node: &mut bramble_state::SatisfiedNode) {
        for way in &self.ways {
            node.record(format!("{TAG} {} {}", way.range, way.address));
        }
    }
}
