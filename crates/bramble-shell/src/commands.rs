//! Commands that are quoted by construction.

use std::fmt::Write;

use crate::word::shell_word;

/// Commands, a part of a script.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Commands {
    text: String,
}

impl Commands {
    /// No commands yet.
    pub fn new() -> Self {
        Commands::default()
    }

    /// Adds a command: a word of ours and its arguments, each quoted.
    pub fn call<S: AsRef<str>>(&mut self, command: &'static str, arguments: impl IntoIterator<Item = S>) -> &mut Self {
        self.text.push_str(command);
        for argument in arguments {
            self.text.push(' ');
            self.text.push_str(&shell_word(argument.as_ref()));
        }
        self.text.push('\n');
        self
    }

    /// The same, with fixed shell text behind the arguments on the same line.
    pub fn call_with<S: AsRef<str>>(
        &mut self,
        command: &'static str,
        arguments: impl IntoIterator<Item = S>,
        tail: &'static str,
    ) -> &mut Self {
        self.call(command, arguments);
        self.text.pop();
        self.text.push(' ');
        self.fixed(tail)
    }

    /// Adds fixed shell text. Being `'static` it cannot hold anything that came from outside.
    pub fn fixed(&mut self, text: &'static str) -> &mut Self {
        self.text.push_str(text);
        if !text.ends_with('\n') {
            self.text.push('\n');
        }
        self
    }

    /// Sets a variable.
    pub fn set(&mut self, variable: &'static str, value: &str) -> &mut Self {
        writeln!(self.text, "{variable}={}", shell_word(value)).unwrap_or_default();
        self
    }

    /// Adds another script behind this one.
    pub fn append(&mut self, other: &Commands) -> &mut Self {
        self.text.push_str(&other.text);
        self
    }

    /// Text whose every outside value was quoted by the caller with [`shell_word`].
    pub fn quoted(text: String) -> Commands {
        Commands { text }
    }

    /// Adds a function with these commands.
    pub fn function(&mut self, name: &str, body: &Commands) -> &mut Self {
        writeln!(self.text, "{name}() {{\n:\n{}}}", body.text).unwrap_or_default();
        self
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether nothing was added.
    pub fn is_empty(&self) -> bool {
        self.text.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]
        #[test]
        fn every_argument_reaches_a_real_shell_unchanged(arguments in proptest::collection::vec("[^\0]{0,40}", 0..5)) {
            let mut script = Commands::new();
            script.call("printf '%s\\0'", arguments.iter());
            let output = std::process::Command::new("/bin/sh").args(["-c", script.as_str()]).output().unwrap();
            let mut expected: Vec<u8> = Vec::new();
            for argument in &arguments {
                expected.extend_from_slice(argument.as_bytes());
                expected.push(0);
            }
            if arguments.is_empty() {
                expected.push(0);
            }
            prop_assert_eq!(output.stdout, expected);
        }
    }
}
