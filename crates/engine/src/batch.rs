//! Rows, ranges of keys, and batches of checks and writes.

use bytes::Bytes;

use crate::{EngineError, Space};

/// A row's key inside its space; keys are ordered as bytes. At most [`RowKey::KEY_BYTES_MAX`] long.
pub type Key = Vec<u8>;

/// A row's value; empty is a value, not an absence.
pub type Value = Bytes;

/// A row's place: its space and key.
#[derive(Clone, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub struct RowKey {
    /// The space.
    pub space: Space,
    /// The key inside it.
    pub key: Key,
}

impl RowKey {
    /// The longest key every engine takes, in bytes.
    pub const KEY_BYTES_MAX: usize = 2048;

    /// The longest value every engine takes, in bytes.
    pub const VALUE_BYTES_MAX: usize = 64 << 20;

    /// The row `key` of `space`.
    pub fn new(space: Space, key: impl Into<Key>) -> Self {
        Self {
            space,
            key: key.into(),
        }
    }
}

/// Keys from `from` (inclusive) to `to` (exclusive).
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct KeyRange {
    /// The lowest key.
    pub from: Key,
    /// The key after the highest; `None` is the end of the space.
    pub to: Option<Key>,
}

impl KeyRange {
    /// The whole space.
    pub const fn all() -> Self {
        Self {
            from: Vec::new(),
            to: None,
        }
    }

    /// Every key that begins with `prefix`.
    pub fn prefix(prefix: &[u8]) -> Self {
        Self {
            from: prefix.to_vec(),
            to: prefix_end(prefix),
        }
    }

    /// What is left of this range when a scan in `order` has returned `last`.
    #[must_use]
    pub fn beyond(mut self, last: &[u8], order: Order) -> Self {
        match order {
            Order::Ascending => {
                self.from = last.to_vec();
                self.from.push(0);
            }
            Order::Descending => self.to = Some(last.to_vec()),
        }
        self
    }

    /// Whether `key` lies in the range.
    pub fn contains(&self, key: &[u8]) -> bool {
        self.from.as_slice() <= key && self.to.as_deref().is_none_or(|to| key < to)
    }

    /// Whether no key can lie in the range.
    pub fn is_empty(&self) -> bool {
        self.to.as_ref().is_some_and(|to| to <= &self.from)
    }
}

/// The lowest key above every key with this prefix; `None` when there is none.
fn prefix_end(prefix: &[u8]) -> Option<Key> {
    let keep = prefix.iter().rposition(|&byte| byte != u8::MAX)?;
    let mut end: Key = prefix.iter().copied().take(keep + 1).collect();
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    Some(end)
}

/// The end of a range at which a scan begins.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Order {
    /// From the lowest key up.
    #[default]
    Ascending,
    /// From the highest key down.
    Descending,
}

/// A condition of a batch: the row holds `expected` (`None`: there is no row).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Check {
    /// The row.
    pub key: RowKey,
    /// What it must hold.
    pub expected: Option<Value>,
}

/// A change of one row: `None` deletes it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Write {
    /// The row.
    pub key: RowKey,
    /// Its new value.
    pub value: Option<Value>,
}

/// Checks and writes that take effect together or not at all.
///
/// Checks look at the state before the batch. When two writes name one row the later one counts.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Batch {
    /// What must hold.
    pub checks: Vec<Check>,
    /// What changes.
    pub writes: Vec<Write>,
}

impl Batch {
    /// An empty batch; it commits without doing anything.
    pub const fn new() -> Self {
        Self {
            checks: Vec::new(),
            writes: Vec::new(),
        }
    }

    /// Requires that `key` holds `expected` (`None`: that there is no such row).
    pub fn check(&mut self, key: RowKey, expected: Option<Value>) -> &mut Self {
        self.checks.push(Check { key, expected });
        self
    }

    /// Puts a row.
    pub fn put(&mut self, key: RowKey, value: impl Into<Value>) -> &mut Self {
        self.writes.push(Write {
            key,
            value: Some(value.into()),
        });
        self
    }

    /// Deletes a row; it need not exist.
    pub fn delete(&mut self, key: RowKey) -> &mut Self {
        self.writes.push(Write { key, value: None });
        self
    }

    /// Whether there is nothing to check and nothing to write.
    pub fn is_empty(&self) -> bool {
        self.checks.is_empty() && self.writes.is_empty()
    }

    /// Fails with [`EngineError::TooLarge`] for a key or value that is longer than every engine takes.
    pub fn check_sizes(&self) -> Result<(), EngineError> {
        let within = |what, bytes, limit| match bytes <= limit {
            true => Ok(()),
            false => Err(EngineError::TooLarge { what, bytes, limit }),
        };
        for write in &self.writes {
            within("a key", write.key.key.len(), RowKey::KEY_BYTES_MAX)?;
            let value = write.value.as_ref().map_or(0, Bytes::len);
            within("a value", value, RowKey::VALUE_BYTES_MAX)?;
        }
        Ok(())
    }

    /// Bytes of keys and values written.
    pub fn write_bytes(&self) -> u64 {
        self.writes
            .iter()
            .map(|write| write.key.key.len() + write.value.as_ref().map_or(0, Bytes::len))
            .map(|len| len as u64)
            .sum()
    }
}

/// When a commit is answered.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Durability {
    /// After the batch is on stable storage.
    #[default]
    Synced,
    /// After the batch is visible; it reaches the disk with the next synced batch or sync.
    Soon,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_range_ends_before_the_next_prefix() {
        let range = KeyRange::prefix(b"ab");
        assert!(range.contains(b"ab") && range.contains(b"ab\xff\xff"));
        assert!(!range.contains(b"aa\xff") && !range.contains(b"ac"));
        assert_eq!(KeyRange::prefix(b"a\xff").to, Some(b"b".to_vec()));
        assert_eq!(KeyRange::prefix(b"\xff\xff").to, None);
        assert_eq!(KeyRange::prefix(b""), KeyRange::all());
    }

    #[test]
    fn beyond_leaves_out_the_last_key_and_what_was_before_it() {
        let up = KeyRange::all().beyond(b"k", Order::Ascending);
        assert!(!up.contains(b"k") && up.contains(b"k\0"));
        let down = KeyRange::all().beyond(b"k", Order::Descending);
        assert!(!down.contains(b"k") && down.contains(b"j\xff"));
    }

    #[test]
    fn a_reversed_range_is_empty() {
        let range = KeyRange {
            from: b"b".to_vec(),
            to: Some(b"a".to_vec()),
        };
        assert!(range.is_empty() && !range.contains(b"a") && !range.contains(b"b"));
    }
}
