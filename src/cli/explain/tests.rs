//! What people are told in several situations, word by word.

use super::*;
use crate::config::ConfigText;
use crate::domain::fleet::{
    DnsReport, EndpointAnswer, Input, Outcome, OutcomeResult, OutcomeRun, Probe, RegionAnswer, Target,
};
use crate::domain::health::Word;
use crate::domain::latency::Rtt;
use crate::domain::name::{EntryId, ServiceId};
use crate::domain::operator::{Drain, Freeze, OperatorState, Said};
use crate::domain::plan::{Fence, Generation, NameState};
use crate::domain::view::{ServiceView, View};
use crate::domain::votes::Witness;
use crate::domain::weights::WeightedSet;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

const TEXT: &str = r#"
[edge]
region = "eu"
[[listeners]]
name = "http"
address = "127.0.0.1:0"
[peer]
address = "127.0.0.1:0"
certificate = "peer.pem"
key = "peer.key"
ca = "ca.pem"
[regions.eu]
peer = "eu.example.net:8443"
addresses = ["203.0.113.1"]
capacity = 500
[regions.us]
peer = "us.example.net:8443"
addresses = ["203.0.113.2"]
[regions.ap]
bias = "20ms"
peer = "ap.example.net:8443"
addresses = ["203.0.113.3"]
[services.web]
endpoints.eu = ["10.0.0.1:80", "10.0.0.2:80"]
[services.beta]
endpoints.eu = ["10.0.0.3:80"]
[[routes]]
name = "post"
hosts = ["www.example.com"]
path_prefix = "/api"
methods = ["POST"]
service = "web"
[[routes]]
name = "api"
hosts = ["www.example.com"]
path_prefix = "/api"
split = { web = 90, beta = 10 }
[[routes]]
name = "all"
hosts = ["www.example.com"]
path_prefix = "/"
service = "web"
[[routes]]
name = "old"
hosts = ["old.example.com"]
path_prefix = "/"
redirect = { host = "www.example.com" }
[names."www.example.com"]
form = "simple"
weights = { eu = 50, us = 30, ap = 20 }
services = ["web"]
[dns]
zone_id = "Z0123456789ABC"
"#;

struct Case {
    fleet: Fleet,
    now: Time,
    sequence: u64,
}

fn web() -> ServiceId {
    ServiceId::parse("web").unwrap()
}

impl Case {
    fn new() -> Self {
        let text = ConfigText { file: "edge.toml".to_owned(), text: TEXT.into(), region: None, zone: None };
        let policy = text.policy().unwrap_or_else(|problems| panic!("{problems}"));
        Self { fleet: Fleet::new(policy, 7), now: Time::from_millis(3_600_000), sequence: 0 }
    }

    /// Everything was heard for some seconds, and all of it is well.
    fn well() -> Self {
        let mut case = Self::new();
        for service in ["web", "beta"] {
            let addresses: Vec<_> = case.pods(service).collect();
            let target = Target::Service(ServiceId::parse(service).unwrap());
            case.tell(Input::Resolved { target, addresses });
        }
        for (n, region) in [(2, "us"), (3, "ap")] {
            let addresses = vec![([203, 0, 113, n], 8443).into()];
            let target = Target::Peer(RegionId::parse(region).unwrap());
            case.tell(Input::Resolved { target, addresses });
        }
        case.seconds(5, Word::Up);
        case
    }

    fn pods(&self, service: &str) -> std::vec::IntoIter<std::net::SocketAddr> {
        let pods: &[u8] = if service == "web" { &[1, 2] } else { &[3] };
        pods.iter().map(|n| ([10, 0, 0, *n], 80).into()).collect::<Vec<_>>().into_iter()
    }

    fn tell(&mut self, input: Input) {
        self.fleet.handle(input, self.now);
    }

    fn seconds(&mut self, seconds: u32, us: Word) {
        for _ in 0..seconds {
            for service in ["web", "beta"] {
                for address in self.pods(service) {
                    let (service, result) = (ServiceId::parse(service).unwrap(), Ok(EndpointAnswer::Well));
                    self.tell(Input::Probed(Probe::Endpoint { service, address, result }));
                }
            }
            self.peer("us", 80, us);
            self.peer("ap", 210, Word::Up);
            for _ in 0..4 {
                self.now = self.now + Duration::from_millis(250);
                self.tell(Input::Tick);
            }
        }
    }

