//! Errors: the service itself answers requests with an error. Pure.

use super::{Delivery, Kind, routes};
use crate::runtime::Violation;
use valerix_policy::Fault;

pub(super) static KIND: Kind = Kind {
    name: "Errors",
    delivery: Delivery::Obeyed,
    takes_pods_away: false,
    counts_hits: true,
    ends_the_process: false,
    hurts_the_process: false,
    read: |spec| spec.errors.as_ref().map(read),
};

fn read(errors: &valerix_crds::ErrorsFault) -> Result<Fault, Violation> {
    routes("spec.errors.routes", &errors.routes)?;
    let status = u16::try_from(errors.status).map_err(|_| {
        let message = format!("is {}", errors.status);
        Violation::new("spec.errors.status", message, "write an HTTP status from 400 to 599")
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
