//! AWS for all that ask it: one way to credentials, region, timeouts and TLS.
//!
//! Where credentials come from is explicit ([`choice`]), they are kept until they end
//! (`keeper`), and nobody but this module makes a client's settings. What is missing
//! or wrong ends in an error of the call that needed it: traffic needs none of this.

pub mod choice;
pub mod identity;
pub mod imds;
mod keeper;
pub mod object;
mod profile;
#[cfg(test)]
mod tests;

use crate::config::{Aws, Config, CredentialSource};
use crate::metrics::aws::AwsMetrics;
use aws_config::ecs::EcsCredentialsProvider;
use aws_config::environment::{EnvironmentVariableCredentialsProvider, EnvironmentVariableRegionProvider};
use aws_config::identity::IdentityCache;
use aws_config::imds::credentials::ImdsCredentialsProvider;
use aws_config::meta::region::RegionProviderChain;
use aws_config::profile::ProfileFileRegionProvider;
use aws_config::provider_config::ProviderConfig;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::web_identity_token::WebIdentityTokenCredentialsProvider;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider, future};
use aws_sdk_route53::config::SharedHttpClient;
use aws_smithy_http_client::tls::Provider;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use choice::{Choice, Facts, NoCredentials, choose};
use keeper::Keeper;
use profile::ByProfile;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tracing::{error, info};

/// To an open connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// One attempt in all; what takes longer may have been done or not, and is settled by reading.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(8);
/// Before they end, credentials are renewed: more than clocks differ, and time for an STS that is away.
const EARLY: Duration = Duration::from_secs(10 * 60);

/// What clients are made of. Clones share credentials and connections.
#[derive(Debug, Clone)]
pub struct Session {
    sdk: Arc<SdkConfig>,
    choice: Result<Choice, NoCredentials>,
}

impl Session {
    /// With the credentials that are said or found; without any, every call fails and says why.
    ///
    /// The region decides the partition and which STS is asked (always the regional one): from the
    /// environment or the profile, else `place`. IMDS is not asked for it: `place` is the same answer.
    pub async fn open(aws: &Aws, place: &str, facts: &Facts, metrics: AwsMetrics) -> Self {
        Self::open_by(http_client(), aws, place, facts, metrics).await
    }

    /// The same, by this way to AWS.
    async fn open_by(
        http: SharedHttpClient,
        aws: &Aws,
        place: &str,
        facts: &Facts,
        metrics: AwsMetrics,
    ) -> Self {
        let region = region(place).await;
        let choice = choose(aws.credentials, facts);
        let source = provider(&choice, region.clone(), http.clone());
        Self { choice, ..Self::of(Keeper::new(source, metrics), region, http).await }
    }

    /// With these credentials and no others.
    pub async fn fixed(credentials: Credentials, place: &str) -> Self {
        Self::of(credentials, region(place).await, http_client()).await
    }

    async fn of(
        credentials: impl ProvideCredentials + 'static,
        region: Option<Region>,
        http: SharedHttpClient,
    ) -> Self {
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .operation_attempt_timeout(ATTEMPT_TIMEOUT)
            .build();
        let cache = IdentityCache::lazy()
            .buffer_time(EARLY)
            .load_timeout(keeper::PATIENCE + Duration::from_secs(1))
            .build();
        let sdk = aws_config::defaults(BehaviorVersion::latest())
            .http_client(http)
            .region(region)
            // A retry must first see whether its plan is still valid; the SDK cannot.
            .retry_config(RetryConfig::disabled())
            .timeout_config(timeouts)
            .identity_cache(cache)
            .credentials_provider(credentials)
            .load()
            .await;
        let choice = Choice { source: CredentialSource::Environment, said: None, unused: Vec::new() };
        Self { sdk: Arc::new(sdk), choice: Ok(choice) }
    }

    /// Settings for a service's client.
    pub fn sdk(&self) -> &SdkConfig {
        &self.sdk
    }

    /// The source in use.
    ///
    /// # Errors
    /// Why there is none.
    pub fn choice(&self) -> Result<&Choice, &NoCredentials> {
        self.choice.as_ref()
    }
}

/// The session of the process: the same one as long as the settings are the same, so that a reload
/// while STS is away does not throw good credentials away.
#[derive(Debug, Clone)]
pub struct Sessions {
    open: Opening,
}

/// How a session comes about.
#[derive(Debug, Clone)]
enum Opening {
    /// By what the process has, for these settings in this place; the last one that was opened.
    Process(AwsMetrics, Arc<Mutex<Option<(Aws, String, Session)>>>),
    /// Always this one.
    Only(Session),
}

