//! Things that go wrong because an admin wants to show them: requests wait, or their connections are closed. What is in
//! force is a row, which every replica looks at each second; each of them ends it by itself when its time is over.

use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use prometheus::IntGauge;
use sqlx::PgPool;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use valerix_resilience::AbortConnection;

use crate::store::chaos::{self, Asked};

/// Pause between two looks at the row.
const LOOK: Duration = Duration::from_secs(1);

/// What goes wrong until when.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Effect {
    latency: Duration,
    crash_rate: f64,
    until: Instant,
}

/// What goes wrong in this replica; cheap to clone, all clones are one.
#[derive(Clone, Debug)]
pub struct Chaos {
    effect: watch::Sender<Option<Effect>>,
    enabled: IntGauge,
}

impl Chaos {
    /// Nothing goes wrong yet.
    ///
    /// # Errors
    /// When the metric is defined already.
    pub fn register(metrics: &valerix_kit::metrics::Metrics) -> Result<Self, prometheus::Error> {
        let help = "1 while requests are made to wait or fail on purpose, else 0";
        let enabled = IntGauge::new("inventory_chaos_enabled", help)?;
        metrics.register(enabled.clone())?;
        Ok(Self {
            effect: watch::Sender::new(None),
            enabled,
        })
    }

    /// Looks at the row until `stop`. While Postgres is away, what is in force stays so until its end.
    pub async fn follow(self, pool: PgPool, stop: CancellationToken) {
        while !stop.is_cancelled() {
            match chaos::last(&pool, 1).await {
                Ok(asked) => self.obey(asked.first()),
                Err(error) => tracing::debug!(%error, "what shall go wrong is not known"),
            }
            self.enabled.set(i64::from(self.in_force().is_some()));
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }

    /// From now on this is in force, in this replica.
    pub fn obey(&self, asked: Option<&Asked>) {
        let effect = asked.and_then(|asked| {
            let left = u64::try_from(asked.left_ms).ok().filter(|left| *left > 0)?;
            Some(Effect {
                latency: Duration::from_millis(asked.latency_ms.unsigned_abs()),
                crash_rate: asked.crash_rate,
                until: Instant::now() + Duration::from_millis(left),
            })
        });
        self.effect.send_replace(effect);
        self.enabled.set(i64::from(effect.is_some()));
    }

    fn in_force(&self) -> Option<Effect> {
        self.effect.borrow().filter(|effect| effect.until > Instant::now())
    }
}

/// Stands in front of the routes. What an admin asks always passes, or nobody could end it.
pub async fn strike(State(chaos): State<Chaos>, request: Request, next: Next) -> Response {
    let effect = chaos.in_force();
    let Some(effect) = effect.filter(|_| !request.uri().path().starts_with("/api/admin/")) else {
        return next.run(request).await;
    };
    if rand::random_bool(effect.crash_rate) {
        let mut nothing = (StatusCode::SERVICE_UNAVAILABLE, Body::empty()).into_response();
        nothing.extensions_mut().insert(AbortConnection);
        return nothing;
    }
    let rest = effect.until.saturating_duration_since(Instant::now());
    tokio::time::sleep(effect.latency.min(rest)).await;
    next.run(request).await
}
