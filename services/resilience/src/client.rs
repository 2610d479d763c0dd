//! The HTTP client of one target, over reqwest: the whole outbound order behind one `send`.

mod connect;
mod request;
mod response;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use http::{HeaderMap, HeaderValue, Method};

pub use self::request::RequestBuilder;
pub use self::response::ClientResponse;

use self::connect::{Configure, Connections};
use crate::faults::Faults;
use crate::outbound::{Balancer, Classify, ClusterResolver, DefaultClassify, Endpoint, Resolve, Target};
use crate::runtime::Resilience;

type Decorate = Arc<dyn Fn(&mut HeaderMap) + Send + Sync>;

/// A client that could not be built.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// # let resilience = valerix_resilience::Resilience::builder().start().await.unwrap();
/// let error = resilience.client("inventory").url("inventory:80").build().unwrap_err();
/// assert_eq!(error.category(), "Url");
/// # });
/// ```
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

/// Settings of a client that are the code's business; all others are the document's.
///
/// ```no_run
/// # fn example(resilience: valerix_resilience::Resilience) -> Result<(), valerix_resilience::BuildError> {
/// let payment = resilience
///     .client("payment")
///     .url("http://payment.shop.svc")
///     .decorate(|headers| {
///         headers.insert("x-tenant", http::HeaderValue::from_static("acme"));
///     })
///     .max_body(64 * 1024)
///     .build()?;
/// # Ok(())
/// # }
/// ```
#[must_use = "a client builder does nothing until it is built"]
pub struct ClientBuilder {
    resilience: Resilience,
    target: String,
    url: Option<String>,
    classify: Arc<dyn Classify>,
    decorate: Option<Decorate>,
    resolver: Arc<dyn Resolve>,
    configure: Option<Configure>,
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
            resolver: Arc::new(ClusterResolver::new()),
            configure: None,
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

    /// Where the target's addresses come from; [`ClusterResolver`] unless set. Not asked when the URL's host is an IP
    /// address, or while the document says `balancing: {type: None}`.
    pub fn resolver(mut self, resolver: impl Resolve) -> Self {
        self.resolver = Arc::new(resolver);
        self
    }

    /// Changes every reqwest client that is built, such as by a certificate authority or an identity. Called again
    /// whenever one is built anew. What the policy decides (timeouts, redirects, retries) is best left alone.
    ///
    /// ```no_run
    /// # fn example(resilience: valerix_resilience::Resilience) -> Result<(), Box<dyn std::error::Error>> {
    /// let authority = reqwest::Certificate::from_pem(&std::fs::read("/etc/bank/ca.pem")?)?;
    /// let bank = resilience
    ///     .client("bank")
    ///     .url("https://bank.example")
    ///     .configure(move |builder| builder.add_root_certificate(authority.clone()))
    ///     .build()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn configure(
        mut self,
        configure: impl Fn(reqwest::ClientBuilder) -> reqwest::ClientBuilder + Send + Sync + 'static,
    ) -> Self {
        self.configure = Some(Arc::new(configure));
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
        let connections = Connections::new(connect_timeout, self.configure).map_err(|source| BuildError::Http {
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
            connections,
            resolver: self.resolver,
            place: ArcSwapOption::empty(),
        })))
    }
}

/// A client of one target. Clones share it.
///
/// ```no_run
/// # async fn example(inventory: valerix_resilience::ResilientClient) -> Result<(), valerix_resilience::CallError> {
/// let items: Vec<String> = inventory.get("/api/items").query("sort", "name").send().await?.json().await?;
/// # Ok(())
/// # }
/// ```
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
    connections: Connections,
    resolver: Arc<dyn Resolve>,
    place: ArcSwapOption<Place>,
}

/// A base URL and the addresses behind it.
struct Place {
    url: String,
    balancer: Option<Arc<Balancer>>,
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

    /// The addresses behind a base URL, which the document may change.
    fn balancer(&self, url: &str) -> Option<Arc<Balancer>> {
        let current = self.0.place.load();
        if let Some(place) = current.as_deref()
            && place.url == url
        {
            return place.balancer.clone();
        }
        let place = Place {
            url: url.to_owned(),
            balancer: self.new_balancer(url).map(Arc::new),
        };
        let balancer = place.balancer.clone();
        self.0.place.store(Some(Arc::new(place)));
        balancer
    }

    fn new_balancer(&self, url: &str) -> Option<Balancer> {
        let url = reqwest::Url::parse(url).ok()?;
        let port = url.port_or_known_default()?;
        let host = url.host_str()?;
        let hosts = Arc::clone(&self.0.target.hosts);
        Some(match host.trim_matches(['[', ']']).parse::<IpAddr>() {
            Ok(address) => Balancer::fixed(SocketAddr::new(address, port), hosts),
            Err(_) => Balancer::new(
                Endpoint::new(url.scheme(), host, port),
                Arc::clone(&self.0.resolver),
                hosts,
            ),
        })
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
