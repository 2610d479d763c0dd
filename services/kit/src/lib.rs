//! What every service of the shop stands on. Of business it knows the few words that services share (money, items);
//! breakers, deadlines, retries and faults are left to `valerix-resilience`.
//!
//! A service is put together like this; `services/inventory/src/startup.rs` is a whole one:
//!
//! ```no_run
//! use axum::{Router, routing::get};
//! use clap::Parser;
//! use valerix_kit::args::{DatabaseArgs, ServiceArgs};
//! use valerix_kit::openapi::Document;
//! use valerix_kit::postgres::Database;
//! use valerix_kit::service::{Server, Service, launch};
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
//! async fn build(config: Config) -> anyhow::Result<Server> {
//!     let service = Service::new(&config.service).await?;
//!     let database = Database::open(&config.database, &config.service.service, &service.health)?;
//!     let routes = Router::new().route("/hello", get(|| async { "hello" }));
//!     Ok(service.bind(routes, Document::new("example", "Says hello")).await?)
//! }
//!
//! fn main() -> anyhow::Result<()> {
//!     let config = Config::parse();
//!     launch(&config.service.clone(), || build(config))
//! }
//! ```

pub mod args;
pub mod events;
pub mod extract;
pub mod health;
mod http_layers;
pub mod idempotent;
pub mod item;
mod leftover_body;
pub mod metrics;
pub mod money;
pub mod openapi;
pub mod postgres;
pub mod problem;
pub mod server;
pub mod service;
pub mod tasks;
pub mod telemetry;
pub mod testing;

pub use http_layers::MAX_BODY;
