//! How people log in, and what their machines print: against the sshd and the sudo of boards with Debian 13, as OpenSSH does it.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use crate::Row;
use crate::common::{Rack, assert_code, bramble, program, read, text, without};
use crate::shelf::{Saved, Shelf};

pub(crate) const ROWS: &[Row] = &[
    Row { name: "habits::agent_many_keys", test: agent_many_keys },
    Row { name: "habits::identity_agent", test: identity_agent },
    Row { name: "habits::jump_with_its_own_key", test: jump_with_its_own_key },
    Row { name: "habits::key_that_cannot_be_used", test: key_that_cannot_be_used },
    Row { name: "habits::sk_key_known_to_server", test: sk_key_known_to_server },
    Row { name: "habits::ssh_config_with_a_mistake", test: ssh_config_with_a_mistake },
    Row { name: "habits::known_hosts_forms", test: known_hosts_forms },
    Row { name: "habits::login_noise", test: login_noise },
    Row { name: "habits::what_sudo_and_sshd_want_besides_is_named", test: what_is_wanted_besides },
    Row { name: "habits::sudo_speaks_german_or_is_written_in_rust", test: other_sudos },
    Row { name: "habits::text_not_utf8_and_cmdline_crlf", test: bytes_of_others },
    Row { name: "habits::zram_swap", test: zram_swap },
];

fn make(name: &'static str) -> (Rack, BTreeMap<String, String>) {
    let rack = Rack::bare(name, 2, "10.78.16.0/24", &[]);
    for n in [1, 2] {
        // Tests show wrong keys, and are turned away for a while otherwise.
        let script = "echo 'PerSourcePenalties no' >/etc/ssh/sshd_config.d/00-test.conf; systemctl restart ssh";
        rack.first_boot(&rack.node(n));
        rack.shell(&rack.node(n), script);
    }
    // The names of the keys that log in stand in no cluster file of theirs.
    let file = read(&rack.file());
    let start = file.find("keys: [").unwrap();
    let end = start + file[start..].find(']').unwrap();
    fs::write(rack.file(), format!("{}keys: [{}", &file[..start], &file[end..])).unwrap();
    (rack, BTreeMap::new())
}

/// A home folder, in the place of the user's own for the commands that run in it: ssh looks for that one alone.
struct Home<'a> {
    rack: &'a Rack,
    dir: tempfile::TempDir,
    agents: Vec<u32>,
}

impl Drop for Home<'_> {
    fn drop(&mut self) {
        for agent in &self.agents {
            Command::new("kill").arg(agent.to_string()).status().ok();
        }
    }
}

impl Home<'_> {
    fn new(rack: &Rack) -> Home<'_> {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join(".ssh")).unwrap();
        Home { rack, dir, agents: Vec::new() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(".ssh").join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(0o600)).unwrap();
    }

    /// Makes a key pair; gives the public half.
    fn key(&self, name: &str, kind: &str, passphrase: &str) -> String {
        make_key(&self.path(name), kind, passphrase)
    }

    /// Lets these keys in at a board, and no others.
    fn allow(&self, n: usize, user: &str, keys: &[&str]) {
        let home = format!("/home/{user}/.ssh");
        let lines = keys.join("\n");
        let script = format!(
            "mkdir -p {home} && printf '%s\\n' '{lines}' >{home}/authorized_keys && chown -R {user}: {home} && chmod 700 {home}"
        );
        assert_eq!(self.rack.shell(&self.rack.node(n), &format!("{script} && echo good")), "good\n");
    }

    /// Starts an agent that holds these keys; gives its socket.
    fn agent(&mut self, keys: &[&Path]) -> PathBuf {
        let socket = self.dir.path().join(format!("agent-{}", self.agents.len()));
        let started = Command::new("ssh-agent").arg("-a").arg(&socket).output().unwrap();
        let said = String::from_utf8(started.stdout).unwrap();
        let pid = said.split("SSH_AGENT_PID=").nth(1).unwrap().split(';').next().unwrap();
        self.agents.push(pid.parse().unwrap());
        for key in keys {
            let mut add = Command::new("ssh-add");
            assert!(add.arg("-q").arg(key).env("SSH_AUTH_SOCK", &socket).status().unwrap().success());
        }
        socket
    }

    fn run(&self, args: &[&str], agent: Option<&Path>) -> Output {
        let mut command = Command::new("unshare");
        command.args([
            "-m",
            "sh",
            "-c",
            "h=$(getent passwd \"$(id -u)\" | cut -d: -f6); mount --bind \"$1\" \"$h\" && shift && HOME=$h exec \"$@\"",
            "sh",
        ]);
        command.arg(self.dir.path()).arg(program("bramble")).arg("-f").arg(self.rack.file()).args(args);
        command.env("BRAMBLE_SUDO_PASSWORD_FILE", self.rack.password_file()).env("NO_COLOR", "1");
        command.env_remove("SSH_AUTH_SOCK").stdin(Stdio::null());
        if let Some(agent) = agent {
            command.env("SSH_AUTH_SOCK", agent);
        }
        command.output().unwrap()
    }

    fn logs_in(&self, agent: Option<&Path>) {
        assert_code(&self.run(&["run", "true"], agent), 0);
    }

    fn is_refused(&self, agent: Option<&Path>, says: &str) {
        let output = self.run(&["run", "true"], agent);
        assert!(!output.status.success() && text(&output).contains(says), "{}", text(&output));
        assert!(!text(&output).contains("Channel send error"), "{}", text(&output));
    }
}

