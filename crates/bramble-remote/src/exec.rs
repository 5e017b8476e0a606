//! Commands on a node: a script as root, an upload, a user's command.

use std::borrow::Cow;
use std::fmt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bramble_shell::{OUTPUT, Script, shell_word};
use russh::{Channel, ChannelMsg, client};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;

use crate::connection::Connection;
use crate::error::ExecError;

/// A text that must not be seen.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    /// Takes the text in.
    pub fn new(text: String) -> Self {
        Secret(text)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// How root is reached.
#[derive(Debug, Clone)]
pub enum Root {
    /// We are it.
    Already,
    /// sudo asks nothing.
    Sudo,
    /// sudo asks for this.
    SudoPassword(Secret),
}

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exit {
    /// Its exit code; 128 and more for a signal, as a shell counts.
    pub code: u32,
    /// The end of what it wrote to its standard error.
    pub stderr: String,
}

impl Exit {
    /// Whether it ended well.
    pub fn success(&self) -> bool {
        self.code == 0
    }
}

/// What a script, or what a command that receives bytes, may do.
pub(crate) struct Limits<'a> {
    /// What it does, in words that follow "to": for messages.
    pub(crate) doing: &'a str,
    /// How long neither side may say anything.
    pub(crate) silence: Duration,
    /// How many bytes it may print.
    pub(crate) output: u64,
}

impl Limits<'_> {
    pub(crate) fn silent(&self) -> ExecError {
        ExecError::Silent { doing: self.doing.to_owned(), silence: self.silence }
    }
}

const STDERR_KEPT: usize = 8 * 1024;
/// What a node may print before a command starts: the greetings of its log-in.
const HEAD_LIMIT: usize = 256 * 1024;
/// How long sshd may take to open a session in a connection that stands.
const CHANNEL_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a node may take no bytes of a file, or work on one that has arrived: slow cards take minutes to write it out.
pub(crate) const TRANSFER_SILENCE: Duration = Duration::from_secs(300);
/// What sudo prints when it is about to read the password; random enough that no program prints it by accident.
const PROMPT: &str = "bramble-sudo-password-7f3a:";
/// The line that root's shell prints on both of its outputs before it begins. What came before is not ours: log-in shells, sshd
/// and sudo say things, too.
const READY: &str = "bramble-ready-7f3a";

/// Takes what sshd sends until the bytes of a file were received; `$1` digest, `$2` folder. It writes beside the
/// place, verifies, and only then renames: what was interrupted is never mistaken for the file.
const RECEIVER: &str = r#"set -e; umask 077; mkdir -p "$2"; rm -f "$2"/.part.*; t="$2/.part.$$"; cat >"$t"; s=$(sha256sum <"$t"); if [ "${s%% *}" != "$1" ]; then rm -f "$t"; echo "the digest of what arrived is ${s%% *}" >&2; exit 9; fi; sync "$t"; mv "$t" "$2/$1""#;

/// An output of a command, of which what came before its first word is kept apart.
#[derive(Debug, Default)]
struct Output {
    begun: bool,
    before: Vec<u8>,
}

impl Output {
    /// Takes bytes as they come; gives those that are the command's own.
    fn own<'a>(&mut self, bytes: &'a [u8]) -> Cow<'a, [u8]> {
        if self.begun {
            return Cow::Borrowed(bytes);
        }
        // The line may come in pieces.
        let from = self.before.len().saturating_sub(READY.len() + 2);
        self.before.extend_from_slice(bytes);
        let line = format!("\n{READY}\n");
        let Some(at) = self.before[from..].windows(line.len()).position(|window| window == line.as_bytes()) else {
            return Cow::Owned(Vec::new());
        };
        self.begun = true;
        let own = self.before.split_off(from + at + line.len());
        self.before.truncate(from + at);
        Cow::Owned(own)
    }
}

