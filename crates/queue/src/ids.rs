//! Queue ids: unique for ever and rising with time.
//!
//! An id is the milliseconds since 1970 in the high 44 bits and a counter in the low 20. A node reserves the ids of a
//! stretch of time by raising one row, and hands them out from memory; no stretch is reserved twice, whatever the
//! clock does. Raising the row need not be synced: the message that uses an id is committed after it, so a crash that
//! drops the reservation drops every use of it too.

use nightmail_commit::{Abort, Committer, Intent, Tx};
use nightmail_core::codec::{RowReader, RowWriter};
use nightmail_core::{QueueId, Timestamp};
use nightmail_engine::{RowKey, Space};
use tokio::sync::Mutex;

use crate::error::QueueError;

const VERSION: u8 = 1;
const COUNTER_BITS: u32 = 20;
/// The stretch of time whose ids are reserved at once.
const STRETCH_MILLIS: u64 = 30_000;

/// Ids reserved by this node and not handed out yet.
#[derive(Clone, Copy, Debug, Default)]
struct Reserved {
    next: u64,
    end: u64,
}

impl Reserved {
    /// The next id at `now`; `None` when the reservation has run out or lies in the past.
    fn take(&mut self, now_floor: u64) -> Option<QueueId> {
        let id = self.next.max(now_floor);
        if id >= self.end {
            return None;
        }
        self.next = id + 1;
        Some(QueueId::new(id))
    }
}

/// Hands out queue ids.
pub struct QueueIds {
    committer: Committer,
    reserved: Mutex<Reserved>,
}

impl QueueIds {
    /// Ids of the store behind `committer`.
    pub fn new(committer: Committer) -> Self {
        Self {
            committer,
            reserved: Mutex::default(),
        }
    }

    /// An id that no message has had. Writes to the store about twice a minute, not for each id.
    pub async fn next(&self) -> Result<QueueId, QueueError> {
        let now_floor = now_floor();
        let mut reserved = self.reserved.lock().await;
        if let Some(id) = reserved.take(now_floor) {
            return Ok(id);
        }
        *reserved = self
            .committer
            .submit(Intent::soon(move |tx| reserve(tx, now_floor)).reading([row_key()]))
            .await?;
        let next = reserved.next;
        reserved.next += 1;
        Ok(QueueId::new(next))
    }
}

/// When the message of an id was accepted, or a little later where ids ran ahead of the clock.
pub fn accepted_at(id: QueueId) -> Timestamp {
    Timestamp::from_millis((id.get() >> COUNTER_BITS) as i64)
}

/// The lowest id of this millisecond.
fn now_floor() -> u64 {
    u64::try_from(nightmail_commit::now().millis()).unwrap_or(0) << COUNTER_BITS
}

fn row_key() -> RowKey {
    RowKey::new(Space::Meta, b"queue-ids".as_slice())
}

/// Raises the row over a stretch that begins at `now_floor` or where the last one ended.
fn reserve(tx: &mut Tx<'_>, now_floor: u64) -> Result<Reserved, Abort<QueueError>> {
    let used = match tx.get(&row_key())? {
        Some(row) => read_row(&row)?,
        None => 0,
    };
    let next = used.max(now_floor);
    let end = next.saturating_add(STRETCH_MILLIS << COUNTER_BITS);
    let mut row = RowWriter::new(VERSION);
    row.u64(end);
    tx.put(row_key(), row.finish());
    Ok(Reserved { next, end })
}

fn read_row(row: &[u8]) -> Result<u64, QueueError> {
    let (mut reader, _) = RowReader::new(row, VERSION)?;
    Ok(reader.u64()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_rise_and_end_with_the_reservation() {
        let mut reserved = Reserved {
            next: 100,
            end: 110,
        };
        assert_eq!(reserved.take(90), Some(QueueId::new(100)));
        assert_eq!(reserved.take(105), Some(QueueId::new(105)));
        assert_eq!(reserved.take(105), Some(QueueId::new(106)));
        assert_eq!(reserved.take(50), Some(QueueId::new(107)));
        assert_eq!(reserved.take(110), None);
        assert_eq!(reserved.take(108), Some(QueueId::new(108)));
    }
}
