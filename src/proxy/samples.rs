//! Round trips to other regions that forwarded traffic shows, beside those that probes measure.
//!
//! Of each region and kind at most one in [`PAUSE`] is told, through a channel that is never waited for: a
//! flood of requests is no flood of samples, and a core that is busy loses some.

use crate::domain::fleet::{Input, SampleSource};
use crate::domain::latency::Rtt;
use crate::domain::name::RegionId;
use crate::metrics::request::RequestMetrics;
use arc_swap::ArcSwap;
use pingora::protocols::l4::ext::get_tcp_info;
use pingora::protocols::{Stream, UniqueIDType};
use prometheus::Histogram;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep};

/// The shortest time between two samples of one kind of one region.
const PAUSE: Duration = Duration::from_millis(250);

/// Where samples go.
#[derive(Debug)]
pub(super) struct Samples {
    inputs: mpsc::Sender<Input>,
    metrics: Arc<RequestMetrics>,
    began: Instant,
    /// Written at the first sample of a region.
    ways: ArcSwap<BTreeMap<RegionId, Arc<Way>>>,
}

/// What requests to one region need at hand: no lock, no look-up of labels.
#[derive(Debug)]
struct Way {
    tcp: Last,
    first_byte: Last,
    first_bytes: Histogram,
}

/// When the last sample of one kind was told, in milliseconds since the start; 0: none was.
#[derive(Debug, Default)]
struct Last(AtomicU64);

impl Last {
    /// Whether one may be told; only one of several who ask at once may.
    fn is_due(&self, since_start: Duration) -> bool {
        let pause = PAUSE.as_millis() as u64;
        let now = u64::try_from(since_start.as_millis()).unwrap_or(u64::MAX).saturating_add(1);
        let last = self.0.load(Relaxed);
        let due = last == 0 || now >= last.saturating_add(pause);
        due && self.0.compare_exchange(last, now, Relaxed, Relaxed).is_ok()
    }
}

impl Samples {
    pub(super) fn new(inputs: mpsc::Sender<Input>, metrics: Arc<RequestMetrics>) -> Self {
        Self { inputs, metrics, began: Instant::now(), ways: ArcSwap::default() }
    }

    /// The head of a region's answer came so long after the request was forwarded.
    pub(super) fn first_byte(&self, region: &RegionId, took: Duration) {
        self.way(region).first_bytes.observe(took.as_secs_f64());
        self.tell(region, SampleSource::FirstByte, took);
    }

    fn tell(&self, region: &RegionId, source: SampleSource, took: Duration) {
        let way = self.way(region);
        let last = match source {
            SampleSource::Tcp => &way.tcp,
            SampleSource::FirstByte => &way.first_byte,
        };
        if !last.is_due(self.began.elapsed()) {
            return;
        }
        let sample = Input::Sample { region: region.clone(), rtt: Rtt::new(took), source };
        if self.inputs.try_send(sample).is_err() {
            self.metrics.samples_dropped.inc();
        }
    }

    fn way(&self, region: &RegionId) -> Arc<Way> {
        if let Some(way) = self.ways.load().get(region) {
            return Arc::clone(way);
        }
        let new = Arc::new(Way {
            tcp: Last::default(),
            first_byte: Last::default(),
            first_bytes: self.metrics.first_byte(region),
        });
        self.ways.rcu(|ways| {
            let mut ways = BTreeMap::clone(ways);
            ways.entry(region.clone()).or_insert_with(|| Arc::clone(&new));
            ways
        });
        self.ways.load().get(region).map_or(new, Arc::clone)
    }
}

/// What a connection to another region's peer listener is watched for.
#[derive(Debug, Clone)]
pub(super) struct RoundTrips {
    pub(super) region: RegionId,
    pub(super) samples: Arc<Samples>,
}

/// The socket of a connection. It may be asked only while the connection is held: its number is another's
/// afterwards.
#[derive(Debug, Clone, Copy)]
pub(super) struct Socket(UniqueIDType);

impl Socket {
    pub(super) fn of(stream: &Stream) -> Self {
        Self(stream.id())
    }

    /// The kernel's smoothed round trip; `None` where there is none: on other systems than Linux, or before
    /// the first acknowledgement.
    fn smoothed(self) -> Option<Duration> {
        let micros = get_tcp_info(self.0).ok()?.tcpi_rtt;
        (micros > 0).then(|| Duration::from_micros(u64::from(micros)))
    }
}

impl RoundTrips {
    /// Looks at the socket when the head of an answer has come, for as long as the connection is driven.
    pub(super) async fn watch(self, socket: Socket, heads: Arc<Notify>) -> Infallible {
        loop {
            heads.notified().await;
            if let Some(rtt) = socket.smoothed() {
                self.samples.tell(&self.region, SampleSource::Tcp, rtt);
            }
            sleep(PAUSE).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus::Registry;

    #[tokio::test(start_paused = true)]
    async fn a_flood_of_answers_is_no_flood_of_samples_and_a_busy_core_loses_some() {
        let metrics = Arc::new(RequestMetrics::register(&Registry::new()).unwrap());
        let (inputs, mut told) = mpsc::channel(3);
        let samples = Samples::new(inputs, Arc::clone(&metrics));
        let (near, far) = (RegionId::parse("near").unwrap(), RegionId::parse("far").unwrap());
        for _ in 0..1000 {
            samples.first_byte(&near, Duration::from_millis(20));
            samples.first_byte(&far, Duration::from_millis(90));
        }
        assert_eq!((told.len(), metrics.samples_dropped.get()), (2, 0));
        let Some(Input::Sample { region, rtt, source }) = told.recv().await else { panic!() };
        assert_eq!((region, rtt, source), (near.clone(), Rtt::millis(20), SampleSource::FirstByte));
        // Two places are left, and three more come in time.
        for _ in 0..3 {
            tokio::time::advance(PAUSE).await;
            samples.first_byte(&near, Duration::from_millis(20));
        }
        assert_eq!((told.len(), metrics.samples_dropped.get()), (3, 1));
    }
}
