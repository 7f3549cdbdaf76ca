//! The way to Route 53.

use crate::aws::Session;
use crate::config::Dns;
use aws_sdk_route53::Client;

/// A client for `dns`.
pub fn connect(dns: &Dns, session: &Session) -> Client {
    let mut config = aws_sdk_route53::config::Builder::from(session.sdk());
    // For Route 53 only: credentials still come from AWS's own endpoints.
    if let Some(endpoint) = &dns.endpoint {
        config = config.endpoint_url(endpoint);
    }
    Client::from_conf(config.build())
}