impl Sessions {
    pub fn new(metrics: AwsMetrics) -> Self {
        Self { open: Opening::Process(metrics, Arc::default()) }
    }

    /// This one, whatever the configuration says.
    pub fn only(session: Session) -> Self {
        Self { open: Opening::Only(session) }
    }

    /// That of a configuration.
    pub async fn of(&self, config: &Config) -> Session {
        self.at(&config.aws, place(config)).await
    }

    /// That of these settings.
    pub async fn at(&self, aws: &Aws, place: &str) -> Session {
        let same =
            |(known, at, _): &&(Aws, String, Session)| known.credentials == aws.credentials && at == place;
        let (metrics, known) = match &self.open {
            Opening::Process(metrics, known) => (metrics, known),
            Opening::Only(session) => return session.clone(),
        };
        let open = || known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, _, session)) = open().as_ref().filter(same) {
            return session.clone();
        }
        let session = Session::open(aws, place, &Facts::of_process(), metrics.clone()).await;
        let mut open = open();
        if let Some((_, _, session)) = open.as_ref().filter(same) {
            return session.clone(); // Another was faster.
        }
        match session.choice() {
            Ok(Choice { source, said, unused }) => {
                let unused: Vec<&str> = unused.iter().map(|source| source.as_str()).collect();
                info!(source = source.as_str(), said = said.is_some(), ?unused, "credentials for AWS");
            }
            Err(refusal) => error!("{refusal}"),
        }
        *open = Some((aws.clone(), place.to_owned(), session.clone()));
        session
    }
}

/// Whether a request was never sent for want of credentials.
pub fn no_credentials(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if error.is::<CredentialsError>() {
            return true;
        }
        next = error.source();
    }
    false
}

/// Where in the world a configuration's own region is, by AWS's names.
pub fn place(config: &Config) -> &str {
    let own = &config.policy.own;
    config.regions.get(own).map_or(own.as_str(), |region| region.place.as_str())
}

async fn region(place: &str) -> Option<Region> {
    RegionProviderChain::first_try(EnvironmentVariableRegionProvider::new())
        .or_else(ProfileFileRegionProvider::new())
        .or_else(Region::new(place.to_owned()))
        .region()
        .await
}

/// The source that was chosen, and only that.
fn provider(
    choice: &Result<Choice, NoCredentials>,
    region: Option<Region>,
    http: SharedHttpClient,
) -> SharedCredentialsProvider {
    let source = match choice {
        Ok(choice) => choice.source,
        Err(refusal) => return SharedCredentialsProvider::new(Never(refusal.to_string())),
    };
    let config = provider_config(region.clone(), http.clone());
    match source {
        CredentialSource::Environment => {
            SharedCredentialsProvider::new(EnvironmentVariableCredentialsProvider::new())
        }
        CredentialSource::PodIdentity => SharedCredentialsProvider::new(Agent(
            EcsCredentialsProvider::builder().configure(&config).build(),
        )),
        CredentialSource::WebIdentity => SharedCredentialsProvider::new(
            WebIdentityTokenCredentialsProvider::builder().configure(&config).build(),
        ),
        CredentialSource::Profile => SharedCredentialsProvider::new(ByProfile::new(region, http)),
        CredentialSource::Node => {
            SharedCredentialsProvider::new(ImdsCredentialsProvider::builder().configure(&config).build())
        }
    }
}

fn provider_config(region: Option<Region>, http: SharedHttpClient) -> ProviderConfig {
    ProviderConfig::without_region()
        .with_region(region)
        .with_http_client(http)
        .with_timeout_config(TimeoutConfig::builder().connect_timeout(CONNECT_TIMEOUT).build())
}

/// Credentials from the agent of the node, of which only the status of an answer is told.
#[derive(Debug)]
struct Agent(EcsCredentialsProvider);

#[derive(Debug, thiserror::Error)]
#[error(
    "none from the Pod Identity agent; is the service account associated with a role? The agent says why: \
     kubectl -n kube-system logs daemonset/eks-pod-identity-agent"
)]
struct AgentRefused(#[source] CredentialsError);

impl ProvideCredentials for Agent {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        let provided = self.0.provide_credentials();
        future::ProvideCredentials::new(async {
            provided.await.map_err(|error| CredentialsError::provider_error(AgentRefused(error)))
        })
    }
}

/// No credentials, and why.
#[derive(Debug)]
struct Never(String);

impl ProvideCredentials for Never {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::ready(Err(CredentialsError::not_loaded(self.0.clone())))
    }
}

/// Plain HTTP for an endpoint that says so, else TLS by ring.
fn http_client() -> SharedHttpClient {
    aws_smithy_http_client::Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https()
}
