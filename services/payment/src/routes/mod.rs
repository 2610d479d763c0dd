//! HTTP in, HTTP out; no SQL.

pub mod payments;