    fn peer(&mut self, name: &str, rtt: u64, web_is: Word) {
        self.sequence += 1;
        let region = RegionId::parse(name).unwrap();
        let mut view = View::first(region.clone(), 3, self.fleet.policy().agreement_hash());
        view.sequence = self.sequence;
        Arc::make_mut(&mut view.services).insert(web(), ServiceView::of(web_is));
        let regions = self.fleet.policy().regions.keys().cloned();
        let votes = regions.map(|r| if r.as_str() == "us" { (r, web_is) } else { (r, Word::Up) });
        view.votes.insert(DnsName::parse("www.example.com").unwrap(), Arc::new(votes.collect()));
        let answer = RegionAnswer { rtt: Some(Rtt::millis(rtt)), view: Arc::new(view) };
        self.tell(Input::Probed(Probe::Region { region, result: Ok(answer) }));
    }

    fn request(&self, method: &str, host: &str, path: &str) -> String {
        let mut question = Question::get(host.to_owned(), String::new()).with_path(path);
        question.method = method.to_owned();
        render::request(&self.fleet.explain(&question, self.now))
    }
}

#[test]
fn before_anything_was_heard_the_configuration_says_what_would_be_asked() {
    assert_eq!(
        Case::new().request("GET", "www.example.com", "/x"),
        r#"
GET https://www.example.com/x, at an edge in eu
route    all (host www.example.com, prefix /, no conditions): forwards
service  web: configuration_only
    -  eu               unknown, capacity 500/s, room for 500/s, 0 endpoints
    -  ap               unknown, distance unknown, 0 endpoints
    -  us               unknown, distance unknown, 0 endpoints
rule     configuration_only: nothing was heard yet: the own region first where it has endpoints
"#
        .trim_start()
    );
}

