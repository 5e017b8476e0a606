//! What the user's OpenSSH configuration says about a host.

use std::path::{Path, PathBuf};
use std::process::Stdio;

/// The part of `ssh -G` that matters here, with nothing expanded that ssh leaves as it was written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SshConfig {
    /// The name or address to connect to.
    pub hostname: Option<String>,
    /// The port.
    pub port: Option<u16>,
    /// The user.
    pub user: Option<String>,
    /// Key files, which need not exist; none if those are meant that ssh tries by itself.
    pub identities: Vec<String>,
    /// Files of certificates for keys.
    pub certificates: Vec<String>,
    /// Whether keys of the agent are used only if they are among the files.
    pub identities_only: bool,
    /// The socket of the agent: a path, a variable, `SSH_AUTH_SOCK` or `none`.
    pub agent: Option<String>,
    /// Hosts to go through, first hop first, as `[user@]host[:port]` or an address that begins with `ssh://`.
    pub jump: Vec<String>,
    /// A command whose input and output are the connection.
    pub proxy_command: Option<String>,
    /// The name under which known_hosts files have it.
    pub host_key_alias: Option<String>,
    /// The user's files of known hosts; `None`: those that ssh reads by itself.
    pub user_known_hosts: Option<Vec<PathBuf>>,
    /// The system's.
    pub global_known_hosts: Option<Vec<PathBuf>>,
    /// A file of keys that no host may show.
    pub revoked_host_keys: Option<String>,
    /// Whether the command of `proxy_command` hands over a socket, in the place of its input and output.
    pub proxy_hands_over: bool,
    /// What `%C` stands for, which is hashed out of other things by newer versions of ssh than by older ones.
    pub connection: Option<String>,
}

/// The names of the key files that ssh tries by itself (ssh_config(5), `IdentityFile`), and those of older and newer versions.
const USUAL: [&str; 7] = ["id_rsa", "id_ecdsa", "id_ecdsa_sk", "id_ed25519", "id_ed25519_sk", "id_xmss", "id_dsa"];

