//! Kernel settings, now and at boot: `set_sysctl` sets one.

use std::collections::BTreeMap;

use bramble_shell::Commands;

use crate::digest::entry_hash;
use crate::kind::Kind;
use crate::observation::Observation;
use crate::plan::{Change, Detail};
use crate::planner::Planner;
use crate::probe::{Answer, Names, Probe, Question};
use crate::resource::file::File;

const SYSCTLS: &str = "sysctls";

/// Asks for kernel settings by their files in /proc/sys.
pub(crate) static SETTINGS: Question = Question { name: SYSCTLS, write, records: &[(SYSCTLS, read)] };

fn write(keys: &Names, script: &mut Commands) {
    // The shell reads byte by byte, and the kernel gives numbers only whole: 60 would come out as 6.
    script.fixed("echo sysctls");
    script.call_with("grep -sH '' --", keys.keys().map(|key| proc_file(key)), "|| :");
    script.fixed("echo .");
}

fn read(_: &str, answer: &mut Answer<'_>, seen: &mut Observation) -> Option<()> {
    while let Some(line) = answer.line_of_record() {
        let (path, value) = line.split_once(':')?;
        seen.note(SYSCTLS, path, &normal(value));
    }
    Some(())
}

/// Makes one space of all that the kernel puts between numbers.
fn normal(value: &str) -> String {
    value.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Finds /proc's file of a kernel setting: dots and slashes change places (sysctl(8)).
fn proc_file(key: &str) -> String {
    let swap = |c| match c {
        '.' => '/',
        '/' => '.',
        other => other,
    };
    format!("/proc/sys/{}", key.chars().map(swap).collect::<String>())
}

pub(crate) struct Sysctls<'a>(pub(crate) &'a BTreeMap<String, String>);

impl Sysctls<'_> {
    fn file(&self) -> File {
        let text: String = self.0.iter().map(|(key, value)| format!("{key} = {value}\n")).collect();
        File::new("/etc/sysctl.d/90-bramble.conf", text)
    }
}

impl Kind for Sysctls<'_> {
    fn ask(&self, probe: &mut Probe) {
        probe.ask_about(&SETTINGS, self.0.keys());
        self.file().ask(probe);
    }

    fn plan(&self, planner: &mut Planner<'_>) {
        self.file().plan(planner);
        for (key, value) in self.0 {
            let file = proc_file(key);
            let from = planner.seen().noted(SYSCTLS, &file);
            if from == Some(&normal(value)) {
                continue;
            }
            let mut script = Commands::new();
            script.call("set_sysctl", [&entry_hash("sysctl", key), key, value, &file]);
            let details = vec![Detail::Value { from: from.map(str::to_owned), to: value.clone() }];
            planner.push(Change::new(format!("set {key}"), details, script));
        }
    }

    #[cfg(any(test, feature = "testing"))]
    fn satisfied(&self, node: &mut crate::testing::SatisfiedNode) {
        self.file().satisfied(node);
        node.record(SYSCTLS);
        for (key, value) in self.0 {
            node.record(format!("{}:{value}", proc_file(key)));
        }
        node.record(".");
    }
}
