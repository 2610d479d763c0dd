//! The saga of one order: `state` is the table, `commands` is what the table asks for, `reply` is what those who are asked
//! answer. Pure: whatever reads or writes stands above it.

pub mod commands;
pub mod reply;
pub mod state;

#[cfg(test)]
mod model;