/// Asks the installed ssh, which knows Match, Include and all patterns, as if it were to log in as this user on this port.
/// `Ok(None)` if there is no ssh.
///
/// # Errors
/// What ssh says of a configuration that it does not take.
pub async fn lookup(host: &str, user: Option<&str>, port: Option<u16>) -> Result<Option<SshConfig>, String> {
    let mut command = tokio::process::Command::new("ssh");
    command.args(["-G", "-o", "ControlPath=%C"]);
    if let Some(user) = user {
        command.args(["-l", user]);
    }
    if let Some(port) = port {
        command.args(["-p", &port.to_string()]);
    }
    let Ok(output) = command.args(["--", host]).stdin(Stdio::null()).output().await else { return Ok(None) };
    if output.status.success() {
        return Ok(Some(SshConfig::parse(&String::from_utf8_lossy(&output.stdout))));
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said: Vec<&str> = said.lines().map(str::trim).filter(|line| is_of_configuration(line)).collect();
    Err(said.join("; "))
}

/// Whether a line says what is wrong: not that it is the end, nor of terminals.
fn is_of_configuration(line: &str) -> bool {
    !line.is_empty() && !line.contains("terminating, ") && !line.starts_with("Pseudo-terminal")
}

impl SshConfig {
    /// Reads what `ssh -G` prints (ssh(1)).
    pub fn parse(text: &str) -> SshConfig {
        let mut config = SshConfig::default();
        for line in text.lines() {
            let Some((key, value)) = line.split_once(' ') else { continue };
            let text = || value.to_owned();
            match key {
                "hostname" => config.hostname = Some(text()),
                "port" => config.port = value.parse().ok(),
                "user" => config.user = Some(text()),
                "identityfile" => config.identities.push(text()),
                "certificatefile" => config.certificates.push(text()),
                "identitiesonly" => config.identities_only = value == "yes",
                "identityagent" => config.agent = Some(text()),
                "proxyjump" if value != "none" => config.jump = value.split(',').map(str::to_owned).collect(),
                "proxycommand" if value != "none" => config.proxy_command = Some(text()),
                "proxyusefdpass" => config.proxy_hands_over = value == "yes",
                "revokedhostkeys" if value != "none" => config.revoked_host_keys = Some(text()),
                "controlpath" => config.connection = Some(text()),
                "hostkeyalias" => config.host_key_alias = Some(text()),
                "userknownhostsfile" => config.user_known_hosts = Some(paths(value)),
                "globalknownhostsfile" => config.global_known_hosts = Some(paths(value)),
                _ => {}
            }
        }
        // ssh lists what it tries by itself only where nothing is configured.
        let usual = |written: &String| USUAL.iter().any(|name| *written == format!("~/.ssh/{name}"));
        if config.identities.len() >= 3 && config.identities.iter().all(usual) {
            config.identities.clear();
        }
        config
    }
}

/// Takes a list of files apart, which is printed without quotes: each begins with its root.
fn paths(list: &str) -> Vec<PathBuf> {
    let mut all: Vec<String> = Vec::new();
    for word in list.split(' ') {
        match all.last_mut() {
            Some(last) if !word.starts_with(['/', '~']) => *last = format!("{last} {word}"),
            _ => all.push(word.to_owned()),
        }
    }
    all.into_iter().filter(|path| path != "none").map(PathBuf::from).collect()
}

/// Who asks: the part of what tokens stand for that is the same for all hosts.
#[derive(Debug, Clone, Default)]
pub struct Local {
    /// The user's home folder: `%d`, and `~`.
    pub home: Option<PathBuf>,
    /// The user: `%u`.
    pub user: String,
    /// The number of the user: `%i`.
    pub uid: u32,
    /// The name of this machine: `%l`.
    pub machine: String,
}

/// What the tokens of ssh_config(5) stand for, on the way to one host.
#[derive(Debug, Clone)]
pub struct Tokens<'a> {
    /// Who asks.
    pub local: &'a Local,
    /// The name that was given: `%n`.
    pub given: &'a str,
    /// The name or address to connect to: `%h`.
    pub host: &'a str,
    /// The name in known_hosts files: `%k`.
    pub alias: Option<&'a str>,
    /// The port: `%p`.
    pub port: u16,
    /// The user there: `%r`.
    pub user: &'a str,
    /// The host to go through: `%j`.
    pub jump: String,
    /// The hash of the connection: `%C`.
    pub connection: Option<&'a str>,
}

