//! Edits of files that are not ours, every byte that is not meant stays: `put_edit` makes them.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bramble_shell::Commands;

use crate::digest::{entry_hash, sha256};
use crate::observation::Observation;
use crate::plan::{Change, Detail};
use crate::planner::Planner;
use crate::probe::{Answer, Names, Question};
use crate::resource::file::File;

/// Asks for the texts of these files.
pub(crate) static TEXTS: Question = Question { name: "texts", write, records: &[("text", read)] };

fn write(paths: &Names, script: &mut Commands) {
    for path in paths.keys() {
        script.call("text", [path]);
    }
}

fn read(path: &str, answer: &mut Answer<'_>, seen: &mut Observation) -> Option<()> {
    let mut text = String::new();
    while let Some(line) = answer.line_of_record() {
        match line.split_at_checked(1)? {
            ("=", content) => {
                text.push_str(content);
                text.push('\n');
            }
            ("~", content) => text.push_str(content),
            _ => return None,
        }
    }
    seen.texts.insert(path.to_owned(), text);
    Some(())
}

/// Finds the change that makes `edited` of a file's text, if that is another one; `tokens` are what undoing takes out of
/// its first line.
pub(crate) fn edit(
    planner: &mut Planner<'_>,
    path: &str,
    tokens: &[String],
    edited: impl FnOnce(&str) -> String,
) -> Option<Change> {
    let Some(from) = planner.seen().texts.get(path) else {
        return File::new(path, edited("")).change(planner);
    };
    let to = edited(from);
    if *from == to {
        return None;
    }
    let mut script = Commands::new();
    planner.touch(path, &mut script);
    let fixed = [entry_hash("edit", path), path.to_owned(), sha256(from.as_bytes()), BASE64_STANDARD.encode(&to)];
    script.call("put_edit", fixed.iter().chain(tokens));
    Some(Change::new(format!("change {path}"), vec![Detail::Text { from: Some(from.clone()), to }], script))
}

pub(crate) const BLOCK_BEGIN: &str = "# BEGIN bramble";
const BLOCK_END: &str = "# END bramble";

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

/// Returns the text before and after the first line that is `mark`.
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

#[cfg(test)]
mod tests {
    use super::*;

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
}
