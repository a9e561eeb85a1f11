//! Reports to the domains that ask for them (RFC 7489 §7): what was seen is counted by day, and told once a day;
//! failures one by one.
//!
//! Rows in [`Space::Report`], under day and policy domain: the policy as it was last seen, and one row for each kind
//! of message with how many there were. Counts are gathered in memory first; a crash loses what was gathered last.
//! **Invariant:** nothing here is needed for mail to flow: what cannot be counted is dropped, and counted as dropped.

mod aggregate;
mod failure;
mod gzip;
mod message;
mod row;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use metrics::counter;
use nightmail_core::codec::RowError;
use nightmail_core::{Address, Domain, Timestamp};
use nightmail_engine::{
    Batch, CommitError, Durability, Engine, EngineError, Key, KeyRange, Order, RowKey, Space,
};
use parking_lot::Mutex;

use crate::dmarc_record::DmarcPolicy;
use crate::trust::Trust;
use crate::verdict::Verdict;
use failure::FailureLimits;
pub use gzip::compress as gzip;
pub use message::Parts;
use row::{Count, Observation, Policy};

/// Kinds of messages gathered before they are written.
const GATHERED_MAX: usize = 4096;
/// Kinds of messages at which they are written.
const GATHERED_WRITE: usize = 256;
/// How long they are gathered.
const GATHERED_FOR: Duration = Duration::from_secs(10);
/// Rows in one commit, and in one read.
const ROWS_AT_ONCE: usize = 256;
/// Times a commit that another node was faster than is tried.
const TRIES_MAX: usize = 8;
/// Rows told in one report.
const REPORT_ROWS_MAX: usize = 20_000;
/// After the end of a day, until every node has written what it saw.
const SETTLE_MILLIS: i64 = 10 * 60 * 1000;

/// Who reports.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reporter {
    /// The name of the organization, such as the host name.
    pub organization: String,
    /// The From address, at which questions are answered.
    pub from: Address,
    /// Our own domain, in report ids and file names.
    pub domain: Domain,
    /// Whether local-parts are left out of failure reports (RFC 6590).
    pub redact: bool,
}

/// A report, ready to be sent with a null reverse-path.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ReportMessage {
    /// Where it goes.
    pub to: Address,
    /// The whole message, with CRLF.
    pub message: Vec<u8>,
}

/// A day of one domain that is over.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DueReport {
    /// The domain whose record asks for it.
    pub domain: String,
    /// Days since the epoch, in UTC.
    pub day: u32,
}

impl DueReport {
    /// The key of the policy, and the prefix of all keys of this day and domain.
    fn prefix(&self) -> Key {
        let mut key = self.day.to_be_bytes().to_vec();
        key.extend_from_slice(self.domain.as_bytes());
        key.push(0);
        key
    }

    fn of_key(key: &[u8]) -> Option<Self> {
        let (day, rest) = key.split_first_chunk()?;
        let end = memchr::memchr(0, rest)?;
        Some(Self {
            domain: std::str::from_utf8(rest.get(..end)?).ok()?.to_owned(),
            day: u32::from_be_bytes(*day),
        })
    }
}

/// Counts by their key, and policies by theirs.
#[derive(Default)]
struct Gathered {
    counts: HashMap<Key, Count>,
    policies: HashMap<Key, Vec<u8>>,
    since: Option<Instant>,
}

impl Gathered {
    fn add(&mut self, key: Key, count: Count) {
        if let Some(known) = self.counts.get_mut(&key) {
            known.messages += count.messages;
        } else if self.counts.len() < GATHERED_MAX {
            self.counts.insert(key, count);
        } else {
            counter!("nightmail_dmarc_observations_dropped_total").increment(count.messages);
        }
    }

    fn is_ripe(&self) -> bool {
        self.counts.len() >= GATHERED_WRITE
            || self
                .since
                .is_some_and(|since| since.elapsed() >= GATHERED_FOR)
    }
}

/// Counts what is seen and makes reports of it.
pub struct ReportStore {
    engine: Arc<dyn Engine>,
    gathered: Mutex<Gathered>,
    limits: Mutex<FailureLimits>,
}

impl std::fmt::Debug for ReportStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ReportStore").finish_non_exhaustive()
    }
}

impl ReportStore {
    /// With its rows in `engine`.
    pub fn new(engine: Arc<dyn Engine>) -> Self {
        Self {
            engine,
            gathered: Mutex::default(),
            limits: Mutex::default(),
        }
    }

