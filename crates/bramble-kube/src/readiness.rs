//! What must be true before the next stage, asked on a control plane.

use std::collections::BTreeSet;
use std::time::Duration;

use bramble_shell::{Commands, Script};
use bramble_spec::Cluster;

use crate::addon::Rendered;
use crate::distribution::keepalived;
use crate::lifecycle::Lifecycle;

/// The silence of scripts that wait for something on the cluster, by themselves for three minutes at most.
const WAITING: Duration = Duration::from_secs(5 * 60);

/// Gives the script that waits until every node of the cluster is Ready and every pod of the system runs. It fails with
/// what is not.
pub fn ready_script(cluster: &Cluster, life: &dyn Lifecycle) -> Script {
    let mut script = library(life);
    script.fixed(include_str!("rolling.sh")).fixed(include_str!("power.sh"));
    script.fixed("api_answers 120\nuncordon_left");
    adopt(&mut script, cluster, 120);
    script.fixed("echo '@fact gate nodes-appeared'");
    script.call("nodes_ready", cluster.members().map(|node| node.name.as_str())).fixed("in_service\nsystem_ready");
    if keepalived::wanted(cluster) {
        script.call("address_answers", [cluster.network.api.to_string(), life.api_port().to_string()]);
    }
    Script::new("wait until all nodes are Ready and the pods of the system run", &script).silent_for(WAITING)
}

/// The fact of [`health_script`] that names something that is not as it should be.
pub const UNREADY: &str = "unready";

/// The fact of [`health_script`] that names an object of an add-on, as [`Rendered::keys`](crate::Rendered::keys) do.
pub const OBJECT: &str = "object";
/// The fact of [`health_script`] that says that there are no other ones.
pub const OBJECTS: &str = "objects";

/// Gives the script that tells whether a control plane's API answers now, as the fact [`ANSWERS`](crate::ANSWERS), and
/// what is not as it should be, as facts [`UNREADY`], the records of nodes, as facts [`RECORD`](crate::RECORD) and
/// [`SERVICE`](crate::SERVICE), and what there is of add-ons, if any are given, as facts [`OBJECT`]
/// and [`OBJECTS`]. It waits for nothing, and succeeds where there is no cluster yet.
pub fn health_script(cluster: &Cluster, life: &dyn Lifecycle, addons: &[Rendered]) -> Script {
    let kinds: BTreeSet<String> = addons.iter().flat_map(Rendered::kinds).collect();
    let kinds = kinds.into_iter().collect::<Vec<_>>().join(",");
    let mut script = life.kubectl();
    script.fixed(include_str!("records.sh")).fixed(include_str!("health.sh"));
    let nodes = cluster.members().map(|node| node.name.as_str());
    script.call("tell_health", std::iter::once(kinds.as_str()).chain(nodes));
    Script::new("ask the API how the cluster is", &script).silent_for(Duration::from_secs(60))
}

fn library(life: &dyn Lifecycle) -> Commands {
    let mut script = life.kubectl();
    script.fixed(include_str!("readiness.sh"));
    script
}

/// Waits until the nodes have registered, so many seconds for each, and gives them their ranges of pods.
fn adopt(script: &mut Commands, cluster: &Cluster, patience: u32) {
    for node in cluster.members() {
        let range = node.pods.map_or_else(String::new, |pods| pods.to_string());
        script.call("adopt", [node.name.as_str(), &range, &patience.to_string()]);
    }
}

/// Gives the script that does this beside the joins, so that a node is Ready as soon as it has joined.
pub fn adopt_script(cluster: &Cluster, life: &dyn Lifecycle) -> Script {
    let mut script = library(life);
    adopt(&mut script, cluster, 20);
    Script::new("give the nodes their ranges of pods", &script)
}

/// Gives the script that takes the pods off the workers before the cluster goes; best effort, bounded in time.
pub fn drain_script(cluster: &Cluster, life: &dyn Lifecycle) -> Script {
    let mut script = library(life);
    script.call("drain_all", cluster.members().map(|node| node.name.as_str()));
    // A minute for each, without a word.
    let members = u64::try_from(cluster.members().count()).unwrap_or(u64::MAX);
    Script::new("end the pods", &script).silent_for(WAITING + Duration::from_secs(members.saturating_mul(60)))
}

/// The fact of [`forget_tokens_script`] that says that the tokens are removed.
pub const TOKENS: &str = "tokens";

/// Gives the script that forgets tokens that bramble made: nothing needs them when all nodes have joined. It says so, as
/// the fact [`TOKENS`].
pub fn forget_tokens_script(life: &dyn Lifecycle) -> Script {
    let mut script = life.kubectl();
    script.fixed("forget_tokens\necho '@fact tokens removed'");
    Script::new("remove the join tokens", &script)
}
