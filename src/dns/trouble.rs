//! Troubles are logged when they start, when they change and when they end, not at every poll.

use std::collections::BTreeMap;
use tracing::{info, warn};

/// What is wrong now, by what it is about.
#[derive(Debug, Default)]
pub struct Troubles {
    present: BTreeMap<String, String>,
}

/// What a report changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    Started,
    Changed,
    Same,
    Ended,
}

impl Troubles {
    /// `what` fails now, and why.
    pub fn failing(&mut self, what: &str, why: String) -> News {
        let before = self.present.get(what);
        if before == Some(&why) {
            return News::Same;
        }
        warn!("{what}: {why}");
        let news = if before.is_some() { News::Changed } else { News::Started };
        self.present.insert(what.to_owned(), why);
        news
    }

    /// `what` works now.
    pub fn working(&mut self, what: &str) -> News {
        if self.present.remove(what).is_none() {
            return News::Same;
        }
        info!("{what}: works again");
        News::Ended
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trouble_is_news_once_until_it_changes_or_ends() {
        let mut troubles = Troubles::default();
        let why = |text: &str| text.to_owned();
        assert_eq!(troubles.working("a"), News::Same);
        assert_eq!(troubles.failing("a", why("x")), News::Started);
        assert_eq!(troubles.failing("a", why("x")), News::Same);
        assert_eq!(troubles.failing("b", why("x")), News::Started);
        assert_eq!(troubles.failing("a", why("y")), News::Changed);
        assert_eq!(troubles.working("a"), News::Ended);
        assert_eq!(troubles.working("a"), News::Same);
    }
}
