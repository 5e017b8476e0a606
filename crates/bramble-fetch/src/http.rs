//! Files from web servers: whole and as they were published, or not at all.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::Duration;

use ureq::ResponseExt;
use ureq::http::{Response, Uri};

use crate::digest::Digest;
use crate::error::{Context, FetchError, Result, bail, failure};
use crate::watcher::Watcher;

/// How often a download that gets nowhere is tried.
const TRIES: u32 = 4;
/// How long a server may be silent.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// How long a text may take.
const MINUTE: Duration = Duration::from_secs(60);
/// More than any manifest or key has.
pub(crate) const TEXT_LIMIT: u64 = 32 * 1024 * 1024;
/// More than any list of digests or images has.
const LIMIT: u64 = 4 * 1024 * 1024;
/// More than the name of a release has.
const NAME_LIMIT: u64 = 4096;
/// More than any program or archive of a release has, in bytes.
pub(crate) const RELEASE_LIMIT: u64 = 8 << 30;
/// More than any image of a system has, in bytes.
pub(crate) const IMAGE_LIMIT: u64 = 64 << 30;

fn agent() -> ureq::Agent {
    ureq::Agent::config_builder()
        .timeout_connect(Some(PATIENCE))
        .timeout_recv_response(Some(PATIENCE))
        .http_status_as_error(false)
        .save_redirect_history(true)
        .build()
        .into()
}

/// Refuses an answer that went over plain HTTP on its way, if it was asked for over HTTPS.
pub(crate) fn refuse_downgrade(url: &str, response: &Response<ureq::Body>) -> Result<()> {
    refuse_plain(url, &passed(response))
}

/// Lists the addresses through which an answer came, the last of them included.
fn passed(response: &Response<ureq::Body>) -> Vec<Uri> {
    response.get_redirect_history().unwrap_or_default().iter().chain([response.get_uri()]).cloned().collect()
}

fn refuse_plain(url: &str, passed: &[Uri]) -> Result<()> {
    let secure = |scheme: Option<&str>| scheme.is_some_and(|scheme| scheme.eq_ignore_ascii_case("https"));
    if !secure(url.split_once("://").map(|(scheme, _)| scheme)) {
        return Ok(());
    }
    match passed.iter().find(|uri| !secure(uri.scheme_str())) {
        Some(plain) => {
            Err(FetchError::refused(format!("{url} leads to {plain}, which is not encrypted: it is refused")))
        }
        None => Ok(()),
    }
}

/// Gives the last part of the address that this one leads to, or the text that is there.
pub(crate) fn led_to(url: &str, watcher: &dyn Watcher) -> Result<String> {
    watcher.note(&format!("fetching {url}"));
    let mut response = agent()
        .get(url)
        .config()
        .max_redirects(0)
        .max_redirects_will_error(false)
        .timeout_recv_body(Some(MINUTE))
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
    let body = response.body_mut().with_config().limit(NAME_LIMIT).read_to_string();
    body.with_context(|| format!("{url} does not answer with the name of a release"))
}

/// Gives the text at an address, asked for with these headers.
pub(crate) fn text_at(url: &str, headers: &[(&str, &str)], watcher: &dyn Watcher) -> Result<String> {
    let bytes = bytes_at(url, headers, LIMIT, watcher)?;
    text_of(url, bytes)
}

/// Gives the text at an address, which may be a long one.
pub(crate) fn long_text_at(url: &str, watcher: &dyn Watcher) -> Result<String> {
    let bytes = bytes_at(url, &[], TEXT_LIMIT, watcher)?;
    text_of(url, bytes)
}

fn text_of(url: &str, bytes: Vec<u8>) -> Result<String> {
    let text = String::from_utf8(bytes).map_err(|_| failure!("{url} answers with something else than a text"))?;
    // Portals, proxies and moved pages answer 200, too. No manifest, key, list or JSON begins like this.
    if text.trim_start_matches(['\u{feff}', ' ', '\t', '\r', '\n']).starts_with('<') {
        bail!("{url} answers with a web page: is it the right address, and does a proxy or a portal stand in between?");
    }
    Ok(text)
}

