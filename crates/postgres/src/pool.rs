//! The pool: how many connections there are, and what an outage does to them.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use nightmail_engine::EngineError;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::connect::PostgresOptions;
use crate::fault::Fault;
use crate::session::{RoundTrips, Session};

/// How often it is said that the server is away.
const TOLD_EVERY: Duration = Duration::from_secs(30);

/// Connections that are lost in the middle of one request before it is given up.
const LOST_MAX: usize = 3;

/// Connections, made when they are needed and kept for the next.
pub(crate) struct Pool {
    pub(crate) options: PostgresOptions,
    pub(crate) round_trips: Arc<RoundTrips>,
    slots: Arc<Semaphore>,
    idle: Mutex<Vec<Session>>,
    /// Outages so far; sessions of an earlier one are not used again.
    epoch: AtomicU64,
    away: AtomicBool,
    /// When that was said last.
    told: Mutex<Option<Instant>>,
    reconnects: AtomicU64,
    closed: watch::Sender<bool>,
}

/// A session that is in use. Dropped without [`Lease::release`] it closes: nobody knows what it was doing.
pub(crate) struct Lease {
    pub(crate) session: Session,
    slot: Slot,
}

/// The right to one connection.
pub(crate) struct Slot {
    pool: Arc<Pool>,
    _permit: OwnedSemaphorePermit,
}

/// Something that may be asked again when the connection is lost before the answer.
pub(crate) trait Repeatable: Sync {
    /// What the server answers.
    type Answer: Send;

    /// Asks it by one statement.
    fn ask(
        &self,
        session: &mut Session,
    ) -> impl Future<Output = Result<Self::Answer, Fault>> + Send;
}

impl Pool {
    pub(crate) fn new(options: PostgresOptions) -> Arc<Self> {
        Arc::new(Self {
            slots: Arc::new(Semaphore::new(options.connections_max.max(1))),
            options,
            round_trips: Arc::default(),
            idle: Mutex::default(),
            epoch: AtomicU64::new(0),
            away: AtomicBool::new(false),
            told: Mutex::default(),
            reconnects: AtomicU64::new(0),
            closed: watch::Sender::new(false),
        })
    }

    /// Ends what would go on for as long as the server is away.
    pub(crate) fn close(&self) {
        self.closed.send_replace(true);
        self.idle.lock().clear();
    }

    /// Returns when the pool is closed.
    pub(crate) async fn closed(&self) {
        let mut closed = self.closed.subscribe();
        // The sender lives as long as the pool.
        let _ = closed.wait_for(|closed| *closed).await;
    }

    /// Times that the server was reached again after it had been away.
    pub(crate) fn reconnects(&self) -> u64 {
        self.reconnects.load(Ordering::Relaxed)
    }

    /// A connection, an idle one or a new one, within the time for that.
    pub(crate) async fn acquire(self: &Arc<Self>) -> Result<Lease, EngineError> {
        let deadline = Instant::now() + self.options.acquire_timeout;
        let slot = Arc::clone(&self.slots).acquire_owned();
        let slot = match timeout_at(deadline, slot).await {
            Ok(Ok(permit)) => Slot {
                pool: Arc::clone(self),
                _permit: permit,
            },
            Ok(Err(_)) => return Err(unavailable("the store is closed")),
            Err(_) => return Err(unavailable("every connection is in use")),
        };
        if let Some(session) = self.take_idle() {
            return Ok(Lease { session, slot });
        }
        let session = self.connect_until(deadline).await?;
        Ok(Lease { session, slot })
    }

    async fn connect_until(self: &Arc<Self>, deadline: Instant) -> Result<Session, EngineError> {
        let mut pause = Backoff::default();
        loop {
            let fault = match timeout_at(deadline, Box::pin(self.connect())).await {
                Ok(Ok(session)) => return Ok(session),
                Ok(Err(fault)) => fault,
                Err(_) => Fault::Lost("PostgreSQL does not answer in time".to_owned()),
            };
            self.note_away(&fault);
            let pause = pause.next();
            if !matches!(fault, Fault::Lost(_)) || Instant::now() + pause >= deadline {
                return Err(unavailable(&fault.to_string()));
            }
            sleep(pause).await;
        }
    }

    /// A new connection.
    pub(crate) async fn connect(&self) -> Result<Session, Fault> {
        let epoch = self.epoch.load(Ordering::Acquire);
        let session = Session::open(&self.options, &self.round_trips, epoch).await?;
        self.note_back();
        Ok(session)
    }

