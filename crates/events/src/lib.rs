//! Events between nodes: hints that something changed, carried by PostgreSQL or NATS.
