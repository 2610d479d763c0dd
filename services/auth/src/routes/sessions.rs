//! `POST /auth/login`, `/auth/refresh`, `/auth/logout`.

use axum::extract::State;
use http::{Extensions, HeaderMap, StatusCode};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use uuid::Uuid;
use valerix_kit::api::{Api, Operation};
use valerix_kit::args::Secret;
use valerix_kit::extract::Json;
use valerix_kit::identity::Access;
use valerix_kit::postgres::begin;
use valerix_kit::problem::{Problem, from_sqlx};

use super::{AppState, unauthenticated};
use crate::account;
use crate::lockout::Subject;
use crate::store::{attempts, sessions, users};
use crate::tokens::{kept, refresh_token};

pub(super) fn routes(api: Api<AppState>) -> Api<AppState> {
    let login = Operation::new("Log in", Access::Open)
        .body::<Login>(json!({"email": "ada@example.org", "password": "a long passphrase"}))
        .answer::<Tokens>(200, "Tokens of a new session")
        .problem(401, "No such user, or another password")
        .problem(429, "Too many failures: come back after the seconds of Retry-After")
        .problem(503, "Too many passwords are being checked");
    let refresh = Operation::new("Exchange a refresh token, once, for new tokens", Access::Open)
        .body::<Refresh>(json!({"refresh_token": "what the last login or refresh gave"}))
        .answer::<Tokens>(200, "Tokens of the same session")
        .problem(
            401,
            "The token is not known, is over or was exchanged before; that ends the session",
        );
    let logout = Operation::new("End the session of a refresh token", Access::Open)
        .body::<Refresh>(json!({"refresh_token": "what the last login or refresh gave"}))
        .empty(204, "It gives no more tokens");
    api.post("/auth/login", log_in, login)
        .post("/auth/refresh", exchange, refresh)
        .post("/auth/logout", log_out, logout)
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Login {
    #[schemars(extend("format" = "email"))]
    email: String,
    password: String,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Refresh {
    refresh_token: String,
}

#[derive(Serialize, JsonSchema)]
struct Tokens {
    /// For the header `Authorization: Bearer`.
    access_token: String,
    #[schemars(extend("const" = "Bearer"))]
    token_type: &'static str,
    /// Seconds for which the access token holds.
    expires_in: u64,
    /// For `/auth/refresh`, once.
    refresh_token: String,
    /// Seconds for which the refresh token holds.
    refresh_expires_in: u64,
}

async fn log_in(
    State(app): State<AppState>,
    extensions: Extensions,
    headers: HeaderMap,
    Json(body): Json<Login>,
) -> Result<Json<Tokens>, Problem> {
    let answer = session(&app, &extensions, &headers, body).await;
    app.metrics.login(&answer);
    answer
}

async fn session(
    app: &AppState,
    extensions: &Extensions,
    headers: &HeaderMap,
    body: Login,
) -> Result<Json<Tokens>, Problem> {
    let email = account::email(&body.email).map_err(|detail| Problem::invalid_field("/email", detail))?;
    let address = app.address(extensions, headers);
    let user = attempt(app, &email, address.as_deref(), Secret::from(body.password)).await?;
    let wrong = || unauthenticated("wrong-credentials", "there is no user with this e-mail and password");
    let user = user.ok_or_else(wrong)?;
    let database = |error: sqlx::Error| from_sqlx(&error);
    let mut transaction = begin(&app.pool).await.map_err(database)?;
    let lifetime = app.tokens.refresh_token_lifetime;
    let session = sessions::begin_session(&mut transaction, user.id, &user.password_hash, lifetime).await;
    let session = session.map_err(database)?.ok_or_else(wrong)?;
    let refresh = refresh_token()?;
    sessions::add_token(&mut transaction, session, None, &kept(&refresh), lifetime)
        .await
        .map_err(database)?;
    transaction.commit().await.map_err(database)?;
    tokens(app, user.id, user.admin, session, &refresh)
}

/// Compares a password, unless whoever guesses has failed too often. `address`: where from, but for a user who has logged in
/// already. `None`: it is another, or nobody's.
pub(super) async fn attempt(
    app: &AppState,
    email: &str,
    address: Option<&str>,
    password: Secret,
) -> Result<Option<users::Credentials>, Problem> {
    let database = |error: sqlx::Error| from_sqlx(&error);
    // First the turn: who is told that the service is overloaded has not failed.
    let turn = app.passwords.turn().await?;
    let guesser = Subject::guess(email, address);
    let mut subjects: Vec<Subject> = address.map(Subject::address).into_iter().collect();
    subjects.push(guesser.clone());
    let at_the_door = address.is_some();
    if at_the_door && !attempts::is_familiar(&app.pool, &guesser).await.map_err(database)? {
        subjects.push(Subject::account(email));
    }
    for (index, subject) in subjects.iter().enumerate() {
        let closed = attempts::count(&app.pool, subject).await.map_err(database)?;
        if closed.is_some() {
            take_back(app, &subjects[..index]).await?;
            refuse_while_closed(closed)?;
        }
    }
    let user = users::credentials(&app.pool, email).await.map_err(database)?;
    let hash = user.as_ref().map(|user| user.password_hash.clone());
    if !turn.compare(password, hash).await? {
        for subject in &subjects {
            attempts::confirm(&app.pool, subject).await.map_err(database)?;
        }
        return Ok(None);
    }
    take_back(app, &subjects).await?;
    attempts::is_right(&app.pool, &guesser).await.map_err(database)?;
    Ok(user)
}

async fn take_back(app: &AppState, counted: &[Subject]) -> Result<(), Problem> {
    for subject in counted {
        let taken_back = attempts::take_back(&app.pool, subject).await;
        taken_back.map_err(|error| from_sqlx(&error))?;
    }
    Ok(())
}

fn refuse_while_closed(left: Option<std::time::Duration>) -> Result<(), Problem> {
    let Some(left) = left else {
        return Ok(());
    };
    let detail = "too many attempts have failed: come back after the seconds of Retry-After";
    let refusal = Problem::new(StatusCode::TOO_MANY_REQUESTS, "too-many-attempts", detail);
    Err(refusal.retry_after(left).never_retry())
}

async fn exchange(State(app): State<AppState>, Json(body): Json<Refresh>) -> Result<Json<Tokens>, Problem> {
    let answer = exchanged(&app, body).await;
    app.metrics.refresh(&answer);
    answer
}

async fn exchanged(app: &AppState, body: Refresh) -> Result<Json<Tokens>, Problem> {
    let database = |error: sqlx::Error| from_sqlx(&error);
    let hash = kept(&Secret::from(body.refresh_token));
    let mut transaction = begin(&app.pool).await.map_err(database)?;
    let shown = sessions::shown(&mut transaction, &hash, app.tokens.refresh_grace)
        .await
        .map_err(database)?;
    let Some(shown) = shown.filter(|shown| shown.holds) else {
        return Err(unauthenticated(
            "invalid-refresh-token",
            "/refresh_token: is not known or its session is over: log in again",
        ));
    };
    if shown.reused {
        // Either the user or whoever shows it now has stolen it; both have to log in again.
        sessions::revoke(&mut transaction, shown.session_id)
            .await
            .map_err(database)?;
        transaction.commit().await.map_err(database)?;
        tracing::warn!(user = %shown.user_id, session = %shown.session_id, "a refresh token was used twice");
        return Err(unauthenticated(
            "refresh-token-reused",
            "/refresh_token: was exchanged before, so its session is ended: log in again",
        ));
    }
    let refresh = refresh_token()?;
    sessions::mark_used(&mut transaction, &hash).await.map_err(database)?;
    let lifetime = app.tokens.refresh_token_lifetime;
    sessions::add_token(
        &mut transaction,
        shown.session_id,
        Some(&hash),
        &kept(&refresh),
        lifetime,
    )
    .await
    .map_err(database)?;
    transaction.commit().await.map_err(database)?;
    tokens(app, shown.user_id, shown.admin, shown.session_id, &refresh)
}

async fn log_out(State(app): State<AppState>, Json(body): Json<Refresh>) -> Result<StatusCode, Problem> {
    let hash = kept(&Secret::from(body.refresh_token));
    let revoked = sessions::revoke_by_token(&app.pool, &hash).await;
    revoked
        .map(|()| StatusCode::NO_CONTENT)
        .map_err(|error| from_sqlx(&error))
}

fn tokens(app: &AppState, user: Uuid, admin: bool, session: Uuid, refresh: &Secret) -> Result<Json<Tokens>, Problem> {
    let (access_token, expires_in) = app.keyring.sign(user, admin, session)?;
    Ok(Json(Tokens {
        access_token,
        token_type: "Bearer",
        expires_in,
        refresh_token: refresh.expose().to_owned(),
        refresh_expires_in: app.tokens.refresh_token_lifetime.as_secs(),
    }))
}