/// Gives what is at an address, if it is no more than `most` bytes and comes within a minute.
pub(crate) fn bytes_at(url: &str, headers: &[(&str, &str)], most: u64, watcher: &dyn Watcher) -> Result<Vec<u8>> {
    watcher.note(&format!("fetching {url}"));
    let mut request = agent().get(url).config().timeout_recv_body(Some(MINUTE)).build();
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let mut response = request.call().with_context(|| format!("cannot fetch {url}"))?;
    refuse_downgrade(url, &response)?;
    match response.status().as_u16() {
        200 => {
            let body = response.body_mut().with_config().limit(most).read_to_vec();
            body.with_context(|| format!("cannot fetch {url} (at most {most} bytes, within {} s)", MINUTE.as_secs()))
        }
        404 | 410 => Err(FetchError::absent(url)),
        _ => bail!("{url} answers {}", response.status()),
    }
}

/// Asks for a file from this byte on.
fn open(remote: &Remote<'_>, from: u64) -> Result<Response<ureq::Body>> {
    let url = remote.url;
    let mut request = agent().get(url);
    for (name, value) in remote.headers {
        request = request.header(*name, *value);
    }
    if from > 0 {
        request = request.header("Range", format!("bytes={from}-"));
    }
    let response = request.call().with_context(|| format!("cannot fetch {url}"))?;
    refuse_downgrade(url, &response)?;
    match response.status().as_u16() {
        200 | 206 | 416 => Ok(response),
        404 | 410 => Err(FetchError::absent(url)),
        _ => bail!("{url} answers {}", response.status()),
    }
}

/// A file on a web server, and what is known of it.
pub(crate) struct Remote<'a> {
    pub(crate) url: &'a str,
    /// With what it is asked for.
    pub(crate) headers: &'a [(&'a str, &'a str)],
    pub(crate) digest: Digest<'a>,
    /// How many bytes it may have.
    pub(crate) most: u64,
}

