//! From what was told to its causes. It depends on nothing but its arguments.

use std::collections::{BTreeMap, BTreeSet};

use bramble_spec::{Distribution, Node, Role, Swap, name_ranges};
use bramble_state::Observation;

use super::{Case, Cause, Told, slowed_by_heat, throttled, warmer};
use crate::lifecycle::MEMBER;

/// Temperatures in degrees Celsius at which a Raspberry Pi slows down, and a little below (raspberrypi.com, "Frequency
/// management and thermal control").
const HOT: f64 = 80.0;
/// Percent of a file system from which on the kubelet evicts pods (its `nodefs.available<10%`), and programs fail.
const NEARLY_FULL: u32 = 90;
const FULL: u32 = 97;
/// Seconds that clocks may differ before certificates and tokens do not hold.
const CLOCK: i64 = 30;
/// Seconds that etcd's write to the disk may take on average (etcd.io, "Hardware recommendations": 10 ms).
const FSYNC: f64 = 0.05;

/// A node that answered, while its causes are gathered.
struct Asked<'a> {
    node: &'a Node,
    seen: &'a Observation,
    told: &'a Told,
    found: Vec<Cause>,
}

impl Asked<'_> {
    fn add(&mut self, broken: bool, kind: &'static str, what: String, evidence: Vec<String>, next: impl Into<String>) {
        let node = Some(self.node.name.clone());
        self.found.push(Cause { node, kind, what, evidence, next: next.into(), broken });
    }

    /// The lines of the kernel that have one of these words, each with how often it came.
    fn kernel(&self, words: &[&str]) -> Vec<String> {
        let has = |line: &str| {
            // Each line stands behind the number of times that it came.
            let line = format!(" {}", line.trim_start().to_ascii_lowercase());
            words.iter().any(|word| line.contains(word))
        };
        let told = |line: &str| {
            let line = line.trim_start();
            match line.split_once(' ') {
                Some(("1", text)) => format!("kernel: {text}"),
                Some((count, text)) if count.parse::<u32>().is_ok() => format!("kernel, {count} times: {text}"),
                _ => format!("kernel: {line}"),
            }
        };
        self.told.all("kernel").filter(|line| has(line)).take(3).map(told).collect()
    }
}

/// Finds what is the matter, the cause before what follows from it; broken things first.
pub fn causes(case: &Case<'_>) -> Vec<Cause> {
    let mut all = Vec::new();
    for asked in &case.nodes {
        match asked.answer {
            Err(why) => all.push(unreachable(asked.node, why)),
            Ok((seen, told)) => {
                let mut asked = Asked { node: asked.node, seen, told, found: Vec::new() };
                power(&mut asked);
                heat(&mut asked);
                disk(&mut asked);
                memory(&mut asked);
                clock(&mut asked);
                network(&mut asked, case);
                settings(&mut asked, case);
                programs(&mut asked, case);
                all.extend(asked.found);
            }
        }
    }
    all.extend(two_machines(case));
    cluster(case, &mut all);
    all.sort_by_key(|cause| !cause.broken);
    all
}

