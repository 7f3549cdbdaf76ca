//! Watches the world from outside: services directly, DNS by queries, edges by
//! `/snapshot`, the zone server by its history.

use super::event::{Change, Event, Reading, Weights};
use super::http::{self, fetch};
use super::lookup::lookup;
use super::service::HEALTH_PATH;
use super::world::{NAME, Region, World};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval};

/// Between two looks at one thing.
const EVERY: Duration = Duration::from_millis(100);
/// Patience with a local answer; a busy machine may take a while.
const PATIENCE: Duration = Duration::from_millis(500);

/// What all observers share.
#[derive(Debug, Clone)]
pub struct Observer {
    pub world: Arc<World>,
    pub started: Instant,
    pub events: mpsc::Sender<Event>,
}

/// Nobody listens any more: the run is over.
struct Over;

impl Observer {
    fn at(&self) -> Duration {
        self.started.elapsed()
    }

    async fn tell(&self, event: Event) -> Result<(), Over> {
        self.events.send(event).await.map_err(|_| Over)
    }

    /// Looks at a service past every relay: the truth about who is healthy.
    pub async fn service(self, region: Region, address: SocketAddr) {
        let (mut ticks, mut last) = (every(EVERY), None);
        loop {
            ticks.tick().await;
            let answers = match fetch(address, HEALTH_PATH, PATIENCE).await {
                Ok(answer) => answer.status.is_success(),
                // A dead process refuses; a late answer says nothing.
                Err(http::Error::Timeout) => continue,
                Err(_) => false,
            };
            if last.replace(answers) != Some(answers)
                && self.tell(Event::Truth { at: self.at(), region, answers }).await.is_err()
            {
                return;
            }
        }
    }

    /// Asks DNS as a user of the place would, and for the place's own set.
    pub async fn dns(self, place: Region, server: SocketAddr) {
        let set = format!("{}.{NAME}", self.world.name(place));
        let mut ticks = every(EVERY);
        loop {
            ticks.tick().await;
            for name in [NAME, &set] {
                let regions = match lookup(server, place.observer(), name).await {
                    Ok(answer) => answer.addresses.iter().filter_map(|a| self.world.entered(*a)).collect(),
                    Err(error) => {
                        tracing::debug!(%error, name, "an observer got no answer");
                        continue;
                    }
                };
                let at = self.at();
                let event = if name == NAME {
                    Event::Name { at, place, regions }
                } else {
                    Event::Set { at, entry: place, regions }
                };
                if self.tell(event).await.is_err() {
                    return;
                }
            }
        }
    }

    /// Reads what an edge shows and tells what is new.
    pub async fn edge(self, region: Region, admin: SocketAddr) {
        let (mut ticks, mut last) = (every(EVERY), None);
        loop {
            ticks.tick().await;
            let reading = match read::<Shown>(admin, "/snapshot").await {
                Ok(shown) => Some(shown.reading(&self.world, region)),
                Err(error) => {
                    tracing::debug!(%error, region = self.world.name(region), "an edge shows nothing");
                    None
                }
            };
            if last.as_ref() != Some(&reading) {
                let event = Event::Edge { at: self.at(), region, reading: reading.clone() };
                last = Some(reading);
                if self.tell(event).await.is_err() {
                    return;
                }
            }
        }
    }

    /// Follows the zone server's history of weighted sets.
    pub async fn zone(self, api: SocketAddr) {
        let mut ticks = every(EVERY);
        let (mut known, mut empty, mut offset) = (0_usize, None, None);
        loop {
            ticks.tick().await;
            match self.zone_news(api, &mut known, &mut empty, &mut offset).await {
                Ok(news) => {
                    for event in news {
                        if self.tell(event).await.is_err() {
                            return;
                        }
                    }
                }
                Err(error) => tracing::debug!(%error, "the zone server shows nothing"),
            }
        }
    }

    async fn zone_news(
        &self,
        api: SocketAddr,
        known: &mut usize,
        empty: &mut Option<u64>,
        offset: &mut Option<Duration>,
    ) -> Result<Vec<Event>, ReadError> {
        let offset = match *offset {
            Some(offset) => offset,
            None => {
                let clock: Clock = read(api, "/zone-server/health").await?;
                *offset.insert(self.at().saturating_sub(Duration::from_millis(clock.now_ms)))
            }
        };
        let history: History = read(api, "/zone-server/history").await?;
        let mut news = Vec::new();
        for entry in history.changes.iter().skip(*known) {
            news.push(Event::Changed(entry.change(&self.world, offset)));
        }
        *known = history.changes.len();
        if empty.replace(history.sets_ever_empty) != Some(history.sets_ever_empty) {
            news.push(Event::SetsEverEmpty(history.sets_ever_empty));
        }
        Ok(news)
    }
}

