//! The bare Pingora proxy: `HttpProxy` with one upstream and the headers that all peers set.

use async_trait::async_trait;
use http::HeaderValue;
use pingora::apps::HttpServerOptions;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::proxy::{ProxyHttp, Session, http_proxy_service};
use pingora::server::Server;
use pingora::server::configuration::ServerConf;
use pingora::upstreams::peer::HttpPeer;
use std::net::SocketAddr;

struct Bare {
    origin: SocketAddr,
}

#[async_trait]
impl ProxyHttp for Bare {
    type CTX = Option<HeaderValue>;

    fn new_ctx(&self) -> Self::CTX {
        None
    }

    async fn upstream_peer(&self, _: &mut Session, _: &mut Self::CTX) -> pingora::Result<Box<HttpPeer>> {
        Ok(Box::new(HttpPeer::new(self.origin, false, String::new())))
    }

    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        request: &mut RequestHeader,
        id: &mut Self::CTX,
    ) -> pingora::Result<()> {
        if let Some(client) = session.client_addr().and_then(|address| address.as_inet()) {
            request.insert_header("x-forwarded-for", client.ip().to_string())?;
        }
        let text = format!("{:032x}", rand::random::<u128>());
        *id = HeaderValue::from_str(&text).ok();
        request.insert_header("x-request-id", text)
    }

    async fn response_filter(
        &self,
        _: &mut Session,
        response: &mut ResponseHeader,
        id: &mut Self::CTX,
    ) -> pingora::Result<()> {
        match id.take() {
            Some(id) => response.insert_header("x-request-id", id),
            None => Ok(()),
        }
    }
}

/// Serves until killed. Arguments: plain, h2c and TLS addresses, the origin's, certificate, key.
pub fn run(arguments: &[String]) -> ! {
    let [plain, h2c, tls, origin, certificate, key] = arguments else { panic!("six arguments") };
    let origin = origin.parse().unwrap();
    let conf = ServerConf { threads: 1, ..ServerConf::default() };
    let mut server = Server::new_with_opt_and_conf(None, conf);
    server.bootstrap();
    let mut http1 = http_proxy_service(&server.configuration, Bare { origin });
    http1.add_tcp(plain);
    http1.add_tls(tls, certificate, key).unwrap();
    // A service of its own: with h2c on, Pingora looks at the beginning of every connection first.
    let mut http2 = http_proxy_service(&server.configuration, Bare { origin });
    http2.add_tcp(h2c);
    let mut options = HttpServerOptions::default();
    options.h2c = true;
    http2.app_logic_mut().unwrap().server_options = Some(options);
    server.add_service(http1);
    server.add_service(http2);
    server.run_forever()
}
