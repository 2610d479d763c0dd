//! Crash: the service ends its own process, and the kubelet starts it again in the same pod. Pure.

use super::{Delivery, Kind};
use valerix_policy::{CrashFault, Fault};

pub(super) static KIND: Kind = Kind {
    name: "Crash",
    delivery: Delivery::Obeyed,
    takes_pods_away: true,
    counts_hits: false,
    ends_the_process: true,
    hurts_the_process: true,
    read: |spec| {
        spec.crash.as_ref().map(|crash| {
            Ok(Fault {
                crash: Some(CrashFault { times: crash.times }),
                ..Fault::default()
            })
        })
    },
};
