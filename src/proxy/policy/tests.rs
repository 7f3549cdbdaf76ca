use super::*;
use crate::config::UpstreamProtocol;
use crate::domain::endpoint::Endpoint;
use crate::domain::health::State;
use crate::domain::name::{DnsName, RegionId, RouteId};
use crate::domain::routing::{Action, HostPattern, PathPattern, RouteTable};
use crate::domain::snapshot::{Candidate, NameStatus, ServiceSnapshot};
use crate::domain::time::Time;
use crate::proxy::attempts::{Body, Verdict};
use std::net::SocketAddr;
use std::time::Duration;

const RANDOM: Random = Random { routing: 1, split: 1, id: 0xabc };

pub(super) fn region(name: &str) -> RegionId {
    RegionId::parse(name).unwrap()
}

pub(super) fn web() -> ServiceId {
    ServiceId::parse("web").unwrap()
}

/// One service `web` at `www.example.com`, served at `home` and `away`, seen from `home`.
pub(super) struct Fixture {
    pub(super) snapshot: Snapshot,
    pub(super) services: BTreeMap<ServiceId, Service>,
    pub(super) guards: Guards,
    idle: Duration,
}

impl Fixture {
    pub(super) fn new() -> Self {
        let route = Route::new(
            RouteId::parse("web").unwrap(),
            vec![HostPattern::Exact("www.example.com".to_owned())],
            PathPattern::any(),
            Action::service(web()),
        );
        let candidate = |name: &str, place, subnet| Candidate {
            region: region(name),
            place,
            share: 1.0,
            endpoints: [Arc::new(Endpoint::new(SocketAddr::from(([127, 0, subnet, 1], 80))))].into(),
            zones: Arc::new([]),
        };
        let service = ServiceSnapshot {
            id: web(),
            candidates: [candidate("home", Place::Own, 0), candidate("away", Place::Peer, 1)]
                .into_iter()
                .collect(),
            panic: false,
            accepts_forwarded: true,
            endpoints: Arc::new([]),
            states: [(region("home"), State::Healthy)].into(),
            room: Default::default(),
        };
        let mut snapshot = Snapshot::empty(region("home"));
        snapshot.routes = Arc::new(RouteTable::new(vec![route]).unwrap());
        snapshot.services = [(web(), Arc::new(service))].into();
        let config = Service {
            endpoints: Vec::new(),
            kubernetes: None,
            zones: Default::default(),
            tls: None,
            protocol: UpstreamProtocol::Http1,
            health: crate::config::Health {
                question: crate::config::Question::get("/"),
                port: None,
                interval: None,
                timeout: None,
            },
            connect_timeout: Duration::from_secs(1),
            read_timeout: Duration::from_secs(60),
            connections_max: None,
            attempts: 3,
            protection: Default::default(),
        };
        let (services, guards) = ([(web(), config)].into(), Guards::default());
        Self { snapshot, services, guards, idle: Duration::ZERO }
    }

    pub(super) fn service(&mut self, change: impl FnOnce(&mut ServiceSnapshot)) {
        change(Arc::make_mut(self.snapshot.services.get_mut(&web()).unwrap()));
    }

    fn gates(&mut self, gates: &[(&str, Gate)]) {
        let status = NameStatus::unknown;
        self.snapshot.names =
            gates.iter().map(|(name, gate)| (DnsName::parse(name).unwrap(), status(*gate))).collect();
    }

    pub(super) fn ask(
        &self,
        method: Method,
        authority: &str,
        path: &str,
        headers: &[(&'static str, &str)],
        origin: Origin,
    ) -> Decision {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_str(value).unwrap());
        }
        let head = RequestHead {
            method: &method,
            version: Version::HTTP_11,
            authority,
            path,
            query,
            length: Some(0),
            proof: Proof::None,
            headers: &map,
            trusted: false,
            forwarded_for: None,
        };
        decide(
            head,
            origin,
            World {
                snapshot: &self.snapshot,
                services: &self.services,
                guards: &self.guards,
                now: Time::ZERO,
                idle: self.idle,
            },
            RANDOM,
        )
    }

    pub(super) fn get(&self, authority: &str, path: &str) -> Decision {
        self.ask(Method::GET, authority, path, &[], client())
    }

    fn forwarded(&self, path: &str, service: &str) -> Decision {
        let headers = [("x-proxima-forwarded-by", "away"), ("x-proxima-service", service)];
        self.ask(Method::GET, "www.example.com", path, &headers, Origin::Peer)
    }
}

pub(super) fn client() -> Origin {
    Origin::Client { address: Some([192, 0, 2, 1].into()), scheme: Scheme::Http }
}

pub(super) fn answer(decision: Decision) -> OwnAnswer {
    match decision {
        Decision::Respond(answer) => answer,
        Decision::Proxy(exchange) => panic!("proxied: {exchange:?}"),
    }
}

