//! Keeps the idempotency keys of orders that are under way: one that expired while its order waits for a payment that is away
//! would let the same request make a second order. Several replicas may do so at once.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use valerix_resilience::Resilience;
use valerix_resilience::idempotency::{Idempotency, IdempotencyError};

use crate::store::{Store, StoreError};

/// Looks for one lifetime of a key: what is kept has half of it left, four looks long.
const LOOKS: u32 = 8;
/// The longest pause after the database did not answer.
const AGAIN: Duration = Duration::from_secs(60);

/// Why keys were not kept.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// It is not known which orders are under way.
    #[error(transparent)]
    Orders(StoreError),
    /// Their keys were not written.
    #[error(transparent)]
    Keys(IdempotencyError),
}

/// Keeps keys until `stop`.
pub async fn keep(store: Store, resilience: Resilience, stop: CancellationToken) {
    loop {
        let idempotency = resilience.idempotency();
        let pause = idempotency.ttl() / LOOKS;
        let pause = match look(&store, idempotency).await {
            Ok(_) => pause,
            Err(error) => {
                tracing::warn!(%error, "the keys of orders that are under way were not kept");
                pause.min(AGAIN)
            }
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// One look; returns how many keys were kept that would have gone before.
///
/// # Errors
/// When Postgres is away.
pub async fn look(store: &Store, idempotency: Idempotency) -> Result<u64, KeysError> {
    let orders = store.under_way().await.map_err(KeysError::Orders)?;
    let kept = idempotency.keep(store.pool(), &orders).await;
    kept.map_err(KeysError::Keys)
}
