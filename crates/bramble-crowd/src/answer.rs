//! Members, and how a real node's answer becomes theirs.

use std::net::Ipv4Addr;
use std::process::Stdio;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, anyhow};
use bramble_spec::hex;
use sha2::{Digest, Sha256};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// How a member behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// Bytes take this long, in each direction.
    Delay(Duration),
    /// It takes the connection and never says a word.
    Mute,
}

/// A pretended node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its name.
    pub name: String,
    /// Its address, by which it is told from the others.
    pub address: Ipv4Addr,
    /// Its Ethernet address.
    pub mac: String,
    /// How it behaves.
    pub pace: Pace,
}

impl FromStr for Member {
    type Err = anyhow::Error;

    /// Reads `name address mac pace`; the pace is a delay in milliseconds, or `mute`.
    fn from_str(line: &str) -> anyhow::Result<Member> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [name, address, mac, pace] = words.as_slice() else {
            return Err(anyhow!("`{line}` is not `name address mac pace`"));
        };
        let pace = match *pace {
            "mute" => Pace::Mute,
            number => Pace::Delay(Duration::from_millis(
                number.parse().with_context(|| format!("`{number}` is neither milliseconds nor `mute`"))?,
            )),
        };
        let address = address.parse().with_context(|| format!("`{address}` is no IPv4 address"))?;
        Ok(Member { name: (*name).to_owned(), address, mac: (*mac).to_owned(), pace })
    }
}

impl Member {
    /// What is particular to it, in the order in which it is replaced.
    fn traits(&self) -> [String; 4] {
        let digest = hex(&Sha256::digest(format!("{}\n", self.name)));
        [self.name.clone(), self.address.to_string(), self.mac.clone(), digest]
    }
}

/// The node that really answers.
#[derive(Debug, Clone)]
pub struct Real {
    /// What it is called and where.
    pub member: Member,
    /// A shell command that runs `$1` on it, with this one's standard input.
    pub command: String,
}

/// What a command wrote, and how it ended.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) stdout: Vec<u8>,
    pub(crate) code: u32,
}

impl Real {
    /// What a member is asked, as it would be asked of the real node.
    pub(crate) fn question(&self, member: &Member, text: &str) -> String {
        replace(text, &member.traits(), &self.member.traits())
    }

    /// The real node's answer as the member's; `hosts` are the lines that the block in its /etc/hosts should have.
    pub(crate) fn answer(&self, member: &Member, text: &str, hosts: &str) -> String {
        let text = with_fact(&with_hosts(text, hosts), "machine-id", &member.name);
        let text = with_fact(&text, "host-key", &member.name);
        replace(&text, &self.member.traits(), &member.traits())
    }

    pub(crate) async fn ask(&self, command: &str, input: &str) -> anyhow::Result<Answer> {
        let mut child = Command::new("/bin/sh")
            .args(["-c", &self.command, "crowd", command])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start a shell")?;
        let mut stdin = child.stdin.take().context("the shell has no standard input")?;
        // One that ends before it has read everything is its own affair.
        stdin.write_all(input.as_bytes()).await.ok();
        drop(stdin);
        let output = child.wait_with_output().await.context("cannot wait for the shell")?;
        let code = output.status.code().and_then(|code| u32::try_from(code).ok()).unwrap_or(128);
        Ok(Answer { stdout: output.stdout, code })
    }
}

/// Replaces whole words, so that `n1` is not found in `n12`.
fn replace(text: &str, from: &[String], to: &[String]) -> String {
    let word = |c: char| c.is_ascii_alphanumeric();
    let mut text = text.to_owned();
    for (from, to) in from.iter().zip(to).filter(|(from, _)| text.contains(from.as_str())).collect::<Vec<_>>() {
        let mut out = String::with_capacity(text.len());
        let mut rest = text.as_str();
        while let Some(at) = rest.find(from.as_str()) {
            let (before, after) = (&rest[..at], &rest[at + from.len()..]);
            let whole = !before.ends_with(word) && !after.starts_with(word);
            out.push_str(before);
            out.push_str(if whole { to } else { from });
            rest = after;
        }
        out.push_str(rest);
        text = out;
    }
    text
}

/// Puts the whole crowd into the block that bramble keeps in /etc/hosts: the real node knows only itself.
fn with_hosts(text: &str, hosts: &str) -> String {
    let Some(start) = text.find("text /etc/hosts\n") else { return text.to_owned() };
    let Some(begin) = text[start..].find("=# BEGIN bramble\n") else { return text.to_owned() };
    let begin = start + begin + "=# BEGIN bramble\n".len();
    let Some(length) = text[begin..].find("=# END bramble\n") else { return text.to_owned() };
    format!("{}{hosts}{}", &text[..begin], &text[begin + length..])
}

/// Two nodes with one machine-id or one host key would be a fault.
fn with_fact(text: &str, fact: &str, name: &str) -> String {
    let start = format!("fact {fact} ");
    let Some(at) = text.find(&start) else { return text.to_owned() };
    let at = at + start.len();
    let end = text[at..].find('\n').map_or(text.len(), |length| at + length);
    format!("{}{}{}", &text[..at], &hex(&Sha256::digest(name))[..32], &text[end..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_becomes_another_nodes() {
        let real: Member = "n1 10.0.0.1 dc:a6:32:00:00:01 0".parse().unwrap();
        let other: Member = "n2 10.0.0.2 dc:a6:32:00:00:02 mute".parse().unwrap();
        assert_eq!(other.pace, Pace::Mute);
        let real = Real { member: real, command: String::new() };
        let digest = |name: &str| hex(&Sha256::digest(format!("{name}\n")));
        let text = format!(
            "fact hostname n1\nsha {} /etc/hostname\nn12 10.0.0.1 10.0.0.11\ntext /etc/hosts\n=127.0.0.1 localhost\n\
             =# BEGIN bramble\n=10.0.0.1 n1\n=# END bramble\n.\n",
            digest("n1")
        );
        let answer = real.answer(&other, &text, "=10.0.0.7 n7\n=10.0.0.8 n8\n");
        assert_eq!(
            answer,
            format!(
                "fact hostname n2\nsha {} /etc/hostname\nn12 10.0.0.2 10.0.0.11\ntext /etc/hosts\n=127.0.0.1 localhost\n\
                 =# BEGIN bramble\n=10.0.0.7 n7\n=10.0.0.8 n8\n=# END bramble\n.\n",
                digest("n2")
            )
        );
        assert_eq!(real.question(&other, "hostname n2 n22"), "hostname n1 n22");
        assert!("n1 10.0.0 x 0".parse::<Member>().is_err());
    }
}
