//! Messages between edges: who hears whom, when, and how old the news is.

use super::noise::{Dice, Noise};
use super::world::World;
use proxima::domain::time::Time;
use proxima::domain::view::View;
use std::sync::Arc;
use std::time::Duration;

/// Delays and draws of every direction between two edges.
#[derive(Debug)]
pub struct Fabric {
    links: Vec<Vec<Link>>,
}

#[derive(Debug)]
struct Link {
    base: Duration,
    jitter_ms: u64,
    dice: Dice,
    /// When the newest view that came from there was made.
    newest: Option<Time>,
    /// That view, for the bug that shows it again.
    last: Option<Arc<View>>,
}

impl Fabric {
    pub fn new(regions: usize, noise: Noise) -> Self {
        // Places on a map of delays, so that some are near each other and some far.
        let mut places = noise.stream(0).dice();
        let at: Vec<(u64, u64)> = (0..regions).map(|_| (places.below(90), places.below(60))).collect();
        let link = |from: usize, to: usize| {
            let mut dice = noise.stream(1 + (from * regions + to) as u64).dice();
            let ms = 2 + at[from].0.abs_diff(at[to].0) + at[from].1.abs_diff(at[to].1);
            Link {
                base: Duration::from_millis(ms),
                jitter_ms: dice.below(ms / 4 + 2),
                dice,
                newest: None,
                last: None,
            }
        };
        Self { links: (0..regions).map(|from| (0..regions).map(|to| link(from, to)).collect()).collect() }
    }

    /// The mean round trip between two edges while nothing slows it.
    pub fn distance(&self, a: usize, b: usize) -> Duration {
        let mean = |link: &Link| link.base + Duration::from_millis(link.jitter_ms) / 2;
        mean(&self.links[a][b]) + mean(&self.links[b][a])
    }

    /// How long one message takes; `None`: it is lost.
    pub fn one_way(&mut self, world: &World, from: usize, to: usize) -> Option<Duration> {
        let link = &mut self.links[from][to];
        let jitter = Duration::from_millis(link.dice.below(link.jitter_ms + 1));
        let lost = link.dice.chance(world.loss_percent);
        let extra = world.passes(from, to)?;
        (!lost).then_some(link.base + jitter + extra)
    }

    /// Notes that `edge` got a view that `from` made at `produced`.
    pub fn heard(&mut self, edge: usize, from: usize, produced: Time, view: &Arc<View>) {
        let link = &mut self.links[from][edge];
        link.newest = Some(link.newest.map_or(produced, |before| before.max(produced)));
        link.last = Some(Arc::clone(view));
    }

    /// The last view again, as if it were new. Only a planted bug asks for it.
    pub fn replay(&mut self, edge: usize, from: usize) -> Option<Arc<View>> {
        let last = self.links[from][edge].last.as_mut()?;
        let mut view = View::clone(last);
        view.sequence += 1;
        *last = Arc::new(view);
        Some(Arc::clone(last))
    }

    /// A new process has heard nobody.
    pub fn forget(&mut self, edge: usize) {
        for row in &mut self.links {
            row[edge].newest = None;
            row[edge].last = None;
        }
    }

    /// How many other edges' views, made within `span`, have reached `edge`.
    pub fn fresh(&self, edge: usize, span: Duration, now: Time) -> usize {
        let fresh = |link: &Link| link.newest.is_some_and(|at| now.since(at) <= span);
        self.links.iter().filter(|row| fresh(&row[edge])).count()
    }
}
