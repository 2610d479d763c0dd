//! A partition around one attempt: what it cuts off never leaves, and what it meets under way breaks.

use std::future::Future;
use std::sync::Arc;

use crate::faults::{CUT_OFF, Faults, Severed};
use crate::outbound::{AttemptError, Sent, Target};

/// Makes an attempt unless a partition cuts the target off, and gives it up when one does. With the answer comes what cuts
/// its body.
pub(super) async fn unless_cut<A>(
    faults: &Arc<Faults>,
    target: &Arc<Target>,
    attempt: impl Future<Output = Result<A, AttemptError>>,
) -> Result<(A, Severed), AttemptError> {
    let cut = |sent| {
        let cause = CUT_OFF.to_owned();
        Err(AttemptError::Cut { cause, sent })
    };
    // Watched for before anybody looks: none begins unnoticed in between.
    let mut severed = faults.severed(|| {
        let target = Arc::clone(target);
        move |faults: &Faults| faults.cuts_calls_to(target.name())
    });
    if faults.cuts_calls_to(target.name()) {
        return cut(Sent::Nothing);
    }
    tokio::select! {
        biased;
        answer = attempt => Ok((answer?, severed)),
        () = &mut severed => cut(Sent::Perhaps),
    }
}
