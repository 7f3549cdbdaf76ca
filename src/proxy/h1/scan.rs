//! The raw scan: where a head ends, and that its octets are a head's.
//!
//! Runs before anything is parsed, and looks at each octet once however slowly
//! they come. Only it makes a [`RawHead`], so nothing that was not scanned can be
//! parsed. Its verdict depends on the octets alone, never on how they were split.

use super::octets::{CONTROL, trimmed};
use super::{Limits, Malformed};
use bytes::{Buf, Bytes, BytesMut};

/// Room in a first line for all but the target: method, version, spaces.
const START_LINE_SPARE: usize = 64;

/// A head without forbidden octets, whose lines all end in CRLF and whose last is empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawHead(Bytes);

impl RawHead {
    /// Bytes on the wire, the empty line included.
    pub const fn wire_bytes(&self) -> usize {
        self.0.len()
    }

    pub(super) const fn bytes(&self) -> &Bytes {
        &self.0
    }
}

/// Which section of a message the lines belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Section {
    /// A request's head; `blank`: an empty line may come before it.
    Request {
        blank: bool,
    },
    Response,
    Trailers,
}

/// Finds the end of a head in bytes that come bit by bit.
#[derive(Debug, Clone)]
pub struct Scan {
    section: Section,
    /// Every octet before it was looked at.
    at: usize,
    /// Where the current line begins.
    line: usize,
    /// Complete lines so far.
    lines: usize,
}

impl Scan {
    /// For the requests of a new connection.
    ///
    /// One empty line is skipped before a request that is not the first: old
    /// clients send one after a body (RFC 9112 section 2.2).
    pub const fn requests() -> Self {
        Self::of(Section::Request { blank: false })
    }

    /// For the responses on a connection.
    pub const fn responses() -> Self {
        Self::of(Section::Response)
    }

    pub(super) const fn trailers() -> Self {
        Self::of(Section::Trailers)
    }

    const fn of(section: Section) -> Self {
        Self { section, at: 0, line: 0, lines: 0 }
    }

    /// The next head, cut off the front of `input`, or `None` when its end has not come.
    ///
    /// While `None`, `input` may only grow at its end. After `Some` the scan
    /// begins anew. The head shares the buffer's memory.
    ///
    /// # Errors
    /// The first octet that no head may hold there, or a limit. The scan is then spent.
    pub fn take(&mut self, input: &mut BytesMut, limits: &Limits) -> Result<Option<RawHead>, Malformed> {
        if self.section == (Section::Request { blank: true }) {
            match &input[..] {
                [] | [b'\r'] => return Ok(None),
                [b'\r', b'\n', ..] => input.advance(2),
                _ => {}
            }
            self.section = Section::Request { blank: false };
        }
        let Some(end) = self.feed(input, limits)? else { return Ok(None) };
        let section = match self.section {
            Section::Request { .. } => Section::Request { blank: true },
            other => other,
        };
        *self = Self::of(section);
        Ok(Some(RawHead(input.split_to(end).freeze())))
    }

    /// How long the section at the start of `buf` is, once its end is there.
    ///
    /// # Errors
    /// As [`Scan::take`].
    pub(super) fn feed(&mut self, buf: &[u8], limits: &Limits) -> Result<Option<usize>, Malformed> {
        let bytes_max = match self.section {
            Section::Trailers => limits.trailer_bytes,
            _ => limits.head_bytes,
        };
        let end = buf.len().min(bytes_max);
        while self.at < end {
            self.line_start(buf[self.at])?;
            let rest = &buf[self.at..end];
            let found = rest.iter().position(|octet| CONTROL[usize::from(*octet)]);
            self.at += found.unwrap_or(rest.len());
            self.line_length(limits)?;
            if found.is_none() {
                break;
            }
            match &buf[self.at..end] {
                [b'\r', b'\n', ..] => {
                    let empty = self.at == self.line;
                    self.at += 2;
                    if empty {
                        return self.ended().map(Some);
                    }
                    self.line = self.at;
                    self.lines += 1;
                    self.line_count(limits)?;
                }
                // What follows it has not come, or is past the bound.
                [b'\r'] => break,
                [b'\r', ..] => return Err(Malformed::BareCr),
                [b'\n', ..] => return Err(Malformed::BareLf),
                _ => return Err(Malformed::Control),
            }
        }
        if end == bytes_max {
            return Err(self.over(Malformed::HeadTooLarge));
        }
        Ok(None)
    }

    /// A field line may not begin with whitespace: it would be obs-fold.
    fn line_start(&self, octet: u8) -> Result<(), Malformed> {
        let fields_before = match self.section {
            Section::Trailers => 0,
            _ => 1,
        };
        if self.at != self.line || !matches!(octet, b' ' | b'\t') || self.lines < fields_before {
            return Ok(());
        }
        Err(if self.lines == fields_before { Malformed::LeadingSpace } else { Malformed::Folded })
    }

