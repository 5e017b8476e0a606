//! A web server for tests, which can lie.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// What a path answers with.
pub(crate) enum Reply {
    /// These bytes.
    Bytes(Vec<u8>),
    /// These bytes, said to be as many as the number says.
    Said(usize, Vec<u8>),
    /// Bytes in chunks, without an end.
    Endless,
    /// Another address.
    MovedTo(String),
}

/// A server that lives as long as the tests.
pub(crate) struct TestServer {
    /// Where it is, without a `/` at its end.
    pub(crate) address: String,
    replies: Arc<Mutex<HashMap<String, Reply>>>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl TestServer {
    pub(crate) fn start() -> TestServer {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let server = TestServer { address, replies: Arc::default(), asked: Arc::default() };
        let (replies, asked) = (server.replies.clone(), server.asked.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (replies, asked) = (replies.clone(), asked.clone());
                std::thread::spawn(move || answer(&stream, &replies, &asked).ok());
            }
        });
        server
    }

    /// Answers a path with this from now on.
    pub(crate) fn put(&self, path: &str, reply: Reply) {
        self.replies.lock().unwrap().insert(path.to_owned(), reply);
    }

    pub(crate) fn serve(&self, path: &str, bytes: impl AsRef<[u8]>) {
        self.put(path, Reply::Bytes(bytes.as_ref().to_vec()));
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.address)
    }

    /// Counts how often a path was asked for.
    pub(crate) fn asked(&self, path: &str) -> usize {
        self.asked.lock().unwrap().iter().filter(|asked| *asked == path).count()
    }
}

fn answer(
    mut stream: &TcpStream,
    replies: &Mutex<HashMap<String, Reply>>,
    asked: &Mutex<Vec<String>>,
) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream).lines();
    let request = lines.next().unwrap()?;
    while lines.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
    let path = request.split(' ').nth(1).unwrap();
    asked.lock().unwrap().push(path.to_owned());
    let (head, body, endless) = match replies.lock().unwrap().get(path) {
        None => ("404 Not Found\r\nContent-Length: 0".to_owned(), Vec::new(), false),
        Some(Reply::Bytes(bytes)) => (format!("200 OK\r\nContent-Length: {}", bytes.len()), bytes.clone(), false),
        Some(Reply::Said(said, bytes)) => (format!("200 OK\r\nContent-Length: {said}"), bytes.clone(), false),
        Some(Reply::Endless) => ("200 OK\r\nTransfer-Encoding: chunked".to_owned(), Vec::new(), true),
        Some(Reply::MovedTo(url)) => (format!("302 Found\r\nLocation: {url}\r\nContent-Length: 0"), Vec::new(), false),
    };
    stream.write_all(format!("HTTP/1.1 {head}\r\nConnection: close\r\n\r\n").as_bytes())?;
    stream.write_all(&body)?;
    if endless {
        let chunk = format!("{:x}\r\n{}\r\n", 1 << 16, "x".repeat(1 << 16));
        loop {
            stream.write_all(chunk.as_bytes())?;
        }
    }
    Ok(())
}
