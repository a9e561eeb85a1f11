//! What can go wrong in a run.

use std::io;

use thiserror::Error;

/// Why a run, a connection or an operation failed.
#[derive(Debug, Error)]
pub enum BenchError {
    /// The arguments do not fit together.
    #[error("{0}")]
    Usage(String),
    /// No connection was made.
    #[error("cannot connect to {target}: {source}")]
    Connect {
        /// The host and port as given.
        target: String,
        /// What the system said.
        source: io::Error,
    },
    /// The sink has no port to listen on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address as given.
        address: String,
        /// What the system said.
        source: io::Error,
    },
    /// Reading or writing failed.
    #[error("connection failed: {0}")]
    Io(#[from] io::Error),
    /// The server closed the connection where an answer was due.
    #[error("the server closed the connection")]
    Closed,
    /// A line longer than the reader keeps.
    #[error("no line end within {limit} bytes")]
    LineTooLong {
        /// The reader's bound, in bytes.
        limit: usize,
    },
    /// An answer that the protocol does not allow there.
    #[error("unexpected answer: {0}")]
    Unexpected(String),
    /// The server said no.
    #[error("{command} was answered: {reply}")]
    Refused {
        /// The command, without its arguments.
        command: &'static str,
        /// The server's line.
        reply: String,
    },
    /// TLS could not be set up.
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
    /// The server's process could not be read.
    #[error("cannot read {path}: {source}")]
    Process {
        /// The file under `/proc`.
        path: String,
        /// What the system said.
        source: io::Error,
    },
}

impl BenchError {
    /// An [`BenchError::Unexpected`] that quotes the line, shortened.
    pub(crate) fn unexpected(line: &[u8]) -> Self {
        Self::Unexpected(quote(line))
    }

    /// A [`BenchError::Refused`] that quotes the line, shortened.
    pub(crate) fn refused(command: &'static str, line: &[u8]) -> Self {
        let reply = quote(line);
        Self::Refused { command, reply }
    }
}

/// At most 120 bytes of a line, as text.
fn quote(line: &[u8]) -> String {
    let shown = line.get(..120).unwrap_or(line);
    String::from_utf8_lossy(shown).into_owned()
}