impl Connection {
    /// Runs a script as root. It travels through standard input: nothing of it is seen in a list of processes. It runs
    /// only when all of it has arrived. `on_line` gets each line of standard output.
    ///
    /// # Errors
    /// The connection broke, or the script was silent for longer or printed more than it may.
    pub async fn run_script(
        &self,
        root: &Root,
        script: &Script,
        mut on_line: impl FnMut(&str),
    ) -> Result<Exit, ExecError> {
        let mut lines = LineReader::default();
        let exit = self.read_script(root, script, |bytes| lines.feed(bytes, &mut on_line)).await?;
        lines.end(&mut on_line);
        Ok(exit)
    }

    /// The same for a script that prints something else than lines.
    pub async fn read_script(
        &self,
        root: &Root,
        script: &Script,
        on_output: impl FnMut(&[u8]),
    ) -> Result<Exit, ExecError> {
        let limits = Limits { doing: script.name(), silence: script.silence(), output: script.output() };
        self.exec(root, "exec /bin/sh -s", script.text().as_bytes(), &limits, on_output).await
    }

    /// Puts bytes on the node as `folder/digest`, mode 0600, owned by root.
    pub async fn upload(
        &self,
        root: &Root,
        name: &str,
        digest: &str,
        folder: &str,
        content: impl AsyncRead + Unpin,
    ) -> Result<(), ExecError> {
        let command =
            format!("exec /bin/sh -c {} receive {} {}", shell_word(RECEIVER), shell_word(digest), shell_word(folder));
        let limits = Limits { doing: &format!("receive {name}"), silence: TRANSFER_SILENCE, output: OUTPUT };
        let exit = self.exec(root, &command, content, &limits, |_| {}).await?;
        if exit.success() {
            return Ok(());
        }
        let reason = if exit.stderr.is_empty() { format!("exit code {}", exit.code) } else { exit.stderr };
        Err(ExecError::Upload { name: name.to_owned(), reason })
    }

    /// Runs a command line of the user's with the user's shell on the node, with an empty standard input. It may take and
    /// be silent for as long as it likes; `output` is how many bytes it may print.
    pub async fn run_command(
        &self,
        command: &str,
        output: u64,
        mut on_output: impl FnMut(bool, &[u8]),
    ) -> Result<Exit, ExecError> {
        let mut channel = self.open_channel().await?;
        channel.exec(true, command).await?;
        channel.eof().await?;
        let mut end = End::default();
        let mut printed = 0;
        while let Some(message) = channel.wait().await {
            let (error, data) = match message {
                ChannelMsg::Data { data } => (false, data),
                ChannelMsg::ExtendedData { data, .. } => (true, data),
                other => {
                    end.take(other);
                    continue;
                }
            };
            printed += data.len() as u64;
            if printed > output {
                channel.close().await.ok();
                return Err(ExecError::TooMuch { doing: "run the command".to_owned(), bytes: output });
            }
            on_output(error, &data);
        }
        end.finish(Vec::new())
    }

    async fn open_channel(&self) -> Result<Channel<client::Msg>, ExecError> {
        match tokio::time::timeout(CHANNEL_TIMEOUT, self.handle.channel_open_session()).await {
            Ok(channel) => Ok(channel?),
            Err(_) => Err(ExecError::Silent { doing: "open a session".to_owned(), silence: CHANNEL_TIMEOUT }),
        }
    }

