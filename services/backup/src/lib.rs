//! The backup runner: one slot of one BackupPolicy, from the databases to one stored archive; and the way back, [`restore`].
//!
//! What goes in: the environment that the Job's pod carries ([`settings`]), the mounted connection Secrets, the
//! slot's Backup record. What comes out: one archive at the destination or none, the record's status, an exit code.
//!
//! Read [`run`] from top to bottom, then `prepare`: every step stands there. Pure: [`settings`], [`manifest`], [`plausibility`],
//! [`decision`], [`retention`], [`roles`]. The database is touched in [`server`], [`dump`] and [`globals`], by [`libpq`]'s programs, the target of a restore by [`sql`], scratch in [`member`] and
//! [`archive`], the destination in [`volume`] and [`s3`], the API server in [`record`].

pub mod archive;
pub mod client;
pub mod connection;
pub mod decision;
pub mod deletion;
pub mod dump;
pub mod failure;
pub mod globals;
pub mod libpq;
pub mod manifest;
pub mod member;
pub mod plausibility;
pub mod record;
pub mod restore;
pub mod retention;
pub mod roles;
pub mod run;
pub mod s3;
pub mod server;
pub mod settings;
pub mod sql;
pub mod verify;
pub mod volume;

mod completion;
mod destination;
mod discovery;
mod hashing;
mod leftovers;
mod prepare;
mod removal;
mod rows;
mod scratch;
mod sealing;
