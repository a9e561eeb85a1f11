//! Packs in memory: for tests and simulation. They can fail, be slow, be full and stall.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::{BoxFuture, PackError, PackInfo, PackStore, cut, numbers_above};

/// A pack store in memory. Cloning shares it.
#[derive(Clone)]
pub struct MemoryPacks {
    state: Arc<Mutex<State>>,
    stalled: Arc<watch::Sender<bool>>,
}

#[derive(Default)]
struct State {
    packs: BTreeMap<u64, Bytes>,
    faults: Faults,
    calls: u64,
}

/// What is to go wrong.
#[derive(Default)]
struct Faults {
    /// Calls that fail without effect.
    fail_next: u64,
    /// Puts that take effect and are answered with an error.
    hide_puts: u64,
    /// Puts that are told that their number is taken.
    take_numbers: u64,
    unavailable: bool,
    /// Calls from now on until the store is cut off.
    cut_after: Option<u64>,
    full: bool,
    delay: Option<Duration>,
}

impl Default for MemoryPacks {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryPacks {
    /// An empty store without faults.
    pub fn new() -> Self {
        Self {
            state: Arc::default(),
            stalled: Arc::new(watch::Sender::new(false)),
        }
    }

    /// Makes the next `calls` calls fail without effect.
    pub fn fail_next(&self, calls: u64) {
        self.state.lock().faults.fail_next = calls;
    }

    /// Makes the next `puts` puts take effect and fail all the same.
    pub fn hide_next_puts(&self, puts: u64) {
        self.state.lock().faults.hide_puts = puts;
    }

    /// Makes the next `puts` puts find their number taken.
    pub fn take_next_numbers(&self, puts: u64) {
        self.state.lock().faults.take_numbers = puts;
    }

    /// Cuts the store off, or brings it back.
    pub fn set_unavailable(&self, unavailable: bool) {
        let faults = &mut self.state.lock().faults;
        faults.unavailable = unavailable;
        faults.cut_after = None;
    }

    /// Lets so many further calls pass and then cuts the store off.
    pub fn cut_off_after(&self, calls: u64) {
        self.state.lock().faults.cut_after = Some(calls);
    }

    /// Lets no pack be put, or lets them again.
    pub fn set_full(&self, full: bool) {
        self.state.lock().faults.full = full;
    }

    /// Makes every call take so long.
    pub fn set_delay(&self, delay: Option<Duration>) {
        self.state.lock().faults.delay = delay;
    }

    /// Lets no call end, or lets those that wait go on.
    pub fn set_stalled(&self, stalled: bool) {
        self.stalled.send_replace(stalled);
    }

    /// The numbers of all packs, in ascending order.
    pub fn numbers(&self) -> Vec<u64> {
        self.state.lock().packs.keys().copied().collect()
    }

    /// The bytes of a pack.
    pub fn bytes(&self, pack: u64) -> Option<Bytes> {
        self.state.lock().packs.get(&pack).cloned()
    }

    /// Puts other bytes in the place of a pack's, as no user of the store can.
    pub fn overwrite(&self, pack: u64, bytes: Bytes) {
        self.state.lock().packs.insert(pack, bytes);
    }

    /// Calls begun so far.
    pub fn calls(&self) -> u64 {
        self.state.lock().calls
    }

    /// Counts a call, waits as told, and fails if it is to fail.
    async fn enter(&self) -> Result<(), PackError> {
        let delay = {
            let mut state = self.state.lock();
            state.calls += 1;
            state.faults.delay
        };
        if let Some(delay) = delay {
            tokio::time::sleep(delay).await;
        }
        // The sender lives as long as `self` does.
        let _ = self.stalled.subscribe().wait_for(|stalled| !stalled).await;
        let faults = &mut self.state.lock().faults;
        faults.unavailable |= faults.cut_after == Some(0);
        faults.cut_after = faults.cut_after.map(|calls| calls.saturating_sub(1));
        if faults.unavailable || comes(&mut faults.fail_next) {
            return Err(PackError::Unavailable("as told".to_owned()));
        }
        Ok(())
    }
}

fn comes(left: &mut u64) -> bool {
    let comes = *left > 0;
    *left = left.saturating_sub(1);
    comes
}

impl PackStore for MemoryPacks {
    fn put<'a>(&'a self, pack: u64, bytes: Vec<Bytes>) -> BoxFuture<'a, Result<(), PackError>> {
        Box::pin(async move {
            self.enter().await?;
            let mut state = self.state.lock();
            if state.faults.full {
                return Err(PackError::Full("as told".to_owned()));
            }
            if state.packs.contains_key(&pack) || comes(&mut state.faults.take_numbers) {
                return Err(PackError::Exists(pack));
            }
            state.packs.insert(pack, bytes.concat().into());
            match comes(&mut state.faults.hide_puts) {
                true => Err(PackError::Unavailable("the answer was lost".to_owned())),
                false => Ok(()),
            }
        })
    }

    fn read<'a>(&'a self, pack: u64, range: Range<u64>) -> BoxFuture<'a, Result<Bytes, PackError>> {
        Box::pin(async move {
            self.enter().await?;
            let state = self.state.lock();
            let bytes = state.packs.get(&pack).ok_or(PackError::Missing(pack))?;
            let range = cut(&range, bytes.len() as u64);
            Ok(bytes.slice(range.start as usize..range.end as usize))
        })
    }

    fn delete<'a>(&'a self, pack: u64) -> BoxFuture<'a, Result<(), PackError>> {
        Box::pin(async move {
            self.enter().await?;
            self.state.lock().packs.remove(&pack);
            Ok(())
        })
    }

    fn list<'a>(
        &'a self,
        after: Option<u64>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<PackInfo>, PackError>> {
        Box::pin(async move {
            self.enter().await?;
            let state = self.state.lock();
            let above = state.packs.range(numbers_above(after));
            let info = |(&pack, bytes): (&u64, &Bytes)| PackInfo {
                pack,
                bytes: bytes.len() as u64,
            };
            Ok(above.map(info).take(limit).collect())
        })
    }
}
