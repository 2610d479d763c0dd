//! What is watched: the table of metrics, and the rules and boards that are made of them. Every name in a query is one of
//! the table, and the table is what the sources define.
//!
//! Out: `docs/metrics.md`, Prometheus' rules in both charts with tests for promtool, and Grafana's boards in both charts.

mod alerts;
mod boards;
mod group;
mod metrics;
#[cfg(test)]
mod promql;
mod rules;

use crate::Files;
use anyhow::Result;

/// Folders in which nothing lies but what is written here.
pub const FOLDERS: [(&str, &str); 5] = [
    ("charts/valerix/rules", "yaml"),
    ("charts/valerix-shop/rules", "yaml"),
    ("charts/valerix/boards", "json"),
    ("charts/valerix-shop/boards", "json"),
    ("e2e/rules", "yaml"),
];

/// Every file, by its path.
pub fn files() -> Result<Files> {
    let mut files = metrics::files();
    files.extend(rules::files()?);
    files.extend(boards::files()?);
    Ok(files)
}
