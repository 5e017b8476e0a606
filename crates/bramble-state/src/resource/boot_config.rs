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

pub(crate) struct BootConfig<'a>(pub(crate) &'a BTreeMap<String, Vec<String>>);

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
/// to the end under `[all]`, where the last word is. `settings`: the values of each; all of several hold beside each other.
pub fn with_boot_config(text: &str, settings: &BTreeMap<String, Vec<String>>) -> String {
    // Our own block is not counted: it is about to be written anew.
    let bare = with_block(text, &[]);
    let effective = effective_boot_config(&bare);
    let holds = |key: &str, value: &str| match effective.get(key) {
        Some(values) if adds_up(key) || settings.get(key).is_some_and(|wanted| wanted.len() > 1) => {
            values.contains(&value)
        }
        Some(values) => values.last() == Some(&value),
        None => false,
    };
    let wanted =
        settings.iter().flat_map(|(key, values)| values.iter().map(move |value| (key.as_str(), value.as_str())));
    let (mut of_base, others): (Vec<String>, Vec<String>) = wanted
        .filter(|(key, value)| !holds(key, value))
        .map(|(key, value)| format!("{key}{}{value}", if COMMANDS.contains(&key) { ' ' } else { '=' }))
        .partition(|line| line.starts_with("dtparam="));
    if of_base.is_empty() && others.is_empty() {
        return bare;
    }
    if !of_base.is_empty() {
        // Behind an overlay they would be parameters of that one (raspberrypi.com/documentation, "Device Trees").
        of_base.insert(0, "dtoverlay=".to_owned());
    }
    let lines: Vec<String> = std::iter::once("[all]".to_owned()).chain(of_base).chain(others).collect();
    with_block(text, &lines)
}

/// What has no `=` (raspberrypi.com/documentation, config.txt).
const COMMANDS: [&str; 2] = ["include", "initramfs"];

/// Tells whether each line of a setting adds something, instead of taking the place of the one before.
fn adds_up(key: &str) -> bool {
    ["dtoverlay", "dtparam", "gpio", "include"].contains(&key)
}

/// Finds what holds for every board: the assignments outside of conditional sections, in their order, unless a conditional
/// section behind them says something too.
pub fn effective_boot_config(text: &str) -> BTreeMap<&str, Vec<&str>> {
    let mut values: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let mut everywhere = true;
    for line in text.lines() {
        let line = line.trim();
        if let Some(section) = line.strip_prefix('[') {
            everywhere = section.trim_end_matches(']').trim() == "all";
        } else if let Some((key, value)) = COMMANDS
            .iter()
            .find_map(|command| Some((*command, line.strip_prefix(command)?.strip_prefix([' ', '\t'])?)))
            .or_else(|| line.split_once('='))
            && !line.starts_with('#')
        {
            let key = key.trim();
            if everywhere {
                values.entry(key).or_default().push(value.trim());
            } else if !adds_up(key) {
                values.remove(key);
            }
        }
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, Vec<String>> {
        let mut all: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (key, value) in pairs {
            all.entry(key.to_string()).or_default().push(value.to_string());
        }
        all
    }

    #[test]
    fn several_overlays_stand_beside_each_other() {
        let before = "dtoverlay=vc4-kms-v3d\n[cm4]\ndtoverlay=dwc2,dr_mode=host\n[all]\n";
        let wanted = map(&[("dtoverlay", "disable-wifi"), ("dtoverlay", "disable-bt"), ("dtparam", "audio=off")]);
        let after = with_boot_config(before, &wanted);
        let block = "# BEGIN bramble\n[all]\ndtoverlay=\ndtparam=audio=off\ndtoverlay=disable-wifi\ndtoverlay=disable-bt\n# END bramble\n";
        assert_eq!(after, format!("{before}{block}"));
        assert_eq!(with_boot_config(&after, &wanted), after);
        let there = map(&[("dtoverlay", "vc4-kms-v3d")]);
        assert_eq!(with_boot_config(before, &there), before);
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
    fn commands_have_no_equals_sign() {
        let wanted = map(&[("include", "extra.txt"), ("initramfs", "initrd.img followkernel")]);
        let after = with_boot_config("arm_64bit=1\n", &wanted);
        assert!(after.contains("[all]\ninclude extra.txt\ninitramfs initrd.img followkernel\n"), "{after}");
        assert_eq!(with_boot_config(&after, &wanted), after);
        let there = "include extra.txt\ninitramfs initrd.img followkernel\n";
        assert_eq!(with_boot_config(there, &wanted), there);
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
