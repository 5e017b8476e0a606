//! Edits of files that are not ours, every byte that is not meant stays: `put_edit` makes them.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bramble_files::{bytes_of, shown, text_of};
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
    script.call("texts", paths.keys());
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
            ("*", encoded) => text = text_of(&BASE64_STANDARD.decode(encoded).ok()?),
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
    let (before, after) = (sha256(&bytes_of(from)), BASE64_STANDARD.encode(bytes_of(&to)));
    let fixed = [entry_hash("edit", path), path.to_owned(), before, after];
    script.call("put_edit", fixed.iter().chain(tokens));
    let detail = Detail::Text { from: Some(shown(from).into_owned()), to: shown(&to).into_owned() };
    Some(Change::new(format!("change {path}"), vec![detail], script))
}

pub(crate) const BLOCK_BEGIN: &str = "# BEGIN bramble";
const BLOCK_END: &str = "# END bramble";

/// Puts `lines` into the block between our two marks, at the end of the file if there is none yet; they end as the file's own
/// lines do.
pub(crate) fn with_block(text: &str, lines: &[String]) -> String {
    let end = if text.split_inclusive('\n').next().is_some_and(|line| line.ends_with("\r\n")) { "\r\n" } else { "\n" };
    let own = lines.iter().flat_map(|lines| lines.split('\n'));
    let all = std::iter::once(BLOCK_BEGIN).chain(own).chain([BLOCK_END]);
    let block: String = all.filter(|_| !lines.is_empty()).map(|line| format!("{line}{end}")).collect();
    let Some((before, rest)) = split_at_line(text, BLOCK_BEGIN) else {
        let gap = if text.is_empty() || text.ends_with('\n') || block.is_empty() { "" } else { end };
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
    fn lines_end_as_those_of_the_file() {
        let lines = ["10.0.0.1 a\n10.0.0.2 b".to_owned()];
        let text = "127.0.0.1 localhost\r\n# mine";
        let with = with_block(text, &lines);
        assert_eq!(with, format!("{text}\r\n# BEGIN bramble\r\n10.0.0.1 a\r\n10.0.0.2 b\r\n# END bramble\r\n"));
        assert_eq!(with_block(&with, &lines), with);
        assert_eq!(with_block(&with, &[]), format!("{text}\r\n"));
    }

    #[test]
    fn a_block_that_lost_its_end_eats_nobodys_lines() {
        assert_eq!(
            with_block("# BEGIN bramble\n10.9.9.9 mine\n", &["10.0.0.2 b".into()]),
            "# BEGIN bramble\n10.0.0.2 b\n# END bramble\n10.9.9.9 mine\n"
        );
    }
}
