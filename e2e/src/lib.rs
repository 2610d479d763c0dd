//! The harness of the end-to-end tests: a real cluster, the charts installed with real images, nothing mocked.
//!
//! In: a kubeconfig and the images (environment variables, see [`environment`]). Out: helpers that await conditions,
//! place orders, count what became of them, and put the operator under a proxy that can kill it at a chosen request.

pub mod audit;
pub mod environment;
pub mod experiments;
pub mod kubectl;
pub mod load;
pub mod operator;
pub mod proxy;
pub mod shop;
pub mod visitor;
pub mod world;

pub use world::World;
