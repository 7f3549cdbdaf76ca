//! Messages between edges: who hears whom, when, and how old the news is.

use super::cast::Cast;
use super::noise::{Dice, Noise};
use super::world::World;
use crate::domain::time::Time;
use crate::domain::view::View;
use std::sync::Arc;
use std::time::Duration;

/// Delays and draws of every direction between two regions, and what each edge has heard.
#[derive(Debug)]
pub struct Fabric {
    /// By region, from and to.
    links: Vec<Vec<Link>>,
    /// By the region that was heard and the edge that heard it.
    heard: Vec<Vec<Heard>>,
}

#[derive(Debug)]
struct Link {
    base: Duration,
    jitter_micros: u64,
    dice: Dice,
}

#[derive(Debug, Clone, Default)]
struct Heard {
    /// When the newest view that came from there was made.
    newest: Option<Time>,
    /// That view, for the bug that shows it again.
    last: Option<Arc<View>>,
}

impl Fabric {
    pub fn new(cast: &Cast, noise: Noise) -> Self {
        let n = cast.regions.len();
        let link = |from: usize, to: usize| {
            let base = cast.rtt[from][to] / 2;
            let mut dice = noise.stream(1 + (from * n + to) as u64).dice();
            // A tenth of the way at most, and the last hop's.
            let most = (base / 10 + Duration::from_millis(1)).as_micros() as u64;
            Link { base, jitter_micros: dice.below(most), dice }
        };
        Self {
            links: (0..n).map(|from| (0..n).map(|to| link(from, to)).collect()).collect(),
            heard: vec![vec![Heard::default(); cast.edges()]; n],
        }
    }

    /// The mean round trip between two regions while nothing slows it.
    pub fn distance(&self, a: usize, b: usize) -> Duration {
        let mean = |link: &Link| link.base + Duration::from_micros(link.jitter_micros) / 2;
        mean(&self.links[a][b]) + mean(&self.links[b][a])
    }

    /// How long one message takes; `None`: it is lost.
    pub fn one_way(&mut self, world: &World, from: usize, to: usize) -> Option<Duration> {
        let link = &mut self.links[from][to];
        let jitter = Duration::from_micros(link.dice.below(link.jitter_micros + 1));
        let lost = link.dice.chance(world.loss_percent);
        let extra = world.passes(from, to)?;
        (!lost).then_some(link.base + jitter + extra)
    }

    /// Notes that `edge` got a view that region `from` made at `produced`.
    pub fn heard(&mut self, edge: usize, from: usize, produced: Time, view: &Arc<View>) {
        let heard = &mut self.heard[from][edge];
        heard.newest = Some(heard.newest.map_or(produced, |before| before.max(produced)));
        heard.last = Some(Arc::clone(view));
    }

    /// The last view again, as if it were new. Only seams ask for it.
    pub fn replay(&mut self, edge: usize, from: usize) -> Option<Arc<View>> {
        let last = self.heard[from][edge].last.as_mut()?;
        let mut view = View::clone(last);
        view.sequence += 1;
        *last = Arc::new(view);
        Some(Arc::clone(last))
    }

    /// A new process has heard nobody.
    pub fn forget(&mut self, edge: usize) {
        for row in &mut self.heard {
            row[edge] = Heard::default();
        }
    }

    /// How many other regions' views, made within `span`, have reached `edge`.
    pub fn fresh(&self, edge: usize, span: Duration, now: Time) -> usize {
        let fresh = |heard: &Heard| heard.newest.is_some_and(|at| now.since(at) <= span);
        self.heard.iter().filter(|row| fresh(&row[edge])).count()
    }
}
