//! Calls to other services: deadline, retry, bulkhead, breaker, attempt timeout, in this order from the outside in.
//!
//! `call` holds the order and knows no HTTP client; the client over reqwest is `crate::client`.

mod call;
mod classify;
mod error;
mod target;

pub use self::classify::{Classify, DefaultClassify, Head};
pub use self::error::CallError;
pub use self::target::Target;

pub(crate) use self::call::{Answer, Attempt, AttemptError, Call, Completed, execute};
