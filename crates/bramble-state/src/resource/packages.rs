//! Debian packages that are installed: `apt_do` installs them, and remembers what came with them.

use bramble_shell::Commands;

use crate::digest::entry_hash;
use crate::kind::Kind;
use crate::observation::Observation;
use crate::plan::{Change, Detail};
use crate::planner::Planner;
use crate::probe::{Answer, Names, Probe, Question, first_word};

/// Asks which packages are there, and in which version.
pub(crate) static PACKAGES: Question = Question { name: "packages", write, records: &[("package", read)] };

fn write(names: &Names, script: &mut Commands) {
    let query = "dpkg-query -W -f='package ${Package} ${db:Status-Abbrev}|${Version}\\n' --";
    // 1: it does not know some of them (dpkg-query(1)).
    script.call_with(query, names.keys(), "2>/dev/null || [ \"$?\" = 1 ]");
}

fn read(record: &str, _: &mut Answer<'_>, seen: &mut Observation) -> Option<()> {
    let (name, rest) = first_word(record);
    let (status, version) = rest.split_once('|')?;
    seen.packages.insert(name.to_owned(), (status.to_owned(), version.to_owned()));
    Some(())
}

/// `name`, or `name=version` where the version may end with `*`.
pub(crate) struct Packages<'a>(pub(crate) &'a [String]);

/// Returns the name of a package that may be wanted in a certain version.
pub(crate) fn package_name(wanted: &str) -> &str {
    wanted.split_once('=').map_or(wanted, |(name, _)| name)
}

impl Packages<'_> {
    fn missing(&self, seen: &Observation) -> Vec<&str> {
        self.0.iter().map(String::as_str).filter(|name| !seen.has_package(name)).collect()
    }
}

impl Kind for Packages<'_> {
    fn ask(&self, probe: &mut Probe) {
        probe.ask_about(&PACKAGES, self.0.iter().map(|name| package_name(name)));
    }

    fn announce(&self, planner: &mut Planner<'_>) {
        for name in self.0 {
            planner.want(package_name(name));
        }
        planner.installs |= !self.missing(planner.seen()).is_empty();
    }

    fn plan(&self, planner: &mut Planner<'_>) {
        let missing = self.missing(planner.seen());
        if missing.is_empty() {
            return;
        }
        let mut script = Commands::new();
        let hash = entry_hash("packages", "");
        let mut fixed = vec![hash.as_str(), "--no-install-recommends", "install"];
        // A version is only named for packages that are held.
        if missing.iter().any(|name| name.contains('=')) {
            fixed.push("--allow-change-held-packages");
        }
        script.call("apt_do", fixed.iter().chain(&missing));
        let details = vec![Detail::Value { from: None, to: missing.join(" ") }];
        planner.push(Change::new("install packages", details, script));
    }

    #[cfg(any(test, feature = "testing"))]
    fn satisfied(&self, node: &mut crate::testing::SatisfiedNode) {
        for wanted in self.0 {
            let version = wanted.split_once('=').map_or("1".to_owned(), |(_, version)| version.replace('*', "1"));
            node.package(package_name(wanted)).version = version;
        }
    }
}

impl Observation {
    /// Tells whether a package is installed, in the version that is wanted if one is.
    pub(crate) fn has_package(&self, wanted: &str) -> bool {
        let Some(version) = self.package_version(package_name(wanted)) else { return false };
        match wanted.split_once('=') {
            None => true,
            Some((_, pattern)) => match pattern.strip_suffix('*') {
                Some(start) => version.starts_with(start),
                None => version == pattern,
            },
        }
    }

    /// Returns the version of an installed Debian package.
    pub fn package_version(&self, name: &str) -> Option<&str> {
        let (status, version) = self.packages.get(name)?;
        (status.as_bytes().get(1) == Some(&b'i')).then_some(version)
    }
}
