//! The view an intent's `apply` has of the store: rows loaded for its group under the writes of earlier intents.

use std::collections::HashMap;

use bytes::Bytes;
use nightmail_core::{BlobId, Timestamp};
use nightmail_engine::{RowKey, Value, Write};
use nightmail_heap::Location;

use crate::blob::{BlobRow, Owner, PRESENT, condemned_key, meta_key};
use crate::event::Topic;
use crate::intent::{Abort, NewBlob};
use crate::row_map::{RowMap, RowSet};

/// A row was read that has not been loaded.
#[derive(Debug)]
pub struct Need(pub(crate) NeedKind);

#[derive(Debug)]
pub(crate) enum NeedKind {
    Row(RowKey),
    /// The blob was stored when the group was gathered and has been reclaimed since: append it again.
    Bytes,
}

/// The rows known to a group.
#[derive(Default)]
pub(crate) struct GroupRows {
    /// As loaded from the engine.
    pub base: RowMap<Option<Value>>,
    /// As written by the intents that have run.
    pub overlay: RowMap<Option<Value>>,
    /// New rows that the last of them added.
    pub added: Vec<Write>,
    /// Rows of `base` that an intent which succeeded has looked at.
    pub touched: RowSet,
}

impl GroupRows {
    /// Whether nothing has been written.
    pub fn is_unchanged(&self) -> bool {
        self.overlay.is_empty() && self.added.is_empty()
    }

    /// Has the next intent see what the last one added.
    pub fn show_added(&mut self) {
        let added = std::mem::take(&mut self.added).into_iter();
        self.overlay
            .extend(added.map(|write| (write.key, write.value)));
    }

    /// Takes in what an intent wrote, after [`Self::show_added`].
    pub fn take_in(&mut self, writes: RowMap<Option<Value>>, added: Vec<Write>) {
        match self.overlay.is_empty() {
            true => self.overlay = writes,
            false => self.overlay.extend(writes),
        }
        self.added = added;
    }
}

/// One run of one intent.
pub struct Tx<'a> {
    rows: &'a GroupRows,
    blobs: &'a [NewBlob],
    locations: &'a HashMap<BlobId, Location>,
    now: Timestamp,
    pub(crate) writes: RowMap<Option<Value>>,
    pub(crate) added: Vec<Write>,
    pub(crate) touched: Vec<RowKey>,
    pub(crate) topics: Vec<Topic>,
}

impl<'a> Tx<'a> {
    pub(crate) fn new(
        rows: &'a GroupRows,
        blobs: &'a [NewBlob],
        locations: &'a HashMap<BlobId, Location>,
        now: Timestamp,
    ) -> Self {
        Self {
            rows,
            blobs,
            locations,
            now,
            writes: RowMap::default(),
            added: Vec::new(),
            touched: Vec::new(),
            topics: Vec::new(),
        }
    }

    /// When this group is being committed.
    pub const fn now(&self) -> Timestamp {
        self.now
    }

    /// The current value of a row, this intent's own writes included.
    pub fn get(&mut self, key: &RowKey) -> Result<Option<Bytes>, Need> {
        if let Some(value) = self.writes.get(key).or_else(|| self.rows.overlay.get(key)) {
            return Ok(value.clone());
        }
        match self.rows.base.get(key) {
            Some(value) => {
                self.touched.push(key.clone());
                Ok(value.clone())
            }
            None => Err(Need(NeedKind::Row(key.clone()))),
        }
    }

    /// Writes a row.
    pub fn put(&mut self, key: RowKey, value: impl Into<Bytes>) {
        self.writes.insert(key, Some(value.into()));
    }

    /// Deletes a row.
    pub fn delete(&mut self, key: RowKey) {
        self.writes.insert(key, None);
    }

    /// Wakes the listeners of `topic` once this group is committed.
    pub fn publish(&mut self, topic: Topic) {
        if !self.topics.contains(&topic) {
            self.topics.push(topic);
        }
    }

