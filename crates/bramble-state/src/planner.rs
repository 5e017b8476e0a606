//! A plan that resources add to, one after the other.

use std::collections::{BTreeMap, BTreeSet};

use bramble_shell::Commands;
use bramble_spec::{Place, Problem};

use crate::observation::Observation;
use crate::plan::{Change, Plan};

/// A plan in the making, and what the resources know of each other.
#[derive(Debug)]
pub struct Planner<'a> {
    seen: &'a Observation,
    plan: Plan,
    /// Files, units, packages and steps that are wanted by name, which nothing takes away.
    wanted: BTreeSet<String>,
    /// By file: the units that read it.
    readers: BTreeMap<String, Vec<String>>,
    /// Units whose files change in this plan.
    restart: BTreeSet<String>,
    /// Whether systemd must read its units again.
    pub(crate) reload: bool,
    /// Whether packages are about to be installed.
    pub(crate) installs: bool,
    /// What all resources together want in the kernel's command line; taken by the first of them.
    pub(crate) kernel_args: Vec<String>,
}

impl<'a> Planner<'a> {
    pub(crate) fn new(seen: &'a Observation) -> Self {
        Planner {
            seen,
            plan: Plan::default(),
            wanted: BTreeSet::new(),
            readers: BTreeMap::new(),
            restart: BTreeSet::new(),
            reload: false,
            installs: false,
            kernel_args: Vec::new(),
        }
    }

    pub(crate) fn into_plan(self) -> Plan {
        self.plan
    }

    /// Returns what is there on the node.
    pub fn seen(&self) -> &'a Observation {
        self.seen
    }

    /// Adds a change, if there is one.
    pub fn push(&mut self, change: impl Into<Option<Change>>) {
        self.plan.changes.extend(change.into());
    }

    /// Notes that the node must boot again afterwards; the first reason is told.
    pub fn reboot(&mut self, reason: &str) {
        self.plan.reboot.get_or_insert_with(|| reason.to_owned());
    }

    /// Tells whether the node boots again afterwards.
    pub(crate) fn reboots(&self) -> bool {
        self.plan.reboot.is_some()
    }

    /// Notes what stands in the way, and the next step.
    pub fn problem(&mut self, message: impl Into<String>, next: impl Into<String>) {
        self.plan.problems.push(Problem::error(message, Place::Whole).next(next));
    }

    /// Notes that a file, unit, package or step is wanted: nothing takes it away.
    pub fn want(&mut self, name: &str) {
        self.wanted.insert(name.to_owned());
    }

    pub(crate) fn is_wanted(&self, name: &str) -> bool {
        self.wanted.contains(name)
    }

    /// Notes that a unit reads a file.
    pub(crate) fn reads(&mut self, unit: &str, path: &str) {
        self.readers.entry(path.to_owned()).or_default().push(unit.to_owned());
    }

    /// Notes that a file changes; the script first marks the units that read it.
    pub fn touch(&mut self, path: &str, script: &mut Commands) {
        for unit in self.readers.get(path).into_iter().flatten() {
            // Also where it does not run yet: the package that brings it may start it before it could read the file.
            script.call("restart_later", [unit]);
            self.restart.insert(unit.clone());
        }
        if path.starts_with("/etc/systemd/system/") {
            self.reload = true;
        }
    }

    /// Tells whether a file that this unit reads changes.
    pub fn restarts(&self, unit: &str) -> bool {
        self.restart.contains(unit)
    }
}
