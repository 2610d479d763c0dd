//! The CustomResourceDefinitions as YAML: as they are in `crds/`, and in the chart with Helm's keep annotation.

use crate::Files;
use anyhow::{Context, Result};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use std::path::Path;

const HEADER: &str = "# Generated from the types in crds/src; change those and run `make generate`.\n";

pub fn files(definitions: &[CustomResourceDefinition]) -> Result<Files> {
    let mut files = Files::new();
    for definition in definitions {
        let name = format!("{}.yaml", definition.spec.names.plural);
        files.insert(Path::new("crds").join(&name), render(definition)?);
        files.insert(
            Path::new("charts/valerix/templates/crds").join(&name),
            render_for_chart(definition)?,
        );
    }
    Ok(files)
}

fn render(definition: &CustomResourceDefinition) -> Result<String> {
    let yaml = crate::yaml::write(definition).context("failed to write a CRD as YAML")?;
    Ok(format!("{HEADER}{yaml}"))
}

/// Helm never upgrades its `crds/` folder, so the definitions are templates; `keep` saves the users' objects on uninstall.
fn render_for_chart(definition: &CustomResourceDefinition) -> Result<String> {
    let mut kept = definition.clone();
    kept.metadata
        .annotations
        .get_or_insert_default()
        .insert("helm.sh/resource-policy".into(), "keep".into());
    // Helm would read braces in a description as a template.
    Ok(render(&kept)?.replace("{{", "{{ \"{{\" }}"))
}
