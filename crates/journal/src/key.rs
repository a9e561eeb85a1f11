//! Keys of blocks and filters: when the block was closed, by which process, and its number there.

use nightmail_core::Timestamp;
use nightmail_engine::{Key, KeyRange, RowKey, Space};

const BLOCK: u8 = b'b';
const FILTER: u8 = b'f';
const KEY_BYTES: usize = 1 + 8 + 8 + 4;

/// The name of a block. Byte order of its keys is the order of time.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct BlockId {
    /// Milliseconds since the epoch at which it was closed: none of its events is later.
    pub(crate) closed: u64,
    /// The process that wrote it.
    pub(crate) writer: u64,
    /// Its number there.
    pub(crate) number: u32,
}

impl BlockId {
    /// Where the block is.
    pub(crate) fn block(self) -> RowKey {
        self.key(BLOCK)
    }

    /// Where its filter is.
    pub(crate) fn filter(self) -> RowKey {
        self.key(FILTER)
    }

    fn key(self, kind: u8) -> RowKey {
        let mut key = Vec::with_capacity(KEY_BYTES);
        key.push(kind);
        key.extend_from_slice(&self.closed.to_be_bytes());
        key.extend_from_slice(&self.writer.to_be_bytes());
        key.extend_from_slice(&self.number.to_be_bytes());
        RowKey::new(Space::Journal, key)
    }

    /// The block of a filter's key.
    pub(crate) fn of_filter(key: &[u8]) -> Option<Self> {
        let rest = key.strip_prefix(&[FILTER])?;
        let (closed, rest) = rest.split_first_chunk()?;
        let (writer, rest) = rest.split_first_chunk()?;
        Some(Self {
            closed: u64::from_be_bytes(*closed),
            writer: u64::from_be_bytes(*writer),
            number: u32::from_be_bytes(rest.try_into().ok()?),
        })
    }
}

/// The filters of blocks closed at `from` or later and before `to`.
pub(crate) fn filters(from: Option<Timestamp>, to: Option<Timestamp>) -> KeyRange {
    let whole = KeyRange::prefix(&[FILTER]);
    KeyRange {
        from: from.map_or(whole.from, filter_at),
        to: to.map_or(whole.to, |to| Some(filter_at(to))),
    }
}

fn filter_at(time: Timestamp) -> Key {
    let mut key = vec![FILTER];
    key.extend_from_slice(&millis(time).to_be_bytes());
    key
}

/// Milliseconds since the epoch; the epoch for what was before.
pub(crate) fn millis(time: Timestamp) -> u64 {
    u64::try_from(time.millis()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_filters_key_names_its_block(closed: u64, writer: u64, number: u32) {
            let id = BlockId { closed, writer, number };
            prop_assert_eq!(BlockId::of_filter(&id.filter().key), Some(id));
            prop_assert_eq!(BlockId::of_filter(&id.block().key), None);
        }

        #[test]
        fn ranges_hold_what_was_closed_in_them(from in 0i64..1000, to in 0i64..1000, closed in 0u64..1000) {
            let id = BlockId { closed, writer: u64::MAX, number: u32::MAX };
            let range = filters(Some(Timestamp::from_millis(from)), Some(Timestamp::from_millis(to)));
            let inside = (from..to).contains(&(closed as i64));
            prop_assert_eq!(range.contains(&id.filter().key), inside);
            prop_assert!(filters(None, None).contains(&id.filter().key));
        }
    }
}
