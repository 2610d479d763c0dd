//! How a user is reached.

use serde::Deserialize;

/// How a user is reached.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Contact {
    /// Address.
    pub email: Option<String>,
    /// Phone number.
    pub phone: Option<String>,
    /// Grows with every change of the user.
    pub version: i64,
}