fn every(period: Duration) -> tokio::time::Interval {
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// Why nothing could be read.
#[derive(Debug, thiserror::Error)]
enum ReadError {
    #[error(transparent)]
    Http(#[from] http::Error),
    #[error("status {0}")]
    Status(hyper::StatusCode),
    #[error("the answer is not understood")]
    Json(#[from] serde_json::Error),
}

async fn read<T: DeserializeOwned>(address: SocketAddr, path: &str) -> Result<T, ReadError> {
    let answer = fetch(address, path, PATIENCE).await?;
    if !answer.status.is_success() {
        return Err(ReadError::Status(answer.status));
    }
    Ok(serde_json::from_slice(&answer.body)?)
}

/// The part of `/snapshot` that the demo follows.
#[derive(Debug, Deserialize)]
struct Shown {
    services: BTreeMap<String, ShownService>,
    names: BTreeMap<String, ShownName>,
}

#[derive(Debug, Deserialize)]
struct ShownService {
    states: BTreeMap<String, String>,
    candidates: Vec<ShownCandidate>,
}

#[derive(Debug, Deserialize)]
struct ShownCandidate {
    place: String,
    share: f64,
}

#[derive(Debug, Deserialize)]
struct ShownName {
    verdicts: BTreeMap<String, String>,
}

impl Shown {
    fn reading(self, world: &World, own: Region) -> Reading {
        let by_region = |all: BTreeMap<String, String>| -> BTreeMap<Region, String> {
            all.into_iter().filter_map(|(name, word)| Some((world.named(&name)?, word))).collect()
        };
        let mut reading = Reading::default();
        for service in self.services.into_values() {
            let first = service.candidates.first();
            reading.serves_at_home = first.is_some_and(|c| c.place == "own" && c.share >= 1.0);
            reading.states = by_region(service.states);
        }
        reading.serves_at_home &= reading.states.get(&own).is_some_and(|state| state == "healthy");
        for name in self.names.into_values() {
            reading.verdicts = by_region(name.verdicts);
        }
        reading
    }
}

#[derive(Debug, Deserialize)]
struct Clock {
    now_ms: u64,
}

#[derive(Debug, Deserialize)]
struct History {
    changes: Vec<HistoryEntry>,
    sets_ever_empty: u64,
}

#[derive(Debug, Deserialize)]
struct HistoryEntry {
    at_ms: u64,
    sets: Vec<HistorySet>,
}

#[derive(Debug, Deserialize)]
struct HistorySet {
    name: String,
    before: Vec<HistoryMember>,
    after: Vec<HistoryMember>,
}

#[derive(Debug, Deserialize)]
struct HistoryMember {
    set_identifier: String,
    weight: u8,
}

impl HistoryEntry {
    fn change(&self, world: &World, offset: Duration) -> Change {
        let weights = |members: &[HistoryMember]| -> Weights {
            members.iter().filter_map(|m| Some((world.named(&m.set_identifier)?, m.weight))).collect()
        };
        let sets = self.sets.iter().filter_map(|set| {
            let entry = world.named(set.name.split('.').next()?)?;
            Some((entry, (weights(&set.before), weights(&set.after))))
        });
        Change { submitted_at: offset + Duration::from_millis(self.at_ms), sets: sets.collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_is_read_whatever_else_it_holds() {
        let world = World::new(4).unwrap();
        let (own, other) = (world.named("us-east-1").unwrap(), world.named("eu-west-2").unwrap());
        let text = r#"{"number": 3, "services": {"web": {"panic": false,
            "candidates": [{"region": "us-east-1", "place": "own", "share": 1.0, "endpoints": []}],
            "states": {"us-east-1": "healthy", "eu-west-2": "ejected", "mars-1": "healthy"}}},
            "names": {"www.example.test": {"verdicts": {"eu-west-2": "down"}, "gate": "open"}}}"#;
        let reading = serde_json::from_str::<Shown>(text).unwrap().reading(&world, own);
        assert!(reading.serves_at_home);
        assert_eq!(reading.states.len(), 2);
        assert_eq!((reading.states[&other].as_str(), reading.verdicts[&other].as_str()), ("ejected", "down"));
    }

    #[test]
    fn history_is_read_by_entry_on_the_demos_clock() {
        let world = World::new(4).unwrap();
        let text = r#"{"changes": [{"at_ms": 1500, "insync_at_ms": 1800, "change_id": "C1", "sets": [
            {"name": "eu-west-2.www.example.test", "type": "A",
             "before": [{"set_identifier": "eu-west-2", "weight": 100, "values": ["127.11.0.10"]}],
             "after": [{"set_identifier": "us-east-1", "weight": 100, "values": ["127.10.0.10"]}]}]}],
            "sets_ever_empty": 0, "dropped": 0}"#;
        let history: History = serde_json::from_str(text).unwrap();
        let change = history.changes[0].change(&world, Duration::from_millis(200));
        let (us, eu) = (world.named("us-east-1").unwrap(), world.named("eu-west-2").unwrap());
        assert_eq!(change.submitted_at, Duration::from_millis(1700));
        assert_eq!(change.sets[&eu], (Weights::from([(eu, 100)]), Weights::from([(us, 100)])));
    }
}
