//! The saga of one order: `state` is the table (pure), `commands` is what the table asks for (pure), `drive` walks an
//! order through its fast path over HTTP (calls inventory and payment, writes through `store`).

pub mod commands;
pub mod drive;
pub mod moves;
pub mod reply;
pub mod state;
pub mod waiters;

#[cfg(test)]
mod model;