#[test]
fn when_all_is_well_the_own_region_serves() {
    assert_eq!(Case::well().request("GET", "WWW.example.com:443", "/api/%78?q=1"), r#"
GET https://WWW.example.com:443/api/%78?q=1, at an edge in eu
path     /api/x in its normal form
route    api (host www.example.com, prefix /api, no conditions): forwards
  not    post would come first, but asks for method POST
  not    all would take it too, but comes later: no conditions
service  web, 90 % of the requests: own_region_first
    1  eu               healthy by probes, first for 100 % of requests, capacity 500/s, room for 500/s, 2 endpoints
       votes for www.example.com: ap up, eu up, us up
    2  us               healthy by probes, first for 0 % of requests, 80.0 ms away (sample 1.0 s old), heard 1.0 s ago, 1 endpoint
       votes for www.example.com: ap up, eu up, us up
    3  ap               healthy by probes, first for 0 % of requests, 210.0 ms away (sample 1.0 s old), ranked as 230.0 ms, heard 1.0 s ago, 1 endpoint
       votes for www.example.com: ap up, eu up, us up
service  beta, 10 % of the requests: own_region_first
    1  eu               healthy by probes, first for 100 % of requests, capacity 500/s, room for 500/s, 1 endpoint
    -  us               unknown, 80.0 ms away (sample 1.0 s old), heard 1.0 s ago, 1 endpoint, left out: its state
    -  ap               unknown, 210.0 ms away (sample 1.0 s old), ranked as 230.0 ms, heard 1.0 s ago, 1 endpoint, left out: its state
rule     own_region_first: the own region is well and has room: it comes first
"#.trim_start());
}

#[test]
fn requests_that_fail_send_users_to_the_nearest_region() {
    let mut case = Case::well();
    for address in case.pods("web") {
        let outcome = Outcome {
            service: web(),
            region: RegionId::parse("eu").unwrap(),
            address,
            result: OutcomeResult::Failure,
        };
        let run = OutcomeRun { count: 20, ..OutcomeRun::one(outcome, Duration::ZERO) };
        case.tell(Input::Outcomes(vec![run]));
    }
    case.seconds(1, Word::Up);
    assert_eq!(case.request("POST", "www.example.com", "/api"), r#"
POST https://www.example.com/api, at an edge in eu
route    post (host www.example.com, prefix /api, 1 condition): forwards
  not    api would take it too, but comes later: no conditions
  not    all would take it too, but comes later: no conditions
service  web: nearest_healthy
    1  us               healthy by probes, first for 100 % of requests, 80.0 ms away (sample 1.0 s old), heard 1.0 s ago, 1 endpoint
       votes for www.example.com: ap up, eu up, us up
    2  ap               healthy by probes, first for 0 % of requests, 210.0 ms away (sample 1.0 s old), ranked as 230.0 ms, heard 1.0 s ago, 1 endpoint
       votes for www.example.com: ap up, eu up, us up
    -  eu               ejected by requests of this edge, capacity 500/s, room for 500/s, 2 endpoints, left out: its state
       votes for www.example.com: ap up, eu up, us up
rule     nearest_healthy: the own region cannot be used: the nearest healthy one comes first
"#.trim_start());
}

#[test]
fn what_no_route_takes_and_what_a_route_answers_itself() {
    let case = Case::well();
    assert_eq!(
        case.request("GET", "other.example.com", "/api"),
        r#"
GET https://other.example.com/api, at an edge in eu
route    none
  not    post has the path, but asks for host www.example.com
  not    api has the path, but asks for host www.example.com
  not    all has the path, but asks for host www.example.com
  not    old has the path, but asks for host old.example.com
rule     no_route: no route takes it: answered with 404
"#
        .trim_start()
    );
    assert_eq!(
        case.request("GET", "old.example.com", "/"),
        r#"
GET https://old.example.com/, at an edge in eu
route    old (host old.example.com, prefix /, no conditions): redirects with 307
rule     route_answers: the route answers itself
"#
        .trim_start()
    );
    assert_eq!(
        case.request("GET", "www.example.com", "/../x"),
        r#"
GET https://www.example.com/../x, at an edge in eu
path     the path climbs above its root
route    none
rule     bad_path: the path may be read in several ways, or is none: answered with 400
"#
        .trim_start()
    );
}

#[test]
fn a_name_is_told_with_votes_evidence_and_the_rule_that_holds_it() {
    let mut case = Case::well();
    case.seconds(8, Word::Down);
    let name = DnsName::parse("www.example.com").unwrap();
    assert_eq!(render::name(&case.fleet.explain_name(&name, case.now).unwrap()), r#"
www.example.com, at an edge in eu: its records were not read yet
entry    all              not read yet
region   ap               up; 3 votes, 2 needed (ap up, eu up, us up); itself says up, its health check is unknown
region   eu               up; 3 votes, 2 needed (ap up, eu up, us up); itself says up, its health check is unknown
region   us               down; 3 votes, 2 needed (ap up, eu down, us down); itself says down, its health check is unknown
writers  1 stand before this region
gate     open
rule     nothing is held back
"#.trim_start());
}

impl Case {
    /// The records as read now, the checkers' answers too; changed `ago` by `ap`.
    fn read(&mut self, weights: &[(&str, f64)], ago: Duration, operator: OperatorState) {
        let shares = weights.iter().map(|(n, share)| (RegionId::parse(n).unwrap(), *share)).collect();
        let state = NameState {
            fence: Fence { epoch: "e".to_owned(), generation: Generation::new(5) },
            writer: Some(RegionId::parse("ap").unwrap()),
            changed_at: Some(self.now.before(ago)),
            claim: Some(self.now.before(ago).since(Time::ZERO)),
            operator,
            sets: BTreeMap::from([(
                EntryId::parse("all").unwrap(),
                WeightedSet::from_shares(&shares).unwrap(),
            )]),
        };
        self.tell(Input::Dns(DnsReport::Read { name: www(), state: Box::new(state) }));
        for region in ["ap", "eu", "us"] {
            let (region, witness) = (RegionId::parse(region).unwrap(), Witness::Green);
            self.tell(Input::Dns(DnsReport::Witness { region, witness }));
        }
    }

    fn name(&self) -> String {
        render::name(&self.fleet.explain_name(&www(), self.now).unwrap())
    }
}

fn www() -> DnsName {
    DnsName::parse("www.example.com").unwrap()
}

const HOME: [(&str, f64); 3] = [("eu", 0.5), ("us", 0.3), ("ap", 0.2)];
const HOUR: Duration = Duration::from_secs(3600);

#[test]
fn a_name_that_is_well_is_told_with_every_rule() {
    let mut case = Case::well();
    case.read(&HOME, HOUR, OperatorState::default());
    case.seconds(1, Word::Up);
    assert_eq!(case.name(), r#"
www.example.com, at an edge in eu: generation 5, changed 3601 s ago by ap
entry    all              ap 20, eu 50, us 30, as wanted
region   ap               up; 3 votes, 2 needed (ap up, eu up, us up); itself says up, its health check is green
region   eu               up; 3 votes, 2 needed (ap up, eu up, us up); itself says up, its health check is green
region   us               up; 3 votes, 2 needed (ap up, eu up, us up); itself says up, its health check is green
check    foreign              passed
check    disagreement         passed
check    no_majority          passed
check    no_evidence          passed
check    frozen               not applicable
check    min_live             not applicable
check    never_empty          not applicable
check    needs_operator       not applicable
check    max_shift            not applicable
check    above_capacity       not applicable
check    hold_down            not applicable
check    max_changes_per_hour not applicable
check    undoes_other         not applicable
check    just_woke            not applicable
check    not_holder           not applicable
check    not_writer           not applicable
check    unread               not applicable
writers  1 stand before this region
gate     open
rule     nothing is held back
"#.trim_start());
}

#[test]
fn a_return_that_is_held_back_names_the_rules_that_refuse_it_and_how_long() {
    let mut case = Case::well();
    let evacuated = [("eu", 0.8), ("ap", 0.2)];
    case.read(&evacuated, Duration::from_secs(60), OperatorState::default());
    case.seconds(1, Word::Up);
    assert_eq!(case.name(), r#"
www.example.com, at an edge in eu: generation 5, changed 61 s ago by ap
entry    all              ap 20, eu 80, wanted: ap 20, eu 50, us 30
region   ap               up; 3 votes, 2 needed (ap up, eu up, us up); itself says up, its health check is green
region   eu               up; 3 votes, 2 needed (ap up, eu up, us up); itself says up, its health check is green
region   us               up; 3 votes, 2 needed (ap up, eu up, us up); itself says up, its health check is green
check    foreign              passed
check    disagreement         passed
check    no_majority          passed
check    no_evidence          passed
check    frozen               passed
check    min_live             passed
check    never_empty          passed
check    needs_operator       not applicable
check    max_shift            passed
check    above_capacity       passed
check    hold_down            refused: 119 s to go
check    max_changes_per_hour passed
check    undoes_other         passed
check    just_woke            passed
check    not_holder           passed
check    not_writer           refused: 20 s to go
check    unread               passed
writers  1 stand before this region
gate     open
rule     held back by hold_down
"#.trim_start());
}

#[test]
fn a_drained_region_is_told_with_the_operators_reason() {
    let mut case = Case::well();
    let drain = Drain { said: Said::new("bad deploy", "alice"), expires_at: None };
    let drains = BTreeMap::from([(RegionId::parse("us").unwrap(), drain)]);
    case.read(&HOME, HOUR, OperatorState { drains, ..OperatorState::default() });
    // Long enough for the region whose turn it was.
    case.seconds(21, Word::Up);
    assert_eq!(case.name(), r#"
www.example.com, at an edge in eu: generation 5, changed 3621 s ago by ap
entry    all              ap 20, eu 50, us 30, wanted: ap 20, eu 80
region   ap               up; 3 votes, 2 needed (ap up, eu up, us up); itself says up, its health check is green
region   eu               up; 3 votes, 2 needed (ap up, eu up, us up); itself says up, its health check is green
region   us               up, drained; 3 votes, 2 needed (ap up, eu up, us up); itself says up, its health check is green
check    foreign              passed
check    disagreement         passed
check    no_majority          passed
check    no_evidence          passed
check    frozen               passed
check    min_live             passed
check    never_empty          passed
check    needs_operator       not applicable
check    max_shift            passed
check    above_capacity       passed
check    hold_down            passed
check    max_changes_per_hour passed
check    undoes_other         passed
check    just_woke            passed
check    not_holder           passed
check    not_writer           passed
check    unread               passed
operator drains us: bad deploy
writers  1 stand before this region
gate     open
rule     nothing is held back
"#.trim_start());
}

#[test]
fn a_frozen_name_holds_even_an_evacuation_back() {
    let mut case = Case::well();
    let freeze = Some(Freeze { said: Said::new("release 7", "bob") });
    case.read(&HOME, HOUR, OperatorState { freeze, ..OperatorState::default() });
    case.seconds(8, Word::Down);
    assert_eq!(case.name(), r#"
www.example.com, at an edge in eu: generation 5, changed 3608 s ago by ap
entry    all              ap 20, eu 50, us 30, wanted: ap 20, eu 80
region   ap               up; 3 votes, 2 needed (ap up, eu up, us up); itself says up, its health check is green
region   eu               up; 3 votes, 2 needed (ap up, eu up, us up); itself says up, its health check is green
region   us               down; 3 votes, 2 needed (ap up, eu down, us down); itself says down, its health check is green
check    foreign              passed
check    disagreement         passed
check    no_majority          passed
check    no_evidence          passed
check    frozen               refused: release 7
check    min_live             passed
check    never_empty          passed
check    needs_operator       not applicable
check    max_shift            not applicable
check    above_capacity       not applicable
check    hold_down            not applicable
check    max_changes_per_hour not applicable
check    undoes_other         passed
check    just_woke            passed
check    not_holder           passed
check    not_writer           refused: 20 s to go
check    unread               passed
operator froze it: release 7
writers  1 stand before this region
gate     open
rule     held back by frozen
"#.trim_start());
}
