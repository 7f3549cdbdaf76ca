//! Credentials by a profile of AWS's shared files, which are read anew for each question.
//!
//! AWS's own provider reads them once: what is mended afterwards would not be seen, and from the second
//! question on its error would only say that it has been told already.

use super::{Never, provider_config};
use aws_config::Region;
use aws_config::profile::ProfileFileCredentialsProvider;
use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, future};
use aws_sdk_route53::config::SharedHttpClient;

/// AWS's word for a kind of profile that this build does not have; a type for it does not come this far.
const NOT_BUILT_IN: &str = "cargo feature";
const NODE: &str = "the profile's credential_source is Ec2InstanceMetadata, which is the node's role; if that is meant, write \
                    `credentials = \"node\"` in [aws]";

/// The profile that `AWS_PROFILE` names, or the default one.
#[derive(Debug)]
pub(super) struct ByProfile {
    region: Option<Region>,
    http: SharedHttpClient,
}

#[derive(Debug, thiserror::Error)]
#[error(
    "the profile signs in a person (SSO or `aws login`), which Proxima does not do by itself; name another in AWS_PROFILE \
     that has AWS's command line do it: credential_process = aws configure export-credentials --profile NAME --format process"
)]
struct SignsIn(#[source] CredentialsError);

impl ByProfile {
    pub(super) fn new(region: Option<Region>, http: SharedHttpClient) -> Self {
        Self { region, http }
    }

    async fn ask(&self) -> Result<Credentials, CredentialsError> {
        // The settings, too, keep what they have read.
        let config = provider_config(self.region.clone(), self.http.clone());
        let profile = ProfileFileCredentialsProvider::builder()
            .configure(&config)
            .with_custom_provider("Ec2InstanceMetadata", Never(NODE.to_owned()))
            .build();
        profile.provide_credentials().await.map_err(|error| {
            if crate::error_chain::chain(&error).contains(NOT_BUILT_IN) {
                return CredentialsError::provider_error(SignsIn(error));
            }
            error
        })
    }
}

impl ProvideCredentials for ByProfile {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(self.ask())
    }
}