fn unreachable(node: &Node, why: &str) -> Cause {
    let (name, address) = (&node.name, node.address);
    let lower = why.to_ascii_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| lower.contains(word));
    let (kind, what, next) = if has(&["host key of", "keys have changed"]) && has(&["has changed"]) {
        (
            "replaced",
            format!("{name} is another board than before, or was flashed again"),
            format!("if that is so: `bramble up --replaced {name}`"),
        )
    } else if has(&["is not known yet"]) {
        (
            "unknown-key",
            format!("nobody has vouched for the host key of {name} yet"),
            "run bramble on a terminal, compare the key with the board's, and accept it".to_owned(),
        )
    } else if has(&["refuses connections"]) {
        (
            "no-sshd",
            format!("{name} is there, and its sshd does not run"),
            "look at its screen; it may still be starting".to_owned(),
        )
    } else if has(&["sudo "]) {
        ("sudo", format!("sudo on {name} does not do what is asked"), "try `sudo -v` there".to_owned())
    } else if has(&["said nothing for"]) {
        (
            "hung",
            format!("{name} lets one in and then says nothing: it hangs"),
            format!("cut its power; `bramble out {name}` meanwhile if it stays off"),
        )
    } else if has(&["is unreachable", "connection was lost"]) {
        (
            "unreachable",
            format!("nothing answers at {address}, where {name} should be"),
            format!(
                "power, cable, and the lights at its port; `bramble discover` finds it at another address; `bramble out {name}` if \
                 it stays off"
            ),
        )
    } else {
        (
            "login",
            format!("{name} does not let bramble in"),
            "compare `access:` of the cluster file with what is on the board".to_owned(),
        )
    };
    Cause { node: Some(name.clone()), kind, what, evidence: vec![format!("ssh: {why}")], next, broken: true }
}

fn power(asked: &mut Asked<'_>) {
    let bits = bits(asked.told);
    let mut evidence = asked.kernel(&["under-voltage", "undervoltage"]);
    if bits & 0x1_0001 != 0 {
        let when = if bits & 1 != 0 { "now" } else { "since it booted" };
        evidence.insert(0, format!("the firmware tells of under-voltage {when} (get_throttled 0x{bits:x})"));
    }
    if !evidence.is_empty() {
        let next = "a supply or PoE port that gives it enough, a short cable, no drives at its USB ports without power of their own; `bramble design` has the sum";
        asked.add(bits & 1 != 0, "under-voltage", "it gets too little power".into(), evidence, next);
    }
}

fn bits(told: &Told) -> u32 {
    told.first("throttled").and_then(throttled).unwrap_or(0)
}

fn heat(asked: &mut Asked<'_>) {
    let bits = bits(asked.told);
    let hottest = asked.told.all("temperature").fold(None, warmer).unwrap_or(0.0);
    let mut evidence = Vec::new();
    if hottest >= HOT {
        evidence.push(format!("{hottest:.0} °C"));
    }
    // What was once since the boot stands 16 bits higher.
    let [limited, once] = [bits, bits >> 16].map(slowed_by_heat);
    if limited != 0 || once != 0 {
        let when = if limited != 0 { "now" } else { "since it booted" };
        evidence.push(format!("the firmware has slowed it down {when} (get_throttled 0x{bits:x})"));
    }
    if !evidence.is_empty() {
        asked.add(
            hottest >= HOT || limited != 0,
            "heat",
            "it is too hot".into(),
            evidence,
            "a heat sink, a fan, or a place with air around it",
        );
    }
}

fn disk(asked: &mut Asked<'_>) {
    let failing = asked.kernel(&["i/o error", "ext4-fs error", " mmc", "nvme", "medium error", "remounting"]);
    let read_only = asked.seen.facts.root == bramble_state::Root::ReadOnly;
    if !failing.is_empty() || read_only {
        let what = if read_only { "its disk takes no writes any more" } else { "its disk fails" };
        let mut evidence = failing;
        if read_only {
            evidence.push("the root is mounted read-only".into());
        }
        let name = &asked.node.name;
        let next = format!(
            "save what you need, put another card or disk in (`bramble flash`), then `bramble up --replaced {name}`"
        );
        asked.add(true, "disk-failing", what.into(), evidence, next);
    }
    let mut full = Vec::new();
    let mut worst = 0;
    for line in asked.told.all("disk") {
        let words: Vec<&str> = line.split(' ').collect();
        let [used, free, inodes, place] = *words else { continue };
        let (used, inodes) = (used.parse().unwrap_or(0), inodes.parse().unwrap_or(0));
        if used >= NEARLY_FULL {
            let free: u64 = free.parse().unwrap_or(0);
            full.push(format!("{place} is {used} % full: {} MiB are free", free / 1024));
        }
        if inodes >= NEARLY_FULL {
            full.push(format!("{place} has used {inodes} % of its inodes"));
        }
        worst = worst.max(used).max(inodes);
    }
    // In the rack how full the disk is belongs to the machine below.
    if !full.is_empty() {
        let next =
            "`sudo du -xh / | sort -h | tail` names the largest; `crictl rmi --prune` removes images that nothing uses";
        asked.add(worst >= FULL, "disk-full", "its disk is nearly full".into(), full, next);
    }
}

