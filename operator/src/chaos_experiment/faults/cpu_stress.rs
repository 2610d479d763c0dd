//! Processor stress: the service itself uses up processor time. Pure.

use super::{Delivery, Kind};
use valerix_policy::{CpuStressFault, Fault};

pub(super) static KIND: Kind = Kind {
    name: "CpuStress",
    delivery: Delivery::Obeyed,
    takes_pods_away: false,
    counts_hits: false,
    ends_the_process: false,
    hurts_the_process: true,
    read: |spec| {
        spec.cpu_stress.as_ref().map(|stress| {
            Ok(Fault {
                cpu_stress: Some(CpuStressFault {
                    load_percent: stress.load_percent,
                    workers: stress.workers,
                }),
                ..Fault::default()
            })
        })
    },
};
