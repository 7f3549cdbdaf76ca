//! Certificates that are swapped under handshakes.

use crate::origin::{Origin, Way};
use crate::run_support::authority::Authority;
use crate::run_support::{Folder, eventually, single};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

const NAME: &str = "www.example.com";
const SWAPS: usize = 12;

/// What clients of one version verify with; every handshake is a full one.
pub fn client(
    ca: &Path,
    versions: &[&'static rustls::SupportedProtocolVersion],
    alpn: &[&str],
) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(ca).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(versions).unwrap();
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.resumption = rustls::client::Resumption::disabled();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    TlsConnector::from(Arc::new(config))
}

/// An HTTPS listener with the certificate `..data/server.pem` of a folder.
pub fn https(folder: &Folder, origin: SocketAddr) -> String {
    let file = |name: &str| folder.path().join(name);
    let (certificate, key) = (file("server.pem"), file("server.key"));
    let more = format!(
        "[[listeners]]\nname = \"https\"\naddress = \"127.0.0.1:0\"\nprotocol = \"https\"\n[tls]\ncertificate = {certificate:?}\nkey = {key:?}\n"
    );
    single(origin, &more).replace("health.path = \"/\"", "health.path = \"/health\"")
}

/// A handshake and a request; the certificate that the server showed.
async fn visit(at: SocketAddr, connector: &TlsConnector) -> std::io::Result<Vec<u8>> {
    let name = ServerName::try_from(NAME).unwrap();
    let mut stream = connector.connect(name, TcpStream::connect(at).await?).await?;
    let shown = stream.get_ref().1.peer_certificates().unwrap()[0].to_vec();
    let request = format!("GET / HTTP/1.1\r\nHost: {NAME}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await?;
    if !text.starts_with("HTTP/1.1 200 ") {
        return Err(std::io::Error::other(format!("answered {text:?}")));
    }
    Ok(shown)
}

/// A secret as Kubernetes mounts it: the next generation in a folder of its own, then `..data` swapped.
fn swap(folder: &Folder, authority: &Authority, generation: usize) -> Vec<u8> {
    authority.sign(folder, "next", NAME);
    let (root, dated) = (folder.path(), folder.path().join(format!("..{generation}")));
    fs::create_dir(&dated).unwrap();
    for end in ["pem", "key"] {
        fs::rename(root.join(format!("next.{end}")), dated.join(format!("server.{end}"))).unwrap();
    }
    symlink(format!("..{generation}"), root.join("..data_tmp")).unwrap();
    fs::rename(root.join("..data_tmp"), root.join("..data")).unwrap();
    if generation > 0 {
        fs::remove_dir_all(root.join(format!("..{}", generation - 1))).unwrap();
    }
    CertificateDer::from_pem_file(dated.join("server.pem")).unwrap().to_vec()
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_swapped_under_handshakes_drop_none_and_each_is_shown() {
    let _alone = crate::ALONE.lock().await;
    let (folder, authority, origin) = (Folder::new(), Authority::new(), Origin::start(Way::Well).await);
    let first = swap(&folder, &authority, 0);
    for end in ["pem", "key"] {
        symlink(format!("..data/server.{end}"), folder.path().join(format!("server.{end}"))).unwrap();
    }
    let edge = crate::started(&folder.write("proxima.toml", &https(&folder, origin.address)), 1);
    let at = edge.address("https");
    let (stop, served) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
    let shown = Arc::new(Mutex::new(BTreeSet::from([first])));
    let clients: Vec<_> = (0..8)
        .map(|number| {
            let version = if number % 2 == 0 { &rustls::version::TLS12 } else { &rustls::version::TLS13 };
            let connector = client(&folder.path().join("next-ca.pem"), &[version], &[]);
            let (stop, served, shown) = (Arc::clone(&stop), Arc::clone(&served), Arc::clone(&shown));
            tokio::spawn(async move {
                while !stop.load(Ordering::SeqCst) {
                    let certificate = visit(at, &connector).await?;
                    shown.lock().unwrap().insert(certificate);
                    served.fetch_add(1, Ordering::SeqCst);
                }
                std::io::Result::Ok(())
            })
        })
        .collect();
    for generation in 1..=SWAPS {
        let next = swap(&folder, &authority, generation);
        let until = served.load(Ordering::SeqCst) + 16;
        // By itself in the end; at once by the signal.
        edge.signal("HUP");
        eventually("handshakes go on and show the new certificate", || {
            let seen = shown.lock().unwrap().contains(&next) && served.load(Ordering::SeqCst) >= until;
            (seen || clients.iter().any(tokio::task::JoinHandle::is_finished)).then_some(())
        });
    }
    stop.store(true, Ordering::SeqCst);
    for client in clients {
        client.await.unwrap().expect("no handshake and no request fails");
    }
    assert_eq!(shown.lock().unwrap().len(), SWAPS + 1);
    assert_eq!(crate::sum(&edge, "proxima_handshake_failures_total"), 0.0);
}
