//! Reading a queued message: its prefix, then its blob, chunk by chunk.

use bytes::Bytes;
use nightmail_commit::{BlobRow, Committer, LinkError};
use nightmail_core::BlobId;
use nightmail_engine::RowKey;
use nightmail_heap::{BlobReader, HeapError, Location};
use nightmail_queue::QueueMessage;

use crate::error::DeliveryError;

/// Messages up to this size are read ahead, together with others.
const SMALL_OCTETS_MAX: u64 = 16 << 10;
/// Times a location is looked up again when compaction has moved the bytes meanwhile.
const MOVES_MAX: usize = 5;

/// The bytes of one message, in order. Holds one chunk at a time.
pub(crate) struct Content {
    committer: Committer,
    blob: BlobId,
    prefix: Bytes,
    /// Octets of the blob handed out.
    given: u64,
    /// None after the last chunk and after an error.
    reader: Option<BlobReader>,
}

impl Content {
    /// Opens the content of `message`.
    pub async fn open(
        committer: &Committer,
        message: &QueueMessage,
    ) -> Result<Self, DeliveryError> {
        Ok(Self {
            committer: committer.clone(),
            blob: message.blob,
            prefix: message.prefix.clone(),
            given: 0,
            reader: Some(open_reader(committer, message.blob, 0).await?),
        })
    }

    /// All of a message that is small.
    pub async fn whole(
        committer: &Committer,
        message: &QueueMessage,
    ) -> Result<Vec<Bytes>, DeliveryError> {
        for _ in 0..MOVES_MAX {
            let location = locate(committer, message.blob).await?;
            match committer.heap().read(&location, 0..u64::MAX).await {
                Err(HeapError::Gone { .. }) => {}
                read => return Ok(pieces(message.prefix.clone(), read?)),
            }
        }
        Err(LinkError::NoSuchBlob.into())
    }

    /// All of each of these messages that is small, as far as they can be read at once.
    pub async fn whole_of_small(
        committer: &Committer,
        messages: &[&QueueMessage],
    ) -> Vec<Option<Vec<Bytes>>> {
        let mut found = vec![None; messages.len()];
        let small: Vec<(usize, &QueueMessage)> = messages
            .iter()
            .enumerate()
            .filter(|(_, message)| message.size() <= SMALL_OCTETS_MAX)
            .map(|(place, message)| (place, *message))
            .collect();
        let keys: Vec<RowKey> = small
            .iter()
            .map(|(_, message)| BlobRow::key(message.blob))
            .collect();
        let Ok(rows) = committer.engine().get_many(&keys).await else {
            return found;
        };
        let mut places = Vec::with_capacity(small.len());
        let mut locations = Vec::with_capacity(small.len());
        for ((place, message), row) in small.iter().zip(rows) {
            if let Some(Ok(row)) = row.map(|row| BlobRow::decode(&row)) {
                places.push((*place, message.prefix.clone()));
                locations.push(row.location);
            }
        }
        let read = committer.heap().read_many(locations).await;
        for ((place, prefix), bytes) in places.into_iter().zip(read) {
            if let (Ok(bytes), Some(found)) = (bytes, found.get_mut(place)) {
                *found = Some(pieces(prefix, bytes));
            }
        }
        found
    }

    /// The next bytes; `None` after the last. An error ends the content.
    pub async fn next(&mut self) -> Result<Option<Bytes>, DeliveryError> {
        if !self.prefix.is_empty() {
            return Ok(Some(std::mem::take(&mut self.prefix)));
        }
        for _ in 0..MOVES_MAX {
            let Some(mut reader) = self.reader.take() else {
                return Ok(None);
            };
            match reader.next_chunk().await {
                Err(HeapError::Gone { .. }) => {
                    let again = open_reader(&self.committer, self.blob, self.given).await?;
                    self.reader = Some(again);
                }
                Ok(Some(chunk)) => {
                    self.given += chunk.len() as u64;
                    self.reader = Some(reader);
                    return Ok(Some(chunk));
                }
                ended => return Ok(ended?),
            }
        }
        Err(LinkError::NoSuchBlob.into())
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

fn pieces(prefix: Bytes, blob: Bytes) -> Vec<Bytes> {
    let pieces = [prefix, blob].into_iter();
    pieces.filter(|piece| !piece.is_empty()).collect()
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

/// Opens a blob from `octet` on; looks its place up again where compaction has just moved it.
async fn open_reader(
    committer: &Committer,
    blob: BlobId,
    octet: u64,
) -> Result<BlobReader, DeliveryError> {
    for _ in 0..MOVES_MAX {
        let location = locate(committer, blob).await?;
        match committer.heap().reader(&location, octet..u64::MAX).await {
            Err(HeapError::Gone { .. }) => {}
            opened => return Ok(opened?),
        }
    }
    Err(LinkError::NoSuchBlob.into())
}