    /// Makes `owner` refer to the new blob that this intent brought along (`index` as added).
    pub fn link_new_blob<E: From<LinkError>>(
        &mut self,
        index: usize,
        owner: Owner,
    ) -> Result<BlobId, Abort<E>> {
        let new = self
            .blobs
            .get(index)
            .ok_or_else(|| Abort::Refused(LinkError::NoSuchBlob.into()))?
            .clone();
        let id = new.blob.id();
        if self.relink(id, owner)? {
            return Ok(id);
        }
        let location = self
            .locations
            .get(&id)
            .cloned()
            .ok_or(Need(NeedKind::Bytes))?;
        let row = BlobRow {
            location,
            size: new.blob.size(),
            marks: 0,
        };
        self.put(BlobRow::key(id), row.encode());
        self.put(meta_key(id), new.meta);
        self.put(owner.link_key(id), PRESENT);
        Ok(id)
    }

    /// Makes `owner` refer to a blob that is in the store already.
    pub fn link_blob<E: From<LinkError>>(
        &mut self,
        blob: BlobId,
        owner: Owner,
    ) -> Result<(), Abort<E>> {
        match self.relink(blob, owner)? {
            true => Ok(()),
            false => Err(Abort::Refused(LinkError::NoSuchBlob.into())),
        }
    }

    /// Makes `owner` refer to a blob that somebody else refers to, which the caller has made sure of by a row that this
    /// intent has read.
    ///
    /// The blob's own row need not be read for that: while that reference stands the reclaimer finds it, and after it
    /// is taken away the reclaimer looks again and finds this one.
    pub fn link_again(&mut self, blob: BlobId, owner: Owner) {
        self.add(owner.link_key(blob), PRESENT);
    }

    /// Puts a row that is not there yet and that this intent neither reads nor writes again. Intents that come after it
    /// in its group see it like any other.
    pub fn add(&mut self, key: RowKey, value: impl Into<Bytes>) {
        let value = Some(value.into());
        self.added.push(Write { key, value });
    }

    /// Makes room for so many rows to be added.
    pub fn will_add(&mut self, rows: usize) {
        self.added.reserve(rows);
    }

    /// Ends `owner`'s reference. The blob goes once nothing refers to it and the grace period is over.
    pub fn unlink_blob(&mut self, blob: BlobId, owner: Owner) {
        self.delete(owner.link_key(blob));
        self.put(condemned_key(self.now, blob), PRESENT);
    }

    /// Links a stored blob and takes back its sentence; false when it is not stored.
    fn relink<E: From<LinkError>>(&mut self, blob: BlobId, owner: Owner) -> Result<bool, Abort<E>> {
        let Some(row) = self.get(&BlobRow::key(blob))? else {
            return Ok(false);
        };
        let row = BlobRow::decode(&row).map_err(|_| Abort::Refused(LinkError::Damaged.into()))?;
        if row.is_condemned() {
            self.put(BlobRow::key(blob), row.with_mark_changed().encode());
        }
        self.put(owner.link_key(blob), PRESENT);
        Ok(true)
    }
}

/// Why a blob cannot be linked.
#[derive(Debug, thiserror::Error, Clone, Copy, PartialEq, Eq)]
pub enum LinkError {
    /// The blob is not in the store.
    #[error("the message bytes are not in the store")]
    NoSuchBlob,
    /// Its row does not read.
    #[error("the row of the message bytes is damaged")]
    Damaged,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use nightmail_engine::Space;

    use super::*;

    #[test]
    fn the_next_intent_sees_what_was_added() {
        let (key, locations) = (RowKey::new(Space::Message, *b"m"), HashMap::new());
        let mut rows = GroupRows::default();
        for value in [&b"one"[..], b"two"] {
            let mut tx = Tx::new(&rows, &[], &locations, Timestamp::from_secs(1));
            assert_eq!(tx.get(&key).ok().flatten().is_some(), value == b"two");
            tx.add(key.clone(), value.to_vec());
            let Tx { writes, added, .. } = tx;
            rows.take_in(writes, added);
            assert!(!rows.is_unchanged());
            rows.show_added();
        }
        let mut tx = Tx::new(&rows, &[], &locations, Timestamp::from_secs(1));
        assert_eq!(tx.get(&key).unwrap().unwrap(), b"two"[..]);
    }
}
