//! Which STS is asked. Environments are of processes, so each row is this test binary again, with one of its own.

use super::*;
use aws_smithy_http_client::Connector;
use aws_smithy_http_client::proxy::ProxyConfig;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;

/// Where the proxy is, and the place of the own region.
const PROXY: &str = "PROXIMA_TEST_PROXY";
const PLACE: &str = "PROXIMA_TEST_PLACE";

/// A proxy that carries nothing, and notes which hosts it is asked for.
fn proxy() -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, asked) = (listener.local_addr().unwrap(), Arc::new(Mutex::new(Vec::new())));
    let noted = Arc::clone(&asked);
    std::thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            if let Some(host) = refuse(client) {
                noted.lock().unwrap().push(host);
            }
        }
    });
    (address, asked)
}

fn refuse(mut client: TcpStream) -> Option<String> {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        client.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    // A client that has gone has asked all the same.
    client.write_all(b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").ok();
    Some(String::from_utf8(head).ok()?.strip_prefix("CONNECT ")?.split(' ').next()?.to_owned())
}

#[tokio::test]
#[ignore = "run by the test below, in a process of its own"]
async fn asks_sts_by_the_proxy() {
    let (proxy, place) = (std::env::var(PROXY).unwrap(), std::env::var(PLACE).unwrap());
    let http = aws_smithy_http_client::Builder::new().build_with_connector_fn(move |_, _| {
        let proxy = ProxyConfig::all(format!("http://{proxy}")).unwrap();
        Connector::builder().proxy_config(proxy).tls_provider(Provider::Rustls(CryptoMode::Ring)).build()
    });
    let metrics = AwsMetrics::register(&prometheus::Registry::new()).unwrap();
    let session = Session::open_by(http, &Aws::default(), &place, &Facts::of_process(), metrics).await;
    let unknown = identity::whoami(&session).await.unwrap_err();
    assert!(session.choice().is_ok(), "{unknown}");
}

#[test]
fn the_sts_of_a_region_is_asked_whatever_is_said_of_a_legacy_one() {
    let folder = std::env::temp_dir().join(format!("proxima-sts-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let write = |name: &str, text: &str| {
        std::fs::write(folder.join(name), text).unwrap();
        folder.join(name).to_str().unwrap().to_owned()
    };
    let token = write("token", "header.claims.signature");
    let config = write(
        "config",
        "[default]\nregion = eu-west-1\nsts_regional_endpoints = legacy\nrole_arn = arn:aws:iam::111122223333:role/edge\n\
         source_profile = keys\n[profile keys]\naws_access_key_id = a\naws_secret_access_key = b\n",
    );
    let legacy = ("AWS_STS_REGIONAL_ENDPOINTS", "legacy");
    let irsa =
        [("AWS_WEB_IDENTITY_TOKEN_FILE", token.as_str()), ("AWS_ROLE_ARN", "arn:aws:iam::1:role/edge")];
    let keys = [("AWS_ACCESS_KEY_ID", "a"), ("AWS_SECRET_ACCESS_KEY", "b")];
    let in_us = ("AWS_REGION", "us-east-1");
    for (what, place, variables, host) in [
        ("a role by a token", "eu-west-1", irsa.to_vec(), "sts.eu-west-1.amazonaws.com:443"),
        ("legacy", "eu-west-1", [&irsa[..], &[legacy]].concat(), "sts.eu-west-1.amazonaws.com:443"),
        // Where the legacy one is.
        (
            "legacy by AWS_REGION",
            "eu-west-1",
            [&irsa[..], &[legacy, in_us]].concat(),
            "sts.us-east-1.amazonaws.com:443",
        ),
        (
            "another partition",
            "cn-north-1",
            [&irsa[..], &[legacy]].concat(),
            "sts.cn-north-1.amazonaws.com.cn:443",
        ),
        (
            "who we are, by keys",
            "us-east-1",
            [&keys[..], &[legacy]].concat(),
            "sts.us-east-1.amazonaws.com:443",
        ),
        (
            "a role by a profile",
            "us-east-1",
            vec![("AWS_CONFIG_FILE", config.as_str()), legacy],
            "sts.eu-west-1.amazonaws.com:443",
        ),
    ] {
        let asked = asked(place, &variables, &folder);
        assert!(
            !asked.is_empty() && asked.iter().all(|asked| asked == host),
            "{what}: {asked:?}, not {host}"
        );
    }
    std::fs::remove_dir_all(folder).unwrap();
}

/// Which hosts a process of this environment asks for, when it wants credentials and to know who it is.
fn asked(place: &str, variables: &[(&str, &str)], home: &Path) -> Vec<String> {
    let (address, asked) = proxy();
    let done = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "aws::tests::asks_sts_by_the_proxy", "--ignored"])
        .env_clear()
        .env("HOME", home)
        .env(PROXY, address.to_string())
        .env(PLACE, place)
        .envs(variables.iter().copied())
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stdout));
    asked.lock().unwrap().drain(..).collect()
}
