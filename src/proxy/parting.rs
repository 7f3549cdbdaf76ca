//! Lets clients go whose region is left by DNS: which connections, when, and how many still come.
//!
//! The core says which share of a name's connections is to be closed by now. Each connection has drawn
//! a lot; those below the share are told to go: HTTP/1 with its next answer, HTTP/2 by GOAWAY, what was
//! upgraded after a grace. So the same connections are chosen at every look, and no two at one moment.

use crate::config::Config;
use crate::domain::name::DnsName;
use crate::domain::snapshot::{Parting as Left, Snapshot};
use crate::metrics::moves::MoveMetrics;
use crate::metrics::request::RequestMetrics;
use arc_swap::ArcSwap;
use prometheus::IntCounter;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

/// How often the share and the traffic are looked at.
const LOOK: Duration = Duration::from_secs(1);
/// For an upgraded connection whose lot is drawn: to end by itself.
const UPGRADE_GRACE: Duration = Duration::from_secs(30);
/// Weight of the last second in the rates of requests: they follow within half a minute.
const SMOOTHING: f64 = 0.1;
/// Rates below this tell no share.
const RATE_MIN: f64 = 0.1;
/// A move is done when less than this is left.
const DONE: f64 = 0.01;
/// When more is left after this, that is said.
const LATE: Duration = Duration::from_secs(600);

/// Shares to close now, by host; nothing while no name is left.
type Shares = Arc<Closing>;

#[derive(Debug, Default, PartialEq)]
struct Closing {
    names: BTreeMap<DnsName, f64>,
    /// For hosts that are no name themselves, such as those that point to one: what holds for all names.
    others: f64,
}

impl Closing {
    fn of(snapshot: &Snapshot) -> Self {
        let of = |left: Option<Left>| left.map_or(0.0, |left| left.closing);
        let shares = snapshot.names.iter().map(|(name, status)| (name.clone(), of(status.parting)));
        let names: BTreeMap<DnsName, f64> = shares.collect();
        let others = names.values().copied().reduce(f64::min).unwrap_or(0.0);
        Self { names: names.into_iter().filter(|(_, share)| *share > 0.0).collect(), others }
    }

    fn share(&self, host: &str) -> f64 {
        if self.names.is_empty() {
            return 0.0;
        }
        named(&self.names, host).copied().unwrap_or(self.others)
    }
}

/// What belongs to a host. Names are in small letters, and so are most hosts.
fn named<'a, T>(names: &'a BTreeMap<DnsName, T>, host: &str) -> Option<&'a T> {
    match host.bytes().any(|byte| byte.is_ascii_uppercase()) {
        true => names.get(host.to_ascii_lowercase().as_str()),
        false => names.get(host),
    }
}

/// Shared by all connections.
#[derive(Debug)]
pub(super) struct Parting {
    shares: watch::Sender<Shares>,
    /// Requests that entered here, by name.
    entered: ArcSwap<BTreeMap<DnsName, IntCounter>>,
}

impl Parting {
    pub(super) fn new(config: &Config, metrics: &RequestMetrics) -> Self {
        let (shares, _) = watch::channel(Arc::default());
        let parting = Self { shares, entered: ArcSwap::default() };
        parting.apply(config, metrics);
        parting
    }

    /// Counts for these names from now on.
    pub(super) fn apply(&self, config: &Config, metrics: &RequestMetrics) {
        let names = config.policy.names.keys().map(|name| (name.clone(), metrics.entered_for(name)));
        self.entered.store(Arc::new(names.collect()));
    }

    /// Counts a client's request.
    pub(super) fn entered(&self, host: &str) {
        if let Some(count) = named(&self.entered.load(), host) {
            count.inc();
        }
    }

    /// Whether the connection with this lot is to be closed, going by a host that it asked for.
    pub(super) fn closes(&self, host: &str, lot: f64) -> bool {
        lot < self.shares.borrow().share(host)
    }

    /// Ready when that holds, from whatever time on.
    pub(super) async fn closed(&self, host: &str, lot: f64) {
        let mut shares = self.shares.subscribe();
        if shares.wait_for(|shares| lot < shares.share(host)).await.is_err() {
            // The edge ends, and with it the connection.
            std::future::pending::<()>().await;
        }
    }

    /// The same for an upgraded connection, which ends for no request.
    pub(super) async fn closed_upgrade(&self, host: &str, lot: f64) {
        self.closed(host, lot).await;
        sleep(UPGRADE_GRACE).await;
    }

    /// Follows the snapshot until dropped.
    pub(super) async fn follow(&self, snapshot: Arc<ArcSwap<Snapshot>>, metrics: MoveMetrics) {
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut traffic = Traffic::default();
        let mut before = Instant::now();
        loop {
            let now = look.tick().await;
            let snapshot = snapshot.load_full();
            let closing = Closing::of(&snapshot);
            self.shares.send_if_modified(|shares| {
                let differs = **shares != closing;
                if differs {
                    *shares = Arc::new(closing);
                }
                differs
            });
            let seconds = now.duration_since(before).as_secs_f64();
            if seconds >= LOOK.as_secs_f64() / 2.0 {
                before = now;
                let counts = self.entered.load();
                let counts = counts.iter().map(|(name, count)| (name.clone(), count.get()));
                metrics.left(traffic.look(&snapshot, &counts.collect(), seconds));
            }
        }
    }
}

/// How much came before, and how much still comes, by name.
#[derive(Debug, Default)]
struct Traffic {
    names: BTreeMap<DnsName, Rate>,
}

