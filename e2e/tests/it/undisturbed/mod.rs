//! Tests that stop, kill or count the operator, or count what load would change: nothing else runs meanwhile.
//!
//! Tests begin in the order of their names and wait for each other in the order in which they came. So the name of this
//! module, the last one, is what keeps it from holding up those that can run beside each other.

mod absent;
mod garbage;
pub(crate) mod guarded_postgres;
mod kills;
pub mod monitors;
mod probes;
mod processor;
mod proven;
mod removal;
mod rest;
mod shared_limit;
mod slow_inventory;
mod watched;
