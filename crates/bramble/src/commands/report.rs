//! `bramble report`: what somebody who helps wants to see, without secrets and addresses.

use std::fs;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use anyhow::Context;
use bramble_shell::{Commands, OUTPUT, Script};
use flate2::Compression;
use flate2::write::GzEncoder;
use regex::Regex;
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::commands::why::{gather, render};
use crate::drive::{stamp, visit};
use crate::ui::printer::{Format, Printer, Style};
use crate::{Common, Done, cluster_file};
use bramble_engine::{Event, Project, Session, SshNetwork, random};

#[derive(clap::Args)]
pub(crate) struct Report {
    /// The file to write; otherwise CLUSTER-TIME-report.tar.gz beside the cluster file
    #[arg(long, value_name = "FILE")]
    to: Option<PathBuf>,
    /// Write it without a question
    #[arg(short, long)]
    yes: bool,
}

/// What a node is asked for: nothing that changes it, and no file that holds secrets by its nature.
const JOURNAL: &str = "journalctl -q --no-pager -b -p warning -n 2000 -o short-iso || :\n\
                       echo; uname -a; uptime; free -m; df -h; ip -br addr; ip route; lsblk; \
                       systemctl --failed --no-pager --plain || :";

impl Report {
    pub(crate) async fn run(self, common: &Common, printer: &Printer) -> anyhow::Result<Done> {
        let project = cluster_file::open(common, printer)?;
        let mut files = own_files(&project, common)?;
        let gathered = gather(&project, &[], printer).await?;
        let causes = gathered.causes(&project.cluster, &[]);
        files.push(("why.txt".into(), render(&printer.plain(), &causes)));
        let work = async |session: Session<SshNetwork>| {
            session.say(Event::Looking);
            let mut commands = Commands::new();
            commands.call("exec sh -c", [JOURNAL]);
            let text = session.ask(&Script::new("gather its journal", &commands).printing(OUTPUT), |_, _| {}).await;
            session.say(Event::Looked);
            Ok((session.node.name.clone(), text.unwrap_or_else(|error| format!("{error:#}"))))
        };
        let fleet = visit(&cluster_file::network(&project)?, &project.cluster.nodes, printer, work).await?;
        for (name, text) in fleet.nodes {
            files.push((format!("nodes/{name}.txt"), text));
        }
        for (node, error) in fleet.lost {
            files.push((format!("nodes/{}.txt", node.name), format!("it could not be reached: {error:#}\n")));
        }
        let redaction = Redaction::new()?;
        let files: Vec<(String, String)> =
            files.into_iter().map(|(name, text)| (name, redaction.apply(&text))).collect();
        let to = self
            .to
            .clone()
            .unwrap_or_else(|| project.dir.join(format!("{}-{}-report.tar.gz", project.cluster.name, stamp())));
        if printer.format == Format::Text {
            let list: String = files
                .iter()
                .map(|(name, text)| format!("\n  {name:<28} {:>7.1} kB", text.len() as f64 / 1e3))
                .collect();
            printer.info(format!("{} has, with secrets and addresses replaced:{list}", to.display()));
        }
        if !self.yes {
            let refused = "nothing was written: pass --yes to write it without a question";
            printer.agree("Write it?", refused, refused)?;
        }
        write(&to, &files).with_context(|| format!("cannot write {}", to.display()))?;
        if printer.format == Format::Json {
            let names: Vec<&String> = files.iter().map(|(name, _)| name).collect();
            printer.json(&json!({ "file": to, "files": names }));
        } else {
            let good = printer.style(Style::Good, "✓");
            printer
                .result(format!("{good} {} is written. Look through it before you send it to anybody.", to.display()));
        }
        Ok(Done::Good)
    }
}

