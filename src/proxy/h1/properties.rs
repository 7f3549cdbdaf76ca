//! Claims over many generated messages, each found again by its seed.

use super::chunked::{Decoder, Forbidden, Step};
use super::*;
use bytes::{Buf, BytesMut};
use http::uri::{Authority, Scheme};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, Version};

const RUNS: u64 = 400;

/// SplitMix64: small, and the same everywhere.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    fn one<'a, T: ?Sized>(&mut self, of: &[&'a T]) -> &'a T {
        of[self.below(of.len())]
    }

    fn octets(&mut self, most: usize) -> Vec<u8> {
        (0..self.below(most + 1)).map(|_| self.next() as u8).collect()
    }

    fn word(&mut self, most: usize) -> String {
        (0..=self.below(most)).map(|_| char::from(self.one(&[b"abcxyz019-"])[self.below(10)])).collect()
    }

    /// Heads as attackers make them: good ones with pieces swapped, dropped and added.
    fn almost_a_head(&mut self) -> Vec<u8> {
        let pieces: &[&[u8]] = &[
            b"GET ",
            b"POST ",
            b"/",
            b"/a?b",
            b"http://a/",
            b"*",
            b" HTTP/1.1",
            b" HTTP/1.0",
            b"\r\n",
            b"\r\n",
            b"\r\n\r\n",
            b"Host: a\r\n",
            b"Content-Length: ",
            b"5\r\n",
            b"Transfer-Encoding: chunked\r\n",
            b"Connection: close\r\n",
            b"Expect: 100-continue\r\n",
            b"hello",
            b"5\r\nhello\r\n",
            b"0\r\n\r\n",
            b"\r",
            b"\n",
            b" ",
            b"\t",
            b":",
            b"\0",
            b"\xff",
            b"x",
            b"X: y\r\n",
            b"[::1]:80",
            b"%2",
            b",",
            b";",
            b"1",
            b"HTTP/1.1 200 OK\r\n",
            b"HTTP/1.1 304 \r\n",
            b"Upgrade: x\r\n",
        ];
        let mut text = Vec::new();
        if self.below(2) == 0 {
            text.extend_from_slice(b"POST / HTTP/1.1\r\nHost: a\r\n");
        }
        for _ in 0..self.below(14) {
            text.extend_from_slice(self.one(pieces));
        }
        text
    }

    fn headers(&mut self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for _ in 0..self.below(8) {
            let name = HeaderName::from_bytes(format!("x{}", self.word(12)).as_bytes()).unwrap();
            headers.append(name, HeaderValue::from_str(&self.word(30)).unwrap());
        }
        headers
    }

    fn framing(&mut self) -> Framing {
        [Framing::None, Framing::Length(self.next() >> 1), Framing::Chunked][self.below(3)]
    }
}

/// `octets` in pieces of random sizes.
fn split<'a>(octets: &'a [u8], dice: &mut Dice) -> Vec<&'a [u8]> {
    let (mut rest, mut pieces) = (octets, Vec::new());
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(1 + dice.below(rest.len()));
        pieces.push(piece);
        rest = after;
    }
    pieces
}

type Scanned = (Vec<usize>, Option<Malformed>);

fn scanned<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Scanned {
    let limits = Limits { head_bytes: 120, line_bytes: 60, target_bytes: 8, headers: 4, ..Limits::REQUEST };
    let (mut scan, mut input, mut heads) = (Scan::requests(), BytesMut::new(), Vec::new());
    for piece in pieces {
        input.extend_from_slice(piece);
        loop {
            match scan.take(&mut input, &limits) {
                Ok(Some(head)) => heads.push(head.wire_bytes()),
                Ok(None) => break,
                Err(why) => return (heads, Some(why)),
            }
        }
    }
    (heads, None)
}

#[test]
fn a_scan_does_not_depend_on_how_octets_come() {
    let mut refused = 0;
    for seed in 0..RUNS * 20 {
        let mut dice = Dice(seed);
        let text = dice.almost_a_head();
        let whole = scanned([&text[..]]);
        refused += u64::from(whole.1.is_some());
        assert_eq!(scanned(text.chunks(1)), whole, "seed {seed}: {}", text.escape_ascii());
        assert_eq!(scanned(split(&text, &mut dice)), whole, "seed {seed}: {}", text.escape_ascii());
    }
    assert!((RUNS..RUNS * 19).contains(&refused), "{refused} refused: the texts say too little");
}

