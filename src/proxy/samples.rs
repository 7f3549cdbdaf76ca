//! Round trips to other regions that forwarded traffic shows, beside those that probes measure.
//!
//! Of each region and kind at most one in [`PAUSE`] is told, through a channel that is never waited for: a
//! flood of requests is no flood of samples, and a core that is busy loses some.

use crate::domain::fleet::{Input, SampleSource};
use crate::domain::latency::Rtt;
use crate::domain::name::RegionId;
use crate::metrics::request::RequestMetrics;
use pingora::protocols::l4::ext::get_tcp_info;
use pingora::protocols::{Stream, UniqueIDType};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
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
    /// When the last one was told. One lock for a moment, never across a wait.
    last: Mutex<BTreeMap<(RegionId, SampleSource), Instant>>,
}

impl Samples {
    pub(super) fn new(inputs: mpsc::Sender<Input>, metrics: Arc<RequestMetrics>) -> Self {
        Self { inputs, metrics, last: Mutex::default() }
    }

    /// The head of a region's answer came so long after the request was forwarded.
    pub(super) fn first_byte(&self, region: &RegionId, took: Duration) {
        self.metrics.first_byte(region, took);
        self.tell(region, SampleSource::FirstByte, took);
    }

    fn tell(&self, region: &RegionId, source: SampleSource, took: Duration) {
        if !self.is_due(region, source, Instant::now()) {
            return;
        }
        let sample = Input::Sample { region: region.clone(), rtt: Rtt::new(took), source };
        if self.inputs.try_send(sample).is_err() {
            self.metrics.samples_dropped.inc();
        }
    }

    fn is_due(&self, region: &RegionId, source: SampleSource, now: Instant) -> bool {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let due = last.get(&(region.clone(), source)).is_none_or(|last| now >= *last + PAUSE);
        if due {
            last.insert((region.clone(), source), now);
        }
        due
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
