//! The way to Route 53: TLS by ring, credentials by AWS's default chain, no retries of the SDK's own.

use crate::config::Dns;
use aws_config::environment::EnvironmentVariableRegionProvider;
use aws_config::meta::region::RegionProviderChain;
use aws_config::profile::ProfileFileRegionProvider;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region};
use aws_sdk_route53::Client;
use aws_sdk_route53::config::{Credentials, SharedHttpClient};
use aws_smithy_http_client::tls::Provider;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use std::time::Duration;

/// To an open connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// One attempt in all; what takes longer may have been done or not, and is settled by reading.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(8);

/// Where credentials come from.
#[derive(Debug, Clone)]
pub enum Access {
    /// Environment, profile, IRSA (web identity), Pod Identity (container), IMDSv2: the first that has any.
    Chain,
    /// These.
    Fixed(Credentials),
}

/// A client for `dns`, signing for the own region's place.
///
/// The region decides the partition and the STS endpoint (regional, as IRSA
/// should use it): from the environment or the profile, else `place`. IMDS is
/// not asked for it: `place` is the same answer.
pub async fn connect(dns: &Dns, place: &str, access: Access) -> Client {
    let region = RegionProviderChain::first_try(EnvironmentVariableRegionProvider::new())
        .or_else(ProfileFileRegionProvider::new())
        .or_else(Region::new(place.to_owned()));
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .operation_attempt_timeout(ATTEMPT_TIMEOUT)
        .build();
    let mut loader = aws_config::defaults(BehaviorVersion::latest())
        .http_client(http_client())
        .region(region)
        // A retry must first see whether its plan is still valid; the SDK cannot.
        .retry_config(RetryConfig::disabled())
        .timeout_config(timeouts);
    if let Access::Fixed(credentials) = access {
        loader = loader.credentials_provider(credentials);
    }
    let shared = loader.load().await;
    let mut config = aws_sdk_route53::config::Builder::from(&shared);
    // For Route 53 only: credentials still come from AWS's own endpoints.
    if let Some(endpoint) = &dns.endpoint {
        config = config.endpoint_url(endpoint);
    }
    Client::from_conf(config.build())
}

/// Plain HTTP for an endpoint that says so, else TLS by ring.
fn http_client() -> SharedHttpClient {
    aws_smithy_http_client::Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https()
}
