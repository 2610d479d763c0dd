//! Puts the guard together, runs it, and ends it after the application.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use axum::extract::Request;
use axum::routing::get;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use valerix_kit::health::Health;
use valerix_kit::metrics::Metrics;
use valerix_kit::observed;
use valerix_kit::server::{Answers, Limits, serve};
use valerix_kit::service::{report_router, runtime, stop_signal};
use valerix_kit::telemetry;
use valerix_policy::guard::{Protocol, TargetListener};
use valerix_proxy::{Tls, TlsError};
use valerix_resilience::Resilience;

use crate::config::{Config, speaks};
use crate::forward_proxy::ForwardProxy;
use crate::idempotency::{Keys, Store};
use crate::inbound::{Inbound, Shared};
use crate::memory::Unsent;
use crate::targets::Targets;
use crate::tcp::{Connections, Cut, Relay, Towards};

/// How often it is looked whether the application is gone, once the guard is told to stop.
const LOOK: Duration = Duration::from_millis(100);
/// Connections of who asks for the report, or for its metrics.
const REPORT_CONNECTIONS: usize = 128;
/// How long an answer of the report may take once all else has ended, as in the services.
const REPORT_DRAIN: Duration = Duration::from_secs(1);
/// Threads at most: what passes here waits for the network, and memory is asked for by each.
const THREADS: usize = 2;

/// A guard that has its ports and may run.
pub struct Guard {
    config: Config,
    resilience: Resilience,
    keys: Keys,
    end: CancellationToken,
    inbound: Vec<Listener>,
    outbound: Vec<Listener>,
    report: Listener,
}

struct Listener {
    name: String,
    address: SocketAddr,
    listener: TcpListener,
    what: What,
}

enum What {
    Http(Arc<dyn Answers>),
    Tcp(Box<Relay>),
}

/// The `main` of the guard: telemetry, a runtime, and run until SIGTERM or SIGINT.
///
/// # Errors
/// When a port is taken, a setting is not acceptable, or there is no runtime.
pub fn launch(config: Config) -> anyhow::Result<()> {
    let runtime = runtime(THREADS).context("failed to start the runtime")?;
    let export = telemetry::start(&config.service, &runtime);
    let ended = runtime.block_on(async {
        let stop = stop_signal().context("failed to listen for signals")?;
        let guard = Guard::build(config).await?;
        guard.run(stop).await;
        Ok(())
    });
    if let Some(export) = export {
        // The last spans leave by connections of this runtime, which has to go on meanwhile.
        let _ = runtime.block_on(runtime.spawn_blocking(|| export.end()));
    }
    ended
}

