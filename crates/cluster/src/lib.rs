//! The nodes of a cluster: who is there, who holds which lease, and the fence that keeps out those who are not
//! (DESIGN §7, §8).
//!
//! Owns the rows of the `Meta` space that begin with `cluster/`:
//!
//! | row | says | changes |
//! |---|---|---|
//! | `cluster/node/NAME` | session, epoch, state, roles, version | when the node joins, leaves or is fenced |
//! | `cluster/beat/NAME` | session, count | with every heartbeat |
//! | `cluster/drain/NAME` | the node is to be emptied | by an operator; a new process starts without it |
//! | `cluster/lease/NAME` | epoch, holder's name and session | with the holder |
//!
//! and those that begin with `lock/` ([`NodeLock`]).
//!
//! Every commit of a node checks its node row (the *fence*). Each node watches the heartbeats of the others by its own
//! monotonic clock; nobody compares wall clocks. A node whose heartbeat stands still for the length of a lease is
//! fenced: its row gets a new epoch, its commits fail from then on, and others take its leases. It joins again under a
//! new session as soon as it learns of it. A node that could not write a heartbeat for so long (paused, or without the
//! store) treats its leases as lost at once; if nobody has fenced it meanwhile it keeps its session and takes them anew,
//! under new epochs.
//!
//! **Invariant:** of all processes that were ever given a lease, only the one that the lease row names can commit what
//! checks that row ([`LeaseGuard`]); no clock takes part in this.
//! **Invariant:** time during which an observer could not read the store itself counts against nobody.

mod assign;
mod cluster;
mod error;
mod fence;
mod lease;
mod lock;
mod member;
mod name;
mod operator;
mod rows;
mod silence;
mod view;

pub use cluster::{Cluster, ClusterOptions};
pub use error::ClusterError;
pub use lease::{LeaseChanges, LeaseGuard, LeaseHold, LeaseName, Leases, QUEUE_SHARDS, Shard};
pub use lock::NodeLock;
pub use name::{NameError, NodeName, Role, Roles};
pub use operator::{NodeState, NodeStatus, forget, nodes, request_drain};
pub use rows::{Epoch, Session};
