//! Campaigns: a day under faults that a seed chooses, judged by what the servers have counted.
//!
//! The tests run a slice. `VALERIX_ROUNDS` says how many rounds are tried, `VALERIX_SEED` which.

mod crash;
mod swap;
mod trial;
