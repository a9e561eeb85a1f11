//! Why a node could not take its place, or an operator's wish was not carried out.

use nightmail_engine::EngineError;
use thiserror::Error;

use crate::name::NodeName;

/// What the membership of a cluster can fail with.
#[derive(Debug, Error, Clone)]
pub enum ClusterError {
    /// The store does not answer, or failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// Other nodes kept changing the same rows.
    #[error("other nodes kept changing the rows of {0}; try again")]
    Contended(NodeName),
    /// There is no node of this name.
    #[error("there is no node {0}")]
    NoSuchNode(NodeName),
    /// The node is a live member.
    #[error("node {0} is live; stop it, or wait until it is fenced")]
    Live(NodeName),
    /// The system gave no random bytes for a session.
    #[error("no random number for the session: {0}")]
    Random(String),
}
