//! What the instance says of itself, by its metadata service (IMDSv2): region, zone, id.
//!
//! Asked only by who wants it, once, within a bounded time: TOML and environment
//! come first, and without an answer an edge starts all the same.
//! Source: Amazon EC2 user guide, "Use the Instance Metadata Service", "Instance metadata categories".

use super::http_client;
use crate::config::{Environment, Written};
use crate::error_chain::chain;
use aws_config::imds::Client;
use aws_config::imds::client::error::ImdsError;
use aws_config::provider_config::ProviderConfig;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::OnceCell;
use tokio::time::timeout;
use tracing::{info, warn};

/// For all of it. An answer takes a millisecond.
const PATIENCE: Duration = Duration::from_secs(2);
const STEP_TIMEOUT: Duration = Duration::from_millis(700);
/// Switched off for everything in the process. Source: AWS SDKs and tools reference guide, "IMDS credential provider".
const DISABLED: &str = "AWS_EC2_METADATA_DISABLED";

/// An instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    pub region: String,
    /// The availability zone.
    pub zone: String,
    pub id: String,
}

/// Why it said nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Silence {
    #[error("{DISABLED} is set")]
    Disabled,
    /// Nobody is there, or the answer with the token ends on its way: it may take as many hops as its limit says.
    #[error(
        "{0}: not an instance of EC2, or its hop limit is below 2, which pods with a network of their own need"
    )]
    Unheard(String),
    #[error("{0}")]
    Failed(String),
}

/// Asks the instance.
///
/// # Errors
/// Why it says nothing.
pub async fn ask() -> Result<Instance, Silence> {
    if std::env::var(DISABLED).is_ok_and(|value| value.eq_ignore_ascii_case("true")) {
        return Err(Silence::Disabled);
    }
    let config = ProviderConfig::without_region().with_http_client(http_client());
    let client = Client::builder()
        .configure(&config)
        .max_attempts(2)
        .connect_timeout(STEP_TIMEOUT)
        .read_timeout(STEP_TIMEOUT)
        .build();
    let asking = async {
        let get = async |path: &str| {
            let answer = client.get(format!("/latest/meta-data/{path}")).await;
            answer.map(|text| text.as_ref().trim().to_owned())
        };
        let region = get("placement/region").await?;
        let zone = get("placement/availability-zone").await?;
        let id = get("instance-id").await?;
        Ok::<Instance, ImdsError>(Instance { region, zone, id })
    };
    match timeout(PATIENCE, asking).await {
        Ok(answer) => answer.map_err(|error| match &error {
            ImdsError::FailedToLoadToken(token) if token.is_dispatch_failure() => {
                Silence::Unheard(chain(&error))
            }
            _ => Silence::Failed(chain(&error)),
        }),
        Err(_) => Err(Silence::Unheard(format!("no answer within {} s", PATIENCE.as_secs()))),
    }
}

/// Puts what the instance says in the place of `"imds"`; it is asked once, and again after it was silent.
#[derive(Debug, Clone, Default)]
pub struct Whereabouts {
    known: Arc<OnceCell<Instance>>,
}

impl Whereabouts {
    /// The environment for a configuration, with the instance's answers where they are wanted.
    ///
    /// An instance that is silent is one line in the log: zones then play no part. A region is needed, so a
    /// configuration whose region is left to a silent instance is refused where it is converted.
    pub async fn settle(&self, written: &Written, environment: &Environment) -> Environment {
        let wanted = written.from_instance(environment);
        if !wanted.region && !wanted.zone {
            return environment.clone();
        }
        let first = self.known.get().is_none();
        let instance = match self.known.get_or_try_init(ask).await {
            Ok(instance) => instance,
            Err(silence) => {
                warn!(
                    "the instance does not say where it is: {silence}; a zone from it plays no part until a reload"
                );
                return environment.clone();
            }
        };
        if first {
            let Instance { region, zone, id } = instance;
            info!(%region, %zone, instance = %id, "the instance says where it is");
        }
        let mut settled = environment.clone();
        if wanted.region {
            settled.region = Some(written.region_at(&instance.region));
        }
        if wanted.zone {
            settled.zone = Some(instance.zone.clone());
        }
        settled
    }
}
