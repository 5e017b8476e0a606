//! Edits of files that are not ours: every byte that is not meant stays.

use std::collections::BTreeMap;

pub(crate) const BLOCK_BEGIN: &str = "# BEGIN bramble";
pub(crate) const BLOCK_END: &str = "# END bramble";

/// Puts `lines` into the block between our two marks, at the end of the file if there is none yet.
pub(crate) fn with_block(text: &str, lines: &[String]) -> String {
    let block =
        if lines.is_empty() { String::new() } else { format!("{BLOCK_BEGIN}\n{}\n{BLOCK_END}\n", lines.join("\n")) };
    let Some((before, rest)) = split_at_line(text, BLOCK_BEGIN) else {
        let gap = if text.is_empty() || text.ends_with('\n') || block.is_empty() { "" } else { "\n" };
        return format!("{text}{gap}{block}");
    };
    // Without its end mark the block is broken: only the begin mark is replaced, nobody's lines are lost.
    let after = match split_at_line(rest, BLOCK_END) {
        Some((_, after)) => after,
        None => rest,
    };
    format!("{before}{block}{after}")
}

/// The text before and after the first line that is `mark`.
fn split_at_line<'a>(text: &'a str, mark: &str) -> Option<(&'a str, &'a str)> {
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let end = at + line.len();
        if line.trim_end() == mark {
            return Some((&text[..at], &text[end..]));
        }
        at = end;
    }
    None
}

/// Adds the tokens that the first line of a cmdline.txt lacks. The firmware reads that line only; everything else in
/// the file stays as it is.
pub fn with_tokens(text: &str, tokens: &[String]) -> String {
    let (line, rest) = match text.find('\n') {
        Some(at) => (&text[..at], &text[at..]),
        None => (text, ""),
    };
    let missing: Vec<&str> = tokens
        .iter()
        .map(String::as_str)
        .filter(|token| !line.split_whitespace().any(|known| known == *token))
        .collect();
    if missing.is_empty() {
        return text.to_owned();
    }
    let body = line.trim_end();
    let gap = if body.is_empty() { "" } else { " " };
    format!("{body}{gap}{}{}{rest}", missing.join(" "), &line[body.len()..])
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

/// What holds for every board: the last assignment outside of conditional sections, unless a conditional section
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

/// Comments out the swap lines of an fstab.
pub(crate) fn without_swap(text: &str) -> String {
    text.split_inclusive('\n')
        .map(|line| {
            let mut fields = line.split_whitespace();
            let first = fields.next().unwrap_or("");
            let kind = fields.nth(1);
            if !first.starts_with('#') && kind == Some("swap") { format!("# bramble: {line}") } else { line.to_owned() }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect()
    }

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

    #[test]
    fn a_block_is_replaced_in_place() {
        let lines = |n: &str| vec![n.to_owned()];
        let first = with_block("127.0.0.1 localhost", &lines("10.0.0.1 a"));
        assert_eq!(first, "127.0.0.1 localhost\n# BEGIN bramble\n10.0.0.1 a\n# END bramble\n");
        let more = format!("{first}10.9.9.9 mine\n");
        assert_eq!(
            with_block(&more, &lines("10.0.0.2 b")),
            "127.0.0.1 localhost\n# BEGIN bramble\n10.0.0.2 b\n# END bramble\n10.9.9.9 mine\n"
        );
    }

    #[test]
    fn a_block_that_lost_its_end_eats_nobodys_lines() {
        assert_eq!(
            with_block("# BEGIN bramble\n10.9.9.9 mine\n", &["10.0.0.2 b".into()]),
            "# BEGIN bramble\n10.0.0.2 b\n# END bramble\n10.9.9.9 mine\n"
        );
    }

    #[test]
    fn only_swap_lines_of_fstab_are_switched_off() {
        assert_eq!(
            without_swap("/dev/sda1 / ext4 defaults 0 1\n/swapfile none swap sw 0 0\n#/old none swap sw 0 0\n"),
            "/dev/sda1 / ext4 defaults 0 1\n# bramble: /swapfile none swap sw 0 0\n#/old none swap sw 0 0\n"
        );
    }
}
