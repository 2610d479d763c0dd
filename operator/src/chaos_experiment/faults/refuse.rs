//! Refuse: the service itself resets every connection to its own port, as if it were down. Pure.

use super::{Delivery, Kind};
use valerix_policy::{Fault, RefuseFault};

pub(super) static KIND: Kind = Kind {
    name: "Refuse",
    delivery: Delivery::Obeyed,
    takes_pods_away: true,
    // A connection that is reset has not said what it wants yet, so there is no request to count.
    counts_hits: false,
    ends_the_process: false,
    hurts_the_process: false,
    read: |spec| {
        spec.refuse.as_ref().map(|_| {
            Ok(Fault {
                refuse: Some(RefuseFault {}),
                ..Fault::default()
            })
        })
    },
};
