//! The thread that writes and syncs groups of message bytes into segments.
//!
//! One thread for the life of the heap: its buffers and the allocator's pages stay where they are used, and a group
//! never waits behind other blocking work.

use std::sync::{Arc, mpsc};

use tokio::sync::oneshot;

use crate::heap::Record;
use crate::segments::Segments;
use crate::{HeapError, Location};

type Appended = Result<Vec<Location>, HeapError>;

/// Hands groups to the thread. The thread ends when the last clone is dropped.
#[derive(Clone)]
pub(crate) struct Writer {
    groups: mpsc::Sender<(Vec<Record>, oneshot::Sender<Appended>)>,
}

impl Writer {
    /// Starts the thread.
    pub fn start(segments: Arc<Segments>) -> Result<Self, HeapError> {
        let (groups, incoming) = mpsc::channel::<(Vec<Record>, oneshot::Sender<Appended>)>();
        let run = move || {
            while let Ok((records, answer)) = incoming.recv() {
                // Whoever waited may have gone; the bytes are then dead and go with compaction.
                let _ = answer.send(segments.append_group(&records));
            }
        };
        std::thread::Builder::new()
            .name("heap-writer".to_owned())
            .spawn(run)?;
        Ok(Self { groups })
    }

    /// Appends a group; durable when it returns.
    pub async fn append(&self, records: Vec<Record>) -> Appended {
        let (answer, answered) = oneshot::channel();
        let stopped = || HeapError::Io("the heap's thread has ended".to_owned());
        self.groups.send((records, answer)).map_err(|_| stopped())?;
        answered.await.map_err(|_| stopped())?
    }
}
