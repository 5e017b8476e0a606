//! Servers that only know SHA-1, which no current sshd can be made to be in all of its answers.

#![allow(clippy::unwrap_used)]

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bramble_remote::{Connection, Credentials, Dialer, HostKeys, Target, new_key_pair};
use russh::Preferred;
use russh::keys::{Algorithm, decode_secret_key};
use russh::server::{self, Auth, PublicKeyOffer, VerifiedPublicKey};
use tokio::net::TcpListener;

/// Lets everybody in who shows a key, and counts those.
struct Doorman(Arc<AtomicUsize>);

impl server::Handler for Doorman {
    type Error = russh::Error;

    async fn auth_publickey_offered(&mut self, _: &str, _: PublicKeyOffer<'_>) -> Result<Auth, Self::Error> {
        self.0.fetch_add(1, Ordering::SeqCst);
        Ok(Auth::Accept)
    }

    async fn auth_publickey(&mut self, _: &str, _: VerifiedPublicKey<'_>) -> Result<Auth, Self::Error> {
        Ok(Auth::Accept)
    }
}

fn rsa(dir: &Path) -> PathBuf {
    let path = dir.join("id_rsa");
    let made = Command::new("ssh-keygen").args(["-q", "-t", "rsa", "-b", "2048", "-N", "", "-f"]).arg(&path).status();
    assert!(made.unwrap().success());
    path
}

/// Logs in with an RSA key at a server that signs and takes signatures so; tells the error, and how many keys were shown.
async fn log_in(types: &[Algorithm]) -> (Option<String>, usize) {
    let dir = tempfile::tempdir().unwrap();
    let (private, public) = new_key_pair(&[7; 32], "board").unwrap();
    let keys = vec![decode_secret_key(&private, None).unwrap()];
    let preferred = Preferred { key: Cow::Owned(types.to_vec()), ..Preferred::DEFAULT };
    let config = Arc::new(server::Config { keys, preferred, ..server::Config::default() });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let shown = Arc::new(AtomicUsize::new(0));
    let doorman = Doorman(shown.clone());
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        if let Ok(session) = server::run_stream(config, stream, doorman).await {
            session.await.ok();
        }
    });
    let known = HostKeys::parse([(dir.path().join("known_hosts"), format!("[127.0.0.1]:{port} {public}\n"))]);
    let credentials = Credentials { named: vec![rsa(dir.path())], ..Credentials::default() };
    let target = Target { credentials, ..Target::new("127.0.0.1", port, "pi") };
    let opened = Connection::open(&target, &Arc::new(Dialer::new(known))).await;
    (opened.err().map(|error| error.to_string()), shown.load(Ordering::SeqCst))
}

#[tokio::test]
async fn an_rsa_key_is_not_shown_to_a_server_that_wants_sha_1() {
    let (error, shown) = log_in(&[Algorithm::Ed25519, Algorithm::Rsa { hash: None }]).await;
    let error = error.unwrap();
    assert!(error.contains("takes RSA keys only with SHA-1 signatures") && shown == 0, "{error}, {shown} shown");
}

#[tokio::test]
async fn an_rsa_key_signs_with_sha_2() {
    let sha2 = Algorithm::Rsa { hash: Some(russh::keys::HashAlg::Sha512) };
    assert_eq!(log_in(&[Algorithm::Ed25519, sha2]).await.0, None);
}
