//! Why a task failed.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

/// Why a task failed.
#[derive(Debug, Error)]
pub(crate) enum TaskError {
    /// A file or folder could not be read or written.
    #[error("{path}: {source}", path = path.display())]
    File { path: PathBuf, source: io::Error },
    /// A manifest is not TOML.
    #[error("{path}: {source}", path = path.display())]
    Manifest {
        path: PathBuf,
        source: Box<toml::de::Error>,
    },
    /// A program printed what is not JSON.
    #[error("{program} printed no JSON: {source}")]
    Json {
        program: String,
        source: serde_json::Error,
    },
    /// A program could not be started.
    #[error("cannot run {program}: {source}")]
    Start { program: String, source: io::Error },
    /// A program failed.
    #[error("{program} failed{detail}")]
    Program { program: String, detail: String },
    /// A check found something.
    #[error("{0}")]
    Found(String),
}