fn make_key(path: &Path, kind: &str, passphrase: &str) -> String {
    let made = Command::new("ssh-keygen").args(["-q", "-t", kind, "-N", passphrase, "-f"]).arg(path).status();
    assert!(made.unwrap().success());
    read(&path.with_file_name(format!("{}.pub", path.file_name().unwrap().to_string_lossy()))).trim().to_owned()
}

/// Runs a test with one board, the first, in the cluster file.
fn on_a_board(shelf: &Shelf, test: impl FnOnce(&Rack)) {
    shelf.bare("t-habit", make, |Saved { rack, .. }| {
        fs::write(rack.file(), without(&read(&rack.file()), &rack.node(2))).unwrap();
        test(rack);
    });
}

fn with_keys(rack: &Rack, keys: &str) {
    fs::write(rack.file(), read(&rack.file()).replace("keys: []", &format!("keys: [{keys}]"))).unwrap();
}

fn agent_many_keys(shelf: &Shelf) {
    on_a_board(shelf, |rack| {
        let mut home = Home::new(rack);
        let others: Vec<PathBuf> = (1..=8).map(|n| home.dir.path().join(format!("k{n}"))).collect();
        for path in &others {
            make_key(path, "ed25519", "");
        }
        let others: Vec<&Path> = others.iter().map(PathBuf::as_path).collect();
        let agent = home.agent(&others);
        let public = home.key("rack", "ed25519", "");
        home.allow(1, "pi", &[&public]);
        home.is_refused(Some(&agent), "takes only some keys at a time");
        home.write("config", "Host 10.78.*\n  IdentityFile ~/.ssh/rack\n  IdentitiesOnly yes\n");
        home.logs_in(Some(&agent));
        home.write("config", "Host 10.78.*\n  IdentityFile %d/.ssh/rack\n");
        home.logs_in(Some(&agent));
        fs::remove_file(home.path("config")).unwrap();
        with_keys(rack, "~/.ssh/rack.pub");
        home.logs_in(Some(&agent));
    });
}

fn identity_agent(shelf: &Shelf) {
    on_a_board(shelf, |rack| {
        let mut home = Home::new(rack);
        let key = home.dir.path().join("hidden");
        let public = make_key(&key, "ed25519", "");
        let agent = home.agent(&[&key]);
        home.allow(1, "pi", &[&public]);
        fs::remove_file(&key).unwrap();
        home.is_refused(None, "there was no key to try");
        home.write("config", &format!("Host *\n  IdentityAgent {}\n", agent.display()));
        home.logs_in(None);
        // The agent has what a public file alone names.
        fs::write(home.path("hidden.pub"), format!("{public}\n")).unwrap();
        let only = format!("Host *\n  IdentityAgent {}\n  IdentitiesOnly yes\n", agent.display());
        home.write("config", &only);
        home.is_refused(None, "there was no key to try");
        home.write("config", &format!("{only}  IdentityFile ~/.ssh/hidden.pub\n"));
        home.logs_in(None);
        home.write("config", "Host *\n  IdentityAgent none\n");
        home.is_refused(Some(&agent), "there was no key to try");
    });
}

