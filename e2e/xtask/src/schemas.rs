//! JSON schemas for kubeconform, made here and not fetched: from the OpenAPI document in the pinned Kubernetes module,
//! and from our own CRDs. The transformation is pure; [`write_kubernetes`] and [`write_crds`] do the files.
//!
//! Strict means that an unknown field is an error: every object that names its properties allows no others.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde_json::{Map, Value, json};

use crate::command::Program;
use crate::paths::Paths;
use crate::steps::Log;
use crate::tools::go::KUBERNETES;

/// Raised when the transformation changes, so that schemas in the cache are made anew.
const FORM: u32 = 1;
const REFERENCE: &str = "#/definitions/";

/// Makes the schemas of all Kubernetes kinds, once per version, and returns their folder.
///
/// # Errors
/// When the module cannot be had, or a file cannot be read or written.
pub fn write_kubernetes(paths: &Paths, log: &Log) -> Result<PathBuf> {
    let folder = paths.cache.join(format!("schemas/kubernetes-{KUBERNETES}-{FORM}"));
    if folder.is_dir() {
        return Ok(folder);
    }
    let module = paths.checkout.join("e2e/cluster");
    Program::new("go")
        .args(["mod", "download", "k8s.io/kubernetes"])
        .in_folder(&module)
        .run(log)?;
    let sources = Program::new("go")
        .args(["list", "-m", "-f", "{{.Version}} {{.Dir}}", "k8s.io/kubernetes"])
        .in_folder(&module)
        .read(log)?;
    let (version, sources) = sources
        .trim()
        .split_once(' ')
        .context("`go list` did not name the Kubernetes module")?;
    ensure!(
        version == format!("v{KUBERNETES}"),
        "e2e/cluster uses Kubernetes {version}, xtask {KUBERNETES}"
    );
    let document = Path::new(sources).join("api/openapi-spec/swagger.json");
    let text = fs::read_to_string(&document).with_context(|| format!("failed to read {}", document.display()))?;
    let document: Value = serde_json::from_str(&text).context("failed to read Kubernetes' OpenAPI document")?;
    write(&folder, &from_openapi(&document)?)?;
    Ok(folder)
}

/// Makes the schemas of the CRDs in `crds` (every `*.yaml`), and returns their folder.
///
/// # Errors
/// When a file cannot be read or written, or is not a CRD.
pub fn write_crds(crds: &Path, folder: &Path) -> Result<PathBuf> {
    let mut schemas = BTreeMap::new();
    for entry in fs::read_dir(crds).with_context(|| format!("failed to list {}", crds.display()))? {
        let path = entry
            .with_context(|| format!("failed to list {}", crds.display()))?
            .path();
        if path.extension().is_none_or(|extension| extension != "yaml") {
            continue;
        }
        let text = fs::read_to_string(&path).with_context(|| format!("failed to read {}", path.display()))?;
        let crd: Value = serde_yaml::from_str(&text).with_context(|| format!("failed to read {}", path.display()))?;
        schemas.extend(from_crd(&crd).with_context(|| format!("{} is not a CRD", path.display()))?);
    }
    ensure!(!schemas.is_empty(), "no CRDs in {}", crds.display());
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| format!("failed to empty {}", folder.display()))?;
    }
    write(folder, &schemas)?;
    Ok(folder.to_owned())
}

/// File name to schema, for every kind of an OpenAPI 2 document.
fn from_openapi(document: &Value) -> Result<BTreeMap<String, Value>> {
    let definitions = document["definitions"]
        .as_object()
        .context("the OpenAPI document has no definitions")?;
    let strict: BTreeMap<&str, Value> = definitions
        .iter()
        .map(|(name, schema)| (name.as_str(), strict_definition(name, schema)))
        .collect();
    let mut schemas = BTreeMap::new();
    for (name, schema) in definitions {
        for kind in schema["x-kubernetes-group-version-kind"]
            .as_array()
            .into_iter()
            .flatten()
        {
            let text = |field: &str| kind[field].as_str().unwrap_or_default();
            let mut file = strict.get(name.as_str()).cloned().unwrap_or_default();
            let mut used = BTreeSet::new();
            collect_references(&file, &strict, &mut used);
            let used = used
                .into_iter()
                .filter_map(|name| Some((name.to_owned(), strict.get(name)?.clone())));
            file["definitions"] = Value::Object(used.collect());
            schemas.insert(file_name(text("kind"), text("group"), text("version")), file);
        }
    }
    Ok(schemas)
}

