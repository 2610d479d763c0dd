//! What is told of a run: its status, its verdict, events, the metric.

mod news;
pub mod reason;
pub mod status;
pub mod tell;
pub mod verdict;
