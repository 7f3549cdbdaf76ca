//! What operators have said, as fields of the control record.
//!
//! ```text
//! freeze=SAID
//! drains=REGION[~EXPIRES][:SAID],…
//! overrides=RULE~EXPIRES:SAID,…
//! SAID = REASON[@BY[@SINCE]]
//! ```
//! `EXPIRES` and `SINCE` are milliseconds since 1970. Empty parts at an end are left out, so that
//! `drains=eu-west-1` is all that somebody without this program has to write. In `REASON` and
//! `BY` blanks, quotes, backslashes, `%`, `@`, commas, controls and what is not ASCII stand as `%XX`.

use super::{ControlError, is_plain, number, region};
use crate::domain::name::{RegionId, RuleName};
use crate::domain::operator::{Drain, Freeze, OperatorState, Override, Said};
use std::time::Duration;

const WANT_OVERRIDE: &str = "rule~milliseconds since 1970:reason";

/// Appends the fields.
pub(super) fn write(operator: &OperatorState<Duration>, text: &mut String) {
    if let Some(freeze) = &operator.freeze {
        text.push_str(&format!(" freeze={}", said_text(&freeze.said)));
    }
    let list = |key: &str, items: Vec<String>| match items.is_empty() {
        true => String::new(),
        false => format!(" {key}={}", items.join(",")),
    };
    let drains = operator
        .drains
        .iter()
        .map(|(region, drain)| item_text(region.as_str(), drain.expires_at, &drain.said));
    text.push_str(&list("drains", drains.collect()));
    let overrides = operator
        .overrides
        .iter()
        .map(|(rule, over)| item_text(rule.as_str(), Some(over.expires_at), &over.said));
    text.push_str(&list("overrides", overrides.collect()));
}

fn item_text(name: &str, expires_at: Option<Duration>, said: &Said) -> String {
    let expires = expires_at.map(|at| format!("~{}", at.as_millis())).unwrap_or_default();
    let said = Some(said_text(said)).filter(|text| !text.is_empty());
    format!("{name}{expires}{}", said.map(|text| format!(":{text}")).unwrap_or_default())
}

fn said_text(said: &Said) -> String {
    let (reason, by) = (escape(&said.reason), escape(&said.by));
    match said.since {
        Some(since) => format!("{reason}@{by}@{}", since.as_millis()),
        None if by.is_empty() => reason,
        None => format!("{reason}@{by}"),
    }
}

/// The fields' meaning.
///
/// # Errors
/// Whatever is not of their form; another spelling of the same is for the caller to find.
pub(super) fn read(
    freeze: Option<&str>,
    drains: Option<&str>,
    overrides: Option<&str>,
) -> Result<OperatorState<Duration>, ControlError> {
    let items = |list: Option<&'_ str>| list.map(|l| l.split(',').map(str::to_owned).collect::<Vec<_>>());
    Ok(OperatorState {
        freeze: freeze.map(|text| said("freeze", text)).transpose()?.map(|said| Freeze { said }),
        drains: items(drains).unwrap_or_default().iter().map(|i| drain(i)).collect::<Result<_, _>>()?,
        overrides: items(overrides).unwrap_or_default().iter().map(|i| over(i)).collect::<Result<_, _>>()?,
    })
}

fn drain(item: &str) -> Result<(RegionId, Drain<Duration>), ControlError> {
    let (head, said_text) = item.split_once(':').unwrap_or((item, ""));
    let (name, expires) = match head.split_once('~') {
        Some((name, expires)) => (name, Some(millis("drains", expires)?)),
        None => (head, None),
    };
    Ok((region("drains", name)?, Drain { said: said("drains", said_text)?, expires_at: expires }))
}

