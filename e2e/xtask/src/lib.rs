//! What the programs behind the Makefile are made of: steps that a person sees, programs that they run, and the rooms
//! that know one thing each (tools, clusters, images, checks).

pub mod book;
pub mod campaign;
pub mod check;
mod cluster_choice;
pub mod clusters;
pub mod command;
mod counting;
pub mod demo;
pub mod documents;
pub mod failure;
pub mod images;
pub mod interrupt;
mod leftovers;
mod links;
pub mod mutants;
pub mod page;
pub mod paths;
mod schemas;
pub mod services;
mod shop;
pub mod shop_local;
pub mod steps;
pub mod store;
pub mod tools;
pub mod workspace;
