use super::*;
use crate::domain::fleet::{Input, Probe};
use crate::domain::name::RegionId;
use crate::domain::policy::{FailoverPolicy, RegionPolicy, Steering};
use crate::domain::selection::Margin;

/// One region, one service; what happens to its endpoints.
struct Case {
    fleet: Fleet,
    now: Time,
    /// Of ejections, in their order.
    reasons: Vec<EjectionReason>,
}

fn web() -> ServiceId {
    ServiceId::parse("web").unwrap()
}

fn here() -> RegionId {
    RegionId::parse("here").unwrap()
}

fn address(n: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, n], 8080))
}

impl Case {
    fn new(endpoints: u8) -> Self {
        let policy = Policy {
            own: here(),
            regions: [(here(), RegionPolicy::default())].into(),
            services: [web()].into(),
            routes: Arc::default(),
            names: BTreeMap::new(),
            health: HealthPolicy::default(),
            margin: Margin::default(),
            rtt_window: Duration::from_secs(30),
            failover: FailoverPolicy::default(),
            steering: Steering::default(),
        };
        let (fleet, now) = (Fleet::new(Arc::new(policy), 1), Time::from_millis(1));
        let mut case = Self { fleet, now, reasons: Vec::new() };
        case.resolve(endpoints);
        case
    }

    fn resolve(&mut self, endpoints: u8) {
        let addresses: Vec<SocketAddr> = (0..endpoints).map(address).collect();
        self.handle(Input::Resolved { target: Target::Service(web()), addresses: addresses.clone() });
        for address in addresses {
            self.handle(Input::Probed(Probe::Endpoint {
                service: web(),
                address,
                result: Ok(EndpointAnswer::Well),
            }));
        }
    }

    fn handle(&mut self, input: Input) {
        for output in self.fleet.handle(input, self.now) {
            if let Output::Moved(Transition::Endpoint { ejected, .. }) = output {
                self.reasons.extend(ejected);
            }
        }
    }

    /// Lets a second pass.
    fn tick(&mut self) {
        for _ in 0..4 {
            self.now = self.now + Duration::from_millis(250);
            self.handle(Input::Tick);
        }
    }

    fn outcome(&mut self, n: u8, latency: Option<u64>) {
        let result = if latency.is_some() { OutcomeResult::Success } else { OutcomeResult::Failure };
        let outcome = Outcome { service: web(), region: here(), address: address(n), result };
        let latency = Duration::from_millis(latency.unwrap_or_default());
        self.handle(Input::Outcomes(vec![OutcomeRun::one(outcome, latency)]));
    }

    fn ejected(&self) -> Vec<u8> {
        let endpoints = self.fleet.services[&web()].endpoints.values();
        let ejected = endpoints.enumerate().filter(|(_, e)| e.health.state() == State::Ejected);
        ejected.map(|(n, _)| n as u8).collect()
    }

    fn share(&self, n: u8) -> f64 {
        self.fleet.services[&web()].endpoints[&address(n)].endpoint.share()
    }
}

#[test]
fn an_endpoint_that_fails_more_than_the_others_is_ejected_though_no_bound_of_its_own_is_broken() {
    let mut case = Case::new(4);
    for request in 0..200 {
        for n in 0..4 {
            case.outcome(n, (n != 2 || request % 4 != 0).then_some(10));
        }
    }
    assert_eq!(case.ejected(), Vec::<u8>::new());
    (0..11).for_each(|_| case.tick());
    assert_eq!((case.ejected(), case.reasons), (vec![2], vec![EjectionReason::SuccessRate]));
}

#[test]
fn an_endpoint_that_is_far_slower_than_the_others_is_ejected_and_comes_back_slowly() {
    let mut case = Case::new(4);
    for _ in 0..100 {
        (0..4).for_each(|n| case.outcome(n, Some(if n == 1 { 400 } else { 20 })));
    }
    (0..11).for_each(|_| case.tick());
    assert_eq!(case.ejected(), [1]);
    (0..10).for_each(|_| case.tick());
    assert_eq!(case.ejected(), Vec::<u8>::new());
    assert!(case.share(1) < 0.3, "{}", case.share(1));
    (0..25).for_each(|_| case.tick());
    assert_eq!(case.share(1), 1.0);
    assert_eq!(case.reasons, [EjectionReason::Latency]);
}

#[test]
fn when_all_fail_no_more_than_the_share_is_ejected() {
    let mut case = Case::new(6);
    for _ in 0..20 {
        (0..6).for_each(|n| case.outcome(n, None));
    }
    assert_eq!(case.ejected().len(), 3);
    assert_eq!(case.reasons, [EjectionReason::ConsecutiveFailures; 3]);
}

#[test]
fn who_joins_others_starts_slowly_and_the_first_ones_do_not() {
    let mut case = Case::new(2);
    case.tick();
    assert_eq!((case.share(0), case.share(1)), (1.0, 1.0));
    case.resolve(3);
    case.tick();
    assert!(case.share(2) < 0.2, "{}", case.share(2));
    (0..20).for_each(|_| case.tick());
    assert_eq!(case.share(2), 1.0);
}
