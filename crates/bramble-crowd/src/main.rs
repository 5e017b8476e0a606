//! `crowd`: serves a crowd until it is ended.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use bramble_crowd::{Crowd, Member, Real};
use clap::Parser;
use tokio::net::TcpSocket;

#[derive(Parser)]
#[command(about = "Many SSH servers in one process, answering as one real node does")]
struct Arguments {
    /// A file with a line `name address mac pace` for each member; the pace is a delay in milliseconds, or `mute`
    #[arg(long)]
    members: PathBuf,
    /// The real node, in the same form
    #[arg(long)]
    real: String,
    /// A shell command that runs `$1` on the real node
    #[arg(long)]
    command: String,
    /// The private host key that all members show
    #[arg(long)]
    host_key: PathBuf,
    /// The port, on every address that this network namespace calls its own
    #[arg(long, default_value_t = 22)]
    port: u16,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let path = &arguments.members;
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let members = text.lines().map(str::parse).collect::<anyhow::Result<Vec<Member>>>()?;
    let real = Real { member: arguments.real.parse()?, command: arguments.command };
    let key = russh::keys::load_secret_key(&arguments.host_key, None)
        .with_context(|| format!("cannot read {}", arguments.host_key.display()))?;
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    rustix::process::setrlimit(
        rustix::process::Resource::Nofile,
        rustix::process::Rlimit { current: limit.maximum, ..limit },
    )
    .context("cannot raise the limit of open files")?;
    let socket = TcpSocket::new_v4().context("cannot make a socket")?;
    socket.set_reuseaddr(true).context("cannot configure the socket")?;
    socket
        .bind((Ipv4Addr::UNSPECIFIED, arguments.port).into())
        .with_context(|| format!("cannot take port {}", arguments.port))?;
    // Everybody calls at once.
    let listener = socket.listen(4096).context("cannot listen")?;
    Arc::new(Crowd::new(members, real, key)).serve(listener).await
}