fn memory(asked: &mut Asked<'_>) {
    let mut node: BTreeMap<String, u32> = BTreeMap::new();
    let mut pods: BTreeMap<String, u32> = BTreeMap::new();
    for line in asked.told.all("kernel").filter(|line| line.to_ascii_lowercase().contains("killed process")) {
        let line = line.trim_start();
        let count = line.split(' ').next().and_then(|count| count.parse().ok()).unwrap_or(1);
        let name = line.split('(').nth(1).and_then(|rest| rest.split(')').next()).unwrap_or("?");
        let of = if line.to_ascii_lowercase().contains("memory cgroup") { &mut pods } else { &mut node };
        *of.entry(name.to_owned()).or_default() += count;
    }
    let told = |killed: &BTreeMap<String, u32>| {
        killed.iter().map(|(name, count)| format!("since it booted the kernel killed {name} {count} times")).collect()
    };
    if !pods.is_empty() {
        let what = "containers reached their own memory limits".into();
        asked.add(
            false,
            "memory-limit",
            what,
            told(&pods),
            "give them higher limits, or look at what they need it for",
        );
    }
    if !node.is_empty() {
        let next =
            "give pods limits (`addons: { limits: … }`), run fewer of them there, or take a board with more memory";
        asked.add(true, "memory", "it ran out of memory".into(), told(&node), next);
        return;
    }
    if let (Some(total), Some(left)) =
        (asked.told.number("memory", "MemTotal"), asked.told.number("memory", "MemAvailable"))
        && left < total / 20.0
    {
        let evidence = vec![format!("{:.0} of {:.0} MiB are left", left / 1024.0, total / 1024.0)];
        asked.add(
            false,
            "memory",
            "it has hardly any memory left".into(),
            evidence,
            "`kubectl top pods -A` names who uses it",
        );
    }
}

fn clock(asked: &mut Asked<'_>) {
    let synchronized = asked.told.all("clock").any(|line| line == "NTPSynchronized=yes");
    if let Some(ahead) = asked.seen.facts.ahead.filter(|ahead| ahead.abs() > CLOCK) {
        let way = if ahead > 0 { "ahead of" } else { "behind" };
        let mut evidence = vec![format!("it is {} s {way} this machine's", ahead.abs())];
        if !synchronized {
            evidence.push("it hears of no time server (timedatectl)".into());
        }
        let next = "let it reach a time server (`timedatectl timesync-status`); a clock without a battery is wrong after each boot without a network";
        asked.add(true, "clock", "its clock is wrong, so certificates do not hold".into(), evidence, next);
    }
}

