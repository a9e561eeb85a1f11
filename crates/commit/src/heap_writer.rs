//! The thread that writes and syncs groups of message bytes.
//!
//! One thread for the life of the committer: its buffers and the allocator's pages stay where they are used, and a
//! group never waits behind other blocking work.

use std::sync::mpsc;

use nightmail_heap::{Heap, HeapError, Location, Record};
use tokio::sync::oneshot;

use crate::intent::CommitFailure;

type Appended = Result<Vec<Location>, HeapError>;

/// Hands groups to the thread. The thread ends when the last clone is dropped.
#[derive(Clone)]
pub(crate) struct HeapWriter {
    groups: mpsc::Sender<(Vec<Record>, oneshot::Sender<Appended>)>,
}

impl HeapWriter {
    /// Starts the thread.
    pub fn start(heap: Heap) -> Self {
        let (groups, incoming) = mpsc::channel::<(Vec<Record>, oneshot::Sender<Appended>)>();
        let run = move || {
            while let Ok((records, answer)) = incoming.recv() {
                // Whoever waited may have gone; the bytes are then dead and go with compaction.
                let _ = answer.send(heap.append_group(&records));
            }
        };
        if let Err(error) = std::thread::Builder::new()
            .name("heap-writer".to_owned())
            .spawn(run)
        {
            tracing::error!(%error, "the heap's thread cannot be started; no mail can be taken");
        }
        Self { groups }
    }

    /// Appends a group; durable when it returns.
    pub async fn append(&self, records: Vec<Record>) -> Result<Vec<Location>, CommitFailure> {
        let (answer, answered) = oneshot::channel();
        let stopped = || CommitFailure::Unavailable("the heap's thread has ended".to_owned());
        self.groups.send((records, answer)).map_err(|_| stopped())?;
        Ok(answered.await.map_err(|_| stopped())??)
    }
}
