//! HTTP in, HTTP out; no SQL.

pub mod orders;
