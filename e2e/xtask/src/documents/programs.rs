//! What a command of the documentation names must be there: kinds, fields, conditions, annotations, values of the charts,
//! targets of the Makefile, packages and their tests, scripts of the page. Pure.

use serde_json::Value;

use super::known::Known;
use super::kubectl;

impl Known {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::documents::shell;
    use std::path::Path;

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
