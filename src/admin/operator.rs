//! Operators: what they have said, and what they say.
//!
//! Reading is open to whoever reaches the listener, as `/snapshot` is. Acting takes a token or a
//! certificate of `[[admin.operators]]` (`who`). Who has none is answered slowly and one at a time, and
//! only a few wait: guessing is slow, the audit log is not flooded, and a good token never waits for a bad one.

use super::Wiring;
use super::listen::Client;
use super::who::{self, Unknown};
use crate::clock::wall_clock;
use crate::domain::name::{DnsName, RegionId};
use crate::domain::operator::Said;
use crate::domain::time::Time;
use crate::operators::SubmitError;
use crate::operators::audit::{Event, rfc3339};
use crate::operators::wire::{Answer, Asked, Circumstances};
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Router};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, Semaphore};
use tokio::time::sleep;

/// The longest body; an act with 64 long names stays below.
const BODY_BYTES_MAX: usize = 32 * 1024;
/// What a bad token costs its sender.
const DENIAL: Duration = Duration::from_millis(500);
/// Denials that may wait for each other; further ones are told so at once.
const DENIALS_MAX: usize = 4;

/// How bad tokens are slowed down.
#[derive(Debug)]
struct Denials {
    room: Semaphore,
    turn: Mutex<()>,
}

