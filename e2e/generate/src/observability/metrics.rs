//! The table of metrics and the page that is made of it. A test looks for each of them in the sources, and for each of
//! the sources' in the table.

mod shop;
mod valerix;

use super::rules;
use crate::Files;
use std::fmt::Write as _;
use std::path::PathBuf;

/// What a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Has `_bucket`, `_sum` and `_count`.
    Histogram,
}

/// A metric.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// Its name.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// Its own labels.
    pub labels: &'static [&'static str],
    /// What it says, for people.
    pub means: &'static str,
}

/// Who exposes metrics.
pub struct Source {
    title: &'static str,
    says: &'static str,
    /// What it exposes.
    pub metrics: &'static [Metric],
}

const fn counter(name: &'static str, labels: &'static [&'static str], means: &'static str) -> Metric {
    Metric {
        name,
        kind: Kind::Counter,
        labels,
        means,
    }
}

const fn gauge(name: &'static str, labels: &'static [&'static str], means: &'static str) -> Metric {
    Metric {
        name,
        kind: Kind::Gauge,
        labels,
        means,
    }
}

const fn histogram(name: &'static str, labels: &'static [&'static str], means: &'static str) -> Metric {
    Metric {
        name,
        kind: Kind::Histogram,
        labels,
        means,
    }
}

/// Everything that is exposed.
pub const SOURCES: &[Source] = &[
    Source {
        title: "Operator (`:8080/metrics`)",
        says: "",
        metrics: valerix::OPERATOR,
    },
    Source {
        title: "Every service that links the library (`:9090/metrics`)",
        says: "",
        metrics: valerix::LIBRARY,
    },
    Source {
        title: "The guard (`:9090/metrics`)",
        says: "It counts what the library counts too, as it links it, and what it relays without looking into it.",
        metrics: valerix::GUARD,
    },
    Source {
        title: "Every service of the shop (`:9090/metrics`)",
        says: "",
        metrics: shop::EVERY_SERVICE,
    },
    Source {
        title: "Single services of the shop",
        says: "Money is in the currency's minor unit.",
        metrics: shop::SINGLE_SERVICES,
    },
    Source {
        title: "Every process",
        says: "From Prometheus' own client library.",
        metrics: PROCESS,
    },
];

/// What the client library exposes by itself.
const PROCESS: &[Metric] = &[
    counter("process_cpu_seconds_total", &[], "processor time"),
    gauge("process_open_fds", &[], "open files and connections"),
    gauge("process_max_fds", &[], "how many there may be"),
    gauge("process_virtual_memory_bytes", &[], "memory that is mapped"),
    gauge("process_resident_memory_bytes", &[], "memory in use"),
    gauge("process_start_time_seconds", &[], "when it began"),
    gauge("process_threads", &[], "its threads"),
];

/// The metric that exposes the time series `name`.
#[cfg(test)]
pub fn of_series(name: &str) -> Option<&'static Metric> {
    let mut metrics = SOURCES.iter().flat_map(|source| source.metrics);
    metrics.find(|metric| match metric.kind {
        Kind::Histogram => name
            .strip_prefix(metric.name)
            .is_some_and(|rest| matches!(rest, "_bucket" | "_sum" | "_count")),
        _ => metric.name == name,
    })
}

/// The page.
pub fn files() -> Files {
    let mut page = String::from(
        "<!-- Generated from e2e/generate/src/observability; change that and run `make generate`. -->\n# Metrics\n\n\
         Labels come from closed sets or from the spec (targets, rules, names of objects); never a host, a key or a user. \
         Whoever scrapes adds `namespace`, `pod` and `service`; a metric that has a `namespace` of its own keeps it \
         (`honor_labels`). How to look at them: [observability](guide/observability.md).\n",
    );
    for source in SOURCES {
        let _ = write!(page, "\n## {}\n", source.title);
        if !source.says.is_empty() {
            let _ = writeln!(page, "{}", source.says);
        }
        page.push_str("\n| Metric | Kind | Means |\n| --- | --- | --- |\n");
        for Metric {
            name,
            kind,
            labels,
            means,
        } in source.metrics
        {
            let labels = if labels.is_empty() {
                String::new()
            } else {
                format!("{{{}}}", labels.join(","))
            };
            let _ = writeln!(
                page,
                "| `{name}{labels}` | {} | {means} |",
                format!("{kind:?}").to_lowercase()
            );
        }
    }
    page.push_str(&rules::section());
    [(PathBuf::from("docs/metrics.md"), page)].into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;

    /// What stands before the name of a metric in the sources.
    const BEFORE: [&str; 9] = [
        "Opts::new(",
        "Gauge::new(",
        "Counter::new(",
        "counter(",
        "histogram(",
        "gauge(",
        "Gauge {",
        "gauge::new(",
        ROW,
    ];
    /// The same in a table of names and what they say, which may be of anything.
    const ROW: &str = "    (";

    fn sources(folder: &Path, texts: &mut Vec<String>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                sources(&path, texts);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                // What tests define is exposed by nobody.
                texts.push(
                    text.split("#[cfg(test)]\nmod tests {")
                        .next()
                        .unwrap_or_default()
                        .to_owned(),
                );
            }
        }
    }

    fn defined() -> BTreeSet<String> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let mut texts = Vec::new();
        sources(&root.join("operator/src"), &mut texts);
        for service in fs::read_dir(root.join("services")).unwrap() {
            let folder = service.unwrap().path().join("src");
            if folder.is_dir() {
                sources(&folder, &mut texts);
            }
        }
        let mut names = BTreeSet::new();
        for text in &texts {
            for before in BEFORE {
                for (place, _) in text.match_indices(before) {
                    let rest = text[place + before.len()..].trim_start();
                    let rest = rest.strip_prefix("name:").unwrap_or(rest).trim_start();
                    let Some(name) = rest.strip_prefix('"').and_then(|rest| rest.split('"').next()) else {
                        continue;
                    };
                    let is_metric = before != ROW || name.starts_with("resilience_") || name.starts_with("valerix_");
                    if is_metric
                        && name.contains('_')
                        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
                    {
                        names.insert(name.to_owned());
                    }
                }
            }
        }
        names
    }

    #[test]
    fn the_table_has_what_the_sources_define_and_nothing_else() {
        let known: BTreeSet<String> = SOURCES
            .iter()
            .flat_map(|source| source.metrics)
            .filter(|metric| !metric.name.starts_with("process_"))
            .map(|metric| metric.name.to_owned())
            .collect();
        let defined = defined();
        let missing: Vec<_> = defined.difference(&known).collect();
        assert!(
            missing.is_empty(),
            "give these a row in e2e/generate/src/observability/metrics/: {missing:?}"
        );
        let gone: Vec<_> = known.difference(&defined).collect();
        assert!(gone.is_empty(), "no source defines these: {gone:?}");
    }

    #[test]
    fn no_label_can_have_as_many_values_as_there_are_users() {
        for metric in SOURCES.iter().flat_map(|source| source.metrics) {
            for label in metric.labels {
                let endless = [
                    "user",
                    "email",
                    "key",
                    "id",
                    "path",
                    "url",
                    "uri",
                    "address",
                    "host",
                    "ip",
                    "trace_id",
                    "error_text",
                ];
                assert!(!endless.contains(label), "{} has the label {label}", metric.name);
            }
        }
    }

    #[test]
    fn names_follow_the_conventions() {
        let mut seen = BTreeSet::new();
        for metric in SOURCES.iter().flat_map(|source| source.metrics) {
            assert!(seen.insert(metric.name), "{} stands there twice", metric.name);
            assert_eq!(
                metric.name.ends_with("_total"),
                metric.kind == Kind::Counter,
                "{}",
                metric.name
            );
        }
    }
}
