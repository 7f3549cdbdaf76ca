//! A request that is slow is sent to a second endpoint, and the first answer wins.

use crate::client::{get, raw};
use crate::origin::{Origin, Reply, answer, ok};
use crate::support::{Authority, Plan, Running, SOON, eventually, start_with};
use proxima::config::{Config, Environment};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::time::timeout;

const HEDGING: &str = "[services.web.hedging]\nsamples_min = 10\ndelay_min = \"50ms\"\nshare = 0.05\n";
const ROUTES: &str = r#"
[[routes]]
name = "dear"
hosts = ["www.example.com"]
path_prefix = "/dear"
service = "web"
hedging = false
[[routes]]
name = "picky"
hosts = ["www.example.com"]
path_prefix = "/picky"
service = "web"
retries = { on = ["503"] }
"#;

async fn edge(authority: &Authority) -> Running {
    let text = Plan::default().toml(authority);
    let text = text.replacen("[services.other]", &format!("{HEDGING}[services.other]"), 1) + ROUTES;
    let config = Config::from_text("proxima.toml", &text, &Environment::default());
    start_with(Arc::new(config.unwrap_or_else(|problems| panic!("{problems}\n{text}")))).await.unwrap()
}

fn hedges(edge: &Running, result: &str) -> f64 {
    edge.metric(&format!("proxima_hedges_total{{result=\"{result}\",service=\"web\"}}"))
}

/// Asks until the edge knows how long requests take, and has traffic to pay hedges from.
async fn warm(edge: &Running) {
    let known = async {
        let mut asked = 0;
        while asked < 50 || edge.metric("proxima_hedge_delay_seconds{service=\"web\"}") == 0.0 {
            assert_eq!(get(edge.http(), "/", "").await.status, 200);
            asked += 1;
        }
    };
    timeout(SOON, known).await.expect("the delay is known");
}

/// Two endpoints that answer well, until one of them falls silent for whatever it is asked next.
struct Pair {
    stuck: Origin,
    well: Origin,
    silent: Arc<AtomicBool>,
}

impl Pair {
    async fn start(edge: &Running) -> Self {
        let silent = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&silent);
        let stuck = Origin::start(
            move |_, _| {
                if seen.load(Ordering::Relaxed) { Reply::Silence } else { ok("first") }
            },
        )
        .await;
        let well = Origin::start(|_, _| ok("well")).await;
        edge.route(&[("home", &[stuck.address, well.address])]);
        Self { stuck, well, silent }
    }

    /// Asks until the silent endpoint was asked once more; the last answer.
    async fn ask_the_silent(&self, edge: &Running, request: &str) -> String {
        self.silent.store(true, Ordering::Relaxed);
        let before = self.stuck.seen().len();
        loop {
            // Endpoints that nobody knows anything of: either may be drawn.
            edge.route(&[("home", &[self.stuck.address, self.well.address])]);
            let answer = raw(edge.http(), request).await;
            if self.stuck.seen().len() > before {
                return answer;
            }
        }
    }
}

