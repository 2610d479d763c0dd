//! One file per fault: how the spec's fault becomes what is done.

pub mod errors;
pub mod latency;
pub mod pod_kill;