/// The cluster file, the lock file and the log of the last run.
fn own_files(project: &Project, common: &Common) -> anyhow::Result<Vec<(String, String)>> {
    let mut files = vec![
        ("version.txt".to_owned(), format!("bramble {}\n", env!("CARGO_PKG_VERSION"))),
        ("bramble.yaml".to_owned(), fs::read_to_string(&common.file)?),
    ];
    if let Ok(text) = fs::read_to_string(project.dir.join("bramble.lock")) {
        files.push(("bramble.lock".into(), text));
    }
    let mut logs: Vec<PathBuf> = fs::read_dir(project.private_dir()?.join("log"))
        .map(|all| all.flatten().map(|entry| entry.path()).collect())
        .unwrap_or_default();
    logs.sort();
    if let Some(last) = logs.last() {
        files.push(("last-run.log".into(), String::from_utf8_lossy(&fs::read(last)?).into_owned()));
    }
    Ok(files)
}

fn write(to: &PathBuf, files: &[(String, String)]) -> anyhow::Result<()> {
    let file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(to)?;
    let mut archive = tar::Builder::new(GzEncoder::new(file, Compression::default()));
    for (name, text) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        archive.append_data(&mut header, format!("report/{name}"), text.as_bytes())?;
    }
    archive.into_inner()?.finish()?.sync_all()?;
    Ok(())
}

