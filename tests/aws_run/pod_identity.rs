//! Credentials by EKS Pod Identity: from the agent of the node, for the token of the pod.
//!
//! The agent is a stand-in: AWS's own speaks to an API that only EKS has. This one speaks the same protocol to edges
//! (source: Amazon EKS user guide, "How EKS Pod Identity works"), and has the credentials from STS, for the same token.

use crate::gate::{Door, Gate, head};
use crate::planet::{FAR, NO_CREDENTIALS, Planet, READ_WELL, RENEWED, serves};
use crate::run_support::{Edge, eventually};
use crate::users::Users;
use crate::world::{REGION, SUBJECT, assume};
use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

const PATH: &str = "/v1/credentials";
const KEPT: &str = r#"proxima_aws_credentials_renewals_total{result="kept"}"#;
const FAILED: &str = r#"proxima_aws_credentials_renewals_total{result="failed"}"#;
const EXPIRY: &str = "proxima_aws_credentials_expiry_timestamp_seconds";

/// Starts an agent of which credentials are good for so long.
fn agent(planet: &Planet, good_for: Duration) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, sts, role) =
        (listener.local_addr().unwrap(), planet.world.stand_in.address, planet.role.clone());
    thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            // A client that has gone needs no answer.
            answer(client, sts, &role, good_for);
        }
    });
    address
}

fn answer(mut client: TcpStream, sts: SocketAddr, role: &str, good_for: Duration) -> Option<()> {
    let head = head(&mut client)?;
    let mut fields = head.lines().filter_map(|line| line.split_once(": "));
    let token = fields.find(|(name, _)| name.eq_ignore_ascii_case("authorization")).map_or("", |(_, t)| t);
    let given = if head.starts_with(&format!("GET {PATH} ")) {
        assume(sts, role, token)
    } else {
        Err("no such path".to_owned())
    };
    let (status, body) = match given {
        Ok([key, secret, session]) => {
            let expires = (OffsetDateTime::now_utc() + good_for).format(&Rfc3339).unwrap();
            let body = serde_json::json!({
                "AccessKeyId": key, "SecretAccessKey": secret, "Token": session, "AccountId": "000000000000",
                "Expiration": expires,
            });
            ("200 OK", body.to_string())
        }
        Err(said) => ("400 Bad Request", format!("[AccessDenied] {}", said.replace(['<', '>'], " "))),
    };
    let length = body.len();
    write!(client, "HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}").ok()
}

fn edge(planet: &Planet, own: &str, agent: &Gate) -> Edge {
    let variables = [
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", format!("{}{PATH}", agent.url())),
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", planet.token_file()),
    ];
    planet.edge_by("pod_identity", own, &planet.world.url(), &variables)
}

#[tokio::test]
async fn a_region_is_evacuated_with_what_the_agent_gave_while_the_agent_is_away_again() {
    let Some(planet) = Planet::new().await else { return };
    planet.token(SUBJECT);
    let agent = Gate::before(agent(&planet, Duration::from_secs(3600)), Door::Shut);
    let edges = [edge(&planet, REGION, &agent), edge(&planet, FAR, &agent)];
    // While it is away, nothing is read, and users see nothing of that.
    for edge in &edges {
        edge.until_metric(NO_CREDENTIALS, 1.0);
        serves(edge);
        assert_eq!(edge.metric(READ_WELL), Some(0.0));
    }
    agent.turn(Door::Open);
    for edge in &edges {
        edge.until_metric(READ_WELL, 3.0);
        assert!(edge.log().contains(r#""source":"pod_identity""#), "{}", edge.log());
    }
    agent.turn(Door::Shut);
    let knocks = agent.knocks();
    planet.evacuate();
    assert_eq!(agent.knocks(), knocks, "the agent was asked again");
    for edge in &edges {
        serves(edge);
        assert_eq!(edge.metric(RENEWED), Some(1.0));
    }
}

#[tokio::test]
async fn the_token_is_read_anew_for_each_renewal_and_a_foreign_one_is_told() {
    let Some(planet) = Planet::new().await else { return };
    planet.token("system:serviceaccount:default:somebody");
    let agent = Gate::before(agent(&planet, Duration::from_secs(15)), Door::Open);
    let edge = edge(&planet, REGION, &agent);
    edge.until_metric(NO_CREDENTIALS, 1.0);
    for word in ["none from the Pod Identity agent", "StatusCode(400)"] {
        eventually("it is told why", || edge.log().contains(word).then_some(()));
    }
    assert_eq!(edge.metric(READ_WELL), Some(0.0));
    // The kubelet writes another token into the file.
    planet.token(SUBJECT);
    edge.until_metric(READ_WELL, 1.0);
    edge.until_metric(RENEWED, 3.0);
    assert!(edge.metric(EXPIRY).unwrap() > 0.0);
}

#[tokio::test]
async fn credentials_that_end_soon_go_on_while_they_cannot_be_renewed_and_users_see_nothing_of_it() {
    let Some(planet) = Planet::new().await else { return };
    planet.token(SUBJECT);
    // Less than the ten minutes before their end from which renewals are tried, more than this test takes.
    let agent = Gate::before(agent(&planet, Duration::from_secs(300)), Door::Open);
    let edges = [edge(&planet, REGION, &agent), edge(&planet, FAR, &agent)];
    for edge in &edges {
        serves(edge);
        edge.until_metric(READ_WELL, 1.0);
    }
    let users = edges.each_ref().map(|edge| Users::of(edge.address("http")));

    agent.turn(Door::Shut);
    let read_before = edges.each_ref().map(|edge| {
        edge.until_metric(KEPT, 1.0);
        [READ_WELL, EXPIRY].map(|series| edge.metric(series).unwrap())
    });
    for (edge, [read, expiry]) in edges.iter().zip(read_before) {
        edge.until_metric(KEPT, 2.0);
        edge.until_metric(READ_WELL, read + 3.0);
        assert_eq!(edge.metric(EXPIRY), Some(expiry), "these are not new ones");
        let told = "those from before go on until they end";
        eventually("it is told", || edge.log().contains(told).then_some(()));
    }

    agent.turn(Door::Open);
    for (edge, [_, expiry]) in edges.iter().zip(read_before) {
        eventually("they are renewed again", || (edge.metric(EXPIRY)? > expiry).then_some(()));
        eventually("that is told, too", || edge.log().contains("renewed again").then_some(()));
        assert_eq!([FAILED, NO_CREDENTIALS].map(|series| edge.metric(series)), [Some(0.0); 2]);
    }
    for users in &users {
        assert_eq!(users.failed(), 0);
    }
    assert_eq!(planet.imds.knocks(), 0, "the instance was asked");
}
