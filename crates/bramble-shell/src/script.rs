//! A whole script, as a node is sent it.

use std::time::Duration;

use crate::commands::Commands;

/// What every script begins with: it makes it strict, and defines `best_effort` and `attempt`.
pub const STRICT: &str = include_str!("strict.sh");

/// How long a script may be silent unless it says otherwise.
pub const SILENCE: Duration = Duration::from_secs(120);
/// How many bytes a script may print unless it says otherwise.
pub const OUTPUT: u64 = 16 * 1024 * 1024;

/// A script that a node runs as root. It ends at the first command that fails, with that command's exit code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Script {
    name: String,
    text: String,
    silence: Duration,
    output: u64,
}

impl Script {
    /// The only way to make one. `name` says what it does, for people: "look at the node".
    pub fn new(name: impl Into<String>, body: &Commands) -> Script {
        // A shell reads its input bit by bit; as one braced group it is parsed whole before any of it runs. Nothing follows
        // the body, so its last command's exit code is that of the script.
        let text = format!("{{\n{STRICT}{}\n}}\n", body.as_str().trim_end_matches('\n'));
        Script { name: name.into(), text, silence: SILENCE, output: OUTPUT }
    }

    /// Puts commands before its body.
    pub fn preceded_by(mut self, commands: &Commands) -> Script {
        let begin = "{\n".len() + STRICT.len();
        self.text.insert_str(begin, commands.as_str());
        self
    }

    /// Sets how long it may be silent before it is given up.
    pub fn silent_for(mut self, silence: Duration) -> Script {
        self.silence = silence;
        self
    }

    /// Sets how many bytes it may print before it is given up.
    pub fn printing(mut self, bytes: u64) -> Script {
        self.output = bytes;
        self
    }

    /// What it does, for people and the log.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The text for `/bin/sh -s`.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// How long it may be silent.
    pub fn silence(&self) -> Duration {
        self.silence
    }

    /// How many bytes it may print.
    pub fn output(&self) -> u64 {
        self.output
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::process::{Command, Output, Stdio};

    use super::*;

    /// Runs it as a node does: from the shell's standard input.
    fn run(shell: &str, text: impl AsRef<[u8]>) -> Output {
        // As `sh`, bash keeps to POSIX.
        let posix: &[&str] = if shell == "bash" { &["--posix"] } else { &[] };
        let mut child = Command::new(shell)
            .args(posix)
            .arg("-s")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(text.as_ref()).unwrap();
        child.wait_with_output().unwrap()
    }

    fn script(body: &'static str) -> Script {
        let mut commands = Commands::new();
        commands.fixed(body);
        Script::new("test", &commands)
    }

    #[test]
    fn the_first_command_that_fails_ends_it_and_the_last_ones_exit_code_is_its_own() {
        for shell in ["dash", "bash"] {
            for (body, code, said) in [
                ("echo a\nfalse\necho b", 1, "a\n"),
                ("echo a\nexit 7", 7, "a\n"),
                ("echo a\n(exit 5)", 5, "a\n"),
                ("f() { false; echo never; }\nf\necho b", 1, ""),
                ("f() { x=$(false; echo never); echo b; }\nf", 1, ""),
                ("echo \"$nobody_set_this\"\necho b", 2, ""),
                ("true", 0, ""),
                ("cat", 0, ""),
            ] {
                let output = run(shell, script(body).text());
                let unset = code == 2;
                assert!(output.status.code() == Some(code) || (unset && !output.status.success()), "{shell}: {body}");
                assert_eq!(String::from_utf8_lossy(&output.stdout), said, "{shell}: {body}");
            }
        }
    }

    #[test]
    fn nothing_of_a_script_runs_that_did_not_arrive_whole() {
        let whole = script("echo a\necho b");
        for end in 0..whole.text().len() - 2 {
            let output = run("dash", &whole.text().as_bytes()[..end]);
            assert_eq!(output.stdout, b"", "cut after {end} bytes");
        }
    }

    #[test]
    fn what_may_fail_is_told_and_stops_nothing() {
        let output = run(
            "dash",
            script(
                "best_effort sh -c 'echo why; echo more >&2; exit 3' >/dev/null\nx=$(best_effort false)\necho \"x=$x\"",
            )
            .text(),
        );
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success());
        assert_eq!(said, "@tried 3 sh -c echo why; echo more >&2; exit 3: why more\n@tried 1 false: \nx=\n");
    }

    #[test]
    fn an_attempt_ends_at_its_first_failure() {
        let output = run(
            "dash",
            script("f() { echo a; false; echo never; }\nattempt f\necho \"rc=$rc\"\nfalse\necho never").text(),
        );
        assert_eq!(String::from_utf8_lossy(&output.stdout), "a\nrc=1\n");
        assert_eq!(output.status.code(), Some(1));
    }
}
