//! Slows guessing down: after some failures somebody is closed out for a while, each time for twice as long. Pure.
//!
//! What closes soon is an account for the address that guesses at it, so that nobody can close it for its owner. Against
//! guessing from many addresses the account closes as a whole too, much later, and never for an address from which its
//! owner has logged in lately (as OWASP's "device cookies" have it, without the cookie).

use std::time::Duration;

use sha2::{Digest, Sha256};

/// Failures of which nothing is forgotten for this long after the last one.
pub const MEMORY: Duration = Duration::from_secs(60 * 60);
/// The longest time for which somebody is locked out: whoever guesses at an account must not be able to close it for long.
pub const LONGEST: Duration = Duration::from_secs(15 * 60);

/// For how long after a login its address stays familiar to the account.
pub const FAMILIAR: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// What is counted, and how many failures it may have before it is closed for the first time, for a second.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// Under what it is counted.
    pub key: String,
    /// Failures that cost nothing.
    pub free: i32,
}

impl Subject {
    /// The account that is guessed at, whether or not it exists, for whoever guesses: an address, or nobody's for a user who
    /// has logged in. Neither is written down.
    #[must_use]
    pub fn guess(email: &str, address: Option<&str>) -> Self {
        let text = format!("{email}\n{}", address.unwrap_or_default());
        Self {
            key: format!("guess:{}", hashed(&text)),
            free: 5,
        }
    }

    /// The account for everybody.
    #[must_use]
    pub fn account(email: &str) -> Self {
        Self {
            key: format!("account:{}", hashed(email)),
            free: 100,
        }
    }

    /// The address that guesses. Many people may share one.
    #[must_use]
    pub fn address(address: &str) -> Self {
        Self {
            key: format!("address:{address}"),
            free: 50,
        }
    }
}

fn hashed(text: &str) -> String {
    Sha256::digest(text)
        .iter()
        .fold(String::new(), |key, byte| format!("{key}{byte:02x}"))
}
