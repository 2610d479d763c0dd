//! The kinds of fault, one file each. What differs between them is one value, [`Kind`]; the rest of this folder asks it
//! and names none, but in `asks_for_requests`. To add a kind: a file here, a line in [`KINDS`], and the field of the spec.
//!
//! Pure.

mod abort;
mod cpu_stress;
mod crash;
mod errors;
mod latency;
mod memory_stress;
mod partition;
pub mod pod_kill;
mod refuse;

use crate::runtime::Violation;
use valerix_crds::ChaosExperimentSpec;

/// Every kind that this operator knows.
const KINDS: [&Kind; 9] = [
    &pod_kill::KIND,
    &latency::KIND,
    &errors::KIND,
    &abort::KIND,
    &refuse::KIND,
    &partition::KIND,
    &crash::KIND,
    &cpu_stress::KIND,
    &memory_stress::KIND,
];

/// How a fault reaches its targets, and with that how it is undone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// The operator evicts the pods. That cannot be taken back: the successors are awaited.
    Evicted,
    /// The pods obey an entry of their fault document, for a duration or until it is taken out; their reports prove it.
    Obeyed,
}

/// Everything that differs between two kinds of fault.
#[derive(Debug)]
pub struct Kind {
    /// Its name in status, metrics and messages.
    pub name: &'static str,
    /// How it reaches its targets.
    pub delivery: Delivery,
    /// Whether a pod that is hurt serves nobody, so that enough others must be left.
    pub takes_pods_away: bool,
    /// Whether pods count the requests that meet it, so that a fault which met none is known to prove nothing.
    pub counts_hits: bool,
    /// Whether it happens rather than lasts: a process ends, and what is awaited is that as many pods are ready again.
    pub ends_the_process: bool,
    /// Whether it acts on the process that obeys it rather than on requests: that of a guard is not the service's.
    pub hurts_the_process: bool,
    /// The fault of a spec that asks for this kind; none when it does not.
    pub read: fn(&ChaosExperimentSpec) -> Option<Result<valerix_policy::Fault, Violation>>,
}

/// A spec that asks for a kind of another version. It is undone as strictly as any: by what the pods report.
static UNKNOWN: Kind = Kind {
    name: "Unknown",
    delivery: Delivery::Obeyed,
    takes_pods_away: true,
    counts_hits: false,
    ends_the_process: false,
    hurts_the_process: false,
    read: |_| None,
};

/// The fault that a spec asks for.
#[derive(Clone, Debug)]
pub struct Fault {
    /// Its kind.
    pub kind: &'static Kind,
    /// The fault as it stands in the document of the target.
    pub document: valerix_policy::Fault,
}

impl Fault {
    /// Reads the one fault of a spec.
    ///
    /// # Errors
    /// When it sets none or several of those that this operator knows, or one of its fields cannot be acted on.
    pub fn read(spec: &ChaosExperimentSpec) -> Result<Self, Violation> {
        let mut found = KINDS
            .into_iter()
            .filter_map(|kind| (kind.read)(spec).map(|document| (kind, document)));
        match (found.next(), found.next()) {
            (Some((kind, document)), None) => Ok(Self {
                kind,
                document: document?,
            }),
            _ => {
                let names: Vec<_> = KINDS.iter().map(|kind| kind.name).collect();
                let message = "does not set exactly one fault that this operator knows";
                Err(Violation::new(
                    "spec",
                    message,
                    format!("set one of {}", names.join(", ")),
                ))
            }
        }
    }

    /// The field of the spec that only requests can obey, where nothing but connections comes in; none if there is none.
    pub fn asks_for_requests(&self) -> Option<&'static str> {
        let valerix_policy::Fault {
            latency,
            errors,
            abort,
            partition,
            ..
        } = &self.document;
        if errors.is_some() {
            return Some("spec.errors");
        }
        let direction = partition.as_ref().map(|fault| fault.direction);
        if direction == Some(valerix_policy::PartitionDirection::Ingress) {
            // A connection does not say who opened it.
            return Some("spec.partition.direction Ingress");
        }
        let routes = [
            ("spec.latency.routes", latency.as_ref().map(|fault| &fault.routes)),
            ("spec.abort.routes", abort.as_ref().map(|fault| &fault.routes)),
        ];
        let asks = |routes: &Option<&Vec<String>>| routes.is_some_and(|routes| !routes.is_empty());
        routes
            .into_iter()
            .find(|(_, routes)| asks(routes))
            .map(|(field, _)| field)
    }

    /// Enough of the fault to undo it, when its spec cannot be acted on any more.
    pub fn for_recovery(spec: &ChaosExperimentSpec) -> Self {
        let kind = KINDS.into_iter().find(|kind| (kind.read)(spec).is_some());
        Self {
            kind: kind.unwrap_or(&UNKNOWN),
            document: valerix_policy::Fault::default(),
        }
    }
}

