//! Fuzz targets: whatever the bytes, no panic, and the same verdict however they were cut.
//!
//! Each target takes its bytes as a recipe: which seeds to begin with, and what to change in
//! them. So plain random bytes already make near-misses, and a fuzzer that watches coverage
//! has something to learn. Seeds are the corpora of the other tests.
//!
//! Under `cargo test` each runs for a moment. Longer, with coverage (cargo install cargo-bolero):
//! `cargo bolero test --test fuzz requests --time 10m`
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use bytes::BytesMut;
use http::Method;
use http::uri::Scheme;
use proxima::config::{Config, Environment};
use proxima::domain::routing::{RouteTable, normal_path};
use proxima::journal::Replay;
use proxima::proxy::h1::{self, BodyReader, Framing, Got, Limits, Scan};
use proxima::proxy::proxy_protocol;
use std::path::Path;
use std::time::Duration;

#[path = "h1_corpus/entry.rs"]
#[allow(dead_code)] // Only what is sent is used here.
mod entry;
#[path = "fuzz/journals.rs"]
mod journals;
#[path = "fuzz/recipe.rs"]
mod recipe;
#[path = "fuzz/routes.rs"]
mod routes;

use recipe::Recipe;

/// Of each target under `cargo test`.
const MOMENT: Duration = Duration::from_secs(2);

fn files(folder: &str, extension: &str) -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|found| found == extension));
    paths.sort();
    paths.iter().map(|path| std::fs::read_to_string(path).unwrap()).collect()
}

fn requests() -> Vec<Vec<u8>> {
    let texts = files("tests/corpus/h1", "txt");
    let entries = texts.iter().flat_map(|text| entry::parse(text, "corpus"));
    let sent: Vec<Vec<u8>> = entries.map(|entry| entry.send).filter(|send| send.len() < 4096).collect();
    assert!(sent.len() > 200, "{}", sent.len());
    sent
}

/// What a connection's reader makes of some bytes, in words.
fn read(parts: &[&[u8]]) -> Vec<String> {
    let (mut input, mut scan, mut seen) = (BytesMut::new(), Scan::requests(), Vec::new());
    let mut body: Option<BodyReader> = None;
    let mut data = Vec::new();
    for part in parts {
        input.extend_from_slice(part);
        loop {
            let step = match &mut body {
                None => match scan.take(&mut input, &Limits::REQUEST) {
                    Ok(None) => break,
                    Ok(Some(raw)) => h1::request(&raw, &Limits::REQUEST, &Scheme::HTTP).map(|head| {
                        seen.push(format!(
                            "{} {} {:?}",
                            head.parts.method, head.parts.uri, head.parts.headers
                        ));
                        body = Some(BodyReader::of_request(head.framing, &Limits::REQUEST));
                    }),
                    Err(malformed) => Err(malformed),
                },
                Some(reader) => match reader.next(&mut input) {
                    Ok(Got::NeedMore) => break,
                    Ok(Got::Data(piece)) => {
                        data.extend_from_slice(&piece);
                        Ok(())
                    }
                    Ok(Got::Trailers(trailers)) => {
                        seen.push(format!("{trailers:?}"));
                        Ok(())
                    }
                    Ok(Got::Done) => {
                        seen.push(format!("{:?}", std::mem::take(&mut data)));
                        body = None;
                        Ok(())
                    }
                    Err(malformed) => Err(malformed),
                },
            };
            if let Err(malformed) = step {
                seen.push(format!("{:?} {}", std::mem::take(&mut data), malformed.as_str()));
                return seen;
            }
        }
    }
    seen.push(format!("{data:?} and more"));
    seen
}

#[test]
fn requests_are_read_alike_however_they_are_cut() {
    let seeds = requests();
    bolero::check!().with_test_time(MOMENT).for_each(|input: &[u8]| {
        let mut recipe = Recipe::new(input);
        let bytes = recipe.make(&seeds);
        let whole = read(&[&bytes]);
        let (one, other) = bytes.split_at(recipe.below(bytes.len() + 1));
        assert_eq!(read(&[one, other]), whole, "{}", bytes.escape_ascii());
        let octets: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(read(&octets), whole, "{}", bytes.escape_ascii());
    });
}

#[test]
fn answers_are_read_without_a_panic() {
    let seeds: Vec<Vec<u8>> = [
        &b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"[..],
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2;a=b\r\nok\r\n0\r\na: b\r\n\r\n",
        b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.0 304 Not Modified\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nconnection: close, x\r\nx: y\r\n\r\nto the end",
    ]
    .map(<[u8]>::to_vec)
    .to_vec();
    bolero::check!().with_test_time(MOMENT).for_each(|input: &[u8]| {
        let mut recipe = Recipe::new(input);
        let mut bytes = BytesMut::from(&recipe.make(&seeds)[..]);
        let method = [Method::GET, Method::HEAD, Method::CONNECT][recipe.below(3)].clone();
        let mut scan = Scan::responses();
        while let Ok(Some(raw)) = scan.take(&mut bytes, &Limits::RESPONSE) {
            let Ok(head) = h1::response(&raw, &method) else { return };
            if head.framing == Framing::None {
                continue;
            }
            let mut reader = BodyReader::of_response(head.framing, &Limits::RESPONSE);
            while let Ok(Got::Data(_) | Got::Trailers(_)) = reader.next(&mut bytes) {}
            return;
        }
    });
}

