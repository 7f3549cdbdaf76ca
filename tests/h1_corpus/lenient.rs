//! A service's reading of what was passed on: httparse, and no rule of ours.
//!
//! Lenient as servers are: bare LF ends lines, `Transfer-Encoding` counts when
//! `chunked` is anywhere in it, the last `Content-Length` wins.

use httparse::Status;

/// A request as the service would see it.
pub struct Request {
    pub head: Vec<u8>,
    pub body: Vec<u8>,
    pub complete: bool,
    pub hosts: usize,
    /// Lines that frame.
    pub framings: usize,
}

/// Every request in `octets`, the last perhaps cut.
pub fn read(octets: &[u8]) -> Vec<Request> {
    let mut found = Vec::new();
    let mut rest = octets;
    while !rest.is_empty() {
        let mut headers = [httparse::EMPTY_HEADER; 256];
        let mut request = httparse::Request::new(&mut headers);
        let Status::Complete(end) = request.parse(rest).expect("a head that is none") else {
            panic!("half a head was passed on");
        };
        let named = |name: &'static str| {
            request.headers.iter().filter(move |header| header.name.eq_ignore_ascii_case(name))
        };
        let chunked = named("transfer-encoding")
            .any(|header| header.value.to_ascii_lowercase().windows(7).any(|word| word == b"chunked"));
        let length = named("content-length").next_back().map_or(0, |header| {
            std::str::from_utf8(header.value).unwrap().parse::<usize>().expect("a length that is none")
        });
        let hosts = named("host").count();
        let framings = named("transfer-encoding").count() + named("content-length").count();
        let after = &rest[end..];
        let (body, used, complete) = if chunked {
            dechunked(after)
        } else {
            let taken = length.min(after.len());
            (after[..taken].to_vec(), taken, taken == length)
        };
        found.push(Request { head: rest[..end].to_vec(), body, complete, hosts, framings });
        if !complete {
            break;
        }
        rest = &after[used..];
    }
    found
}

/// Data, octets used, and whether the last chunk and the empty line came.
fn dechunked(octets: &[u8]) -> (Vec<u8>, usize, bool) {
    let (mut data, mut at) = (Vec::new(), 0);
    loop {
        let Status::Complete((line, size)) =
            httparse::parse_chunk_size(&octets[at..]).expect("no chunk size")
        else {
            return (data, at, false);
        };
        at += line;
        if size == 0 {
            let mut trailers = [httparse::EMPTY_HEADER; 64];
            return match httparse::parse_headers(&octets[at..], &mut trailers).expect("no trailers") {
                Status::Complete((end, _)) => (data, at + end, true),
                Status::Partial => (data, at, false),
            };
        }
        let end = at + usize::try_from(size).unwrap();
        data.extend_from_slice(&octets[at..end]);
        assert_eq!(&octets[end..end + 2], b"\r\n", "a chunk's end");
        at = end + 2;
    }
}
