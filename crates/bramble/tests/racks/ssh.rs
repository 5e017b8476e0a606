//! Which keys bramble trusts and signs with, against the sshd of a board.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::common::{Rack, assert_code, read, text, wait_for};

struct Board(Rack);

impl Board {
    fn up(name: &str, subnet: &str) -> Board {
        let board = Board(Rack::bare(name, 1, subnet, &[]));
        board.shell("ssh-keygen -q -t rsa -b 2048 -N '' -f /etc/ssh/ssh_host_rsa_key");
        board
    }

    fn shell(&self, script: &str) -> String {
        self.0.shell(&self.0.node(1), script)
    }

    /// Starts sshd again, with these lines before those of its own file.
    fn configure(&self, lines: &str) {
        let port = "ss -Hltn 'sport = :22'";
        let script = format!(
            "printf '%s\\n' '{lines}' >/etc/ssh/sshd_config.d/00-test.conf; /usr/sbin/sshd -t || exit; \
             systemctl reset-failed ssh; systemctl restart ssh; until [ -n \"$({port})\" ]; do sleep 0.1; done; echo good"
        );
        assert_eq!(self.shell(&script).trim(), "good", "sshd does not take {lines}");
    }

    fn known_hosts(&self) -> PathBuf {
        self.0.dir.path().join(".bramble/known_hosts")
    }

    /// The name under which known_hosts has the board, and a key of it.
    fn key(&self, kind: &str) -> (String, String) {
        let name = read(&self.known_hosts()).split_whitespace().next().unwrap().to_owned();
        let public = self.shell(&format!("cat /etc/ssh/ssh_host_{kind}_key.pub"));
        let words: Vec<&str> = public.split_whitespace().take(2).collect();
        (name, words.join(" "))
    }

    fn know(&self, text: &str) {
        fs::write(self.known_hosts(), text).unwrap();
    }

    fn logs_in(&self) {
        let output = self.0.run(&["run", "true"]);
        assert_code(&output, 0);
    }

    fn is_refused(&self) -> String {
        let output = self.0.run(&["run", "true"]);
        assert!(!output.status.success(), "{}", text(&output));
        text(&output)
    }
}

#[test]
#[ignore = "needs root: `make test`"]
fn host_keys_are_judged_as_ssh_does() {
    let board = Board::up("t-keys", "10.78.41.0/24");
    let (name, ed25519) = board.key("ed25519");
    let (_, rsa) = board.key("rsa");
    let host_key = |kind: &str| format!("HostKey /etc/ssh/ssh_host_{kind}_key");
    let both = format!("{}\n{}", host_key("ed25519"), host_key("rsa"));

    // The known type is asked for, whichever the server and bramble itself like better.
    board.configure(&both);
    board.know(&format!("{name} {rsa}\n"));
    board.logs_in();

    // A key of another type is a changed one.
    board.configure(&host_key("rsa"));
    board.know(&format!("{name} {ed25519}\n"));
    let error = board.is_refused();
    assert!(
        error.contains("has changed") && error.contains("one of another type (ssh-ed25519, not ssh-rsa)"),
        "{error}"
    );

    board.configure(&both);
    board.know(&format!("@revoked * {ed25519}\n{name} {ed25519}\n"));
    let error = board.is_refused();
    assert!(error.contains("is revoked in") && error.contains("line 1"), "{error}");

    let pattern = name.rsplit_once('.').map_or_else(|| "*".to_owned(), |(net, _)| format!("{net}.*"));
    board.know(&format!("{pattern} {ed25519}\n"));
    board.logs_in();

    // An RSA key is fine, and SHA-1 is not.
    board.know(&format!("{name} {rsa}\n"));
    board.configure(&format!("{}\nHostKeyAlgorithms ssh-rsa", host_key("rsa")));
    let error = board.is_refused();
    assert!(error.contains("only with SHA-1 signatures (ssh-rsa)") && error.contains("update its sshd"), "{error}");
}

#[test]
#[ignore = "needs root: `make test`"]
fn an_authority_vouches_for_a_board() {
    let board = Board::up("t-cert", "10.78.42.0/24");
    let (name, _) = board.key("ed25519");
    let sign = format!(
        "cd /root && ssh-keygen -q -t ed25519 -N '' -f ca && ssh-keygen -q -s ca -I board -h -n {name} -V -1h:+1h \
         /etc/ssh/ssh_host_ed25519_key.pub && cat ca.pub"
    );
    let authority = board.shell(&sign);
    board.configure("HostKey /etc/ssh/ssh_host_ed25519_key\nHostCertificate /etc/ssh/ssh_host_ed25519_key-cert.pub");
    board.know(&format!("@cert-authority * {authority}"));
    board.logs_in();

    // Another one has signed nothing.
    let other = board.shell("cd /root && ssh-keygen -q -t ed25519 -N '' -f other && cat other.pub");
    board.know(&format!("@cert-authority * {other}"));
    let error = board.is_refused();
    assert!(error.contains("is not known yet"), "{error}");
}

#[test]
#[ignore = "needs root: `make test`"]
fn rsa_keys_sign_with_sha_2_alone() {
    let board = Board::up("t-rsa", "10.78.43.0/24");
    let key = board.0.dir.path().join("id_rsa");
    let made = Command::new("ssh-keygen").args(["-q", "-t", "rsa", "-b", "2048", "-N", "", "-f"]).arg(&key).status();
    assert!(made.unwrap().success());
    let public = read(&key.with_extension("pub"));
    board.shell(&format!("echo '{}' >/home/pi/.ssh/authorized_keys", public.trim()));
    let file = read(&board.0.file());
    let keys = file.lines().find(|line| line.trim_start().starts_with("keys:") || line.contains(" keys: ["));
    assert!(keys.is_some(), "{file}");
    let start = file.find("keys: [").unwrap();
    let end = start + file[start..].find(']').unwrap();
    fs::write(board.0.file(), format!("{}keys: [{}{}", &file[..start], key.display(), &file[end..])).unwrap();
    wait_for("a log-in with the RSA key", || board.0.run(&["run", "true"]).status.success());

    board.configure("PubkeyAcceptedAlgorithms ssh-rsa");
    let error = board.is_refused();
    assert!(
        error.contains("accepts none of the keys") && error.contains("takes RSA keys only with SHA-1 signatures"),
        "{error}"
    );
}
