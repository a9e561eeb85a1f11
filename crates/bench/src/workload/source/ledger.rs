//! What a source was told of each message.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;

use parking_lot::Mutex;

use crate::error::BenchError;

/// What became of a message that was offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Answered with 250: the server is responsible for it.
    Accepted,
    /// Sent to its end, or nearly so, without an answer: the server may have it or not.
    Unknown,
    /// Refused by the server.
    Refused,
    /// Never sent to its end: the server must not have it.
    Broken,
}

impl Fate {
    const fn name(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Unknown => "unknown",
            Self::Refused => "refused",
            Self::Broken => "broken",
        }
    }
}

/// One message that was offered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offered {
    /// What became of it.
    pub fate: Fate,
    /// The recipients concerned: those that the server took where it took any, else all.
    pub recipients: Vec<String>,
}

/// Every message that a source has offered.
#[derive(Debug, Default)]
pub struct SourceLedger(Mutex<Vec<Offered>>);

impl SourceLedger {
    /// What was offered so far, in no certain order.
    pub fn offered(&self) -> Vec<Offered> {
        self.0.lock().clone()
    }

    /// Messages of this fate so far.
    pub fn count(&self, fate: Fate) -> usize {
        let offered = self.0.lock();
        offered
            .iter()
            .filter(|offered| offered.fate == fate)
            .count()
    }

    /// Writes a line for each message: its fate and its recipients.
    pub fn write(&self, path: &Path) -> Result<(), BenchError> {
        let mut file = BufWriter::new(File::create(path)?);
        for offered in self.offered() {
            let (fate, recipients) = (offered.fate.name(), offered.recipients.join(","));
            writeln!(file, "{fate}\t{recipients}")?;
        }
        Ok(file.flush()?)
    }

    pub(super) fn note(&self, fate: Fate, recipients: Vec<String>) {
        self.0.lock().push(Offered { fate, recipients });
    }
}
