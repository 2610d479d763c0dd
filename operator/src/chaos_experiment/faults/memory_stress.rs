//! Memory stress: the service itself holds memory. Pure.

use super::{Delivery, Kind};
use valerix_policy::{Fault, MemoryStressFault};

pub(super) static KIND: Kind = Kind {
    name: "MemoryStress",
    delivery: Delivery::Obeyed,
    takes_pods_away: false,
    counts_hits: false,
    ends_the_process: false,
    hurts_the_process: true,
    read: |spec| {
        spec.memory_stress.as_ref().map(|stress| {
            Ok(Fault {
                memory_stress: Some(MemoryStressFault {
                    size: stress.size.clone(),
                }),
                ..Fault::default()
            })
        })
    },
};
