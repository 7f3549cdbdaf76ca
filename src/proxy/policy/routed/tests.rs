use super::*;
use crate::domain::name::{RouteId, ServiceId};
use crate::domain::routing::{
    Backends, FieldName, FieldValue, HeaderChanges, HostPattern, PathChange, PathPattern, PathPrefix,
    RedirectStatus, Rewrite, RouteTable, Scheme, Split,
};
use crate::domain::time::Time;
use crate::proxy::policy::tests::{Fixture, answer, client, exchange, header, web};
use crate::proxy::policy::{Decision, decide as decide_all};
use http::{Method, Version};
use std::time::Duration;

fn prefix(text: &str) -> PathPrefix {
    PathPrefix::parse(text).unwrap()
}

fn changes(set: &str, to: &str, remove: &str) -> HeaderChanges {
    HeaderChanges {
        remove: vec![FieldName::parse(remove).unwrap()],
        set: vec![(FieldName::parse(set).unwrap(), FieldValue::parse(to).unwrap())],
        add: Vec::new(),
    }
}

/// One route for every host.
fn fixture(path: PathPattern, action: Action, response_headers: HeaderChanges) -> Fixture {
    let mut fixture = Fixture::new();
    let route = Route::new(RouteId::parse("r").unwrap(), vec![HostPattern::Any], path, action);
    let table = RouteTable::new(vec![Route { response_headers, ..route }]).unwrap();
    fixture.snapshot.routes = Arc::new(table);
    fixture
}

fn to_web(rewrite: Rewrite, request_headers: HeaderChanges) -> Action {
    Action::Forward(Forward { to: Backends::Service(web()), rewrite, request_headers })
}

fn path_of(fixture: &Fixture, path: &str) -> Option<String> {
    exchange(fixture.get("a.test", path)).target.path_and_query.map(|path| path.to_string())
}

#[test]
fn a_service_gets_the_path_that_was_matched() {
    let fixture =
        fixture(PathPattern::any(), to_web(Rewrite::default(), HeaderChanges::default()), <_>::default());
    for (asked, upstream) in [
        ("/a/b?q=%7e", None),
        ("/%61/../b?q=%7e&r", Some("/b?q=%7e&r")),
        ("/a%2fb", Some("/a%2Fb")),
        ("/a/%2e%2E/b", Some("/b")),
    ] {
        assert_eq!(path_of(&fixture, asked).as_deref(), upstream, "{asked}");
    }
}

#[test]
fn a_path_that_leaves_its_root_is_400_and_is_not_matched() {
    let secret = fixture(
        PathPattern::Prefix(prefix("/public")),
        to_web(Rewrite::default(), HeaderChanges::default()),
        HeaderChanges::default(),
    );
    for (path, status) in
        [("/public/../../x", 400), ("/public/%2e%2e/x", 404), ("/x/../public", 200), ("/..", 400)]
    {
        let got = match secret.get("a.test", path) {
            Decision::Respond(answer) => answer.status.as_u16(),
            Decision::Proxy(_) => 200,
        };
        assert_eq!(got, status, "{path}");
    }
}

#[test]
fn a_rewrite_and_header_changes_go_with_the_exchange() {
    let rewrite = Rewrite {
        path: PathChange::Prefix { from: prefix("/api"), to: prefix("/") },
        host: HostChange::Fixed("internal.test".to_owned()),
    };
    let fixture = fixture(
        PathPattern::Prefix(prefix("/api")),
        to_web(rewrite, changes("x-forwarded-proto", "https", "cookie")),
        changes("strict-transport-security", "max-age=1", "server"),
    );
    let exchange = exchange(fixture.get("a.test", "/api/x?q=1"));
    let path = exchange.target.path_and_query.as_ref().map(PathAndQuery::as_str);
    assert_eq!(path, Some("/x?q=1"));
    assert_eq!(exchange.target.host, TargetHost::Fixed(Authority::from_static("internal.test")));
    let proto: Vec<_> = exchange.edits.set.iter().filter(|(name, _)| name == "x-forwarded-proto").collect();
    assert_eq!(proto.len(), 1, "the route's word replaces ours");
    assert_eq!(proto[0].1, "https");
    assert!(exchange.edits.remove.iter().any(|name| name == "cookie"));
    assert_eq!(exchange.response_edits.set[0].0, "strict-transport-security");
    assert_eq!(exchange.response_edits.remove[0], "server");
    assert_eq!(exchange.route.map(|route| route.id.to_string()).as_deref(), Some("r"));
}

