//! One service put together: telemetry, health, metrics, background tasks, resilience, listeners, and the order in which
//! all of it begins and ends.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::routing::get;
use axum::{Extension, Router, extract::State};
use http::header;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use sqlx::PgPool;
use sqlx::migrate::Migrator;
use valerix_resilience::idempotency::Idempotency;
use valerix_resilience::policy::Policy;
use valerix_resilience::{Backoff, BuildError, Resilience, ResilientClient};

use crate::api::Api;
use crate::args::{BusArgs, DatabaseArgs, ServiceArgs};
use crate::events::Endpoint;
use crate::events::redis_streams::RedisStreams;
use crate::events::replay::Replays;
use crate::extract::Json;
use crate::health::Health;
use crate::identity::{Identity, InvalidCallKeys};
use crate::metrics::Metrics;
use crate::postgres::{Database, DatabaseUrlError};
use crate::problem::Problem;
use crate::server::{Handshake, Limits, Secure, serve, serve_secured};
use crate::tasks::Tasks;
use crate::{http_layers, telemetry};

/// How long background tasks may take to end.
const TASKS_TIMEOUT: Duration = Duration::from_secs(15);

/// What a service is built on; its parts are cheap to clone into handlers and tasks.
pub struct Service {
    /// Gates and deep checks.
    pub health: Health,
    /// The registry and the common metrics.
    pub metrics: Metrics,
    /// Relays, consumers, sweepers.
    pub tasks: Tasks,
    /// Clients of other services come from here; the server's layers are put on by [`Service::bind`].
    pub resilience: Resilience,
    /// Who calls. Auth itself puts its own keys here, before [`Service::bind`].
    pub identity: Identity,
    replays: Replays,
    args: ServiceArgs,
}