#[test]
fn proxy_headers_get_one_verdict_however_they_are_cut() {
    let seeds: Vec<Vec<u8>> = [
        &b"PROXY TCP4 192.0.2.1 192.0.2.2 4711 443\r\nGET / HTTP/1.1\r\n"[..],
        b"PROXY TCP6 2001:db8::1 2001:db8::2 1 65535\r\n",
        b"PROXY UNKNOWN what ever\r\n",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x01\xc0\0\x02\x02\x12\x67\x01\xbb",
        b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x13\xc0\0\x02\x01\xc0\0\x02\x02\x12\x67\x01\xbb\xea\0\x04\x01vpc",
    ]
    .map(<[u8]>::to_vec)
    .to_vec();
    bolero::check!().with_test_time(MOMENT).for_each(|input: &[u8]| {
        let bytes = Recipe::new(input).make(&seeds);
        let verdict = proxy_protocol::scan(&bytes);
        for end in 0..bytes.len() {
            let early = proxy_protocol::scan(&bytes[..end]);
            let same = early == verdict || early == proxy_protocol::Scan::NeedMore;
            assert!(same, "{end}: {early:?}, then {verdict:?}: {}", bytes.escape_ascii());
        }
        if let proxy_protocol::Scan::Header { length, .. } = verdict {
            assert!(length <= bytes.len() && length <= proxy_protocol::LENGTH_MAX);
        }
    });
}

#[test]
fn a_configuration_is_taken_or_its_problems_told() {
    let mut seeds = files("config", "toml");
    seeds.extend(files("tests/config/wrong", "toml"));
    let seeds: Vec<Vec<u8>> = seeds.into_iter().map(String::into_bytes).collect();
    bolero::check!().with_test_time(MOMENT).for_each(|input: &[u8]| {
        let bytes = Recipe::new(input).make(&seeds);
        let text = String::from_utf8_lossy(&bytes);
        if let Err(problems) = Config::from_text("fuzz.toml", &text, &Environment::default()) {
            assert!(problems.to_string().contains("error"), "a refusal says why");
        }
    });
}

#[test]
fn the_normal_form_of_a_path_is_its_own_normal_form_and_never_climbs() {
    let seeds: Vec<Vec<u8>> = [
        "/a/../b/%7Euser/./c",
        "/%2e%2E/x",
        "/a%2fb/..",
        "//a//../b",
        "*",
        "/a%zz",
        "/%",
        "/..%2f..",
        "/%c3%a9",
    ]
    .map(|path| path.as_bytes().to_vec())
    .to_vec();
    bolero::check!().with_test_time(MOMENT).for_each(|input: &[u8]| {
        let bytes = Recipe::new(input).make(&seeds);
        let path = String::from_utf8_lossy(&bytes);
        let Ok(normal) = normal_path(&path) else { return };
        assert_eq!(normal_path(&normal).as_deref(), Ok(&*normal), "{path}");
        let dots = |segment: &str| matches!(segment, "." | "..");
        assert!(!normal.split('/').any(dots), "{path} became {normal}");
    });
}

#[test]
fn the_route_that_is_found_is_the_first_by_the_documented_precedence() {
    bolero::check!().with_test_time(MOMENT).for_each(|input: &[u8]| {
        let mut recipe = Recipe::new(input);
        let routes = routes::table(&mut recipe);
        let table = RouteTable::new(routes.clone()).unwrap();
        // The recipe's end is the request of zeros.
        for _ in 0..4 {
            let request = routes::Request::of(&mut recipe);
            let expected = routes::first(&routes, &request.asked()).map(|route| &route.id);
            let found = table.find(&request.asked()).map(|route| &route.id);
            assert_eq!(found, expected, "{request:?}\n{routes:#?}");
        }
    });
}

/// Every other one has a right checksum, so that what is behind it is reached.
#[test]
fn a_journal_of_any_octets_is_replayed_or_refused() {
    let whole = journals::small();
    assert_eq!(Replay::run_octets(&whole, &mut |_| {}).unwrap().turns, 12);
    let plain = journals::unpacked(&whole);
    assert_eq!(Replay::run_octets(&journals::packed(&whole, &plain), &mut |_| {}).unwrap().turns, 12);
    let (files, records) = ([whole], [plain]);
    bolero::check!().with_test_time(MOMENT).for_each(|input: &[u8]| {
        let (first, rest) = input.split_first().unwrap_or((&0, &[]));
        let octets = match first % 2 {
            0 => Recipe::new(rest).make(&files),
            _ => journals::packed(&files[0], &Recipe::new(rest).make(&records)),
        };
        // Refused or replayed: both are right.
        Replay::run_octets(&octets, &mut |_| {}).ok();
    });
}
