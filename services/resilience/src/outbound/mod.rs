//! Calls to other services: deadline, retry, bulkhead, breaker, address, attempt timeout, in this order from the outside
//! in.
//!
//! `call` is a call as data; `execute` repeats it, `hedge` races slow reads, `attempt` makes one attempt, `failover` takes
//! it to another address; each knows those before it only. None knows what is called: a `Judge` says what a result means,
//! `HttpJudge` for answers of HTTP, and `pipeline` for the results of any operation. `balance` chooses among the addresses
//! that `resolve` finds (`dns` asks for them), `hosts` keeps what is known of each. The clients over HTTP are in
//! `crate::client`.

mod attempt;
mod balance;
mod call;
mod classify;
mod counters;
mod dns;
mod error;
mod execute;
mod failover;
mod grpc;
mod hedge;
mod hosts;
mod judge;
mod latencies;
mod pipeline;
mod report;
mod resolve;
mod sent;
mod target;

pub use self::classify::{Classify, DefaultClassify, Head, HttpHead};
pub use self::error::CallError;
pub use self::grpc::TrailersBeforeMessages;
pub use self::pipeline::{Occupied, OperationError, Pipeline};
pub use self::resolve::{ClusterResolver, Endpoint, Resolve, Resolving, SystemResolver};
pub use self::sent::Sent;
pub use self::target::Target;

pub(crate) use self::balance::Balancer;
#[cfg(feature = "reqwest")]
pub(crate) use self::call::Attempt;
pub(crate) use self::call::{AttemptError, Call, Completed, Held};
#[cfg(any(test, fuzzing))]
pub(crate) use self::dns::read_any as read_any_dns_reply;
pub(crate) use self::execute::execute;
pub(crate) use self::grpc::kin as grpc_kin;
pub(crate) use self::judge::{HttpJudge, RetryOn, mark_final};
#[cfg(feature = "reqwest")]
pub(crate) use self::resolve::is_cluster_host;
#[cfg(feature = "reqwest")]
pub(crate) use self::target::TargetPolicy;
