use super::*;
use serde_json::{Value, json};

fn zone(name: &str) -> Zone {
    Zone::parse(name).unwrap()
}

fn slice(value: Value) -> Option<Slice> {
    Slice::read(&serde_json::from_value(value).unwrap())
}

/// A slice of `endpoints` with port `http` = 8080.
fn web(endpoints: Value) -> Slice {
    let family = if endpoints[0]["addresses"][0].to_string().contains("::") { "IPv6" } else { "IPv4" };
    slice(json!({
        "metadata": {}, "addressType": family, "ports": [{ "name": "http", "port": 8080 }],
        "endpoints": endpoints,
    }))
    .unwrap()
}

fn at(address: &str, ready: Value, serving: Value, terminating: Value) -> Value {
    json!({
        "addresses": [address],
        "conditions": { "ready": ready, "serving": serving, "terminating": terminating },
    })
}

fn ready(address: &str) -> Value {
    at(address, json!(true), json!(true), json!(false))
}

fn found(slices: &[Slice], own: Option<&str>) -> Found {
    merge(slices.iter(), &SlicePort::Name("http".to_owned()), own.map(zone).as_ref())
}

fn addresses(slices: &[Slice]) -> Vec<String> {
    found(slices, None).addresses.iter().map(SocketAddr::to_string).collect()
}

#[test]
fn the_ready_are_used_and_when_there_is_none_those_that_leave_and_still_serve() {
    let (yes, no, unsaid) = (json!(true), json!(false), Value::Null);
    let of = |r: &Value, s: &Value, t: &Value| at("10.0.0.1", r.clone(), s.clone(), t.clone());
    // (what, the endpoint, alone it is used, beside a ready one it is used)
    for (what, endpoint, alone, beside) in [
        ("ready", of(&yes, &yes, &no), true, true),
        ("nothing said is ready", json!({ "addresses": ["10.0.0.1"] }), true, true),
        ("no condition set is ready", of(&unsaid, &unsaid, &unsaid), true, true),
        ("ready though it terminates (not-ready ones are published)", of(&yes, &yes, &yes), true, true),
        ("not ready", of(&no, &no, &no), false, false),
        ("serving is not ready", of(&no, &yes, &no), false, false),
        ("terminating and serving", of(&no, &yes, &yes), true, false),
        ("terminating and done", of(&no, &no, &yes), false, false),
        ("terminating, not ready, nothing said of serving", of(&no, &unsaid, &yes), false, false),
        ("no address", json!({ "addresses": [] }), false, false),
        ("an address that is none", json!({ "addresses": ["web-0.example.net"] }), false, false),
    ] {
        let used = |slice: Slice| addresses(&[slice]).contains(&"10.0.0.1:8080".to_owned());
        assert_eq!(used(web(json!([endpoint]))), alone, "{what}, alone");
        assert_eq!(used(web(json!([endpoint, ready("10.0.0.2")]))), beside, "{what}, beside a ready one");
    }
}

#[test]
fn slices_of_both_families_are_one_list_and_nothing_stands_in_it_twice() {
    let four = web(json!([ready("10.0.0.2"), ready("10.0.0.1")]));
    let six = web(json!([ready("2001:db8::1")]));
    // On its way from one slice to the other it stands in both, and one of them is late.
    let late = web(json!([at("10.0.0.1", json!(false), json!(false), json!(false)), ready("10.0.0.3")]));
    let expected = ["10.0.0.1:8080", "10.0.0.2:8080", "10.0.0.3:8080", "[2001:db8::1]:8080"];
    assert_eq!(addresses(&[four.clone(), six.clone(), late.clone()]), expected);
    assert_eq!(addresses(&[late, six, four]), expected, "in whatever order they come");
}

#[test]
fn the_first_address_stands_for_the_endpoint_and_slices_of_names_are_none() {
    let many = json!([{ "addresses": ["10.0.0.1", "10.0.0.9"] }]);
    assert_eq!(addresses(&[web(many)]), ["10.0.0.1:8080"]);
    let names = json!({ "metadata": {}, "addressType": "FQDN", "endpoints": [] });
    assert_eq!(slice(names), None);
}

