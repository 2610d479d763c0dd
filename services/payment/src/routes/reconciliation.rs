//! `/api/admin/reconciliation`: asks for a comparison with the processor's ledger, and shows the last one.

use std::sync::Arc;

use axum::extract::State;
use chrono::{DateTime, Utc};
use http::StatusCode;
use schemars::JsonSchema;
use serde::Serialize;
use valerix_kit::api::{Api, Operation};
use valerix_kit::extract::Json;
use valerix_kit::identity::{Access, Caller};
use valerix_kit::problem::Problem;

use super::AppState;
use super::payments::problem;
use crate::books::Difference;
use crate::store::Report;

const PATH: &str = "/api/admin/reconciliation";

pub(super) fn routes(api: Api<AppState>) -> Api<AppState> {
    let ask = Operation::new("Compare the payments with the processor's ledger now", Access::Admin)
        .answer::<AskedBody>(202, "It is asked for; GET shows when it has ended");
    let look = Operation::new("The last comparison with the processor's ledger", Access::Admin)
        .answer::<LastBody>(200, "What it found");
    api.post(PATH, start, ask).get(PATH, show, look)
}

#[derive(Debug, Serialize, JsonSchema)]
struct AskedBody {
    /// The number under which the report will stand.
    id: i64,
}

#[derive(Debug, Serialize, JsonSchema)]
struct LastBody {
    /// The last that came to an end.
    report: Option<ReportBody>,
    /// Why the one after it came to none.
    error: Option<ErrorBody>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Reconciliation")]
struct ReportBody {
    id: i64,
    /// `user:<uuid>`, or `schedule`.
    asked_by: String,
    asked_at: DateTime<Utc>,
    finished_at: DateTime<Utc>,
    /// Charges of the ledger that were looked at.
    charges: i64,
    /// Payments that the ledger did not name, looked at as well.
    payments: i64,
    /// How many differences there are.
    differences_total: i64,
    /// The first 1,000 of them.
    differences: Vec<Difference>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "ReconciliationError")]
struct ErrorBody {
    at: DateTime<Utc>,
    detail: String,
}

impl From<Report> for ReportBody {
    fn from(report: Report) -> Self {
        Self {
            id: report.id,
            asked_by: report.asked_by,
            asked_at: report.asked_at,
            finished_at: report.finished_at,
            charges: report.charges,
            payments: report.payments,
            differences_total: report.total,
            differences: report.differences.0,
        }
    }
}

async fn start(State(app): State<AppState>, caller: Caller) -> Result<(StatusCode, Json<AskedBody>), Problem> {
    let asked = app.settlement.store.ask_for_reconciliation(&caller.principal()).await;
    let id = asked.map_err(|error| problem(&error))?;
    Arc::clone(&app.reconcile).notify_one();
    Ok((StatusCode::ACCEPTED, Json(AskedBody { id })))
}

async fn show(State(app): State<AppState>) -> Result<Json<LastBody>, Problem> {
    let store = &app.settlement.store;
    let report = store.last_reconciliation().await.map_err(|error| problem(&error))?;
    let failed = store.failed_reconciliation().await.map_err(|error| problem(&error))?;
    Ok(Json(LastBody {
        report: report.map(Into::into),
        error: failed.map(|failed| ErrorBody {
            at: failed.finished_at,
            detail: failed.error,
        }),
    }))
}