    async fn exec(
        &self,
        root: &Root,
        command: &str,
        mut input: impl AsyncRead + Unpin,
        limits: &Limits<'_>,
        mut on_output: impl FnMut(&[u8]),
    ) -> Result<Exit, ExecError> {
        // A password must be asked for before anything else is sent; otherwise there is nothing to wait for.
        let started = self.start(root, command, matches!(root, Root::SudoPassword(_)), limits).await?;
        let Started { channel, head, mut output, mut errors, mut stderr, mut end } = started;
        let (mut reader, writer) = channel.split();
        // Bytes that the node takes are a sign of life, too.
        let began = Instant::now();
        let alive = AtomicU64::new(0);
        let now = || u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let last = || began + Duration::from_millis(alive.load(Ordering::Relaxed));
        let send = async {
            let mut stream = writer.make_writer();
            let mut buffer = vec![0u8; 64 * 1024];
            loop {
                match input.read(&mut buffer).await {
                    Ok(0) => break,
                    // The other side may have ended already; its exit code says why.
                    Ok(n) if stream.write_all(&buffer[..n]).await.is_err() => return Ok(()),
                    Ok(_) => alive.store(now(), Ordering::Relaxed),
                    Err(error) => return Err(error),
                }
            }
            writer.eof().await.ok();
            Ok(())
        };
        let receive = async {
            let mut printed = head.len() as u64;
            on_output(&head);
            loop {
                let message = match tokio::time::timeout_at(last() + limits.silence, reader.wait()).await {
                    Ok(Some(message)) => message,
                    Ok(None) => return Ok(()),
                    Err(_) if last().elapsed() < limits.silence => continue,
                    Err(_) => return Err(limits.silent()),
                };
                alive.store(now(), Ordering::Relaxed);
                match message {
                    ChannelMsg::Data { data } => {
                        printed += data.len() as u64;
                        if printed > limits.output {
                            return Err(ExecError::TooMuch { doing: limits.doing.to_owned(), bytes: limits.output });
                        }
                        on_output(&output.own(&data));
                    }
                    ChannelMsg::ExtendedData { data, .. } => {
                        printed += data.len() as u64;
                        if printed > limits.output {
                            return Err(ExecError::TooMuch { doing: limits.doing.to_owned(), bytes: limits.output });
                        }
                        stderr.extend_from_slice(&errors.own(&data));
                        if stderr.len() > 2 * STDERR_KEPT {
                            stderr.drain(..stderr.len() - STDERR_KEPT);
                        }
                    }
                    other => end.take(other),
                }
            }
        };
        // When the command has ended nobody reads its input any more.
        let sent = {
            let mut send = std::pin::pin!(send);
            let mut receive = std::pin::pin!(receive);
            tokio::select! {
                sent = &mut send => receive.await.map(|()| sent),
                received = &mut receive => received.map(|()| Ok(())),
            }
        };
        let sent = match sent {
            Ok(sent) => sent,
            Err(error) => {
                // Its program on the node reads the end of its input, or dies of the pipe that nobody reads.
                writer.close().await.ok();
                return Err(error);
            }
        };
        if let Err(source) = sent {
            return Err(ExecError::Read { path: Path::new("the file to upload").to_owned(), source });
        }
        if !output.begun {
            return Err(self.refusal(root, false, end, &output, &errors).await);
        }
        end.finish(stderr)
    }

    /// Says why a command ended before it began. `asked`: whether sudo has asked for the password.
    async fn refusal(&self, root: &Root, asked: bool, end: End, output: &Output, errors: &Output) -> ExecError {
        let Some(code) = end.code else { return ExecError::Lost };
        let said = |output: &Output| String::from_utf8_lossy(&output.before).replace(PROMPT, "").trim().to_owned();
        let (output, errors) = (said(output), said(errors));
        let last = |text: &str| text.lines().rfind(|line| !line.trim().is_empty()).map(|line| printable(line.trim()));
        let said = last(&errors).or(last(&output)).unwrap_or_default();
        let said = said.strip_prefix("sudo: ").unwrap_or(&said).to_owned();
        match root {
            Root::Already => ExecError::NotStarted { code, said },
            // sudo has a language of its own on each system: whether it would ask shows when it may.
            Root::Sudo if self.sudo_asks().await => ExecError::SudoPasswordNeeded,
            Root::SudoPassword(_) if asked => ExecError::SudoPasswordWrong { said },
            _ if errors.contains("sudo") => ExecError::SudoRefused(said),
            _ => ExecError::NotStarted { code, said },
        }
    }

