//! One payment's life: `state` is the table. Pure.

pub mod state;
