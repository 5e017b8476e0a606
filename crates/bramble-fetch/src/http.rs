//! Files from web servers: whole and as they were published, or not at all.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::Duration;

use crate::digest::Digest;
use crate::error::{Context, FetchError, Result, bail, failure};
use crate::watcher::Watcher;

/// How often a download that gets nowhere is tried.
const TRIES: u32 = 4;
/// How long a server may be silent.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
const MINUTE: Duration = Duration::from_secs(60);
/// More than any manifest or key has.
const TEXT_LIMIT: u64 = 32 * 1024 * 1024;
/// More than any list of digests or images has.
const LIMIT: u64 = 4 * 1024 * 1024;

fn agent() -> ureq::Agent {
    ureq::Agent::config_builder()
        .timeout_connect(Some(PATIENCE))
        .timeout_recv_response(Some(PATIENCE))
        .http_status_as_error(false)
        .build()
        .into()
}

/// Gives the last part of the address that this one leads to, or the text that is there.
pub(crate) fn led_to(url: &str, watcher: &dyn Watcher) -> Result<String> {
    watcher.note(&format!("fetching {url}"));
    let mut response = agent()
        .get(url)
        .config()
        .max_redirects(0)
        .max_redirects_will_error(false)
        .build()
        .call()
        .with_context(|| format!("cannot fetch {url}"))?;
    let status = response.status();
    if status.is_redirection() {
        let location = response.headers().get("location").and_then(|value| value.to_str().ok()).unwrap_or_default();
        let last = location.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
        return Ok(last.replace("%2B", "+").replace("%2b", "+"));
    }
    if !status.is_success() {
        bail!("{url} answers {status}: there is no such channel");
    }
    response.body_mut().with_config().limit(LIMIT).read_to_string().with_context(|| format!("cannot fetch {url}"))
}

/// Gives the text at an address, asked for with these headers.
pub(crate) fn text_at(url: &str, headers: &[(&str, &str)], watcher: &dyn Watcher) -> Result<String> {
    watcher.note(&format!("fetching {url}"));
    let mut request = agent().get(url);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let mut response = request.call().with_context(|| format!("cannot fetch {url}"))?;
    match response.status().as_u16() {
        200 => response
            .body_mut()
            .with_config()
            .limit(LIMIT)
            .read_to_string()
            .with_context(|| format!("cannot fetch {url}")),
        404 | 410 => Err(FetchError::absent(url)),
        _ => bail!("{url} answers {}", response.status()),
    }
}

/// Gives the text at an address that has a minute to answer.
pub(crate) fn text_within_a_minute(url: &str, watcher: &dyn Watcher) -> Result<String> {
    watcher.note(&format!("fetching {url}"));
    let agent: ureq::Agent = ureq::Agent::config_builder().timeout_global(Some(MINUTE)).build().into();
    let mut response = agent.get(url).call().with_context(|| format!("cannot fetch {url}"))?;
    let body = response.body_mut().with_config().limit(TEXT_LIMIT);
    body.read_to_string().with_context(|| format!("cannot fetch {url}"))
}

/// Asks for a file from this byte on.
fn open(url: &str, headers: &[(&str, &str)], from: u64) -> Result<ureq::http::Response<ureq::Body>> {
    let mut request = agent().get(url);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    if from > 0 {
        request = request.header("Range", format!("bytes={from}-"));
    }
    let response = request.call().with_context(|| format!("cannot fetch {url}"))?;
    match response.status().as_u16() {
        200 | 206 | 416 => Ok(response),
        404 | 410 => Err(FetchError::absent(url)),
        _ => bail!("{url} answers {}", response.status()),
    }
}

/// Fetches a file whole, or not at all. What was cut off goes on where it stopped. `patience`: how long the server may be
/// silent; `headers`: with what it is asked.
pub(crate) fn download(
    url: &str,
    headers: &[(&str, &str)],
    to: &Path,
    digest: Digest<'_>,
    patience: Duration,
    watcher: &dyn Watcher,
) -> Result<()> {
    let dir = to.parent().ok_or_else(|| failure!("{} is no file", to.display()))?;
    fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
    let mut name = to.file_name().unwrap_or_default().to_owned();
    name.push(".part");
    let part = to.with_file_name(name);
    let mut file = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&part)
        .with_context(|| format!("cannot write {}", part.display()))?;
    // Another run may be fetching the same.
    file.lock().with_context(|| format!("cannot lock {}", part.display()))?;
    if to.exists() {
        return Ok(());
    }
    watcher.note(&format!("fetching {url}"));
    let mut tries = 0;
    let mut whole = false;
    while !whole {
        let start = file.seek(SeekFrom::End(0))?;
        let result = go_on(url, headers, &mut file, start, patience, watcher);
        let gained = file.seek(SeekFrom::End(0))? > start;
        match result {
            Ok(()) => whole = true,
            Err(error) if error.is_absent() => {
                fs::remove_file(&part).ok();
                return Err(error);
            }
            Err(error) => {
                tries = if gained { 1 } else { tries + 1 };
                if tries == TRIES {
                    return Err(
                        error.context(format!("{} is not whole yet, and the next run goes on with it", part.display()))
                    );
                }
                watcher.note(&format!("{}; trying again", error.chain()));
                std::thread::sleep(Duration::from_millis(500) * tries);
            }
        }
        if whole {
            file.sync_all()?;
            let (found, published) = (digest.of(&part)?, digest.published());
            if found != published {
                file.set_len(0)?;
                // The beginning may have been of another file.
                if start > 0 {
                    whole = false;
                    continue;
                }
                fs::remove_file(&part).ok();
                bail!("{url} has the digest {found}, and {published} was published for it: it is refused");
            }
        }
    }
    fs::rename(&part, to).with_context(|| format!("cannot write {}", to.display()))
}

/// Adds to a file what is missing from `start` on.
fn go_on(
    url: &str,
    headers: &[(&str, &str)],
    file: &mut File,
    start: u64,
    patience: Duration,
    watcher: &dyn Watcher,
) -> Result<()> {
    let response = open(url, headers, start)?;
    match response.status().as_u16() {
        // It is not asked for the rest, or does not know how.
        200 => {
            file.set_len(0)?;
            file.rewind()?;
        }
        // There is nothing behind what is here; its digest tells whether that is all.
        416 => return Ok(()),
        _ => {}
    }
    let mut here = file.stream_position()?;
    let total = response.body().content_length().map(|rest| here + rest);
    let (sender, receiver) = sync_channel::<std::io::Result<Vec<u8>>>(4);
    let mut reader = response.into_body().into_reader();
    std::thread::spawn(move || {
        loop {
            let mut chunk = vec![0; 256 * 1024];
            let read = reader.read(&mut chunk).map(|count| {
                chunk.truncate(count);
                chunk
            });
            let last = !matches!(&read, Ok(chunk) if !chunk.is_empty());
            if sender.send(read).is_err() || last {
                return;
            }
        }
    });
    loop {
        match receiver.recv_timeout(patience) {
            Ok(Ok(chunk)) if chunk.is_empty() => {
                watcher.transfer(url, here, Some(here));
                return Ok(());
            }
            Ok(chunk) => {
                let chunk = chunk.with_context(|| format!("{url} broke off"))?;
                file.write_all(&chunk).context("cannot write")?;
                here += chunk.len() as u64;
                watcher.transfer(url, here, total);
            }
            Err(RecvTimeoutError::Timeout) => bail!("{url} sends nothing for {} s", patience.as_secs()),
            Err(RecvTimeoutError::Disconnected) => bail!("{url} broke off"),
        }
    }
}
