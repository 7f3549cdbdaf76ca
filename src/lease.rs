//! The lease port: which pod of a region speaks for it.
//!
//! To hold the lease is to probe the other regions at full pace, to tell the siblings what that shows, and
//! to propose changes of the records. It is no mutual exclusion: while pods cannot hear one another two may
//! hold it, or none. The fence of the records is what keeps a second writer harmless; without a holder every
//! pod measures for itself. So nothing here waits for agreement, and a lost answer costs a few probes.
//!
//! Pure: whom to ask next, and what an answer means. Times and answers are arguments.
//!
//! With `kubernetes.lease` a record in the API of the cluster says who holds the lease ([`claim`]); the pods then
//! ask only the holder, for what it measures. They elect among themselves while that API is away.
//!
//! # The rule
//! A pod follows whoever holds the lease and answers. It looks for another holder when that one has been
//! silent for `failover.view_fresh`: it asks the siblings in the order of their addresses, until one names a
//! living holder, or until `ENOUGH` have answered that know none. If all who look for one, too, come after it, it
//! holds the lease from now on, else the first of them will. A new pod therefore never takes the lease
//! from a living holder. Of two holders that hear of each other the one with the first address stays.

use crate::domain::fleet::Shared;
use crate::domain::time::Time;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

pub mod claim;
pub mod load;

use claim::Ruling;
use load::RegionLoad;

/// Siblings whose word is enough to know that there is no holder: a whole region of pods that all ask one
/// another would be a storm just when a pod has died.
const ENOUGH: usize = 3;

/// What a pod answers to its siblings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SiblingWord {
    /// Random number of its start, as in its view.
    pub boot: u64,
    pub standing: Standing,
    /// It stands so by the word of the Lease, and no election changes that.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ruled: bool,
    /// Only of whoever holds the lease.
    pub shared: Option<Shared>,
    /// The region's load. Only of whoever holds the lease; who says it is told what others do, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load: Option<RegionLoad>,
}

/// How a pod stands to the lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// It knows no holder.
    Seeking,
    Following(Holder),
    Holding,
}

/// Who holds the lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    pub address: SocketAddr,
    pub boot: u64,
}

/// What an answer says of the lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Said {
    pub boot: u64,
    pub standing: Standing,
    /// By the word of the Lease.
    pub ruled: bool,
}

impl From<&SiblingWord> for Said {
    fn from(word: &SiblingWord) -> Self {
        Self { boot: word.boot, standing: word.standing, ruled: word.ruled }
    }
}

/// How this pod stands to the lease, and whom it asks about it. One turn of questions in each interval.
#[derive(Debug)]
pub struct Election {
    boot: u64,
    patience: Duration,
    /// In the order of rank.
    siblings: Vec<SocketAddr>,
    /// This pod's among them, once it has met itself there.
    own: Option<SocketAddr>,
    standing: Standing,
    ruling: Ruling,
    /// When the holder that is followed last answered as such.
    heard: Time,
    /// The sibling that a holder asks next.
    next: usize,
    turn: Turn,
}

/// The questions of one turn.
#[derive(Debug, Default)]
struct Turn {
    /// Still to be asked, the next one last.
    ask: Vec<SocketAddr>,
    asked: BTreeSet<SocketAddr>,
    /// Siblings that look for a holder, too.
    seekers: Vec<SocketAddr>,
    /// Siblings that answered, but not as the holder.
    others: usize,
    /// Someone follows a holder that did not answer here: it may well live.
    hidden: bool,
}

impl Election {
    /// Without siblings a pod speaks for its region alone.
    pub fn new(boot: u64, patience: Duration) -> Self {
        Self {
            boot,
            patience,
            siblings: Vec::new(),
            own: None,
            standing: Standing::Seeking,
            ruling: Ruling::Elect,
            heard: Time::ZERO,
            next: 0,
            turn: Turn::default(),
        }
    }

    pub const fn standing(&self) -> Standing {
        self.standing
    }