#[test]
fn a_port_is_found_by_name_or_number_in_each_slice_for_itself() {
    let with = |ports: Value, address: &str| {
        let endpoints = json!([ready(address)]);
        slice(json!({ "metadata": {}, "addressType": "IPv4", "ports": ports, "endpoints": endpoints }))
            .unwrap()
    };
    let slices = [
        with(json!([{ "name": "http", "port": 8080 }, { "name": "admin", "port": 9000 }]), "10.0.0.1"),
        with(json!([{ "name": "http", "port": 8081, "protocol": "TCP" }]), "10.0.0.2"),
        with(json!([{ "name": "http", "port": 8080, "protocol": "UDP" }]), "10.0.0.3"),
        with(json!([{ "port": 8080 }]), "10.0.0.4"),
        with(json!([{ "name": "http" }]), "10.0.0.5"),
        with(json!([{ "name": "http", "port": 0 }, { "name": "x", "port": 70_000 }]), "10.0.0.6"),
        with(json!(null), "10.0.0.7"),
    ];
    let of = |port: SlicePort| merge(slices.iter(), &port, None).addresses;
    let named = |name: &str| of(SlicePort::Name(name.to_owned()));
    let text = |found: Vec<SocketAddr>| found.iter().map(SocketAddr::to_string).collect::<Vec<_>>();
    assert_eq!(text(named("http")), ["10.0.0.1:8080", "10.0.0.2:8081"], "a name, whatever its number");
    assert_eq!(text(named("admin")), ["10.0.0.1:9000"]);
    assert_eq!(text(named("none")), Vec::<String>::new());
    assert_eq!(
        text(of(SlicePort::Number(8080))),
        ["10.0.0.1:8080", "10.0.0.4:8080"],
        "a number, with or without a name"
    );
}

/// An endpoint in `is`, hinted for `zones`.
fn placed(address: &str, is: Option<&str>, zones: &[&str]) -> Value {
    let hints: Vec<Value> = zones.iter().map(|zone| json!({ "name": zone })).collect();
    let hints = if hints.is_empty() { Value::Null } else { json!({ "forZones": hints }) };
    json!({ "addresses": [address], "zone": is, "hints": hints })
}

#[test]
fn hints_place_endpoints_when_all_have_them_and_one_is_for_the_own_zone() {
    let (one, two) = ("10.0.0.1", "10.0.0.2");
    let in_a_for_b = || placed(one, Some("a"), &["b"]);
    // (what, endpoints, own zone, the zones that the two are taken to be in)
    for (what, endpoints, own, expected) in [
        ("no hints", [placed(one, Some("a"), &[]), placed(two, Some("b"), &[])], Some("a"), ["a", "b"]),
        ("hints hold", [in_a_for_b(), placed(two, Some("b"), &["a"])], Some("a"), ["b", "a"]),
        ("one has none", [in_a_for_b(), placed(two, Some("b"), &[])], Some("b"), ["a", "b"]),
        ("none for here", [in_a_for_b(), placed(two, Some("b"), &["b"])], Some("c"), ["a", "b"]),
        ("no own zone", [in_a_for_b(), placed(two, Some("b"), &["a"])], None, ["a", "b"]),
        ("for several", [placed(one, Some("a"), &["b", "c"]), in_b_for("c")], Some("c"), ["c", "c"]),
        ("for several others", [placed(one, Some("a"), &["b", "d"]), in_b_for("c")], Some("c"), ["b", "c"]),
        ("no zone known", [placed(one, None, &[]), placed(two, Some("No Zone"), &[])], Some("a"), ["", ""]),
        (
            "a zone of hints only",
            [placed(one, None, &["a"]), placed(two, None, &["b"])],
            Some("a"),
            ["a", "b"],
        ),
    ] {
        let found = found(&[web(json!(endpoints))], own);
        assert_eq!(found.addresses.len(), 2, "{what}: hints take nothing away");
        let zones: Vec<&str> =
            found.addresses.iter().map(|at| found.zones.get(at).map_or("", Zone::as_str)).collect();
        assert_eq!(zones, expected, "{what}");
    }
}

fn in_b_for(zone: &str) -> Value {
    placed("10.0.0.2", Some("b"), &[zone])
}

#[test]
fn hints_of_endpoints_that_are_not_used_do_not_count() {
    let mut gone = placed("10.0.0.3", Some("a"), &[]);
    gone["conditions"] = json!({ "ready": false });
    let endpoints = json!([placed("10.0.0.1", Some("a"), &["b"]), gone]);
    let found = found(&[web(endpoints)], Some("b"));
    assert_eq!(found.zones.values().map(Zone::as_str).collect::<Vec<_>>(), ["b"]);
}

#[test]
fn hints_are_for_the_ready_only() {
    let mut leaving = [placed("10.0.0.1", Some("a"), &["b"]), placed("10.0.0.2", Some("b"), &["a"])];
    for endpoint in &mut leaving {
        endpoint["conditions"] = json!({ "ready": false, "serving": true, "terminating": true });
    }
    let found = found(&[web(json!(leaving))], Some("a"));
    assert_eq!(found.zones.values().map(Zone::as_str).collect::<Vec<_>>(), ["a", "b"]);
}

#[test]
fn more_addresses_than_a_service_may_have_are_counted_and_the_same_everywhere() {
    let many: Vec<Value> = (0..300).map(|n| ready(&format!("10.0.{}.{}", n / 250, n % 250))).collect();
    let (first, second) = many.split_at(150);
    let forward = found(&[web(json!(first)), web(json!(second))], None);
    let backward = found(&[web(json!(second)), web(json!(first))], None);
    assert_eq!((forward.addresses.len(), forward.left_out), (ADDRESSES_MAX, 300 - ADDRESSES_MAX));
    assert_eq!(forward, backward);
}