type Decoded = (Vec<u8>, Result<Option<usize>, Malformed>);

/// The data, and where the body ended or why it is none.
fn decoded<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Decoded {
    let mut decoder = Decoder::new(Limits::REQUEST, Forbidden::Refused);
    let (mut input, mut data, mut used) = (BytesMut::new(), Vec::new(), 0);
    for piece in pieces {
        input.extend_from_slice(piece);
        loop {
            let (consumed, step) = match decoder.step(&input) {
                Ok(step) => step,
                Err(why) => return (data, Err(why)),
            };
            used += consumed;
            if let Step::Data(range) = &step {
                assert_eq!(range.end, consumed);
                data.extend_from_slice(&input[range.clone()]);
            }
            input.advance(consumed);
            match step {
                Step::Data(_) => {}
                Step::NeedMore => break,
                Step::Done => return (data, Ok(Some(used))),
            }
        }
    }
    (data, Ok(None))
}

#[test]
fn chunks_are_decoded_to_what_was_encoded_at_every_split() {
    for seed in 0..RUNS {
        let mut dice = Dice(seed);
        let body = dice.octets(60);
        let trailers = dice.headers();
        let (mut writer, mut wire) = (BodyWriter::new(Framing::Chunked), BytesMut::new());
        for piece in split(&body, &mut dice) {
            writer.put(piece, &mut wire).unwrap();
            writer.put(b"", &mut wire).unwrap();
        }
        writer.end(Some(&trailers), &mut wire).unwrap();
        let end = wire.len();
        wire.extend_from_slice(b"GET / HTTP/1.1\r\n");
        for at in 0..=wire.len() {
            let (before, after) = wire.split_at(at);
            assert_eq!(decoded([before, after]), (body.clone(), Ok(Some(end))), "seed {seed}, split {at}");
        }
        assert_eq!(decoded(wire.chunks(1)), (body, Ok(Some(end))), "seed {seed}");
    }
}

#[test]
fn a_broken_chunk_is_broken_at_every_split() {
    for seed in 0..RUNS * 5 {
        let mut dice = Dice(seed);
        let mut wire = b"3;ext\r\nabc\r\n10\r\n0123456789abcdef\r\n0\r\nx: y\r\n\r\n".to_vec();
        for _ in 0..=dice.below(2) {
            let at = dice.below(wire.len());
            wire[at] = b"\r\n \t;:0123fF\0\xffx"[dice.below(15)];
        }
        let whole = decoded([&wire[..]]);
        assert_eq!(decoded(wire.chunks(1)), whole, "seed {seed}: {}", wire.escape_ascii());
        assert_eq!(decoded(split(&wire, &mut dice)), whole, "seed {seed}: {}", wire.escape_ascii());
    }
}

#[test]
fn no_octets_panic_and_none_are_invented() {
    for seed in 0..RUNS * 50 {
        let mut dice = Dice(seed);
        let text = if dice.below(4) == 0 { dice.octets(80) } else { dice.almost_a_head() };
        let mut input = BytesMut::from(&text[..]);
        if let Ok(Some(raw)) = Scan::requests().take(&mut input, &Limits::REQUEST)
            && let Ok(head) = request(&raw, &Limits::REQUEST, &Scheme::HTTP)
        {
            let mut body = BodyReader::of_request(head.framing, &Limits::REQUEST);
            while let Ok(Got::Data(_) | Got::Trailers(_)) = body.next(&mut input) {}
        }
        let mut input = BytesMut::from(&text[..]);
        if let Ok(Some(raw)) = Scan::responses().take(&mut input, &Limits::RESPONSE) {
            for method in [Method::GET, Method::HEAD] {
                let Ok(head) = response(&raw, &method) else { continue };
                let (mut body, mut rest) =
                    (BodyReader::of_response(head.framing, &Limits::RESPONSE), input.clone());
                while let Ok(Got::Data(_) | Got::Trailers(_)) = body.next(&mut rest) {}
            }
        }
        let (data, _) = decoded([&text[..]]);
        assert!(data.len() <= text.len());
    }
}

