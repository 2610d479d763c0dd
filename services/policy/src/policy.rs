//! `policy.v1.json`: how one service protects itself and its calls. Pure.

use serde::{Deserialize, Serialize};

use crate::inbound::Inbound;
use crate::target::Target;

/// The version of the policy document that this crate reads and writes.
pub const POLICY_VERSION: u32 = 1;

/// Everything that a service is told about resilience.
///
/// ```
/// use valerix_policy::{Admission, Chaos, MAX_DOCUMENT_BYTES, Mode, POLICY_VERSION, Parsed, Policy, PolicyError, Violation};
///
/// let policy = Policy { mode: Mode::Shadow, chaos: Chaos { admission: Admission::Allowed }, ..Policy::default() };
/// let text = policy.render();
/// assert!(text.len() < MAX_DOCUMENT_BYTES && policy.version == POLICY_VERSION);
/// let Parsed { document, hash, ignored_fields } = Policy::parse(text.as_bytes())?;
/// assert_eq!((document, ignored_fields.len(), hash.len()), (policy, 0, 64));
///
/// let bad = br#"{"version": 1, "inbound": {"timeout": "0s"}}"#;
/// let Err(PolicyError::Invalid { violations }) = Policy::parse(bad) else { panic!() };
/// let Violation { path, value, remedy } = &violations[0];
/// assert_eq!((path.as_str(), value.as_str()), ("inbound.timeout", "0s"));
/// assert!(remedy.starts_with("use a duration from 1ms"));
/// # Ok::<(), PolicyError>(())
/// ```
///
/// A field that is left out has the default that its documentation names.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Policy {
    /// Always 1.
    pub version: u32,
    /// Whether limits refuse, only count, or are off. Default `Enforce`.
    #[serde(default)]
    pub mode: Mode,
    /// Whether this service obeys faults. Default: it does not.
    #[serde(default)]
    pub chaos: Chaos,
    /// What protects the service from its callers.
    #[serde(default)]
    pub inbound: Inbound,
    /// What protects the service from those it calls, by name; at most 256.
    #[serde(default)]
    pub targets: Vec<Target>,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            version: POLICY_VERSION,
            mode: Mode::default(),
            chaos: Chaos::default(),
            inbound: Inbound::default(),
            targets: Vec::new(),
        }
    }
}

/// How strictly the document is applied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Mode {
    /// Breakers, limits and bulkheads refuse.
    #[default]
    Enforce,
    /// They count what they would refuse and let it pass.
    Shadow,
    /// They are off; deadlines and timeouts still hold.
    Disabled,
}

/// Consent to faults.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Chaos {
    /// Default `Denied`.
    #[serde(default)]
    pub admission: Admission,
}

/// Whether a service obeys faults.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Admission {
    /// Every fault is refused and reported as such.
    #[default]
    Denied,
    /// Faults are obeyed until their end.
    Allowed,
}

impl Policy {
    /// The target called `name`.
    #[must_use]
    pub fn target(&self, name: &str) -> Option<&Target> {
        self.targets.iter().find(|target| target.name == name)
    }

    /// The bytes that the operator writes: the same value always gives the same bytes, hence the same hash.
    #[must_use]
    pub fn render(&self) -> String {
        render(self)
    }
}

/// JSON with two spaces and a newline at the end. These types have no map with other than string keys, so writing
/// cannot fail; an empty text would be refused by every reader.
pub(crate) fn render<T: Serialize>(document: &T) -> String {
    let mut text = serde_json::to_string_pretty(document).unwrap_or_default();
    text.push('\n');
    text
}
