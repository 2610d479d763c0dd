//! What the commands of the documentation may name, read from a checkout.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

use super::schema::Schemas;
use crate::workspace;

/// What commands may name.
pub struct Known {
    /// Kinds, values of the charts.
    pub schemas: Schemas,
    /// Texts of `crds/src/names.rs`: annotations, labels, condition types.
    pub names: BTreeSet<String>,
    /// Names of alerts.
    pub alerts: BTreeSet<String>,
    /// Targets of the Makefile.
    pub targets: BTreeSet<String>,
    /// The whole Makefile.
    pub makefile: String,
    /// Package and the names of its tests, examples and benches, `tests/it`.
    pub packages: BTreeMap<String, BTreeSet<String>>,
    /// Scripts of the console's page.
    pub scripts: BTreeSet<String>,
}

impl Known {
    /// Reads it from a checkout.
    ///
    /// # Errors
    /// When a file cannot be read or is not what it should be.
    pub fn read(checkout: &Path) -> Result<Self> {
        let text =
            |name: &str| fs::read_to_string(checkout.join(name)).with_context(|| format!("failed to read {name}"));
        let makefile = text("Makefile")?;
        let phony = makefile.lines().filter_map(|line| line.strip_prefix(".PHONY:"));
        let page: Value =
            serde_json::from_str(&text("services/console/web/package.json")?).context("package.json is no JSON")?;
        let rules = text("charts/valerix/rules/valerix.yaml")? + &text("charts/valerix-shop/rules/shop.yaml")?;
        let alerts = rules
            .lines()
            .filter_map(|line| line.trim_start_matches([' ', '-']).strip_prefix("alert: "));
        Ok(Self {
            alerts: alerts.map(str::to_owned).collect(),
            schemas: Schemas::read(checkout)?,
            names: text("crds/src/names.rs")?
                .split('"')
                .skip(1)
                .step_by(2)
                .map(str::to_owned)
                .collect(),
            targets: phony.flat_map(str::split_whitespace).map(str::to_owned).collect(),
            packages: packages(checkout)?,
            scripts: page["scripts"]
                .as_object()
                .into_iter()
                .flatten()
                .map(|(name, _)| name.clone())
                .collect(),
            makefile,
        })
    }
}

fn packages(checkout: &Path) -> Result<BTreeMap<String, BTreeSet<String>>> {
    let mut packages = BTreeMap::new();
    for member in workspace::members(checkout)? {
        let folder = checkout.join(member);
        let manifest = folder.join("Cargo.toml");
        let text = fs::read_to_string(&manifest).with_context(|| format!("failed to read {}", manifest.display()))?;
        let name = text
            .lines()
            .find_map(|line| line.strip_prefix("name = \"")?.strip_suffix('"'));
        let mut parts = BTreeSet::new();
        for kind in ["tests", "examples", "benches"] {
            for entry in fs::read_dir(folder.join(kind)).into_iter().flatten().flatten() {
                let name = entry.file_name().to_string_lossy().into_owned();
                parts.insert(format!("{kind}/{}", name.strip_suffix(".rs").unwrap_or(&name)));
            }
        }
        packages.insert(
            name.with_context(|| format!("{} has no name", manifest.display()))?
                .to_owned(),
            parts,
        );
    }
    Ok(packages)
}