impl Guard {
    /// Listens on every port of the wiring and answers nothing yet; see [`run`](Self::run).
    ///
    /// # Errors
    /// When a port is taken or a setting is not acceptable; never because the application or a target is late.
    pub async fn build(config: Config) -> anyhow::Result<Self> {
        let (args, bounds) = (&config.service, config.bounds());
        let metrics = Metrics::new().context("failed to define the metrics")?;
        let builder = args
            .redis_limits_url
            .iter()
            .fold(Resilience::builder(), |builder, url| builder.redis_url(url.expose()));
        let resilience = builder
            .service(&args.service)
            .namespace(&args.namespace)
            .pod_uid(&args.pod_uid)
            .policy_folder(&args.policy_dir)
            .state_folder(&args.state_dir)
            .registry(metrics.registry().clone())
            .start()
            .await
            .context("failed to start the resilience library")?;
        let end = CancellationToken::new();
        let cut = Cut::new(&resilience, end.clone());
        let connections = Connections::new(&metrics).context("failed to define the metrics")?;
        let relay = |listener: String, towards: Towards| {
            What::Tcp(Box::new(Relay {
                name: listener.into(),
                towards,
                resilience: resilience.clone(),
                cut: cut.clone(),
                connections: connections.clone(),
            }))
        };
        let tls = Tls::of_system()
            .inspect_err(|error| tracing::warn!(%error, "targets of https cannot be called"))
            .ok();
        let followed = |tls: Tls| {
            let (following, ended) = (tls.clone(), end.clone());
            tokio::spawn(async move { ended.run_until_cancelled(following.follow()).await });
            tls
        };
        let tls = tls.map(followed);
        // Who collects no spans pays for none, and hears of answers as the application gives them.
        let traced = |name: String, answers: Arc<dyn Answers>| {
            What::Http(if telemetry::export::is_on() {
                Arc::new(observed(as_router(answers), metrics.clone(), &name))
            } else {
                answers
            })
        };
        let targets = Targets::new(&resilience, tls.clone());
        let store = match &args.redis_limits_url {
            Some(url) => {
                let prefix = format!("valerix:guard:{}/{}:", args.namespace, args.service);
                Store::redis(url.expose().to_owned(), prefix)
            }
            None => Store::memory(bounds.kept),
        };
        let keys = Keys::new(&resilience, store, bounds.keyed);
        let shared = Shared {
            keys: keys.clone(),
            unsent: Unsent::at_most(bounds.unsent),
            places: Arc::new(Semaphore::new(bounds.requests)),
        };
        let ip = args.listen_address.ip();

        let mut inbound = Vec::new();
        for port in &config.wiring.inbound {
            let application = config.application(port.forward);
            let what = match port.protocol {
                Protocol::Tcp => relay(
                    format!("inbound {}", port.name),
                    Towards::Application(application.into()),
                ),
                protocol => {
                    let inbound = Inbound::new(&resilience, &application, speaks(protocol), shared.clone());
                    traced(format!("inbound {}", port.name), Arc::new(inbound))
                }
            };
            inbound.push(Listener::open(&port.name, (ip, port.listen).into(), what).await?);
        }
        let mut outbound = Vec::new();
        let loopback = |port: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        for port in &config.wiring.targets {
            let tls =
                own_tls(port, tls.as_ref(), followed).with_context(|| format!("failed to set up {}", port.name))?;
            let slot = targets.slot(&port.name, port.url.clone(), speaks(port.protocol), tls);
            let what = match port.protocol {
                Protocol::Tcp => relay(format!("target {}", port.name), Towards::Target(slot)),
                _ => traced(format!("target {}", port.name), Arc::new(targets.of(slot))),
            };
            outbound.push(Listener::open(&port.name, loopback(port.listen), what).await?);
        }
        if let Some(proxy) = &config.wiring.forward_proxy {
            let answers = ForwardProxy::new(&resilience, targets.clone(), proxy.unknown_hosts, cut.clone());
            let what = traced("forward proxy".to_owned(), Arc::new(answers));
            outbound.push(Listener::open("forward proxy", loopback(proxy.listen), what).await?);
        }
        let alive = Router::new().route("/health", get(|| std::future::ready(r#"{"status":"alive"}"#)));
        let report = report_router(Health::default(), metrics)
            .merge(resilience.report_router())
            .merge(alive);
        let report = Listener::open("report", (ip, args.report_port).into(), What::Http(Arc::new(report))).await?;
        Ok(Self {
            config,
            resilience,
            keys,
            end,
            inbound,
            outbound,
            report,
        })
    }

    /// Where the inbound port of that name listens.
    #[must_use]
    pub fn inbound_address(&self, name: &str) -> Option<SocketAddr> {
        address_of(&self.inbound, name)
    }

    /// Where the target of that name is called.
    #[must_use]
    pub fn target_address(&self, name: &str) -> Option<SocketAddr> {
        address_of(&self.outbound, name)
    }

    /// Where the forward proxy listens, if it does.
    #[must_use]
    pub fn forward_proxy_address(&self) -> Option<SocketAddr> {
        address_of(&self.outbound, "forward proxy")
    }

    /// Where the report listens.
    #[must_use]
    pub const fn report_address(&self) -> SocketAddr {
        self.report.address
    }

    /// What the guard stands on.
    #[must_use]
    pub const fn resilience(&self) -> &Resilience {
        &self.resilience
    }

    /// Serves until `stop` is cancelled. Then it serves on until the application is gone, at most for `drain_wait`; takes
    /// nothing new for it and lets what is in flight finish, while the application may still call others; closes what was
    /// upgraded or relayed and has not ended; and ends the report last. All of that within `drain_wait` and
    /// `drain_timeout` together.
    pub async fn run(self, stop: CancellationToken) {
        let args = &self.config.service;
        let limits = args.limits();
        let (close_inbound, close_outbound, close_report) = (
            CancellationToken::new(),
            CancellationToken::new(),
            CancellationToken::new(),
        );
        let (places, wide) = (self.config.bounds().connections, self.config.bounds().wide);
        let start = |listeners: Vec<Listener>, connections: usize, close: &CancellationToken| {
            let wide = wide / listeners.len().max(1);
            let limits = Limits {
                connections,
                wide,
                ..limits
            };
            let mut serving = JoinSet::new();
            for listener in listeners {
                serving.spawn(listener.serve(limits, close.clone()));
            }
            serving
        };
        let forwards: Vec<Vec<SocketAddr>> = {
            let ports = self.config.wiring.inbound.iter();
            ports.map(|port| self.config.application(port.forward)).collect()
        };
        // Whoever reaches the pod reaches these ports. Those for the application's own calls are its own.
        let each = places.div_ceil(self.inbound.len().max(1));
        let mut inbound = start(self.inbound, each, &close_inbound);
        let mut outbound = start(self.outbound, places, &close_outbound);
        let mut report = start(vec![self.report], places.min(REPORT_CONNECTIONS), &close_report);
        tracing::info!(service = args.service, "guarding");

        stop.cancelled().await;
        tracing::info!(wait_ms = args.drain_wait.as_millis(), "draining");
        let _ = tokio::time::timeout(args.drain_wait, gone(&forwards)).await;
        let end = Instant::now() + args.drain_timeout;
        close_inbound.cancel();
        let in_time = tokio::time::timeout_at(end, async {
            while inbound.join_next().await.is_some() {}
            // What was asked with a key is done although its client has left, and its answer kept: an application that takes
            // nothing new any more may still be at it.
            self.keys.settled().await;
            close_outbound.cancel();
            while outbound.join_next().await.is_some() {}
            // Requests whose callers have gone, upgrades and relays.
            let tasks = self.resilience.tasks();
            tasks.close();
            tokio::select! {
                () = tasks.wait() => {}
                // Without the application nobody has anything to say any more.
                () = gone(&forwards) => {}
            }
        });
        if in_time.await.is_err() {
            tracing::warn!(
                tasks = self.resilience.tasks().len(),
                "not all that was in flight ended in time"
            );
        }
        close_outbound.cancel();
        self.end.cancel();
        close_report.cancel();
        // Whoever waits for the next report has no part in what is drained.
        let _ = tokio::time::timeout(REPORT_DRAIN, async { while report.join_next().await.is_some() {} }).await;
        tracing::info!("ended");
    }
}

impl Listener {
    async fn open(name: &str, address: SocketAddr, what: What) -> anyhow::Result<Self> {
        let listen = async {
            let listener = TcpListener::bind(address).await?;
            let address = listener.local_addr()?;
            Ok::<_, std::io::Error>((listener, address))
        };
        let listening = listen.await;
        let (listener, address) = listening.with_context(|| format!("failed to listen on {address} for {name}"))?;
        Ok(Self {
            name: name.to_owned(),
            address,
            listener,
            what,
        })
    }

    async fn serve(self, limits: Limits, close: CancellationToken) {
        match self.what {
            What::Http(answers) => {
                let cut = serve(self.listener, answers, limits, close).await;
                if cut > 0 {
                    tracing::warn!(listener = self.name, connections = cut, "connections were cut");
                }
            }
            What::Tcp(relay) => relay.serve(self.listener, limits.connections, close).await,
        }
    }
}

/// How a target is believed that names authorities of its own, or another name than its host. `tls` is that of all.
fn own_tls(port: &TargetListener, tls: Option<&Tls>, followed: impl Fn(Tls) -> Tls) -> Result<Option<Tls>, TlsError> {
    let own = match &port.authorities {
        Some(path) => Some(followed(Tls::awaiting(Path::new(path)))),
        None => tls.cloned().filter(|_| port.server_name.is_some()),
    };
    match (own, &port.server_name) {
        (Some(own), Some(name)) => own.named(name).map(Some),
        (own, _) => Ok(own),
    }
}

/// A router in which everything is answered so.
fn as_router(answers: Arc<dyn Answers>) -> Router {
    Router::new().fallback(move |request: Request| answers.answer(request))
}

fn address_of(listeners: &[Listener], name: &str) -> Option<SocketAddr> {
    let listener = listeners.iter().find(|listener| listener.name == name);
    listener.map(|listener| listener.address)
}

/// Returns once nobody listens at any of the application's ports; at once where it has none.
async fn gone(forwards: &[Vec<SocketAddr>]) {
    loop {
        let mut listens = false;
        for address in forwards.iter().flatten() {
            listens |= TcpStream::connect(address).await.is_ok();
        }
        if !listens {
            return;
        }
        tokio::time::sleep(LOOK).await;
    }
}
