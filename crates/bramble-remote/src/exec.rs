//! Commands on a node: a script as root, an upload, a user's command.

use std::fmt;
use std::path::Path;

use bramble_spec::shell_word;
use russh::{Channel, ChannelMsg, client};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};

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

/// Whether a command says by itself that it is ready for its input.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Announces {
    Yes,
    No,
}

const STDERR_KEPT: usize = 8 * 1024;
/// What sudo prints when it is about to read the password; random enough that no program prints it by accident.
const PROMPT: &str = "bramble-sudo-password-7f3a:";
const READY: &str = "bramble-ready-7f3a";

/// Takes what sshd sends until the bytes of a file were received; `$1` digest, `$2` folder. It writes beside the
/// place, verifies, and only then renames: what was interrupted is never mistaken for the file.
const RECEIVER: &str = r#"set -e; umask 077; mkdir -p "$2"; rm -f "$2"/.part.*; t="$2/.part.$$"; echo bramble-ready-7f3a; cat >"$t"; s=$(sha256sum <"$t"); if [ "${s%% *}" != "$1" ]; then rm -f "$t"; echo "the digest of what arrived is ${s%% *}" >&2; exit 9; fi; sync "$t"; mv "$t" "$2/$1""#;

impl Connection {
    /// Runs a script as root with `/bin/sh`. The script travels through standard input: nothing of it is seen in a
    /// list of processes. It runs only when all of it has arrived. `on_line` gets each line of standard output.
    pub async fn run_script(
        &self,
        root: &Root,
        script: &str,
        mut on_line: impl FnMut(&str),
    ) -> Result<Exit, ExecError> {
        let mut lines = Lines::default();
        let exit = self.read_script(root, script, |bytes| lines.feed(bytes, &mut on_line)).await?;
        lines.end(&mut on_line);
        Ok(exit)
    }

    /// The same for a script that prints something else than lines.
    pub async fn read_script(
        &self,
        root: &Root,
        script: &str,
        on_output: impl FnMut(&[u8]),
    ) -> Result<Exit, ExecError> {
        // A shell reads its input bit by bit; as one braced group it is parsed whole before any of it runs.
        let body = format!("{{\n{script}\nexit 0\n}}\n");
        self.exec(root, "exec /bin/sh -s", Announces::No, body.as_bytes(), on_output).await
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
        let exit = self.exec(root, &command, Announces::Yes, content, |_| {}).await?;
        if exit.success() {
            return Ok(());
        }
        let reason = if exit.stderr.is_empty() { format!("exit code {}", exit.code) } else { exit.stderr };
        Err(ExecError::Upload { name: name.to_owned(), reason })
    }

    /// Runs a command line with the user's shell, with an empty standard input.
    pub async fn run_command(&self, command: &str, mut on_output: impl FnMut(bool, &[u8])) -> Result<Exit, ExecError> {
        let mut channel = self.handle.channel_open_session().await?;
        channel.exec(true, command).await?;
        channel.eof().await?;
        let mut end = End::default();
        while let Some(message) = channel.wait().await {
            match message {
                ChannelMsg::Data { data } => on_output(false, &data),
                ChannelMsg::ExtendedData { data, .. } => on_output(true, &data),
                other => end.take(other),
            }
        }
        end.finish(Vec::new())
    }

