//! What is no HTTP: connections whose bytes nobody looks into. The policy counts for whether and when they come about, and
//! faults for whether they stay.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use prometheus::{IntCounterVec, IntGaugeVec, Opts};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use valerix_kit::metrics::Metrics;
use valerix_kit::problem::Problem;
use valerix_proxy::{Relayed, first_of, relay};
use valerix_resilience::{Faults, Injection, Occupied, OperationError, Resilience};

use crate::targets::Slot;

/// What faults of requests see of a connection: a method and a path that no route of HTTP has.
const METHOD: &str = "TCP";
const PATH: &str = "";
/// How long a connection on the same host may take: longer waits who is not looked at any more.
const CONNECT: Duration = Duration::from_secs(2);

/// What ends relays that are under way: a fault, or the end of the guard. Clones are one.
#[derive(Clone)]
pub struct Cut {
    faults: Arc<Faults>,
    end: CancellationToken,
}

/// One listener's connections go here.
#[derive(Clone)]
pub enum Towards {
    /// The application, at the first of these at which it listens.
    Application(Arc<[SocketAddr]>),
    /// A target of the policy.
    Target(Arc<Slot>),
}

/// Why there is no connection to a target.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The policy did not let it pass, or there was no time.
    #[error(transparent)]
    Refused(OperationError<io::Error>),
    /// It is not known where it is.
    #[error("failed to find the target: {}", .0.detail())]
    Unknown(Problem),
}

impl OpenError {
    /// What to answer who asked for the connection by HTTP.
    #[must_use]
    pub fn problem(self, slot: &Slot) -> Problem {
        match self {
            Self::Refused(OperationError::Call(error)) => error.problem(),
            Self::Unknown(problem) => problem,
            Self::Refused(_) => {
                let detail = "a service needed for this could not be reached";
                Problem::new(http::StatusCode::BAD_GATEWAY, "unreachable", detail).with("target", slot.name())
            }
        }
    }
}

impl Cut {
    /// Cut by the faults of `resilience`, and when `end` is cancelled.
    #[must_use]
    pub fn new(resilience: &Resilience, end: CancellationToken) -> Self {
        let faults = resilience.faults();
        Self { faults, end }
    }

    /// Relays until both ends have closed or it is cut; `target` is who is called, none is the application.
    pub async fn relay<A, B>(&self, client: &mut A, upstream: &mut B, target: Option<&str>) -> Outcome
    where
        A: AsyncRead + AsyncWrite + Unpin,
        B: AsyncRead + AsyncWrite + Unpin,
    {
        match relay(client, upstream, self.severed(target)).await {
            Relayed::Done => Outcome::Ended,
            Relayed::Broken(error) => {
                tracing::debug!(%error, ?target, "a relayed connection broke");
                Outcome::Broken
            }
            Relayed::Cut => Outcome::Cut,
        }
    }

    async fn severed(&self, target: Option<&str>) {
        let mut changes = self.faults.changes();
        let by_fault = async {
            while !self.severs(target) {
                if changes.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        };
        tokio::select! {
            () = by_fault => {}
            () = self.end.cancelled() => {}
        }
    }

    fn severs(&self, target: Option<&str>) -> bool {
        target.map_or_else(
            || self.faults.refuses_connections(),
            |target| self.faults.cuts_calls_to(target),
        )
    }
}

/// A connection to a target, as its policy lets it come about, with the place that it occupies.
///
/// # Errors
/// When its circuit is open, its bulkhead is full, nobody listens, or a fault cuts it off.
pub async fn open_target(
    resilience: &Resilience,
    slot: &Slot,
    address: &(String, u16),
) -> Result<(TcpStream, Occupied), OpenError> {
    let (target, faults) = (slot.target(), resilience.faults());
    // Nothing was said on a connection that did not come about: it may be tried again.
    let connecting = target
        .pipeline()
        .repeat_if(|opened: Result<&TcpStream, &io::Error>| opened.is_err());
    let opened = connecting.occupy(async || {
        if faults.cuts_calls_to(slot.name()) {
            return Err(io::Error::new(
                io::ErrorKind::HostUnreachable,
                "cut off by a partition fault",
            ));
        }
        let within = target.timeouts().connect.get();
        let opening = TcpStream::connect((address.0.as_str(), address.1));
        let timed_out = || format!("no connection within {} ms", within.as_millis());
        let opened = tokio::time::timeout(within, opening).await;
        let stream = opened.map_err(|_| io::Error::new(io::ErrorKind::TimedOut, timed_out()))??;
        // Without it small messages only come later.
        let _ = stream.set_nodelay(true);
        Ok(stream)
    });
    opened.await.map_err(OpenError::Refused)
}

/// What became of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Both ends said that they are done.
    Ended,
    /// One of them broke.
    Broken,
    /// A fault cut it, or the end of the guard.
    Cut,
    /// It led nowhere: nobody listens, the policy did not let it pass, or a fault met it.
    Refused,
}

