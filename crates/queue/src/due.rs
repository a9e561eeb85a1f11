//! The index of when queued messages are due.

use bytes::Bytes;
use nightmail_core::codec::RowError;
use nightmail_core::{QueueId, Timestamp};
use nightmail_engine::{Key, RowKey, Space};

/// The value of a due row: a version and the priority; the first version had none.
pub(crate) fn due_value(priority: i8) -> Bytes {
    match priority {
        0 => Bytes::from_static(&[1]),
        priority => Bytes::copy_from_slice(&[2, priority as u8]),
    }
}

/// The priority in the value of a due row. A value that does not read is as good as none: the message's row counts.
pub(crate) fn due_priority(value: &[u8]) -> i8 {
    match value {
        [2, priority] => *priority as i8,
        _ => 0,
    }
}

/// The key of the row that says `id` is due at `at`.
pub(crate) fn due_key(at: Timestamp, id: QueueId) -> RowKey {
    let mut key = due_start(at);
    key.extend_from_slice(&id.to_be_bytes());
    RowKey::new(Space::Due, key)
}

/// The lowest key at `at`. Times before 1970 are due at once.
pub(crate) fn due_start(at: Timestamp) -> Key {
    at.millis().max(0).to_be_bytes().to_vec()
}

/// Reads a key of the `Due` space.
pub(crate) fn parse_due_key(key: &[u8]) -> Result<(Timestamp, QueueId), RowError> {
    let (at, id) = key.split_first_chunk::<8>().ok_or(RowError::Short)?;
    let id = id.try_into().map_err(|_| RowError::Short)?;
    Ok((
        Timestamp::from_millis(i64::from_be_bytes(*at)),
        QueueId::new(u64::from_be_bytes(id)),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_ordered_by_time_and_name_their_message() {
        let (early, late) = (
            Timestamp::from_millis(1_000),
            Timestamp::from_millis(70_000),
        );
        let key = due_key(early, QueueId::new(9)).key;
        assert_eq!(parse_due_key(&key), Ok((early, QueueId::new(9))));
        assert!(key < due_key(late, QueueId::new(1)).key);
        assert!(due_start(early) <= key && key < due_start(late));
        assert!(parse_due_key(b"short").is_err());
    }

    #[test]
    fn values_tell_the_priority() {
        for priority in [-9, -1, 0, 1, 9] {
            assert_eq!(due_priority(&due_value(priority)), priority);
        }
        assert_eq!(due_priority(&[1]), 0);
        assert_eq!(due_priority(b""), 0);
    }
}
