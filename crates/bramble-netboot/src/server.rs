//! Who gives boards their jobs and their image, and hears how they fare.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use bramble_installer::{BoardDisk, Job, Order, Word};
use bramble_spec::NodeName;
use bytes::Bytes;
use futures_util::TryStreamExt;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, Limited, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::mpsc::UnboundedSender;
use tokio_util::io::ReaderStream;

use crate::NetbootError;

/// More than what a board says of itself ever is, in bytes.
const MOST: usize = 1 << 20;
/// What is sent at once.
const PIECE: usize = 256 << 10;

/// What a board did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// It asked for its job: it runs.
    Runs,
    /// It told its disks, and was told what to do.
    Ordered(Vec<BoardDisk>, Order),
    /// It said how far it is.
    Said(Word),
}

/// The server.
#[derive(Debug)]
pub struct Server {
    address: SocketAddrV4,
    shared: Arc<Shared>,
    task: tokio::task::JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    image: PathBuf,
    /// By the token of a board.
    jobs: Mutex<BTreeMap<String, Job>>,
    /// A disk, or a kind of disk, that boards are to write.
    wish: Option<String>,
    events: UnboundedSender<(NodeName, Event)>,
}

type Body = BoxBody<Bytes, std::io::Error>;

impl Server {
    /// Begins to serve an image (packed) at an address of this machine.
    ///
    /// # Errors
    /// The address cannot be had.
    pub async fn start(
        at: Ipv4Addr,
        image: PathBuf,
        wish: Option<String>,
        events: UnboundedSender<(NodeName, Event)>,
    ) -> Result<Server, NetbootError> {
        let cannot = |source| NetbootError::Io { what: "serve the image", source };
        let listener = TcpListener::bind(SocketAddrV4::new(at, 0)).await.map_err(cannot)?;
        let address = SocketAddrV4::new(at, listener.local_addr().map_err(cannot)?.port());
        let shared = Arc::new(Shared { image, jobs: Mutex::default(), wish, events });
        let serving = shared.clone();
        let task = tokio::spawn(async move {
            loop {
                let Ok((stream, _)) = listener.accept().await else {
                    // Too many files are open, or the like: it passes.
                    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                    continue;
                };
                let shared = serving.clone();
                tokio::spawn(async move {
                    let serve = service_fn(|request| answer(&shared, request));
                    // What a board breaks off, it asks for again.
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), serve).await.ok();
                });
            }
        });
        Ok(Server { address, shared, task })
    }

    /// Where it is.
    pub fn address(&self) -> SocketAddrV4 {
        self.address
    }

    /// Gives the board that knows this token its job.
    pub fn add(&self, token: String, job: Job) {
        self.shared.jobs.lock().unwrap_or_else(PoisonError::into_inner).insert(token, job);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Says which disk a board writes: the one that is wished for, by its name or its kind, or else the only one that it has.
pub fn choose(disks: &[BoardDisk], wish: Option<&str>) -> Order {
    let words = |disk: &BoardDisk| {
        let why = if disk.refusals.is_empty() { String::new() } else { format!(": {}", disk.refusals.join("; ")) };
        let model = if disk.model.is_empty() { String::new() } else { format!(", {}", disk.model) };
        format!("/dev/{} ({}, {:.1} GB{model}){why}", disk.name, disk.kind, disk.size as f64 / 1e9)
    };
    let all = disks.iter().map(words).collect::<Vec<_>>().join(", ");
    let meant = |disk: &&BoardDisk| {
        wish.is_none_or(|wish| wish == disk.kind || wish.strip_prefix("/dev/").unwrap_or(wish) == disk.name)
    };
    let meant: Vec<&BoardDisk> = disks.iter().filter(meant).collect();
    let usable: Vec<&&BoardDisk> = meant.iter().filter(|disk| disk.refusals.is_empty()).collect();
    match (usable.as_slice(), disks, wish) {
        ([disk], ..) => Order::Write(disk.name.clone()),
        (_, [], _) => Order::Refuse("it has no disk: is its card in, is its SSD connected?".to_owned()),
        ([], _, Some(wish)) => Order::Refuse(format!("it has no disk `{wish}` that can be written, but {all}")),
        ([], ..) => Order::Refuse(format!("none of its disks can be written: {all}")),
        _ => Order::Refuse(format!("it has several disks; say which with --disk: {all}")),
    }
}

async fn answer(shared: &Arc<Shared>, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    let known = {
        let jobs = shared.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        let path = request.uri().path().trim_start_matches('/');
        path.split_once('/').and_then(|(token, what)| Some((jobs.get(token)?.clone(), what.to_owned())))
    };
    let Some((job, what)) = known else { return Ok(status(StatusCode::NOT_FOUND)) };
    Ok(respond(shared, &job, &what, request).await.unwrap_or_else(status))
}

async fn respond(
    shared: &Shared,
    job: &Job,
    what: &str,
    request: Request<Incoming>,
) -> Result<Response<Body>, StatusCode> {
    let node: NodeName = job.node.parse().map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
    let tell = |event| {
        // Nobody listens any more when the command ends.
        shared.events.send((node.clone(), event)).ok();
    };
    match (request.method(), what) {
        (&Method::GET, "job") => {
            tell(Event::Runs);
            json(job)
        }
        (&Method::GET, "image") => {
            let file = tokio::fs::File::open(&shared.image).await.map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
            let length = file.metadata().await.map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?.len();
            let stream = ReaderStream::with_capacity(file, PIECE).map_ok(Frame::data);
            let response = Response::builder().header("content-length", length);
            response.body(BodyExt::boxed(StreamBody::new(stream))).map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)
        }
        (&Method::POST, "disks") => {
            let disks: Vec<BoardDisk> = body(request).await?;
            let order = choose(&disks, shared.wish.as_deref());
            tell(Event::Ordered(disks, order.clone()));
            json(&order)
        }
        (&Method::POST, "word") => {
            tell(Event::Said(body(request).await?));
            Ok(status(StatusCode::OK))
        }
        _ => Err(StatusCode::NOT_FOUND),
    }
}

