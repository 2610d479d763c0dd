//! Abort: the service itself closes the connections of requests. Pure.

use super::{Delivery, Kind, routes};
use crate::runtime::Violation;
use valerix_policy::Fault;

pub(super) static KIND: Kind = Kind {
    name: "Abort",
    delivery: Delivery::Obeyed,
    takes_pods_away: false,
    counts_hits: true,
    ends_the_process: false,
    hurts_the_process: false,
    read: |spec| spec.abort.as_ref().map(read),
};

fn read(abort: &valerix_crds::AbortFault) -> Result<Fault, Violation> {
    routes("spec.abort.routes", &abort.routes)?;
    Ok(Fault {
        abort: Some(valerix_policy::AbortFault {
            percent: abort.percent,
            routes: abort.routes.clone(),
        }),
        ..Fault::default()
    })
}
