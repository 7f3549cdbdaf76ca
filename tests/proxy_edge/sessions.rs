//! Sessions: by cookie, by a header, by the client's address.

use crate::client::get;
use crate::origin::{Origin, ok};
use crate::protection::{edge, get_from};
use crate::support::{Authority, Plan, Running, start_with};
use proxima::config::{Config, Environment};
use proxima::domain::endpoint::Endpoint;
use proxima::domain::health::State;
use proxima::domain::snapshot::EndpointStatus;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];

fn sessions_moved(edge: &Running) -> f64 {
    edge.metric("proxima_sessions_moved_total{service=\"web\"}")
}

/// Origins that answer with their names.
async fn named() -> Vec<(&'static str, Origin)> {
    let mut origins = Vec::new();
    for name in NAMES {
        origins.push((name, Origin::start(move |_, _| ok(name)).await));
    }
    origins
}

/// All of them are known, those without this name serve.
fn serve_without(edge: &Running, origins: &[(&str, Origin)], gone: &str) {
    let serving: Vec<SocketAddr> =
        origins.iter().filter(|(name, _)| *name != gone).map(|(_, origin)| origin.address).collect();
    edge.route(&[("home", &serving)]);
    edge.change(|of, _| {
        let status = |(name, origin): &(&str, Origin)| EndpointStatus {
            endpoint: Arc::new(Endpoint::new(origin.address)),
            state: if *name == gone { State::Ejected } else { State::Healthy },
        };
        of.endpoints = origins.iter().map(status).collect();
    });
}

const BY_HEADER: &str = "[services.web.affinity]\nby = \"header:x-user\"\n";
const BY_CLIENT: &str = "[services.web.affinity]\nby = \"client\"\n";