async fn body<T: serde::de::DeserializeOwned>(request: Request<Incoming>) -> Result<T, StatusCode> {
    let bytes = Limited::new(request.into_body(), MOST).collect().await.map_err(|_| StatusCode::BAD_REQUEST)?;
    serde_json::from_slice(&bytes.to_bytes()).map_err(|_| StatusCode::BAD_REQUEST)
}

fn json(value: &impl serde::Serialize) -> Result<Response<Body>, StatusCode> {
    let text = serde_json::to_vec(value).map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
    Ok(Response::new(whole(text.into())))
}

fn status(code: StatusCode) -> Response<Body> {
    let mut response = Response::new(whole(Bytes::new()));
    *response.status_mut() = code;
    response
}

fn whole(bytes: Bytes) -> Body {
    Full::new(bytes).map_err(|never| match never {}).boxed()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk(name: &str, kind: &str, refusals: &[&str]) -> BoardDisk {
        BoardDisk {
            name: name.into(),
            size: 32_000_000_000,
            model: "M".into(),
            kind: kind.into(),
            empty: false,
            refusals: refusals.iter().map(|why| (*why).to_owned()).collect(),
        }
    }

    #[test]
    fn a_board_writes_the_one_disk_that_is_meant() {
        let card = disk("mmcblk0", "sd", &[]);
        let ssd = disk("nvme0n1", "nvme", &[]);
        let small = disk("sda", "usb", &["it is too small"]);
        let write = |name: &str| Order::Write(name.to_owned());
        assert_eq!(choose(std::slice::from_ref(&card), None), write("mmcblk0"));
        assert_eq!(choose(&[card.clone(), small.clone()], None), write("mmcblk0"));
        for wish in ["nvme", "nvme0n1", "/dev/nvme0n1"] {
            assert_eq!(choose(&[card.clone(), ssd.clone()], Some(wish)), write("nvme0n1"));
        }
        for (disks, wish, says) in [
            (vec![], None, "is its card in"),
            (
                vec![card.clone(), ssd],
                None,
                "several disks; say which with --disk: /dev/mmcblk0 (sd, 32.0 GB, M), /dev/nvme0n1",
            ),
            (vec![card], Some("usb"), "no disk `usb`"),
            (vec![small], None, "none of its disks can be written: /dev/sda (usb, 32.0 GB, M): it is too small"),
        ] {
            let Order::Refuse(why) = choose(&disks, wish) else { panic!("it writes") };
            assert!(why.contains(says), "{why}");
        }
    }
}
