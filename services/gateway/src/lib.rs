//! The one entry of the shop: every request comes in here, is checked, and is passed on to the service that answers it.
//!
//! [`document`] is the file of routes and [`table`] what a request is matched with, [`reload`] keeps the second true to the
//! first, [`edge`] is what every request passes, [`cors`] what browsers are told, [`routes`] are the answers, [`policy`] is what protects the services behind
//! where no document says it. Bodies, connections and retries are `valerix-proxy`'s.

pub mod config;
pub mod cors;
pub mod document;
pub mod edge;
pub mod policy;
pub mod reload;
pub mod routes;
pub mod startup;
pub mod table;
pub mod tls;

#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzz;