/// File name to schema, for every version of a CRD.
fn from_crd(crd: &Value) -> Result<BTreeMap<String, Value>> {
    let group = crd["spec"]["group"].as_str().context("it has no spec.group")?;
    let kind = crd["spec"]["names"]["kind"]
        .as_str()
        .context("it has no spec.names.kind")?;
    let mut schemas = BTreeMap::new();
    for version in crd["spec"]["versions"].as_array().context("it has no spec.versions")? {
        let name = version["name"].as_str().context("a version has no name")?;
        let mut schema = strict(&version["schema"]["openAPIV3Schema"]);
        // The API server adds these to every kind; a CRD does not spell them out.
        for (field, of_type) in [("apiVersion", "string"), ("kind", "string"), ("metadata", "object")] {
            schema["properties"][field] = json!({"type": of_type});
        }
        schemas.insert(file_name(kind, group, name), schema);
    }
    Ok(schemas)
}

/// As kubeconform's template `{{ .ResourceKind }}{{ .KindSuffix }}.json` asks for it.
fn file_name(kind: &str, group: &str, version: &str) -> String {
    let group = group
        .split('.')
        .next()
        .filter(|group| !group.is_empty())
        .map(|group| format!("-{group}"));
    format!("{kind}{}-{version}.json", group.unwrap_or_default()).to_lowercase()
}

/// The types whose JSON form OpenAPI 2 cannot tell, else the strict form of what it tells.
fn strict_definition(name: &str, schema: &Value) -> Value {
    match name.rsplit('.').next().unwrap_or_default() {
        "IntOrString" => json!({"type": ["string", "integer"]}),
        "Quantity" => json!({"type": ["string", "number"]}),
        _ => strict(schema),
    }
}

/// The same schema without descriptions, in which objects with properties allow no others.
fn strict(schema: &Value) -> Value {
    let Some(object) = schema.as_object() else {
        return schema.clone();
    };
    let mut result = Map::new();
    for (key, value) in object {
        match key.as_str() {
            "description" | "example" | "default" | "format" => {}
            "properties" => {
                let properties = value.as_object().into_iter().flatten();
                let properties = properties.map(|(name, property)| (name.clone(), strict(property)));
                result.insert(key.clone(), Value::Object(properties.collect()));
            }
            "items" | "additionalProperties" | "not" => {
                result.insert(key.clone(), strict(value));
            }
            "allOf" | "anyOf" | "oneOf" => {
                // Branches only narrow what stands beside them; closing them would refuse the other branches' fields.
                result.insert(key.clone(), value.clone());
            }
            key if key.starts_with("x-kubernetes-") => {}
            _ => {
                result.insert(key.clone(), value.clone());
            }
        }
    }
    if object.get("x-kubernetes-int-or-string") == Some(&Value::Bool(true)) {
        result.remove("anyOf");
        result.insert("type".into(), json!(["string", "integer"]));
    }
    let keeps_unknown = object.get("x-kubernetes-preserve-unknown-fields") == Some(&Value::Bool(true));
    if result.contains_key("properties") && !result.contains_key("additionalProperties") && !keeps_unknown {
        result.insert("additionalProperties".into(), Value::Bool(false));
    }
    Value::Object(result)
}

/// Every definition that `schema` leads to, directly or through others.
fn collect_references<'a>(schema: &Value, definitions: &'a BTreeMap<&'a str, Value>, used: &mut BTreeSet<&'a str>) {
    match schema {
        Value::Object(object) => {
            if let Some(name) = object
                .get("$ref")
                .and_then(Value::as_str)
                .and_then(|r| r.strip_prefix(REFERENCE))
                && let Some((name, definition)) = definitions.get_key_value(name)
                && used.insert(name)
            {
                collect_references(definition, definitions, used);
            }
            object
                .values()
                .for_each(|value| collect_references(value, definitions, used));
        }
        Value::Array(values) => values
            .iter()
            .for_each(|value| collect_references(value, definitions, used)),
        _ => {}
    }
}

