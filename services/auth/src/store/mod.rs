//! Every SQL statement of the service, one function each. Those that write take the connection of a transaction, or are
//! one statement.

pub mod attempts;
pub mod keys;
pub mod sessions;
pub mod users;
