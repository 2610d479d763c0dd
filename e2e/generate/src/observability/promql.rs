//! Which time series a query asks for, and by which labels. Not a parser: it knows what the queries here are made of.

use super::metrics::{self, Kind};

/// Labels that whoever scrapes adds.
const OF_TARGETS: [&str; 5] = ["namespace", "service", "pod", "instance", "job"];
/// Words of the language that are no metrics.
const WORDS: [&str; 12] = [
    "and",
    "or",
    "unless",
    "by",
    "without",
    "on",
    "ignoring",
    "offset",
    "bool",
    "group_left",
    "group_right",
    "le",
];

/// What is wrong with a query's names: one that nothing exposes, or a label that it does not have. `recorded` are the
/// names that rules record.
pub fn unknown(query: &str, recorded: &[&str]) -> Vec<String> {
    let mut wrong = Vec::new();
    for (name, labels) in selectors(query) {
        if recorded.contains(&name.as_str()) {
            continue;
        }
        let Some(metric) = metrics::of_series(&name) else {
            wrong.push(format!("nothing exposes {name}"));
            continue;
        };
        for label in labels {
            let known = metric.labels.contains(&label.as_str())
                || OF_TARGETS.contains(&label.as_str())
                || (label == "le" && metric.kind == Kind::Histogram);
            if !known {
                wrong.push(format!("{name} has no label {label}"));
            }
        }
    }
    wrong
}

/// Names of series with the labels by which they are chosen.
fn selectors(query: &str) -> Vec<(String, Vec<String>)> {
    let text = without_groupings(&without_strings(query));
    let is_name = |character: char| character.is_ascii_alphanumeric() || character == '_' || character == ':';
    let mut found = Vec::new();
    let mut rest = text.as_str();
    while let Some(start) = rest.find(is_name) {
        rest = &rest[start..];
        let end = rest.find(|character| !is_name(character)).unwrap_or(rest.len());
        let (word, behind) = rest.split_at(end);
        let begins = |character: char| character.is_ascii_alphabetic() || character == '_';
        let is_metric = word.starts_with(begins) && !behind.trim_start().starts_with('(') && !WORDS.contains(&word);
        let mut behind = behind;
        let mut labels = Vec::new();
        if let Some((inside, after)) = behind.strip_prefix('{').and_then(|rest| rest.split_once('}')) {
            let parts = inside.split(',').filter_map(|part| part.split(['=', '!']).next());
            labels.extend(
                parts
                    .map(|label| label.trim().to_owned())
                    .filter(|label| !label.is_empty()),
            );
            behind = after;
        }
        if is_metric {
            found.push((word.to_owned(), labels));
        }
        // A range: `[5m]`.
        rest = behind
            .strip_prefix('[')
            .and_then(|rest| rest.split_once(']'))
            .map_or(behind, |(_, after)| after);
    }
    found
}

fn without_strings(query: &str) -> String {
    query.split('"').step_by(2).collect()
}

/// Without the lists of labels behind `by`, `on` and the like.
fn without_groupings(query: &str) -> String {
    let mut text = query.to_owned();
    for word in ["by", "without", "on", "ignoring", "group_left", "group_right"] {
        for opening in [format!(" {word} ("), format!(" {word}(")] {
            while let Some(start) = text.find(&opening) {
                let Some(length) = text[start..].find(')') else { break };
                text.replace_range(start..=start + length, " ");
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_labels_are_found() {
        let query = r#"histogram_quantile(0.95, sum by (service, le) (rate(http_request_duration_seconds_bucket{route!~"/health|/ready", namespace="shop"}[5m]))) > 1 or vector(0)"#;
        let labels = ["route", "namespace"].map(str::to_owned).to_vec();
        assert_eq!(
            selectors(query),
            [("http_request_duration_seconds_bucket".to_owned(), labels)]
        );
        assert!(unknown(query, &[]).is_empty());
    }

    #[test]
    fn what_is_not_there_is_found_out() {
        assert_eq!(
            unknown("sum(http_request_total)", &[]),
            ["nothing exposes http_request_total"]
        );
        assert_eq!(
            unknown(r#"consumer_lag{topic="a"}"#, &[]),
            ["consumer_lag has no label topic"]
        );
        assert_eq!(
            unknown("http_request_duration_seconds", &[]).len(),
            1,
            "a histogram is not a series"
        );
        assert!(unknown("service:errors:ratio > 1", &["service:errors:ratio"]).is_empty());
    }
}
