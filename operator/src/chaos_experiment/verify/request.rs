//! What `verify` is asked for: one experiment out of a file, or the name of one that exists.
//!
//! Pure but for [`read`], which reads the file.

use super::error::Error;
use kube::Resource;
use serde::Deserialize;
use serde_json::Value;
use std::io::Read as _;
use std::path::Path;
use valerix_crds::{ChaosExperiment, DesiredState};

/// What is to be run.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// Name of the experiment.
    pub name: String,
    /// Its namespace, where file or arguments name one.
    pub namespace: Option<String>,
    /// The experiment as the file has it; none for one that exists and runs again as it is.
    pub object: Option<Value>,
}

/// Reads a file; `-` is the standard input.
///
/// # Errors
/// If it cannot be read or holds anything but one ChaosExperiment that may run.
pub fn read(path: &Path, namespace: Option<&str>) -> Result<Request, Error> {
    let unreadable = |source| Error::Unreadable {
        file: path.display().to_string(),
        source,
    };
    let mut text = String::new();
    if path == Path::new("-") {
        std::io::stdin().read_to_string(&mut text).map_err(unreadable)?;
    } else {
        text = std::fs::read_to_string(path).map_err(unreadable)?;
    }
    parse(&path.display().to_string(), &text, namespace)
}

/// The one experiment of a text.
///
/// # Errors
/// What the text is instead.
pub fn parse(file: &str, text: &str, namespace: Option<&str>) -> Result<Request, Error> {
    let wrong = |what: String| Error::File {
        file: file.to_owned(),
        what,
    };
    let mut documents = Vec::new();
    for document in serde_yaml::Deserializer::from_str(text) {
        let value = Value::deserialize(document).map_err(|error| wrong(format!("it is no YAML or JSON: {error}")))?;
        if !value.is_null() {
            documents.push(value);
        }
    }
    let count = documents.len();
    let Some(object) = documents.pop().filter(|_| count == 1) else {
        return Err(wrong(format!(
            "it holds {count} documents; write one ChaosExperiment per file and verify them one after another"
        )));
    };
    let text_at = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let (version, kind) = (ChaosExperiment::api_version(&()), ChaosExperiment::kind(&()));
    let (found_version, found_kind) = (text_at("/apiVersion"), text_at("/kind"));
    if found_kind != kind || found_version != version {
        return Err(wrong(format!(
            "it holds kind `{found_kind}` of apiVersion `{found_version}`; verify takes kind {kind} of {version}"
        )));
    }
    let name = text_at("/metadata/name").to_owned();
    if name.is_empty() {
        return Err(wrong("metadata.name is missing; give the experiment a name".into()));
    }
    let own_namespace = Some(text_at("/metadata/namespace").to_owned()).filter(|own| !own.is_empty());
    if let (Some(own), Some(asked)) = (&own_namespace, namespace)
        && own != asked
    {
        return Err(wrong(format!(
            "metadata.namespace is {own}, but --namespace says {asked}; make them the same or leave one out"
        )));
    }
    if !object.get("spec").is_some_and(Value::is_object) {
        return Err(wrong("spec is missing; write what is to be hurt and how".into()));
    }
    let unknown = unknown_fields(&object);
    if !unknown.is_empty() {
        return Err(wrong(format!(
            "{} is no field of a ChaosExperiment; correct or remove it (`kubectl explain chaos.spec` names the fields)",
            unknown.join(", ")
        )));
    }
    if text_at("/spec/desired") == "Stop" {
        return Err(wrong(
            "spec.desired is Stop, so it would never run; remove it or write Run".into(),
        ));
    }
    Ok(Request {
        name,
        namespace: own_namespace.or_else(|| namespace.map(str::to_owned)),
        object: Some(object),
    })
}

/// Fields that nobody would read. A value of a wrong type is left to the API server, which names its field.
fn unknown_fields(object: &Value) -> Vec<String> {
    let mut unknown = Vec::new();
    let read: Result<ChaosExperiment, _> = serde_ignored::deserialize(object, |path| {
        // An optional field is a step of its own in the path.
        unknown.push(path.to_string().replace(".?", ""));
    });
    unknown.retain(|path| !matches!(path.as_str(), "apiVersion" | "kind"));
    if read.is_ok() { unknown } else { Vec::new() }
}

/// Whether an experiment that exists may run again.
///
/// # Errors
/// Why it would not.
pub fn may_run(experiment: &ChaosExperiment) -> Result<(), Error> {
    let name = experiment.metadata.name.clone().unwrap_or_default();
    if experiment.metadata.deletion_timestamp.is_some() {
        return Err(Error::Refused {
            name,
            why: "it is being deleted; wait until it is gone".into(),
        });
    }
    if experiment.spec.desired != DesiredState::Run {
        return Err(Error::Refused {
            name,
            why: "its spec.desired is Stop, so it would never run; set it to Run".into(),
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    const GOOD: &str = "apiVersion: resilience.valerix.io/v1alpha1\nkind: ChaosExperiment\nmetadata: {name: slow, namespace: shop}\nspec: {target: {service: inventory}, podKill: {}}\n";

    #[test]
    fn comments_and_separators_are_no_documents_and_json_is_yaml() {
        let request = parse("f", &format!("# a comment\n---\n{GOOD}---\n# the end\n"), None).unwrap();
        assert_eq!(
            (request.name.as_str(), request.namespace.as_deref()),
            ("slow", Some("shop"))
        );
        let json = request.object.unwrap().to_string();
        assert_eq!(parse("f", &json, Some("shop")).unwrap().name, "slow");
        let anywhere = GOOD.replace(", namespace: shop", "");
        assert_eq!(parse("f", &anywhere, None).unwrap().namespace, None);
        assert_eq!(
            parse("f", &anywhere, Some("elsewhere")).unwrap().namespace.as_deref(),
            Some("elsewhere")
        );
    }

    #[rstest]
    #[case::nothing("# only a comment\n".into(), "0 documents")]
    #[case::two(format!("{GOOD}---\n{GOOD}"), "2 documents")]
    #[case::no_yaml("a: [".into(), "no YAML")]
    #[case::text("hello".into(), "kind `` of apiVersion ``")]
    #[case::another_kind(GOOD.replace("ChaosExperiment", "Deployment"), "kind `Deployment`")]
    #[case::another_version(GOOD.replace("v1alpha1", "v1"), "apiVersion `resilience.valerix.io/v1`")]
    #[case::no_name(GOOD.replace("name: slow, ", ""), "metadata.name is missing")]
    #[case::no_spec(GOOD.replace("spec:", "specs:"), "spec is missing")]
    #[case::a_typing_error(GOOD.replace("podKill: {}", "podKill: {}, stedyState: {}"), "spec.stedyState is no field")]
    #[case::deep_down(GOOD.replace("podKill: {}", "podKill: {methods: Evict}"), "spec.podKill.methods is no field")]
    #[case::stopped(GOOD.replace("podKill: {}", "podKill: {}, desired: Stop"), "spec.desired is Stop")]
    #[case::elsewhere(GOOD.replace("shop", "bank"), "metadata.namespace is bank, but --namespace says shop")]
    fn anything_else_is_refused_by_name(#[case] text: String, #[case] expected: &str) {
        let error = parse("experiment.yaml", &text, Some("shop")).unwrap_err().to_string();
        assert!(error.starts_with("failed to take experiment.yaml: "), "{error}");
        assert!(error.contains(expected), "{error}");
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let error = read(Path::new("/nowhere/experiment.yaml"), None)
            .unwrap_err()
            .to_string();
        assert!(error.contains("/nowhere/experiment.yaml"), "{error}");
    }
}
