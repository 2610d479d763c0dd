//! Whether this pod obeys a fault, and until when. In: an entry, the pod's own consent, its clocks and markers. Out: a
//! decision that is made once per run. Pure but for the marker.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use chrono::{DateTime, TimeDelta, Utc};
use tokio::time::Instant;
use valerix_policy::{Admission, FaultEntry, FaultType};

use super::marker::{Mark, Markers};

const NOT_BUILT: &str = "this image was built without faults: build valerix-resilience with the feature faults";
pub(super) const DENIED: &str = "this pod's own document has chaos.admission Denied: set it to Allowed";
/// How far the pod's clock may be behind the operator's.
const SKEW: TimeDelta = TimeDelta::seconds(2);

/// What a fault needs to know of the process.
#[derive(Clone, Debug)]
pub(super) struct Pod {
    pub(super) uid: String,
    /// By the monotonic clock: the wall clock may have been set since.
    pub(super) started: std::time::Instant,
}

impl Pod {
    fn is_younger_than(&self, entry: &FaultEntry, now: DateTime<Utc>) -> bool {
        let age = TimeDelta::from_std(self.started.elapsed()).unwrap_or(TimeDelta::MAX);
        now - entry.intent_at >= age
    }
}

/// A run that this process has met.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) entry: FaultEntry,
    pub(super) decision: FaultDecision,
    /// Whether the document in force names it.
    pub(super) listed: bool,
    /// Requests that it was done to.
    pub(super) hits: Arc<AtomicU64>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum FaultDecision {
    Active { until: Instant },
    Ended { reason: Option<String> },
    Refused { reason: String },
}

/// Decides on a run met for the first time. The wall clock (`now`) counts here and never again.
pub(super) fn decide(
    entry: &FaultEntry,
    admission: Admission,
    pod: &Pod,
    markers: &Markers,
    now: DateTime<Utc>,
) -> FaultDecision {
    let refused = |reason: String| FaultDecision::Refused { reason };
    // Known when compiled: without the feature nothing behind this can be reached.
    if !cfg!(feature = "faults") {
        return refused(NOT_BUILT.to_owned());
    }
    if admission == Admission::Denied {
        return refused(DENIED.to_owned());
    }
    let fault_type = entry.fault.fault_type();
    if fault_type == FaultType::Unknown {
        return refused("not exactly one fault that this image knows: use a newer image or another fault".to_owned());
    }
    if entry.intent_at - now > SKEW {
        let behind = (entry.intent_at - now).num_milliseconds();
        return refused(format!(
            "this pod's clock is {behind} ms behind the operator's: synchronise the node's clock"
        ));
    }
    let Some(left) = (entry.not_after - now).to_std().ok().filter(|left| !left.is_zero()) else {
        return refused(format!("it arrived after notAfter ({})", entry.not_after.to_rfc3339()));
    };
    if fault_type == FaultType::Crash && !markers.seen(&entry.run) && pod.is_younger_than(entry, now) {
        // Without a mark: whoever reads one takes it for a process that was ended.
        return FaultDecision::Ended {
            reason: Some("the process is younger than the experiment".to_owned()),
        };
    }
    match markers.begin(&entry.run) {
        Mark::Fresh => {}
        Mark::Seen(before)
            if entry
                .fault
                .crash
                .as_ref()
                .is_some_and(|crash| before < u64::from(crash.times)) => {}
        // It was done as often as asked: that the process restarted is its effect, and nothing went wrong.
        Mark::Seen(_) if fault_type == FaultType::Crash => return FaultDecision::Ended { reason: None },
        Mark::Seen(_) => {
            let reason = "the process restarted while it was on: a fault is never resumed".to_owned();
            return FaultDecision::Ended { reason: Some(reason) };
        }
        Mark::Failed(error) if is_lethal(fault_type) => {
            return refused(format!(
                "failed to write its marker, without which it could repeat itself: {error}"
            ));
        }
        Mark::Failed(error) => {
            tracing::warn!(run = %entry.run, %error, "failed to mark a fault; a restart would resume it");
        }
    }
    FaultDecision::Active {
        until: Instant::now() + entry.duration.get().min(left),
    }
}

/// Faults that can end the process.
const fn is_lethal(fault_type: FaultType) -> bool {
    matches!(
        fault_type,
        FaultType::Crash | FaultType::MemoryStress | FaultType::CpuStress
    )
}
