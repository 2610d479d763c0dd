//! What the Redis of a chart may hold against what its pod and its claim are given. Pure.

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_yaml::Value;

/// A copy of the data is made while the log is written anew, and every page of it may change meanwhile.
const IN_MEMORY: u64 = 2;
/// The log since it was last written anew (as much as there is data) with as much again behind it, and beside that the new
/// one, with what comes while it is written.
const ON_DISK: u64 = 4;

/// That a Redis among the rendered objects can be full and neither be killed for its memory nor run out of disk.
///
/// # Errors
/// When it can, or does not say how much it may hold.
pub fn check(rendered: &str) -> Result<()> {
    let mut objects = Vec::new();
    for document in serde_yaml::Deserializer::from_str(rendered) {
        objects.push(Value::deserialize(document).context("failed to read a rendered object")?);
    }
    let redis = |kind: &str| {
        let mut objects = objects.iter();
        objects.find(|object| object["kind"] == kind && object["metadata"]["name"] == "redis")
    };
    if let Some(set) = redis("StatefulSet") {
        let spec = &set["spec"];
        hold(
            &spec["template"]["spec"]["containers"][0],
            &spec["volumeClaimTemplates"][0],
        )?;
    }
    if let Some(service) = redis("ResilientService") {
        hold(&service["spec"], redis("PersistentVolumeClaim").unwrap_or(&Value::Null))?;
    }
    Ok(())
}

fn hold(container: &Value, claim: &Value) -> Result<()> {
    let limit = quantity(&container["resources"]["limits"]["memory"]).context("Redis has no limit of memory")?;
    let claim = quantity(&claim["spec"]["resources"]["requests"]["storage"]).context("Redis claims no storage")?;
    let most = argument(container, "--maxmemory").and_then(|most| bytes(&most.to_ascii_lowercase(), &REDIS_UNITS));
    let most = most.context("Redis is not told --maxmemory")?;
    let rewritten = argument(container, "--auto-aof-rewrite-percentage");
    ensure!(
        rewritten == Some("100"),
        "Redis writes its log anew at {rewritten:?} percent: see ON_DISK"
    );
    ensure!(
        limit >= IN_MEMORY * most,
        "Redis may hold {most} bytes and its container {limit}: it is killed when it writes its log anew"
    );
    ensure!(
        claim >= ON_DISK * most,
        "Redis may hold {most} bytes and claims {claim}: the log outgrows its volume, and Redis takes nothing new"
    );
    Ok(())
}

/// The argument behind `name`.
fn argument<'a>(container: &'a Value, name: &str) -> Option<&'a str> {
    let arguments = container["args"].as_sequence()?;
    let at = arguments.iter().position(|argument| argument == name)?;
    arguments.get(at + 1)?.as_str()
}

const KUBERNETES_UNITS: [(&str, u64); 3] = [("Ki", 1 << 10), ("Mi", 1 << 20), ("Gi", 1 << 30)];
const REDIS_UNITS: [(&str, u64); 3] = [("kb", 1 << 10), ("mb", 1 << 20), ("gb", 1 << 30)];

fn quantity(value: &Value) -> Option<u64> {
    bytes(value.as_str()?, &KUBERNETES_UNITS)
}

fn bytes(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    units.iter().find_map(|(unit, size)| {
        let number: u64 = text.strip_suffix(unit)?.parse().ok()?;
        number.checked_mul(*size)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(limit: &str, claim: &str, arguments: &str) -> String {
        format!(
            "kind: Service\nmetadata: {{name: redis}}\n---\nkind: StatefulSet\nmetadata: {{name: redis}}\nspec:\n  \
             template:\n    spec:\n      containers:\n        - args: [{arguments}]\n          \
             resources: {{limits: {{memory: {limit}}}}}\n  volumeClaimTemplates:\n    \
             - spec: {{resources: {{requests: {{storage: {claim}}}}}}}\n"
        )
    }

    #[test]
    fn one_behind_a_guard_has_it_too() {
        let guarded = |claim: &str| {
            format!(
                "kind: PersistentVolumeClaim\nmetadata: {{name: redis}}\nspec: {{resources: {{requests: {{storage: \
                 {claim}}}}}}}\n---\nkind: ResilientService\nmetadata: {{name: redis}}\nspec:\n  args: \
                 [--auto-aof-rewrite-percentage, \"100\", --maxmemory, 128mb]\n  resources: {{limits: {{memory: 256Mi}}}}\n"
            )
        };
        check(&guarded("512Mi")).unwrap();
        let error = check(&guarded("511Mi")).unwrap_err().to_string();
        assert!(error.contains("outgrows its volume"), "{error}");
        let unclaimed = guarded("512Mi").replace("PersistentVolumeClaim", "Secret");
        let error = check(&unclaimed).unwrap_err().to_string();
        assert!(error.contains("claims no storage"), "{error}");
    }

    #[test]
    fn a_redis_that_is_full_has_room_in_memory_and_on_disk() {
        let told = "--auto-aof-rewrite-percentage, \"100\", --maxmemory, 128mb";
        check(&rendered("256Mi", "512Mi", told)).unwrap();
        check("kind: Service\nmetadata: {name: redis}\n").unwrap();
        for (limit, claim, arguments, words) in [
            ("256Mi", "511Mi", told, "outgrows its volume"),
            ("255Mi", "1Gi", told, "is killed"),
            (
                "256Mi",
                "512Mi",
                "--auto-aof-rewrite-percentage, \"100\"",
                "not told --maxmemory",
            ),
            ("256Mi", "512Mi", "--maxmemory, 128mb", "writes its log anew at None"),
            ("null", "512Mi", told, "no limit of memory"),
        ] {
            let error = check(&rendered(limit, claim, arguments)).unwrap_err().to_string();
            assert!(error.contains(words), "{limit} {claim} {arguments}: {error}");
        }
    }
}