impl Tokens<'_> {
    /// Expands a path as ssh does: `~`, `%` tokens, and variables of this environment as `${NAME}`.
    ///
    /// # Errors
    /// The token or the variable that stands for nothing here.
    pub fn path(&self, written: &str, variable: &dyn Fn(&str) -> Option<String>) -> Result<PathBuf, String> {
        let whole = match (written.strip_prefix("~/"), &self.local.home) {
            (Some(rest), Some(home)) => format!("{}/{rest}", home.display().to_string().replace('%', "%%")),
            _ => written.to_owned(),
        };
        let mut text = String::new();
        let mut rest = &*self.text(&whole)?;
        while let Some((before, after)) = rest.split_once("${") {
            let (name, after) =
                after.split_once('}').ok_or_else(|| format!("`{written}` has a `${{` without a `}}`"))?;
            text.push_str(before);
            text.push_str(&variable(name).ok_or_else(|| format!("`{written}`: ${name} is not set"))?);
            rest = after;
        }
        text.push_str(rest);
        Ok(PathBuf::from(text))
    }

    /// Expands the `%` tokens of a text.
    ///
    /// # Errors
    /// The token that stands for nothing here.
    pub fn text(&self, written: &str) -> Result<String, String> {
        let mut text = String::new();
        let mut letters = written.chars();
        while let Some(letter) = letters.next() {
            if letter != '%' {
                text.push(letter);
                continue;
            }
            match letters.next() {
                Some('%') => text.push('%'),
                Some('d') => text.push_str(&self.local.home.as_deref().unwrap_or(Path::new("~")).display().to_string()),
                Some('h') => text.push_str(self.host),
                Some('k') => text.push_str(self.alias.unwrap_or(self.host)),
                Some('n') => text.push_str(self.given),
                Some('p') => text.push_str(&self.port.to_string()),
                Some('r') => text.push_str(self.user),
                Some('u') => text.push_str(&self.local.user),
                Some('i') => text.push_str(&self.local.uid.to_string()),
                Some('l') => text.push_str(&self.local.machine),
                Some('j') => text.push_str(&self.jump),
                Some('C') => text.push_str(self.connection.ok_or("ssh does not say what %C is")?),
                Some('L') => text.push_str(self.local.machine.split('.').next().unwrap_or_default()),
                Some(other) => return Err(format!("`{written}`: bramble does not know %{other}")),
                None => return Err(format!("`{written}` ends with %")),
            }
        }
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_output_of_ssh_is_understood() {
        let config = SshConfig::parse(
            "host kube1\nuser pi\nhostname 10.0.0.50\nport 2222\nidentityfile ~/.ssh/rack\nidentitiesonly yes\n\
             identityagent /run/my agent\nproxyjump a@b:22,c\nproxycommand ssh -W %h:%p b\nhostkeyalias one\ncontrolpath 3f\n\
             userknownhostsfile /home/me/a b /home/me/c\n",
        );
        assert_eq!(
            config,
            SshConfig {
                hostname: Some("10.0.0.50".into()),
                port: Some(2222),
                user: Some("pi".into()),
                identities: vec!["~/.ssh/rack".into()],
                identities_only: true,
                agent: Some("/run/my agent".into()),
                jump: vec!["a@b:22".into(), "c".into()],
                proxy_command: Some("ssh -W %h:%p b".into()),
                host_key_alias: Some("one".into()),
                connection: Some("3f".into()),
                user_known_hosts: Some(vec!["/home/me/a b".into(), "/home/me/c".into()]),
                ..SshConfig::default()
            }
        );
        let none = SshConfig::parse("proxyjump none\nproxycommand none\nuserknownhostsfile none\n");
        assert!(none.jump.is_empty() && none.proxy_command.is_none() && none.user_known_hosts == Some(Vec::new()));
    }

    #[test]
    fn what_ssh_tries_by_itself_is_nobodys_choice() {
        let usual: String = USUAL.iter().map(|name| format!("identityfile ~/.ssh/{name}\n")).collect();
        assert!(SshConfig::parse(&usual).identities.is_empty());
        assert_eq!(SshConfig::parse("identityfile ~/.ssh/id_ed25519\n").identities, ["~/.ssh/id_ed25519"]);
    }

    #[test]
    fn tokens_and_variables_are_expanded_as_ssh_does() {
        let local =
            Local { home: Some("/home/10% me".into()), user: "me".into(), uid: 1000, machine: "desk.example".into() };
        let tokens = Tokens {
            local: &local,
            given: "kube1",
            host: "10.0.0.50",
            alias: None,
            port: 22,
            user: "pi",
            jump: "door".into(),
            connection: Some("3f"),
        };
        let variable = |name: &str| (name == "KEYS").then(|| "/k%h".to_owned());
        for (written, wanted) in [
            ("~/.ssh/%r@%h", "/home/10% me/.ssh/pi@10.0.0.50"),
            ("%d/%n-%p-%k-%u-%i-%L-%l-100%%", "/home/10% me/kube1-22-10.0.0.50-me-1000-desk-desk.example-100%"),
            ("~/.ssh/%C-%j", "/home/10% me/.ssh/3f-door"),
            ("${KEYS}/a", "/k%h/a"),
            ("/plain", "/plain"),
        ] {
            assert_eq!(tokens.path(written, &variable), Ok(PathBuf::from(wanted)), "{written}");
        }
        for (written, says) in
            [("%q", "%q"), ("a%", "ends with %"), ("${NONE}", "$NONE is not set"), ("${A", "without")]
        {
            assert!(tokens.path(written, &variable).unwrap_err().contains(says), "{written}");
        }
    }
}
