//! Settings in the `[all]` part of config.txt, which the firmware of a Raspberry Pi reads.

use std::collections::BTreeMap;

use bramble_shell::Commands;

use crate::kind::Kind;
use crate::observation::Observation;
use crate::plan::Change;
use crate::planner::Planner;
use crate::probe::{Names, Probe, Question};
use crate::resource::edit::{edit, with_block};

/// Asks for the texts of cmdline.txt and config.txt, wherever this board has them.
pub(crate) static BOOT_TEXTS: Question = Question { name: "boot texts", write, records: &[] };

fn write(_: &Names, script: &mut Commands) {
    script.fixed(include_str!("boot_config.sh"));
}

/// Tells whether the text of a boot file is known. Else it is a problem: written anew, with nothing but what is wanted
/// here, the file would keep the board from booting.
pub(crate) fn is_read(planner: &mut Planner<'_>, path: &str) -> bool {
    let read = planner.seen().texts.contains_key(path);
    if !read {
        planner.problem(format!("{path} could not be read"), "check the node's boot partition, then run bramble again");
    }
    read
}

pub(crate) struct BootConfig<'a>(pub(crate) &'a BTreeMap<String, String>);

impl Kind for BootConfig<'_> {
    fn ask(&self, probe: &mut Probe) {
        probe.ask(&BOOT_TEXTS);
    }

    fn plan(&self, planner: &mut Planner<'_>) {
        // Boards without a Raspberry Pi's firmware have no such settings; they are no reason to stop.
        let Some(path) = &planner.seen().facts.config_file else { return };
        if !is_read(planner, path) {
            return;
        }
        if let Some(change) = edit(planner, path, &[], |text| with_boot_config(text, self.0)) {
            let mut script = Commands::new();
            script.fixed("reboot_later").append(&change.script);
            planner.push(Change { script, ..change });
            planner.reboot("config.txt is read at boot");
        }
    }

    fn is_answered(&self, _: &Observation, asked: &Probe) -> bool {
        asked.asks(&BOOT_TEXTS)
    }

    #[cfg(any(test, feature = "testing"))]
    fn satisfied(&self, node: &mut crate::testing::SatisfiedNode) {
        if let Some(path) = node.facts.config_file.clone() {
            node.edit(&path, |text| with_boot_config(text, self.0));
        }
    }
}

/// Makes settings of config.txt effective for all boards. Conditional sections such as `[pi4]` are left alone; ours go
/// to the end under `[all]`, where the last word is.
pub fn with_boot_config(text: &str, settings: &BTreeMap<String, String>) -> String {
    // Our own block is not counted: it is about to be written anew.
    let bare = with_block(text, &[]);
    let effective = effective_boot_config(&bare);
    let mut lines: Vec<String> = settings
        .iter()
        .filter(|(key, value)| effective.get(key.as_str()) != Some(&value.as_str()))
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    if lines.is_empty() {
        return bare;
    }
    lines.insert(0, "[all]".to_owned());
    with_block(text, &lines)
}

/// Finds what holds for every board: the last assignment outside of conditional sections, unless a conditional section
/// behind it says something too.
fn effective_boot_config(text: &str) -> BTreeMap<&str, &str> {
    let mut values = BTreeMap::new();
    let mut everywhere = true;
    for line in text.lines() {
        let line = line.trim();
        if let Some(section) = line.strip_prefix('[') {
            everywhere = section.trim_end_matches(']').trim() == "all";
        } else if let Some((key, value)) = line.split_once('=')
            && !line.starts_with('#')
        {
            if everywhere {
                values.insert(key.trim(), value.trim());
            } else {
                values.remove(key.trim());
            }
        }
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect()
    }

    #[test]
    fn settings_go_under_all_at_the_end() {
        let before = "dtparam=audio=on\n[cm4]\notg_mode=1\n";
        let after = with_boot_config(before, &map(&[("gpu_mem", "16")]));
        assert_eq!(after, format!("{before}# BEGIN bramble\n[all]\ngpu_mem=16\n# END bramble\n"));
        assert_eq!(with_boot_config(&after, &map(&[("gpu_mem", "16")])), after);
        assert_eq!(with_boot_config(&after, &map(&[])), before);
    }

    #[test]
    fn a_setting_that_holds_already_is_not_written_again() {
        let text = "[all]\ngpu_mem=16\n";
        assert_eq!(with_boot_config(text, &map(&[("gpu_mem", "16")])), text);
    }

    #[test]
    fn a_setting_inside_a_conditional_section_does_not_count() {
        for text in ["[pi4]\ngpu_mem=16\n", "gpu_mem=16\n[pi5]\ngpu_mem=64\n", "# gpu_mem=16\n"] {
            assert!(
                with_boot_config(text, &map(&[("gpu_mem", "16")])).ends_with("[all]\ngpu_mem=16\n# END bramble\n"),
                "{text}"
            );
        }
    }
}
