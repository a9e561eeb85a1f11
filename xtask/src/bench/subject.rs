//! A server under measurement.

use std::net::TcpStream;
use std::process::{Child, Command, Output};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::error::TaskError;

/// How long a server may take until it answers on its ports.
const START_WAIT: Duration = Duration::from_secs(20);
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Where a server is reached, and how it is stopped.
pub(super) struct Subject {
    pub(super) name: String,
    pub(super) smtp: String,
    pub(super) imap: String,
    pub(super) pop3: String,
    /// The one process whose costs tell the server's.
    pub(super) pid: Option<u32>,
    /// Host and port of /metrics.
    pub(super) metrics: Option<String>,
    /// Held only to stop the server at the end.
    pub(super) stop: Option<Stop>,
    /// What goes with the server, after it.
    pub(super) folder: Option<tempfile::TempDir>,
}

impl Subject {
    /// Keeps the server's folder as long as the server.
    pub(super) fn keep(&mut self, folder: tempfile::TempDir) {
        self.folder = Some(folder);
    }
}

/// Stops a server when dropped.
pub(super) enum Stop {
    /// A process of ours.
    Process(Child),
    /// A command that stops it.
    Command(Command),
}

impl Drop for Stop {
    fn drop(&mut self) {
        let stopped = match self {
            Self::Process(child) => child.kill().and_then(|()| child.wait()).map(drop),
            Self::Command(command) => command.output().map(drop),
        };
        if let Err(error) = stopped {
            eprintln!("xtask: the server could not be stopped: {error}");
        }
    }
}

/// Waits until something accepts connections there.
pub(super) fn wait_for(address: &str) -> Result<(), TaskError> {
    let began = Instant::now();
    while TcpStream::connect(address).is_err() {
        if began.elapsed() > START_WAIT {
            let what = format!("nothing answers on {address} after {START_WAIT:?}");
            return Err(TaskError::Found(what));
        }
        sleep(LOOK_AGAIN);
    }
    Ok(())
}

/// Runs a program to its end, which must be a good one.
pub(super) fn succeed(command: &mut Command, name: &str) -> Result<Output, TaskError> {
    let output = command.output().map_err(|source| TaskError::Start {
        program: name.to_owned(),
        source,
    })?;
    if output.status.success() {
        return Ok(output);
    }
    let told = String::from_utf8_lossy(&output.stderr);
    Err(TaskError::Program {
        program: name.to_owned(),
        detail: format!(": {}", told.trim()),
    })
}