/// Refuses routes that read as if they meant many and mean none.
fn routes(field: &str, routes: &[String]) -> Result<(), Violation> {
    for (index, route) in routes.iter().enumerate() {
        if route.contains('*') || route.starts_with("ANY ") {
            return Err(Violation::new(
                format!("{field}[{index}]"),
                format!("is {route:?}, which matches no request"),
                "name one method, and write {x} for any one segment, as in \"GET /api/orders/{id}\"",
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chaos_experiment::testing::spec;
    use serde_json::{Value, json};

    fn asking(fault: &Value) -> ChaosExperimentSpec {
        let mut value = json!({"target": {"service": "inventory"}});
        value
            .as_object_mut()
            .unwrap()
            .extend(fault.as_object().unwrap().clone());
        spec(value)
    }

    #[test]
    fn each_kind_reads_its_own_field_and_no_other() {
        for (fault, name, expected) in [
            (
                json!({"errors": {"percent": 70, "status": 503}}),
                "Errors",
                json!({"errors": {"percent": 70, "status": 503}}),
            ),
            (
                json!({"latency": {"delay": "2s", "jitter": "500ms"}}),
                "Latency",
                json!({"latency": {"delay": "2s", "jitter": "500ms", "percent": 100}}),
            ),
            (json!({"podKill": {}}), "PodKill", json!({"podKill": {}})),
            (
                json!({"abort": {"percent": 30, "routes": ["GET /"]}}),
                "Abort",
                json!({"abort": {"percent": 30, "routes": ["GET /"]}}),
            ),
            (json!({"refuse": {}}), "Refuse", json!({"refuse": {}})),
            (
                json!({"partition": {"peer": "order", "direction": "Ingress"}}),
                "Partition",
                json!({"partition": {"peer": "order", "direction": "Ingress"}}),
            ),
            (json!({"crash": {"times": 2}}), "Crash", json!({"crash": {"times": 2}})),
            (
                json!({"cpuStress": {"loadPercent": 80, "workers": 2}}),
                "CpuStress",
                json!({"cpuStress": {"loadPercent": 80, "workers": 2}}),
            ),
            (
                json!({"memoryStress": {"size": "256Mi"}}),
                "MemoryStress",
                json!({"memoryStress": {"size": "256Mi"}}),
            ),
        ] {
            let fault = Fault::read(&asking(&fault)).unwrap();
            assert_eq!(fault.kind.name, name);
            assert_eq!(
                fault.document.fault_type().as_str(),
                name,
                "status and pods call it the same"
            );
            assert_eq!(serde_json::to_value(&fault.document).unwrap(), expected);
        }
        for none_or_two in [json!({}), json!({"podKill": {}, "errors": {}})] {
            let error = Fault::read(&asking(&none_or_two)).unwrap_err();
            assert!(
                error.to_string().contains("PodKill, Latency, Errors, Abort, Refuse"),
                "{error}"
            );
        }
    }

    #[test]
    fn a_kind_of_another_version_is_undone_by_what_pods_report() {
        assert_eq!(Fault::for_recovery(&asking(&json!({}))).kind.delivery, Delivery::Obeyed);
        assert_eq!(Fault::for_recovery(&asking(&json!({}))).kind.name, "Unknown");
        assert_eq!(
            Fault::for_recovery(&asking(&json!({"podKill": {}}))).kind.name,
            "PodKill"
        );
    }

    #[test]
    fn a_direction_of_another_version_is_named() {
        let fault = asking(&json!({"partition": {"peer": "order", "direction": "Sideways"}}));
        assert_eq!(Fault::read(&fault).unwrap_err().field, "spec.partition.direction");
    }

    #[test]
    fn routes_that_look_like_many_and_are_none_are_refused() {
        for route in ["GET /api/*", "ANY /"] {
            let error = Fault::read(&asking(&json!({"errors": {"routes": ["GET /", route]}}))).unwrap_err();
            assert_eq!(error.field, "spec.errors.routes[1]", "{error}");
        }
    }
}