#[test]
fn a_request_that_is_written_is_read_as_it_was() {
    for seed in 0..RUNS * 5 {
        let mut dice = Dice(seed);
        let authority = Authority::try_from(format!("x{}:{}", dice.word(9), 1 + dice.below(65535))).unwrap();
        let mut parts = Request::new(()).into_parts().0;
        parts.method = Method::from_bytes(dice.word(8).as_bytes()).unwrap();
        let target = format!("/{}{}", dice.word(9), dice.one(&["", "?", "?a=%zz&b", "/../%2f"]));
        parts.uri = Uri::try_from(format!("http://{authority}{target}")).unwrap();
        parts.headers = dice.headers();
        let framing = dice.framing();
        let protocol = HeaderValue::from_static("websocket");
        let reuse = [Reuse::KeepAlive, Reuse::Close, Reuse::Upgrade(&protocol)][dice.below(3)];
        let hop = Hop { reuse, te_trailers: dice.below(2) == 0 };
        let mut wire = BytesMut::new();
        write_request(&parts, &authority, framing, hop, &mut wire);

        let raw = Scan::requests().take(&mut wire, &Limits::REQUEST).unwrap().unwrap();
        assert!(wire.is_empty(), "seed {seed}");
        let head = request(&raw, &Limits::REQUEST, &Scheme::HTTP).unwrap();
        assert_eq!(head.parts.method, parts.method, "seed {seed}");
        assert_eq!(head.parts.uri, parts.uri, "seed {seed}");
        assert_eq!(head.parts.headers, parts.headers, "seed {seed}");
        assert_eq!(head.framing, framing, "seed {seed}");
        assert_eq!(head.persistent, reuse != Reuse::Close, "seed {seed}");
        assert_eq!(head.te_trailers, hop.te_trailers, "seed {seed}");
        let bodiless = matches!(framing, Framing::None | Framing::Length(0));
        let asked = matches!(reuse, Reuse::Upgrade(_)) && bodiless;
        assert_eq!(head.upgrade.is_some(), asked, "seed {seed}");
    }
}

#[test]
fn a_response_that_is_written_is_read_as_it_was() {
    for seed in 0..RUNS * 5 {
        let mut dice = Dice(seed);
        let mut parts = Response::new(()).into_parts().0;
        parts.status = StatusCode::from_u16(206 + dice.below(394) as u16).unwrap();
        parts.headers = dice.headers();
        let bodiless = parts.status == StatusCode::NOT_MODIFIED;
        let framing = match dice.framing() {
            _ if bodiless => Framing::None,
            Framing::None => Framing::Close,
            other => other,
        };
        let reuse = [Reuse::KeepAlive, Reuse::Close][dice.below(2)];
        let to = [Version::HTTP_10, Version::HTTP_11][dice.below(2)];
        let mut wire = BytesMut::new();
        write_response(&parts, framing, reuse, to, &mut wire);

        let raw = Scan::responses().take(&mut wire, &Limits::RESPONSE).unwrap().unwrap();
        let head = response(&raw, &Method::GET).unwrap();
        assert_eq!(head.parts.status, parts.status, "seed {seed}");
        assert_eq!(head.parts.headers, parts.headers, "seed {seed}");
        assert_eq!(head.framing, framing.for_version(to), "seed {seed}");
        let lasts = reuse == Reuse::KeepAlive && head.framing != Framing::Close;
        assert_eq!(head.persistent, lasts, "seed {seed}");
    }
}

#[test]
fn every_reason_stands_at_its_own_place_and_has_a_name_of_its_own() {
    let names: std::collections::BTreeSet<_> = Malformed::ALL.iter().map(|reason| reason.as_str()).collect();
    assert_eq!(names.len(), Malformed::ALL.len());
    for (place, reason) in Malformed::ALL.into_iter().enumerate() {
        assert_eq!(reason as usize, place, "{}", reason.as_str());
    }
}