fn network(asked: &mut Asked<'_>, case: &Case<'_>) {
    let wired = asked.node.board.figure(|family| family.ethernet);
    let own = asked.seen.facts.addresses.iter().find(|(address, _)| *address == asked.node.address.to_string());
    let interface = own.map(|(_, interface)| interface.split('@').next().unwrap_or_default().to_owned());
    for line in asked.told.all("link").map(str::to_owned).collect::<Vec<_>>() {
        let words: Vec<&str> = line.split(' ').collect();
        let [link, _, speed] = *words else { continue };
        let speed: u64 = speed.parse().unwrap_or(0);
        let gigabit = wired.is_some_and(|rate| rate.to_string().contains("Gbps"));
        if interface.as_deref() == Some(link) && gigabit && (1..1000).contains(&speed) {
            let evidence = vec![format!("{link} runs at {speed} Mbit/s, and could at 1000")];
            asked.add(
                false,
                "slow-link",
                "its link is slow".into(),
                evidence,
                "another cable (all four pairs), another port of the switch",
            );
        }
    }
    match asked.told.first("gateway").map(|line| line.split_once(' ').unwrap_or((line, ""))) {
        Some(("none", _)) if case.cluster.network.gateway.is_some() || asked.node.role != Role::Gateway => {
            let evidence = vec!["`ip route` has no default".into()];
            asked.add(
                true,
                "gateway",
                "it has no way out of its network".into(),
                evidence,
                "the DHCP server, or the addresses on the board's disk, name no router",
            );
        }
        Some((router, state)) => {
            let wanted = case.cluster.network.gateway.map(|gateway| gateway.to_string());
            let behind = case.cluster.gateway().is_some();
            if let Some(wanted) = wanted
                .filter(|wanted| wanted != router && router != "link" && !behind && asked.node.role != Role::Gateway)
            {
                let evidence = vec![format!("its way out is {router}, the cluster file says {wanted}")];
                asked.add(
                    true,
                    "gateway",
                    "it has a wrong gateway".into(),
                    evidence,
                    "a second DHCP server on the network, or old settings on the board's disk",
                );
            } else if ["FAILED", "INCOMPLETE"].contains(&state) {
                let evidence = vec![format!("{router} does not answer (ip neigh: {state})")];
                asked.add(
                    true,
                    "gateway",
                    "its router does not answer".into(),
                    evidence,
                    "is the router on, and is that its address?",
                );
            }
        }
        None => {}
    }
    if let Some(line) = asked.told.first("name")
        && let [state, name, servers] = *line.split(' ').collect::<Vec<_>>()
        && state == "bad"
        // Without a way out no name server is reached, either.
        && !asked.found.iter().any(|cause| cause.kind == "gateway")
    {
        let servers = if servers == "-" { "none" } else { servers };
        let evidence = vec![format!("{name} is not found; its name servers: {servers}")];
        asked.add(
            true,
            "dns",
            "it finds no names".into(),
            evidence,
            "name servers that answer: `network: { dns: … }`, or those of the DHCP server",
        );
    }
}

fn settings(asked: &mut Asked<'_>, case: &Case<'_>) {
    if case.cluster.distribution == Distribution::None || asked.node.role == Role::Gateway {
        return;
    }
    let facts = &asked.seen.facts;
    if !facts.controllers.contains("memory") {
        asked.add(
            true,
            "cgroup",
            "it has no memory cgroup, so no pod starts".into(),
            vec!["the kernel's list of controllers lacks memory".into()],
            "`bramble up` sets it and boots it",
        );
    }
    if !facts.swaps.is_empty() {
        let evidence = vec![format!("in use: {}", facts.swaps.join(" "))];
        let next = match case.cluster.preparation.swap {
            Swap::Off => "`bramble up` turns it off for good",
            Swap::Keep => "the cluster file keeps it (`prepare: { swap: keep }`)",
        };
        asked.add(false, "swap", "it swaps".into(), evidence, next);
    }
    if let Some((path, left)) = asked.seen.first_certificate() {
        let days = left.div_euclid(24 * 3600);
        if days < 15 {
            let (what, evidence) = match days {
                ..0 => ("a certificate has ended", format!("{path} ended {} days ago", -days)),
                _ => ("a certificate ends soon", format!("{path} ends in {days} days")),
            };
            asked.add(days < 0, "certificate", what.into(), vec![evidence], "`bramble up` renews it");
        }
    }
    let known = case.report.as_ref().and_then(|report| report.as_ref().ok());
    let listed = known.is_some_and(|report| report.nodes.iter().any(|node| node.name == asked.node.name.as_str()));
    if asked.seen.done(MEMBER).is_none() && listed {
        let evidence = vec!["the API lists it, and nothing of Kubernetes is on the board".to_owned()];
        asked.add(
            true,
            "replaced",
            "it is another board than the one that was a member".into(),
            evidence,
            "`bramble up` lets it join in the old one's place",
        );
    }
}

