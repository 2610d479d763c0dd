//! Slows guessing down: after some failures an account or an address is closed for a while, each time for twice as long.
//! Pure.

use std::time::Duration;

use sha2::{Digest, Sha256};

/// Failures of which nothing is forgotten for this long after the last one.
pub const MEMORY: Duration = Duration::from_secs(60 * 60);
/// The longest time for which somebody is locked out: whoever guesses at an account must not be able to close it for long.
pub const LONGEST: Duration = Duration::from_secs(15 * 60);

/// What is counted, and how many failures it may have before it is closed for the first time, for a second.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// Under what it is counted.
    pub key: String,
    /// Failures that cost nothing.
    pub free: i32,
}

impl Subject {
    /// The account that is guessed at, whether or not it exists. Its e-mail is not written down.
    #[must_use]
    pub fn account(email: &str) -> Self {
        let hash = Sha256::digest(email);
        let key = hash
            .iter()
            .fold("account:".to_owned(), |key, byte| format!("{key}{byte:02x}"));
        Self { key, free: 5 }
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
