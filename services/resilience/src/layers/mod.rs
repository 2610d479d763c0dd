//! Each protection as a [`tower::Layer`] of its own, without a document, a folder or a running library.
//!
//! | layer | refuses | with |
//! |---|---|---|
//! | [`CircuitBreakerLayer`] | while the dependency fails | [`LayerError::CircuitOpen`] |
//! | [`RetryLayer`] | to repeat beyond its budget | [`LayerError::BudgetExhausted`] |
//! | [`TimeoutLayer`] | to wait beyond its time or the caller's | [`LayerError::Timeout`] |
//! | [`BulkheadLayer`] | more calls at a time than it has places | [`LayerError::BulkheadFull`] |
//! | [`ConcurrencyLimitLayer`] | the less important requests first as the service fills | [`LayerError::Overloaded`] |
//! | [`RateLimitLayer`] | more requests per time than its quota | [`LayerError::RateLimited`] |
//!
//! Every layer has one error type, [`LayerError`], whatever is around or inside: the errors of other services are kept
//! in [`LayerError::Inner`], and those of these layers are never nested. In an axum router put
//! `axum::error_handling::HandleErrorLayer` outside; [`LayerError`] is an answer there (feature `axum`).
//!
//! What holds for all of them:
//! - The service that was polled ready is the one that is called; retries poll a clone of it ready themselves.
//! - What a layer counts or lends is shared by all services made from it and by their clones.
//! - A future that is dropped gives back what it held: permits, probes, places.
//! - Nothing is spawned, and nothing wakes itself.
//!
//! For outgoing calls the order is: total timeout, retry, bulkhead, breaker, timeout of an attempt.
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! use std::time::Duration;
//! use tower::{Service, ServiceBuilder, ServiceExt, service_fn};
//! use valerix_resilience::layers::{BulkheadLayer, CircuitBreakerLayer, LayerError, RetryLayer, TimeoutLayer};
//! use valerix_resilience::policy;
//!
//! let upstream = service_fn(|request: http::Request<String>| async move {
//!     Ok::<_, std::io::Error>(http::Response::new(request.into_body()))
//! });
//! let mut inventory = ServiceBuilder::new()
//!     .layer(TimeoutLayer::new("inventory", Duration::from_secs(2)))
//!     .layer(RetryLayer::http("inventory", policy::Retry::default()))
//!     .layer(BulkheadLayer::new("inventory", 100))
//!     .layer(CircuitBreakerLayer::http("inventory", &policy::CircuitBreaker::default()))
//!     .layer(TimeoutLayer::new("inventory", Duration::from_millis(500)))
//!     .service(upstream);
//! let answer = inventory.ready().await?.call(http::Request::new("hello".to_owned())).await?;
//! assert_eq!(answer.into_body(), "hello");
//! # Ok::<(), LayerError>(())
//! # }).unwrap();
//! ```

mod breaker;
mod bulkhead;
mod concurrency;
mod error;
mod hold;
mod rate_limit;
mod retry;
mod timeout;

pub use self::breaker::{AnyAnswer, CircuitBreakerLayer, CircuitBreakerService, ClassifyAnswer, HttpAnswer};
pub use self::bulkhead::{BulkheadLayer, BulkheadService};
pub use self::concurrency::{AllAlike, ConcurrencyLimitLayer, ConcurrencyLimitService, PriorityOf};
pub use self::error::LayerError;
pub use self::hold::{Hold, UntilBody, UntilResponse};
pub use self::rate_limit::{KeyOf, OneKey, RateLimitLayer, RateLimitService};
pub use self::retry::{HttpRetry, RetryDecision, RetryLayer, RetryPolicy, RetryService};
pub use self::timeout::{CarryDeadline, HeaderIn, HeaderOut, NoHeader, TimeoutLayer, TimeoutService};

/// The futures of the layers' services.
pub mod future {
    pub use super::breaker::CircuitBreakerFuture;
    pub use super::bulkhead::BulkheadFuture;
    pub use super::rate_limit::RateLimitFuture;
    pub use super::retry::RetryFuture;
    pub use super::timeout::TimeoutFuture;
}

pub use crate::held::HeldBody;
pub use crate::outbound::HttpHead;

/// The name of what is protected, in errors.
type Name = std::sync::Arc<str>;