#[test]
fn a_split_picks_by_its_own_random_number() {
    let other = ServiceId::parse("other").unwrap();
    let split = Split::new(vec![(web(), 1), (other.clone(), 1)]).unwrap();
    let forward = Forward {
        to: Backends::Split(split),
        rewrite: Rewrite::default(),
        request_headers: HeaderChanges::default(),
    };
    let fixture = fixture(PathPattern::any(), Action::Forward(forward), HeaderChanges::default());
    let ask = |split: u64| {
        let headers = HeaderMap::new();
        let head = RequestHead {
            method: &Method::GET,
            version: Version::HTTP_11,
            authority: "a.test",
            path: "/",
            query: "",
            length: Some(0),
            proof: Proof::None,
            headers: &headers,
            trusted: false,
            forwarded_for: None,
        };
        let world = World {
            snapshot: &fixture.snapshot,
            services: &fixture.services,
            guards: &fixture.guards,
            now: Time::ZERO,
            idle: Duration::ZERO,
        };
        decide_all(head, client(), world, Random { routing: 0, split, id: 0 })
    };
    assert_eq!(exchange(ask(0)).service, web());
    // Not in the snapshot: a service without candidates.
    assert_eq!(answer(ask(u64::MAX)).cause, Cause::Unavailable(other));
}

#[test]
fn a_redirect_says_where_to_and_is_counted_by_its_route() {
    let redirect = Redirect {
        status: RedirectStatus::Permanent,
        scheme: Some(Scheme::Https),
        host: None,
        port: None,
        path: PathChange::Keep,
        keep_query: true,
    };
    let fixture = fixture(PathPattern::any(), Action::Redirect(redirect), changes("x-a", "1", "x-b"));
    let answer = answer(fixture.get("WWW.example.com:8080", "/a/../b?q=1"));
    assert_eq!(answer.status, 308);
    assert_eq!(header(&answer, "location"), Some("https://WWW.example.com/b?q=1"));
    assert_eq!(answer.cause, Cause::Routed);
    assert_eq!(answer.route.as_ref().unwrap().id.as_str(), "r");
    assert_eq!(header(&answer, "x-a"), Some("1"));
}

#[test]
fn an_answer_of_a_route_is_its_text_and_nothing_else() {
    let respond = Respond {
        status: 410,
        text: "{\"gone\":true}".to_owned(),
        content_type: FieldValue::parse("application/json").unwrap(),
    };
    let fixture = fixture(PathPattern::any(), Action::Respond(respond), HeaderChanges::default());
    let answer = answer(fixture.get("a.test", "/"));
    assert_eq!(answer.status, 410);
    assert_eq!(header(&answer, "content-type"), Some("application/json"));
    assert_eq!(answer.content, Content::Text("{\"gone\":true}".into()));
}

#[test]
fn hosts_are_compared_without_port_case_and_final_dot() {
    for (authority, host, port) in [
        ("www.example.com", "www.example.com", None),
        ("www.example.com.", "www.example.com", None),
        ("www.example.com.:443", "www.example.com", Some(443)),
        ("www.example.com:", "www.example.com", None),
        ("[2001:db8::1]", "[2001:db8::1]", None),
        ("[2001:db8::1]:80", "[2001:db8::1]", Some(80)),
        ("", "", None),
    ] {
        assert_eq!(host_of(authority), (host, port), "{authority}");
    }
    assert_eq!(lower_case("WWW.Example.com"), "www.example.com");
}
