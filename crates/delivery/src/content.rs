//! Reading a queued message: its prefix, then its blob, chunk by chunk.

use bytes::Bytes;
use nightmail_commit::{BlobRow, Committer, LinkError};
use nightmail_core::BlobId;
use nightmail_heap::{BlobReader, Heap, HeapError, Location};
use nightmail_queue::QueueMessage;

use crate::error::DeliveryError;

/// Times a location is looked up again when compaction has moved the bytes meanwhile.
const MOVES_MAX: usize = 5;

/// The bytes of one message, in order. Holds one chunk at a time.
pub(crate) struct Content {
    prefix: Bytes,
    /// Away while a chunk is being read, and after the last.
    reader: Option<BlobReader>,
}

impl Content {
    /// Opens the content of `message`.
    pub async fn open(
        committer: &Committer,
        message: &QueueMessage,
    ) -> Result<Self, DeliveryError> {
        for _ in 0..MOVES_MAX {
            let location = locate(committer, message.blob).await?;
            match open_reader(committer.heap(), location).await {
                Err(HeapError::Gone { .. }) => {}
                opened => {
                    return Ok(Self {
                        prefix: message.prefix.clone(),
                        reader: Some(opened?),
                    });
                }
            }
        }
        Err(LinkError::NoSuchBlob.into())
    }

    /// The next bytes; `None` after the last. An error ends the content.
    pub async fn next(&mut self) -> Result<Option<Bytes>, DeliveryError> {
        if !self.prefix.is_empty() {
            return Ok(Some(std::mem::take(&mut self.prefix)));
        }
        let Some(mut reader) = self.reader.take() else {
            return Ok(None);
        };
        let (reader, chunk) = blocking(move || {
            let chunk = reader.next_chunk();
            (reader, chunk)
        })
        .await?;
        let chunk = chunk?;
        self.reader = chunk.is_some().then_some(reader);
        Ok(chunk)
    }

    /// The first `octets_max` bytes, all if there are fewer.
    pub async fn head(mut self, octets_max: u64) -> Result<Vec<u8>, DeliveryError> {
        let octets_max = usize::try_from(octets_max).unwrap_or(usize::MAX);
        let mut head = Vec::new();
        while head.len() < octets_max {
            let Some(chunk) = self.next().await? else {
                break;
            };
            head.extend_from_slice(&chunk);
        }
        head.truncate(octets_max);
        Ok(head)
    }
}

async fn locate(committer: &Committer, blob: BlobId) -> Result<Location, DeliveryError> {
    let row = committer
        .engine()
        .get_many(&[BlobRow::key(blob)])
        .await?
        .pop()
        .flatten();
    let row = row.ok_or(LinkError::NoSuchBlob)?;
    Ok(BlobRow::decode(&row)?.location)
}

async fn open_reader(heap: &Heap, location: Location) -> Result<BlobReader, HeapError> {
    let heap = heap.clone();
    match tokio::task::spawn_blocking(move || heap.reader(&location)).await {
        Ok(opened) => opened,
        Err(error) => Err(HeapError::Io(error.to_string())),
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, DeliveryError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| HeapError::Io(error.to_string()).into())
}