    fn take_idle(&self) -> Option<Session> {
        let mut idle = self.idle.lock();
        while let Some(session) = idle.pop() {
            if self.is_sound(&session) {
                return Some(session);
            }
        }
        None
    }

    fn is_sound(&self, session: &Session) -> bool {
        !session.is_closed() && session.epoch == self.epoch.load(Ordering::Acquire)
    }

    /// Takes note that a connection was lost: others may lead to the same dead server, so that none is used again.
    pub(crate) fn note_lost(&self, fault: &Fault) {
        self.epoch.fetch_add(1, Ordering::AcqRel);
        self.idle.lock().clear();
        self.note_away(fault);
    }

    /// Says once that the server is away. Where it comes and goes, that is said now and then.
    pub(crate) fn note_away(&self, fault: &Fault) {
        if self.away.swap(true, Ordering::AcqRel) {
            return;
        }
        let mut told = self.told.lock();
        if told.is_none_or(|at| at.elapsed() >= TOLD_EVERY) {
            *told = Some(Instant::now());
            tracing::warn!(error = %fault, "PostgreSQL is away");
        } else {
            tracing::debug!(error = %fault, "PostgreSQL is away again");
        }
    }

    fn note_back(&self) {
        if self.away.swap(false, Ordering::AcqRel) {
            self.reconnects.fetch_add(1, Ordering::Relaxed);
            metrics::counter!("nightmail_postgres_reconnects_total").increment(1);
            tracing::debug!("PostgreSQL answers again");
        }
    }

    /// Asks over a connection that works, if there is one within the time for that.
    pub(crate) async fn ask<R: Repeatable>(
        self: &Arc<Self>,
        request: &R,
    ) -> Result<R::Answer, EngineError> {
        let mut lost = 0;
        loop {
            let mut lease = self.acquire().await?;
            let patience = self.options.statement_timeout;
            let fault = match timeout(patience, request.ask(&mut lease.session)).await {
                Ok(Ok(answer)) => {
                    lease.release();
                    return Ok(answer);
                }
                Ok(Err(fault)) => fault,
                Err(_) => Fault::Lost("PostgreSQL does not answer in time".to_owned()),
            };
            match fault {
                Fault::Lost(_) => self.note_lost(&fault),
                Fault::Again(_) => lease.release(),
                _ => {
                    lease.release();
                    return Err(fault.into());
                }
            }
            lost += 1;
            if lost >= LOST_MAX {
                return Err(fault.into());
            }
        }
    }
}

impl Lease {
    /// Gives the session back, for others to use.
    pub(crate) fn release(self) {
        let pool = &self.slot.pool;
        if pool.is_sound(&self.session) && !*pool.closed.borrow() {
            pool.idle.lock().push(self.session);
        }
    }

    /// Closes the session and keeps the right to a connection.
    pub(crate) fn abandon(self) -> Slot {
        self.slot
    }
}

impl Slot {
    /// Uses the right for `session`.
    pub(crate) fn lease(self, session: Session) -> Lease {
        Lease {
            session,
            slot: self,
        }
    }
}

fn unavailable(reason: &str) -> EngineError {
    EngineError::Unavailable(reason.to_owned())
}

/// Pauses between tries: each twice as long as the one before, up to a second, and not the same for every node.
pub(crate) struct Backoff(Duration);

impl Default for Backoff {
    fn default() -> Self {
        Self(Duration::from_millis(25))
    }
}

impl Backoff {
    const MAX: Duration = Duration::from_secs(1);

    /// The next pause.
    pub(crate) fn next(&mut self) -> Duration {
        let whole = self.0;
        self.0 = (whole * 2).min(Self::MAX);
        // Between half of it and all of it.
        let part = (RandomState::new().hash_one(0u8) % 512) as u32;
        whole / 2 + whole / 1024 * part
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_second_and_differ() {
        let mut backoff = Backoff::default();
        let pauses: Vec<Duration> = (0..40).map(|_| backoff.next()).collect();
        assert!(pauses.iter().all(|pause| *pause <= Backoff::MAX));
        let last = &pauses[20..];
        assert!(last.iter().all(|pause| *pause >= Backoff::MAX / 2));
        assert!(last.windows(2).any(|pair| pair[0] != pair[1]));
    }
}