    /// Tells whether sudo asks this user for a password.
    async fn sudo_asks(&self) -> bool {
        let asks = async {
            let mut channel = self.open_channel().await.ok()?;
            channel.exec(true, format!("exec sudo -S -p {PROMPT} -- /bin/true")).await.ok()?;
            channel.eof().await.ok()?;
            let mut errors = Vec::new();
            while let Some(message) = channel.wait().await {
                if let ChannelMsg::ExtendedData { data, .. } = message {
                    errors.extend_from_slice(&data);
                }
            }
            Some(String::from_utf8_lossy(&errors).contains(PROMPT))
        };
        tokio::time::timeout(CHANNEL_TIMEOUT, asks).await.ok().flatten().unwrap_or_default()
    }

    /// Starts a command as root. `waits`: until it has begun; before that, bytes for it could be taken for the password.
    pub(crate) async fn start(
        &self,
        root: &Root,
        command: &str,
        waits: bool,
        limits: &Limits<'_>,
    ) -> Result<Started, ExecError> {
        let inner = format!("echo; echo {READY}; {{ echo; echo {READY}; }} >&2; {command}");
        let inner = shell_word(&inner);
        let command = match root {
            Root::Already => format!("exec /bin/sh -c {inner}"),
            Root::Sudo => format!("exec sudo -n -- /bin/sh -c {inner}"),
            Root::SudoPassword(_) => format!("exec sudo -S -p {PROMPT} -- /bin/sh -c {inner}"),
        };
        let mut channel = self.open_channel().await?;
        channel.exec(true, command).await?;
        let mut end = End::default();
        let (mut output, mut errors) = (Output::default(), Output::default());
        let (mut head, mut stderr) = (Vec::new(), Vec::new());
        // How much of what came before the command's own words was searched for the prompt.
        let mut read = 0;
        let mut asked = false;
        while waits && !output.begun {
            let message = tokio::time::timeout(limits.silence, channel.wait()).await.map_err(|_| limits.silent())?;
            if output.before.len() + errors.before.len() > HEAD_LIMIT {
                return Err(ExecError::TooMuch { doing: limits.doing.to_owned(), bytes: HEAD_LIMIT as u64 });
            }
            match message {
                Some(ChannelMsg::Data { data }) => head.extend_from_slice(&output.own(&data)),
                Some(ChannelMsg::ExtendedData { data, .. }) => {
                    stderr.extend_from_slice(&errors.own(&data));
                    let Root::SudoPassword(Secret(password)) = root else { continue };
                    let unread = errors.before.get(read..).unwrap_or_default();
                    let prompt = unread.windows(PROMPT.len()).position(|text| text == PROMPT.as_bytes());
                    let Some(at) = prompt else { continue };
                    if asked {
                        channel.close().await?;
                        return Err(ExecError::SudoPasswordWrong { said: String::new() });
                    }
                    (asked, read) = (true, read + at + PROMPT.len());
                    channel.data_bytes(format!("{password}\n").into_bytes()).await?;
                }
                Some(other) => end.take(other),
                None => return Err(self.refusal(root, asked, end, &output, &errors).await),
            }
        }
        Ok(Started { channel, head, output, errors, stderr, end })
    }
}

/// A command that runs, with what it has written so far.
pub(crate) struct Started {
    pub(crate) channel: Channel<client::Msg>,
    pub(crate) head: Vec<u8>,
    output: Output,
    errors: Output,
    stderr: Vec<u8>,
    end: End,
}

#[derive(Default)]
struct End {
    code: Option<u32>,
}

impl End {
    fn take(&mut self, message: ChannelMsg) {
        match message {
            ChannelMsg::ExitStatus { exit_status } => self.code = Some(exit_status),
            ChannelMsg::ExitSignal { signal_name, .. } => {
                self.code = Some(match signal_name {
                    russh::Sig::KILL => 137,
                    russh::Sig::TERM => 143,
                    russh::Sig::INT => 130,
                    russh::Sig::PIPE => 141,
                    _ => 128,
                });
            }
            _ => {}
        }
    }

    fn finish(self, stderr: Vec<u8>) -> Result<Exit, ExecError> {
        let start = stderr.len().saturating_sub(STDERR_KEPT);
        let stderr = printable(String::from_utf8_lossy(&stderr[start..]).trim());
        self.code.map(|code| Exit { code, stderr }).ok_or(ExecError::Lost)
    }
}

