//! The guard.

fn main() {}