/// Fetches a file whole, or not at all. What was cut off goes on where it stopped. One that is here is used if it is still
/// what was published, and else fetched again. `patience`: how long the server may be silent.
pub(crate) fn download(remote: &Remote<'_>, to: &Path, patience: Duration, watcher: &dyn Watcher) -> Result<()> {
    let url = remote.url;
    if is_here(remote, to, watcher)? {
        return Ok(());
    }
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
    if is_here(remote, to, watcher)? {
        return Ok(());
    }
    watcher.note(&format!("fetching {url}"));
    let mut tries = 0;
    let mut whole = false;
    while !whole {
        let start = file.seek(SeekFrom::End(0))?;
        let result = go_on(remote, &mut file, start, patience, watcher);
        let gained = file.seek(SeekFrom::End(0))? > start;
        match result {
            Ok(()) => whole = true,
            Err(error) if error.is_final() => {
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
            let (found, published) = (remote.digest.of(&part)?, remote.digest.published());
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

/// Tells whether a file is here as it was published. One that has changed since, or was never that, is removed.
fn is_here(remote: &Remote<'_>, path: &Path, watcher: &dyn Watcher) -> Result<bool> {
    if !path.exists() {
        return Ok(false);
    }
    // Disks forget, and what is used was checked at some other time, maybe by somebody else.
    if remote.digest.of(path).is_ok_and(|found| found == remote.digest.published()) {
        return Ok(true);
    }
    watcher.note(&format!("{} is not what was published any more, and is fetched again", path.display()));
    fs::remove_file(path).with_context(|| format!("cannot remove {}", path.display()))?;
    Ok(false)
}

/// Adds to a file what is missing from `start` on.
fn go_on(remote: &Remote<'_>, file: &mut File, start: u64, patience: Duration, watcher: &dyn Watcher) -> Result<()> {
    let url = remote.url;
    let response = open(remote, start)?;
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
    let total = response.body().content_length().map(|rest| here.saturating_add(rest));
    let too_large = || {
        FetchError::refused(format!("{url} has more than {} bytes, which it cannot have: it is refused", remote.most))
    };
    if here > remote.most || total.is_some_and(|total| total > remote.most) {
        return Err(too_large());
    }
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
                if here + chunk.len() as u64 > remote.most {
                    return Err(too_large());
                }
                file.write_all(&chunk).context("cannot write")?;
                here += chunk.len() as u64;
                watcher.transfer(url, here, total);
            }
            Err(RecvTimeoutError::Timeout) => bail!("{url} sends nothing for {} s", patience.as_secs()),
            Err(RecvTimeoutError::Disconnected) => bail!("{url} broke off"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_server::{Reply, TestServer};
    use crate::watcher::Silent;

    fn text(server: &TestServer, path: &str) -> String {
        text_at(&server.url(path), &[], &Silent).map_or_else(|error| error.chain(), |text| panic!("it gives {text}"))
    }

    /// Fetches a file of at most ten bytes whose digest nothing has.
    fn file(reply: Reply) -> (String, usize) {
        let server = TestServer::start();
        server.put("/file", reply);
        let dir = tempfile::tempdir().unwrap();
        let sha256 = "0".repeat(64).parse().unwrap();
        let url = server.url("/file");
        let remote = Remote { url: &url, headers: &[], digest: Digest::Sha256(&sha256), most: 10 };
        let error = download(&remote, &dir.path().join("file"), PATIENCE, &Silent).unwrap_err().chain();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "nothing is left");
        (error, server.asked("/file"))
    }

    #[test]
    fn a_text_without_an_end_is_cut_off() {
        let server = TestServer::start();
        server.put("/endless", Reply::Endless);
        let error = text(&server, "/endless");
        assert!(error.contains("at most 4194304 bytes"), "{error}");
    }

    #[test]
    fn a_text_that_is_shorter_than_the_server_says_is_refused() {
        let server = TestServer::start();
        server.put("/short", Reply::Said(1000, b"abc".to_vec()));
        let error = text(&server, "/short");
        assert!(error.contains("cannot fetch"), "{error}");
    }

    #[test]
    fn a_text_that_is_longer_than_the_server_says_ends_there() {
        let server = TestServer::start();
        server.put("/long", Reply::Said(3, b"abcdef".to_vec()));
        assert_eq!(text_at(&server.url("/long"), &[], &Silent).unwrap(), "abc");
    }

    #[test]
    fn a_web_page_is_no_text() {
        let server = TestServer::start();
        server.serve("/page", "\u{feff}\r\n<!DOCTYPE html><title>Log in</title>");
        let error = text(&server, "/page");
        assert!(error.contains("answers with a web page"), "{error}");
    }

    #[test]
    fn a_file_without_an_end_is_refused_at_once() {
        let (error, asked) = file(Reply::Endless);
        assert!(error.contains("more than 10 bytes") && asked == 1, "{error}, asked {asked} times");
    }

    #[test]
    fn a_file_that_is_said_to_be_too_large_is_not_read() {
        let (error, asked) = file(Reply::Said(11, Vec::new()));
        assert!(error.contains("more than 10 bytes") && asked == 1, "{error}, asked {asked} times");
    }

    #[test]
    fn a_file_here_that_has_changed_is_fetched_again() {
        let server = TestServer::start();
        server.serve("/file", "as published");
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, "as publishex").unwrap();
        let digest = crate::digest::text_digest("as published").unwrap();
        let url = server.url("/file");
        let remote = Remote { url: &url, headers: &[], digest: Digest::Sha256(&digest), most: 100 };
        download(&remote, &path, PATIENCE, &Silent).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "as published");
    }

    #[test]
    fn each_address_on_the_way_is_known() {
        let server = TestServer::start();
        server.put("/a", Reply::MovedTo(server.url("/b")));
        server.put("/b", Reply::MovedTo(server.url("/c")));
        server.serve("/c", "here");
        let response = agent().get(server.url("/a")).call().unwrap();
        let paths: Vec<String> = passed(&response).iter().map(|uri| uri.path().to_owned()).collect();
        assert_eq!((paths.first().map(String::as_str), paths.contains(&"/b".into())), (Some("/a"), true), "{paths:?}");
    }

    #[test]
    fn what_went_unencrypted_for_a_part_of_its_way_is_refused() {
        let way = ["https://a/x", "http://b/x", "https://c/x"].map(|uri| uri.parse::<Uri>().unwrap());
        let error = refuse_plain("https://a/x", &way).unwrap_err().to_string();
        assert!(error.contains("leads to http://b/x, which is not encrypted"), "{error}");
    }

    #[test]
    fn what_was_asked_for_unencrypted_may_come_so() {
        refuse_plain("http://a/x", &["http://a/x".parse().unwrap()]).unwrap();
    }
}
