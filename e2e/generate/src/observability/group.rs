//! What a group of Prometheus' rules is made of: alerts, each with a case in which it fires and one in which it is
//! silent, and queries that are computed once for many.

/// How soon somebody has to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// Now.
    Critical,
    /// Today.
    Warning,
}

/// A rule for whoever is on call.
pub struct Alert {
    /// Its name.
    pub name: &'static str,
    /// Fires for each series that this gives.
    pub query: &'static str,
    /// How long that must have been so, such as `5m`.
    pub hold: &'static str,
    /// How soon somebody has to look.
    pub severity: Severity,
    /// One sentence; may name labels as `{{ $labels.namespace }}`.
    pub summary: &'static str,
    /// The page in `docs/runbooks`, without its ending.
    pub runbook: &'static str,
    /// In which it fires.
    pub fires: Case,
    /// In which it does not, although it is close.
    pub silent: Case,
}

/// Series over time, in promtool's notation, and when to look.
pub struct Case {
    /// Time between two samples.
    pub step: &'static str,
    /// Each series with its samples.
    pub series: &'static [(&'static str, &'static str)],
    /// When to look, counted from the first sample.
    pub at: &'static str,
}

/// A query that is computed once for many.
pub struct Recording {
    /// The name of the series, with colons.
    pub name: &'static str,
    /// What it is.
    pub query: &'static str,
}

/// Rules that are evaluated together.
pub struct Group {
    /// Its name.
    pub name: &'static str,
    /// Computed first.
    pub recordings: &'static [Recording],
    /// The alerts.
    pub alerts: &'static [Alert],
}
