//! `POST /auth/register`, `GET`, `PATCH` and `DELETE /auth/me`, `GET /auth/users/{id}/contact`.

use axum::extract::State;
use http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::json;
use uuid::Uuid;
use valerix_kit::api::{Api, Id, Operation};
use valerix_kit::args::Secret;
use valerix_kit::events::outbox;
use valerix_kit::extract::{Json, Path};
use valerix_kit::identity::{Access, Caller};
use valerix_kit::postgres::begin;
use valerix_kit::problem::{Problem, from_sqlx};

use super::{AppState, checked, unacceptable, user};
use crate::account::{self, User};
use crate::events::{Happened, announced};
use crate::store::{sessions, users};

pub(super) fn routes(api: Api<AppState>) -> Api<AppState> {
    let join = Operation::new("Become a user", Access::Open)
        .body::<Registration>(json!({"email": "ada@example.org", "password": "a long passphrase", "name": "Ada", "phone": "+43123456789"}))
        .answer::<User>(201, "The user; log in to get tokens")
        .problem(409, "There is a user with this e-mail")
        .problem(503, "Too many passwords are being hashed");
    let me = Operation::new("Who I am", Access::User)
        .answer::<User>(200, "The user who asks")
        .problem(404, "The user was deleted");
    let other = Operation::new("Change how I am called and reached, or my password", Access::User)
        .body::<Changes>(json!({"name": "Ada Lovelace", "phone": null}))
        .answer::<User>(200, "The user after that; another password ends all sessions")
        .problem(404, "The user was deleted")
        .problem(409, "There is a user with this e-mail")
        .problem(403, "The current password is another");
    let leave = Operation::new("Delete me and all that is known of me", Access::User)
        .empty(204, "There is no such user any more");
    let contact = Operation::new("How a user is reached", Access::Service(&["notification"]))
        .answer::<ContactBody>(200, "The user's e-mail and phone")
        .problem(404, "There is no such user");
    api.post("/auth/register", register, join)
        .get("/auth/me", show, me)
        .patch("/auth/me", change, other)
        .delete("/auth/me", delete, leave)
        .get("/auth/users/{id}/contact", contact_of, contact)
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Registration {
    #[schemars(extend("format" = "email"))]
    email: String,
    #[schemars(length(min = 8, max = 128))]
    password: String,
    #[schemars(length(min = 1, max = 100))]
    name: Option<String>,
    /// E.164, e.g. `+43123456789`.
    phone: Option<String>,
}

/// What is absent stays as it is; `name` and `phone` may be null to be forgotten.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Changes {
    #[serde(default, deserialize_with = "given")]
    #[schemars(with = "Option<String>", length(min = 1, max = 100))]
    name: Option<Option<String>>,
    #[serde(default, deserialize_with = "given")]
    #[schemars(with = "Option<String>")]
    phone: Option<Option<String>>,
    /// Needs `current_password`.
    #[schemars(extend("format" = "email"))]
    email: Option<String>,
    /// Needs `current_password`.
    #[schemars(length(min = 8, max = 128))]
    password: Option<String>,
    current_password: Option<String>,
}

/// A member that is there, be it null.
fn given<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<String>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Contact")]
struct ContactBody {
    #[schemars(with = "Id")]
    user_id: Uuid,
    email: String,
    phone: Option<String>,
    /// Grows with every change.
    version: i64,
}

async fn register(
    State(app): State<AppState>,
    Json(body): Json<Registration>,
) -> Result<(StatusCode, Json<User>), Problem> {
    let mut errors = vec![];
    let email = checked("email", account::email(&body.email), &mut errors);
    let password = checked("password", account::password(body.password), &mut errors);
    let name = body
        .name
        .and_then(|name| checked("name", account::name(&name), &mut errors));
    let phone = body
        .phone
        .and_then(|phone| checked("phone", account::phone(&phone), &mut errors));
    let (Some(email), Some(password), true) = (email, password, errors.is_empty()) else {
        return Err(unacceptable(errors));
    };
    let new = users::NewUser {
        email,
        password_hash: app.passwords.turn().await?.hash(password).await?,
        name,
        phone,
        admin: false,
    };
    let user = users::insert(&app.pool, &new)
        .await
        .map_err(|error| from_sqlx(&error))?;
    Ok((StatusCode::CREATED, Json(user.ok_or_else(taken)?)))
}

async fn show(State(app): State<AppState>, caller: Caller) -> Result<Json<User>, Problem> {
    let user = users::read(&app.pool, user(&caller)?).await;
    user.map_err(|error| from_sqlx(&error))?.map(Json).ok_or_else(unknown)
}

