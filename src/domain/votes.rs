//! Agreement among regions: from votes to a verdict for one (DNS name, region).
//!
//! A verdict down needs a majority of *configured* voters AND evidence from the
//! target: its own word, or its `/health/edge` failing at Route 53. Without it,
//! a partition among the edges would move users who are fine.

use crate::domain::health::Word;
use serde::{Deserialize, Serialize};

/// What Route 53's own checkers say of a region's `/health/edge`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Witness {
    /// No health check, no answer, or the API out of reach.
    Unknown,
    Green,
    Red,
}

/// The question: everything that the verdict may look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ballot {
    /// All configured regions, this one and the target among them, whatever name it is about.
    pub configured: usize,
    /// Fresh votes of all voters, own one included; a stale one is not here.
    pub votes: Vec<Word>,
    pub own: Word,
    /// The target's own fresh word about itself.
    pub target: Word,
    pub witness: Witness,
    /// Whether all fresh views agree on membership and policy.
    pub agreed: bool,
}

/// The answer for one (DNS name, region).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Verdict {
    /// Confirmed well: may receive users.
    Up,
    /// Confirmed down: its users may be moved.
    Down,
    /// Peers can't reach it but its users can: stop forwarding, leave DNS.
    Isolated,
    /// Nothing may be concluded.
    Undecided(Undecided),
}

/// Why no verdict was reached; each is a named refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Undecided {
    /// One region: nowhere to move users to; health checks act.
    SingleRegion,
    /// Fewer fresh votes than a majority: cut off, or many died; health checks act.
    NoMajority,
    /// Views disagree on membership or policy.
    Disagreement,
    /// The votes are split or still unknown, or say "up" while the witness is red.
    Split,
    /// A majority sees it down but the target has not been heard, nor its witness.
    NoEvidence,
}

impl Verdict {
    /// The verdict as metrics and logs spell it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
            Self::Isolated => "isolated",
            Self::Undecided(Undecided::SingleRegion) => "single_region",
            Self::Undecided(Undecided::NoMajority) => "no_majority",
            Self::Undecided(Undecided::Disagreement) => "disagreement",
            Self::Undecided(Undecided::Split) => "split",
            Self::Undecided(Undecided::NoEvidence) => "no_evidence",
        }
    }
}