    /// What the Lease says now; who is elected counts only while it says nothing.
    pub fn ruled(&mut self, ruling: Ruling, now: Time) {
        let before = std::mem::replace(&mut self.ruling, ruling);
        let standing = match ruling {
            Ruling::Elect if before == Ruling::Elect => return,
            // Whoever is followed may hold it on: it has the time of a silent holder to say so.
            Ruling::Elect => match self.standing {
                Standing::Holding => Standing::Seeking,
                standing => standing,
            },
            Ruling::Hold { until } if now < until => Standing::Holding,
            Ruling::Follow(holder) => Standing::Following(holder),
            Ruling::Hold { .. } | Ruling::Wait => Standing::Seeking,
        };
        if standing != self.standing || before != ruling {
            self.heard = now;
        }
        self.standing = standing;
    }

    /// How long a silent holder is waited for.
    pub fn wait(&mut self, patience: Duration) {
        self.patience = patience;
    }

    /// The addresses of all pods of the region, the own one among them or not yet.
    pub fn resolved(&mut self, addresses: &[SocketAddr]) {
        self.siblings = addresses.iter().copied().collect::<BTreeSet<_>>().into_iter().collect();
        self.own = self.own.filter(|own| self.siblings.contains(own));
    }

    /// Begins the questions of an interval.
    pub fn begin(&mut self, now: Time) {
        let elects = self.ruling == Ruling::Elect;
        if let Standing::Following(_) = self.standing
            && elects
            && now.since(self.heard) > self.patience
        {
            self.standing = Standing::Seeking;
        }
        let ask = match self.standing {
            Standing::Following(holder) => vec![holder.address],
            // The API knows more than they do.
            Standing::Seeking | Standing::Holding if !elects => Vec::new(),
            Standing::Seeking => self.siblings.iter().rev().copied().collect(),
            Standing::Holding => {
                let next = self.siblings.get(self.next % self.siblings.len().max(1)).copied();
                self.next = self.next.wrapping_add(1);
                next.into_iter().collect()
            }
        };
        self.turn = Turn { ask, ..Turn::default() };
    }

    /// Whom to ask now; `None`: this turn is over.
    pub fn ask(&mut self) -> Option<SocketAddr> {
        while let Some(address) = self.turn.ask.pop() {
            if self.turn.asked.insert(address) {
                return Some(address);
            }
        }
        if self.standing == Standing::Seeking && self.ruling == Ruling::Elect {
            self.conclude();
        }
        None
    }

    /// What came of a question; `None`: no answer.
    pub fn answered(&mut self, address: SocketAddr, said: Option<Said>, now: Time) {
        let Some(said) = said else { return };
        if said.boot == self.boot {
            self.own = Some(address);
            return;
        }
        if self.ruling != Ruling::Elect {
            return;
        }
        match (self.standing, said.standing) {
            (Standing::Holding, Standing::Holding)
                if !said.ruled && self.own.is_some_and(|own| own < address) => {}
            (_, Standing::Holding) => {
                self.standing = Standing::Following(Holder { address, boot: said.boot });
                self.heard = now;
                self.turn.ask.clear();
            }
            (_, Standing::Following(holder)) if holder.boot == self.boot => self.turn.hidden |= said.ruled,
            (_, Standing::Following(holder)) => {
                self.turn.other();
                self.turn.hidden = true;
                if self.siblings.contains(&holder.address) {
                    self.turn.ask.push(holder.address);
                }
            }
            (Standing::Seeking, Standing::Seeking) => {
                self.turn.other();
                // Of one that goes by the Lease the Lease will make a holder, or of another one.
                self.turn.hidden |= said.ruled;
                self.turn.seekers.push(address);
            }
            (Standing::Holding | Standing::Following(_), Standing::Seeking) => {}
        }
        // Whoever was followed holds it no more.
        if let Standing::Following(holder) = self.standing
            && holder.address == address
            && said.standing != Standing::Holding
        {
            self.standing = Standing::Seeking;
        }
    }

    /// After a whole turn without a living holder.
    fn conclude(&mut self) {
        let first = self.turn.seekers.iter().all(|other| self.own.is_some_and(|own| own < *other));
        // No sibling at all: the name is not resolved yet.
        if first && !self.turn.hidden && !self.siblings.is_empty() {
            self.standing = Standing::Holding;
        }
    }
}

impl Turn {
    fn other(&mut self) {
        self.others += 1;
        if self.others >= ENOUGH {
            self.ask.clear();
        }
    }
}

#[cfg(test)]
mod tests;