fn jump_with_its_own_key(shelf: &Shelf) {
    shelf.bare("t-habit", make, |Saved { rack, .. }| {
        let home = Home::new(rack);
        rack.shell(&rack.node(1), "useradd -m -s /bin/sh jumper");
        home.allow(1, "jumper", &[&home.key("jumpkey", "ed25519", "")]);
        home.allow(2, "pi", &[&home.key("rack", "ed25519", "")]);
        fs::write(rack.file(), without(&read(&rack.file()), &rack.node(1))).unwrap();
        let addresses = read(&rack.dir.path().join(".bramble/known_hosts"));
        let first = addresses.split_whitespace().next().unwrap().to_owned();
        let bastion = format!("Host bastion\n  HostName {first}\n  User jumper\n  IdentityFile ~/.ssh/jumpkey\n");
        let second = addresses.lines().last().unwrap().split_whitespace().next().unwrap().to_owned();
        assert_ne!(first, second);
        let node = format!("Host {second}\n  IdentityFile ~/.ssh/rack\n");
        let through = |shown: &str| {
            let journal = "journalctl -q -u ssh -o cat | grep -c 'Accepted publickey for jumper'";
            let before = rack.shell(&rack.node(1), journal);
            home.logs_in(None);
            assert_ne!(rack.shell(&rack.node(1), journal), before, "{shown} was not gone through");
        };
        for jump in ["bastion", &format!("ssh://jumper@{first}:22")] {
            let identity = format!("Host {first}\n  IdentityFile ~/.ssh/jumpkey\n");
            home.write("config", &format!("{bastion}{identity}{node}  ProxyJump {jump}\n"));
            through(jump);
        }
        // A key that is named after the connection, as the installed ssh names it.
        home.write("config", &format!("{bastion}{node}"));
        let asked = Command::new("ssh")
            .args(["-l", "pi", "-p", "22", "-J", "bastion", "-o", "ControlPath=%C", "-G", &second])
            .output();
        let asked = String::from_utf8(asked.unwrap().stdout).unwrap();
        let hash = asked.lines().find_map(|line| line.strip_prefix("controlpath ")).unwrap();
        fs::copy(home.path("rack"), home.path(&format!("{hash}-bastion"))).unwrap();
        let by_name = format!("Host {second}\n  IdentityFile ~/.ssh/%C-%j\n  ProxyJump bastion\n");
        home.write("config", &format!("{bastion}{by_name}"));
        through("IdentityFile with %C and %j");
        let command =
            "ssh -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR -W %h:%p bastion";
        home.write("config", &format!("{bastion}{node}  ProxyCommand {command}\n"));
        through(command);
        home.write("config", &format!("{bastion}{node}  ProxyCommand sh -c 'echo no way there >&2; exit 1'\n"));
        home.is_refused(None, "says: no way there");
        // By the cluster file.
        home.write("config", &format!("{bastion}{node}"));
        let file = read(&rack.file());
        fs::write(rack.file(), file.replace("access:\n", "access:\n  jump: bastion\n")).unwrap();
        through("access.jump");
    });
}

fn key_that_cannot_be_used(shelf: &Shelf) {
    on_a_board(shelf, |rack| {
        let home = Home::new(rack);
        home.key("id_rsa", "rsa", "secret");
        home.allow(1, "pi", &[&home.key("id_ed25519", "ed25519", "")]);
        home.write("config", "");
        home.logs_in(None);
        home.write("id_ecdsa", "PuTTY-User-Key-File-3: ssh-rsa\n");
        home.logs_in(None);
        home.allow(1, "pi", &[]);
        home.is_refused(None, "id_rsa was passed over: it has a passphrase");
        home.is_refused(None, "id_ecdsa was passed over: it holds no private key that can be read");
    });
}