pub(super) fn routes() -> Router<Arc<Wiring>> {
    let denials = Arc::new(Denials { room: Semaphore::new(DENIALS_MAX), turn: Mutex::new(()) });
    Router::new()
        .route("/operator", axum::routing::get(show))
        .route("/operator/acts/{id}", axum::routing::get(account))
        .route("/operator/{act}", axum::routing::post(act))
        .layer(axum::extract::DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(Extension(denials))
}

fn json(status: StatusCode, value: &impl Serialize) -> Response {
    match serde_json::to_string_pretty(value) {
        Ok(text) => (status, [(header::CONTENT_TYPE, "application/json")], text + "\n").into_response(),
        Err(error) => {
            tracing::error!(%error, "an answer to an operator can't be written");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

fn problem(status: StatusCode, error: &str) -> Response {
    json(status, &BTreeMap::from([("error", error)]))
}

async fn act(
    State(wiring): State<Arc<Wiring>>,
    Extension(denials): Extension<Arc<Denials>>,
    Extension(client): Extension<Client>,
    Path(kind): Path<String>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let operators = wiring.config.borrow().admin.operators.clone();
    if operators.is_empty() {
        let how = "nobody may act: configure [[admin.operators]] with name and token_file, token_sha256 or \
                   certificate_name";
        return problem(StatusCode::FORBIDDEN, how);
    }
    let Client { from, names: shown } = client;
    let by = match who::knows(&operators, &headers, shown.as_deref()).await {
        Ok(by) => by,
        Err(unknown) => return deny(&wiring, &denials, &kind, &from, &unknown).await,
    };
    let body = match body {
        Ok(body) => body,
        Err(rejection) => return problem(rejection.status(), &rejection.body_text()),
    };
    let asked: Asked = match serde_json::from_slice(&body) {
        Ok(asked) => asked,
        Err(error) => return problem(StatusCode::BAD_REQUEST, &format!("the body is no act: {error}")),
    };
    let names = names(&wiring);
    let around = Circumstances { id: rand::random(), by: &by, wall: wall_clock(), names: &names };
    let act = match asked.into_act(&kind, &around) {
        Ok(act) => act,
        Err(why) => return problem(StatusCode::BAD_REQUEST, &why),
    };
    match wiring.desk.submit(act, &from).await {
        Ok(account) => json(StatusCode::OK, &Answer::from(&account)),
        Err(error @ SubmitError::Refused(_)) => problem(StatusCode::CONFLICT, &error.to_string()),
        Err(error @ SubmitError::Silent) => problem(StatusCode::SERVICE_UNAVAILABLE, &error.to_string()),
    }
}

/// Every name with its regions.
fn names(wiring: &Wiring) -> BTreeMap<DnsName, BTreeSet<RegionId>> {
    let config = wiring.config.borrow();
    let names = config.policy.names.iter();
    names.map(|(name, policy)| (name.clone(), policy.regions().into_iter().cloned().collect())).collect()
}

async fn deny(wiring: &Wiring, denials: &Denials, kind: &str, from: &str, unknown: &Unknown) -> Response {
    let Ok(_room) = denials.room.try_acquire() else {
        return problem(StatusCode::TOO_MANY_REQUESTS, "too many requests of who is no operator");
    };
    let _turn = denials.turn.lock().await;
    sleep(DENIAL).await;
    let why = unknown.to_string();
    wiring.desk.audit().tell(&Event::denied(kind, Some(from), "denied").because(&why)).await;
    let answer = problem(unknown.status(), &why);
    match unknown.status() {
        StatusCode::UNAUTHORIZED => ([(header::WWW_AUTHENTICATE, "Bearer")], answer).into_response(),
        _ => answer,
    }
}

async fn account(State(wiring): State<Arc<Wiring>>, Path(id): Path<String>) -> Response {
    let account = u64::from_str_radix(&id, 16).ok().and_then(|id| wiring.desk.account(id));
    match account {
        Some(account) => json(StatusCode::OK, &Answer::from(&account)),
        None => {
            problem(StatusCode::NOT_FOUND, "this edge knows no such act; another one may, or it restarted")
        }
    }
}

/// What `GET /operator` says.
#[derive(Debug, Serialize)]
struct Report {
    own: RegionId,
    names: BTreeMap<DnsName, NameReport>,
    /// The last acts that were given to this edge.
    acts: Vec<Answer>,
}

#[derive(Debug, Serialize)]
struct NameReport {
    generation: Option<u64>,
    freeze: Option<SaidReport>,
    drains: BTreeMap<String, SaidReport>,
    overrides: BTreeMap<String, SaidReport>,
    /// Acts that are in force here and not in the control record.
    unwritten: Vec<String>,
    refusal: Option<&'static str>,
    /// Set while users are led away from this edge's region.
    parting: Option<PartingReport>,
}

#[derive(Debug, Serialize)]
struct PartingReport {
    seconds: u64,
    /// Since when no weight leads here; `null`: some does.
    seconds_moved: Option<u64>,
    /// Share of their connections that is to be closed by now.
    closing: f64,
    /// What still comes, as a share of what came before; `null`: nobody knows what that was.
    traffic_share: Option<f64>,
}

#[derive(Debug, Serialize)]
struct SaidReport {
    reason: String,
    by: String,
    since: Option<String>,
    seconds_left: Option<u64>,
}

impl SaidReport {
    fn new(said: &Said, expires_at: Option<Time>, now: Time) -> Self {
        Self {
            reason: said.reason.clone(),
            by: said.by.clone(),
            since: said.since.map(rfc3339),
            seconds_left: expires_at.map(|at| at.since(now).as_secs()),
        }
    }
}

async fn show(State(wiring): State<Arc<Wiring>>) -> Response {
    let (snapshot, now) = (wiring.snapshot.load_full(), wiring.clock.now());
    let names = snapshot.names.iter().map(|(name, status)| {
        let operator = &status.operator;
        let drains = operator.drains.iter();
        let overrides = operator.overrides.iter();
        let report = NameReport {
            generation: status.generation.map(|generation| generation.get()),
            freeze: operator.freeze.as_ref().map(|freeze| SaidReport::new(&freeze.said, None, now)),
            drains: drains
                .map(|(region, drain)| {
                    (region.to_string(), SaidReport::new(&drain.said, drain.expires_at, now))
                })
                .collect(),
            overrides: overrides
                .map(|(rule, over)| {
                    (rule.to_string(), SaidReport::new(&over.said, Some(over.expires_at), now))
                })
                .collect(),
            unwritten: status.unwritten.iter().map(|id| format!("{id:016x}")).collect(),
            refusal: status.refusal,
            parting: status.parting.map(|parting| PartingReport {
                seconds: now.since(parting.since).as_secs(),
                seconds_moved: parting.moved_since.map(|since| now.since(since).as_secs()),
                closing: parting.closing,
                traffic_share: wiring.moves.share(name),
            }),
        };
        (name.clone(), report)
    });
    let acts = wiring.desk.accounts().iter().map(Answer::from).collect();
    json(StatusCode::OK, &Report { own: snapshot.own.clone(), names: names.collect(), acts })
}
