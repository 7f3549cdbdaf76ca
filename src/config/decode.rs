//! Text -> sections, telling all that the parser and serde refuse, not only the first.
//!
//! serde stops at its first error. So the part that it names is told, cut out of
//! the parsed document, and the rest is tried again until it is accepted.

use crate::config::problems::Problem;
use serde::de::DeserializeOwned;
use std::collections::BTreeSet;
use std::ops::Range;
use toml::de::{DeArray, DeTable, DeValue, Deserializer};

/// What was cut out: nobody shall be told that it is missing or unknown as well.
#[derive(Debug, Default)]
pub(crate) struct Damage(BTreeSet<(Option<usize>, String)>);

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

/// The sections that could be read. `None`: not even TOML, or nothing at all. `sections`: what a
/// right file has, in words that follow "expected".
pub(crate) fn decode<T: DeserializeOwned>(
    text: &str,
    sections: &str,
    problems: &mut Vec<Problem>,
) -> Option<(T, Damage)> {
    let (mut root, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        let mut errors: Vec<&toml::de::Error> = errors.iter().collect();
        errors.sort_by_key(|error| error.span().map(|span| span.start));
        // Junk has an error in every line.
        problems.extend(errors.into_iter().take(TOLD_MAX).map(|error| syntax(text, error)));
        return None;
    }
    if root.get_ref().is_empty() {
        let wrong = if text.trim().is_empty() { "the file is empty" } else { "the file has no settings" };
        problems.push(Problem::at(&(0..0), wrong).right(format!("expected {sections}")));
        return None;
    }
    let mut damage = Damage::default();
    while problems.len() < TOLD_MAX {
        let error = match T::deserialize(Deserializer::from(root.clone())) {
            Ok(file) => return Some((file, damage)),
            Err(error) => error,
        };
        let span = error.span().unwrap_or(0..0);
        let (found, expected) = error.message().rsplit_once(", expected ").unwrap_or((error.message(), ""));
        let known: Option<Vec<&str>> =
            found.starts_with("unknown field ").then(|| expected.split('`').skip(1).step_by(2).collect());
        let refused = Refused { span, found, expected, known };
        let whole = root.span();
        let cuts = cut(root.get_mut(), &whole, &refused, &mut Vec::new());
        if cuts.is_empty() {
            problems.push(Problem::at(&refused.span, error.message()));
            return None;
        }
        problems.extend(cuts.iter().map(|cut| refused.problem(cut, &mut damage)));
    }
    None
}

/// More than are shown.
const TOLD_MAX: usize = 101;

/// What serde refused: one value or name, or a key that the section does not know.
struct Refused<'a> {
    span: Range<usize>,
    found: &'a str,
    expected: &'a str,
    /// Of an unknown key: all keys that its section knows.
    known: Option<Vec<&'a str>>,
}

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
    span: Range<usize>,
    table: Range<usize>,
    key: String,
    path: String,
    /// Whether the key itself is what was refused.
    by_key: bool,
}

/// Cuts out the key, value or list item that was refused, the deepest at its place.
///
/// With an unknown key go all others that its table does not know: a file of
/// another program is answered in one pass.
fn cut(
    table: &mut DeTable<'_>,
    table_span: &Range<usize>,
    refused: &Refused<'_>,
    path: &mut Vec<String>,
) -> Vec<Cut> {
    let mut found = None;
    for (key, value) in table.iter_mut() {
        let (key_span, value_span) = (key.span(), value.span());
        path.push(key.get_ref().to_string());
        let deeper = match value.get_mut() {
            DeValue::Table(inner) => cut(inner, &value_span, refused, path),
            DeValue::Array(items) => cut_item(items, table_span, refused, path),
            _ => Vec::new(),
        };
        if !deeper.is_empty() {
            return deeper;
        }
        path.pop();
        if key_span == refused.span || value_span == refused.span {
            found = Some((key.get_ref().to_string(), key_span == refused.span));
        }
    }
    let Some((found, by_key)) = found else { return Vec::new() };
    let goes = |key: &str| key == found || refused.known.as_ref().is_some_and(|known| !known.contains(&key));
    let mut cuts = Vec::new();
    for (key, _) in table.iter().filter(|(key, _)| goes(key.get_ref())) {
        let span = if by_key { key.span() } else { refused.span.clone() };
        let key = key.get_ref().to_string();
        path.push(key.clone());
        cuts.push(Cut { span, table: table_span.clone(), key, path: join(path), by_key });
        path.pop();
    }
    for cut in &cuts {
        table.remove(cut.key.as_str());
    }
    cuts
}