/// Writes a key that lives on a FIDO token which nobody has (PROTOCOL.u2f of OpenSSH); gives its public half.
fn token_key(path: &Path) -> String {
    let string = |bytes: &[u8]| [&u32::try_from(bytes.len()).unwrap().to_be_bytes()[..], bytes].concat();
    let (kind, public, application) = (b"sk-ssh-ed25519@openssh.com", [7; 32], b"ssh:");
    let open = [string(kind), string(&public), string(application)].concat();
    let check = [1, 2, 3, 4];
    let mut private = [&check[..], &check, &open, &[1], &string(&[9; 64]), &string(b""), &string(b"token")].concat();
    private.extend((1..).take((8 - private.len() % 8) % 8).map(|byte: u8| byte));
    let one = 1u32.to_be_bytes();
    let parts = [string(b"none"), string(b"none"), string(b""), one.to_vec(), string(&open), string(&private)].concat();
    let blob = BASE64_STANDARD.encode([&b"openssh-key-v1\0"[..], &parts].concat());
    let lines: Vec<&str> = blob.as_bytes().chunks(70).map(|line| std::str::from_utf8(line).unwrap()).collect();
    let text =
        format!("-----BEGIN OPENSSH PRIVATE KEY-----\n{}\n-----END OPENSSH PRIVATE KEY-----\n", lines.join("\n"));
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    format!("sk-ssh-ed25519@openssh.com {} token", BASE64_STANDARD.encode(open))
}

fn sk_key_known_to_server(shelf: &Shelf) {
    on_a_board(shelf, |rack| {
        let home = Home::new(rack);
        let token = token_key(&home.path("id_ed25519_sk"));
        home.allow(1, "pi", &[&token, &home.key("id_ed25519", "ed25519", "")]);
        home.write("config", "Host 10.78.*\n  IdentityFile ~/.ssh/id_ed25519_sk\n  IdentityFile ~/.ssh/id_ed25519\n");
        home.logs_in(None);
        home.allow(1, "pi", &[&token]);
        home.is_refused(None, "it is on a FIDO token");
    });
}

fn ssh_config_with_a_mistake(shelf: &Shelf) {
    on_a_board(shelf, |rack| {
        let home = Home::new(rack);
        home.allow(1, "pi", &[&home.key("rack", "ed25519", "")]);
        home.write("config", "Host 10.78.*\n  UseKeychain yes\n  IdentityFile ~/.ssh/rack\n");
        home.is_refused(None, "line 2: Bad configuration option: usekeychain");
        home.write("config", "Host 10.78.*\n  IdentityFile ${NOBODY_SET_IT}/rack\n");
        home.is_refused(None, "$NOBODY_SET_IT is not set");
        home.write(
            "config",
            "IgnoreUnknown UseKeychain\nHost 10.78.*\n  UseKeychain yes\n  IdentityFile ~/.ssh/rack\n",
        );
        home.logs_in(None);
    });
}

fn known_hosts_forms(shelf: &Shelf) {
    on_a_board(shelf, |rack| {
        let home = Home::new(rack);
        home.allow(1, "pi", &[&home.key("id_ed25519", "ed25519", "")]);
        let own = rack.dir.path().join(".bramble/known_hosts");
        let pinned = read(&own);
        let (_, key) = pinned.lines().next().unwrap().split_once(' ').unwrap();
        fs::write(&own, "").unwrap();
        home.is_refused(None, "is not known yet");
        home.write("known_hosts", &format!("kube-one {key}\n"));
        home.is_refused(None, "is not known yet");
        home.write("config", "Host 10.78.*\n  HostKeyAlias kube-one\n");
        home.logs_in(None);
        fs::rename(home.path("known_hosts"), home.path("my hosts")).unwrap();
        home.is_refused(None, "is not known yet");
        home.write(
            "config",
            "Host 10.78.*\n  HostKeyAlias kube-one\n  UserKnownHostsFile ~/.ssh/none \"~/.ssh/my hosts\"\n",
        );
        home.logs_in(None);
        home.write("my hosts", &format!("@revoked * {key}\nkube-one {key}\n"));
        home.is_refused(None, "is revoked in");
        home.write("my hosts", &format!("kube-one {key}\n"));
        let config = read(&home.path("config"));
        home.write("config", &format!("{config}  RevokedHostKeys ~/.ssh/gone\n"));
        home.is_refused(None, "gone cannot be used");
        home.write("gone", "# none so far\n");
        home.logs_in(None);
        home.write("gone", &format!("{key}\n"));
        home.is_refused(None, "is revoked in");
        let list =
            Command::new("ssh-keygen").args(["-q", "-k", "-f"]).arg(home.path("krl")).arg(home.path("gone")).status();
        assert!(list.unwrap().success());
        fs::rename(home.path("krl"), home.path("gone")).unwrap();
        home.is_refused(None, "key revocation list");
        home.write("config", &format!("{config}  ProxyCommand nc -F %h %p\n  ProxyUseFdpass yes\n"));
        home.is_refused(None, "ProxyUseFdpass");
    });
}