pub(super) fn exchange(decision: Decision) -> Exchange {
    match decision {
        Decision::Proxy(exchange) => *exchange,
        Decision::Respond(answer) => panic!("answered: {answer:?}"),
    }
}

pub(super) fn header<'a>(answer: &'a OwnAnswer, name: &str) -> Option<&'a str> {
    answer.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.to_str().unwrap())
}

#[test]
fn a_client_s_request_goes_to_the_own_region_first_then_to_the_nearest() {
    let mut exchange = exchange(Fixture::new().get("WWW.example.com:8080", "/a"));
    assert!(!exchange.is_forwarded());
    let own = exchange.attempts.next(0, Time::ZERO).unwrap();
    assert_eq!((own.place, own.region.as_str()), (Place::Own, "home"));
    assert_eq!(exchange.forward_edits(&own), None);
    let peer = exchange.attempts.next(0, Time::ZERO).unwrap();
    assert_eq!((peer.place, peer.region.as_str()), (Place::Peer, "away"));
    let forward = exchange.forward_edits(&peer).unwrap();
    let text: Vec<_> = forward.set.iter().map(|(n, v)| (n.as_str(), v.to_str().unwrap())).collect();
    assert_eq!(
        text,
        [
            ("x-proxima-forwarded-by", "home"),
            ("x-proxima-service", "web"),
            ("x-proxima-priority", "normal"),
            ("x-proxima-client", "192.0.2.1"),
        ]
    );
}

#[test]
fn a_request_without_a_route_is_404_and_says_its_id() {
    for host in ["other.example.com", "", "[::1]:80"] {
        let answer = answer(Fixture::new().get(host, "/"));
        assert_eq!((answer.status.as_u16(), &answer.cause), (404, &Cause::Unrouted), "{host}");
        assert!(matches!(&answer.content, Content::Error(text) if &**text == "no route"), "{answer:?}");
        assert_eq!(answer.request_id.len(), 32);
    }
}

#[test]
fn nowhere_to_go_is_503_at_once() {
    let mut fixture = Fixture::new();
    fixture.service(|service| service.candidates = Default::default());
    let mut exchange = exchange(fixture.get("www.example.com", "/"));
    assert!(exchange.attempts.next(0, Time::ZERO).is_none());
    let answer = exchange.give_up(None);
    assert_eq!((answer.status.as_u16(), header(&answer, "x-proxima-refused")), (503, None));
}

#[test]
fn the_last_failure_picks_the_status_and_nothing_internal_reaches_a_client() {
    let exchange = exchange(Fixture::new().get("www.example.com", "/"));
    for (failure, status) in [
        (Failure::Connect, 502),
        (Failure::Closed, 502),
        (Failure::Malformed, 502),
        (Failure::Timeout, 504),
        (Failure::Refused, 503),
    ] {
        let answer = exchange.give_up(Some(failure));
        assert_eq!(answer.status.as_u16(), status, "{failure:?}");
        assert!(answer.headers.is_empty(), "{failure:?}");
    }
}

#[test]
fn health_edge_is_200_for_any_host_before_routing() {
    let fixture = Fixture::new();
    for host in ["", "192.0.2.1", "www.example.com"] {
        assert_eq!(answer(fixture.get(host, "/health/edge")).status, 200, "{host}");
    }
    assert_eq!(answer(fixture.ask(Method::POST, "", "/health/edge", &[], client())).status, 405);
    // A service's own path that only begins like it is the service's.
    exchange(fixture.get("www.example.com", "/health/edges"));
}

#[test]
fn health_gate_closes_only_when_every_name_is_closed() {
    let (open, closed) = (Gate::Open, Gate::Closed);
    for (gates, path, status) in [
        (vec![], "/health/gate", 200),
        (vec![("a.example.com", open)], "/health/gate", 200),
        (vec![("a.example.com", closed)], "/health/gate", 503),
        (vec![("a.example.com", closed), ("b.example.com", open)], "/health/gate", 200),
        (vec![("a.example.com", closed), ("b.example.com", closed)], "/health/gate", 503),
        (vec![("a.example.com", closed), ("b.example.com", open)], "/health/gate/a.example.com", 503),
        (vec![("a.example.com", closed), ("b.example.com", open)], "/health/gate/b.example.com", 200),
        // A name that is not known (yet): a booting edge stays in DNS.
        (vec![("a.example.com", closed)], "/health/gate/c.example.com", 200),
    ] {
        let mut fixture = Fixture::new();
        fixture.gates(&gates);
        assert_eq!(answer(fixture.get("192.0.2.1", path)).status.as_u16(), status, "{path} {gates:?}");
    }
    // Whoever decides no more does not know whether it is over.
    let mut fixture = Fixture::new();
    fixture.gates(&[("a.example.com", closed)]);
    for (seconds, status) in [(5, 503), (6, 200)] {
        fixture.idle = Duration::from_secs(seconds);
        let answer = answer(fixture.get("192.0.2.1", "/health/gate/a.example.com"));
        assert_eq!(answer.status.as_u16(), status, "after {seconds} s");
    }
}

