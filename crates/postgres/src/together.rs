//! Reads that wait at the same time go together: sessions that look up a row each share a round trip.
//!
//! A read that finds a reader free goes at once; those that arrive while all are busy are asked in one statement by the
//! next one that is free. Only reads of the same spaces go together, so that few statements have to be prepared.

use std::collections::VecDeque;
use std::sync::Arc;

use nightmail_engine::{EngineError, RowKey, Value};
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};
use tokio::task::AbortHandle;

use crate::pool::Pool;
use crate::read::GetMany;

/// Reads under way at once, besides large ones.
const READERS: usize = 3;
/// Keys of a read that goes alone.
const ALONE_KEYS: usize = 64;
/// Keys of one statement.
const KEYS_MAX: usize = 1024;

type Found = Result<Vec<Option<Value>>, EngineError>;

/// A read that waits.
struct Asked {
    keys: Vec<RowKey>,
    /// A bit for each space among the keys.
    spaces: u32,
    answer: oneshot::Sender<Found>,
}

/// The reads that wait, and those who wait for them.
#[derive(Default)]
struct Queue {
    waiting: Mutex<VecDeque<Asked>>,
    arrived: Notify,
}

/// Puts reads together. Its readers end when it is dropped.
pub(crate) struct Together {
    pool: Arc<Pool>,
    queue: Arc<Queue>,
    readers: Vec<AbortHandle>,
}

impl Together {
    /// Starts the readers on the current tokio runtime.
    pub(crate) fn start(pool: Arc<Pool>) -> Self {
        let queue = Arc::new(Queue::default());
        let reader = |_| read(Arc::clone(&pool), Arc::clone(&queue));
        let readers = (0..READERS).map(reader).map(tokio::spawn);
        Self {
            readers: readers.map(|reader| reader.abort_handle()).collect(),
            queue,
            pool,
        }
    }

    /// The values of `keys`, in their order.
    pub(crate) async fn get_many(&self, keys: &[RowKey]) -> Found {
        if keys.len() >= ALONE_KEYS {
            return self.pool.ask(&GetMany::new(keys)).await;
        }
        let (answer, answered) = oneshot::channel();
        self.queue.waiting.lock().push_back(Asked {
            keys: keys.to_vec(),
            spaces: spaces(keys),
            answer,
        });
        self.queue.arrived.notify_one();
        let ended = || EngineError::Unavailable("the store has been closed".to_owned());
        answered.await.unwrap_or_else(|_| Err(ended()))
    }
}

impl Drop for Together {
    fn drop(&mut self) {
        self.readers.iter().for_each(AbortHandle::abort);
    }
}

fn spaces(keys: &[RowKey]) -> u32 {
    let bits = keys.iter().map(|key| 1 << key.space.number());
    bits.fold(0, |all, bit: u32| all | bit)
}

impl Queue {
    /// The read that has waited longest, and those that go with it.
    fn take(&self) -> Vec<Asked> {
        let mut waiting = self.waiting.lock();
        let Some(first) = waiting.pop_front() else {
            return Vec::new();
        };
        let (spaces, mut keys) = (first.spaces, first.keys.len());
        let mut taken = vec![first];
        let mut left = VecDeque::with_capacity(waiting.len());
        for asked in waiting.drain(..) {
            if asked.spaces == spaces && keys + asked.keys.len() <= KEYS_MAX {
                keys += asked.keys.len();
                taken.push(asked);
            } else {
                left.push_back(asked);
            }
        }
        *waiting = left;
        if !waiting.is_empty() {
            self.arrived.notify_one();
        }
        taken
    }
}

/// Reads what waits, again and again.
async fn read(pool: Arc<Pool>, queue: Arc<Queue>) {
    loop {
        let taken = queue.take();
        if taken.is_empty() {
            // What came since is remembered by the notification.
            queue.arrived.notified().await;
            continue;
        }
        let keys = taken.iter().flat_map(|asked| &asked.keys);
        let found = pool.ask(&GetMany::new(keys)).await;
        hand_out(taken, found);
    }
}

/// Gives each its part. Whoever has gone meanwhile needs none.
fn hand_out(taken: Vec<Asked>, found: Found) {
    let mut values = found.map(Vec::into_iter);
    for Asked { keys, answer, .. } in taken {
        let part = match &mut values {
            Ok(values) => Ok(values.take(keys.len()).collect()),
            Err(error) => Err(error.clone()),
        };
        let _ = answer.send(part);
    }
}