/// Writes into a folder beside `folder` and renames it, so that a folder that exists is complete.
fn write(folder: &Path, schemas: &BTreeMap<String, Value>) -> Result<()> {
    let unfinished = folder.with_extension(format!("unfinished-{}", std::process::id()));
    fs::create_dir_all(&unfinished).with_context(|| format!("failed to create {}", unfinished.display()))?;
    for (name, schema) in schemas {
        let path = unfinished.join(name);
        fs::write(&path, schema.to_string()).with_context(|| format!("failed to write {}", path.display()))?;
    }
    match fs::rename(&unfinished, folder) {
        Err(_) if folder.is_dir() => fs::remove_dir_all(&unfinished).context("failed to remove a second copy"),
        outcome => outcome.with_context(|| format!("failed to move {} into place", folder.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_names_are_kubeconforms() {
        assert_eq!(file_name("Deployment", "apps", "v1"), "deployment-apps-v1.json");
        assert_eq!(file_name("Service", "", "v1"), "service-v1.json");
        assert_eq!(
            file_name("Role", "rbac.authorization.k8s.io", "v1"),
            "role-rbac-v1.json"
        );
        assert_eq!(
            file_name("Backup", "resilience.valerix.io", "v1alpha1"),
            "backup-resilience-v1alpha1.json"
        );
    }

    #[test]
    fn a_kind_carries_what_it_refers_to_and_nothing_else() {
        let document = json!({"definitions": {
            "a.Pod": {
                "x-kubernetes-group-version-kind": [{"group": "", "kind": "Pod", "version": "v1"}],
                "properties": {"spec": {"$ref": "#/definitions/a.Spec", "description": "..."}},
            },
            "a.Spec": {"properties": {"port": {"$ref": "#/definitions/util.IntOrString"}, "self": {"$ref": "#/definitions/a.Spec"}}},
            "util.IntOrString": {"type": "string", "format": "int-or-string"},
            "a.Other": {"properties": {}},
        }});
        let schemas = from_openapi(&document).expect("schemas");
        let pod = &schemas["pod-v1.json"];
        assert_eq!(pod["additionalProperties"], false);
        let definitions = pod["definitions"].as_object().expect("definitions");
        assert_eq!(definitions.keys().collect::<Vec<_>>(), ["a.Spec", "util.IntOrString"]);
        assert_eq!(definitions["util.IntOrString"]["type"], json!(["string", "integer"]));
        assert_eq!(definitions["a.Spec"]["additionalProperties"], false);
    }

    #[test]
    fn a_crd_is_closed_but_for_free_form_fields() {
        let crd = json!({"spec": {"group": "x.io", "names": {"kind": "Thing"}, "versions": [{"name": "v1", "schema": {
            "openAPIV3Schema": {"type": "object", "properties": {
                "spec": {"type": "object", "properties": {
                    "free": {"type": "object", "properties": {"a": {}}, "x-kubernetes-preserve-unknown-fields": true},
                    "map": {"type": "object", "additionalProperties": {"type": "string"}},
                    "size": {"x-kubernetes-int-or-string": true, "anyOf": [{"type": "integer"}, {"type": "string"}]},
                }},
            }},
        }}]}});
        let schemas = from_crd(&crd).expect("schemas");
        let spec = &schemas["thing-x-v1.json"]["properties"]["spec"];
        assert_eq!(spec["additionalProperties"], false);
        assert_eq!(spec["properties"]["free"].get("additionalProperties"), None);
        assert_eq!(
            spec["properties"]["map"]["additionalProperties"],
            json!({"type": "string"})
        );
        assert_eq!(spec["properties"]["size"], json!({"type": ["string", "integer"]}));
        assert_eq!(
            schemas["thing-x-v1.json"]["properties"]["metadata"],
            json!({"type": "object"})
        );
    }
}
