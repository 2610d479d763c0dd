//! The bounds of every field. In: a document. Out: what is wrong with it, all of it at once. Pure.

mod faults;
mod inbound;
mod target;

use std::collections::HashSet;
use std::fmt::Display;

use crate::duration::Duration;
use crate::error::{PolicyError, Violation, cut};
use crate::parse::{Parsed, parse};
use crate::policy::{POLICY_VERSION, Policy};
use crate::route::Route;

const MAX_TARGETS: usize = 256;
const MAX_ROUTES: usize = 64;
const MAX_VALUE: u32 = 1_000_000;
const DAY: Duration = Duration::from_secs(24 * 3_600);

#[derive(Default)]
struct Findings(Vec<Violation>);

impl Findings {
    fn require(&mut self, good: bool, path: impl Display, value: impl Display, remedy: impl Into<String>) {
        if !good {
            self.0.push(Violation {
                path: path.to_string(),
                value: cut(&value.to_string()),
                remedy: remedy.into(),
            });
        }
    }

    fn number(&mut self, path: impl Display, value: u32, least: u32, most: u32) {
        // The remedy is put in words only where it is needed: a document has thousands of good numbers.
        if !(least..=most).contains(&value) {
            self.require(false, path, value, format!("use a number from {least} to {most}"));
        }
    }

    fn duration(&mut self, path: impl Display, value: Duration, least: Duration, most: Duration) {
        if !(least..=most).contains(&value) {
            self.require(false, path, value, format!("use a duration from {least} to {most}"));
        }
    }

    fn routes(&mut self, path: &str, routes: &[String]) {
        self.require(
            routes.len() <= MAX_ROUTES,
            path,
            routes.len(),
            format!("list at most {MAX_ROUTES} routes"),
        );
        for (index, route) in routes.iter().enumerate() {
            self.route(format!("{path}[{index}]"), route);
        }
    }

    fn route(&mut self, path: impl Display, route: &str) {
        if let Err(error) = route.parse::<Route>() {
            self.require(false, path, format!("{route:?}"), error.to_string());
        }
    }

    fn name(&mut self, path: impl Display, name: &str) {
        let good = !name.is_empty()
            && name.len() <= 63
            && name
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
            && !name.starts_with('-')
            && !name.ends_with('-');
        self.require(
            good,
            path,
            format!("{name:?}"),
            "use 1 to 63 lower-case letters, digits and inner dashes",
        );
    }
}

impl Policy {
    /// Reads `policy.v1.json`: checks version, shape and bounds, collects unknown fields, hashes the bytes.
    ///
    /// # Errors
    /// When the bytes are no JSON, of another version or shape, or a value is out of bounds; the error names place,
    /// value and remedy.
    pub fn parse(bytes: &[u8]) -> Result<Parsed<Self>, PolicyError> {
        parse(bytes, POLICY_VERSION, Self::violations)
    }

    /// Every value that is out of bounds; empty when the document is good. The operator asks before it writes.
    #[must_use]
    pub fn violations(&self) -> Vec<Violation> {
        policy(self)
    }
}

fn policy(policy: &Policy) -> Vec<Violation> {
    let mut findings = Findings::default();
    inbound::inbound(&mut findings, &policy.inbound);
    let count = policy.targets.len();
    findings.require(
        count <= MAX_TARGETS,
        "targets",
        count,
        format!("list at most {MAX_TARGETS} targets"),
    );
    let mut names = HashSet::new();
    for (index, item) in policy.targets.iter().enumerate() {
        let path = format!("targets[{index}]");
        findings.name(format!("{path}.name"), &item.name);
        let fresh = names.insert(item.name.as_str());
        findings.require(
            fresh,
            format!("{path}.name"),
            format!("{:?}", item.name),
            "name each target once",
        );
        target::target(&mut findings, &path, item);
    }
    findings.0
}
