//! How a client over reqwest is put together: what is the code's business, and not the document's.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use http::{HeaderMap, HeaderValue};

use super::connect::{Configure, Connections};
use super::resilient::{Decorate, Inner, ResilientClient};
use crate::outbound::{Classify, ClusterResolver, DefaultClassify, Head, Resolve, RetryOn};
use crate::runtime::Resilience;

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

/// What of a client is the code's business; all others are the document's.
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
    retry_on: Option<Arc<RetryOn>>,
    resolver: Option<Arc<dyn Resolve>>,
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
            retry_on: None,
            resolver: None,
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

    /// Which answers are worth another attempt, where a request may be repeated at all: 502, 503 and 504 unless set. An
    /// answer with `Valerix-Retry: no` never is.
    ///
    /// ```no_run
    /// # fn example(resilience: valerix_resilience::Resilience) -> Result<(), valerix_resilience::BuildError> {
    /// let search = resilience
    ///     .client("search")
    ///     .url("http://search.internal")
    ///     // It says 429 when it is busy, with a `Retry-After`.
    ///     .retry_on(|head| matches!(head.status.as_u16(), 429 | 502..=504))
    ///     .build()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn retry_on(mut self, wanted: impl Fn(Head<'_>) -> bool + Send + Sync + 'static) -> Self {
        self.retry_on = Some(Arc::new(wanted));
        self
    }

    /// Adds headers to every attempt, such as a trace context or a fresh token.
    pub fn decorate(mut self, decorate: impl Fn(&mut HeaderMap) + Send + Sync + 'static) -> Self {
        self.decorate = Some(Arc::new(decorate));
        self
    }

    /// Where the target's addresses come from; [`ClusterResolver`] unless set. Not asked when the URL's host is an IP
    /// address, or while the document says `balancing: {type: None}`.
    ///
    /// Over https a client of its own, with its own connections, is needed for each address. So unless a resolver is set
    /// here or the document says `balancing: {type: P2C}`, only hosts of the cluster are balanced there: the addresses of
    /// others (a cloud's, say) may change with every answer of DNS.
    pub fn resolver(mut self, resolver: impl Resolve) -> Self {
        self.resolver = Some(Arc::new(resolver));
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
        let policy = target.policy();
        let url = policy.url.clone().or_else(|| self.url.clone());
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
        let connect_timeout = policy.timeout.connect.get();
        drop(policy);
        let connections = Connections::new(connect_timeout, self.configure).map_err(|source| BuildError::Http {
            target: self.target.clone(),
            source,
        })?;
        let identity = HeaderValue::from_str(&self.resilience.identity()).ok();
        Ok(ResilientClient::new(Inner {
            target,
            url: self.url,
            classify: self.classify,
            decorate: self.decorate,
            max_body: self.max_body,
            faults: self.resilience.faults(),
            identity,
            connections,
            retry_on: self.retry_on,
            resolver_given: self.resolver.is_some(),
            resolver: self.resolver.unwrap_or_else(|| Arc::new(ClusterResolver::new())),
            place: ArcSwapOption::empty(),
        }))
    }
}
