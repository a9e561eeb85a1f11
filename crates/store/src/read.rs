//! Reading a message's bytes: prefix, then blob.

use std::ops::Range;

use bytes::Bytes;
use nightmail_commit::{BlobRow, LinkError};
use nightmail_core::BlobId;
use nightmail_heap::{BlobReader, HeapError, Location};

use crate::error::StoreError;
use crate::store::Store;

/// Hands out a range of a message chunk by chunk; never holds more than one chunk.
pub struct MessageReader {
    store: Store,
    blob: BlobId,
    prefix: Option<Bytes>,
    /// What is left to hand out of the blob.
    range: Range<u64>,
    reader: Option<BlobReader>,
}

impl MessageReader {
    /// Reads `range` (octets as a client counts them) of the message `prefix` + `blob`.
    pub fn new(store: Store, prefix: &Bytes, blob: BlobId, range: Range<u64>) -> Self {
        let cut = prefix.len() as u64;
        let from = range.start.min(cut) as usize;
        let to = range.end.min(cut) as usize;
        let head = prefix.slice(from..to.max(from));
        Self {
            store,
            blob,
            prefix: (!head.is_empty()).then_some(head),
            range: range.start.saturating_sub(cut)..range.end.saturating_sub(cut),
            reader: None,
        }
    }

    /// The next bytes, at most 256 KiB; `None` after the last.
    pub async fn next_chunk(&mut self) -> Result<Option<Bytes>, StoreError> {
        if let Some(prefix) = self.prefix.take() {
            return Ok(Some(prefix));
        }
        if self.range.is_empty() {
            return Ok(None);
        }
        let mut moved = None;
        for _ in 0..MOVES_MAX {
            if self.reader.is_none() {
                let reader = self.store.open_blob(self.blob, self.range.clone());
                self.reader = Some(reader.await?);
            }
            let Some(reader) = &mut self.reader else {
                break;
            };
            match reader.next_chunk().await {
                Ok(Some(chunk)) => {
                    self.range.start += chunk.len() as u64;
                    return Ok(Some(chunk));
                }
                Ok(None) => {
                    self.range = 0..0;
                    return Ok(None);
                }
                Err(error @ HeapError::Gone { .. }) => {
                    self.store.forget_place(self.blob);
                    self.reader = None;
                    moved = Some(error);
                }
                Err(error) => return Err(error.into()),
            }
        }
        Err(moved.map_or(LinkError::NoSuchBlob.into(), StoreError::from))
    }
}

/// Times a blob's place is looked up again when compaction has just moved it.
const MOVES_MAX: usize = 3;

impl Store {
    /// Where blobs lie. What was found a while ago may have been moved since: whoever reads there and finds the
    /// segment gone calls [`Self::forget_place`] and looks again.
    async fn locate(&self, blobs: &[BlobId]) -> Result<Vec<Option<Location>>, StoreError> {
        let places = self.places();
        let mut found: Vec<_> = blobs.iter().map(|blob| places.get(blob)).collect();
        let unknown: Vec<BlobId> = blobs
            .iter()
            .zip(&found)
            .filter(|(_, place)| place.is_none())
            .map(|(blob, _)| *blob)
            .collect();
        if unknown.is_empty() {
            return Ok(found);
        }
        let keys: Vec<_> = unknown.iter().map(|blob| BlobRow::key(*blob)).collect();
        let mut rows = self.engine().get_many(&keys).await?.into_iter();
        for (blob, place) in blobs.iter().zip(&mut found) {
            if place.is_some() {
                continue;
            }
            if let Some(row) = rows.next().flatten() {
                let location = BlobRow::decode(&row)?.location;
                places.insert(*blob, location);
                *place = Some(location);
            }
        }
        Ok(found)
    }

    /// Looks up where blobs lie that are to be read soon.
    pub async fn find_places(&self, blobs: &[BlobId]) -> Result<(), StoreError> {
        self.locate(blobs).await.map(drop)
    }

    fn forget_place(&self, blob: BlobId) {
        self.places().remove(&blob);
    }

    /// Opens a blob; looks its place up again where compaction has just moved it.
    async fn open_blob(&self, blob: BlobId, range: Range<u64>) -> Result<BlobReader, StoreError> {
        let mut gone = None;
        for _ in 0..MOVES_MAX {
            let location = self.locate(&[blob]).await?.pop().flatten();
            let location = location.ok_or(LinkError::NoSuchBlob)?;
            match self.heap().reader(&location, range.clone()).await {
                Ok(reader) => return Ok(reader),
                Err(error @ HeapError::Gone { .. }) => {
                    self.forget_place(blob);
                    gone = Some(error);
                }
                Err(error) => return Err(error.into()),
            }
        }
        Err(gone.map_or(StoreError::Link(LinkError::NoSuchBlob), StoreError::from))
    }

    /// Reads whole blobs in one go. The caller bounds their sum.
    pub async fn read_blobs(&self, blobs: &[BlobId]) -> Result<Vec<Bytes>, StoreError> {
        let locations = self.locate(blobs).await?;
        let known = locations.iter().flatten().copied().collect();
        let mut read = self.heap().read_many(known).await.into_iter();
        let read = locations
            .iter()
            .map(|location| location.and_then(|_| read.next()?.ok()));
        let mut found = Vec::with_capacity(blobs.len());
        for (blob, bytes) in blobs.iter().zip(read) {
            match bytes {
                Some(bytes) => found.push(bytes),
                None => found.push(self.read_blob(*blob).await?),
            }
        }
        Ok(found)
    }

    /// Reads one whole blob.
    pub async fn read_blob(&self, blob: BlobId) -> Result<Bytes, StoreError> {
        let mut moved = None;
        for _ in 0..MOVES_MAX {
            let reader = self.open_blob(blob, 0..u64::MAX).await?;
            match reader.read_to_end().await {
                Err(error @ HeapError::Gone { .. }) => {
                    self.forget_place(blob);
                    moved = Some(error);
                }
                read => return Ok(read?),
            }
        }
        Err(moved.map_or(LinkError::NoSuchBlob.into(), StoreError::from))
    }
}