#[derive(Debug, Default)]
struct Rate {
    count: Option<u64>,
    /// Requests a second, smoothed.
    now: f64,
    /// The same when the region began to be left.
    before: f64,
    told: bool,
    /// Seconds since no weight leads here.
    moved: f64,
}

impl Traffic {
    /// Shares of names that are left.
    fn look(
        &mut self,
        snapshot: &Snapshot,
        counts: &BTreeMap<DnsName, u64>,
        seconds: f64,
    ) -> BTreeMap<DnsName, f64> {
        self.names.retain(|name, _| counts.contains_key(name));
        let mut left = BTreeMap::new();
        for (name, count) in counts {
            let rate = self.names.entry(name.clone()).or_default();
            let since = rate.count.replace(*count);
            let new = since.map_or(0.0, |since| count.saturating_sub(since) as f64 / seconds);
            rate.now += SMOOTHING * (new - rate.now);
            let Some(parting) = snapshot.names.get(name).and_then(|status| status.parting) else {
                *rate = Rate { before: rate.now, told: false, moved: 0.0, ..*rate };
                continue;
            };
            if rate.before < RATE_MIN {
                continue;
            }
            let share = (rate.now / rate.before).min(1.0);
            left.insert(name.clone(), share);
            if parting.moved_since.is_some() {
                rate.moved += seconds;
                rate.tell(name, share);
            } else {
                rate.moved = 0.0;
            }
        }
        left
    }
}

impl Rate {
    /// Says once that a move is done, or how much is left when it should be.
    fn tell(&mut self, name: &DnsName, share: f64) {
        let seconds = self.moved.round();
        if self.told {
            return;
        }
        if share < DONE {
            self.told = true;
            tracing::info!(%name, share, seconds, "the move is done: no users are left here");
        } else if self.moved >= LATE.as_secs_f64() {
            self.told = true;
            let (share, rps) = (format!("{:.1}%", share * 100.0), self.now);
            tracing::warn!(%name, share, rps, seconds, "no weight leads here, and users still come");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::name::RegionId;
    use crate::domain::snapshot::{Gate, NameStatus};
    use crate::domain::time::Time;

    fn name(text: &str) -> DnsName {
        DnsName::parse(text).unwrap()
    }

    fn snapshot(closing: &[(&str, Option<f64>)]) -> Snapshot {
        let status = |closing: Option<f64>| NameStatus {
            parting: closing.map(|closing| Left {
                since: Time::ZERO,
                moved_since: Some(Time::ZERO),
                closing,
            }),
            ..NameStatus::unknown(Gate::Open)
        };
        let names = closing.iter().map(|(text, closing)| (name(text), status(*closing))).collect();
        Snapshot { names, ..Snapshot::empty(RegionId::parse("a").unwrap()) }
    }

    #[test]
    fn a_connection_goes_with_the_name_it_asked_for_and_others_when_every_name_goes() {
        let some = Closing::of(&snapshot(&[("a.test", Some(0.5)), ("b.test", None)]));
        assert_eq!(["A.test", "b.test", "other.test"].map(|host| some.share(host)), [0.5, 0.0, 0.0]);
        let all = Closing::of(&snapshot(&[("a.test", Some(0.5)), ("b.test", Some(0.2))]));
        assert_eq!(["a.test", "b.test", "other.test"].map(|host| all.share(host)), [0.5, 0.2, 0.2]);
        assert_eq!(Closing::of(&snapshot(&[])).share("a.test"), 0.0);
    }

    #[test]
    fn what_is_left_is_a_share_of_what_came_before() {
        let (mut traffic, a) = (Traffic::default(), name("a.test"));
        let mut count = 0;
        let mut pass = |seconds: u32, per_second: u64, closing: Option<f64>| {
            let mut left = BTreeMap::new();
            for _ in 0..seconds {
                count += per_second;
                let counts = BTreeMap::from([(a.clone(), count)]);
                left = traffic.look(&snapshot(&[("a.test", closing)]), &counts, 1.0);
            }
            left.get(&a).copied()
        };
        assert_eq!(pass(100, 50, None), None, "nobody is led away");
        let half = pass(60, 25, Some(0.0)).unwrap();
        assert!((0.49..0.51).contains(&half), "{half}");
        let none = pass(100, 0, Some(1.0)).unwrap();
        assert!(none < DONE, "{none}");
        assert_eq!(pass(1, 50, None), None, "they are back");
    }

    #[tokio::test(start_paused = true)]
    async fn each_lot_is_drawn_once_its_share_is_due_and_upgrades_have_a_grace() {
        let parting = Parting { shares: watch::channel(Arc::default()).0, entered: ArcSwap::default() };
        let closing = |share| Arc::new(Closing::of(&snapshot(&[("a.test", Some(share))])));
        parting.shares.send_replace(closing(0.3));
        assert!(parting.closes("a.test", 0.29) && !parting.closes("a.test", 0.31));
        let begun = Instant::now();
        parting.closed("a.test", 0.29).await;
        assert_eq!(begun.elapsed(), Duration::ZERO);
        parting.closed_upgrade("a.test", 0.29).await;
        assert_eq!(begun.elapsed(), UPGRADE_GRACE);
        let waits = tokio::time::timeout(Duration::from_secs(3600), parting.closed("a.test", 0.5));
        assert!(waits.await.is_err(), "not yet");
        parting.shares.send_replace(closing(0.6));
        parting.closed("a.test", 0.5).await;
    }
}
