//! End-to-end tests: what a user sees, on a real cluster, with real images.
//!
//! They share one installation. `World::shared` tests run beside each other, each in a namespace of its own;
//! `World::alone` tests stop, kill or count the operator and run by themselves: those in `undisturbed`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod adoption;
mod api;
mod backup;
mod boundaries;
mod chaos;
mod chaos_budget;
mod chaos_effects;
mod chaos_verify;
mod chart;
mod console;
mod documents;
mod guard;
mod lost;
mod observability;
mod placement;
mod refusals;
mod restore;
mod scale;
mod scrapers;
mod service;
mod shop;
mod specs;
mod undisturbed;
