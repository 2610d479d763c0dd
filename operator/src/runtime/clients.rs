//! The two clients: one that may wait and retry (reads and watches), one that must not (writes).

use super::api_metrics::ApiMetrics;
use kube::{
    Api, Client, Config,
    client::ClientBuilder,
    core::{NamespaceResourceScope, Resource},
};
use std::time::Duration;
use tower::timeout::TimeoutLayer;

/// A write that is not answered by then has failed, as far as we know.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);
/// Nothing may stay silent for longer than this, be it the head of an answer or the next byte of a list: a watch ends
/// after thirty seconds in any case.
const READ_TIMEOUT: Duration = Duration::from_secs(40);
const USER_AGENT: &str = concat!("valerix-operator/", env!("CARGO_PKG_VERSION"));
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// Clients for the API server.
#[derive(Clone)]
pub struct Clients {
    /// Lists and watches; retried by the client.
    pub read: Client,
    /// Everything that changes something, and single reads: answered within 5 s or failed, never sent twice by the
    /// client, since only the caller knows whether a repetition is harmless.
    pub write: Client,
}

impl Clients {
    /// Clients for the cluster of `config`, whose requests are counted in `metrics`.
    ///
    /// # Errors
    /// If certificates or addresses in the configuration are unusable.
    pub fn new(config: Config, metrics: &ApiMetrics) -> Result<Self, kube::Error> {
        let mut reading = config;
        reading.connect_timeout = Some(CONNECT_TIMEOUT);
        reading.read_timeout = Some(READ_TIMEOUT);
        // Who asks shows in the API server's audit log.
        reading
            .headers
            .push((http::header::USER_AGENT, http::HeaderValue::from_static(USER_AGENT)));
        let mut writing = reading.clone();
        writing.default_retry = false;
        writing.read_timeout = Some(WRITE_TIMEOUT);
        writing.reset_reader_on_write = true;
        writing.write_timeout = Some(WRITE_TIMEOUT);
        Ok(Self {
            read: ClientBuilder::try_from(reading)?.with_layer(metrics).build(),
            write: ClientBuilder::try_from(writing)?
                .with_layer(&TimeoutLayer::new(WRITE_TIMEOUT))
                .with_layer(metrics)
                .build(),
        })
    }

    /// One client for both roles, for tests against a fake API server.
    pub fn single(client: Client) -> Self {
        Self {
            read: client.clone(),
            write: client,
        }
    }

    /// The API of `K` in one namespace, on the client that does not retry.
    pub fn api<K>(&self, namespace: &str) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.write.clone(), namespace)
    }
}

/// Where objects are looked for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    /// Everywhere; needs a ClusterRole.
    Cluster,
    /// In one namespace; needs a Role there.
    Namespace(String),
}

impl Scope {
    /// The scopes for a list of namespaces; an empty list means the cluster.
    pub fn from_namespaces(namespaces: &[String]) -> Vec<Self> {
        if namespaces.is_empty() {
            return vec![Self::Cluster];
        }
        let mut names = namespaces.to_vec();
        names.sort();
        names.dedup();
        names.into_iter().map(Self::Namespace).collect()
    }

    /// Whether objects of `namespace` are in this scope.
    pub fn contains(&self, namespace: &str) -> bool {
        match self {
            Self::Cluster => true,
            Self::Namespace(own) => own == namespace,
        }
    }

    /// The API of `K` in this scope.
    pub fn api<K>(&self, client: Client) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        match self {
            Self::Cluster => Api::all(client),
            Self::Namespace(namespace) => Api::namespaced(client, namespace),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::ConfigMap;
    use tokio::{net::TcpListener, time::Instant};

    #[tokio::test(start_paused = true)]
    async fn nothing_that_is_not_answered_is_waited_for_for_ever() {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        // Takes every connection and says nothing on any.
        let silent = tokio::spawn(async move {
            let mut held = Vec::new();
            while let Ok(connection) = listener.accept().await {
                held.push(connection);
            }
        });
        let clients = Clients::new(Config::new(url.parse().unwrap()), &ApiMetrics::new().unwrap()).unwrap();
        for (client, longest) in [(clients.read, READ_TIMEOUT), (clients.write, WRITE_TIMEOUT)] {
            let begun = Instant::now();
            let maps: Api<ConfigMap> = Api::namespaced(client, "shop");
            assert!(maps.list(&Default::default()).await.is_err());
            let waited = begun.elapsed();
            assert!(waited >= longest && waited < longest + CONNECT_TIMEOUT, "{waited:?}");
        }
        silent.abort();
    }

    #[test]
    fn no_namespace_means_the_cluster_and_names_count_once() {
        assert_eq!(Scope::from_namespaces(&[]), [Scope::Cluster]);
        let scopes = Scope::from_namespaces(&["b".into(), "a".into(), "b".into()]);
        assert_eq!(scopes, [Scope::Namespace("a".into()), Scope::Namespace("b".into())]);
        assert!(scopes[0].contains("a") && !scopes[0].contains("b") && Scope::Cluster.contains("b"));
    }
}