fn programs(asked: &mut Asked<'_>, case: &Case<'_>) {
    if asked.seen.done(MEMBER).is_none() {
        return;
    }
    for line in asked.told.all("unit").map(str::to_owned).collect::<Vec<_>>() {
        let words: Vec<&str> = line.split(' ').collect();
        let [unit, active, sub, restarts, result] = *words else { continue };
        let again: u32 = restarts.parse().unwrap_or(0);
        if active == "active" && sub == "running" && again < 3 {
            continue;
        }
        let mut evidence = vec![format!("systemd: {active} ({sub}), started again {again} times, {result}")];
        let said =
            asked.told.all("said").filter_map(|said| said.strip_prefix(unit)).map(|said| format!("it said:{said}"));
        evidence.extend(said);
        let short = unit.trim_end_matches(".service");
        let runs = active == "active" && sub == "running";
        let what = if runs { format!("{short} starts again and again") } else { format!("{short} does not run") };
        asked.add(
            !runs,
            "program",
            what,
            evidence,
            format!("`journalctl -u {short}` on the board has all of it; `bramble up` starts it"),
        );
    }
    if asked.node.role == Role::ControlPlane && case.cluster.distribution.keeps_etcd() {
        etcd(asked);
    }
}

fn etcd(asked: &mut Asked<'_>) {
    let number = |name: &str| asked.told.number("etcd", name);
    if number("etcd_server_has_leader") == Some(0.0) {
        let evidence = vec!["etcd_server_has_leader 0".to_owned()];
        asked.add(
            true,
            "etcd-leader",
            "its etcd has no leader: too few control planes are there".into(),
            evidence,
            "bring the other control planes back; if they are lost for good, `bramble restore`",
        );
    }
    let sum = number("etcd_disk_wal_fsync_duration_seconds_sum");
    let count = number("etcd_disk_wal_fsync_duration_seconds_count").filter(|count| *count > 0.0);
    let mean = sum.zip(count).map(|(sum, count)| sum / count);
    let slow_lines = number("slow_lines").unwrap_or(0.0);
    if mean.is_some_and(|mean| mean > FSYNC) || slow_lines >= 20.0 {
        let mut evidence = Vec::new();
        evidence.extend(
            mean.map(|mean| format!("a write to the disk takes {:.0} ms on average, 10 are good", mean * 1000.0)),
        );
        if slow_lines > 0.0 {
            evidence.push(format!("etcd said {slow_lines:.0} times in ten minutes that something took too long"));
        }
        asked.add(
            false,
            "etcd-slow",
            "its disk is too slow for etcd".into(),
            evidence,
            "an SSD or NVMe drive for control planes (`bramble move-root`)",
        );
    }
}

