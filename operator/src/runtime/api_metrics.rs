//! What is asked of the API server and how it answers, counted where every request passes.

use http::{Request, Response};
use prometheus::{IntCounterVec, IntGaugeVec, Opts, core::Collector, core::Desc, proto::MetricFamily};
use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::{SystemTime, UNIX_EPOCH},
};
use tower::{Layer, Service};

/// The counters, a layer for clients and a collector for the registry; cheap to clone, all clones are one.
#[derive(Clone)]
pub struct ApiMetrics {
    requests: IntCounterVec,
    watches: IntGaugeVec,
}

impl ApiMetrics {
    /// Counters that nobody reads yet.
    ///
    /// # Errors
    /// When a description is invalid, which is a mistake in this file.
    pub fn new() -> prometheus::Result<Self> {
        Ok(Self {
            requests: IntCounterVec::new(
                Opts::new(
                    "valerix_api_requests_total",
                    "Requests to the API server by method and status; status is none where there was no answer.",
                ),
                &["method", "status"],
            )?,
            watches: IntGaugeVec::new(
                Opts::new(
                    "valerix_watch_opened_timestamp_seconds",
                    "When the API server last accepted a watch, by resource, in seconds since the epoch. Each is opened anew every 30 seconds.",
                ),
                &["resource"],
            )?,
        })
    }

    fn answered(&self, method: &str, watched: Option<&str>, status: Option<u16>) {
        let code = status.map_or_else(|| "none".to_owned(), |status| status.to_string());
        self.requests.with_label_values(&[method, code.as_str()]).inc();
        if let (Some(resource), Some(200)) = (watched, status) {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            let seconds = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
            self.watches.with_label_values(&[resource]).set(seconds);
        }
    }
}

impl Collector for ApiMetrics {
    fn desc(&self) -> Vec<&Desc> {
        self.requests.desc().into_iter().chain(self.watches.desc()).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let mut families = self.requests.collect();
        families.extend(self.watches.collect());
        families
    }
}

impl<S> Layer<S> for ApiMetrics {
    type Service = Counted<S>;

    fn layer(&self, inner: S) -> Counted<S> {
        Counted {
            inner,
            metrics: self.clone(),
        }
    }
}

/// A client's service with the counters around it.
#[derive(Clone)]
pub struct Counted<S> {
    inner: S,
    metrics: ApiMetrics,
}

impl<S, A, B> Service<Request<A>> for Counted<S>
where
    S: Service<Request<A>, Response = Response<B>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<A>) -> Self::Future {
        let (metrics, method) = (self.metrics.clone(), request.method().clone());
        let watched = watched(request.uri());
        let answer = self.inner.call(request);
        Box::pin(async move {
            let answer = answer.await;
            let status = answer.as_ref().ok().map(|answer| answer.status().as_u16());
            metrics.answered(method.as_str(), watched.as_deref(), status);
            answer
        })
    }
}

/// The resource whose watch a request opens: the last part of its path.
fn watched(uri: &http::Uri) -> Option<String> {
    let mut query = uri.query()?.split('&');
    query
        .any(|pair| pair == "watch=true")
        .then(|| uri.path().rsplit('/').next().map(str::to_owned))?
}

#[cfg(test)]
mod tests {
    use super::*;
    use tower::{ServiceExt, service_fn};

    async fn ask(metrics: &ApiMetrics, uri: &str, status: Option<u16>) {
        let service = service_fn(move |_: Request<()>| async move {
            let status = status.ok_or("cut off")?;
            Ok::<_, &str>(Response::builder().status(status).body(()).unwrap())
        });
        let request = Request::builder().uri(uri).body(()).unwrap();
        let _ = metrics.layer(service).oneshot(request).await;
    }

    #[tokio::test]
    async fn every_answer_counts_and_a_watch_is_dated() {
        let metrics = ApiMetrics::new().unwrap();
        let pods = "/api/v1/namespaces/shop/pods";
        ask(&metrics, pods, Some(409)).await;
        ask(&metrics, pods, None).await;
        ask(
            &metrics,
            &format!("{pods}?allowWatchBookmarks=true&watch=true"),
            Some(410),
        )
        .await;
        let dated = || metrics.watches.collect()[0].get_metric().len();
        assert_eq!(dated(), 0, "a watch that was refused is none");
        ask(&metrics, &format!("{pods}?watch=true&timeoutSeconds=30"), Some(200)).await;
        assert!(metrics.watches.with_label_values(&["pods"]).get() > 1_700_000_000);
        for status in ["409", "none", "410", "200"] {
            assert_eq!(
                metrics.requests.with_label_values(&["GET", status]).get(),
                1,
                "{status}"
            );
        }
        assert_eq!(dated(), 1);
    }
}
