//! Arguments of the kernel, in cmdline.txt and in the running kernel, and the memory cgroup that one of them allows.

use crate::kind::Kind;
use crate::observation::Observation;
use crate::planner::Planner;
use crate::probe::Probe;
use crate::resource::boot_config::{BOOT_TEXTS, is_read};
use crate::resource::edit::edit;

/// The argument of the kernel that switches on the memory cgroup, which the firmware of a Raspberry Pi switches off.
pub const MEMORY_CGROUP: &str = "cgroup_enable=memory";

pub(crate) struct KernelArgs<'a>(pub(crate) &'a [String]);

impl Kind for KernelArgs<'_> {
    fn ask(&self, probe: &mut Probe) {
        probe.ask(&BOOT_TEXTS);
    }

    fn announce(&self, planner: &mut Planner<'_>) {
        planner.kernel_args.extend_from_slice(self.0);
    }

    fn plan(&self, planner: &mut Planner<'_>) {
        plan_all(planner);
    }

    fn is_answered(&self, _: &Observation, asked: &Probe) -> bool {
        asked.asks(&BOOT_TEXTS)
    }

    #[cfg(any(test, feature = "testing"))]
    fn satisfied(&self, node: &mut crate::testing::SatisfiedNode) {
        node.facts.cmdline = with_tokens(&node.facts.cmdline, self.0);
        if let Some(path) = node.facts.cmdline_file.clone() {
            node.edit(&path, |text| with_tokens(text, self.0));
        }
    }
}

/// Plans the arguments that all resources together want, once.
fn plan_all(planner: &mut Planner<'_>) {
    let tokens = std::mem::take(&mut planner.kernel_args);
    let seen = planner.seen();
    let runs_with = |token: &&str| seen.facts.cmdline.split_whitespace().any(|known| known == *token);
    let missing: Vec<&str> = tokens.iter().map(String::as_str).filter(|token| !runs_with(token)).collect();
    let missing = missing.join(" ");
    let Some(path) = &seen.facts.cmdline_file else {
        if !missing.is_empty() {
            planner.problem(
                format!("this board has no cmdline.txt, and its kernel runs without {missing}"),
                "set it in its boot loader, then run bramble again",
            );
        }
        return;
    };
    if tokens.is_empty() || !is_read(planner, path) {
        return;
    }
    let line = seen.texts.get(path).and_then(|text| text.lines().next()).unwrap_or("");
    let is_new = |token: &&String| !line.split_whitespace().any(|known| known == *token);
    let added: Vec<String> = tokens.iter().filter(is_new).cloned().collect();
    let change = edit(planner, path, &added, |text| with_tokens(text, &tokens));
    planner.push(change);
    if !missing.is_empty() {
        planner.reboot(&format!("the running kernel lacks {missing}"));
    }
}

/// On a Raspberry Pi, the memory cgroup that its firmware switches off.
pub(crate) struct MemoryCgroup;

impl Kind for MemoryCgroup {
    fn ask(&self, probe: &mut Probe) {
        probe.ask(&BOOT_TEXTS);
    }

    fn announce(&self, planner: &mut Planner<'_>) {
        // On a Raspberry Pi the firmware switches it off; a later argument wins (raspberrypi/linux#6980).
        if planner.seen().facts.is_raspberry_pi() {
            planner.kernel_args.push(MEMORY_CGROUP.to_owned());
        }
    }

    fn plan(&self, planner: &mut Planner<'_>) {
        plan_all(planner);
        // Until the reboot that is planned anyway the controller may be missing.
        if !planner.seen().facts.controllers.contains("memory") && !planner.reboots() {
            planner.problem(
                "the kernel has no memory cgroup, although its arguments allow it",
                "is this the kernel of the board's own OS?",
            );
        }
    }

    fn is_answered(&self, _: &Observation, asked: &Probe) -> bool {
        asked.asks(&BOOT_TEXTS)
    }

    #[cfg(any(test, feature = "testing"))]
    fn satisfied(&self, node: &mut crate::testing::SatisfiedNode) {
        node.facts.controllers.insert("memory".to_owned());
        if node.facts.is_raspberry_pi() {
            KernelArgs(&[MEMORY_CGROUP.to_owned()]).satisfied(node);
        }
    }
}

/// Adds the tokens that the first line of a cmdline.txt lacks. The firmware reads that line only; everything else in
/// the file stays as it is.
pub fn with_tokens(text: &str, tokens: &[String]) -> String {
    let (line, rest) = match text.find('\n') {
        Some(at) => (&text[..at], &text[at..]),
        None => (text, ""),
    };
    let mut missing: Vec<&str> = Vec::new();
    for token in tokens.iter().map(String::as_str) {
        if !missing.contains(&token) && !line.split_ascii_whitespace().any(|known| known == token) {
            missing.push(token);
        }
    }
    if missing.is_empty() {
        return text.to_owned();
    }
    let body = line.trim_ascii_end();
    let gap = if body.is_empty() { "" } else { " " };
    format!("{body}{gap}{}{}{rest}", missing.join(" "), &line[body.len()..])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(list: &[&str]) -> Vec<String> {
        list.iter().map(|t| t.to_string()).collect()
    }

    #[test]
    fn tokens_go_to_the_end_of_the_first_line_and_nothing_else_moves() {
        let before = "console=tty1 root=PARTUUID=1-02 rootwait\n# a note\n";
        let after = with_tokens(before, &tokens(&["cgroup_enable=memory", "rootwait"]));
        assert_eq!(after, "console=tty1 root=PARTUUID=1-02 rootwait cgroup_enable=memory\n# a note\n");
        assert_eq!(with_tokens(&after, &tokens(&["cgroup_enable=memory"])), after);
    }

    #[test]
    fn a_token_is_a_whole_word() {
        assert_eq!(
            with_tokens("cgroup_enable=memory_v2\n", &tokens(&["cgroup_enable=memory"])),
            "cgroup_enable=memory_v2 cgroup_enable=memory\n"
        );
    }

    #[test]
    fn a_command_line_without_newline_keeps_none() {
        assert_eq!(with_tokens("a", &tokens(&["b"])), "a b");
        assert_eq!(with_tokens("a \r\n", &tokens(&["b"])), "a b \r\n");
        assert_eq!(with_tokens("", &tokens(&["b"])), "b");
    }
}
