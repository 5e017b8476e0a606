//! The SSH side of the crowd.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use russh::keys::PrivateKey;
use russh::server::{Auth, ChannelOpenHandle, Config, Handle, Handler, Msg, Session, VerifiedPublicKey};
use russh::{Channel, ChannelId};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::OnceCell;

use crate::answer::{Answer, Member, Pace, Real};
use crate::delay::delayed;

type Question = (String, String);

/// What the members share.
pub struct Crowd {
    members: HashMap<Ipv4Addr, Member>,
    real: Real,
    /// The block in /etc/hosts, as bramble's look prints it.
    hosts: String,
    /// By command and input, both as asked of the real node.
    answers: Mutex<HashMap<Question, Arc<OnceCell<Answer>>>>,
    config: Arc<Config>,
}

impl Crowd {
    /// A crowd whose members all show `host_key`, and let everybody in who has a key.
    pub fn new(members: Vec<Member>, real: Real, host_key: PrivateKey) -> Crowd {
        let hosts = members.iter().map(|member| format!("={} {}\n", member.address, member.name)).collect();
        let config = Config {
            keys: vec![host_key],
            nodelay: true,
            auth_rejection_time: Duration::ZERO,
            inactivity_timeout: None,
            ..Config::default()
        };
        Crowd {
            members: members.into_iter().map(|member| (member.address, member)).collect(),
            real,
            hosts,
            answers: Mutex::new(HashMap::new()),
            config: Arc::new(config),
        }
    }

    /// Serves until it is dropped.
    pub async fn serve(self: Arc<Self>, listener: TcpListener) -> anyhow::Result<()> {
        loop {
            let (stream, _) = listener.accept().await.context("cannot accept connections")?;
            stream.set_nodelay(true).context("cannot configure a connection")?;
            let crowd = self.clone();
            tokio::spawn(async move { crowd.welcome(stream).await });
        }
    }

    async fn welcome(self: Arc<Self>, stream: TcpStream) {
        let Ok(IpAddr::V4(address)) = stream.local_addr().map(|address| address.ip()) else { return };
        let Some(member) = self.members.get(&address).cloned() else { return };
        match member.pace {
            Pace::Delay(Duration::ZERO) => self.talk(member, stream).await,
            Pace::Delay(delay) => self.talk(member, delayed(stream, delay)).await,
            Pace::Mute => {
                // It lasts until the other side has had enough.
                let mut stream = stream;
                tokio::io::copy(&mut stream, &mut tokio::io::sink()).await.ok();
            }
        }
    }

    async fn talk(self: Arc<Self>, member: Member, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
        let conversation = Conversation { crowd: self.clone(), member: Arc::new(member), asked: HashMap::new() };
        // A client that goes away in the middle is no event here.
        if let Ok(session) = russh::server::run_stream(self.config.clone(), stream, conversation).await {
            session.await.ok();
        }
    }

    async fn answer(&self, member: &Member, command: &str, input: &str) -> anyhow::Result<Answer> {
        let question = (self.real.question(member, command), self.real.question(member, input));
        let cell = {
            let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
            answers.entry(question.clone()).or_default().clone()
        };
        let recorded = cell.get_or_try_init(|| self.real.ask(&question.0, &question.1)).await?;
        let text = String::from_utf8_lossy(&recorded.stdout);
        let stdout = self.real.answer(member, &text, &self.hosts).into_bytes();
        Ok(Answer { stdout, code: recorded.code })
    }
}

struct Conversation {
    crowd: Arc<Crowd>,
    member: Arc<Member>,
    /// Command and input of each channel.
    asked: HashMap<ChannelId, (String, Vec<u8>)>,
}

impl Handler for Conversation {
    type Error = russh::Error;

    async fn auth_publickey(&mut self, _: &str, _: VerifiedPublicKey<'_>) -> Result<Auth, Self::Error> {
        Ok(Auth::Accept)
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Self::Error> {
        self.asked.insert(channel.id(), (String::new(), Vec::new()));
        reply.accept().await;
        Ok(())
    }

    async fn exec_request(
        &mut self,
        channel: ChannelId,
        data: &[u8],
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        if let Some((command, _)) = self.asked.get_mut(&channel) {
            *command = String::from_utf8_lossy(data).into_owned();
        }
        session.channel_success(channel)
    }

    async fn data(&mut self, channel: ChannelId, data: &[u8], _: &mut Session) -> Result<(), Self::Error> {
        if let Some((_, input)) = self.asked.get_mut(&channel) {
            input.extend_from_slice(data);
        }
        Ok(())
    }

    async fn channel_eof(&mut self, channel: ChannelId, session: &mut Session) -> Result<(), Self::Error> {
        let Some((command, input)) = self.asked.remove(&channel) else { return Ok(()) };
        let (crowd, member, handle) = (self.crowd.clone(), self.member.clone(), session.handle());
        tokio::spawn(async move {
            let input = String::from_utf8_lossy(&input).into_owned();
            let answer = crowd.answer(&member, &command, &input).await.unwrap_or_else(|error| Answer {
                stdout: format!("the crowd cannot answer: {error:#}\n").into_bytes(),
                code: 126,
            });
            // A client that went away needs no answer.
            tell(&handle, channel, answer).await.ok();
        });
        Ok(())
    }
}

async fn tell(handle: &Handle, channel: ChannelId, answer: Answer) -> Result<(), ()> {
    handle.data(channel, answer.stdout).await.map_err(drop)?;
    handle.exit_status_request(channel, answer.code).await?;
    handle.eof(channel).await?;
    handle.close(channel).await
}