fn over(item: &str) -> Result<(RuleName, Override<Duration>), ControlError> {
    let wrong = || ControlError::Value { field: "overrides", text: item.to_owned(), want: WANT_OVERRIDE };
    let (head, said_text) = item.split_once(':').ok_or_else(wrong)?;
    let (name, expires) = head.split_once('~').ok_or_else(wrong)?;
    let rule = RuleName::parse(name).map_err(|source| ControlError::Name { field: "overrides", source })?;
    let said = said("overrides", said_text)?;
    if said.reason.is_empty() {
        return Err(wrong());
    }
    Ok((rule, Override { said, expires_at: millis("overrides", expires)? }))
}

fn said(field: &'static str, text: &str) -> Result<Said, ControlError> {
    let mut parts = text.splitn(3, '@');
    let mut next = || parts.next().map(|part| unescape(field, part)).transpose();
    let (reason, by) = (next()?.unwrap_or_default(), next()?.unwrap_or_default());
    let since = parts.next().map(|since| millis(field, since)).transpose()?;
    Ok(Said { reason, by, since })
}

fn millis(field: &'static str, text: &str) -> Result<Duration, ControlError> {
    number(field, text).map(Duration::from_millis)
}

/// Percent-encodes what may not stand in a part.
fn escape(reason: &str) -> String {
    reason.bytes().fold(String::new(), |mut text, byte| {
        if is_plain(byte) && !b"%@,".contains(&byte) {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
        text
    })
}

fn unescape(field: &'static str, text: &str) -> Result<String, ControlError> {
    let wrong = || ControlError::Value {
        field,
        text: text.to_owned(),
        want: "text in UTF-8 with blanks, commas, @ and controls as %XX",
    };
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digit = |byte: Option<u8>| char::from(byte?).to_digit(16).and_then(|d| u8::try_from(d).ok());
        let high = digit(rest.next()).ok_or_else(wrong)?;
        let low = digit(rest.next()).ok_or_else(wrong)?;
        bytes.push(high * 16 + low);
    }
    String::from_utf8(bytes).map_err(|_| wrong())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use rand::Rng;
    use rand::rngs::StdRng;

    fn text(random: &mut StdRng, length: std::ops::Range<usize>) -> String {
        (0..random.random_range(length)).map(|_| random.random::<char>()).collect()
    }

    fn maybe_millis(random: &mut StdRng) -> Option<Duration> {
        random.random::<bool>().then(|| Duration::from_millis(random.random()))
    }

    fn any_said(random: &mut StdRng) -> Said {
        Said { reason: text(random, 0..10), by: text(random, 0..3), since: maybe_millis(random) }
    }

    /// Anything that operators may have said and that fits into a record.
    pub(crate) fn any_operator(random: &mut StdRng) -> OperatorState<Duration> {
        let freeze = random.random::<bool>().then(|| Freeze { said: any_said(random) });
        let drains = (0..random.random_range(0..8)).map(|_| {
            let drain = Drain { said: any_said(random), expires_at: maybe_millis(random) };
            (crate::dns::control_record::tests::any_region(random), drain)
        });
        let drains = drains.collect();
        let overrides = (0..random.random_range(0..4)).map(|n| {
            let said = Said { reason: text(random, 1..10), ..any_said(random) };
            let over = Override { said, expires_at: Duration::from_millis(random.random()) };
            (RuleName::parse(&format!("rule_{}", "x".repeat(n))).unwrap(), over)
        });
        OperatorState { freeze, drains, overrides: overrides.collect() }
    }

    #[test]
    fn what_people_write_by_hand_is_read() {
        let state = read(Some("maintenance%20by%20bob"), Some("eu-west-1,us-east-1~5:moved@bob"), None);
        let state = state.unwrap();
        assert_eq!(state.freeze, Some(Freeze { said: Said::new("maintenance by bob", "") }));
        let expected = [
            ("eu-west-1", Drain::default()),
            (
                "us-east-1",
                Drain { said: Said::new("moved", "bob"), expires_at: Some(Duration::from_millis(5)) },
            ),
        ];
        let expected = expected.map(|(name, drain)| (RegionId::parse(name).unwrap(), drain));
        assert_eq!(state.drains, expected.into());
    }
}