/// Reads the verdict off the table in DESIGN: who is configured, who voted, what the target shows.
pub fn decide(ballot: &Ballot) -> Verdict {
    let count = |word: Word| ballot.votes.iter().filter(|v| **v == word).count();
    let majority = ballot.configured / 2 + 1;
    let confirmed_down = ballot.target == Word::Down || ballot.witness == Witness::Red;
    if ballot.configured <= 1 {
        return Verdict::Undecided(Undecided::SingleRegion);
    }
    if !ballot.agreed {
        return Verdict::Undecided(Undecided::Disagreement);
    }
    if ballot.configured == 2 {
        // The only other voter is the target: its evidence stands in for its vote.
        return match (ballot.own, confirmed_down) {
            (Word::Down, true) => Verdict::Down,
            (Word::Down, false) if ballot.witness == Witness::Green => Verdict::Isolated,
            (Word::Down, false) => Verdict::Undecided(Undecided::NoEvidence),
            (Word::Up, _) if ballot.witness != Witness::Red => Verdict::Up,
            (Word::Up | Word::Unknown, _) => Verdict::Undecided(Undecided::Split),
        };
    }
    if ballot.votes.len() < majority {
        return Verdict::Undecided(Undecided::NoMajority);
    }
    if count(Word::Down) >= majority {
        return match (confirmed_down, ballot.witness) {
            (true, _) => Verdict::Down,
            (false, Witness::Green) => Verdict::Isolated,
            (false, _) => Verdict::Undecided(Undecided::NoEvidence),
        };
    }
    // We reach it and Route 53's checkers don't: users may be as they are. It gets no more of them.
    let up = count(Word::Up) >= majority && ballot.witness != Witness::Red;
    if up { Verdict::Up } else { Verdict::Undecided(Undecided::Split) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Word::{Down, Unknown, Up};

    fn ballot(configured: usize, votes: &[Word], target: Word, witness: Witness) -> Ballot {
        let own = votes.first().copied().unwrap_or(Unknown);
        Ballot { configured, votes: votes.to_vec(), own, target, witness, agreed: true }
    }

    #[test]
    fn the_verdict_table() {
        use Undecided::{NoEvidence, NoMajority, SingleRegion, Split};
        for (row, ballot, verdict) in [
            ("one region", ballot(1, &[Down], Down, Witness::Red), Verdict::Undecided(SingleRegion)),
            ("two, own vote and its word", ballot(2, &[Down], Down, Witness::Unknown), Verdict::Down),
            ("two, own vote and witness", ballot(2, &[Down], Unknown, Witness::Red), Verdict::Down),
            (
                "two, own vote alone",
                ballot(2, &[Down], Unknown, Witness::Unknown),
                Verdict::Undecided(NoEvidence),
            ),
            ("two, witness green", ballot(2, &[Down], Unknown, Witness::Green), Verdict::Isolated),
            ("majority and word", ballot(4, &[Down, Down, Down], Down, Witness::Unknown), Verdict::Down),
            ("majority and witness", ballot(4, &[Down, Down, Down], Unknown, Witness::Red), Verdict::Down),
            (
                "half is no majority",
                ballot(4, &[Down, Down, Up], Unknown, Witness::Red),
                Verdict::Undecided(Split),
            ),
            ("cut off", ballot(4, &[Down], Unknown, Witness::Red), Verdict::Undecided(NoMajority)),
            ("partition among us", ballot(3, &[Down, Down], Unknown, Witness::Green), Verdict::Isolated),
            (
                "no evidence",
                ballot(3, &[Down, Down], Unknown, Witness::Unknown),
                Verdict::Undecided(NoEvidence),
            ),
            ("well", ballot(3, &[Up, Up, Up], Up, Witness::Green), Verdict::Up),
            ("well, unwitnessed", ballot(3, &[Up, Up, Up], Up, Witness::Unknown), Verdict::Up),
            (
                "well, but no user reaches it",
                ballot(3, &[Up, Up, Up], Up, Witness::Red),
                Verdict::Undecided(Split),
            ),
            ("two, well", ballot(2, &[Up, Up], Up, Witness::Unknown), Verdict::Up),
            (
                "two, well, but no user reaches it",
                ballot(2, &[Up, Up], Up, Witness::Red),
                Verdict::Undecided(Split),
            ),
        ] {
            assert_eq!(decide(&ballot), verdict, "{row}");
        }
    }

    #[test]
    fn disagreement_on_policy_stops_every_verdict() {
        let disagreed = Ballot { agreed: false, ..ballot(3, &[Down, Down, Down], Down, Witness::Red) };
        assert_eq!(decide(&disagreed), Verdict::Undecided(Undecided::Disagreement));
    }

    /// Every combination of so many words.
    fn combinations(count: usize) -> Vec<Vec<Word>> {
        (0..count).fold(vec![Vec::new()], |sofar, _| {
            let with = |votes: &Vec<Word>, word: Word| [votes.clone(), vec![word]].concat();
            sofar.iter().flat_map(|votes| [Up, Down, Unknown].map(|word| with(votes, word))).collect()
        })
    }

    #[test]
    fn no_combination_moves_users_without_a_majority_and_evidence() {
        for configured in 1..=6 {
            let majority = configured / 2 + 1;
            for votes in (1..=configured).flat_map(combinations) {
                for (target, witness) in [Up, Down, Unknown]
                    .into_iter()
                    .flat_map(|t| [Witness::Unknown, Witness::Green, Witness::Red].map(|w| (t, w)))
                {
                    let ballot = ballot(configured, &votes, target, witness);
                    let count = |word: Word| votes.iter().filter(|vote| **vote == word).count();
                    // Of two, the only other voter is the target, whose evidence stands in for its vote.
                    let (downs, ups) = match configured {
                        2 => (ballot.own == Down, ballot.own == Up),
                        _ => (count(Down) >= majority, count(Up) >= majority),
                    };
                    let evidence = target == Down || witness == Witness::Red;
                    let several = configured > 1;
                    let expected = match decide(&ballot) {
                        Verdict::Down => several && downs && evidence,
                        Verdict::Isolated => several && downs && !evidence && witness == Witness::Green,
                        Verdict::Up => several && ups && witness != Witness::Red,
                        Verdict::Undecided(Undecided::SingleRegion) => configured == 1,
                        Verdict::Undecided(Undecided::NoMajority) => configured > 2 && votes.len() < majority,
                        Verdict::Undecided(Undecided::NoEvidence) => downs && !evidence,
                        Verdict::Undecided(Undecided::Split) => !downs || !evidence,
                        Verdict::Undecided(Undecided::Disagreement) => false,
                    };
                    assert!(expected, "{ballot:?} gives {:?}", decide(&ballot));
                    let disagreed = Ballot { agreed: false, ..ballot };
                    assert!(matches!(decide(&disagreed), Verdict::Undecided(_)), "{disagreed:?}");
                }
            }
        }
    }
}