#[tokio::test(flavor = "multi_thread")]
async fn each_value_of_a_header_stays_at_its_endpoint_and_only_those_of_one_that_is_gone_move() {
    let edge = edge(&Authority::new(), BY_HEADER, "").await;
    let origins = named().await;
    serve_without(&edge, &origins, "");
    let at = edge.http();
    let of = async |user: usize| get(at, "/", &format!("x-user: user-{user}\r\n")).await.body;
    let mut places = BTreeMap::new();
    for user in 0..30 {
        places.insert(user, of(user).await);
        for _ in 0..3 {
            assert_eq!(of(user).await, places[&user], "{user}");
        }
    }
    let used: std::collections::BTreeSet<&String> = places.values().collect();
    assert!(used.len() >= 4, "30 users at {used:?}");
    assert_eq!(sessions_moved(&edge), 0.0);
    let gone = places[&0].clone();
    serve_without(&edge, &origins, &gone);
    let mut moved = 0.0;
    for (user, place) in &places {
        let now = of(*user).await;
        assert_ne!(now, gone);
        assert!(now == *place || *place == gone, "{user} was at {place} and is at {now}");
        moved += f64::from(u8::from(now != *place));
    }
    assert_eq!(sessions_moved(&edge), moved);
    // It is back: so are they.
    serve_without(&edge, &origins, "");
    for (user, place) in &places {
        assert_eq!(of(*user).await, *place, "{user}");
    }
    assert_eq!(sessions_moved(&edge), moved);
    edge.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_without_the_header_goes_where_it_is_served_best() {
    let edge = edge(&Authority::new(), BY_HEADER, "").await;
    let origins = named().await;
    serve_without(&edge, &origins, "");
    let mut used = std::collections::BTreeSet::new();
    for _ in 0..60 {
        used.insert(get(edge.http(), "/", "").await.body);
    }
    assert!(used.len() >= 3, "{used:?}");
    assert_eq!(sessions_moved(&edge), 0.0);
    edge.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_client_stays_at_its_endpoint_whatever_connection_it_comes_by() {
    let edge = edge(&Authority::new(), BY_CLIENT, "").await;
    let origins = named().await;
    serve_without(&edge, &origins, "");
    let mut used = std::collections::BTreeSet::new();
    for last in 2..22 {
        let source = format!("127.0.0.{last}");
        let first = get_from(&source, edge.http(), "/", "").await.body;
        for _ in 0..3 {
            // What it says of itself is nobody's word.
            let again = get_from(
                &source,
                edge.http(),
                "/",
                "x-proxima-client: 192.0.2.1\r\nx-forwarded-for: 192.0.2.1\r\n",
            );
            assert_eq!(again.await.body, first, "{source}");
        }
        used.insert(first);
    }
    assert!(used.len() >= 3, "20 clients at {used:?}");
    edge.close().await;
}

const STICKY: &str = "[services.web.affinity]\nby = \"cookie\"\nsecret = SECRET";

/// Sessions by cookie, with a secret that all edges of this authority share.
fn sticky(authority: &Authority) -> String {
    let secret = authority.folder.join("affinity.key");
    std::fs::write(&secret, b"sixteen bytes or more of it").unwrap();
    STICKY.replace("SECRET", &format!("{secret:?}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_stays_at_its_endpoint_by_a_cookie_that_shows_nothing_and_moves_when_it_is_gone() {
    let authority = Authority::new();
    let edge = edge(&authority, &sticky(&authority), "").await;
    let mut origins = Vec::new();
    for name in ["a", "b", "c", "d"] {
        origins.push((name, Origin::start(move |_, _| ok(name)).await));
    }
    let addresses: Vec<_> = origins.iter().map(|(_, origin)| origin.address).collect();
    edge.route(&[("home", &addresses)]);
    let first = get(edge.http(), "/", "").await;
    let set = first.header("set-cookie").expect("a place").to_owned();
    assert!(set.starts_with("proxima_session=") && set.contains("; HttpOnly"), "{set}");
    assert!(!addresses.iter().any(|address| set.contains(&address.to_string())), "{set}");
    let cookie = format!("cookie: theme=dark; {}\r\n", set.split(';').next().unwrap());
    for _ in 0..20 {
        let again = get(edge.http(), "/", &cookie).await;
        assert_eq!((again.body.as_str(), again.header("set-cookie")), (first.body.as_str(), None));
    }
    assert_eq!(sessions_moved(&edge), 0.0, "neither who is new nor who stays has moved");
    // Its endpoint goes: the session moves, all of it to one place, and is told where.
    let left = origins.iter().filter(|(name, _)| *name != first.body);
    let left: Vec<_> = left.map(|(_, origin)| origin.address).collect();
    edge.route(&[("home", &left)]);
    let moved = get(edge.http(), "/", &cookie).await;
    assert_ne!(moved.body, first.body);
    assert!(moved.header("set-cookie").is_some());
    assert_eq!(sessions_moved(&edge), 1.0);
    for _ in 0..10 {
        assert_eq!(get(edge.http(), "/", &cookie).await.body, moved.body);
    }
    // With its new cookie it is at home there.
    let before = sessions_moved(&edge);
    let set = moved.header("set-cookie").unwrap();
    let cookie = format!("cookie: {}\r\n", set.split(';').next().unwrap());
    assert_eq!(get(edge.http(), "/", &cookie).await.body, moved.body);
    assert_eq!(sessions_moved(&edge), before);
    edge.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_stays_in_the_region_that_began_it() {
    let authority = Authority::new();
    let sticky = sticky(&authority);
    let home = edge(&authority, &sticky, "").await;
    let away = {
        let plan = Plan { own: "away", ..Plan::default() };
        let text =
            plan.toml(&authority).replacen("[services.other]", &format!("{sticky}\n[services.other]"), 1);
        start_with(Arc::new(Config::from_text("away.toml", &text, &Environment::default()).unwrap()))
            .await
            .unwrap()
    };
    let (here, there) = (Origin::start(|_, _| ok("here")).await, Origin::start(|_, _| ok("there")).await);
    away.route(&[("away", &[there.address])]);
    // Home's own endpoints were away for a while: the session begins in the other region.
    home.route(&[("away", &[away.peer()])]);
    let began = get(home.http(), "/", "").await;
    assert_eq!(began.body, "there");
    let cookie = began.header("set-cookie").expect("a place, told by the other region");
    let cookie = format!("cookie: {}\r\n", cookie.split(';').next().unwrap());
    home.route(&[("home", &[here.address]), ("away", &[away.peer()])]);
    assert_eq!(get(home.http(), "/", "").await.body, "here", "who is new is served at home");
    assert_eq!(get(home.http(), "/", &cookie).await.body, "there");
    home.close().await;
    away.close().await;
}
