//! The API reference: every field of every kind with its type and description, and every rule with what it refuses, as one
//! Markdown page.

use crate::{Files, refusals, shown::shown};
use anyhow::{Context, Result};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray,
};
use std::{fmt::Write as _, path::PathBuf};

pub fn files(definitions: &[CustomResourceDefinition]) -> Result<Files> {
    let mut page = String::from(
        "<!-- Generated from the types in crds/src; change those and run `make generate`. -->\n# API reference\n\nGroup `resilience.valerix.io`, version `v1alpha1`. `kubectl explain <kind>.<path>` prints the same texts.\n",
    );
    for definition in definitions {
        kind(&mut page, definition)?;
    }
    Ok(Files::from([(PathBuf::from("docs/reference.md"), page)]))
}

fn kind(page: &mut String, definition: &CustomResourceDefinition) -> Result<()> {
    let names = &definition.spec.names;
    let short = names.short_names.as_deref().unwrap_or_default().join(", ");
    let version = definition.spec.versions.first().context("a CRD has no version")?;
    let schema = version
        .schema
        .as_ref()
        .and_then(|schema| schema.open_api_v3_schema.as_ref())
        .context("a CRD has no schema")?;
    write!(page, "\n## {}\n\n", names.kind)?;
    if !short.is_empty() {
        writeln!(page, "Short name: `{short}`.\n")?;
    }
    writeln!(page, "{}\n", shown(schema.description.as_deref().unwrap_or_default()))?;
    writeln!(page, "| Field | Type | What it is |\n| --- | --- | --- |")?;
    for part in ["spec", "status"] {
        if let Some(schema) = schema.properties.as_ref().and_then(|properties| properties.get(part)) {
            fields(page, part, schema)?;
        }
    }
    page.push_str(&refusals::section(&names.kind, schema)?);
    Ok(())
}

fn fields(page: &mut String, path: &str, schema: &JSONSchemaProps) -> Result<()> {
    for (name, field) in schema.properties.iter().flatten() {
        let path = format!("{path}.{name}");
        let text = shown(field.description.as_deref().unwrap_or_default())
            .replace('\n', " ")
            .replace('|', "\\|");
        writeln!(page, "| `{path}` | {} | {text} |", type_of(field))?;
        fields(page, &path, field)?;
        if let Some(JSONSchemaPropsOrArray::Schema(items)) = &field.items {
            fields(page, &format!("{path}[]"), items)?;
        }
    }
    Ok(())
}

fn type_of(schema: &JSONSchemaProps) -> String {
    if let Some(values) = &schema.enum_ {
        return values
            .iter()
            .map(|value| format!("`{}`", value.0.as_str().unwrap_or_default()))
            .collect::<Vec<_>>()
            .join(" ");
    }
    if schema.x_kubernetes_int_or_string == Some(true) {
        return "integer or string".into();
    }
    let kind = schema.type_.as_deref().unwrap_or("any");
    match (schema.minimum, schema.maximum) {
        (Some(least), Some(most)) => format!("{kind} {least}..{most}"),
        _ => kind.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::shown;

    #[test]
    fn what_looks_like_html_is_shown_as_it_is() {
        assert_eq!(
            shown("named <policy>, as `<name>_x` < 3"),
            "named &lt;policy>, as `<name>_x` &lt; 3"
        );
    }
}
