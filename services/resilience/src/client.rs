//! The HTTP client of one target, over reqwest: the whole outbound order behind one `send`.

mod request;
mod response;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use http::{HeaderMap, HeaderValue, Method};

pub use self::request::RequestBuilder;
pub use self::response::ClientResponse;

use crate::faults::Faults;
use crate::outbound::{Classify, DefaultClassify, Target};
use crate::runtime::Resilience;

type Decorate = Arc<dyn Fn(&mut HeaderMap) + Send + Sync>;

/// A client that could not be built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// Neither the document nor the code says where the target is.
    #[error("target {target} has no url: set targets[].url in the ResilientService or call ClientBuilder::url")]
    NoUrl {
        /// The target.
        target: String,
    },
    /// Not a URL.
    #[error("url of target {target} is {url:?}: use http://host[:port][/path]: {cause}")]
    Url {
        /// The target.
        target: String,
        /// What was given.
        url: String,
        /// In words.
        cause: String,
    },
    /// reqwest could not be built.
    #[error("failed to build the HTTP client of target {target}: {source}")]
    Http {
        /// The target.
        target: String,
        /// What reqwest said.
        source: reqwest::Error,
    },
}

impl BuildError {
    /// A short word for logs.
    #[must_use]
    pub const fn category(&self) -> &'static str {
        match self {
            Self::NoUrl { .. } => "NoUrl",
            Self::Url { .. } => "Url",
            Self::Http { .. } => "Http",
        }
    }
}

/// Settings of a client that are the code's business.
#[must_use = "a client builder does nothing until it is built"]
pub struct ClientBuilder {
    resilience: Resilience,
    target: String,
    url: Option<String>,
    classify: Arc<dyn Classify>,
    decorate: Option<Decorate>,
    max_body: usize,
}

impl Resilience {
    /// Begins a client of the target called `name` in the document.
    ///
    /// ```no_run
    /// # async fn example(resilience: valerix_resilience::Resilience) -> Result<(), Box<dyn std::error::Error>> {
    /// let inventory = resilience.client("inventory").url("http://inventory.shop.svc").build()?;
    /// let answer = inventory
    ///     .post("/api/inventory/deduct")
    ///     .idempotency_key("order:42:reserve")
    ///     .json(&serde_json::json!({"item_id": "ps5", "quantity": 1}))
    ///     .send()
    ///     .await?;
    /// let reserved: serde_json::Value = answer.json().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn client(&self, name: &str) -> ClientBuilder {
        ClientBuilder {
            resilience: self.clone(),
            target: name.to_owned(),
            url: None,
            classify: Arc::new(DefaultClassify),
            decorate: None,
            max_body: 16 * 1024 * 1024,
        }
    }
}

impl ClientBuilder {
    /// Where the target is when the document does not say.
    pub fn url(mut self, url: impl Into<String>) -> Self {
        self.url = Some(url.into());
        self
    }

    /// What counts as a failure; [`DefaultClassify`] unless set.
    pub fn classify(mut self, classify: impl Classify) -> Self {
        self.classify = Arc::new(classify);
        self
    }

    /// Adds headers to every attempt, such as a trace context or a fresh token.
    pub fn decorate(mut self, decorate: impl Fn(&mut HeaderMap) + Send + Sync + 'static) -> Self {
        self.decorate = Some(Arc::new(decorate));
        self
    }

    /// The most bytes that `bytes`, `text` and `json` of an answer read. Default 16 MiB.
    pub const fn max_body(mut self, bytes: usize) -> Self {
        self.max_body = bytes;
        self
    }

    /// Builds it.
    ///
    /// # Errors
    /// When no URL is known or it is not one.
    pub fn build(self) -> Result<ResilientClient, BuildError> {
        let target = self.resilience.target(&self.target);
        let settings = target.settings();
        let url = settings.url.clone().or_else(|| self.url.clone());
        let url = url.ok_or_else(|| BuildError::NoUrl {
            target: self.target.clone(),
        })?;
        let parsed = reqwest::Url::parse(&url).map_err(|error| error.to_string());
        if let Err(cause) = parsed.and_then(|url| {
            if url.has_host() {
                Ok(())
            } else {
                Err("no host".to_owned())
            }
        }) {
            return Err(BuildError::Url {
                target: self.target,
                url,
                cause,
            });
        }
        let connect_timeout = settings.timeout.connect.get();
        drop(settings);
        let http = http_client(connect_timeout).map_err(|source| BuildError::Http {
            target: self.target.clone(),
            source,
        })?;
        let identity = HeaderValue::from_str(&self.resilience.identity()).ok();
        Ok(ResilientClient(Arc::new(Inner {
            target,
            url: self.url,
            classify: self.classify,
            decorate: self.decorate,
            max_body: self.max_body,
            faults: self.resilience.faults(),
            identity,
            http: ArcSwap::from_pointee((connect_timeout, http)),
        })))
    }
}

/// A client of one target. Clones share it.
#[derive(Clone)]
pub struct ResilientClient(Arc<Inner>);

struct Inner {
    target: Arc<Target>,
    url: Option<String>,
    classify: Arc<dyn Classify>,
    decorate: Option<Decorate>,
    max_body: usize,
    faults: Arc<Faults>,
    identity: Option<HeaderValue>,
    http: ArcSwap<(Duration, reqwest::Client)>,
}

impl ResilientClient {
    /// Begins a request to `path`, which is appended to the target's URL.
    pub fn request(&self, method: Method, path: impl Into<String>) -> RequestBuilder {
        RequestBuilder::new(self.clone(), method, path.into())
    }

    /// Begins a GET.
    pub fn get(&self, path: impl Into<String>) -> RequestBuilder {
        self.request(Method::GET, path)
    }

    /// Begins a POST.
    pub fn post(&self, path: impl Into<String>) -> RequestBuilder {
        self.request(Method::POST, path)
    }

    /// Begins a PUT.
    pub fn put(&self, path: impl Into<String>) -> RequestBuilder {
        self.request(Method::PUT, path)
    }

    /// Begins a DELETE.
    pub fn delete(&self, path: impl Into<String>) -> RequestBuilder {
        self.request(Method::DELETE, path)
    }

    /// The target, with its breaker.
    #[must_use]
    pub fn target(&self) -> &Arc<Target> {
        &self.0.target
    }

    /// The reqwest client; built anew when the document changed the connect timeout, which only it can hold.
    fn http(&self, connect_timeout: Duration) -> reqwest::Client {
        let current = self.0.http.load();
        if current.0 == connect_timeout {
            return current.1.clone();
        }
        match http_client(connect_timeout) {
            Ok(http) => {
                self.0.http.store(Arc::new((connect_timeout, http.clone())));
                http
            }
            Err(error) => {
                tracing::warn!(%error, "failed to rebuild an HTTP client, the former goes on");
                current.1.clone()
            }
        }
    }
}

impl std::fmt::Debug for ResilientClient {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("ResilientClient")
            .field("target", &self.0.target.name())
            .finish_non_exhaustive()
    }
}

fn http_client(connect_timeout: Duration) -> Result<reqwest::Client, reqwest::Error> {
    let builder = || {
        reqwest::Client::builder()
            .connect_timeout(connect_timeout)
            // A redirect would leave the target; environment proxies would break the addressing inside a cluster.
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            // One layer retries, and it is ours.
            .retry(reqwest::retry::never())
            .pool_idle_timeout(Duration::from_secs(30))
    };
    // An image without certificates can still call http:// targets.
    builder().build().or_else(|_| builder().tls_certs_only([]).build())
}