/// What stands in the place of secrets and addresses: the same for the same within one report, so that a reader can still tell
/// them apart.
struct Redaction {
    addresses: Vec<(Regex, &'static str)>,
    secrets: Vec<(Regex, &'static str)>,
    /// Of this report alone: there are few addresses, and who knew how their words are made could try them all.
    salt: [u8; 16],
}

/// What the names of secrets have in them.
const WORDS: &str = "password|passwd|passphrase|psk|secret|token|vpn-auth|credential|access[-_]?key|api[-_]?key";

impl Redaction {
    /// Names of nodes and of the cluster stay: without them nothing can be understood.
    fn new() -> anyhow::Result<Redaction> {
        let of = |pattern: &str, with: &'static str| Regex::new(pattern).map(|regex| (regex, with));
        let key = format!(r#"(?im)^?((?:{WORDS})[\w.-]*["']?[ \t]*[:=][ \t]*)"#);
        let secrets = vec![
            // Bootstrap tokens, tokens of k3s, JSON web tokens, keys of age, private keys.
            of(r"\b[a-z0-9]{6}\.[a-z0-9]{16}\b", "SECRET")?,
            of(r"K10[0-9a-f]{64}::\S+", "SECRET")?,
            of(r"\beyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_.-]+", "SECRET")?,
            of(r"AGE-SECRET-KEY-1\w+", "SECRET")?,
            of(r"(?s)-----BEGIN [A-Z ]*PRIVATE KEY-----.*?-----END [A-Z ]*PRIVATE KEY-----", "SECRET")?,
            // A block of text, a quoted text, and the rest of a line up to what ends a value in a list.
            of(&format!(r"{key}[|>][-+0-9]*[ \t]*\n(?:[ \t]+\S.*\n?)+"), "${1}SECRET\n")?,
            of(&format!(r#"{key}"(?:[^"\\]|\\.)*""#), "${1}SECRET")?,
            of(&format!(r"{key}'(?:[^']|'')*'"), "${1}SECRET")?,
            of(&format!(r#"{key}[^\s,}}\]"'|>{{][^\n,}}\]]*"#), "${1}SECRET")?,
            // Of a database's address: up to the last sign before the host.
            of(r"(\b[a-z][a-z0-9+]*://[^\s:/@]+:)\S*@", "${1}SECRET@")?,
            // Public keys tell who somebody is.
            of(r"\b(ssh-[a-z0-9]+|ecdsa-sha2-\S+) AAAA[A-Za-z0-9+/=]+", "$1 KEY")?,
        ];
        let addresses = vec![
            (Regex::new(r"\b(?:[0-9a-fA-F]{2}:){5}[0-9a-fA-F]{2}\b")?, "mac"),
            (Regex::new(r"\b(?:[0-9]{1,3}\.){3}[0-9]{1,3}\b")?, "ip"),
            (Regex::new(r"\b[0-9a-fA-F]{1,4}(?::[0-9a-fA-F]{0,4}){2,7}\b")?, "ip6"),
        ];
        Ok(Redaction { addresses, secrets, salt: random()? })
    }

    fn apply(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (pattern, with) in &self.secrets {
            text = pattern.replace_all(&text, *with).into_owned();
        }
        for (pattern, kind) in &self.addresses {
            text = pattern.replace_all(&text, |found: &regex::Captures<'_>| self.word(kind, &found[0])).into_owned();
        }
        text
    }

    /// A word for an address. What every machine has, such as 127.0.0.1, stays, and times of day are none.
    fn word(&self, kind: &str, address: &str) -> String {
        let same = ["127.0.0.1", "0.0.0.0", "255.255.255.255", "00:00:00:00:00:00", "ff:ff:ff:ff:ff:ff"];
        let is_time = address.len() == 8 && address.bytes().all(|b| b.is_ascii_digit() || b == b':');
        if same.contains(&address)
            || (kind == "ip6" && (is_time || !address.contains("::") && address.matches(':').count() < 7))
        {
            return address.to_owned();
        }
        let digest = Sha256::new_with_prefix(self.salt).chain_update(kind).chain_update(address.to_ascii_lowercase());
        format!("<{kind}-{}>", &bramble_spec::hex(&digest.finalize())[..6])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redacted(text: &str) -> String {
        Redaction::new().unwrap().apply(text)
    }

    #[test]
    fn secrets_are_replaced() {
        for text in [
            "token: abcdef.0123456789abcdef hunter2",
            "--token K10aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa::server:hunter2",
            "password: hunter2",
            "password: \"two hunter2\"",
            "password: 'it''s hunter2, too'",
            "password: |\n  first\n  hunter2\nnext: x",
            "etcd-s3-secret-key: hunter2 }",
            "{ passphrase: one hunter2, more: x }",
            "psk=\"hunter2\"",
            "\"secretKey\": \"hunter2\"",
            "postgres://bramble:hun@ter@hunter2@10.0.0.9/k3s",
            "AGE-SECRET-KEY-1HUNTER2hunter2",
            "-----BEGIN OPENSSH PRIVATE KEY-----\nhunter2\n-----END OPENSSH PRIVATE KEY-----",
        ] {
            let said = redacted(text);
            assert!(said.contains("SECRET") && !said.contains("hunter2"), "{text}: {said}");
        }
        assert!(!redacted("abcdef.0123456789abcdef").contains("abcdef"));
        let block = redacted("password: |\n  first\n  second\nnext: x\n");
        assert_eq!(block, "password: SECRET\nnext: x\n");
        let plain = "access: { user: pi, sudo: password }\nnetwork: { subnet: x }\n";
        assert_eq!(redacted(plain), plain, "what is no secret stays");
    }

    #[test]
    fn addresses_are_replaced_by_words_that_stay_the_same() {
        let said = redacted(
            "a 10.0.0.51 b 10.0.0.52 c 10.0.0.51 dc:a6:32:01:02:03 2001:db8::1 fd00::1 127.0.0.1 12:30:59 v1.36.3",
        );
        let words: Vec<&str> = said.split(' ').collect();
        assert_eq!(words[1], words[5]);
        assert!(words[1] != words[3] && words[1].starts_with("<ip-") && words[6].starts_with("<mac-"), "{said}");
        assert!(words[7].starts_with("<ip6-") && words[8].starts_with("<ip6-"), "{said}");
        assert!(said.ends_with("127.0.0.1 12:30:59 v1.36.3"), "{said}");
        let again = redacted("10.0.0.51");
        assert_ne!(again, words[1], "another report has other words");
    }
}
