//! Goes through the processor's ledger and the payments. Changes neither; whatever seems to differ is looked at once more, as
//! both move on meanwhile.

use std::collections::{HashMap, HashSet};

use uuid::Uuid;

use crate::books::{Charge, Difference, Found, compare};
use crate::payment::Payment;
use crate::processor::{LedgerError, Processor};
use crate::store::{Store, StoreError};

/// Payments of one page.
const PAGE: i64 = 1_000;

/// Why a comparison came to no end.
#[derive(Debug, thiserror::Error)]
pub enum WalkError {
    /// The payments could not be read.
    #[error(transparent)]
    Store(StoreError),
    /// The ledger could not.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

impl WalkError {
    /// Label of the error in metrics and logs.
    #[must_use]
    pub const fn category(&self) -> &'static str {
        match self {
            Self::Store(error) => error.category(),
            Self::Ledger(error) => error.category(),
        }
    }
}

/// Compares everything, as the comparison `id`, which is said to go on after each page.
///
/// The keys of the ledger are held in memory: 16 bytes and some for each charge.
///
/// # Errors
/// When one of the two can not be read to its end.
pub async fn walk(store: &Store, processor: &dyn Processor, id: i64) -> Result<Found, WalkError> {
    let (mut found, mut seen) = (Found::default(), HashSet::new());
    let mut cursor = None;
    loop {
        let page = processor.charges(cursor.as_deref()).await?;
        let ids: Vec<Uuid> = page
            .charges
            .iter()
            .filter_map(|charge| payment_id(&charge.key))
            .collect();
        let payments = store.read_all(&ids).await.map_err(WalkError::Store)?;
        let payments: HashMap<Uuid, Option<Payment>> = payments.into_iter().collect();
        for charge in &page.charges {
            found.charges += 1;
            let Some(id) = payment_id(&charge.key) else {
                // No payment comes to have such a key: there is nothing to look at once more.
                found.add(compare(None, Some(charge)));
                continue;
            };
            let payment = match payments.get(&id) {
                // There is one, and what it says is for another version.
                Some(None) => continue,
                known => known.and_then(Option::as_ref),
            };
            if compare(payment, Some(charge)).is_some() {
                found.add(again(store, processor, id).await?);
            }
        }
        seen.extend(ids);
        store.go_on(id).await.map_err(WalkError::Store)?;
        cursor = page.next_cursor;
        if cursor.is_none() {
            break;
        }
    }
    let mut after = Uuid::nil();
    loop {
        let page = store.known_behind(after, PAGE).await.map_err(WalkError::Store)?;
        let Some((last, _)) = page.last() else { return Ok(found) };
        after = *last;
        let unseen = page.iter().filter(|(id, _)| !seen.contains(id));
        for payment in unseen.filter_map(|(_, payment)| payment.as_ref()) {
            found.payments += 1;
            if compare(Some(payment), None).is_some() {
                found.add(again(store, processor, payment.id).await?);
            }
        }
        store.go_on(id).await.map_err(WalkError::Store)?;
    }
}

/// One payment once more: one that moved while the processor was asked proves nothing.
async fn again(store: &Store, processor: &dyn Processor, id: Uuid) -> Result<Option<Difference>, WalkError> {
    let before = store.read(id).await.map_err(WalkError::Store)?;
    let charge: Option<Charge> = processor.charge(id).await?;
    let after = store.read(id).await.map_err(WalkError::Store)?;
    if before != after {
        return Ok(None);
    }
    Ok(compare(after.as_ref(), charge.as_ref()))
}

/// The payment whose charge has this key. An id that is written in another way is another key to the processor.
fn payment_id(key: &str) -> Option<Uuid> {
    key.parse().ok().filter(|id: &Uuid| id.to_string() == key)
}