fn login_noise(shelf: &Shelf) {
    on_a_board(shelf, |rack| {
        let home = Home::new(rack);
        home.allow(1, "pi", &[&home.key("id_ed25519", "ed25519", "")]);
        let script = "sed -i '1i echo Welcome; printf no-newline; echo warning >&2' /home/pi/.bashrc && \
                      echo 'echo from-rc' >/home/pi/.ssh/rc && echo good";
        assert_eq!(rack.shell(&rack.node(1), script), "good\n");
        rack.append("prepare: { files: [{ path: /etc/bramble-test, content: \"a\\n\" }] }\n");
        assert_code(&home.run(&["plan"], None), 3);
        assert_code(&home.run(&["up", "--yes"], None), 0);
        assert_code(&home.run(&["plan"], None), 0);
        // Nothing but the password was ever taken for one.
        let refusals = rack.shell(&rack.node(1), "journalctl -q -o cat | grep -c 'incorrect password\\|auth failure'");
        assert_eq!(refusals, "0\n");
    });
}

fn what_is_wanted_besides(shelf: &Shelf) {
    on_a_board(shelf, |rack| {
        let home = Home::new(rack);
        home.allow(1, "pi", &[&home.key("id_ed25519", "ed25519", "")]);
        let wrong = home.dir.path().join("wrong");
        fs::write(&wrong, "not it\n").unwrap();
        let plan = |password: &Path| {
            let output = bramble()
                .arg("-f")
                .arg(rack.file())
                .arg("plan")
                .env("HOME", home.dir.path())
                .env("BRAMBLE_SUDO_PASSWORD_FILE", password)
                .output()
                .unwrap();
            text(&output)
        };
        assert!(plan(&wrong).contains("does not accept the password"), "{}", plan(&wrong));
        // Whatever language sudo speaks.
        let passwordless = read(&rack.file()).replace("sudo: password", "sudo: passwordless");
        fs::write(rack.file(), &passwordless).unwrap();
        assert!(plan(&wrong).contains("set `access.sudo: password`"), "{}", plan(&wrong));
        // It asks before it looks whether the user may.
        rack.shell(&rack.node(1), "deluser pi sudo; rm -f /etc/sudoers.d/*");
        fs::write(rack.file(), passwordless.replace("sudo: passwordless", "sudo: password")).unwrap();
        let right = rack.password_file();
        assert!(plan(&right).contains("(it says: pi is not in the sudoers file"), "{}", plan(&right));
        rack.shell(&rack.node(1), "usermod -s /bin/false pi");
        assert!(plan(&wrong).contains("ends with exit code 1 before any command"), "{}", plan(&wrong));
        let methods = "printf 'PasswordAuthentication yes\\nAuthenticationMethods publickey,password\\n' >>/etc/ssh/sshd_config.d/00-test.conf; systemctl restart ssh";
        rack.shell(&rack.node(1), methods);
        home.is_refused(None, "wants password besides, a second factor");
    });
}

fn other_sudos(shelf: &Shelf) {
    const GERMAN: &str = "n=0; until apt-get -qq -o APT::Update::Error-Mode=any update; do n=$((n + 1)); [ $n -lt 30 ] || exit 1; sleep 1; done; \
                          echo 'de_DE.UTF-8 UTF-8' >>/etc/locale.gen && locale-gen >/dev/null && \
                          echo LANG=de_DE.UTF-8 >/etc/locale.conf && su - pi -c 'echo x | sudo -S true' 2>&1 | tail -n 1";
    const RUST: &str = "apt-get -qq install sudo-rs >/dev/null 2>&1 && rm /etc/locale.conf && \
                        ln -sf sudo-rs /usr/bin/sudo && su - pi -c 'sudo --version'";
    on_a_board(shelf, |rack| {
        let home = Home::new(rack);
        home.allow(1, "pi", &[&home.key("id_ed25519", "ed25519", "")]);
        let wrong = home.dir.path().join("wrong");
        fs::write(&wrong, "not it\n").unwrap();
        rack.first_boot(&rack.node(1));
        for (setup, sign) in [(GERMAN, "Passwort"), (RUST, "sudo-rs")] {
            let shown = rack.shell(&rack.node(1), &format!("exec 2>&1; {setup}"));
            assert!(shown.contains(sign), "{shown}");
            assert_code(&home.run(&["up", "--yes"], None), 0);
            assert_code(&home.run(&["plan"], None), 0);
            let mut refused = rack.command(&["plan"]);
            refused.env("HOME", home.dir.path()).env("BRAMBLE_SUDO_PASSWORD_FILE", &wrong);
            let said = text(&refused.output().unwrap());
            assert!(said.contains("does not accept the password"), "{said}");
            let none = read(&rack.file()).replace("sudo: password", "sudo: passwordless");
            let file = home.dir.path().join("none.yaml");
            fs::write(&file, none).unwrap();
            fs::create_dir_all(home.dir.path().join(".bramble")).unwrap();
            fs::copy(rack.dir.path().join(".bramble/known_hosts"), home.dir.path().join(".bramble/known_hosts"))
                .unwrap();
            let said = text(&bramble().arg("-f").arg(&file).arg("plan").env("HOME", home.dir.path()).output().unwrap());
            assert!(said.contains("set `access.sudo: password`"), "{said}");
        }
    });
}

