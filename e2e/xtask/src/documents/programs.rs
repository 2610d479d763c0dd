//! What a command of the documentation names must be there: kinds, fields, conditions, annotations, values of the charts,
//! targets of the Makefile, packages and their tests, scripts of the page. Pure but for [`Known::read`].

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

use super::kubectl;
use super::schema::Schemas;

/// What commands may name.
pub struct Known {
    /// Kinds, values of the charts.
    pub schemas: Schemas,
    /// Texts of `crds/src/names.rs`: annotations, labels, condition types.
    pub names: BTreeSet<String>,
    /// Names of alerts.
    pub alerts: BTreeSet<String>,
    targets: BTreeSet<String>,
    makefile: String,
    /// Package and the names of its tests, examples and benches, `tests/it`.
    packages: BTreeMap<String, BTreeSet<String>>,
    scripts: BTreeSet<String>,
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
            packages: packages(checkout, &text("Cargo.toml")?)?,
            scripts: page["scripts"]
                .as_object()
                .into_iter()
                .flatten()
                .map(|(name, _)| name.clone())
                .collect(),
            makefile,
        })
    }

    /// What is wrong with a command, in words.
    #[must_use]
    pub fn wrong(&self, words: &[String]) -> Vec<String> {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        match words.split_first() {
            Some((&"kubectl", arguments)) => kubectl::wrong(self, arguments),
            Some((&"helm", arguments)) => self.helm(arguments),
            Some((&"make", arguments)) => self.make(arguments),
            Some((&"cargo", arguments)) => self.cargo(arguments),
            Some((&"npm", ["run", script, ..])) if !self.scripts.contains(*script) => {
                vec![format!("services/console/web/package.json has no script {script}")]
            }
            _ => Vec::new(),
        }
    }

    fn make(&self, arguments: &[&str]) -> Vec<String> {
        let one = |argument: &&&str| match argument.split_once('=') {
            Some((variable, _)) => !self.makefile.contains(&format!("$({variable})")),
            None => !argument.starts_with('-') && !self.targets.contains(**argument),
        };
        arguments
            .iter()
            .filter(one)
            .map(|argument| format!("the Makefile knows no {argument}"))
            .collect()
    }

    fn helm(&self, arguments: &[&str]) -> Vec<String> {
        let mut wrong = Vec::new();
        let chart = arguments.iter().find_map(|argument| argument.strip_prefix("charts/"));
        let Some(chart) = chart else { return wrong };
        let Some(schema) = self.schemas.charts.get(chart) else {
            return vec![format!("there is no charts/{chart}")];
        };
        for pair in arguments.windows(2).filter(|pair| pair[0].starts_with("--set")) {
            for value in settings(pair[1]) {
                let path: Vec<&str> = value.split('.').collect();
                if !has_value(schema, &path) {
                    wrong.push(format!("charts/{chart} has no value {value}"));
                }
            }
        }
        wrong
    }

    fn cargo(&self, arguments: &[&str]) -> Vec<String> {
        let after = |names: &[&str]| {
            arguments
                .windows(2)
                .find(|pair| names.contains(&pair[0]))
                .map(|pair| pair[1])
        };
        let Some(package) = after(&["-p", "--package"]).filter(|package| !package.starts_with('<')) else {
            return Vec::new();
        };
        let Some(parts) = self.packages.get(package) else {
            return vec![format!("there is no package {package}")];
        };
        let named = [("--test", "tests"), ("--example", "examples"), ("--bench", "benches")];
        let asked = named
            .into_iter()
            .filter_map(|(flag, folder)| Some(format!("{folder}/{}", after(&[flag])?)));
        asked
            .filter(|part| !parts.contains(part))
            .map(|part| format!("{package} has no {part}"))
            .collect()
    }
}

/// The keys of `a.b=1,c={x,y}`.
fn settings(text: &str) -> Vec<&str> {
    let mut depth = 0;
    let split = |letter: char| {
        depth += i32::from(letter == '{') - i32::from(letter == '}');
        letter == ',' && depth == 0
    };
    text.split(split)
        .filter_map(|setting| setting.split_once('='))
        .map(|(key, _)| key)
        .collect()
}

