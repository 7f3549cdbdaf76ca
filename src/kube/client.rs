//! A client of the API: by the pod's service account, or by a kubeconfig.

use super::Error;
use crate::config::Kubernetes;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use rustls::crypto::{CryptoProvider, ring};
use std::time::Duration;
use tokio::task::spawn_blocking;

/// For a connection, its handshake included.
const CONNECT: Duration = Duration::from_secs(5);
/// Without a byte from the server, watches among them: the last resort, since callers have deadlines of
/// their own. Servers send nothing for up to a minute on a watch that nothing happens to.
const SILENCE: Duration = Duration::from_secs(90);
const WRITE: Duration = Duration::from_secs(5);

/// A way to the API.
#[derive(Clone)]
pub struct Access {
    pub client: Client,
    /// Of this pod.
    pub namespace: String,
}

/// Makes a client; nothing is asked yet.
///
/// Tokens and roots of a service account are read again when they rotate. Nothing is retried by it:
/// whoever asks decides whether its question is still the right one.
///
/// # Errors
/// `Settings` when files or variables that it takes are missing or wrong.
pub async fn connect(settings: &Kubernetes) -> Result<Access, Error> {
    // Taken by the client's handshakes; who came first does not matter, it is the same one everywhere.
    if CryptoProvider::get_default().is_none() && ring::default_provider().install_default().is_err() {
        tracing::debug!("another task has installed the crypto provider");
    }
    let mut config = match settings.kubeconfig.clone() {
        None => blocking(|| Config::incluster().map_err(boxed)).await?,
        Some(path) => {
            let read = blocking(move || Kubeconfig::read_from(path).map_err(boxed)).await?;
            let options = KubeConfigOptions::default();
            Config::from_custom_kubeconfig(read, &options).await.map_err(boxed)?
        }
    };
    config.connect_timeout = Some(CONNECT);
    config.read_timeout = Some(SILENCE);
    config.reset_reader_on_write = true;
    config.write_timeout = Some(WRITE);
    config.default_retry = false;
    let namespace = settings.namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
    let client = blocking(move || Client::try_from(config).map_err(boxed)).await?;
    Ok(Access { client, namespace })
}

fn boxed(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::Settings(Box::new(error))
}

/// Files are read meanwhile.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    spawn_blocking(work).await.map_err(boxed)?
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error_chain::chain;

    #[tokio::test]
    async fn a_kubeconfig_that_is_not_there_is_told_by_its_path() {
        let missing = Kubernetes { kubeconfig: Some("no/such/file".into()), ..Kubernetes::default() };
        let told = connect(&missing).await.err().map(|error| chain(&error)).unwrap_or_default();
        assert!(told.contains("no/such/file"), "{told}");
    }
}
