//! Puts the service together: database, keys, admin, events, routes, ports. Nothing here waits for a dependency.

use std::sync::Arc;
use std::time::Duration;

use anyhow::anyhow;
use sqlx::PgPool;
use sqlx::migrate::Migrator;
use tokio_util::sync::CancellationToken;
use valerix_kit::args::Secret;
use valerix_kit::postgres::begin;
use valerix_kit::problem::Problem;
use valerix_kit::service::{Server, Service, StartError};

use crate::config::Config;
use crate::keys::Keyring;
use crate::metrics::Metrics;
use crate::passwords::Passwords;
use crate::store::{attempts, sessions, users};
use crate::{account, routes};

/// Pause between two looks for what is over.
const PRUNE: Duration = Duration::from_secs(60);

/// The service's schema.
#[must_use]
pub fn migrations() -> Migrator {
    sqlx::migrate!("./migrations")
}

/// The service on its ports, ready to run.
///
/// # Errors
/// When the configuration is wrong or a port is taken; never because a dependency is late.
pub async fn build(config: Config) -> Result<Server, StartError> {
    let setting = |setting, source| StartError::Setting { setting, source };
    let mut service = Service::on_bus(&config.service, &config.bus).await?;
    let database = service.database(&config.database, migrations)?;
    let keyring = Keyring::new(database.pool().clone(), &config.tokens)
        .map_err(|error| setting("AUTH_KEY_SECRET", error.into()))?;
    // Auth is never open, and asks nobody else.
    service.identity = service.identity.clone().closed(keyring.clone());
    let passwords =
        Passwords::new(&config.passwords).map_err(|error| setting("the costs of a password", error.into()))?;
    let keys = keyring.clone();
    service.prepare("keys", &database, move |_| {
        let keys = keys.clone();
        async move { keys.prepare().await }
    });
    let keys = keyring.clone();
    service
        .tasks
        .spawn_when_ready("keys", &database, move |stop| keys.clone().follow(stop));
    if let (Some(email), Some(password)) = (config.admin_email, config.admin_password) {
        let email = account::email(&email).map_err(|error| setting("ADMIN_EMAIL", error.into()))?;
        let password = account::password(password.expose().to_owned());
        let password = password.map_err(|error| setting("ADMIN_PASSWORD", error.into()))?;
        let passwords = passwords.clone();
        service.prepare("admin", &database, move |pool| {
            let (passwords, email, password) = (passwords.clone(), email.clone(), password.clone());
            async move { seed_admin(&pool, &passwords, email, password).await }
        });
    }
    let pool = database.pool().clone();
    service
        .tasks
        .spawn_when_ready("prune", &database, move |stop| prune(pool.clone(), stop));
    let endpoint = service.events(&config.bus, &database);
    let state = routes::AppState {
        pool: database.pool().clone(),
        relay: endpoint.relay(),
        passwords,
        metrics: Metrics::register(&service.metrics, &keyring).map_err(StartError::Metrics)?,
        keyring,
        tokens: Arc::new(config.tokens),
        trusted_proxies: config.trusted_proxies.into(),
        identity: service.identity.clone(),
    };
    service.bind(routes::api().with_state(state)).await
}

/// Sees to it that the admin is there and has the role, and this password unless it was taken over before: what the admin
/// has chosen since then stays.
async fn seed_admin(pool: &PgPool, passwords: &Passwords, email: String, password: Secret) -> anyhow::Result<()> {
    let said = |problem: Problem| anyhow!("failed to hash the password of the admin: {}", problem.detail());
    let known = users::credentials(pool, &email).await?;
    let configured = known.as_ref().and_then(|user| user.configured_hash.clone());
    let remembered = configured.is_some();
    let compared = configured.or_else(|| known.as_ref().map(|user| user.password_hash.clone()));
    let turn = passwords.turn().await.map_err(said)?;
    let same = turn.compare(password.clone(), compared.clone()).await.map_err(said)?;
    if same && remembered && known.as_ref().is_some_and(|user| user.admin) {
        return Ok(());
    }
    let (hash, other) = match compared.filter(|_| same) {
        Some(compared) => (compared, false),
        None => {
            let turn = passwords.turn().await.map_err(said)?;
            (turn.hash(password).await.map_err(said)?, true)
        }
    };
    if known.is_some() {
        let mut transaction = begin(pool).await?;
        let admin = users::promote(&mut transaction, &email, other.then_some(&*hash), &hash).await?;
        // Whoever has a session by the old password has it no longer.
        if let (Some(admin), true) = (admin, other) {
            sessions::revoke_all(&mut transaction, admin).await?;
        }
        transaction.commit().await?;
        tracing::info!("the admin has the role, and the password of the configuration where that is another");
        return Ok(());
    }
    let admin = users::NewUser {
        email,
        password_hash: hash,
        name: None,
        phone: None,
        admin: true,
    };
    let added = users::insert(pool, &admin).await?;
    // Another replica was quicker: the next attempt finds what it has written.
    added
        .map(drop)
        .ok_or_else(|| anyhow!("failed to add the admin: a user with this e-mail was added at this moment"))
}

/// Forgets what is over, until `stop`.
async fn prune(pool: PgPool, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(PRUNE) => {}
        }
        let pruned = async {
            sessions::prune(&pool).await?;
            attempts::prune(&pool).await
        };
        if let Err(error) = pruned.await {
            tracing::warn!(%error, "what is over was not forgotten");
        }
    }
}
