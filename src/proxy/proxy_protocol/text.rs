//! Version 1: one line of text.

use super::{Addresses, Header, Malformed};
use std::net::{IpAddr, SocketAddr};

pub(super) const SIGNATURE: &[u8] = b"PROXY";
/// With CR LF; section 2.1 reckons the longest one.
const LINE_MAX: usize = 107;

/// A header and its length; `None`: more has to come.
pub(super) fn read(bytes: &[u8]) -> Result<Option<(Header, usize)>, Malformed> {
    let within = &bytes[..bytes.len().min(LINE_MAX)];
    let Some(end) = within.iter().position(|b| matches!(b, b'\r' | b'\n')) else {
        return if bytes.len() < LINE_MAX { Ok(None) } else { Err(Malformed::TooLong) };
    };
    match (within[end], within.get(end + 1)) {
        (b'\r', Some(b'\n')) => Ok(Some((line(&within[..end])?, end + 2))),
        (b'\r', None) if bytes.len() < LINE_MAX => Ok(None),
        (b'\r', None) => Err(Malformed::TooLong),
        _ => Err(Malformed::LineEnd),
    }
}

fn line(line: &[u8]) -> Result<Header, Malformed> {
    let line = str::from_utf8(line).map_err(|_| Malformed::Address)?;
    let rest = line.strip_prefix("PROXY ").ok_or(Malformed::Address)?;
    let mut words = rest.split(' ');
    let addresses = match words.next() {
        // Whatever else stands there is to be ignored.
        Some("UNKNOWN") => return Ok(Header::default()),
        Some("TCP4") => addresses(words, |word| word.parse().ok().map(IpAddr::V4)),
        Some("TCP6") => addresses(words, |word| word.parse().ok().map(IpAddr::V6)),
        _ => None,
    };
    Ok(Header { addresses: Some(addresses.ok_or(Malformed::Address)?), ..Header::default() })
}

/// Source, destination, and the port of each; nothing else.
fn addresses<'a>(
    mut words: impl Iterator<Item = &'a str>,
    ip: fn(&str) -> Option<IpAddr>,
) -> Option<Addresses> {
    let (source, destination) = (ip(words.next()?)?, ip(words.next()?)?);
    let (from, to) = (port(words.next()?)?, port(words.next()?)?);
    let addresses =
        Addresses { source: SocketAddr::new(source, from), destination: SocketAddr::new(destination, to) };
    words.next().is_none().then_some(addresses)
}

/// Digits only, without leading zeros.
fn port(word: &str) -> Option<u16> {
    let canonical = word == "0" || !word.starts_with(['0', '+']);
    word.parse().ok().filter(|_| canonical)
}