fn has_value(schema: &Value, path: &[&str]) -> bool {
    let Some((part, rest)) = path.split_first() else {
        return true;
    };
    let name = part.split('[').next().unwrap_or(part);
    let inner = schema
        .pointer(&format!("/properties/{name}"))
        .or_else(|| schema.get("additionalProperties").filter(|inner| inner.is_object()));
    let is_open = schema.get("properties").is_none() && schema["type"] == "object";
    inner.map_or(is_open, |inner| {
        has_value(if part.contains('[') { &inner["items"] } else { inner }, rest)
    })
}

fn packages(checkout: &Path, workspace: &str) -> Result<BTreeMap<String, BTreeSet<String>>> {
    let members = workspace
        .split_once("members = [")
        .and_then(|(_, rest)| rest.split_once(']'));
    let (members, _) = members.context("Cargo.toml has no members")?;
    let mut packages = BTreeMap::new();
    for folder in members
        .split('"')
        .skip(1)
        .step_by(2)
        .map(|member| checkout.join(member))
    {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::documents::shell;

    #[test]
    fn what_a_command_names_is_there_or_it_is_told() {
        let known = Known::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")).expect("the checkout");
        let wrong = |text: &str| {
            let script = shell::read(text).expect("a script");
            script
                .commands
                .iter()
                .flat_map(|command| known.wrong(&command.words))
                .collect::<Vec<_>>()
        };
        for well in [
            "make order ITEM=ps5 QUANTITY=1",
            "make -s kubeconfig",
            "helm show values charts/valerix-shop",
            "npm run smoke",
            "helm upgrade valerix charts/valerix --set image.tag=A,chaos.namespaces={a,b} --set console.enabled=true",
            "cargo test -p valerix-e2e --test it shop -- --nocapture",
            "cargo test --doc -p <crate>",
            "helm uninstall valerix",
            "kubectl get rsvc order -n shop",
            "kubectl get bkp,backups -A",
            "kubectl explain chaos.spec.latency",
            "kubectl delete pod/x",
            "kubectl wait --for=condition=Ready rsvc/order",
            "kubectl get backup N -o jsonpath='{.status.upload.key} {.status.phase}'",
            "kubectl annotate --overwrite chaos NAME resilience.valerix.io/run=$(date +%s)",
            r#"kubectl patch chaos N --type=merge -p '{"spec":{"desired":"Stop"},"metadata":{"finalizers":null}}'"#,
            r#"kubectl patch rsvc o --type=json -p '[{"op":"replace","path":"/spec/replicas","value":5}]'"#,
        ] {
            assert_eq!(wrong(well), [""; 0], "{well}");
        }
        for (command, words) in [
            ("make deploy", "the Makefile knows no deploy"),
            ("make order ITEMS=2", "no ITEMS=2"),
            (
                "helm install valerix charts/valerix --set consoles.enabled=true",
                "no value consoles.enabled",
            ),
            ("helm install x charts/other", "no charts/other"),
            ("npm run deploy", "no script deploy"),
            ("cargo test -p valerix-none", "no package valerix-none"),
            ("cargo test -p valerix-e2e --test unit", "no tests/unit"),
            ("kubectl get rsv", "knows no kind rsv"),
            ("kubectl obtain pods", "no verb obtain"),
            ("kubectl get pods --namspace x", "--namspace"),
            ("kubectl explain chaos.spec.latncy", "no field spec.latncy"),
            ("kubectl wait --for=condition=Redy rsvc/o", "no condition Redy"),
            (
                "kubectl get backup N -o jsonpath='{.status.uploads.key}'",
                "no field status.uploads.key",
            ),
            (
                "kubectl annotate chaos N resilience.valerix.io/runs=1",
                "no annotation or label resilience.valerix.io/runs",
            ),
            (
                r#"kubectl patch chaos N --type=merge -p '{"spec":{"desire":"Stop"}}'"#,
                "desire is no field",
            ),
            (
                r#"kubectl patch chaos N --type=merge -p '{"spec":{"desired":"Halt"}}'"#,
                "none of",
            ),
            (
                r#"kubectl patch rsvc o --type=json -p '[{"op":"replace","path":"/spec/replica","value":5}]'"#,
                "no field spec.replica",
            ),
            (r"kubectl patch rsvc o --type=json -p '['", "no JSON"),
        ] {
            let told = wrong(command);
            assert!(told.iter().any(|told| told.contains(words)), "{command}: {told:?}");
        }
    }
}
