//! Malformed and ambiguous HTTP/1 requests, and what becomes of each.
//!
//! Every entry of `tests/corpus/h1/*.txt` is fed at once, octet by octet, after
//! a good request and before one. The answer must be the one that is written
//! there, and what would go to a service is read again by a reader that shares
//! no code with ours and is as lenient as servers are: it must find the same
//! requests, never one more.
//!
//! ```text
//! [15,16 a name]          rows of the table in tests/corpus/h1/README.md
//! alone                   only as the first on its connection
//! send GET / HTTP/1.1\r\n  escapes: \r \n \t \0 \\ \xNN \{text*times}
//! head GET / HTTP/1.1\r\n  as written to the service
//! body data               of the request before, decoded
//! trailer a: b            of the request before
//! refused 400 bare_lf     nothing after it is read
//! more                    waits for more octets
//! close                   the connection is used no more
//! ```
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use bytes::BytesMut;
use http::uri::{Authority, Scheme};
use proxima::proxy::h1::{
    self, BodyReader, BodyWriter, Got, Hop, Limits, Malformed, Reuse, Scan, write_request,
};
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

#[path = "h1_corpus/entry.rs"]
mod entry;
#[path = "h1_corpus/lenient.rs"]
mod lenient;

use entry::{Entry, Event};

const ENTRIES_MIN: usize = 220;
const ROWS: u32 = 28;
const GOOD: &[u8] = b"GET /good HTTP/1.1\r\nHost: good\r\n\r\n";
const GOOD_HEAD: &[u8] = b"GET /good HTTP/1.1\r\nhost: good\r\n\r\n";

enum Reading {
    Head,
    Body { reader: BodyReader, writer: BodyWriter, data: Vec<u8>, persistent: bool },
    Over,
}

/// A connection's reading side as the proxy has it, and what it would write.
struct Connection {
    input: BytesMut,
    scan: Scan,
    reading: Reading,
    events: Vec<Event>,
    onward: BytesMut,
    /// A request was passed on in part and then refused.
    cut: bool,
}

impl Connection {
    fn new() -> Self {
        Self {
            input: BytesMut::new(),
            scan: Scan::requests(),
            reading: Reading::Head,
            events: Vec::new(),
            onward: BytesMut::new(),
            cut: false,
        }
    }

    fn feed(&mut self, octets: &[u8]) {
        self.input.extend_from_slice(octets);
        loop {
            match self.advance() {
                Ok(true) => {}
                Ok(false) => return,
                Err(why) => {
                    self.cut = matches!(self.reading, Reading::Body { .. });
                    self.body_so_far();
                    self.events.push(Event::Refused(why.status().as_u16(), why.as_str().to_owned()));
                    self.reading = Reading::Over;
                }
            }
        }
    }

    /// One head or piece further; false when more octets are needed.
    fn advance(&mut self) -> Result<bool, Malformed> {
        match &mut self.reading {
            Reading::Over => Ok(false),
            Reading::Head => {
                let Some(raw) = self.scan.take(&mut self.input, &Limits::REQUEST)? else { return Ok(false) };
                let head = h1::request(&raw, &Limits::REQUEST, &Scheme::HTTP)?;
                let unnamed = Authority::from_static("service");
                let authority = head.parts.uri.authority().unwrap_or(&unnamed);
                let reuse = head.upgrade.as_ref().map_or(Reuse::KeepAlive, Reuse::Upgrade);
                let hop = Hop { reuse, te_trailers: head.te_trailers };
                let before = self.onward.len();
                write_request(&head.parts, authority, head.framing, hop, &mut self.onward);
                self.events.push(Event::Head(self.onward[before..].to_vec()));
                self.reading = Reading::Body {
                    reader: BodyReader::of_request(head.framing, &Limits::REQUEST),
                    writer: BodyWriter::new(head.framing),
                    data: Vec::new(),
                    persistent: head.persistent,
                };
                Ok(true)
            }
            Reading::Body { reader, writer, data, persistent } => match reader.next(&mut self.input)? {
                Got::NeedMore => Ok(false),
                Got::Data(piece) => {
                    writer.put(&piece, &mut self.onward).unwrap();
                    data.extend_from_slice(&piece);
                    Ok(true)
                }
                Got::Trailers(trailers) => {
                    if !data.is_empty() {
                        self.events.push(Event::Body(std::mem::take(data)));
                    }
                    for (name, value) in &trailers {
                        self.events.push(Event::Trailer(format!("{name}: {}", value.to_str().unwrap())));
                    }
                    writer.end(Some(&trailers), &mut self.onward).unwrap();
                    Ok(true)
                }
                Got::Done => {
                    if !writer.is_ended() {
                        writer.end(None, &mut self.onward).unwrap();
                    }
                    let persistent = *persistent;
                    self.body_so_far();
                    self.reading = if persistent { Reading::Head } else { Reading::Over };
                    if !persistent {
                        self.events.push(Event::Close);
                    }
                    Ok(persistent)
                }
            },
        }
    }

