//! Servers that tests and measurements start for themselves, on loopback addresses and in directories of their own:
//! PostgreSQL with a replica, an S3 object store, NATS, a name server, a web server, a certificate authority, and a proxy
//! that cuts and delays connections. And where published messages and vectors are found.
//!
//! Each ends what it started when it is dropped. A program that is not installed is said to be missing, visibly.

pub mod corpus;
pub mod dns;
pub mod garage;
pub mod https;
pub mod nats;
pub mod pebble;
pub mod postgres;
pub mod programs;
pub mod proxy;
