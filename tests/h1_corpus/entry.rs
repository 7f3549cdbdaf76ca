//! The corpus' text format.

use std::fmt;

/// What a connection is seen to do.
#[derive(Clone, PartialEq, Eq)]
pub enum Event {
    Head(Vec<u8>),
    Body(Vec<u8>),
    Trailer(String),
    Refused(u16, String),
    More,
    Close,
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Head(head) => write!(f, "head {}", head.escape_ascii()),
            Self::Body(body) => write!(f, "body {}", body.escape_ascii()),
            Self::Trailer(line) => write!(f, "trailer {line}"),
            Self::Refused(status, label) => write!(f, "refused {status} {label}"),
            Self::More => f.write_str("more"),
            Self::Close => f.write_str("close"),
        }
    }
}

#[derive(Debug, Default)]
pub struct Entry {
    pub place: String,
    pub name: String,
    pub rows: Vec<u32>,
    pub alone: bool,
    pub send: Vec<u8>,
    pub expected: Vec<Event>,
}

/// The entries of `text`.
pub fn parse(text: &str, file: &str) -> Vec<Entry> {
    let mut entries: Vec<Entry> = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let place = format!("{file}:{}", index + 1);
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(title) = line.strip_prefix('[') {
            let (rows, name) = title.strip_suffix(']').and_then(|t| t.split_once(' ')).expect(&place);
            let rows = rows.split(',').map(|row| row.parse().expect(&place)).collect();
            entries.push(Entry { place, name: name.to_owned(), rows, ..Entry::default() });
            continue;
        }
        let entry = entries.last_mut().expect(&place);
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        let event = match word {
            "send" => {
                assert!(entry.expected.is_empty(), "{place}: sends come first");
                entry.send.extend(unescaped(rest, &place));
                continue;
            }
            "alone" => {
                entry.alone = true;
                continue;
            }
            "head" => Event::Head(unescaped(rest, &place)),
            "body" => Event::Body(unescaped(rest, &place)),
            "trailer" => Event::Trailer(rest.to_owned()),
            "refused" => {
                let (status, label) = rest.split_once(' ').expect(&place);
                Event::Refused(status.parse().expect(&place), label.to_owned())
            }
            "more" => Event::More,
            "close" => Event::Close,
            _ => panic!("{place}: {word:?} is no word of the format"),
        };
        entry.expected.push(event);
    }
    for entry in &entries {
        assert!(!entry.send.is_empty() && !entry.expected.is_empty(), "{}: incomplete", entry.place);
    }
    entries
}

fn unescaped(text: &str, place: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = text;
    while let Some((plain, escape)) = rest.split_once('\\') {
        out.extend_from_slice(plain.as_bytes());
        let word = escape.chars().next().expect(place);
        rest = &escape[1..];
        match word {
            'r' => out.push(b'\r'),
            'n' => out.push(b'\n'),
            't' => out.push(b'\t'),
            '0' => out.push(0),
            '\\' => out.push(b'\\'),
            'x' => {
                out.push(u8::from_str_radix(&rest[..2], 16).expect(place));
                rest = &rest[2..];
            }
            '{' => {
                let (inner, after) = rest.split_once('}').expect(place);
                let (unit, times) = inner.rsplit_once('*').expect(place);
                out.extend(unescaped(unit, place).repeat(times.parse().expect(place)));
                rest = after;
            }
            _ => panic!("{place}: \\{word} is no escape"),
        }
    }
    out.extend_from_slice(rest.as_bytes());
    out
}