    /// Counts a message if its author's domain asks for aggregate reports. `applied` is what was done with it. Writes
    /// what is gathered when there is enough of it, or it is old enough.
    pub async fn record(&self, verdict: &Verdict, applied: DmarcPolicy) -> Result<(), EngineError> {
        let Some(record) = verdict.dmarc.record.as_deref() else {
            return Ok(());
        };
        let Ok(day) = u32::try_from(verdict.at.days()) else {
            return Ok(());
        };
        if record.aggregate.is_empty() {
            return Ok(());
        }
        let due = DueReport {
            domain: record.domain.clone(),
            day,
        };
        let observation = Observation::new(verdict, applied).encode();
        let mut key = due.prefix();
        key.extend_from_slice(&row::digest_of(&observation));
        let is_ripe = {
            let mut gathered = self.gathered.lock();
            gathered.since.get_or_insert_with(Instant::now);
            if gathered.policies.len() < GATHERED_MAX {
                let policy = Policy::new(record).encode();
                gathered.policies.insert(due.prefix(), policy);
            }
            let count = Count {
                messages: 1,
                observation,
            };
            gathered.add(key, count);
            gathered.is_ripe()
        };
        match is_ripe {
            true => self.flush().await,
            false => Ok(()),
        }
    }

    /// Writes what is gathered, with [`Durability::Soon`]. What cannot be written now is kept.
    pub async fn flush(&self) -> Result<(), EngineError> {
        let Gathered {
            counts, policies, ..
        } = std::mem::take(&mut *self.gathered.lock());
        let policies: Vec<(Key, Vec<u8>)> = policies.into_iter().collect();
        let mut counts: Vec<(Key, Count)> = counts.into_iter().collect();
        for some in policies.chunks(ROWS_AT_ONCE) {
            let mut batch = Batch::new();
            for (key, policy) in some {
                batch.put(RowKey::new(Space::Report, key.clone()), policy.clone());
            }
            if let Err(error) = self.engine.commit(batch, Durability::Soon).await {
                self.keep(counts, policies);
                return Err(engine_error(error));
            }
        }
        while !counts.is_empty() {
            let some = counts.split_off(counts.len().saturating_sub(ROWS_AT_ONCE));
            if let Err(error) = self.add_counts(&some).await {
                counts.extend(some);
                self.keep(counts, Vec::new());
                return Err(error);
            }
        }
        Ok(())
    }

    fn keep(&self, counts: Vec<(Key, Count)>, policies: Vec<(Key, Vec<u8>)>) {
        let mut gathered = self.gathered.lock();
        gathered.since.get_or_insert_with(Instant::now);
        counts
            .into_iter()
            .for_each(|(key, count)| gathered.add(key, count));
        gathered.policies.extend(policies);
    }

    /// Adds counts to their rows, all or none of them.
    async fn add_counts(&self, counts: &[(Key, Count)]) -> Result<(), EngineError> {
        let keys = counts
            .iter()
            .map(|(key, _)| RowKey::new(Space::Report, key.clone()));
        let keys: Vec<RowKey> = keys.collect();
        for _ in 0..TRIES_MAX {
            let rows = self.engine.get_many(&keys).await?;
            let mut batch = Batch::new();
            for ((key, row), (_, count)) in keys.iter().zip(rows).zip(counts) {
                let known = row
                    .as_deref()
                    .map_or(Ok(0), Count::messages)
                    .map_err(corrupt)?;
                let sum = Count {
                    messages: known.saturating_add(count.messages),
                    observation: count.observation.clone(),
                };
                batch.check(key.clone(), row).put(key.clone(), sum.encode());
            }
            match self.engine.commit(batch, Durability::Soon).await {
                Ok(()) => return Ok(()),
                Err(CommitError::Conflict { .. }) => {}
                Err(error) => return Err(engine_error(error)),
            }
        }
        Err(EngineError::Unavailable(
            "too many nodes count at once".to_owned(),
        ))
    }

    /// The days and domains that are over and not done, the oldest first, at most `limit`.
    pub async fn due(&self, now: Timestamp, limit: usize) -> Result<Vec<DueReport>, EngineError> {
        let today = u32::try_from(now.plus_millis(-SETTLE_MILLIS).days()).unwrap_or(0);
        let mut range = KeyRange {
            from: Key::new(),
            to: Some(today.to_be_bytes().to_vec()),
        };
        let mut found = Vec::new();
        while found.len() < limit {
            let rows = self
                .engine
                .scan(Space::Report, range.clone(), Order::Ascending, 1);
            let Some((key, _)) = rows.await?.into_iter().next() else {
                break;
            };
            let due = DueReport::of_key(&key).ok_or_else(|| corrupt(RowError::Invalid("key")))?;
            range.from = KeyRange::prefix(&due.prefix()).to.unwrap_or_default();
            found.push(due);
        }
        Ok(found)
    }

