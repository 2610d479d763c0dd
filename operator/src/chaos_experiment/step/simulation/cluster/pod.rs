//! One pod of the model.

use super::*;

#[derive(Clone)]
pub struct PodModel {
    pub view: PodView,
    /// When a removed pod is gone.
    pub gone_at: Option<DateTime<Utc>>,
    /// Faults by run: since when, until when.
    pub faults: HashMap<String, (DateTime<Utc>, DateTime<Utc>)>,
    /// Why a fault ended before its time, if it did.
    pub ended_early: Option<String>,
    /// Why it does not obey, if it does not.
    pub refuses: Option<&'static str>,
    /// When it reads a new document after it was written.
    pub reads_after: TimeDelta,
    pub document_since: DateTime<Utc>,
    pub document: Option<String>,
    pub reachable: bool,
    /// How often its process is still to end by the fault, and when the one after it starts.
    pub crashes_left: u32,
    pub starts_at: Option<DateTime<Utc>>,
    /// Whether its status says all the time that it is ready.
    pub seems_ready: bool,
    /// When the process that runs is ready.
    pub ready_at: DateTime<Utc>,
}

pub fn pod(number: usize, created_at: DateTime<Utc>) -> PodModel {
    PodModel {
        view: PodView {
            name: format!("inventory-{number}"),
            uid: format!("pod-uid-{number}"),
            ready: true,
            ready_since: Some(created_at),
            labels: std::collections::BTreeMap::new(),
            zone: None,
            process_ended_at: None,
            created_at,
            removal: Removal::None,
        },
        gone_at: None,
        faults: HashMap::new(),
        ended_early: None,
        refuses: None,
        reads_after: TimeDelta::zero(),
        document_since: created_at,
        document: None,
        reachable: true,
        crashes_left: 0,
        starts_at: None,
        seems_ready: false,
        ready_at: created_at,
    }
}