    fn line_length(&self, limits: &Limits) -> Result<(), Malformed> {
        let first = self.lines == 0 && self.section != Section::Trailers;
        let length = self.at - self.line;
        // One bound a line: with two, which is passed first would hang on the split.
        let (max, over) = if first {
            (limits.target_bytes + START_LINE_SPARE, Malformed::StartLineTooLong)
        } else {
            (limits.line_bytes, self.over(Malformed::LineTooLong))
        };
        if length > max { Err(over) } else { Ok(()) }
    }

    fn line_count(&self, limits: &Limits) -> Result<(), Malformed> {
        let (fields, max) = match self.section {
            Section::Trailers => (self.lines, limits.trailers),
            _ => (self.lines - 1, limits.headers),
        };
        if fields > max { Err(self.over(Malformed::TooManyHeaders)) } else { Ok(()) }
    }

    fn ended(&self) -> Result<usize, Malformed> {
        if self.lines == 0 && self.section != Section::Trailers {
            return Err(Malformed::StartLine);
        }
        Ok(self.at)
    }

    const fn over(&self, bound: Malformed) -> Malformed {
        match self.section {
            Section::Trailers => Malformed::Trailer,
            _ => bound,
        }
    }
}

/// The line that begins at `from`, without its end, and where the next begins.
///
/// `None` at the empty line. `section` was scanned, so its first CR ends the line.
pub(super) fn line(section: &[u8], from: usize) -> Option<(&[u8], usize)> {
    let rest = section.get(from..)?;
    let length = rest.iter().position(|octet| *octet == b'\r')?;
    (length > 0).then(|| (&rest[..length], from + length + 2))
}

/// A field line as name and value, the value without whitespace around it.
///
/// # Errors
/// `NameSyntax` without a colon. The name is not checked yet.
pub(super) fn field(line: &[u8]) -> Result<(&[u8], &[u8]), Malformed> {
    let colon = line.iter().position(|octet| *octet == b':').ok_or(Malformed::NameSyntax)?;
    Ok((&line[..colon], trimmed(&line[colon + 1..])))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: Limits = Limits {
        head_bytes: 200,
        line_bytes: 90,
        target_bytes: 10,
        headers: 2,
        trailer_bytes: 40,
        trailers: 1,
    };

    fn scanned(mut scan: Scan, text: &[u8]) -> Result<Option<usize>, Malformed> {
        scan.feed(text, &SMALL)
    }

    #[test]
    fn a_head_ends_at_its_empty_line() {
        let head = b"GET / HTTP/1.1\r\na: b\r\n\r\n";
        assert_eq!(scanned(Scan::requests(), &[head, &b"next"[..]].concat()), Ok(Some(head.len())));
        for end in 0..head.len() {
            assert_eq!(scanned(Scan::requests(), &head[..end]), Ok(None), "{end}");
        }
    }

    #[test]
    fn every_bound_has_its_word() {
        let rows: &[(Scan, String, Malformed)] = &[
            (Scan::requests(), "x".repeat(75), Malformed::StartLineTooLong),
            (Scan::requests(), format!("G\r\n{}", "x".repeat(91)), Malformed::LineTooLong),
            (Scan::requests(), "G\r\na:b\r\na:b\r\na:b\r\n".to_owned(), Malformed::TooManyHeaders),
            (
                Scan::requests(),
                format!("G\r\n{0}\r\n{0}\r\n{0}\r\n", "x".repeat(80)),
                Malformed::HeadTooLarge,
            ),
            (Scan::trailers(), "x".repeat(41), Malformed::Trailer),
            (Scan::trailers(), "a:b\r\na:b\r\n".to_owned(), Malformed::Trailer),
        ];
        for (scan, text, expected) in rows {
            assert_eq!(scanned(scan.clone(), text.as_bytes()), Err(*expected), "{text:?}");
        }
    }

    #[test]
    fn a_head_of_exactly_the_bound_is_taken() {
        let head = format!("G / H\r\n{0}\r\n{1}\r\n\r\n", "x".repeat(90), "y".repeat(80));
        let limits = Limits { head_bytes: head.len(), ..SMALL };
        assert_eq!(Scan::requests().feed(head.as_bytes(), &limits), Ok(Some(head.len())));
        let limits = Limits { head_bytes: head.len() - 1, ..SMALL };
        assert_eq!(Scan::requests().feed(head.as_bytes(), &limits), Err(Malformed::HeadTooLarge));
    }

    #[test]
    fn one_empty_line_is_skipped_and_only_before_a_later_request() {
        let mut scan = Scan::requests();
        let mut input = BytesMut::from(&b"G\r\n\r\n\r"[..]);
        assert_eq!(scan.take(&mut input, &SMALL).unwrap().unwrap().wire_bytes(), 5);
        assert_eq!(scan.take(&mut input, &SMALL), Ok(None));
        input.extend_from_slice(b"\nG\r\n\r\n\r\n\r\nG\r\n\r\n");
        assert_eq!(scan.take(&mut input, &SMALL).unwrap().unwrap().wire_bytes(), 5);
        assert_eq!(scan.take(&mut input, &SMALL), Err(Malformed::StartLine));
        let mut input = BytesMut::from(&b"\r\nG\r\n\r\n"[..]);
        assert_eq!(Scan::requests().take(&mut input, &SMALL), Err(Malformed::StartLine));
    }
}
