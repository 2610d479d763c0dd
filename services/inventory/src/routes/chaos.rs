//! `/api/admin/chaos`: what goes wrong on purpose, who asked for it and until when.

use axum::extract::State;
use chrono::{DateTime, Utc};
use http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use valerix_kit::api::{Api, Operation};
use valerix_kit::args::parse_duration;
use valerix_kit::extract::Json;
use valerix_kit::identity::{Access, Caller};
use valerix_kit::problem::{FieldError, Problem, from_sqlx};

use super::AppState;
use crate::store::chaos::{self, Asked};

const PATH: &str = "/api/admin/chaos";
/// The longest that requests are made to wait, and that anything goes wrong, in milliseconds.
const LONGEST_LATENCY: i64 = 10_000;
const LONGEST_DURATION: i64 = 10 * 60 * 1_000;
/// Entries of the audit that are shown.
const SHOWN: i64 = 20;

pub(super) fn routes(api: Api<AppState>) -> Api<AppState> {
    let ask = Operation::new("Have requests wait and connections closed, for a while", Access::Admin)
        .body::<Wanted>(json!({"latency": "200ms", "crash_rate": 0, "duration": "5s"}))
        .answer::<AskedBody>(200, "What is in force in every replica within a second")
        .problem(409, "An experiment runs: two causes of one effect prove nothing");
    let look = Operation::new("What was asked to go wrong, the last first", Access::Admin)
        .answer::<Audit>(200, "The audit; what is not over is in force");
    api.post(PATH, start, ask).get(PATH, show, look)
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "ChaosRequest")]
struct Wanted {
    /// How long each request waits, at most `10s`; default `0ms`.
    #[serde(default = "zero")]
    latency: String,
    /// Share of requests whose connection is closed without an answer, 0 to 1; default 0.
    #[serde(default)]
    #[schemars(range(min = 0, max = 1))]
    crash_rate: f64,
    /// When it ends by itself, at most `10m`; `0s` ends what is in force.
    duration: String,
}

fn zero() -> String {
    "0ms".to_owned()
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Chaos")]
struct AskedBody {
    latency_ms: i64,
    crash_rate: f64,
    /// Whose doing it is: `user:<uuid>`.
    asked_by: String,
    asked_at: DateTime<Utc>,
    ends_at: DateTime<Utc>,
    in_force: bool,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Audit {
    asked: Vec<AskedBody>,
}

fn body(asked: Asked, last: bool) -> AskedBody {
    AskedBody {
        latency_ms: asked.latency_ms,
        crash_rate: asked.crash_rate,
        asked_by: asked.asked_by,
        asked_at: asked.asked_at,
        ends_at: asked.ends_at,
        in_force: last && asked.left_ms > 0,
    }
}

/// Everything that is wrong with it, or milliseconds of latency and duration.
fn check(wanted: &Wanted) -> Result<(i64, i64), Problem> {
    let mut errors = vec![];
    let mut bounded = |field: &str, text: &str, most: i64, bound: &str| {
        let time = parse_duration(text).ok();
        let time = time.and_then(|time| i64::try_from(time.as_millis()).ok());
        time.filter(|time| *time <= most).unwrap_or_else(|| {
            errors.push(FieldError::new(
                field,
                format!("must be a duration of at most {bound}, e.g. 250ms"),
            ));
            0
        })
    };
    let latency = bounded("/latency", &wanted.latency, LONGEST_LATENCY, "10s");
    let duration = bounded("/duration", &wanted.duration, LONGEST_DURATION, "10m");
    if !(0.0..=1.0).contains(&wanted.crash_rate) {
        errors.push(FieldError::new("/crash_rate", "must be 0 to 1"));
    }
    if errors.is_empty() {
        Ok((latency, duration))
    } else {
        Err(Problem::invalid(StatusCode::UNPROCESSABLE_ENTITY, errors))
    }
}

async fn start(
    State(state): State<AppState>,
    caller: Caller,
    Json(wanted): Json<Wanted>,
) -> Result<Json<AskedBody>, Problem> {
    let (latency, duration) = check(&wanted)?;
    let faults = state.resilience.faults().report();
    if duration > 0
        && let Some(fault) = faults.iter().find(|fault| fault.remaining_ms > 0)
    {
        let detail = format!("the experiment {} runs: wait for its end", fault.run);
        return Err(Problem::new(StatusCode::CONFLICT, "experiment-runs", detail));
    }
    let principal = caller.principal();
    let asked = chaos::ask(&state.pool, latency, wanted.crash_rate, duration, &principal).await;
    let asked = asked.map_err(|error| from_sqlx(&error))?;
    tracing::warn!(
        latency_ms = latency,
        crash_rate = wanted.crash_rate,
        duration_ms = duration,
        asked_by = %principal,
        "things go wrong on purpose"
    );
    state.chaos.obey(Some(&asked));
    Ok(Json(body(asked, true)))
}

async fn show(State(state): State<AppState>) -> Result<Json<Audit>, Problem> {
    let asked = chaos::last(&state.pool, SHOWN)
        .await
        .map_err(|error| from_sqlx(&error))?;
    let asked = asked.into_iter().enumerate();
    let asked = asked.map(|(index, asked)| body(asked, index == 0)).collect();
    Ok(Json(Audit { asked }))
}
