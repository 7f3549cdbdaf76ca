//! Text -> sections, telling all that the parser and serde refuse, not only the first.
//!
//! serde stops at its first error. So the part that it names is told, cut out of
//! the parsed document, and the rest is tried again until it is accepted.

use crate::config::file::File;
use crate::config::problems::Problem;
use serde::Deserialize;
use std::collections::BTreeSet;
use std::ops::Range;
use toml::de::{DeArray, DeTable, DeValue, Deserializer};

/// What was cut out: nobody shall be told that it is missing or unknown as well.
#[derive(Debug, Default)]
pub(super) struct Damage(BTreeSet<(Option<usize>, String)>);

impl Damage {
    fn add(&mut self, table: &Range<usize>, key: &str) {
        self.0.insert((Some(table.start), key.to_owned()));
        self.0.insert((None, key.to_owned()));
    }

    /// Whether this key of that table was there but wrong.
    pub(super) fn at(&self, table: &Range<usize>, key: &str) -> bool {
        self.0.contains(&(Some(table.start), key.to_owned()))
    }

    /// Whether any key of that table was there but wrong.
    pub(super) fn inside(&self, table: &Range<usize>) -> bool {
        self.0.iter().any(|(start, _)| *start == Some(table.start))
    }

    /// Whether any key of this name was there but wrong.
    pub(super) fn named(&self, key: &str) -> bool {
        self.0.contains(&(None, key.to_owned()))
    }
}

/// The sections that could be read. `None`: not even TOML, or nothing at all.
pub(super) fn decode(text: &str, problems: &mut Vec<Problem>) -> Option<(File, Damage)> {
    let (mut root, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        problems.extend(errors.iter().map(|error| syntax(text, error)));
        return None;
    }
    if root.get_ref().is_empty() {
        let wrong = if text.trim().is_empty() { "the file is empty" } else { "the file has no settings" };
        let right = "expected [regions], [[listeners]], [services] and [[routes]]; see config/minimal.toml";
        problems.push(Problem::at(&(0..0), wrong).right(right));
        return None;
    }
    let mut damage = Damage::default();
    for _ in 0..CUTS_MAX {
        let error = match File::deserialize(Deserializer::from(root.clone())) {
            Ok(file) => return Some((file, damage)),
            Err(error) => error,
        };
        let span = error.span().unwrap_or(0..0);
        let whole = root.span();
        match cut(root.get_mut(), &whole, &span, &mut Vec::new()) {
            Some(cut) => problems.push(refused(error.message(), &span, &cut, &mut damage)),
            None => {
                problems.push(Problem::at(&span, error.message()));
                return None;
            }
        }
    }
    None
}

/// As many as are shown, and one.
const CUTS_MAX: usize = 101;

fn syntax(text: &str, error: &toml::de::Error) -> Problem {
    let (wrong, right) = match error.message().split_once(", expected ") {
        Some((wrong, right)) => (wrong, Some(format!("expected {right}"))),
        None => (error.message(), None),
    };
    let span = error.span().unwrap_or(0..0);
    // The parser points behind the end when the file ends too early.
    let span = span.start.min(text.len())..span.end.min(text.len());
    let problem = Problem::at(&span, format!("not TOML: {wrong}")).here("here");
    match right {
        Some(right) => problem.right(right),
        None => problem,
    }
}

/// The place of a cut: the table that held it, its key, and the path for people.
struct Cut {
    table: Range<usize>,
    key: String,
    path: String,
    /// Whether the key itself is what was refused.
    by_key: bool,
}

/// Cuts out the key, value or list item at `span`, the deepest if there are several.
fn cut(
    table: &mut DeTable<'_>,
    table_span: &Range<usize>,
    span: &Range<usize>,
    path: &mut Vec<String>,
) -> Option<Cut> {
    let mut found = None;
    for (key, value) in table.iter_mut() {
        let (key_span, value_span) = (key.span(), value.span());
        path.push(key.get_ref().to_string());
        let deeper = match value.get_mut() {
            DeValue::Table(inner) => cut(inner, &value_span, span, path),
            DeValue::Array(items) => cut_item(items, table_span, span, path),
            _ => None,
        };
        if deeper.is_some() {
            return deeper;
        }
        if key_span == *span || value_span == *span {
            let key = key.get_ref().to_string();
            let by_key = key_span == *span;
            found = Some(Cut { table: table_span.clone(), key, path: join(path), by_key });
        }
        path.pop();
    }
    let found = found?;
    table.remove(found.key.as_str());
    Some(found)
}

fn cut_item(
    items: &mut DeArray<'_>,
    table_span: &Range<usize>,
    span: &Range<usize>,
    path: &mut Vec<String>,
) -> Option<Cut> {
    for item in items.iter_mut() {
        let item_span = item.span();
        let deeper = match item.get_mut() {
            DeValue::Table(inner) => cut(inner, &item_span, span, path),
            DeValue::Array(inner) => cut_item(inner, table_span, span, path),
            _ => None,
        };
        if deeper.is_some() {
            return deeper;
        }
    }
    let count = items.len();
    let mut kept = DeArray::new();
    std::mem::replace(items, DeArray::new())
        .into_iter()
        .filter(|item| item.span() != *span)
        .for_each(|item| kept.push(item));
    *items = kept;
    let key = path.last().cloned().unwrap_or_default();
    (items.len() < count).then(|| Cut { table: table_span.clone(), key, path: join(path), by_key: false })
}

/// The path as TOML spells it.
fn join(path: &[String]) -> String {
    let bare = |key: &str| key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    let keys = path.iter().map(|key| if bare(key) { key.clone() } else { format!("{key:?}") });
    keys.collect::<Vec<_>>().join(".")
}

/// serde's message, in our words.
fn refused(message: &str, span: &Range<usize>, cut: &Cut, damage: &mut Damage) -> Problem {
    damage.add(&cut.table, &cut.key);
    let (found, expected) = message.rsplit_once(", expected ").unwrap_or((message, ""));
    if found.starts_with("unknown field ") {
        let known: Vec<&str> = expected.split('`').skip(1).step_by(2).collect();
        let problem = Problem::at(span, format!("unknown key `{}`", cut.path));
        let problem = match nearest(&cut.key, known.iter().copied()) {
            Some(meant) => {
                damage.add(&cut.table, meant);
                problem.here(format!("did you mean `{meant}`?"))
            }
            None => problem.here("not known here"),
        };
        return problem.right(format!("expected one of {}", known.join(", ")));
    }
    let found = found.trim_start_matches("invalid type: ").trim_start_matches("invalid value: ");
    let found = match found {
        "map" => "a table",
        "sequence" => "a list",
        other => other,
    };
    let what = if cut.by_key { "wrong name" } else { "wrong value for" };
    let problem = Problem::at(span, format!("{what} `{}`", cut.path)).here(found);
    let expected = match expected {
        "a sequence" => "a list, as in [\"…\", \"…\"]",
        other if other.starts_with("struct ") => "a table of settings",
        other => other,
    };
    if expected.is_empty() { problem } else { problem.right(format!("expected {expected}")) }
}

/// The known word that `text` most likely meant, if any is near.
pub(super) fn nearest<'a>(text: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let length = |word: &str| word.chars().count();
    // A third of the letters may be wrong, and two in a short word, but not all.
    let near = |word: &str| (length(text).max(length(word)) / 3).max(2).min(length(word).saturating_sub(1));
    known
        .map(|word| (strsim::damerau_levenshtein(text, word), word))
        .filter(|(distance, word)| *distance <= near(word))
        .min()
        .map(|(_, word)| word)
}
