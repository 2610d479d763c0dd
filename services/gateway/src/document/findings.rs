//! What is found wrong with a document of routes, and what more than one part of it is held against. Pure.

use std::collections::HashSet;
use std::fmt::Display;

use http::Method;
use valerix_policy::Violation;

pub(super) struct Findings(pub(super) Vec<Violation>);

impl Findings {
    /// Paths and remedies are written out for what is wrong alone: of thousands of routes hardly one ever is.
    pub(super) fn require(&mut self, good: bool, path: impl Display, value: impl Display, remedy: impl Display) {
        if !good {
            self.0.push(Violation::new(path.to_string(), value, remedy.to_string()));
        }
    }

    pub(super) fn at_most(&mut self, path: impl Display, found: usize, most: usize) {
        self.require(found <= most, path, found, format_args!("list at most {most}"));
    }

    pub(super) fn name(&mut self, path: impl Display, name: &str) {
        let known = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let good = (1..=63).contains(&name.len()) && name.bytes().all(known);
        // As in the policy document, which names the same targets.
        let good = good && !name.starts_with('-') && !name.ends_with('-');
        self.require(good, path, name, "use 1 to 63 of a-z, 0-9 and inner -");
    }

    pub(super) fn target(&mut self, path: impl Display, name: &str, targets: &HashSet<&str>) {
        self.require(targets.contains(name), path, name, "name one of targets");
    }
}

pub(super) fn is_method(text: &str) -> bool {
    let good =
        Method::from_bytes(text.as_bytes()).is_ok_and(|method| method != Method::CONNECT && method != Method::TRACE);
    good && text.bytes().all(|byte| byte.is_ascii_uppercase())
}
