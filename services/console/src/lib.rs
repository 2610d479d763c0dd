//! The web console: what the cluster says of services, experiments and backups, live, and commands under the rights of
//! whoever gives them.
//!
//! [`follow`] keeps [`board`] true to the API server, [`pulse`] hears whether that answers and whether the [`operator`]
//! leads, [`asking`] asks the pods how they are, [`vitals`] is what they say, [`view`] is what is shown of an object,
//! [`people`] knows who has signed in and what he may see, [`viewer`] who sends a request, [`places`] how many may look,
//! [`stream`] tells it to one browser, [`routes`] are the answers, [`state`] is what these work with, and [`page`] is the
//! page itself. The console decides nothing: a command is a write of an object with the person's own token.

pub mod asking;
pub mod board;
pub mod config;
pub mod follow;
pub mod headers;
pub mod kinds;
pub mod operator;
pub mod page;
pub mod people;
pub mod places;
pub mod pulse;
pub mod readiness;
pub mod refusal;
pub mod routes;
pub mod startup;
pub mod state;
pub mod stream;
pub mod view;
pub mod viewer;
pub mod vitals;
