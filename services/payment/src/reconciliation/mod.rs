//! Compares the payments with the processor's ledger, charge by charge. `walk` goes through both (reads alone), `worker`
//! does so when it is asked for or due and keeps what was found.

pub mod walk;
pub mod worker;
