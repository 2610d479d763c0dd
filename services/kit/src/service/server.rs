//! A service that has its ports, and the order in which all of it ends.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use http::header;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::{Service, StartError};
use crate::extract::Json;
use crate::health::Health;
use crate::metrics::Metrics;
use crate::problem::Problem;
use crate::server::{Answers, Handshake, Limits, serve, serve_secured};

/// How long background tasks may take to end.
const TASKS_TIMEOUT: Duration = Duration::from_secs(15);

pub(super) async fn listen(address: SocketAddr) -> Result<Listener, StartError> {
    let listen = async {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        Ok(Listener { listener, address })
    };
    listen.await.map_err(|source| StartError::Listen { address, source })
}

/// A port that is the service's, with where that is.
pub(super) struct Listener {
    listener: TcpListener,
    address: SocketAddr,
}

/// A service that has its ports and may run.
pub struct Server {
    pub(super) service: Service,
    pub(super) main: Listener,
    pub(super) secure: Option<(Listener, Handshake)>,
    pub(super) report: Listener,
    pub(super) answers: Arc<dyn Answers>,
}

impl Server {
    /// Serves the API at `address` too, on connections that `handshake` secures. Handlers find
    /// [`Secure`](crate::server::Secure) among the extensions of their requests.
    ///
    /// # Errors
    /// When the port can not be had.
    pub async fn secured(self, address: SocketAddr, handshake: Handshake) -> Result<Self, StartError> {
        let secure = Some((listen(address).await?, handshake));
        Ok(Self { secure, ..self })
    }

    /// Where the API listens for secured connections, if it does.
    pub fn secure_address(&self) -> Option<SocketAddr> {
        self.secure.as_ref().map(|(listener, _)| listener.address)
    }

    /// Where the API listens.
    pub fn address(&self) -> SocketAddr {
        self.main.address
    }

    /// Where the report listens.
    pub fn report_address(&self) -> SocketAddr {
        self.report.address
    }

    /// Serves until `stop` is cancelled, then: ready off, serve on for `drain_wait`, take no new connection, finish what is
    /// in flight, end the background tasks, and the report last.
    pub async fn run(self, stop: CancellationToken) {
        let Self {
            service:
                Service {
                    health,
                    metrics,
                    tasks,
                    resilience,
                    args,
                    identity: _,
                    replays: _,
                },
            main,
            secure,
            report,
            answers,
        } = self;
        let limits = args.limits();
        let (close_main, close_report) = (CancellationToken::new(), CancellationToken::new());
        let watchdog = tokio::spawn({
            let health = health.clone();
            async move { health.watchdog().await }
        });
        let report_limits = Limits {
            drain_timeout: Duration::from_secs(1),
            ..limits
        };
        let report = tokio::spawn(serve(
            report.listener,
            report_router(health.clone(), metrics).merge(resilience.report_router()),
            report_limits,
            close_report.clone(),
        ));
        tracing::info!(service = args.service, address = %main.address, "serving");
        let secure = secure.map(|(listener, handshake)| {
            tokio::spawn(serve_secured(
                listener.listener,
                handshake,
                Arc::clone(&answers),
                limits,
                close_main.clone(),
            ))
        });
        let mut main = tokio::spawn(serve(main.listener, answers, limits, close_main.clone()));

        tokio::select! {
            () = stop.cancelled() => {}
            _ = &mut main => tracing::error!("the server ended by itself"),
        }
        health.drain();
        tracing::info!(wait_ms = args.drain_wait.as_millis(), "draining");
        tokio::time::sleep(args.drain_wait).await;
        close_main.cancel();
        if !main.is_finished()
            && let Ok(cut @ 1..) = main.await
        {
            tracing::warn!(connections = cut, "connections were cut, their requests took too long");
        }
        if let Some(secure) = secure
            && let Ok(cut @ 1..) = secure.await
        {
            tracing::warn!(
                connections = cut,
                "secured connections were cut, their requests took too long"
            );
        }
        // Handlers whose callers have gone run on in tasks of their own.
        let handlers = resilience.tasks();
        handlers.close();
        if tokio::time::timeout(args.drain_timeout, handlers.wait()).await.is_err() {
            tracing::warn!(handlers = handlers.len(), "handlers did not finish in time");
        }
        if !tasks.stop(TASKS_TIMEOUT).await {
            tracing::warn!("background tasks did not end in time");
        }
        close_report.cancel();
        let _ = report.await;
        watchdog.abort();
        tracing::info!("ended");
    }
}

/// What the report port serves beside `/resilience`: `/metrics` and `/health/deep`.
pub fn report_router(health: Health, metrics: Metrics) -> Router {
    let metrics = Router::new()
        .route(
            "/metrics",
            get(|State(metrics): State<Metrics>| async move {
                let text = metrics.render().map_err(|error| Problem::internal(&error))?;
                Ok::<_, Problem>((
                    [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")],
                    text,
                ))
            }),
        )
        .with_state(metrics);
    let deep = Router::new()
        .route(
            "/health/deep",
            get(|State(health): State<Health>| async move { Json(health.deep().await) }),
        )
        .with_state(health);
    metrics.merge(deep)
}
