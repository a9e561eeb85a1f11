//! PostgreSQL as the store of many nodes: the engine, and packs of messages where there is no object store.

mod connect;

pub use connect::{ConnectError, Link, PostgresOptions, PostgresTls, connect};
