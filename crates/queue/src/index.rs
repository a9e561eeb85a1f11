//! The index of queued work: a row by time and a row by destination for each message and each destination of it.
//!
//! `Due`: time, queue id, destination → when it is of use. `Outbound`: destination, kind, order, queue id → likewise;
//! what is pending is ordered by rank, what is deferred by time. Both follow from the message's row alone.

use std::collections::BTreeMap;

use bytes::Bytes;
use nightmail_core::codec::{RowError, RowReader, RowWriter};
use nightmail_core::{QueueId, Timestamp};
use nightmail_engine::{Key, RowKey, Space};

use crate::destination::Destination;
use crate::rank::Rank;
use crate::record::{QueueMessage, Waiting};

const VERSION: u8 = 3;
/// Length of a key of `Due` before there were destinations: time and queue id.
pub(crate) const OLD_DUE_KEY_LEN: usize = 16;

/// Which queue of a destination a message is in.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Kind {
    /// Fresh mail, tried at once.
    Pending,
    /// Mail that waits for a later time.
    Deferred,
}

impl Kind {
    /// What the keys of this kind have after their destination.
    pub(crate) const fn number(self) -> u8 {
        match self {
            Self::Pending => 0,
            Self::Deferred => 1,
        }
    }
}

/// Work on a message for one of its destinations.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Entry {
    pub id: QueueId,
    pub kind: Kind,
    pub due: Timestamp,
    pub rank: Rank,
}

impl Entry {
    /// Where it stands among the others of its kind and destination.
    pub fn order(&self) -> Place {
        let by = match self.kind {
            Kind::Pending => (self.rank.band, self.rank.key),
            Kind::Deferred => (0, self.due.millis()),
        };
        Place { by, id: self.id }
    }

    fn value(&self) -> Bytes {
        let mut row = RowWriter::new(VERSION);
        row.u8(self.kind.number())
            .u8(self.rank.band)
            .i64(self.rank.key)
            .i64(self.due.millis());
        row.finish().into()
    }

    fn read(id: QueueId, value: &[u8]) -> Result<Self, RowError> {
        let (mut row, _) = RowReader::new(value, VERSION)?;
        Ok(Self {
            id,
            kind: match row.u8()? {
                0 => Kind::Pending,
                1 => Kind::Deferred,
                _ => return Err(RowError::Invalid("kind")),
            },
            rank: Rank {
                band: row.u8()?,
                key: row.i64()?,
            },
            due: Timestamp::from_millis(row.i64()?),
        })
    }

    /// The keys of its two rows.
    pub fn keys(&self, destination: &Destination) -> [RowKey; 2] {
        let name = destination.key();
        let mut due = due_start(self.due);
        due.extend_from_slice(&self.id.to_be_bytes());
        due.extend_from_slice(&name);
        let by = self.order().key(name, self.kind);
        [
            RowKey::new(Space::Due, due),
            RowKey::new(Space::Outbound, by),
        ]
    }

    /// Its two rows.
    pub fn rows(&self, destination: &Destination) -> [(RowKey, Bytes); 2] {
        self.keys(destination).map(|key| (key, self.value()))
    }
}

/// A place among the messages of one kind and destination.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct Place {
    by: (u8, i64),
    id: QueueId,
}

impl Place {
    /// The place right behind.
    pub const fn next(self) -> Self {
        let id = QueueId::new(self.id.get().saturating_add(1));
        Self { id, ..self }
    }

    /// The rank of what is there. Of what is deferred only the time is told.
    pub const fn rank(self, kind: Kind) -> Rank {
        let band = match kind {
            Kind::Pending => self.by.0,
            Kind::Deferred => Rank::NORMAL,
        };
        let key = self.by.1;
        Rank { band, key }
    }

    /// The key of the `Outbound` row there.
    pub fn key(&self, destination_key: Vec<u8>, kind: Kind) -> Key {
        let mut key = destination_key;
        key.push(kind.number());
        key.push(self.by.0);
        // The sign is turned, so that times before 1970 come first.
        key.extend_from_slice(&((self.by.1 as u64) ^ (1 << 63)).to_be_bytes());
        key.extend_from_slice(&self.id.to_be_bytes());
        key
    }
}

