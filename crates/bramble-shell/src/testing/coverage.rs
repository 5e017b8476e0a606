//! Finds shell text of a crate that no test of it names.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Asserts that the tests of the crate in this folder name all of its shell text: each `src/**/*.sh` by its path, as
/// `include_str!` does, and each function in it by a word in a string, as [`Case`](super::Case) takes it.
///
/// `tests` are files and folders, from the crate's folder on; `exceptions` are functions and paths, each with its reason.
/// One that needs none is a fault too.
pub fn assert_covered(folder: &str, tests: &[&str], exceptions: &[(&str, &str)]) {
    let folder = Path::new(folder);
    let rust: Vec<String> =
        tests.iter().flat_map(|path| texts(&folder.join(path), "rs")).map(|(_, text)| text).collect();
    // The table of exceptions stands among the tests, and is no test.
    let excepted: BTreeSet<String> = exceptions.iter().map(|(name, _)| (*name).to_owned()).collect();
    let is_exception = |string: &str| exceptions.iter().any(|(name, reason)| string == *name || string == *reason);
    let strings: Vec<String> =
        rust.iter().flat_map(|text| strings(text)).filter(|string| !is_exception(string)).collect();
    let mut missing = BTreeSet::new();
    for (path, text) in texts(&folder.join("src"), "sh") {
        let path = path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned();
        if !strings.iter().any(|string| string.ends_with(&path)) {
            missing.insert(path);
        }
        let named = |name: &&str| strings.iter().any(|string| has_word(string, name));
        missing.extend(functions(&text).filter(|name| !named(name)).map(str::to_owned));
    }
    let untested: Vec<&String> = missing.difference(&excepted).collect();
    assert!(untested.is_empty(), "no test names {untested:?}");
    let needless: Vec<&String> = excepted.difference(&missing).collect();
    assert!(needless.is_empty(), "these are tested, or not there: {needless:?}");
}

/// All files below a folder, or the file itself, whose names end so.
fn texts(path: &Path, extension: &str) -> Vec<(PathBuf, String)> {
    if path.is_dir() {
        let entries = fs::read_dir(path).unwrap();
        return entries.flat_map(|entry| texts(&entry.unwrap().path(), extension)).collect();
    }
    let wanted = path.extension().is_some_and(|found| found == extension);
    wanted.then(|| (path.to_owned(), fs::read_to_string(path).unwrap())).into_iter().collect()
}

/// The names of the functions that shell text defines.
fn functions(text: &str) -> impl Iterator<Item = &str> {
    let is_name = |name: &&str| {
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
    };
    text.lines().filter_map(|line| Some(line.trim_start().split_once("() {")?.0)).filter(is_name)
}

/// The string literals in Rust text.
fn strings(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let code: String =
        text.lines().filter(|line| !line.trim_start().starts_with("//")).map(|line| format!("{line}\n")).collect();
    let mut rest = code.as_str();
    while let Some(at) = rest.find('"') {
        let (before, behind) = (&rest[..at], &rest[at + 1..]);
        if before.ends_with('\'') && behind.starts_with('\'') {
            rest = behind;
            continue;
        }
        let raw = before.ends_with("r#");
        let end = if raw { behind.find("\"#") } else { end_of_literal(behind) }.unwrap_or(behind.len());
        let string = &behind[..end];
        found.push(if raw { string.to_owned() } else { string.replace("\\n", "\n").replace("\\\"", "\"") });
        rest = behind.get(end + 1..).unwrap_or_default();
    }
    found
}

fn end_of_literal(text: &str) -> Option<usize> {
    let mut escaped = false;
    text.char_indices().find_map(|(at, c)| {
        let ends = c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        ends.then_some(at)
    })
}

/// Whether shell text has this word, where a command may stand or as an argument of one.
fn has_word(text: &str, word: &str) -> bool {
    text.split(|c: char| c.is_whitespace() || ";|&(){}\"'$".contains(c)).any(|part| part == word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_and_strings_are_found() {
        let shell = "a() { b; } # question\n    c_1() { # x\n}\n# d() {\necho '()'\n";
        assert_eq!(functions(shell).collect::<Vec<_>>(), ["a", "c_1"]);
        let rust = "// \"no\"\nf(\"one\\n\\\"two\\\"\", '\"', r#\"a \"b\"\"#);";
        assert_eq!(strings(rust), ["one\n\"two\"", "a \"b\""]);
        assert!(has_word("x=$(a b); c", "a") && has_word("x; c", "c") && !has_word("ab-c", "c"));
    }

    #[test]
    fn what_no_test_names_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        fs::create_dir_all(path.join("src/a")).unwrap();
        fs::create_dir(path.join("tests")).unwrap();
        fs::write(path.join("src/a/lib.sh"), "f() {\n}\ng() {\n}\n").unwrap();
        let covered = |test: &str, exceptions: &[(&str, &str)]| {
            fs::write(path.join("tests/t.rs"), test).unwrap();
            let run = || assert_covered(path.to_str().unwrap(), &["tests"], exceptions);
            std::panic::catch_unwind(run).is_ok()
        };
        assert!(covered(r#"include_str!("../src/a/lib.sh") "f; g""#, &[]));
        assert!(!covered(r#"include_str!("../src/a/lib.sh") "f""#, &[]));
        assert!(covered(r#"include_str!("../src/a/lib.sh") "f""#, &[("g", "f calls it")]));
        assert!(!covered(r#"include_str!("../src/a/lib.sh") "f; g""#, &[("g", "f calls it")]));
        assert!(!covered(r#""f; g""#, &[]));
    }
}
