//! The guard stands beside one application, whatever that is written in, and gives it what the library gives a Rust service:
//! limits, deadlines and faults for what comes in, breakers, retries and bulkheads for what goes out, and the report.
//!
//! [`config`] is what it is told, [`admission`] what it lets pass, [`inbound`] passes on to the application, [`targets`] passes on to others by a listener for
//! each, [`forward_proxy`] by one for all, [`idempotency`] keeps what was answered to a key, [`tcp`] relays what is no HTTP, [`memory`] bounds what clients can have it hold, [`startup`] puts it together and ends it. Bodies,
//! connections and retries are `valerix-proxy`'s.

pub mod admission;
pub mod config;
pub mod forward_proxy;
pub mod idempotency;
pub mod inbound;
pub mod memory;
pub mod startup;
pub mod targets;
pub mod tcp;
