//! The machine that serves the board.

use std::io::Read;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bramble_image::Progress;
use bramble_installer::{BoardDisk, Job, Order, Word};
use serde::de::DeserializeOwned;
use ureq::Agent;

use crate::system;

/// How long one answer may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long the server may be away while a disk is written, until the board starts anew.
const AWAY: Duration = Duration::from_secs(120);

/// Why there was no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ServerError {
    #[error("{address} does not answer: {source}")]
    Silent { address: String, source: Box<ureq::Error> },
    #[error("{address} answers something else: {source}")]
    Garbled { address: String, source: serde_json::Error },
}

#[derive(Clone)]
pub(crate) struct Server {
    address: String,
    agent: Agent,
}

impl Server {
    pub(crate) fn new(address: &str) -> Server {
        let config =
            Agent::config_builder().timeout_connect(Some(PATIENCE)).timeout_recv_response(Some(PATIENCE)).build();
        Server { address: address.trim_end_matches('/').to_owned(), agent: config.into() }
    }

    fn at(&self, what: &str) -> String {
        format!("{}/{what}", self.address)
    }

    fn silent(&self, error: ureq::Error) -> ServerError {
        ServerError::Silent { address: self.address.clone(), source: Box::new(error) }
    }

    fn parse<T: DeserializeOwned>(&self, bytes: &[u8]) -> Result<T, ServerError> {
        serde_json::from_slice(bytes).map_err(|source| ServerError::Garbled { address: self.address.clone(), source })
    }

    pub(crate) fn job(&self) -> Result<Job, ServerError> {
        let mut answer = self.agent.get(self.at("job")).call().map_err(|error| self.silent(error))?;
        self.parse(&answer.body_mut().read_to_vec().map_err(|error| self.silent(error))?)
    }

    fn post(&self, what: &str, text: &str) -> Result<Vec<u8>, ServerError> {
        let mut answer = self.agent.post(self.at(what)).send(text).map_err(|error| self.silent(error))?;
        answer.body_mut().read_to_vec().map_err(|error| self.silent(error))
    }

    /// Asks which disk is written.
    pub(crate) fn order(&self, disks: &[BoardDisk]) -> Result<Order, ServerError> {
        self.parse(&self.post("disks", &json(&disks))?)
    }

    /// The image, packed.
    pub(crate) fn image(&self) -> Result<impl Read + Send + 'static, ServerError> {
        let answer = self.agent.get(self.at("image")).call().map_err(|error| self.silent(error))?;
        Ok(answer.into_body().into_reader())
    }

    pub(crate) fn tell(&self, word: &Word) -> Result<(), ServerError> {
        self.post("word", &json(word)).map(drop)
    }

    /// Tells once a second how far the work is, beside it.
    pub(crate) fn reporter(&self) -> Reporter {
        let latest: Arc<Mutex<Option<Word>>> = Arc::default();
        let ended: Arc<AtomicBool> = Arc::default();
        let (server, heard, over) = (self.clone(), latest.clone(), ended.clone());
        let thread = std::thread::spawn(move || {
            let mut last = Instant::now();
            while !over.load(Ordering::SeqCst) {
                std::thread::sleep(Duration::from_secs(1));
                let word = heard.lock().unwrap_or_else(PoisonError::into_inner).clone().unwrap_or(Word::Written(0));
                match server.tell(&word) {
                    Ok(()) => last = Instant::now(),
                    // A stream that nobody ends would be waited for without end.
                    Err(_) if last.elapsed() > AWAY => system::restart(),
                    Err(_) => {}
                }
            }
        });
        Reporter { latest, ended, thread }
    }
}

pub(crate) struct Reporter {
    latest: Arc<Mutex<Option<Word>>>,
    ended: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Reporter {
    pub(crate) fn hear(&self, progress: Progress) {
        let word = match progress {
            Progress::Written(bytes) => Word::Written(bytes),
            Progress::Verified(bytes, _) => Word::Verified(bytes),
            Progress::Customising | Progress::Ending => return,
        };
        *self.latest.lock().unwrap_or_else(PoisonError::into_inner) = Some(word);
    }

    pub(crate) fn end(self) {
        self.ended.store(true, Ordering::SeqCst);
        self.thread.join().ok();
    }
}

/// All that is said can be written as JSON: names are strings.
fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}
