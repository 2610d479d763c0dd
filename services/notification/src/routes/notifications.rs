//! `GET /notifications`: what was told to whom, newest first.

use axum::extract::State;
use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::Serialize;
use uuid::Uuid;
use valerix_kit::api::{Api, Id, Operation};
use valerix_kit::extract::{Json, Query};
use valerix_kit::identity::{Access, Caller};
use valerix_kit::page::Page;
use valerix_kit::problem::{Problem, from_sqlx};

use super::AppState;
use crate::store::{self, Row};

pub(super) fn routes(api: Api<AppState>) -> Api<AppState> {
    let operation = Operation::new(
        "The caller's notifications, newest first; an admin's are everybody's",
        Access::User,
    )
    .query::<Page<Id>>()
    .answer::<NotificationPage>(200, "A page");
    api.get("/notifications", list, operation)
}

#[derive(Debug, Serialize, JsonSchema)]
struct NotificationPage {
    notifications: Vec<Notification>,
    #[schemars(with = "Option<Id>")]
    next_cursor: Option<Uuid>,
}

/// One message about one event on one channel.
#[derive(Debug, Serialize, JsonSchema)]
struct Notification {
    #[schemars(with = "Id")]
    notification_id: Uuid,
    /// Null for a guest.
    #[schemars(with = "Option<Id>")]
    user_id: Option<Uuid>,
    #[schemars(with = "Id")]
    order_id: Uuid,
    #[schemars(extend("enum" = ["EMAIL", "SMS"]))]
    channel: String,
    #[schemars(extend("enum" = ["CONFIRMED", "CANCELLED", "REFUNDED"]))]
    kind: String,
    #[schemars(extend("enum" = ["QUEUED", "SENT", "RECORDED", "SKIPPED", "FAILED"]))]
    status: String,
    /// Why it was skipped or given up, or what went wrong last.
    reason: Option<String>,
    subject: String,
    body: String,
    #[schemars(with = "String", extend("format" = "date-time"))]
    created_at: DateTime<Utc>,
    #[schemars(with = "String", extend("format" = "date-time"))]
    updated_at: DateTime<Utc>,
}

impl From<Row> for Notification {
    fn from(row: Row) -> Self {
        Self {
            notification_id: row.id,
            user_id: row.user_id,
            order_id: row.order_id,
            channel: row.channel,
            kind: row.kind,
            status: row.status,
            reason: row.reason,
            subject: row.subject,
            body: row.body,
            created_at: row.created_at,
            updated_at: row.updated_at,
        }
    }
}

async fn list(
    State(state): State<AppState>,
    caller: Caller,
    Query(Page { cursor, limit }): Query<Page<Uuid>>,
) -> Result<Json<NotificationPage>, Problem> {
    let rows = store::page(&state.pool, whose(&caller), cursor, limit.rows())
        .await
        .map_err(|error| from_sqlx(&error))?;
    let (rows, next_cursor) = limit.cut(rows, |row| row.id);
    Ok(Json(NotificationPage {
        next_cursor,
        notifications: rows.into_iter().map(Notification::from).collect(),
    }))
}

/// Whose notifications the caller sees; `None`: everybody's. Who is anonymous came to a service that is open to everyone.
fn whose(caller: &Caller) -> Option<Uuid> {
    caller.user_id().filter(|_| !caller.is_admin())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_see_their_own_and_admins_everybody_s() {
        let id = Uuid::now_v7();
        assert_eq!(whose(&Caller::User { id, admin: false }), Some(id));
        assert_eq!(whose(&Caller::User { id, admin: true }), None);
        assert_eq!(whose(&Caller::Anonymous), None);
    }
}
