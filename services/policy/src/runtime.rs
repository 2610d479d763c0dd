//! `runtime.json`: what changes without anyone editing the specification. Pure.

use serde::{Deserialize, Serialize};

use crate::error::PolicyError;
use crate::parse::{Parsed, parse};

const VERSION: u32 = 1;

/// Facts about the running service that its replicas share.
///
/// ```
/// use valerix_policy::Runtime;
///
/// assert_eq!(Runtime::parse(Runtime::new(3).render().as_bytes())?.document.ready_replicas, 3);
/// # Ok::<(), valerix_policy::PolicyError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Runtime {
    /// Always 1.
    pub version: u32,
    /// Pods that are ready, by which limits of scope `Service` are divided; 0 counts as 1.
    #[serde(default)]
    pub ready_replicas: u32,
}

impl Default for Runtime {
    fn default() -> Self {
        Self {
            version: VERSION,
            ready_replicas: 1,
        }
    }
}

impl Runtime {
    /// A document for `ready_replicas` pods.
    #[must_use]
    pub const fn new(ready_replicas: u32) -> Self {
        Self {
            version: VERSION,
            ready_replicas,
        }
    }

    /// Reads `runtime.json`.
    ///
    /// # Errors
    /// When the bytes are no JSON, of another version or of another shape.
    pub fn parse(bytes: &[u8]) -> Result<Parsed<Self>, PolicyError> {
        parse(bytes, VERSION, |_| Vec::new())
    }

    /// The bytes that the operator writes.
    #[must_use]
    pub fn render(&self) -> String {
        crate::policy::render(self)
    }
}
