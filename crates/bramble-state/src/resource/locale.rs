//! The locale, generated and set as the default.

use bramble_shell::Commands;

use crate::digest::entry_hash;
use crate::kind::Kind;
use crate::observation::{FileKind, Observation};
use crate::plan::{Change, Detail};
use crate::planner::Planner;
use crate::probe::{Answer, Names, Probe, Question};
use crate::resource::edit::{BLOCK_BEGIN, TEXTS, edit, with_block};
use crate::resource::file::File;

const LOCALE_GEN: &str = "/etc/locale.gen";
const ARCHIVE: &str = "/usr/lib/locale/locale-archive";
/// Where the default is. Since Debian 13 the first one is a link to the second, which systemd makes anew at each boot
/// (systemd, debian/extra/tmpfiles.d/debian.conf).
const DEFAULTS: [&str; 2] = ["/etc/default/locale", "/etc/locale.conf"];
const LOCALE: &str = "locale";

/// Asks which locales are generated.
pub(crate) static LOCALES: Question = Question { name: LOCALE, write, records: &[(LOCALE, read)] };

fn write(_: &Names, script: &mut Commands) {
    script.fixed("v=$(locale -a)\nprintf 'locale %s\\n' $v");
}

fn read(name: &str, _: &mut Answer<'_>, seen: &mut Observation) -> Option<()> {
    seen.note(LOCALE, &normal(name), "");
    Some(())
}

/// Makes one name of two: `locale -a` writes `en_GB.utf8` for what is configured as `en_GB.UTF-8`.
fn normal(name: &str) -> String {
    name.to_ascii_lowercase().replace('-', "")
}

pub(crate) struct Locale<'a>(pub(crate) &'a str);

impl Locale<'_> {
    fn file(&self, path: &str) -> File {
        File::new(path, format!("LANG={}\n", self.0))
    }

    fn is_built_in(&self) -> bool {
        matches!(self.0, "C" | "POSIX" | "C.UTF-8")
    }

    fn edited(&self, text: &str) -> String {
        let charset = self.0.split_once('.').map_or("UTF-8", |(_, charset)| charset);
        let line = format!("{} {charset}", self.0);
        if text.lines().any(|known| known.trim() == line) && !text.contains(BLOCK_BEGIN) {
            text.to_owned()
        } else {
            with_block(text, &[line])
        }
    }
}

impl Kind for Locale<'_> {
    fn ask(&self, probe: &mut Probe) {
        probe.ask_about(&TEXTS, [LOCALE_GEN]);
        probe.ask(&LOCALES);
        for path in DEFAULTS {
            self.file(path).ask(probe);
        }
    }

    fn plan(&self, planner: &mut Planner<'_>) {
        if !self.is_built_in() {
            let change = edit(planner, LOCALE_GEN, &[], |text| self.edited(text));
            planner.push(change);
            if planner.seen().noted(LOCALE, &normal(self.0)).is_none() {
                let mut script = Commands::new();
                script.call("remember_file", [&entry_hash("file", ARCHIVE), ARCHIVE]).fixed("locale-gen");
                let details = vec![Detail::Value { from: None, to: self.0.to_owned() }];
                planner.push(Change::new("generate the locale", details, script));
            }
        }
        let [own, target] = DEFAULTS;
        let linked = planner.seen().files.get(own).is_some_and(|there| there.kind == FileKind::Link);
        self.file(if linked { target } else { own }).plan(planner);
    }

    #[cfg(any(test, feature = "testing"))]
    fn satisfied(&self, node: &mut crate::testing::SatisfiedNode) {
        node.edit(LOCALE_GEN, |text| self.edited(text));
        node.record(format!("{LOCALE} {}", normal(self.0)));
        self.file(DEFAULTS[0]).satisfied(node);
    }
}
