//! The corpus of malformed requests through a live edge, with nginx behind it.
//!
//! nginx' own log says which requests it has read. It may never have read one
//! that the entry does not name: neither one hidden in another's body, nor two
//! for one.

use crate::entry::{Entry, Event, parse};
use crate::origin::Nginx;
use crate::support::{Authority, Plan, SOON, eventually, start_with};
use proxima::config::{Config, Environment};
use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::Path;

const GOOD: &[u8] = b"GET /good HTTP/1.1\r\nHost: good\r\n\r\n";

fn entries() -> Vec<Entry> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/h1");
    let files = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
    let texts = files.filter(|path| path.extension().is_some_and(|extension| extension == "txt"));
    texts
        .flat_map(|path| parse(&std::fs::read_to_string(&path).unwrap(), &path.display().to_string()))
        .collect()
}

/// First lines of the requests that may go on.
fn lines(entry: &Entry) -> Vec<String> {
    let heads = entry.expected.iter().filter_map(|event| match event {
        Event::Head(head) => Some(head),
        _ => None,
    });
    heads.map(|head| String::from_utf8_lossy(head).split("\r\n").next().unwrap().to_owned()).collect()
}

/// Sends, and reads to the end of the connection; the client ends its side after `answers` answers.
fn exchange(edge: SocketAddr, octets: &[u8], answers: usize) -> Vec<u8> {
    let mut stream = TcpStream::connect(edge).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    // An edge that refuses early closes before it has read everything.
    let _refused = stream.write_all(octets);
    let mut read = Vec::new();
    let mut ended = false;
    loop {
        let got = read.windows(9).filter(|w| w.starts_with(b"HTTP/1.1 ")).count();
        if got >= answers && !ended {
            ended = true;
            let _gone = stream.shutdown(Shutdown::Write);
        }
        let mut piece = [0; 4096];
        match stream.read(&mut piece) {
            Ok(0) => return read,
            Ok(n) => read.extend_from_slice(&piece[..n]),
            Err(e) if e.kind() == std::io::ErrorKind::ConnectionReset => return read,
            Err(e) => panic!("{e}: after {:?}", String::from_utf8_lossy(&read)),
        }
    }
}

/// What is wrong with what nginx has logged; `None`: nothing.
async fn check(edge: SocketAddr, nginx: &Nginx, entry: &Entry, before: &[u8]) -> Option<String> {
    let mut expected = lines(entry);
    if !before.is_empty() {
        expected.insert(0, "GET /good HTTP/1.1".to_owned());
    }
    // 100 (Continue) looks like an answer, too: such an entry ends by itself or is cut off early.
    let whole = !matches!(entry.expected.last(), Some(Event::More | Event::Refused(..) | Event::Close));
    let answers = match entry.expected.last() {
        Some(Event::More) => expected.len().saturating_sub(1),
        Some(Event::Refused(..) | Event::Close) => usize::MAX,
        _ => expected.len(),
    };
    let mark = nginx.log().len();
    let octets = [before, &entry.send].concat();
    if octets.starts_with(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n") {
        // Whoever begins so, has asked for HTTP/2, and gets it.
        return None;
    }
    let answer = tokio::task::spawn_blocking(move || exchange(edge, &octets, answers)).await.unwrap();
    eventually("nginx is done", || nginx.is_idle()).await;
    let read: Vec<String> = nginx.log()[mark..].lines().map(str::to_owned).collect();
    if whole && read != expected || !expected.starts_with(&read) {
        return Some(format!("nginx read {read:?}, not {expected:?}"));
    }
    let refusal = entry.expected.iter().find_map(|event| match event {
        Event::Refused(status, _) => Some(status.to_string()),
        _ => None,
    });
    let text = String::from_utf8_lossy(&answer);
    let last = text.rsplit("HTTP/1.1 ").next().unwrap_or("");
    // A service that has answered early leaves no room for a refusal: the connection ends.
    let early = text.matches("HTTP/1.1 200").count() >= expected.len() && !expected.is_empty();
    match refusal {
        Some(status) if !last.starts_with(&status) && !early => Some(format!("answered {text:?}")),
        _ => None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nginx_behind_never_reads_a_request_that_was_not_one() {
    let Some(nginx) = Nginx::logging().await else { return };
    let authority = Authority::new();
    let everything = Plan::default()
        .toml(&authority)
        .replace("hosts = [\"*.example.com\", \"127.0.0.1\", \"localhost\"]\n", "");
    let config = Config::from_text("proxima.toml", &everything, &Environment::default()).unwrap();
    let edge = start_with(config.into()).await.unwrap();
    edge.route(&[("home", &[nginx.address])]);
    let mut wrong = String::new();
    for entry in entries() {
        let after_good: &[&[u8]] = if entry.alone { &[b""] } else { &[b"", GOOD] };
        for before in after_good {
            if let Some(problem) = check(edge.http(), &nginx, &entry, before).await {
                let how = if before.is_empty() { "" } else { " after a good one" };
                writeln!(wrong, "{} {:?} {}{how}: {problem}", entry.place, entry.rows, entry.name).unwrap();
            }
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
    edge.close().await;
}