/// The work that a message means.
pub(crate) fn entries(id: QueueId, message: &QueueMessage) -> BTreeMap<Destination, Entry> {
    let mut entries: BTreeMap<Destination, Entry> = BTreeMap::new();
    for (_, recipient) in message.pending() {
        let (Some(due), None) = (recipient.next_attempt(), &recipient.hold) else {
            continue;
        };
        let (destination, kind) = match message.unrouted {
            Some(_) => (Destination::Unrouted, Kind::Deferred),
            None if recipient.waiting == Waiting::Fresh => (recipient.destination(), Kind::Pending),
            None => (recipient.destination(), Kind::Deferred),
        };
        let rank = message.rank;
        let entry = Entry {
            id,
            kind,
            due,
            rank,
        };
        entries
            .entry(destination)
            .and_modify(|known| {
                known.kind = known.kind.min(kind);
                known.due = known.due.min(due);
            })
            .or_insert(entry);
    }
    entries
}

/// The lowest key at `at`. Times before 1970 are due at once.
pub(crate) fn due_start(at: Timestamp) -> Key {
    at.millis().max(0).to_be_bytes().to_vec()
}

/// Reads a key of the `Due` space: the time, the message, and what is left: its destination.
pub(crate) fn split_due_key(key: &[u8]) -> Result<(Timestamp, QueueId, &[u8]), RowError> {
    let (at, rest) = key.split_first_chunk::<8>().ok_or(RowError::Short)?;
    let (id, rest) = rest.split_first_chunk::<8>().ok_or(RowError::Short)?;
    let at = Timestamp::from_millis(i64::from_be_bytes(*at));
    Ok((at, QueueId::new(u64::from_be_bytes(*id)), rest))
}

/// Reads a row of the `Due` space.
pub(crate) fn read_due(key: &[u8], value: &[u8]) -> Result<(Destination, Entry), RowError> {
    let (_, id, rest) = split_due_key(key)?;
    let (destination, _) = Destination::split(rest)?;
    Ok((destination, Entry::read(id, value)?))
}

/// Reads a row of the `Outbound` space.
pub(crate) fn read_outbound(key: &[u8], value: &[u8]) -> Result<(Destination, Entry), RowError> {
    let (destination, rest) = Destination::split(key)?;
    let id = rest.last_chunk::<8>().ok_or(RowError::Short)?;
    let id = QueueId::new(u64::from_be_bytes(*id));
    Ok((destination, Entry::read(id, value)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(kind: Kind, due: i64, key: i64) -> Entry {
        Entry {
            id: QueueId::new(7),
            kind,
            due: Timestamp::from_millis(due),
            rank: Rank { band: 4, key },
        }
    }

    #[test]
    fn rows_name_their_entry() {
        let destination = Destination::Domain("far.test".parse().unwrap());
        for entry in [
            entry(Kind::Pending, 5, -3),
            entry(Kind::Deferred, 70_000, 9),
        ] {
            let [due, outbound] = entry.rows(&destination);
            let expected = Ok((destination.clone(), entry));
            assert_eq!(read_due(&due.0.key, &due.1), expected);
            assert_eq!(read_outbound(&outbound.0.key, &outbound.1), expected);
            assert!(due.0.key.len() > OLD_DUE_KEY_LEN);
        }
    }

    #[test]
    fn pending_rows_are_ordered_by_rank_and_deferred_ones_by_time() {
        let destination = Destination::Unrouted;
        let key = |entry: Entry| entry.keys(&destination)[1].key.clone();
        assert!(key(entry(Kind::Pending, 9, -1)) < key(entry(Kind::Pending, 0, 1)));
        assert!(key(entry(Kind::Deferred, 1, 9)) < key(entry(Kind::Deferred, 2, 0)));
        assert!(key(entry(Kind::Pending, 9, 9)) < key(entry(Kind::Deferred, 0, 0)));
    }

    #[test]
    fn due_rows_are_ordered_by_time() {
        let key = |due| {
            entry(Kind::Deferred, due, 0).keys(&Destination::Unrouted)[0]
                .key
                .clone()
        };
        assert!(key(1_000) < key(70_000));
        assert!(key(1_000) >= due_start(Timestamp::from_millis(1_000)));
        assert!(key(1_000) < due_start(Timestamp::from_millis(1_001)));
    }
}