/// Writes out control characters of what a node printed, so that it cannot steer the terminal that shows it. Newlines and
/// tabs stay.
pub fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' | '\t' => out.push(c),
            // Besides controls: characters that turn the direction of text, behind which words can hide (CVE-2021-42574).
            c if c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}') => {
                out.extend(c.escape_default());
            }
            c => out.push(c),
        }
    }
    out
}

/// Turns bytes into lines, of four megabytes at most; what is longer is cut.
#[derive(Debug, Default)]
pub struct LineReader {
    rest: Vec<u8>,
}

/// A line may have so many bytes; the rest of a longer one is dropped. The longest one that is meant is a file in base64.
const LINE_LIMIT: usize = 4 * 1024 * 1024;

impl LineReader {
    /// Takes bytes as they come; each line that is whole now goes to `on_line`.
    pub fn feed(&mut self, mut bytes: &[u8], on_line: &mut impl FnMut(&str)) {
        // Only what is new is searched: a line may come in very many pieces.
        while let Some(at) = bytes.iter().position(|b| *b == b'\n') {
            if self.rest.is_empty() {
                on_line(&String::from_utf8_lossy(&bytes[..at]));
            } else {
                self.keep(&bytes[..at]);
                on_line(&String::from_utf8_lossy(&self.rest));
                self.rest.clear();
            }
            bytes = &bytes[at + 1..];
        }
        self.keep(bytes);
    }

    fn keep(&mut self, bytes: &[u8]) {
        let room = LINE_LIMIT.saturating_sub(self.rest.len());
        self.rest.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    /// Gives the last line, if no newline ended it.
    pub fn end(self, on_line: &mut impl FnMut(&str)) {
        if !self.rest.is_empty() {
            on_line(&String::from_utf8_lossy(&self.rest));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_may_arrive_in_pieces() {
        let mut lines = LineReader::default();
        let mut seen = Vec::new();
        for piece in ["a", "b\nc", "\n\nd"] {
            lines.feed(piece.as_bytes(), &mut |line: &str| seen.push(line.to_owned()));
        }
        lines.end(&mut |line: &str| seen.push(line.to_owned()));
        assert_eq!(seen, ["ab", "c", "", "d"]);
    }

    #[test]
    fn a_command_begins_with_its_own_line_whatever_was_printed_before_it_and_however_it_comes() {
        let all = format!("Welcome to pi\nsay {READY}\n no newline\n{READY}\nown\n\n{READY}\n");
        for size in 1..all.len() {
            let mut output = Output::default();
            let own: Vec<u8> = all.as_bytes().chunks(size).flat_map(|piece| output.own(piece).into_owned()).collect();
            assert_eq!(String::from_utf8(own).unwrap(), format!("own\n\n{READY}\n"), "in pieces of {size}");
        }
    }

    #[test]
    fn a_line_that_never_ends_takes_no_more_memory_than_the_longest_line_and_no_more_time_than_its_bytes() {
        let mut lines = LineReader::default();
        let mut seen = 0;
        // A gigabyte: searched again with each piece, this would take days.
        let piece = [b'x'; 32 * 1024];
        for _ in 0..32 * 1024 {
            lines.feed(&piece, &mut |_: &str| seen += 1);
        }
        assert_eq!((seen, lines.rest.len()), (0, LINE_LIMIT));
        lines.feed(b"\nnext\n", &mut |line: &str| seen += line.len());
        assert_eq!(seen, LINE_LIMIT + 4);
    }

    #[test]
    fn what_a_node_prints_steers_no_terminal() {
        assert_eq!(printable("a\tb\nc"), "a\tb\nc");
        assert_eq!(printable("\u{1b}]0;title\u{7}\r\u{9b}2J\u{202e}x"), "\\u{1b}]0;title\\u{7}\\r\\u{9b}2J\\u{202e}x");
    }
}
