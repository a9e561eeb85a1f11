//! What a sink has kept, copy by copy.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::ops::Range;
use std::path::Path;

use parking_lot::Mutex;

use crate::error::BenchError;

/// A message that the sink has kept for one recipient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// The recipient, as RCPT named it.
    pub recipient: Box<str>,
    /// Whether the whole reply to the message was written. Where it was not, the sender has to send it again.
    pub answered: bool,
    /// How often [`SinkLedger::next_epoch`] had been called.
    pub epoch: u32,
}

/// Everything that a sink has kept, in order.
#[derive(Debug, Default)]
pub struct SinkLedger(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    kept: Vec<Kept>,
    epoch: u32,
}

impl SinkLedger {
    /// Copies kept so far.
    pub fn len(&self) -> usize {
        self.0.lock().kept.len()
    }

    /// Whether nothing has been kept.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The copies kept so far.
    pub fn kept(&self) -> Vec<Kept> {
        self.0.lock().kept.clone()
    }

    /// What is kept from now on belongs to another epoch, such as the sender's next life.
    pub fn next_epoch(&self) {
        self.0.lock().epoch += 1;
    }

    /// Writes a line for each copy: recipient, `answered` or `unheard`, epoch.
    pub fn write(&self, path: &Path) -> Result<(), BenchError> {
        let mut file = BufWriter::new(File::create(path)?);
        for kept in self.kept() {
            let heard = if kept.answered { "answered" } else { "unheard" };
            writeln!(file, "{}\t{heard}\t{}", kept.recipient, kept.epoch)?;
        }
        Ok(file.flush()?)
    }

    /// Notes copies that are kept and not yet answered; their places.
    pub(super) fn keep(&self, recipients: &[Box<str>]) -> Range<usize> {
        let mut inner = self.0.lock();
        let (start, epoch) = (inner.kept.len(), inner.epoch);
        let kept = recipients.iter().map(|recipient| Kept {
            recipient: recipient.clone(),
            answered: false,
            epoch,
        });
        inner.kept.extend(kept);
        start..inner.kept.len()
    }

    /// Notes that the reply to them was written whole.
    pub(super) fn answered(&self, places: Range<usize>) {
        let mut inner = self.0.lock();
        for kept in inner.kept.get_mut(places).unwrap_or_default() {
            kept.answered = true;
        }
    }
}
