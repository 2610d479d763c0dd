//! What every service of the shop stands on. Of business it knows the few words that services share (money, items);
//! breakers, deadlines, retries and faults are left to `valerix-resilience`.
//!
//! A service is put together like this; `services/inventory/src/startup.rs` is a whole one:
//!
//! ```no_run
//! use clap::Parser;
//! use valerix_kit::args::{DatabaseArgs, ServiceArgs};
//! use valerix_kit::api::{Api, Operation};
//! use valerix_kit::identity::Access;
//! use valerix_kit::service::{Server, Service, StartError, launch};
//!
//! #[derive(Parser, Clone)]
//! #[command(mut_arg("listen_address", |arg| arg.default_value("0.0.0.0:3001")))]
//! #[command(mut_arg("service", |arg| arg.default_value("example")))]
//! struct Config {
//!     #[command(flatten)]
//!     service: ServiceArgs,
//!     #[command(flatten)]
//!     database: DatabaseArgs,
//! }
//!
//! async fn build(config: Config) -> Result<Server, StartError> {
//!     let service = Service::new(&config.service).await?;
//!     let database = service.database(&config.database, || sqlx::migrate::Migrator::DEFAULT)?;
//!     let hello = Operation::new("Says hello", Access::Public).answer::<String>(200, "The word");
//!     service.bind(Api::<()>::new("example", "Says hello").get("/hello", || async { "hello" }, hello)).await
//! }
//!
//! fn main() -> Result<(), StartError> {
//!     let config = Config::parse();
//!     launch(&config.service.clone(), || build(config))
//! }
//! ```

mod activity;
pub mod api;
pub mod args;
mod body_room;
mod connection;
pub mod events;
pub mod extract;
mod frames;
pub mod health;
mod http_layers;
pub mod idempotent;
pub mod identity;
mod impatient;
pub mod item;
mod leftover_body;
pub mod lock;
pub mod metrics;
pub mod money;
pub mod openapi;
pub mod page;
pub mod postgres;
pub mod problem;
mod route_name;
pub mod server;
pub mod service;
pub mod tasks;
pub mod telemetry;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

pub use http_layers::{Front, observed};
pub use leftover_body::MAX_BODY;
pub use route_name::RouteName;
