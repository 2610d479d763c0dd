//! Errors: the service itself answers requests with an error.
//!
//! Pure. In: the spec's fault. Out: the fault as the service's library reads it.

use crate::chaos_experiment::validate::InvalidSpec;
use valerix_policy::Fault;

/// Translates the fault.
///
/// # Errors
/// When the status is no HTTP status.
pub fn fault(errors: &valerix_crds::ErrorsFault) -> Result<Fault, InvalidSpec> {
    let status = u16::try_from(errors.status).map_err(|_| InvalidSpec {
        field: "spec.errors.status".into(),
        message: "must be an HTTP status from 400 to 599".into(),
    })?;
    Ok(Fault {
        errors: Some(valerix_policy::ErrorsFault {
            percent: errors.percent,
            status,
            routes: errors.routes.clone(),
        }),
        ..Fault::default()
    })
}