    fn body_so_far(&mut self) {
        if let Reading::Body { data, .. } = &mut self.reading
            && !data.is_empty()
        {
            self.events.push(Event::Body(std::mem::take(data)));
        }
    }

    /// What was seen, and whether the last request was written in full.
    fn finish(mut self) -> (Vec<Event>, BytesMut, bool) {
        let in_body = matches!(self.reading, Reading::Body { .. });
        self.body_so_far();
        if in_body || matches!(self.reading, Reading::Head) && !self.input.is_empty() {
            self.events.push(Event::More);
        }
        let complete = !self.cut && !in_body;
        (self.events, self.onward, complete)
    }
}

fn run<'a>(parts: impl IntoIterator<Item = &'a [u8]>, context: &str) -> Vec<Event> {
    let mut connection = Connection::new();
    for part in parts {
        connection.feed(part);
    }
    let (events, onward, complete) = connection.finish();
    the_service_reads_the_same(&events, &onward, complete, context);
    events
}

/// The lenient reader finds the requests that were understood, and no other.
fn the_service_reads_the_same(events: &[Event], onward: &[u8], complete: bool, context: &str) {
    let mut expected: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    for event in events {
        match event {
            Event::Head(head) => expected.push((head.clone(), Vec::new())),
            Event::Body(body) => expected.last_mut().unwrap().1.clone_from(body),
            _ => {}
        }
    }
    let read = lenient::read(onward);
    assert_eq!(read.len(), expected.len(), "{context}: another number of requests onward");
    for (at, (request, (head, body))) in read.iter().zip(&expected).enumerate() {
        assert_eq!(&request.head, head, "{context}: head {at} onward");
        assert_eq!(&request.body, body, "{context}: body {at} onward");
        assert_eq!(
            request.complete,
            complete || at + 1 < read.len(),
            "{context}: end of request {at} onward"
        );
        assert_eq!(request.hosts, 1, "{context}: hosts of request {at} onward");
        assert!(request.framings <= 1, "{context}: framings of request {at} onward");
    }
}

fn entries() -> Vec<Entry> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/h1");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "txt"));
    files.sort();
    files
        .iter()
        .flat_map(|path| entry::parse(&std::fs::read_to_string(path).unwrap(), &path.display().to_string()))
        .collect()
}

/// Runs `check` on every entry and tells of all that fail, not of the first.
fn each(check: impl Fn(&Entry) -> Option<String>) {
    let mut wrong = String::new();
    for entry in entries() {
        if let Some(problem) = check(&entry) {
            writeln!(wrong, "{}: {problem}", entry.place).unwrap();
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

fn compare(got: &[Event], expected: &[Event]) -> Option<String> {
    (got != expected).then(|| format!("\n  got      {got:?}\n  expected {expected:?}"))
}

#[test]
fn each_entry_is_answered_as_written() {
    each(|entry| compare(&run([&entry.send[..]], &entry.place), &entry.expected));
}

#[test]
fn an_entry_octet_by_octet_is_the_same_entry() {
    each(|entry| compare(&run(entry.send.chunks(1), &entry.place), &entry.expected));
}

#[test]
fn an_entry_after_a_good_request_is_the_same_entry() {
    each(|entry| {
        if entry.alone {
            return None;
        }
        let expected = [&[Event::Head(GOOD_HEAD.to_vec())], &entry.expected[..]].concat();
        let together = [GOOD, &entry.send].concat();
        compare(&run([&together[..]], &entry.place), &expected)
            .or_else(|| compare(&run(together.chunks(1), &entry.place), &expected))
    });
}

#[test]
fn a_good_request_after_an_entry_is_read_only_where_the_entry_ends() {
    each(|entry| {
        let together = [&entry.send[..], GOOD].concat();
        let got = run([&together[..]], &entry.place);
        if let Some(problem) = compare(&run(together.chunks(1), &entry.place), &got) {
            return Some(problem);
        }
        let good = Event::Head(GOOD_HEAD.to_vec());
        match entry.expected.last() {
            Some(Event::Refused(..) | Event::Close) => compare(&got, &entry.expected),
            // It belongs to the entry's own body, or breaks its head.
            Some(Event::More) => {
                got.contains(&good).then(|| format!("the good request was read out of the entry: {got:?}"))
            }
            _ => compare(&got, &[&entry.expected[..], &[good]].concat()),
        }
    });
}

#[test]
fn the_corpus_is_large_and_names_every_row() {
    let entries = entries();
    assert!(entries.len() >= ENTRIES_MIN, "{} entries", entries.len());
    let names: BTreeSet<_> = entries.iter().map(|entry| &entry.name).collect();
    assert_eq!(names.len(), entries.len(), "names must differ");
    let rows: BTreeSet<u32> = entries.iter().flat_map(|entry| entry.rows.iter().copied()).collect();
    let missing: Vec<u32> = (1..=ROWS).filter(|row| !rows.contains(row)).collect();
    assert!(missing.is_empty(), "rows without an entry: {missing:?}");
    assert_eq!(rows.last(), Some(&ROWS), "a row that is not in the table");
}