    /// The reports about one day of one domain: one for each address that wants it and takes its size. Asks DNS
    /// whether addresses elsewhere want it (RFC 7489 §7.1).
    pub async fn build(
        &self,
        due: &DueReport,
        trust: &Trust,
        reporter: &Reporter,
        now: Timestamp,
    ) -> Result<Vec<ReportMessage>, EngineError> {
        let key = RowKey::new(Space::Report, due.prefix());
        let policy = self.engine.get_many(&[key]).await?.pop().flatten();
        let Some(policy) = policy else {
            return Ok(Vec::new());
        };
        let policy = Policy::decode(&policy).map_err(corrupt)?;
        let uris = trust
            .report_destinations(&due.domain, &policy.aggregate())
            .await;
        if uris.is_empty() {
            return Ok(Vec::new());
        }
        let counts = self.counts(due).await?;
        let report = aggregate::Aggregate::new(due, &policy, &counts, reporter);
        let messages = uris.into_iter().filter_map(|uri| {
            let message = report.message(&uri.address, now);
            let fits = uri.octets_max.is_none_or(|max| message.len() as u64 <= max);
            fits.then_some(ReportMessage {
                to: uri.address,
                message,
            })
        });
        Ok(messages.collect())
    }

    async fn counts(&self, due: &DueReport) -> Result<Vec<(u64, Observation)>, EngineError> {
        let prefix = due.prefix();
        let mut range = KeyRange::prefix(&prefix).beyond(&prefix, Order::Ascending);
        let mut counts = Vec::new();
        while counts.len() < REPORT_ROWS_MAX {
            let scan =
                self.engine
                    .scan(Space::Report, range.clone(), Order::Ascending, ROWS_AT_ONCE);
            let rows = scan.await?;
            let Some((last, _)) = rows.last() else {
                break;
            };
            range = range.beyond(last, Order::Ascending);
            for (_, row) in &rows {
                counts.push(Count::decode(row).map_err(corrupt)?);
            }
        }
        Ok(counts)
    }

    /// Forgets a day of a domain: its reports are queued, or nobody wants them.
    pub async fn done(&self, due: &DueReport) -> Result<(), EngineError> {
        let range = KeyRange::prefix(&due.prefix());
        loop {
            let scan =
                self.engine
                    .scan(Space::Report, range.clone(), Order::Ascending, ROWS_AT_ONCE);
            let rows = scan.await?;
            if rows.is_empty() {
                return Ok(());
            }
            let mut batch = Batch::new();
            for (key, _) in rows {
                batch.delete(RowKey::new(Space::Report, key));
            }
            let committed = self.engine.commit(batch, Durability::Synced).await;
            committed.map_err(engine_error)?;
        }
    }

    /// The failure reports about one message (RFC 6591): none unless its author's domain asks for them and fewer than
    /// a few dozen went there in the last hour. `header` is that of the message. Never about mail without a sender.
    pub async fn failure(
        &self,
        verdict: &Verdict,
        applied: DmarcPolicy,
        header: &[u8],
        trust: &Trust,
        reporter: &Reporter,
    ) -> Vec<ReportMessage> {
        let Some(record) = verdict.dmarc.record.as_deref() else {
            return Vec::new();
        };
        if !failure::is_wanted(verdict, record) {
            return Vec::new();
        }
        if !self.limits.lock().take(&record.domain, verdict.at) {
            counter!("nightmail_dmarc_failure_reports_limited_total").increment(1);
            return Vec::new();
        }
        let uris = trust
            .report_destinations(&record.domain, &record.failure)
            .await;
        let messages = uris.into_iter().map(|uri| ReportMessage {
            message: failure::message(verdict, applied, header, reporter, &uri.address),
            to: uri.address,
        });
        messages.collect()
    }
}

fn corrupt(error: RowError) -> EngineError {
    EngineError::Corrupt(format!("a row of reports: {error}"))
}

fn engine_error(error: CommitError) -> EngineError {
    match error {
        CommitError::Engine(error) => error,
        other => EngineError::Unavailable(other.to_string()),
    }
}
