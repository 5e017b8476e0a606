//! What the user's OpenSSH configuration says about a host.

use std::path::PathBuf;
use std::process::Stdio;

/// The part of `ssh -G` that matters here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SshConfig {
    /// The name or address to connect to.
    pub hostname: Option<String>,
    /// The port.
    pub port: Option<u16>,
    /// The user.
    pub user: Option<String>,
    /// Key files that exist.
    pub identities: Vec<PathBuf>,
    /// Hosts to go through, first hop first, as `[user@]host[:port]`.
    pub jump: Vec<String>,
}

/// Asks the installed ssh, which knows Match, Include and all patterns. `None` if there is no ssh.
pub async fn lookup(host: &str) -> Option<SshConfig> {
    let output = tokio::process::Command::new("ssh")
        .args(["-G", "--", host])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .await
        .ok()?;
    output.status.success().then(|| SshConfig::parse(&String::from_utf8_lossy(&output.stdout)))
}

impl SshConfig {
    /// Reads what `ssh -G` prints (ssh(1)).
    pub fn parse(text: &str) -> SshConfig {
        let mut config = SshConfig::default();
        for line in text.lines() {
            let Some((key, value)) = line.split_once(' ') else { continue };
            match key {
                "hostname" => config.hostname = Some(value.to_owned()),
                "port" => config.port = value.parse().ok(),
                "user" => config.user = Some(value.to_owned()),
                "identityfile" => config.identities.push(PathBuf::from(value)),
                "proxyjump" if value != "none" => config.jump = value.split(',').map(str::to_owned).collect(),
                _ => {}
            }
        }
        config
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_output_of_ssh_is_understood() {
        let config = SshConfig::parse(
            "host kube1\nuser pi\nhostname 10.0.0.50\nport 2222\nidentityfile ~/.ssh/rack\nproxyjump a@b:22,c\n",
        );
        assert_eq!(
            config,
            SshConfig {
                hostname: Some("10.0.0.50".into()),
                port: Some(2222),
                user: Some("pi".into()),
                identities: vec!["~/.ssh/rack".into()],
                jump: vec!["a@b:22".into(), "c".into()],
            }
        );
        assert!(SshConfig::parse("proxyjump none\n").jump.is_empty());
    }
}
