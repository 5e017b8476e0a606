//! The first program of a board that boots from the network: it writes its disk, reads it back, and starts from it.
//!
//! Whatever fails is said on the console and to the machine that serves it, and tried again; a board whose server is away for
//! long starts anew. A disk that is written half does not boot ([`bramble_image::write`]), so the board comes back here.

mod disks;
mod link;
mod server;
mod system;

use std::process::ExitCode;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use bramble_image::{Change, Target, WriteError, write};
use bramble_installer::{Order, Word};

use crate::server::Server;
use crate::system::{ROOT, say};

/// Between a try and the next one.
const PAUSE: Duration = Duration::from_secs(5);

/// Why a disk was not written.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("cannot {0}")]
    Io(&'static str, #[source] std::io::Error),
    #[error("the command line of the kernel has no `{0}`")]
    NoWord(&'static str),
    #[error("the network: {0}")]
    Network(String),
    #[error("{0}")]
    Server(#[from] server::ServerError),
    #[error("no disk is written: {0}")]
    Refused(String),
    #[error(transparent)]
    Hold(#[from] bramble_image::HoldError),
    #[error(transparent)]
    Image(#[from] bramble_image::ImageError),
    #[error(transparent)]
    Write(#[from] WriteError),
    #[error("what the server says of the image cannot be read: {0}")]
    Garbled(#[from] base64::DecodeError),
}

/// A cause and what it comes from, in one line.
fn whole(failure: &Failure) -> String {
    let mut text = failure.to_string();
    let mut source = std::error::Error::source(failure);
    while let Some(error) = source {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        source = error.source();
    }
    text
}

fn main() -> ExitCode {
    if std::process::id() != 1 {
        say("this is the first program of a board that boots from the network (`bramble netboot`): it writes its disk");
        return ExitCode::from(2);
    }
    loop {
        let ended = begin().and_then(|server| {
            let ended = install(&server);
            if let Err(failure) = &ended {
                // It may be the server that failed.
                server.tell(&Word::Failed(whole(failure))).ok();
            }
            ended
        });
        match ended {
            Ok(()) => system::restart(),
            Err(failure) => say(&format!("{}; next try in {} s", whole(&failure), PAUSE.as_secs())),
        }
        std::thread::sleep(PAUSE);
    }
}

/// Makes the machine usable, and finds the server.
fn begin() -> Result<Server, Failure> {
    system::mount()?;
    let line = std::fs::read_to_string("/proc/cmdline").map_err(|error| Failure::Io("read /proc/cmdline", error))?;
    let server = Server::new(system::word(&line, bramble_installer::words::FROM)?);
    link::up(
        system::word(&line, bramble_installer::words::MAC)?,
        system::word(&line, bramble_installer::words::ADDRESS)?,
    )?;
    Ok(server)
}

fn install(server: &Server) -> Result<(), Failure> {
    let job = server.job()?;
    say(&format!("this board becomes {}", job.node));
    let found = disks::settled(job.bytes)?;
    let name = match server.order(&found.iter().map(disks::told).collect::<Vec<_>>())? {
        Order::Write(name) => name,
        Order::Refuse(why) => return Err(Failure::Refused(why)),
    };
    let (disk, _) = found
        .into_iter()
        .find(|(disk, _)| disk.name == name)
        .ok_or_else(|| Failure::Refused(format!("there is no {name}")))?;
    say(&format!("writing /dev/{name}"));
    let file = disk.hold(ROOT.as_ref(), &disk.node(), job.bytes, disks::CONFIRMED)?;
    let changes: Vec<Change> = job.changes.iter().map(Change::try_from).collect::<Result<_, _>>()?;
    let target = Target { disk: file, customise: Box::new(move |_| Ok(changes)) };
    let image = bramble_image::decompress(server.image()?)?;
    let reporter = server.reporter();
    let ends = write(image, vec![target], &AtomicBool::new(false), &|_, progress| reporter.hear(progress));
    reporter.end();
    for end in ends {
        end?;
    }
    server.tell(&Word::Done)?;
    say("written and read back; the board starts from its disk now");
    Ok(())
}
