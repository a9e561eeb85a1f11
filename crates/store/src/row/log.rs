//! The expunge log: which UIDs left a mailbox, when and how; and the list of what is to be purged.

use nightmail_core::codec::{RowError, RowReader, RowWriter};
use nightmail_core::{MailboxId, ModSeq, Timestamp};
use nightmail_engine::{KeyRange, RowKey, Space};

use super::message::log_key;

/// Version 1 was a list of UIDs.
const VERSION: u8 = 2;

/// How messages left a mailbox.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Leave {
    /// They were expunged, and may be wanted back.
    Expunged,
    /// They are elsewhere.
    Moved,
}

/// Messages that left a mailbox together.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct LogEntry {
    pub leave: Leave,
    pub at: Timestamp,
    /// First and last UID, ascending.
    pub ranges: Vec<(u32, u32)>,
}

impl LogEntry {
    /// The byte form.
    pub fn encode(&self) -> Vec<u8> {
        let mut row = RowWriter::new(VERSION);
        row.u8(self.leave as u8)
            .i64(self.at.millis())
            .varint(self.ranges.len() as u64);
        let mut last = 0;
        for (low, high) in &self.ranges {
            row.varint(u64::from(low.wrapping_sub(last)))
                .varint(u64::from(high.wrapping_sub(*low)));
            last = *high;
        }
        row.finish()
    }

    /// Reads the byte form.
    pub fn decode(row: &[u8]) -> Result<Self, RowError> {
        let (mut reader, version) = RowReader::new(row, VERSION)?;
        if version == 1 {
            return read_list(&mut reader);
        }
        let leave = match reader.u8()? {
            0 => Leave::Expunged,
            1 => Leave::Moved,
            _ => return Err(RowError::Invalid("leave")),
        };
        let at = Timestamp::from_millis(reader.i64()?);
        let count = reader.varint()?;
        let mut last = 0u32;
        let ranges = (0..count)
            .map(|_| {
                let low = last.wrapping_add(step(&mut reader)?);
                last = low.checked_add(step(&mut reader)?).ok_or(UID)?;
                Ok((low, last))
            })
            .collect::<Result<_, RowError>>()?;
        Ok(Self { leave, at, ranges })
    }

    /// The UIDs.
    pub fn uids(&self) -> impl Iterator<Item = u32> {
        self.ranges.iter().flat_map(|(low, high)| *low..=*high)
    }
}

const UID: RowError = RowError::Invalid("uid");

fn step(reader: &mut RowReader<'_>) -> Result<u32, RowError> {
    u32::try_from(reader.varint()?).map_err(|_| UID)
}

fn read_list(reader: &mut RowReader<'_>) -> Result<LogEntry, RowError> {
    let count = reader.varint()?;
    let mut last = 0u32;
    let uids: Vec<u32> = (0..count)
        .map(|_| {
            last = last.wrapping_add(step(reader)?);
            Ok(last)
        })
        .collect::<Result<_, RowError>>()?;
    Ok(LogEntry {
        leave: Leave::Moved,
        at: Timestamp::from_millis(0),
        ranges: ranges_of(uids),
    })
}

/// First and last of the UIDs that follow each other. They ascend.
pub(crate) fn ranges_of(uids: impl IntoIterator<Item = u32>) -> Vec<(u32, u32)> {
    let mut ranges: Vec<(u32, u32)> = Vec::new();
    for uid in uids {
        match ranges.last_mut() {
            Some((_, high)) if high.checked_add(1) == Some(uid) || *high == uid => *high = uid,
            _ => ranges.push((uid, uid)),
        }
    }
    ranges
}

pub(crate) fn expunge_key(mailbox: MailboxId, modseq: ModSeq) -> RowKey {
    RowKey {
        space: Space::Expunge,
        key: log_key(mailbox, modseq),
    }
}

/// The expunges after `since`.
pub(crate) fn expunge_range(mailbox: MailboxId, since: ModSeq) -> KeyRange {
    KeyRange {
        from: log_key(mailbox, since.next()),
        to: KeyRange::prefix(&mailbox.to_be_bytes()).to,
    }
}

const PURGE_PREFIX: &[u8] = b"expunged:";

/// Lists an entry of the log whose messages are still to be purged, by when they left.
pub(crate) fn purge_key(at: Timestamp, mailbox: MailboxId, modseq: ModSeq) -> RowKey {
    let mut key = purge_from(at);
    key.extend_from_slice(&log_key(mailbox, modseq));
    RowKey {
        space: Space::Meta,
        key,
    }
}

/// What is to be purged and left before `until`.
pub(crate) fn purge_range(until: Timestamp) -> KeyRange {
    KeyRange {
        from: PURGE_PREFIX.to_vec(),
        to: Some(purge_from(until)),
    }
}

fn purge_from(at: Timestamp) -> Vec<u8> {
    let millis = u64::try_from(at.millis()).unwrap_or(0);
    [PURGE_PREFIX, &millis.to_be_bytes()].concat()
}

pub(crate) fn parse_purge_key(key: &[u8]) -> Option<(MailboxId, ModSeq)> {
    let rest = key.strip_prefix(PURGE_PREFIX)?;
    let (_, log) = rest.split_first_chunk::<8>()?;
    let (mailbox, modseq) = log.split_first_chunk::<8>()?;
    Some((
        MailboxId::new(u64::from_be_bytes(*mailbox)),
        ModSeq::new(u64::from_be_bytes(modseq.try_into().ok()?)),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn entries_read_back_as_written(
            mut uids in proptest::collection::vec(prop_oneof![1..40u32, 1..=u32::MAX], 0..50),
            moved: bool,
            at in any::<i64>(),
        ) {
            uids.sort_unstable();
            uids.dedup();
            let entry = LogEntry {
                leave: if moved { Leave::Moved } else { Leave::Expunged },
                at: Timestamp::from_millis(at),
                ranges: ranges_of(uids.iter().copied()),
            };
            prop_assert_eq!(entry.uids().collect::<Vec<_>>(), uids);
            prop_assert_eq!(LogEntry::decode(&entry.encode()).unwrap(), entry);
        }

        #[test]
        fn no_bytes_make_the_decoder_panic(bytes: Vec<u8>) {
            let _ = LogEntry::decode(&bytes);
        }
    }

    #[test]
    fn lists_of_uids_that_earlier_versions_wrote_are_read() {
        // Version, count, then differences: 5, 6, 7, 300.
        let old = [1, 4, 5, 1, 1, 0xa5, 2];
        assert_eq!(LogEntry::decode(&old).unwrap().ranges, [(5, 7), (300, 300)]);
    }

    #[test]
    fn what_is_to_be_purged_is_in_the_order_it_left() {
        let key = |at| {
            purge_key(
                Timestamp::from_millis(at),
                MailboxId::new(4),
                ModSeq::new(9),
            )
            .key
        };
        let range = purge_range(Timestamp::from_millis(100));
        assert!(range.contains(&key(0)) && range.contains(&key(99)));
        assert!(!range.contains(&key(100)));
        assert_eq!(
            parse_purge_key(&key(7)),
            Some((MailboxId::new(4), ModSeq::new(9)))
        );
    }
}
