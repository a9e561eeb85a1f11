//! PostgreSQL: a server, its synchronous replica, restarts and failover.