#[test]
fn a_forwarded_request_is_served_by_own_endpoints_only() {
    let mut exchange = exchange(Fixture::new().forwarded("/", "web"));
    assert!(exchange.is_forwarded());
    assert_eq!(exchange.attempts.next(0, Time::ZERO).unwrap().place, Place::Own);
    assert!(exchange.attempts.next(0, Time::ZERO).is_none(), "never forwarded again");
}

#[test]
fn a_forwarded_request_that_is_not_served_here_gets_the_typed_503() {
    let mut no_room = Fixture::new();
    no_room.service(|service| service.accepts_forwarded = false);
    let mut no_service = Fixture::new();
    no_service.service(|service| {
        service.accepts_forwarded = false;
        service.states = [(region("home"), State::Ejected)].into();
    });
    for (fixture, service, reason, cause) in [
        (&no_room, "web", "no_room", RefusalReason::NoRoom),
        (&no_service, "web", "no_service", RefusalReason::NoService),
        (&no_room, "unheard-of", "no_service", RefusalReason::NoService),
    ] {
        let answer = answer(fixture.forwarded("/", service));
        assert_eq!(answer.status, 503);
        assert_eq!(header(&answer, "x-proxima-refused"), Some(reason));
        assert_eq!(answer.cause, Cause::Refused(cause));
    }
}

#[test]
fn a_forwarded_request_whose_own_endpoints_failed_is_typed_when_another_region_may_try() {
    let get = exchange(Fixture::new().forwarded("/", "web"));
    let headers = [("x-proxima-forwarded-by", "away"), ("x-proxima-service", "web")];
    let post = exchange(Fixture::new().ask(Method::POST, "www.example.com", "/", &headers, Origin::Peer));
    for (failure, get_typed, post_typed) in [
        (None, true, true),
        (Some(Failure::Connect), true, true),
        (Some(Failure::Busy), true, true),
        (Some(Failure::Closed), true, false),
        (Some(Failure::Timeout), false, false),
        (Some(Failure::Late), false, false),
    ] {
        for (exchange, typed) in [(&get, get_typed), (&post, post_typed)] {
            let answer = exchange.give_up(failure);
            assert_eq!(header(&answer, "x-proxima-refused").is_some(), typed, "{failure:?}");
        }
    }
}

#[test]
fn the_probe_s_path_is_the_probe_s_on_the_peer_listener_only() {
    let fixture = Fixture::new();
    let probe = answer(fixture.ask(Method::GET, "", "/.proxima/view", &[], Origin::Peer));
    assert_eq!((probe.status.as_u16(), probe.content), (200, Content::View));
    assert_eq!(answer(fixture.ask(Method::POST, "", "/.proxima/view", &[], Origin::Peer)).status, 405);
    for (method, status) in [(Method::GET, 200), (Method::POST, 200), (Method::PUT, 405)] {
        let said = answer(fixture.ask(method, "", "/.proxima/sibling", &[], Origin::Peer));
        assert_eq!(said.status, status);
    }
    exchange(fixture.get("www.example.com", "/.proxima/view"));
    assert_eq!(answer(fixture.get("", "/.proxima/view")).status, 404);
    // A client's request for that path, forwarded.
    exchange(fixture.forwarded("/.proxima/view", "web"));
}

#[test]
fn a_stray_request_on_the_peer_listener_is_400() {
    let answer = answer(Fixture::new().ask(Method::GET, "www.example.com", "/", &[], Origin::Peer));
    assert_eq!((answer.status.as_u16(), header(&answer, "x-proxima-refused")), (400, None));
}

#[test]
fn a_client_cannot_pass_for_a_peer() {
    let headers = [("x-proxima-forwarded-by", "away"), ("x-proxima-service", "web")];
    let fixture = Fixture::new();
    let exchange = exchange(fixture.ask(Method::GET, "www.example.com", "/", &headers, client()));
    assert!(!exchange.is_forwarded());
    assert!(exchange.edits.remove.iter().any(|name| name == "x-proxima-forwarded-by"));
}

#[test]
fn methods_that_may_have_an_effect_twice_are_not_idempotent() {
    for (method, retried) in [
        (Method::GET, true),
        (Method::HEAD, true),
        (Method::OPTIONS, true),
        (Method::TRACE, true),
        (Method::PUT, true),
        (Method::DELETE, true),
        (Method::POST, false),
        (Method::PATCH, false),
    ] {
        let mut exchange =
            exchange(Fixture::new().ask(method.clone(), "www.example.com", "/", &[], client()));
        let verdict = exchange.attempts.failed(Failure::Closed, Body::Replayable);
        assert_eq!(matches!(verdict, Verdict::Retry(_)), retried, "{method}");
    }
}