async fn change(State(app): State<AppState>, caller: Caller, Json(body): Json<Changes>) -> Result<Json<User>, Problem> {
    let id = user(&caller)?;
    let mut errors = vec![];
    let email = body
        .email
        .and_then(|email| checked("email", account::email(&email), &mut errors));
    let password = body
        .password
        .and_then(|password| checked("password", account::password(password), &mut errors));
    let optional = |check: fn(&str) -> Result<String, &'static str>, text: Option<String>| {
        text.map(|text| check(&text)).transpose()
    };
    let name = body
        .name
        .and_then(|name| checked("name", optional(account::name, name), &mut errors));
    let phone = body
        .phone
        .and_then(|phone| checked("phone", optional(account::phone, phone), &mut errors));
    if (email.is_some() || password.is_some()) && body.current_password.is_none() {
        let needed = Err("is needed to change the e-mail or the password");
        checked::<()>("current_password", needed, &mut errors);
    }
    if !errors.is_empty() {
        return Err(unacceptable(errors));
    }
    let verified = match body.current_password {
        Some(current) => Some(prove(&app, id, current).await?),
        None => None,
    };
    let password_hash = match password {
        Some(password) => Some(app.passwords.turn().await?.hash(password).await?),
        None => None,
    };
    let change = users::Change {
        email,
        password_hash,
        name,
        phone,
    };
    let database = |error: sqlx::Error| from_sqlx(&error);
    let mut transaction = begin(&app.pool).await.map_err(database)?;
    let changed = users::change(&mut transaction, id, &change, verified.as_deref()).await;
    let changed = changed.map_err(|error| {
        let twice = error
            .as_database_error()
            .is_some_and(sqlx::error::DatabaseError::is_unique_violation);
        if twice { taken() } else { from_sqlx(&error) }
    })?;
    let Some(version) = changed else {
        // Another change of the password was quicker than this one, which the old one had proven.
        let user = users::read(&mut *transaction, id).await.map_err(database)?;
        return Err(user.map_or_else(unknown, |_| wrong_password()));
    };
    if change.password_hash.is_some() {
        sessions::revoke_all(&mut transaction, id).await.map_err(database)?;
    }
    let event = announced(id, version, Happened::Changed);
    outbox::append(&mut transaction, &event).await.map_err(database)?;
    let user = users::read(&mut *transaction, id).await.map_err(database)?;
    transaction.commit().await.map_err(database)?;
    app.relay.wake();
    user.map(Json).ok_or_else(unknown)
}

/// Whoever has found an open browser does not know the password. Gives its hash.
async fn prove(app: &AppState, id: Uuid, current: String) -> Result<String, Problem> {
    let database = |error: sqlx::Error| from_sqlx(&error);
    let user = users::read(&app.pool, id)
        .await
        .map_err(database)?
        .ok_or_else(unknown)?;
    let same = super::sessions::attempt(app, &user.email, None, Secret::from(current)).await?;
    // The e-mail may be somebody else's by now.
    let same = same.filter(|credentials| credentials.id == id);
    same.map(|credentials| credentials.password_hash)
        .ok_or_else(wrong_password)
}

fn wrong_password() -> Problem {
    let detail = "/current_password: is not the password of this user";
    Problem::new(StatusCode::FORBIDDEN, "wrong-password", detail)
}

async fn delete(State(app): State<AppState>, caller: Caller) -> Result<StatusCode, Problem> {
    let id = user(&caller)?;
    let database = |error: sqlx::Error| from_sqlx(&error);
    let mut transaction = begin(&app.pool).await.map_err(database)?;
    // Who asks twice, as the first answer was lost, hears the same.
    if let Some(version) = users::delete(&mut transaction, id).await.map_err(database)? {
        let event = announced(id, version, Happened::Deleted);
        outbox::append(&mut transaction, &event).await.map_err(database)?;
    }
    transaction.commit().await.map_err(database)?;
    app.relay.wake();
    Ok(StatusCode::NO_CONTENT)
}

async fn contact_of(State(app): State<AppState>, Path(id): Path<Uuid>) -> Result<Json<ContactBody>, Problem> {
    let contact = users::contact(&app.pool, id).await;
    let contact = contact.map_err(|error| from_sqlx(&error))?.ok_or_else(unknown)?;
    Ok(Json(ContactBody {
        user_id: id,
        email: contact.email,
        phone: contact.phone,
        version: contact.version,
    }))
}

fn taken() -> Problem {
    let detail = "/email: another user has it; log in, or use another one";
    Problem::new(StatusCode::CONFLICT, "email-taken", detail)
}

fn unknown() -> Problem {
    Problem::not_found("unknown-user", "there is no such user")
}
