//! Step 3: the entry of `faults.json`, which is the fault and the lock of the target in one.
//!
//! Pure. In: a plan and what the document holds now. Out: the document as it must be written, and who holds the lock.

use super::faults::{errors, latency, pod_kill};
use super::validate::{InvalidSpec, Plan};
use chrono::{DateTime, SubsecRound, TimeDelta, Utc};
use serde_json::json;
use valerix_crds::{ChaosExperimentSpec, FaultType};
use valerix_policy::{Fault, FaultEntry, Faults};

/// How long after the intent every target must have reported the fault as active.
pub const DELIVERY: TimeDelta = TimeDelta::seconds(45);

/// The identity of an entry. It names the experiment, so that an entry whose experiment is gone can be found, and the
/// run, because a pod obeys each identity once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryName {
    /// Name of the experiment.
    pub experiment: String,
    /// UID of the experiment.
    pub uid: String,
    /// The run.
    pub run: String,
}

impl EntryName {
    /// The text that stands in the entry's `run`.
    pub fn text(&self) -> String {
        format!("{}/{}/{}", self.experiment, self.uid, self.run)
    }

    /// Reads the text of an entry; none when somebody else wrote it.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(3, '/');
        Some(Self {
            experiment: parts.next()?.to_owned(),
            uid: parts.next()?.to_owned(),
            run: parts.next()?.to_owned(),
        })
    }
}

/// The experiment that an entry's text names, for messages to a person.
pub fn experiment_of(entry: &str) -> &str {
    entry.split('/').next().unwrap_or(entry)
}

/// Who holds the target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lock {
    /// Nobody.
    Free,
    /// This run.
    Ours,
    /// Another run, named by its entry.
    Other(String),
    /// The text is no fault document: somebody edited it by hand. Nobody obeys it, and it is replaced.
    Unreadable,
}

/// Who holds the target, by the text of the document.
pub fn lock(document: Option<&str>, name: &EntryName) -> Lock {
    let Some(text) = document else { return Lock::Free };
    let Ok(parsed) = Faults::parse(text.as_bytes()) else {
        return Lock::Unreadable;
    };
    let own = name.text();
    match parsed.document.faults.first() {
        None => Lock::Free,
        Some(entry) if entry.run == own => Lock::Ours,
        Some(entry) => Lock::Other(entry.run.clone()),
    }
}

/// The document with this run's entry and nothing else.
pub fn taken(plan: &Plan, name: &EntryName, pod_uids: Vec<String>, intent_at: DateTime<Utc>) -> String {
    let duration = TimeDelta::from_std(plan.duration).unwrap_or_default();
    Faults {
        faults: vec![FaultEntry {
            run: name.text(),
            fault: plan.fault.clone(),
            pod_uids,
            duration: valerix_policy::Duration::from_millis(
                u64::try_from(plan.duration.as_millis()).unwrap_or(u64::MAX),
            ),
            not_after: intent_at.trunc_subsecs(3) + DELIVERY + duration,
            intent_at: intent_at.trunc_subsecs(3),
        }],
        ..Faults::default()
    }
    .render()
}

/// The document without any entry. It names the run that held it last, so that every document has a hash of its own and
/// a pod that reports that hash has read this one and not one like it from before the fault. Services ignore the field.
pub fn released(last: &str) -> String {
    json!({"version": Faults::default().version, "faults": [], "released": last}).to_string()
}

/// The fault as the service's library reads it.
///
/// # Errors
/// When a duration cannot be read or no fault that this version knows is set.
pub fn fault(spec: &ChaosExperimentSpec) -> Result<(FaultType, Fault), InvalidSpec> {
    match (&spec.pod_kill, &spec.latency, &spec.errors) {
        (Some(_), None, None) => Ok((FaultType::PodKill, pod_kill::fault())),
        (None, Some(fault), None) => Ok((FaultType::Latency, latency::fault(fault)?)),
        (None, None, Some(fault)) => Ok((FaultType::Errors, errors::fault(fault)?)),
        _ => Err(InvalidSpec {
            field: "spec".into(),
            message: "must set exactly one fault that this operator knows: podKill, latency or errors".into(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chaos_experiment::testing::{settings, spec};
    use crate::chaos_experiment::validate::validate;
    use serde_json::{Value, json};

    fn name() -> EntryName {
        EntryName {
            experiment: "slow".into(),
            uid: "u-1".into(),
            run: "2026-11-21T10:00:00Z".into(),
        }
    }

    #[test]
    fn the_entry_is_what_the_pods_contract_says() {
        let spec = spec(json!({
            "target": {"service": "inventory"}, "duration": "60s",
            "latency": {"delay": "2s", "jitter": "500ms", "percent": 100, "routes": ["POST /api/inventory/deduct"]},
        }));
        let plan = validate(&spec, &settings()).unwrap();
        let text = taken(
            &plan,
            &name(),
            vec!["pod-1".into()],
            "2026-11-21T10:00:00.123456789Z".parse().unwrap(),
        );
        let document: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            document,
            json!({"version": 1, "faults": [{
                "run": "slow/u-1/2026-11-21T10:00:00Z",
                "fault": {"latency": {"delay": "2s", "jitter": "500ms", "percent": 100, "routes": ["POST /api/inventory/deduct"]}},
                "podUIDs": ["pod-1"],
                "duration": "1m",
                "notAfter": "2026-11-21T10:01:45.123Z",
                "intentAt": "2026-11-21T10:00:00.123Z",
            }]})
        );
        assert_eq!(lock(Some(&text), &name()), Lock::Ours);
    }

    #[test]
    fn errors_and_pod_kill_have_entries_too() {
        for (fault, expected) in [
            (
                json!({"errors": {"percent": 70, "status": 503}, "duration": "5s"}),
                json!({"errors": {"percent": 70, "status": 503}}),
            ),
            (json!({"podKill": {}}), json!({"podKill": {}})),
        ] {
            let mut value = json!({"target": {"service": "inventory"}});
            value
                .as_object_mut()
                .unwrap()
                .extend(fault.as_object().unwrap().clone());
            let plan = validate(&spec(value), &settings()).unwrap();
            let text = taken(&plan, &name(), vec![], "2026-11-21T10:00:00Z".parse().unwrap());
            let document: Value = serde_json::from_str(&text).unwrap();
            assert_eq!(document["faults"][0]["fault"], expected);
            assert!(Faults::parse(text.as_bytes()).is_ok(), "a service must accept {text}");
        }
    }

    #[test]
    fn the_lock_tells_whose_it_is() {
        assert_eq!(lock(None, &name()), Lock::Free);
        assert_eq!(lock(Some(&released("a")), &name()), Lock::Free);
        assert!(
            Faults::parse(released("a").as_bytes()).is_ok(),
            "a service must accept it"
        );
        assert_ne!(released("a"), released("b"), "each run's end has a hash of its own");
        assert_eq!(lock(Some("{nonsense"), &name()), Lock::Unreadable);
        let plan = validate(
            &spec(json!({"target": {"service": "inventory"}, "podKill": {}})),
            &settings(),
        )
        .unwrap();
        let other = EntryName {
            run: "another".into(),
            ..name()
        };
        let text = taken(&plan, &other, vec![], Utc::now());
        assert_eq!(lock(Some(&text), &name()), Lock::Other("slow/u-1/another".into()));
    }

    #[test]
    fn a_name_survives_its_text() {
        let odd = EntryName {
            run: "by/hand".into(),
            ..name()
        };
        assert_eq!(EntryName::parse(&odd.text()), Some(odd));
        assert_eq!(EntryName::parse("somebody"), None);
    }
}