fn cut_item(
    items: &mut DeArray<'_>,
    table_span: &Range<usize>,
    refused: &Refused<'_>,
    path: &mut Vec<String>,
) -> Vec<Cut> {
    for item in items.iter_mut() {
        let item_span = item.span();
        let deeper = match item.get_mut() {
            DeValue::Table(inner) => cut(inner, &item_span, refused, path),
            DeValue::Array(inner) => cut_item(inner, table_span, refused, path),
            _ => Vec::new(),
        };
        if !deeper.is_empty() {
            return deeper;
        }
    }
    let count = items.len();
    let mut kept = DeArray::new();
    let all = std::mem::replace(items, DeArray::new());
    all.into_iter().filter(|item| item.span() != refused.span).for_each(|item| kept.push(item));
    *items = kept;
    if items.len() == count {
        return Vec::new();
    }
    let key = path.last().cloned().unwrap_or_default();
    let span = refused.span.clone();
    vec![Cut { span, table: table_span.clone(), key, path: join(path), by_key: false }]
}

/// The path as TOML spells it.
fn join(path: &[String]) -> String {
    let bare = |key: &str| key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    let keys = path.iter().map(|key| if bare(key) { key.clone() } else { format!("{key:?}") });
    keys.collect::<Vec<_>>().join(".")
}

impl Refused<'_> {
    /// serde's message, in our words.
    fn problem(&self, cut: &Cut, damage: &mut Damage) -> Problem {
        damage.add(&cut.table, &cut.key);
        if let Some(known) = &self.known {
            return unknown(known, cut, damage);
        }
        let found = self.found.trim_start_matches("invalid type: ").trim_start_matches("invalid value: ");
        let found = match found {
            "map" => "a table",
            "sequence" => "a list",
            other => other,
        };
        let what = if cut.by_key { "wrong name" } else { "wrong value for" };
        let problem = Problem::at(&cut.span, format!("{what} `{}`", cut.path)).here(found);
        match self.expected {
            "" => problem,
            "a sequence" if !cut.path.contains('.') => {
                problem.right(format!("expected tables, each begun by [[{}]]", cut.path))
            }
            "a sequence" => problem.right("expected a list, as in [\"…\", \"…\"]"),
            other => problem.right(format!("expected {other}")),
        }
    }
}

/// Keys that have another name by now, and what to write instead.
const RENAMED: [(&str, &str); 2] = [
    ("health_path", "`health.path`, in a table [services.X.health] or as it stands here"),
    ("health_grpc", "`health = { kind = \"grpc\", service = \"…\" }`"),
];

fn unknown(known: &[&str], cut: &Cut, damage: &mut Damage) -> Problem {
    if let Some((_, now)) = RENAMED.iter().find(|(old, _)| *old == cut.key && known.contains(&"health")) {
        let problem = Problem::at(&cut.span, format!("`{}` has another name now", cut.path)).here("old");
        return problem.right(format!("expected {now}"));
    }
    let problem = Problem::at(&cut.span, format!("unknown key `{}`", cut.path));
    let problem = match nearest(&cut.key, known.iter().copied()) {
        Some(meant) => {
            // Or it would be told as missing, too.
            damage.add(&cut.table, meant);
            problem.here(format!("did you mean `{meant}`?"))
        }
        None => problem.here("not known here"),
    };
    problem.right(format!("expected one of {}", known.join(", ")))
}

/// The known word that `text` most likely meant, if any is near.
pub(crate) fn nearest<'a>(text: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let length = |word: &str| word.chars().count();
    // A third of the letters may be wrong, and two in a short word, but not all.
    let near = |word: &str| (length(text).max(length(word)) / 3).max(2).min(length(word).saturating_sub(1));
    known
        .map(|word| (strsim::damerau_levenshtein(text, word), word))
        .filter(|(distance, word)| *distance <= near(word))
        .min()
        .map(|(_, word)| word)
}