/// One address at which nodes have heard two machines.
fn two_machines(case: &Case<'_>) -> Vec<Cause> {
    let mut heard: BTreeMap<&str, BTreeMap<&str, Vec<&str>>> = BTreeMap::new();
    for asked in &case.nodes {
        let Ok((seen, told)) = asked.answer else { continue };
        for line in told.all("neighbour") {
            if let [address, mac, state] = *line.split(' ').collect::<Vec<_>>()
                && mac != "-"
                // What it heard long ago may be of a board that is gone.
                && ["REACHABLE", "DELAY", "PROBE"].contains(&state)
            {
                heard.entry(address).or_default().entry(mac).or_default().push(asked.node.name.as_str());
            }
        }
        // A node knows itself.
        for (address, interface) in &seen.facts.addresses {
            if *address == asked.node.address.to_string()
                && let Some(mac) = seen.facts.macs.get(interface)
            {
                heard.entry(address).or_default().entry(mac).or_default().push(asked.node.name.as_str());
            }
        }
    }
    let ours: BTreeSet<String> = case.cluster.nodes.iter().map(|node| node.address.to_string()).collect();
    let two = heard.into_iter().filter(|(address, macs)| macs.len() > 1 && ours.contains(*address));
    two.map(|(address, macs)| {
        let by = macs.iter().map(|(mac, names)| format!("{mac}, as {} has it", name_ranges(names.iter().copied())));
        let node = case.cluster.nodes.iter().find(|node| node.address.to_string() == address);
        Cause {
            node: node.map(|node| node.name.clone()),
            kind: "two-machines",
            what: format!("two machines have the address {address}"),
            evidence: by.collect(),
            next: "find the other one (`bramble discover`), or give the node an address outside of the DHCP server's range".into(),
            broken: true,
        }
    })
    .collect()
}

fn cluster(case: &Case<'_>, all: &mut Vec<Cause>) {
    let report = match &case.report {
        None => return,
        Some(Err(why)) => {
            all.push(Cause {
                node: None,
                kind: "api",
                what: "the API does not answer".into(),
                evidence: vec![(*why).to_owned()],
                next: "the control planes' own causes come first; `bramble up` mends what it can".into(),
                broken: true,
            });
            return;
        }
        Some(Ok(report)) => report,
    };
    images(case, all);
    for node in &report.nodes {
        let Err(why) = &node.ready else { continue };
        let about = case.nodes.iter().find(|asked| asked.node.name.as_str() == node.name);
        // What was found on the node itself says it better.
        let explained =
            all.iter().any(|cause| cause.broken && cause.node.as_ref().is_some_and(|name| name.as_str() == node.name));
        if let (Some(asked), false) = (about, explained) {
            all.push(Cause {
                node: Some(asked.node.name.clone()),
                kind: "not-ready",
                what: "it is not Ready, and nothing on it tells why".into(),
                evidence: vec![why.clone()],
                next: format!("`bramble run -n {} --sudo 'journalctl -p warning -n 50'`", node.name),
                broken: true,
            });
        }
    }
}

/// Pods that cannot run, for what their containers or the scheduler say.
fn images(case: &Case<'_>, all: &mut Vec<Cause>) {
    let (mut pulls, mut crashes, mut pending) = (Vec::new(), Vec::new(), Vec::new());
    for line in case.pods.all("pod") {
        let [_, pod, _, waits, scheduled] = *line.split('\t').collect::<Vec<_>>() else { continue };
        let waits = waits.trim();
        if ["ErrImagePull", "ImagePullBackOff", "InvalidImageName"].iter().any(|why| waits.contains(why)) {
            pulls.push(format!("{pod}: {waits}"));
        } else if waits.contains("CrashLoopBackOff") {
            crashes.push(format!("{pod}: {waits}"));
        } else if !scheduled.is_empty() {
            pending.push(format!("{pod}: {scheduled}"));
        }
    }
    let kinds = [
        (
            "image",
            "images cannot be had",
            pulls,
            "`bramble image check` tells which fit; `registries:` names a mirror, `archives:` brings them along",
        ),
        ("crash", "pods end again and again", crashes, "`kubectl logs --previous` of each says why"),
        (
            "pending",
            "pods find no node",
            pending,
            "more nodes or memory, other selectors or taints; a board that died: `bramble out NODE`",
        ),
    ];
    for (kind, what, evidence, next) in kinds {
        if !evidence.is_empty() {
            let count = evidence.len();
            let mut evidence: Vec<String> = evidence.into_iter().take(5).collect();
            if count > 5 {
                evidence.push(format!("and {} more", count - 5));
            }
            all.push(Cause {
                node: None,
                kind,
                what: what.into(),
                evidence,
                next: next.into(),
                broken: kind != "crash",
            });
        }
    }
}
