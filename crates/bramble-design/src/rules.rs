//! The rules of the checks, and what breaks them.

use std::collections::HashMap;

use bramble_spec::{Cluster, Place, Problem, Severity};

macro_rules! rules {
    ($($(#[$doc:meta])* $rule:ident = $name:literal,)*) => {
        /// A rule that hardware should keep.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Rule {
            $($(#[$doc])* $rule,)*
        }

        impl Rule {
            /// All rules.
            pub const ALL: &'static [Rule] = &[$(Rule::$rule),*];

            /// The word for it, as `hardware.accept` has it.
            pub fn name(self) -> &'static str {
                match self { $(Rule::$rule => $name),* }
            }
        }
    };
}

rules! {
    /// What gives power to several gives enough for all at once.
    Budget = "budget",
    /// A port, a HAT or a supply gives enough for what hangs on it.
    Feed = "feed",
    /// There is a port for everything that wants power.
    PowerPorts = "power-ports",
    /// Power over Ethernet is of a kind that the HAT takes, and the HAT fits the board.
    Poe = "poe",
    /// Everything has power from somewhere.
    Unpowered = "unpowered",
    /// A switch has a port for every cable, its way out included.
    SwitchPorts = "switch-ports",
    /// A switch moves what all of its ports can send and receive at once.
    SwitchCapacity = "switch-capacity",
    /// No node is much slower on the network than the others.
    Link = "link",
    /// What nodes of a Wi-Fi send each other shares one channel.
    Wifi = "wifi",
    /// Every node has the memory that its role asks for.
    Memory = "memory",
    /// The disk is large enough.
    DiskSize = "disk-size",
    /// The disk lasts.
    Wear = "wear",
    /// The board can boot from its disk, and the adapter can be trusted.
    Disk = "disk",
    /// The board does not slow down for heat.
    Heat = "heat",
    /// System and board have the same architecture.
    Architecture = "architecture",
    /// There are addresses left, and nobody else gives away those of the nodes.
    Addresses = "addresses",
    /// Every figure that a check needs is known.
    Unknown = "unknown",
    /// A rule that is accepted exists.
    Accept = "accept",
}

/// Collects findings; what is the same for several nodes is said once.
pub(crate) struct Findings<'a> {
    cluster: &'a Cluster,
    all: Vec<(Rule, Problem)>,
    places: HashMap<Key, usize>,
}

/// What two findings have in common that are said as one.
type Key = (Severity, Rule, String, Vec<(String, String)>);

impl<'a> Findings<'a> {
    pub(crate) fn new(cluster: &'a Cluster) -> Findings<'a> {
        let mut findings = Findings { cluster, all: Vec::new(), places: HashMap::new() };
        for name in &cluster.hardware.accept {
            if !Rule::ALL.iter().any(|rule| rule.name() == name) {
                let rules: Vec<&str> = Rule::ALL.iter().map(|rule| rule.name()).collect();
                findings.add(
                    Severity::Error,
                    Rule::Accept,
                    "hardware.accept",
                    format!("there is no rule `{name}`"),
                    &[],
                    format!("name one of {}", rules.join(", ")),
                );
            }
        }
        findings
    }

    pub(crate) fn add(
        &mut self,
        severity: Severity,
        rule: Rule,
        about: &str,
        message: impl Into<String>,
        figures: &[(&str, String)],
        fix: impl Into<String>,
    ) {
        let message = message.into();
        let figures: Vec<(String, String)> =
            figures.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        let key = (severity, rule, message.clone(), figures.clone());
        if let Some(place) = self.places.get(&key) {
            if let Place::Named(names) = &mut self.all[*place].1.place
                && names.last().is_none_or(|last| last != about)
            {
                names.push(about.to_owned());
            }
            return;
        }
        self.places.insert(key, self.all.len());
        let accepted =
            severity == Severity::Error && self.cluster.hardware.accept.iter().any(|name| name == rule.name());
        let severity = if accepted { Severity::Warning } else { severity };
        let problem = Problem {
            severity,
            place: Place::Named(vec![about.to_owned()]),
            rule: Some(rule.name()),
            accepted,
            message,
            figures,
            next: Some(fix.into()),
        };
        self.all.push((rule, problem));
    }

    /// A figure that a check needs and nobody knows, and what follows from that.
    pub(crate) fn unknown(&mut self, about: &str, figure: &str, part: &str, so: &str) {
        let message = format!("{figure} of the {part} is not known: {so}");
        self.add(
            Severity::Note,
            Rule::Unknown,
            about,
            message,
            &[],
            "add the figure in a file of `hardware.catalogue`",
        );
    }

    pub(crate) fn sorted(self) -> Vec<Problem> {
        let mut all = self.all;
        all.sort_by_key(|(rule, problem)| (problem.severity, *rule));
        all.into_iter().map(|(_, problem)| problem).collect()
    }
}
