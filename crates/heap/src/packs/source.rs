//! Reading one record of a pack: from the cache, or from the store, in stretches.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::{Packs, corrupt};
use crate::chunk::{Chunk, ChunkTable};
use crate::heap::{INLINE_BYTES, blocking};
use crate::record::{HEADER_BYTES_MAX, Header};
use crate::{HeapError, Location};

/// So much of a record is read at once, as far as it is wanted.
const STRETCH_BYTES: u64 = 512 << 10;
/// The same where all of it is wanted in one go.
const LONG_STRETCH_BYTES: u64 = 8 << 20;

/// One record, and the stretch of it that was read last.
pub(crate) struct PackSource {
    packs: Arc<Packs>,
    location: Location,
    /// Where the held bytes begin in the record.
    held_from: u64,
    held: Bytes,
    /// Whether the held bytes are the cache's, which may be wrong.
    held_cached: bool,
    /// Up to where the record is read ahead.
    wanted_end: u64,
    stretch_bytes: u64,
}

/// Where bytes came from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Origin {
    Held,
    Cache,
    Store,
}

impl PackSource {
    /// The record at `location`; nothing is read yet.
    pub fn new(packs: Arc<Packs>, location: Location) -> Self {
        Self {
            packs,
            location,
            held_from: 0,
            held: Bytes::new(),
            held_cached: false,
            wanted_end: location.length.min(STRETCH_BYTES),
            stretch_bytes: STRETCH_BYTES,
        }
    }

    /// The record's chunks.
    pub async fn table(&mut self) -> Result<ChunkTable, HeapError> {
        let location = self.location;
        let header = u64::from(location.header);
        if header > HEADER_BYTES_MAX as u64 || header > location.length {
            return Err(self.corrupt("header length"));
        }
        let tag = self.packs.shared.key.segment_tag(location.segment);
        self.checked(0..header, |bytes| {
            Header::decode_at(bytes, tag, &location).map(|header| header.table)
        })
        .await
    }

    /// Reads ahead up to the end of the stored bytes `end` of the body, in long stretches if all is wanted at once.
    pub fn want(&mut self, end: u64, at_once: bool) {
        self.wanted_end = u64::from(self.location.header).saturating_add(end);
        if at_once {
            self.stretch_bytes = LONG_STRETCH_BYTES;
        }
    }

    /// The plain bytes of a chunk.
    pub async fn chunk(&mut self, chunk: Chunk, plain_len: usize) -> Result<Bytes, HeapError> {
        let start = u64::from(self.location.header) + chunk.start;
        let range = start..start + u64::from(chunk.len);
        let stored = self
            .checked(range, |stored| match crc32fast::hash(stored) == chunk.crc {
                true => Ok(stored.clone()),
                false => Err("chunk checksum"),
            })
            .await?;
        let shared = Arc::clone(&self.packs.shared);
        let Location {
            segment, offset, ..
        } = self.location;
        let unpack = move || {
            let plain = shared.coders.unpack(chunk, stored, plain_len);
            plain.map_err(|what| corrupt(segment, offset, what))
        };
        match plain_len as u64 <= INLINE_BYTES {
            true => unpack(),
            false => blocking(unpack).await,
        }
    }

    /// Reads `range` of the record and checks it. What the cache has wrong is read again from the store.
    async fn checked<T>(
        &mut self,
        range: Range<u64>,
        check: impl Fn(&Bytes) -> Result<T, &'static str>,
    ) -> Result<T, HeapError> {
        let mut origin = self.load(&range, true).await?;
        let mut found = self.held(&range).and_then(|bytes| check(&bytes));
        if found.is_err() && self.held_cached {
            self.held = Bytes::new();
            origin = self.load(&range, false).await?;
            found = self.held(&range).and_then(|bytes| check(&bytes));
        }
        self.count(origin);
        found.map_err(|what| self.corrupt(what))
    }

    fn count(&self, origin: Origin) {
        if self.packs.cache.is_none() {
            return;
        }
        match origin {
            Origin::Held => {}
            Origin::Cache => metrics::counter!("nightmail_heap_cache_hits_total").increment(1),
            Origin::Store => metrics::counter!("nightmail_heap_cache_misses_total").increment(1),
        }
    }

    fn held(&self, range: &Range<u64>) -> Result<Bytes, &'static str> {
        let from = range.start.checked_sub(self.held_from);
        let to = range.end.checked_sub(self.held_from);
        match (from, to) {
            (Some(from), Some(to)) if from <= to && to <= self.held.len() as u64 => {
                Ok(self.held.slice(from as usize..to as usize))
            }
            _ => Err("record ends early"),
        }
    }

    /// Makes the held bytes cover `range`, if the record reaches so far.
    async fn load(&mut self, range: &Range<u64>, from_cache: bool) -> Result<Origin, HeapError> {
        if !self.held.is_empty() && self.held(range).is_ok() {
            return Ok(Origin::Held);
        }
        let ahead = range.start.saturating_add(self.stretch_bytes);
        let end = range.end.max(ahead.min(self.wanted_end));
        let stretch = range.start..end.min(self.location.length);
        let pack = self.location.segment;
        let from = self.location.offset.saturating_add(stretch.start);
        let in_pack = from..from.saturating_add(stretch.end.saturating_sub(stretch.start));
        self.held_from = stretch.start;
        if from_cache && let Some(bytes) = self.cached(in_pack.clone()).await {
            (self.held, self.held_cached) = (bytes, true);
            return Ok(Origin::Cache);
        }
        self.held_cached = false;
        self.held = self.packs.read(pack, in_pack).await?;
        self.keep(from).await;
        Ok(Origin::Store)
    }

    async fn cached(&self, range: Range<u64>) -> Option<Bytes> {
        let cache = self.packs.cache.as_ref()?;
        let pack = self.location.segment;
        if range.end - range.start <= INLINE_BYTES {
            return cache.read(pack, range);
        }
        let cache = Arc::clone(cache);
        blocking(move || Ok(cache.read(pack, range))).await.ok()?
    }

    /// Keeps the held bytes, which begin at `from` of the pack, in the cache.
    async fn keep(&self, from: u64) {
        let Some(cache) = &self.packs.cache else {
            return;
        };
        let (cache, bytes) = (Arc::clone(cache), self.held.clone());
        let pack = self.location.segment;
        // It reports for itself what fails.
        drop(
            blocking(move || {
                cache.write(pack, from, std::slice::from_ref(&bytes));
                Ok(())
            })
            .await,
        );
    }

    fn corrupt(&self, what: &'static str) -> HeapError {
        corrupt(self.location.segment, self.location.offset, what)
    }
}
