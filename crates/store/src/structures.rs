//! Structures of messages: read from the rows that delivery wrote, the encoded form kept in memory for a while, and with
//! it what others make of it.

use bytes::Bytes;
use nightmail_core::BlobId;
use nightmail_engine::{RowKey, Space};
use nightmail_mime::{Scanner, Structure};
use quick_cache::Weighter;
use quick_cache::sync::Cache;

use crate::error::StoreError;
use crate::store::Store;

/// Bytes of encoded structures kept in memory, over all messages.
const KEPT_BYTES_MAX: u64 = 16 << 20;
/// Bytes of what was made of structures.
const RENDERED_BYTES_MAX: u64 = 64 << 20;
/// Bytes that a structure usually takes.
const USUAL_BYTES: u64 = 512;
/// What an entry takes besides its octets.
const ENTRY_BYTES: u64 = 112;

type Found<T> = Result<T, StoreError>;

/// The octets that an entry is held to account for.
#[derive(Clone)]
pub(crate) struct Bytewise;

impl<K> Weighter<K, Bytes> for Bytewise {
    fn weight(&self, _: &K, row: &Bytes) -> u64 {
        row.len() as u64 + ENTRY_BYTES
    }
}

/// Encoded structures by blob. A blob never changes, so neither does its structure.
pub(crate) type Kept = Cache<BlobId, Bytes, Bytewise>;

/// A cache with nothing in it.
pub(crate) fn kept() -> Kept {
    Cache::with_weighter(
        (KEPT_BYTES_MAX / USUAL_BYTES) as usize,
        KEPT_BYTES_MAX,
        Bytewise,
    )
}

/// What was made of structures, by blob and form.
pub(crate) type Renderings = Cache<(BlobId, u8), Bytes, Bytewise>;

/// A cache with nothing in it.
pub(crate) fn renderings() -> Renderings {
    Cache::with_weighter(
        (RENDERED_BYTES_MAX / USUAL_BYTES) as usize,
        RENDERED_BYTES_MAX,
        Bytewise,
    )
}

impl Store {
    /// What somebody made of the structure of a blob, if it was kept; `form` tells the ways of making apart.
    pub fn rendering(&self, blob: BlobId, form: u8) -> Option<Bytes> {
        self.kept_renderings().get(&(blob, form))
    }

    /// Keeps what follows from the structure of a blob alone, as long as there is room.
    pub fn keep_rendering(&self, blob: BlobId, form: u8, rendering: &[u8]) {
        let rendering = Bytes::copy_from_slice(rendering);
        self.kept_renderings().insert((blob, form), rendering);
    }

    /// The structure of a blob: as kept, or computed anew where the kept form is missing or from another version.
    pub async fn structure(&self, blob: BlobId) -> Found<Structure> {
        Ok(self.structures(&[blob]).await?.pop().unwrap_or_default())
    }

    /// The structures of several blobs, in their order.
    pub async fn structures(&self, blobs: &[BlobId]) -> Found<Vec<Structure>> {
        let rows = self.structure_rows(blobs).await?;
        let mut found = Vec::with_capacity(blobs.len());
        for (blob, row) in blobs.iter().zip(rows) {
            match row.and_then(|row| Structure::decode(&row).ok()) {
                Some(structure) => found.push(structure),
                None => found.push(self.scan_structure(*blob).await?),
            }
        }
        Ok(found)
    }

    /// The encoded structures; only what is not in memory is read.
    async fn structure_rows(&self, blobs: &[BlobId]) -> Found<Vec<Option<Bytes>>> {
        let kept = self.kept_structures();
        let mut rows: Vec<_> = blobs.iter().map(|blob| kept.get(blob)).collect();
        let missing = || blobs.iter().zip(&rows).filter(|(_, row)| row.is_none());
        let keys: Vec<_> = missing()
            .map(|(blob, _)| RowKey {
                space: Space::BlobMeta,
                key: blob.as_bytes().to_vec(),
            })
            .collect();
        if keys.is_empty() {
            return Ok(rows);
        }
        let read = self.engine().get_many(&keys).await?;
        let places = blobs.iter().zip(&mut rows).filter(|(_, row)| row.is_none());
        for ((blob, place), row) in places.zip(read) {
            if let Some(row) = row {
                kept.insert(*blob, row.clone());
                *place = Some(row);
            }
        }
        Ok(rows)
    }

    async fn scan_structure(&self, blob: BlobId) -> Found<Structure> {
        let mut scanner = Scanner::new(nightmail_mime::Limits::default());
        let mut reader = crate::MessageReader::new(self.clone(), &Bytes::new(), blob, 0..u64::MAX);
        while let Some(chunk) = reader.next_chunk().await? {
            scanner.push(&chunk);
        }
        Ok(scanner.finish())
    }
}
