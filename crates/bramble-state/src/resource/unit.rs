//! A systemd unit that is enabled and running: `unit_do` starts it, `remember_unit` remembers how it was.

use bramble_shell::Commands;

use crate::digest::entry_hash;
use crate::kind::Kind;
use crate::observation::{Observation, UnitSeen};
use crate::paths::HOME;
use crate::plan::{Change, Detail};
use crate::planner::Planner;
use crate::probe::{Answer, Names, Probe, Question};

/// Asks for the states of units, which are answered in the order of their names.
pub(crate) static UNITS: Question = Question { name: "units", write, records: &[("units", read)] };

fn write(names: &Names, script: &mut Commands) {
    script.fixed("echo units");
    script.call("systemctl show -p LoadState,ActiveState,SubState,UnitFileState,NeedDaemonReload --", names.keys());
    script.fixed("echo .");
}

fn read(_: &str, answer: &mut Answer<'_>, seen: &mut Observation) -> Option<()> {
    let mut units = vec![UnitSeen::default()];
    while let Some(line) = answer.line_of_record() {
        let Some(unit) = units.last_mut().filter(|_| !line.is_empty()) else {
            units.push(UnitSeen::default());
            continue;
        };
        match line.split_once('=') {
            Some(("LoadState", v)) => unit.load = v.to_owned(),
            Some(("ActiveState", v)) => unit.active = v.to_owned(),
            Some(("SubState", v)) => unit.sub = v.to_owned(),
            Some(("UnitFileState", v)) => unit.enabled = v.to_owned(),
            Some(("NeedDaemonReload", v)) => unit.stale = v == "yes",
            _ => {}
        }
    }
    let units = units.into_iter().chain(std::iter::repeat(UnitSeen::default()));
    seen.units.extend(answer.asked(&UNITS).map(str::to_owned).zip(units));
    Some(())
}

/// A systemd unit that is enabled and running.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    /// Its name, with its suffix.
    pub name: String,
    /// The files it reads: it is restarted when one of them changes.
    pub reads: Vec<String>,
    /// Whether it runs now; a unit that only starts at boot or by something else is left alone.
    pub running: bool,
}

impl Unit {
    /// A unit that is enabled and running; `.service` is added where there is no suffix.
    pub fn new(name: &str, reads: Vec<String>) -> Unit {
        let name = if name.contains('.') { name.to_owned() } else { format!("{name}.service") };
        Unit { name, reads, running: true }
    }
}

impl Kind for Unit {
    fn ask(&self, probe: &mut Probe) {
        probe.ask_about(&UNITS, [&self.name]);
    }

    fn announce(&self, planner: &mut Planner<'_>) {
        planner.want(&self.name);
        for path in &self.reads {
            planner.reads(&self.name, path);
        }
    }

    fn plan(&self, planner: &mut Planner<'_>) {
        let seen = planner.seen().units.get(&self.name).cloned().unwrap_or_default();
        let enabled = matches!(seen.enabled.as_str(), "enabled" | "static" | "alias" | "indirect" | "generated");
        let active = seen.runs() || !self.running;
        let pending = planner.seen().pending.contains_key(&format!("restart.{}", self.name));
        let restart = self.running && (planner.restarts(&self.name) || pending);
        if enabled && active && !restart && !seen.stale {
            return;
        }
        let mut script = Commands::new();
        let mut words = Vec::new();
        if !enabled || !active {
            script.call("remember_unit", [&entry_hash("unit", &self.name), &self.name]);
        }
        if seen.stale || planner.reload {
            script.fixed("systemctl daemon-reload");
            words.push("reload");
        }
        if !enabled {
            script.call("systemctl -q enable", [&self.name]);
            words.push("enable");
        }
        if restart {
            script.call("unit_do restart", [&self.name]);
        } else if !active {
            script.call("unit_do start", [&self.name]);
        }
        words.extend(match (active, restart) {
            (false, _) => Some("start"),
            (true, true) => Some("restart"),
            (true, false) => None,
        });
        script.call("rm -f --", [&format!("{HOME}/pending/restart.{}", self.name)]);
        let from = match seen.load.as_str() {
            "loaded" => format!("{} {}", seen.enabled, seen.active),
            _ => "not there yet".to_owned(),
        };
        let to = if self.running { "enabled active" } else { "enabled" };
        let details =
            if enabled && active { Vec::new() } else { vec![Detail::Value { from: Some(from), to: to.to_owned() }] };
        planner.push(Change::new(format!("{} {}", words.join(" and "), self.name), details, script));
    }

    fn is_answered(&self, seen: &Observation, _: &Probe) -> bool {
        seen.units.contains_key(&self.name)
    }

    #[cfg(any(test, feature = "testing"))]
    fn satisfied(&self, node: &mut crate::testing::SatisfiedNode) {
        node.units.insert(self.name.clone());
    }
}
