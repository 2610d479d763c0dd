//! One service put together: telemetry, health, metrics, background tasks, resilience, listeners, and the order in which
//! all of it begins and ends.

mod error;
mod launch;
mod server;

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::{Extension, Router};
use sqlx::PgPool;
use sqlx::migrate::Migrator;
use valerix_resilience::idempotency::Idempotency;
use valerix_resilience::policy::Policy;
use valerix_resilience::{Backoff, Resilience, ResilientClient, redis_client};

pub use self::error::StartError;
pub use self::launch::{launch, runtime, stop_signal};
pub use self::server::{Server, report_router};

use self::server::listen;
use crate::api::Api;
use crate::args::{BusArgs, DatabaseArgs, Secret, ServiceArgs};
use crate::events::Endpoint;
use crate::events::redis_streams::RedisStreams;
use crate::events::replay::Replays;
use crate::health::Health;
use crate::http_layers::{self, Front};
use crate::identity::Identity;
use crate::metrics::Metrics;
use crate::postgres::Database;
use crate::server::Answers;
use crate::tasks::Tasks;
use crate::telemetry;

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

impl Service {
    /// The base of the service that `args` describes. From now on the policy documents are followed.
    ///
    /// # Errors
    /// When the metrics can not be defined.
    pub async fn new(args: &ServiceArgs) -> Result<Self, StartError> {
        Self::build(args, Resilience::builder()).await
    }

    /// As [`new`](Self::new), for a service with a bus: rate limits that all replicas share are kept in its Redis, unless
    /// they have one of their own.
    ///
    /// # Errors
    /// When the metrics can not be defined.
    pub async fn on_bus(args: &ServiceArgs, bus: &BusArgs) -> Result<Self, StartError> {
        let builder = Resilience::builder().redis_prefix(&bus.redis_prefix);
        // A URL that can not be used is told by the bus; without it limits are each replica's own.
        let builder = match redis_client::open(bus.redis_url.expose()) {
            Ok(_) => builder.redis_url(bus.redis_url.expose()),
            Err(_) => builder,
        };
        Self::build(args, builder).await
    }

    /// As [`new`](Self::new), with a policy that is in force until the folder has another.
    ///
    /// # Errors
    /// When the metrics can not be defined, or the policy is not a good one.
    pub async fn with_policy(args: &ServiceArgs, policy: Policy) -> Result<Self, StartError> {
        Self::build(args, Resilience::builder().policy(policy)).await
    }

    async fn build(args: &ServiceArgs, builder: valerix_resilience::Builder) -> Result<Self, StartError> {
        let metrics = Metrics::new().map_err(StartError::Metrics)?;
        let limits = args.redis_limits_url.as_ref().map(Secret::expose);
        let builder = match limits.map(|url| (url, redis_client::open(url))) {
            Some((url, Ok(_))) => builder.redis_url(url),
            Some((_, Err(error))) => {
                tracing::error!(%error, "REDIS_LIMITS_URL can not be used: shared limits are kept without it");
                builder
            }
            None => builder,
        };
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
        self.bind_behind(api, protect, |router, _| router).await
    }

    /// As [`bind_protected`](Self::bind_protected), for a service that answers most of its requests past its routes: what
    /// `before` makes of the whole router is served in its place.
    ///
    /// # Errors
    /// When a port can not be had.
    pub async fn bind_behind<A: Answers>(
        self,
        api: impl Into<Api>,
        protect: impl FnOnce(Router) -> Router,
        before: impl FnOnce(Router, Front) -> A,
    ) -> Result<Server, StartError> {
        if self.identity.is_open() {
            tracing::warn!("AUTH_URL is not set: no route asks for a token of auth");
        }
        let (routes, document) = self.replays.add_routes(api.into()).into_parts();
        let routes = routes.layer(Extension(self.identity.clone()));
        let main = listen(self.args.listen_address).await?;
        let report = listen(SocketAddr::new(self.args.listen_address.ip(), self.args.report_port)).await?;
        let front = Front::new(self.health.clone(), self.metrics.clone());
        let router = http_layers::assemble(routes, document, self.health.clone(), self.metrics.clone(), protect);
        Ok(Server {
            service: self,
            main,
            secure: None,
            report,
            answers: Arc::new(before(router, front)),
        })
    }
}
