//! Errors for people: one printer for logs and for what the commands say.

use std::error::Error;

/// An error and everything under it, on one line.
///
/// A cause that its error has quoted already is not said twice.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let part = cause.to_string();
        if !text.ends_with(&part) {
            text.push_str(": ");
            text.push_str(&part);
        }
        next = cause.source();
    }
    // Some causes tell each of their parts on a line of its own (AWS's credentials chain).
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Link {
        text: &'static str,
        #[source]
        under: Option<Box<Link>>,
    }

    fn link(text: &'static str, under: Option<Link>) -> Link {
        Link { text, under: under.map(Box::new) }
    }

    #[test]
    fn every_cause_is_told_once_on_one_line() {
        let error = link("cannot start", Some(link("no zone: refused", Some(link("refused", None)))));
        assert_eq!(chain(&error), "cannot start: no zone: refused");
        assert_eq!(chain(&link("a", Some(link("b\n  c", None)))), "a: b c");
    }
}