/// Why a service could not start. A dependency that is late is never a reason.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A metric is defined twice.
    #[error("failed to define the metrics")]
    Metrics(#[source] prometheus::Error),
    /// The resilience library does not start.
    #[error("failed to start the resilience library")]
    Resilience(#[source] valerix_resilience::StartError),
    /// The URL of the database is none.
    #[error("failed to open the database")]
    Database(#[source] DatabaseUrlError),
    /// A setting of the service's own is not acceptable.
    #[error("failed to read {setting}")]
    Setting {
        /// Which.
        setting: &'static str,
        /// Why not.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The keys that services share can not be read.
    #[error("failed to read the keys that services share")]
    Identity(#[source] InvalidCallKeys),
    /// The URL of another service is none.
    #[error("failed to make a client of {service}")]
    Client {
        /// The other service.
        service: String,
        /// Why not.
        #[source]
        source: BuildError,
    },
    /// The runtime does not start, or signals can not be heard.
    #[error("failed to start the runtime")]
    Runtime(#[source] std::io::Error),
    /// The address is taken or not ours.
    #[error("failed to listen on {address}")]
    Listen {
        /// What was asked for.
        address: SocketAddr,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
}

impl Service {
    /// The base of the service that `args` describes. From now on the policy documents are followed.
    ///
    /// # Errors
    /// When the metrics can not be defined, or a URL of Redis is none.
    pub async fn new(args: &ServiceArgs) -> Result<Self, StartError> {
        Self::build(args, Resilience::builder()).await
    }

    /// As [`new`](Self::new), for a service with a bus: rate limits that all replicas share are kept in its Redis, unless
    /// they have one of their own.
    ///
    /// # Errors
    /// When the metrics can not be defined, or `REDIS_LIMITS_URL` is no URL.
    pub async fn on_bus(args: &ServiceArgs, bus: &BusArgs) -> Result<Self, StartError> {
        let builder = Resilience::builder().redis_prefix(&bus.redis_prefix);
        // A URL that can not be used is told by the bus; without it limits are each replica's own.
        let builder = match valerix_resilience::redis_client::open(bus.redis_url.expose()) {
            Ok(_) => builder.redis_url(bus.redis_url.expose()),
            Err(_) => builder,
        };
        Self::build(args, builder).await
    }

    /// As [`new`](Self::new), with a policy that is in force until the folder has another.
    ///
    /// # Errors
    /// When the metrics can not be defined, a URL of Redis is none, or the policy is not a good one.
    pub async fn with_policy(args: &ServiceArgs, policy: Policy) -> Result<Self, StartError> {
        Self::build(args, Resilience::builder().policy(policy)).await
    }

    async fn build(args: &ServiceArgs, builder: valerix_resilience::Builder) -> Result<Self, StartError> {
        let metrics = Metrics::new().map_err(StartError::Metrics)?;
        let builder = args
            .redis_limits_url
            .iter()
            .fold(builder, |builder, url| builder.redis_url(url.expose()));
        let resilience = builder
            .service(&args.service)
            .namespace(&args.namespace)
            .pod_uid(&args.pod_uid)
            .policy_folder(&args.policy_dir)
            .state_folder(&args.state_dir)
            .registry(metrics.registry().clone())
            .start()
            .await
            .map_err(StartError::Resilience)?;
        let mut service = Self {
            health: Health::default(),
            tasks: Tasks::new(&metrics),
            metrics,
            resilience,
            replays: Replays::default(),
            identity: Identity::open(&args.service, &args.identity).map_err(StartError::Identity)?,
            args: args.clone(),
        };
        if let Some(auth) = &args.identity.auth_url {
            service.identity = service.identity.clone().closed_by(service.client("auth", auth)?);
            let identity = service.identity.clone();
            service.tasks.spawn_droppable("public-keys", move || {
                let identity = identity.clone();
                async move { identity.prepare().await }
            });
        }
        Ok(service)
    }

    /// A client of another service, as the policy document describes the target `name`, else at `url`; its calls carry
    /// the trace and the request id of the task that makes them, and prove who makes them where `CALL_KEYS` names `name`.
    ///
    /// # Errors
    /// When the URL is none.
    pub fn client(&self, name: &str, url: &str) -> Result<ResilientClient, StartError> {
        let (identity, target) = (self.identity.clone(), name.to_owned());
        self.resilience
            .client(name)
            .decorate(move |headers| {
                headers.extend(telemetry::outbound_headers());
                identity.prove(&target, headers);
            })
            .url(url)
            .build()
            .map_err(|source| StartError::Client {
                service: name.to_owned(),
                source,
            })
    }

    /// The service's own database. It is connected to and migrated in the background, however long that takes; the
    /// service is not ready before.
    ///
    /// # Errors
    /// When the URL is none.
    pub fn database(&self, args: &DatabaseArgs, migrations: fn() -> Migrator) -> Result<Database, StartError> {
        let database = Database::open(args, &self.args.service, &self.health).map_err(StartError::Database)?;
        let starting = database.clone();
        self.tasks.spawn_droppable("migrations", move || {
            let database = starting.clone();
            async move { database.migrate(migrations()).await }
        });
        Ok(database)
    }

    /// Something to be done in the migrated database before the service is ready; tried until it succeeds.
    pub fn prepare<W, F, E>(&self, name: &'static str, database: &Database, work: W)
    where
        W: Fn(PgPool) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: std::fmt::Display + Send + 'static,
    {
        let (gate, database) = (self.health.gate(name), database.clone());
        self.tasks.spawn_droppable(name, move || {
            let (gate, database, work) = (gate.clone(), database.clone(), work.clone());
            async move {
                database.ready().await;
                let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));
                while let Err(error) = work(database.pool().clone()).await {
                    tracing::warn!(preparation = name, %error, "the service is not prepared, trying again");
                    tokio::time::sleep(backoff.next_delay()).await;
                }
                gate.open();
            }
        });
    }

    /// Forgets idempotency keys that have expired, as long as the service runs.
    pub fn sweep_expired_keys(&self, database: &Database) {
        let keys = database.pool().clone();
        self.tasks.spawn_when_ready("idempotency", database, move |stop| {
            Idempotency::sweep(keys.clone(), stop)
        });
    }

    /// The service's end of the bus: from now on the outbox of `database` is published.
    pub fn events(&self, args: &BusArgs, database: &Database) -> Endpoint {
        let streams = RedisStreams::open(args);
        self.health.register("redis", Arc::new(streams.clone()));
        Endpoint::start(
            Arc::new(streams),
            database,
            &self.tasks,
            &self.metrics,
            &self.args,
            &self.replays,
        )
    }

    /// Listens on both ports and answers nothing yet; see [`Server::run`].
    ///
    /// # Errors
    /// When a port can not be had.
    pub async fn bind(self, api: impl Into<Api>) -> Result<Server, StartError> {
        let layer = self.resilience.server_layer();
        self.bind_protected(api, |routes| routes.layer(layer)).await
    }

    /// As [`bind`](Self::bind), for a service that puts the resilience layer on its routes itself: with what only it knows
    /// of its callers, and with layers of its own around it.
    ///
    /// # Errors
    /// When a port can not be had.
    pub async fn bind_protected(
        self,
        api: impl Into<Api>,
        protect: impl FnOnce(Router) -> Router,
    ) -> Result<Server, StartError> {
        if self.identity.is_open() {
            tracing::warn!("AUTH_URL is not set: no route asks for a token of auth");
        }
        let (routes, document) = self.replays.add_routes(api.into()).into_parts();
        let routes = routes.layer(Extension(self.identity.clone()));
        let main = listen(self.args.listen_address).await?;
        let report = listen(SocketAddr::new(self.args.listen_address.ip(), self.args.report_port)).await?;
        let router = http_layers::assemble(routes, document, self.health.clone(), self.metrics.clone(), protect);
        Ok(Server {
            service: self,
            main,
            secure: None,
            report,
            router,
        })
    }
}

async fn listen(address: SocketAddr) -> Result<Listener, StartError> {
    let listen = async {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        Ok(Listener { listener, address })
    };
    listen.await.map_err(|source| StartError::Listen { address, source })
}

struct Listener {
    listener: TcpListener,
    address: SocketAddr,
}

/// A service that has its ports and may run.
pub struct Server {
    service: Service,
    main: Listener,
    secure: Option<(Listener, Handshake)>,
    report: Listener,
    router: Router,
}

impl Server {
    /// Serves the API at `address` too, on connections that `handshake` secures. Handlers find [`Secure`] among the
    /// extensions of their requests.
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
            router,
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
            let router = router.clone().layer(Extension(Secure));
            tokio::spawn(serve_secured(
                listener.listener,
                handshake,
                router,
                limits,
                close_main.clone(),
            ))
        });
        let mut main = tokio::spawn(serve(main.listener, router, limits, close_main.clone()));

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

/// The `main` of a service: telemetry, the TLS provider, a runtime, `build`, and run until SIGTERM or SIGINT.
///
/// # Errors
/// What `build` says, or the runtime.
pub fn launch<B, F>(args: &ServiceArgs, build: B) -> Result<(), StartError>
where
    B: FnOnce() -> F,
    F: Future<Output = Result<Server, StartError>>,
{
    // Two crates in one process must not each choose a provider; an error means that one is set already.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(StartError::Runtime)?;
    let export = telemetry::start(args, &runtime);
    let ended = runtime.block_on(async {
        let stop = stop_signal().map_err(StartError::Runtime)?;
        let server = build().await?;
        server.run(stop).await;
        Ok(())
    });
    if let Some(export) = export {
        export.end();
    }
    ended
}

/// A token that is cancelled by SIGTERM or SIGINT.
///
/// # Errors
/// When signals cannot be heard.
pub fn stop_signal() -> std::io::Result<CancellationToken> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let stop = CancellationToken::new();
    let cancelled = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        cancelled.cancel();
    });
    Ok(stop)
}
