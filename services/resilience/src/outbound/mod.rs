//! Calls to other services: deadline, retry, bulkhead, breaker, address, attempt timeout, in this order from the outside
//! in.
//!
//! `call` repeats and `attempt` makes one attempt (`failover` takes it to another address, `verdict` says what became of
//! it); none knows an HTTP client. `balance` chooses among the addresses
//! that `resolve` finds (`dns` asks for them), `hosts` keeps what is known of each, `hedge` races slow reads. The client
//! over reqwest is `crate::client`, the one over any tower service is `layer`.

mod attempt;
mod balance;
mod call;
mod classify;
mod counters;
mod dns;
mod error;
mod failover;
mod hedge;
mod hosts;
mod layer;
mod report;
mod resolve;
mod target;
mod verdict;

pub use self::classify::{Classify, DefaultClassify, Head};
pub use self::error::CallError;
pub use self::layer::{ChosenAddress, TargetBody, TargetLayer, TargetService};
pub use self::resolve::{ClusterResolver, Endpoint, Resolve, Resolving, SystemResolver};
pub use self::target::Target;

pub(crate) use self::balance::Balancer;
pub(crate) use self::call::{Answer, Attempt, AttemptError, Call, Completed, Held, execute};