fn bytes_of_others(shelf: &Shelf) {
    on_a_board(shelf, |rack| {
        let home = Home::new(rack);
        home.allow(1, "pi", &[&home.key("id_ed25519", "ed25519", "")]);
        let disk = rack.disk(&rack.node(1));
        let (hosts, cmdline) = (disk.join("etc/hosts"), disk.join("boot/firmware/cmdline.txt"));
        let old = [b"# K\xfcche\n", &fs::read(&hosts).unwrap()[..], b"\0\0\0"].concat();
        fs::write(&hosts, &old).unwrap();
        let line = read(&cmdline).trim_end().to_owned();
        fs::write(&cmdline, format!("{line}\r\n")).unwrap();
        rack.append("prepare: { boot: { kernel_args: [bramble.test=1] } }\n");
        assert_code(&home.run(&["up", "--yes"], None), 0);
        assert_eq!(read(&cmdline), format!("{line} bramble.test=1\r\n"));
        let new = fs::read(&hosts).unwrap();
        assert!(new.starts_with(&old) && new.len() > old.len(), "{}", String::from_utf8_lossy(&new));
        assert_code(&home.run(&["plan"], None), 0);
        assert_code(&home.run(&["down", "--yes"], None), 0);
        assert_eq!(read(&cmdline), format!("{line}\r\n"));
        assert_eq!(fs::read(&hosts).unwrap(), old);
    });
}

/// A container has no swap of its own: its makers are what is looked at.
fn zram_swap(shelf: &Shelf) {
    on_a_board(shelf, |rack| {
        let home = Home::new(rack);
        home.allow(1, "pi", &[&home.key("id_ed25519", "ed25519", "")]);
        let install = "DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=120 install zram-tools >/dev/null 2>&1; \
                       printf '# SWAP=false\\nZRAM_PERCENTAGE=50\\n' >/etc/default/armbian-zram-config; \
                       printf '[zram0]\\nzram-size = ram / 2\\n' >/etc/systemd/zram-generator.conf; systemctl is-enabled zramswap";
        assert_eq!(rack.shell(&rack.node(1), install), "enabled\n");
        rack.append("prepare: { swap: none }\n");
        let plan = text(&home.run(&["plan"], None));
        for step in
            ["turn zramswap off", "change /etc/default/armbian-zram-config", "change /etc/systemd/zram-generator.conf"]
        {
            assert!(plan.contains(step), "{step}: {plan}");
        }
        assert_code(&home.run(&["up", "--yes"], None), 0);
        let left = "systemctl is-enabled zramswap; . /etc/default/armbian-zram-config; echo $SWAP; grep -c zram0 /etc/systemd/zram-generator.conf";
        assert_eq!(rack.shell(&rack.node(1), left), "disabled\nfalse\n0\n");
        assert_code(&home.run(&["plan"], None), 0);
        assert_code(&home.run(&["down", "--yes"], None), 0);
        let back = "systemctl is-enabled zramswap; cat /etc/default/armbian-zram-config; head -n 1 /etc/systemd/zram-generator.conf";
        assert_eq!(rack.shell(&rack.node(1), back), "enabled\n# SWAP=false\nZRAM_PERCENTAGE=50\n[zram0]\n");
    });
}
