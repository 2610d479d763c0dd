//! Step 3: the entry of `faults.json`, which is the fault and the lock of the target in one.
//!
//! Pure. In: a plan and what the document holds now. Out: the document as it must be written, and who holds the lock.

use super::durations::milliseconds;
use super::identity::EntryName;
use super::validate::Plan;
use chrono::{DateTime, SubsecRound, TimeDelta, Utc};
use serde_json::json;
use valerix_policy::{FaultEntry, Faults, PolicyError};

/// How long after the intent every target must have reported the fault as active.
pub const DELIVERY: TimeDelta = TimeDelta::seconds(45);

/// The experiment that an entry's text names, for messages to a person.
pub fn experiment_of(entry: &str) -> &str {
    entry.split('/').next().unwrap_or(entry)
}

/// Who holds the target.
#[derive(Clone, Debug, PartialEq)]
pub enum Lock {
    /// Nobody.
    Free,
    /// This run, by this entry.
    Ours(Box<FaultEntry>),
    /// Another run, named by its entry.
    Other(String),
    /// The text is no fault document: somebody edited it by hand. Pods go on with the one before it, so it is replaced.
    Unreadable,
}

/// Who holds the target, by the text of the document.
pub fn lock(document: Option<&str>, name: &EntryName) -> Lock {
    let Some(text) = document else { return Lock::Free };
    let Ok(parsed) = Faults::parse(text.as_bytes()) else {
        return Lock::Unreadable;
    };
    let own = name.text();
    match parsed.document.faults.into_iter().next() {
        None => Lock::Free,
        Some(entry) if entry.run == own => Lock::Ours(Box::new(entry)),
        Some(entry) => Lock::Other(entry.run),
    }
}

/// The document with this run's entry and nothing else.
///
/// # Errors
/// When the pods would not read it: then it must not be written, because nobody would know the lock as ours.
pub fn taken(
    plan: &Plan,
    name: &EntryName,
    pod_uids: Vec<String>,
    spared_paths: Vec<String>,
    intent_at: DateTime<Utc>,
) -> Result<String, PolicyError> {
    let duration = TimeDelta::from_std(plan.duration).unwrap_or_default();
    let text = Faults {
        faults: vec![FaultEntry {
            run: name.text(),
            fault: plan.fault.document.clone(),
            pod_uids,
            duration: milliseconds(plan.duration),
            not_after: intent_at.trunc_subsecs(3) + DELIVERY + duration,
            intent_at: intent_at.trunc_subsecs(3),
            spared_paths,
        }],
        ..Faults::default()
    }
    .render();
    Faults::parse(text.as_bytes()).map(|_| text)
}

/// The document without any entry. It names the run that held it last, so that every document has a hash of its own and
/// a pod that reports that hash has read this one and not one like it from before the fault. Services ignore the field.
pub fn released(last: &str) -> String {
    json!({"version": Faults::default().version, "faults": [], "released": last}).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chaos_experiment::testing::{limits, spec};
    use crate::chaos_experiment::validate::validate;
    use serde_json::{Value, json};

    fn name() -> EntryName {
        EntryName {
            experiment: "slow".into(),
            uid: "u-1".into(),
            intent: 1_700_000_000_123,
            run: "2026-11-21T10:00:00Z".into(),
        }
    }

    #[test]
    fn the_entry_is_what_the_pods_contract_says() {
        let spec = spec(json!({
            "target": {"service": "inventory"}, "duration": "60s",
            "latency": {"delay": "2s", "jitter": "500ms", "percent": 100, "routes": ["POST /api/inventory/deduct"]},
        }));
        let plan = validate(&spec, &limits()).unwrap();
        let text = taken(
            &plan,
            &name(),
            vec!["pod-1".into()],
            vec!["/_healthz".into()],
            "2026-11-21T10:00:00.123456789Z".parse().unwrap(),
        )
        .unwrap();
        let document: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            document,
            json!({"version": 1, "faults": [{
                "run": "slow/u-1/1700000000123/2026-11-21T10:00:00Z",
                "fault": {"latency": {"delay": "2s", "jitter": "500ms", "percent": 100, "routes": ["POST /api/inventory/deduct"]}},
                "podUIDs": ["pod-1"],
                "duration": "1m",
                "notAfter": "2026-11-21T10:01:45.123Z",
                "intentAt": "2026-11-21T10:00:00.123Z",
                "sparedPaths": ["/_healthz"],
            }]})
        );
        assert!(matches!(lock(Some(&text), &name()), Lock::Ours(entry) if entry.pod_uids == ["pod-1"]));
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
            &limits(),
        )
        .unwrap();
        let other = EntryName {
            run: "another".into(),
            ..name()
        };
        let text = taken(&plan, &other, vec![], vec![], Utc::now()).unwrap();
        assert_eq!(
            lock(Some(&text), &name()),
            Lock::Other("slow/u-1/1700000000123/another".into())
        );
    }

    #[test]
    fn a_name_survives_its_text() {
        let odd = EntryName {
            run: "by/hand".into(),
            ..name()
        };
        assert_eq!(EntryName::parse(&odd.text()), Some(odd));
        let longest = EntryName {
            experiment: "x".repeat(63),
            uid: "x".repeat(36),
            run: "x".repeat(128),
            ..name()
        };
        assert!(longest.text().len() <= 253, "pods read at most that many characters");
        assert_eq!(EntryName::parse("somebody"), None);
    }
}
