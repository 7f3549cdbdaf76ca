//! How large a view may get.

use super::edge::region;
use proxima::domain::health::Word;
use proxima::domain::latency::Rtt;
use proxima::domain::name::{DnsName, RegionId, ServiceId};
use proxima::domain::plan::Generation;
use proxima::domain::view::{CapacitySource, CapacityView, LoadView, ServiceView, View, WitnessView};
use proxima::domain::votes::Witness;
use std::sync::Arc;
use std::time::Duration;

#[test]
fn no_view_is_larger_than_its_bound() {
    let long = |n: usize, len: usize| format!("{n:0>len$}");
    let regions: Vec<RegionId> = (0..30).map(|n| region(&long(n, 63))).collect();
    let services: Vec<ServiceId> = (0..5).map(|n| ServiceId::parse(&long(n, 20)).unwrap()).collect();
    let names: Vec<DnsName> =
        (0..100).map(|n| DnsName::parse(&format!("{}.example.com", long(n, 40))).unwrap()).collect();
    let words = || Arc::new(regions.iter().map(|r| (r.clone(), Word::Unknown)).collect());
    let rtt = Rtt::new(Duration::from_micros(u64::from(u32::MAX)));
    let number = -999_999_999.9;
    let capacity = Some(CapacityView { rps: number, source: CapacitySource::Configured });
    let load = LoadView { rps: number, in_flight: u32::MAX, shed_rps: number, capacity };
    let rates = |count: usize| regions.iter().take(count).map(|r| (r.clone(), number)).collect();
    let service = ServiceView {
        word: Word::Unknown,
        draining: false,
        load: Some(load),
        entered_rps: number,
        asks: rates(ServiceView::ASKS_MAX),
        grants: rates(ServiceView::GRANTS_MAX),
        spare_rps: Some(number),
    };
    let reading = WitnessView { witness: Witness::Unknown, age_ms: u32::MAX };
    let view = View {
        region: regions[0].clone(),
        boot: u64::MAX,
        sequence: u64::MAX,
        policy: u64::MAX,
        services: Arc::new(services.iter().map(|s| (s.clone(), service.clone())).collect()),
        rtts: Arc::new(regions.iter().map(|r| (r.clone(), rtt)).collect()),
        votes: names.iter().map(|n| (n.clone(), words())).collect(),
        entered_rps: -f64::MAX,
        entered_by_name: names.iter().map(|n| (n.clone(), number)).collect(),
        headroom_rps: Some(-f64::MIN_POSITIVE),
        witnesses: regions.iter().map(|r| (r.clone(), reading)).collect(),
        draining: false,
        load,
        content: names.iter().map(|n| (n.clone(), Generation::new(u64::MAX))).collect(),
        spare_rps: Some(number),
    };
    let bytes = serde_json::to_vec(&view).unwrap().len();
    let bound = View::bytes_max(names.iter(), regions.iter(), services.iter());
    // A comma each is not there.
    assert!((bytes..bytes + 300).contains(&bound), "{bytes} bytes, bound {bound}");
}