fn request(method: &str, path: &str) -> String {
    format!(
        "{method} {path} HTTP/1.1\r\nhost: www.example.com\r\ncontent-length: 4\r\nconnection: close\r\n\r\nbody"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_request_is_answered_by_a_second_endpoint_and_the_first_is_let_go() {
    let edge = edge(&Authority::new()).await;
    let pair = Pair::start(&edge).await;
    warm(&edge).await;
    let answer = pair.ask_the_silent(&edge, &request("PUT", "/")).await;
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("well"), "{answer}");
    assert_eq!(hedges(&edge, "won"), 1.0);
    let both = [&pair.stuck, &pair.well].map(|origin| origin.seen().pop().unwrap().body);
    assert_eq!(both, ["body", "body"], "each got the whole request");
    eventually("the slow attempt's connection is closed", || pair.stuck.silent() == 0).await;
    assert_eq!(in_flight(&edge), 0);
    edge.close().await;
}

/// Requests in flight at the endpoints of `web`.
fn in_flight(edge: &Running) -> u32 {
    let snapshot = edge.snapshot.load();
    let web = &snapshot.services[&crate::support::service("web")];
    web.candidates.iter().flat_map(|c| c.endpoints.iter()).map(|endpoint| endpoint.in_flight()).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_take_effect_twice_and_routes_that_forbid_it_are_never_hedged() {
    let edge = edge(&Authority::new()).await;
    let pair = Pair::start(&edge).await;
    warm(&edge).await;
    for request in [request("POST", "/"), request("GET", "/dear")] {
        // Answered by nobody: 504, after the time that the service has.
        let answer = pair.ask_the_silent(&edge, &request).await;
        assert!(answer.starts_with("HTTP/1.1 504 "), "{answer}");
        pair.silent.store(false, Ordering::Relaxed);
    }
    assert_eq!((hedges(&edge, "won"), hedges(&edge, "lost"), hedges(&edge, "denied")), (0.0, 0.0, 0.0));
    edge.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_would_be_tried_again_does_not_win() {
    let edge = edge(&Authority::new()).await;
    let turned = Arc::new(AtomicBool::new(false));
    let (one, two) = (Arc::clone(&turned), Arc::clone(&turned));
    // Slow and well; quick and ill.
    let slow = Origin::start(move |_, _| match one.load(Ordering::Relaxed) {
        false => ok("early"),
        true => {
            let Reply::Send(text) = ok("late") else { return Reply::Close };
            Reply::Slow(std::time::Duration::from_millis(400), text)
        }
    })
    .await;
    let ill = Origin::start(move |_, _| match two.load(Ordering::Relaxed) {
        false => ok("early"),
        true => answer("503 Service Unavailable", "", "ill"),
    })
    .await;
    edge.route(&[("home", &[slow.address, ill.address])]);
    warm(&edge).await;
    turned.store(true, Ordering::Relaxed);
    let hedged = async {
        // Whoever meets the slow one first is hedged; the ill answer must not be what comes back.
        while hedges(&edge, "lost") < 1.0 {
            edge.route(&[("home", &[slow.address, ill.address])]);
            let answer = get(edge.http(), "/picky", "").await;
            assert_eq!((answer.status, answer.body.as_str()), (200, "late"));
        }
    };
    timeout(SOON, hedged).await.expect("a hedge that came to nothing");
    assert_eq!(hedges(&edge, "won"), 0.0);
    edge.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn when_everything_is_slow_hedges_stay_within_their_share() {
    let edge = edge(&Authority::new()).await;
    let slow = Arc::new(AtomicBool::new(false));
    let origin = || {
        let slow = Arc::clone(&slow);
        Origin::start(move |_, _| {
            let Reply::Send(text) = ok("in") else { return Reply::Close };
            if slow.load(Ordering::Relaxed) {
                Reply::Slow(std::time::Duration::from_millis(150), text)
            } else {
                Reply::Send(text)
            }
        })
    };
    let (a, b) = (origin().await, origin().await);
    edge.route(&[("home", &[a.address, b.address])]);
    warm(&edge).await;
    slow.store(true, Ordering::Relaxed);
    let before = a.seen().len() + b.seen().len();
    let asked = 400;
    let at = edge.http();
    let clients: Vec<_> =
        (0..asked).map(|_| tokio::spawn(async move { get(at, "/", "").await.status })).collect();
    for client in clients {
        assert_eq!(client.await.unwrap(), 200);
    }
    let extra = a.seen().len() + b.seen().len() - before - asked;
    let paid = (before + asked) as f64 * 0.05;
    assert!(extra > 0 && extra as f64 <= paid, "{extra} more than asked, {paid} paid for");
    assert!(hedges(&edge, "denied") > 0.0);
    edge.close().await;
}