impl Outcome {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Ended => "ended",
            Self::Broken => "broken",
            Self::Cut => "cut",
            Self::Refused => "refused",
        }
    }
}

/// Counts connections that are relayed. Clones are one.
#[derive(Clone)]
pub struct Connections {
    total: IntCounterVec,
    open: IntGaugeVec,
}

impl Connections {
    /// Registers what is counted.
    ///
    /// # Errors
    /// When it is registered already.
    pub fn new(metrics: &Metrics) -> Result<Self, prometheus::Error> {
        let total = Opts::new(
            "guard_connections_total",
            "Relayed connections that are over, by listener and outcome: ended, broken, cut, refused",
        );
        let open = Opts::new(
            "guard_connections_open",
            "Connections that are relayed now, by listener",
        );
        let connections = Self {
            total: IntCounterVec::new(total, &["listener", "outcome"])?,
            open: IntGaugeVec::new(open, &["listener"])?,
        };
        metrics.register(connections.total.clone())?;
        metrics.register(connections.open.clone())?;
        Ok(connections)
    }
}

/// What is done with the connections of one listener.
#[derive(Clone)]
pub struct Relay {
    /// The listener's name in metrics.
    pub name: Arc<str>,
    /// Where they go.
    pub towards: Towards,
    /// Whose policy counts.
    pub resilience: Resilience,
    /// What ends them.
    pub cut: Cut,
    /// Where they are counted.
    pub connections: Connections,
}

impl Relay {
    /// Relays the connections of a listener until `stop`; then takes no new one. Those that are open go on until they end
    /// or are cut. At most `most` at a time: one more waits until another ends.
    pub async fn serve(self, listener: TcpListener, most: usize, stop: CancellationToken) {
        let places = Arc::new(Semaphore::new(most));
        loop {
            let place = tokio::select! {
                place = Arc::clone(&places).acquire_owned() => place,
                () = stop.cancelled() => return,
            };
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = stop.cancelled() => return,
            };
            match accepted {
                Ok((client, _)) => {
                    let relay = self.clone();
                    self.resilience.tasks().spawn(async move {
                        let _place = place;
                        relay.connection(client).await;
                    });
                }
                Err(error) => valerix_kit::server::accept_failed(&error).await,
            }
        }
    }

    async fn connection(&self, mut client: TcpStream) {
        // Without it small messages only come later.
        let _ = client.set_nodelay(true);
        let open = self.connections.open.with_label_values(&[&self.name]);
        open.inc();
        let outcome = match &self.towards {
            Towards::Application(addresses) => self.inbound(&mut client, addresses).await,
            Towards::Target(slot) => self.outbound(&mut client, slot).await,
        };
        open.dec();
        let labels = [&*self.name, outcome.as_str()];
        self.connections.total.with_label_values(&labels).inc();
        reset_unless_ended(&client, outcome);
    }

    async fn inbound(&self, client: &mut TcpStream, addresses: &[SocketAddr]) -> Outcome {
        let cut = &self.cut;
        if cut.severs(None) {
            return Outcome::Refused;
        }
        match cut.faults.inbound(METHOD, PATH) {
            None => {}
            Some(Injection::Delay(delay)) => cut.faults.hold(delay).await,
            // Where nobody speaks HTTP, a bad status is a connection that ends.
            Some(Injection::Status(_) | Injection::Abort) => return Outcome::Refused,
        }
        let opened = tokio::time::timeout(CONNECT, first_of(addresses)).await;
        match opened.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
            Ok(mut application) => {
                let outcome = cut.relay(client, &mut application, None).await;
                reset_unless_ended(&application, outcome);
                outcome
            }
            Err(error) => {
                tracing::info!(%error, "a connection was not passed on to the application");
                Outcome::Refused
            }
        }
    }

    async fn outbound(&self, client: &mut TcpStream, slot: &Slot) -> Outcome {
        let opened = match slot.address() {
            Ok(address) => open_target(&self.resilience, slot, &address).await,
            Err(problem) => Err(OpenError::Unknown(problem)),
        };
        match opened {
            Ok((mut upstream, _place)) => {
                let outcome = self.cut.relay(client, &mut upstream, Some(slot.name())).await;
                reset_unless_ended(&upstream, outcome);
                outcome
            }
            Err(error) => {
                tracing::info!(target_name = slot.name(), %error, "a connection was not relayed");
                Outcome::Refused
            }
        }
    }
}

/// Who is cut off is to see a reset, and no orderly end of what was said.
fn reset_unless_ended(stream: &TcpStream, outcome: Outcome) {
    if outcome != Outcome::Ended {
        // Where that cannot be set, the connection ends all the same.
        let _ = stream.set_zero_linger();
    }
}
