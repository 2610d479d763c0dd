//! The rules of the chart's roles, from the operator's tables.

use crate::Files;
use std::path::PathBuf;
use valerix_operator::rights::{ROLES, Right, Rules};

const HEADER: &str = "\
{{/*
Generated from the tables in operator/src/rights.rs; change those and run `make generate`.
Every verb stands here because a line of the operator uses it.
No wildcard, no Secrets, no write to a pod but its nudge annotation.
*/}}
";

pub fn files() -> Files {
    let text: String = ROLES.iter().map(template).collect();
    let file = (
        PathBuf::from("charts/valerix/templates/_rules.tpl"),
        format!("{HEADER}{text}"),
    );
    [file].into()
}

fn template(role: &Rules) -> String {
    let rules: String = role.rights.iter().map(rule).collect();
    format!(
        "{{{{/* Granted {}. */}}}}\n{{{{- define \"{}\" -}}}}\n{}\n{{{{- end }}}}\n",
        role.granted,
        role.template,
        rules.trim_end()
    )
}

fn rule(right: &Right) -> String {
    let group = if right.group.is_empty() { "\"\"" } else { right.group };
    let names = match right.names {
        [] => String::new(),
        names => format!("  resourceNames: [{}]\n", names.join(", ")),
    };
    format!(
        "# {}\n- apiGroups: [{group}]\n  resources: [{}]\n{names}  verbs: [{}]\n",
        right.why,
        right.resources.join(", "),
        right.verbs.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// Every role of the chart includes one of the templates, and every template is included.
    #[test]
    fn the_chart_grants_what_the_tables_name_and_nothing_else() {
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../charts/valerix/templates/rights.yaml"
        );
        let chart = std::fs::read_to_string(path).unwrap();
        let mut included = BTreeSet::new();
        let mut lines = chart.lines();
        while let Some(line) = lines.next() {
            assert!(!line.contains("apiGroups"), "a rule that no table has: {line}");
            if line == "rules:" {
                let next = lines.next().unwrap();
                let name = next
                    .split('"')
                    .nth(1)
                    .unwrap_or_else(|| panic!("no template after rules: {next}"));
                included.insert(name.to_owned());
            }
        }
        let tables: BTreeSet<String> = ROLES.iter().map(|role| role.template.to_owned()).collect();
        assert_eq!(included, tables);
    }

    #[test]
    fn a_rule_has_its_reason_and_its_names() {
        let right = ROLES
            .iter()
            .flat_map(|role| role.rights)
            .find(|right| right.verbs == ["bind"])
            .unwrap();
        assert_eq!(
            rule(right),
            "# backup_policy/apply: handed on to the Job of a backup\n\
             - apiGroups: [rbac.authorization.k8s.io]\n  resources: [clusterroles]\n  \
             resourceNames: [{{ include \"valerix.backupRunner\" . }}]\n  verbs: [bind]\n"
        );
    }
}
