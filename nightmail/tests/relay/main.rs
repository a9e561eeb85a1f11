//! A relay between a source and hosts that do everything wrong that can be done wrong: no copy is lost, none is sent
//! twice that was answered for, and every sender hears what became of it.
//!
//! `NIGHTMAIL_RELAY_SEED` repeats the choices of a run, `NIGHTMAIL_RELAY_MESSAGES` makes it longer.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

#[path = "../common/mod.rs"]
mod common;

mod faults;
mod kills;
mod reckoning;
mod world;
