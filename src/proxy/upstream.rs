//! From an attempt to the connection it asks for.

use crate::config::{PeerAddress, Service, UpstreamProtocol};
use crate::domain::snapshot::Place;
use crate::proxy::attempts::Attempt;
use crate::proxy::settings::Settings;
use crate::proxy::tls::PeerIdentity;
use pingora::upstreams::peer::{ALPN, HttpPeer};
use std::time::Duration;

/// Idle connections to a service are closed before common servers close them:
/// Node.js and Apache keep them for 5 s, and a request sent into a closing
/// connection is lost.
const SERVICE_IDLE: Duration = Duration::from_secs(4);
/// Idle connections to a region; its peer listener keeps them twice as long.
const PEER_IDLE: Duration = Duration::from_secs(30);
/// A silent region is noticed on a connection that has requests in flight.
const PEER_PING: Duration = Duration::from_secs(2);
/// Streams on one HTTP/2 connection; the common limit of servers.
const STREAMS_MAX: usize = 100;
/// Flow control windows that carry 100 MB/s over 40 ms, or 40 MB/s over 100 ms.
const STREAM_WINDOW_BYTES: u32 = 1024 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 4 * 1024 * 1024;
/// Two silent directions of an upgraded connection (WebSocket) end it.
pub(super) const UPGRADED_IDLE: Duration = Duration::from_secs(3600);

/// What kind of connections may be shared; Pingora's own key leaves ALPN and CA out.
#[derive(Debug, Clone, Copy)]
enum Pool {
    ServiceHttp1 = 0,
    ServiceHttp2 = 1,
    PeerHttp1 = 2,
    PeerHttp2 = 3,
}

impl Pool {
    /// Connections verified by one set of files never serve under another: the generation counts them.
    fn key(self, generation: u64) -> u64 {
        generation << 2 | self as u64
    }
}

/// Whether the request asks to become another protocol (WebSocket).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Upgrade {
    Asked,
    No,
}

/// The connection for an attempt; `None` when the configuration cannot reach the region.
pub(super) fn connection(
    attempt: &Attempt,
    service: &Service,
    settings: &Settings,
    upgrade: Upgrade,
) -> Option<HttpPeer> {
    let mut peer = match attempt.place {
        Place::Own => own(attempt, service),
        Place::Peer => {
            let region = settings.config.regions.get(&attempt.region)?.peer.as_ref()?;
            forward(attempt, service, region, settings.peer.as_ref()?, upgrade, settings.generation)
        }
    };
    if upgrade == Upgrade::Asked {
        peer.options.read_timeout = Some(UPGRADED_IDLE);
    }
    Some(peer)
}

fn own(attempt: &Attempt, service: &Service) -> HttpPeer {
    let mut peer = HttpPeer::new(attempt.endpoint.endpoint().address(), false, String::new());
    let options = &mut peer.options;
    options.connection_timeout = Some(service.connect_timeout);
    options.total_connection_timeout = Some(service.connect_timeout);
    options.read_timeout = Some(service.read_timeout);
    options.write_timeout = Some(service.read_timeout);
    options.idle_timeout = Some(SERVICE_IDLE);
    let pool = match service.protocol {
        UpstreamProtocol::Http1 => Pool::ServiceHttp1,
        UpstreamProtocol::Http2 => {
            http2(&mut peer);
            Pool::ServiceHttp2
        }
    };
    // No file decides about these connections: they outlive reloads.
    peer.group_key = pool.key(0);
    peer
}

/// HTTP/2 carries many requests, trailers among them, over one verified
/// connection; an upgrade needs HTTP/1.1.
fn forward(
    attempt: &Attempt,
    service: &Service,
    region: &PeerAddress,
    identity: &PeerIdentity,
    upgrade: Upgrade,
    generation: u64,
) -> HttpPeer {
    let address = attempt.endpoint.endpoint().address();
    let mut peer = HttpPeer::new_mtls(address, region.server_name.clone(), identity.certificate.clone());
    let options = &mut peer.options;
    options.ca = Some(identity.roots.clone());
    options.connection_timeout = Some(service.connect_timeout);
    // TCP and TLS take turns across the distance.
    options.total_connection_timeout = Some(service.connect_timeout * 2);
    // The peer gives up on its service first, so that its answer arrives, not our timeout.
    let patience = service.read_timeout + service.connect_timeout * 2;
    options.read_timeout = Some(patience);
    options.write_timeout = Some(patience);
    options.idle_timeout = Some(PEER_IDLE);
    let pool = match upgrade {
        Upgrade::Asked => {
            options.alpn = ALPN::H1;
            Pool::PeerHttp1
        }
        Upgrade::No => {
            http2(&mut peer);
            peer.options.h2_ping_interval = Some(PEER_PING);
            Pool::PeerHttp2
        }
    };
    peer.group_key = pool.key(generation);
    peer
}

fn http2(peer: &mut HttpPeer) {
    peer.options.set_http_version(2, 2);
    peer.options.max_h2_streams = STREAMS_MAX;
    peer.options.h2_stream_window_size = Some(STREAM_WINDOW_BYTES);
    peer.options.h2_connection_window_size = Some(CONNECTION_WINDOW_BYTES);
}