    async fn exec(
        &self,
        root: &Root,
        command: &str,
        announces: Announces,
        mut input: impl AsyncRead + Unpin,
        mut on_output: impl FnMut(&[u8]),
    ) -> Result<Exit, ExecError> {
        let Started { channel, head, mut stderr, mut end } = self.start(root, command, announces).await?;
        let (mut reader, writer) = channel.split();
        let send = async {
            let mut stream = writer.make_writer();
            let mut buffer = vec![0u8; 256 * 1024];
            loop {
                match input.read(&mut buffer).await {
                    Ok(0) => break,
                    // The other side may have ended already; its exit code says why.
                    Ok(n) if stream.write_all(&buffer[..n]).await.is_err() => return Ok(()),
                    Ok(_) => {}
                    Err(error) => return Err(error),
                }
            }
            writer.eof().await.ok();
            Ok(())
        };
        let receive = async {
            on_output(&head);
            while let Some(message) = reader.wait().await {
                match message {
                    ChannelMsg::Data { data } => on_output(&data),
                    ChannelMsg::ExtendedData { data, .. } => {
                        stderr.extend_from_slice(&data);
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
                sent = &mut send => { receive.await; sent }
                () = &mut receive => Ok(()),
            }
        };
        if let Err(source) = sent {
            return Err(ExecError::Read { path: Path::new("the file to upload").to_owned(), source });
        }
        if let Some(error) = end.sudo_error(&stderr) {
            return Err(error);
        }
        end.finish(stderr)
    }

    /// Starts a command as root and waits until it is ready for its input, if it says so.
    pub(crate) async fn start(&self, root: &Root, command: &str, announces: Announces) -> Result<Started, ExecError> {
        let asks = matches!(root, Root::SudoPassword(_));
        let command = match root {
            Root::Already => command.to_owned(),
            Root::Sudo => format!("exec sudo -n -- /bin/sh -c {}", shell_word(command)),
            Root::SudoPassword(_) => {
                let inner =
                    if announces == Announces::Yes { command.to_owned() } else { format!("echo {READY}; {command}") };
                format!("exec sudo -S -p {PROMPT} -- /bin/sh -c {}", shell_word(&inner))
            }
        };
        let mut channel = self.handle.channel_open_session().await?;
        channel.exec(true, command).await?;
        let mut end = End::default();
        let mut stderr: Vec<u8> = Vec::new();
        let mut head: Vec<u8> = Vec::new();
        // Bytes sent before the receiver runs would be taken for the password; a script to passwordless sudo needs
        // no such care and saves the round trip.
        let mut waiting = asks || announces == Announces::Yes;
        let mut prompts = 0;
        while waiting {
            match channel.wait().await {
                Some(ChannelMsg::Data { data }) => {
                    head.extend_from_slice(&data);
                    if let Some(at) = head.iter().position(|b| *b == b'\n') {
                        if head[..at] == *READY.as_bytes() {
                            head.drain(..=at);
                        }
                        waiting = false;
                    }
                }
                Some(ChannelMsg::ExtendedData { data, .. }) => {
                    stderr.extend_from_slice(&data);
                    let text = String::from_utf8_lossy(&stderr).into_owned();
                    if let (Some(at), Root::SudoPassword(Secret(password))) = (text.find(PROMPT), root) {
                        prompts += 1;
                        if prompts > 1 {
                            channel.close().await?;
                            return Err(ExecError::SudoPasswordWrong);
                        }
                        stderr = text.as_bytes()[at + PROMPT.len()..].to_vec();
                        channel.data_bytes(format!("{password}\n").into_bytes()).await?;
                    }
                }
                Some(other) => end.take(other),
                None => return Err(end.sudo_error(&stderr).unwrap_or(ExecError::Lost)),
            }
        }
        Ok(Started { channel, head, stderr, end })
    }
}

/// A command that runs, with what it has written so far.
pub(crate) struct Started {
    pub(crate) channel: Channel<client::Msg>,
    pub(crate) head: Vec<u8>,
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

    fn sudo_error(&self, stderr: &[u8]) -> Option<ExecError> {
        if self.code != Some(1) {
            return None;
        }
        let text = String::from_utf8_lossy(stderr);
        let line = text.lines().find(|line| line.starts_with("sudo: ") || line.contains("sudoers"))?;
        if line.contains("a password is required") || line.contains("a terminal is required") {
            Some(ExecError::SudoPasswordNeeded)
        } else if line.contains("incorrect password") || line.contains("no password was provided") {
            Some(ExecError::SudoPasswordWrong)
        } else {
            Some(ExecError::SudoRefused(line.trim_start_matches("sudo: ").to_owned()))
        }
    }

    fn finish(self, stderr: Vec<u8>) -> Result<Exit, ExecError> {
        let start = stderr.len().saturating_sub(STDERR_KEPT);
        let stderr = String::from_utf8_lossy(&stderr[start..]).trim().to_owned();
        self.code.map(|code| Exit { code, stderr }).ok_or(ExecError::Lost)
    }
}

/// Bytes to lines.
#[derive(Default)]
pub(crate) struct Lines {
    rest: Vec<u8>,
}

impl Lines {
    pub(crate) fn feed(&mut self, bytes: &[u8], on_line: &mut impl FnMut(&str)) {
        self.rest.extend_from_slice(bytes);
        let mut start = 0;
        while let Some(at) = self.rest[start..].iter().position(|b| *b == b'\n') {
            on_line(&String::from_utf8_lossy(&self.rest[start..start + at]));
            start += at + 1;
        }
        self.rest.drain(..start);
    }

    fn end(self, on_line: &mut impl FnMut(&str)) {
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
        let mut lines = Lines::default();
        let mut seen = Vec::new();
        for piece in ["a", "b\nc", "\n\nd"] {
            lines.feed(piece.as_bytes(), &mut |line: &str| seen.push(line.to_owned()));
        }
        lines.end(&mut |line: &str| seen.push(line.to_owned()));
        assert_eq!(seen, ["ab", "c", "", "d"]);
    }
}
