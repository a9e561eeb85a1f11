//! PostgreSQL as the store of many nodes: the engine, and packs of messages where there is no object store.
//!
//! One table per space holds keys and values; bytes are ordered as bytes. A batch is a handful of statements over
//! arrays of keys, sent in one round trip. All of it is plain SQL.
//!
//! **Invariant:** what a commit answers is what the database holds, whatever became of connections and servers.

mod commit;
mod connect;
mod engine;
mod fault;
mod packs;
mod plan;
mod pool;
mod read;
mod schema;
mod session;
mod sql;
mod together;

pub use connect::{ConnectError, Link, PostgresOptions, PostgresTls, connect};
pub use engine::PostgresEngine;
pub use packs::PostgresPacks;
pub use schema::{InitReport, SCHEMA_VERSION, SchemaError, init};
