//! What is told of a run: its status, its verdict, events, the metric.

mod history;
mod news;
pub mod reason;
pub mod status;
pub mod tell;
mod text;
pub mod verdict;
