//! Reports on TLS (RFC 8460): what came of sessions is counted by day, and told once a day to the domains that want to
//! hear of it.
//!
//! Rows in [`Space::Report`], under day and domain, one for each kind of session with how many there were. Counts are
//! gathered in memory first; a crash loses what was gathered last. What belongs to a domain that wants no reports is
//! dropped before it is written.
//! **Invariant:** nothing here is needed for mail to flow: what cannot be counted is dropped, and counted as dropped.

mod json;
mod result;
mod row;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use metrics::counter;
use nightmail_core::Timestamp;
use nightmail_core::codec::RowError;
use nightmail_dns::{Dns, Nothing};
use nightmail_engine::{
    Batch, CommitError, Durability, Engine, EngineError, KeyRange, Order, RowKey, Space,
};
use nightmail_trust::{ReportMessage, Reporter};
use parking_lot::Mutex;
use rustls::pki_types::CertificateDer;

use crate::https::{Https, TlsSetupError};
use crate::record::{ReportTarget, report_targets};
use json::Built;
pub use result::{PolicyType, ResultType, TlsFailure, TlsOutcome, TlsResult};
pub use row::DueTlsReport;
use row::{Count, Observation};

/// Kinds of sessions gathered before they are written; others are dropped.
const GATHERED_MAX: usize = 8192;
/// Rows in one commit, and in one read.
const ROWS_AT_ONCE: usize = 256;
/// Times a commit that another node was faster than is tried.
const TRIES_MAX: usize = 8;
/// Kinds of sessions told in one report.
const REPORT_ROWS_MAX: usize = 20_000;
/// Domains that are asked at the same time whether they want reports.
const QUESTIONS_MAX: usize = 16;
/// After the end of a day, until every node has written what it saw.
const SETTLE_MILLIS: i64 = 10 * 60 * 1000;
/// Between two attempts to hand in the same report.
const RETRY_MILLIS: i64 = 60 * 60 * 1000;
/// How long a report that cannot be handed in is tried (RFC 8460 §5.5: a day).
const GIVE_UP_MILLIS: i64 = 24 * 60 * 60 * 1000;
const DAY_MILLIS: i64 = 86_400_000;
const MEDIA_TYPE: &str = "application/tlsrpt+gzip";

/// How reports are handed in.
#[derive(Clone, Debug)]
pub struct TlsReportOptions {
    /// Authorities of web servers trusted beside the public ones.
    pub roots: Vec<CertificateDer<'static>>,
    /// The longest that handing one to a web server may take.
    pub post_timeout: Duration,
    /// How long after midnight (UTC) the reports of a day are sent. Another time at each site spares those who get them.
    pub delay: Duration,
}

impl Default for TlsReportOptions {
    fn default() -> Self {
        Self {
            roots: Vec::new(),
            post_timeout: Duration::from_secs(60),
            delay: Duration::ZERO,
        }
    }
}

/// A report, ready to be handed in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TlsReport {
    /// By mail, with a null reverse-path, signed.
    Mail(ReportMessage),
    /// To a web server, by [`TlsReports::post`].
    Post {
        /// Its `https:` URI.
        uri: String,
        /// The compressed JSON.
        body: Bytes,
    },
}

/// Counts sessions and makes reports of them. Cheap to clone; all clones count together.
#[derive(Clone)]
pub struct TlsReports(Arc<Shared>);

struct Shared {
    dns: Dns,
    engine: Arc<dyn Engine>,
    https: Https,
    delay_millis: i64,
    gathered: Mutex<Gathered>,
    /// Reports that could not be handed in, and when they are tried again.
    resting: Mutex<HashMap<DueTlsReport, Timestamp>>,
}

impl std::fmt::Debug for TlsReports {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TlsReports").finish_non_exhaustive()
    }
}

/// Sessions by encoded [`Observation`], by day and domain.
#[derive(Default)]
struct Gathered {
    days: HashMap<DueTlsReport, HashMap<Vec<u8>, u64>>,
    kinds: usize,
}

impl Gathered {
    fn add(&mut self, due: DueTlsReport, observation: Vec<u8>, sessions: u64) {
        let is_full = self.kinds >= GATHERED_MAX;
        let known = self.days.get_mut(&due);
        if let Some(count) = known.and_then(|kinds| kinds.get_mut(&observation)) {
            *count += sessions;
        } else if is_full {
            counter!("nightmail_tls_results_dropped_total").increment(sessions);
        } else {
            self.kinds += 1;
            let kinds = self.days.entry(due).or_default();
            kinds.insert(observation, sessions);
        }
    }
}

impl TlsReports {
    /// With its rows in `engine`. Fails when a root is no certificate.
    pub fn new(
        dns: Dns,
        engine: Arc<dyn Engine>,
        options: &TlsReportOptions,
    ) -> Result<Self, TlsSetupError> {
        Ok(Self(Arc::new(Shared {
            https: Https::new(dns.clone(), &options.roots, options.post_timeout)?,
            dns,
            engine,
            delay_millis: i64::try_from(options.delay.as_millis()).unwrap_or(i64::MAX),
            gathered: Mutex::default(),
            resting: Mutex::default(),
        })))
    }

    /// Counts one session. Never waits; what does not fit is dropped.
    pub fn record(&self, result: &TlsResult) {
        self.record_at(result, nightmail_commit::now());
    }

    /// The same for a session at a given time.
    pub fn record_at(&self, result: &TlsResult, at: Timestamp) {
        let Ok(day) = u32::try_from(at.days()) else {
            return;
        };
        let due = DueTlsReport {
            day,
            domain: result.domain.as_str().to_owned(),
        };
        let observation = Observation::new(result).encode();
        self.0.gathered.lock().add(due, observation, 1);
    }

    /// Writes what is gathered, with [`Durability::Soon`], but for domains that want no reports. What cannot be written
    /// now is kept.
    pub async fn flush(&self) -> Result<(), EngineError> {
        let gathered = std::mem::take(&mut *self.0.gathered.lock());
        let wanted = stream::iter(gathered.days).map(|(due, kinds)| async move {
            let wanted = self.0.targets(&due.domain).await;
            // Where that cannot be found out now it is asked again before the report.
            (wanted != Ok(Vec::new())).then_some((due, kinds))
        });
        let wanted: Vec<_> = wanted.buffer_unordered(QUESTIONS_MAX).collect().await;
        let counts = wanted.into_iter().flatten().flat_map(|(due, kinds)| {
            let count = move |(observation, sessions)| (due.clone(), observation, sessions);
            kinds.into_iter().map(count)
        });
        let mut counts: Vec<(DueTlsReport, Vec<u8>, u64)> = counts.collect();
        while !counts.is_empty() {
            let some = counts.split_off(counts.len().saturating_sub(ROWS_AT_ONCE));
            if let Err(error) = self.0.add(&some).await {
                let mut gathered = self.0.gathered.lock();
                for (due, observation, sessions) in counts.into_iter().chain(some) {
                    gathered.add(due, observation, sessions);
                }
                return Err(error);
            }
        }
        Ok(())
    }

    /// The days and domains that are over and not done, the oldest first, at most `limit`; without those that could not
    /// be handed in a short while ago.
    pub async fn due(
        &self,
        now: Timestamp,
        limit: usize,
    ) -> Result<Vec<DueTlsReport>, EngineError> {
        let today = now.plus_millis(-SETTLE_MILLIS - self.0.delay_millis).days();
        let mut range = DueTlsReport::before(u32::try_from(today).unwrap_or(0));
        let mut found = Vec::new();
        while found.len() < limit {
            let rows = self
                .0
                .engine
                .scan(Space::Report, range.clone(), Order::Ascending, 1);
            let Some((key, _)) = rows.await?.into_iter().next() else {
                break;
            };
            let due = DueTlsReport::of_key(&key);
            let due = due.ok_or_else(|| corrupt(RowError::Invalid("key")))?;
            range.from = KeyRange::prefix(&due.prefix()).to.unwrap_or_default();
            let resting = self.0.resting.lock().get(&due).copied();
            if resting.is_none_or(|until| until <= now) {
                found.push(due);
            }
        }
        Ok(found)
    }

    /// The reports about one day of one domain: one for each place that wants it, none where nobody does. `None` while
    /// that cannot be found out.
    pub async fn build(
        &self,
        due: &DueTlsReport,
        reporter: &Reporter,
        now: Timestamp,
    ) -> Result<Option<Vec<TlsReport>>, EngineError> {
        let Ok(targets) = self.0.targets(&due.domain).await else {
            return Ok(None);
        };
        if targets.is_empty() {
            return Ok(Some(Vec::new()));
        }
        let counts = self.0.counts(due).await?;
        let built = Built::new(due, &counts, reporter);
        let reports = targets.into_iter().map(|target| match target {
            ReportTarget::Mail(to) => TlsReport::Mail(ReportMessage {
                message: built.message(&to, reporter, now),
                to,
            }),
            ReportTarget::Https(uri) => TlsReport::Post {
                uri,
                body: Bytes::copy_from_slice(&built.compressed),
            },
        });
        Ok(Some(reports.collect()))
    }

    /// Hands a report to a web server. The error is for people.
    pub async fn post(&self, uri: &str, body: Bytes) -> Result<(), String> {
        let posted = self.0.https.post(uri, MEDIA_TYPE, body).await;
        match posted.map_err(|error| error.to_string())? {
            200..=299 => Ok(()),
            status => Err(format!("it answers with status {status}")),
        }
    }

    /// Puts a report off that could not be handed in; whether it will be tried again. A day after it was due it is given
    /// up.
    pub fn put_off(&self, due: &DueTlsReport, now: Timestamp) -> bool {
        let ended = (i64::from(due.day) + 1).saturating_mul(DAY_MILLIS);
        let over = ended + SETTLE_MILLIS + self.0.delay_millis + GIVE_UP_MILLIS;
        if now.millis() >= over {
            return false;
        }
        let mut resting = self.0.resting.lock();
        resting.retain(|_, until| now < *until);
        if resting.len() < GATHERED_MAX {
            resting.insert(due.clone(), now.plus_millis(RETRY_MILLIS));
        }
        true
    }

    /// Forgets a day of a domain: its reports are handed in, or nobody wants them.
    pub async fn done(&self, due: &DueTlsReport) -> Result<(), EngineError> {
        let range = KeyRange::prefix(&due.prefix());
        loop {
            let scan =
                self.0
                    .engine
                    .scan(Space::Report, range.clone(), Order::Ascending, ROWS_AT_ONCE);
            let rows = scan.await?;
            if rows.is_empty() {
                return Ok(());
            }
            let mut batch = Batch::new();
            for (key, _) in rows {
                batch.delete(RowKey::new(Space::Report, key));
            }
            let committed = self.0.engine.commit(batch, Durability::Synced).await;
            committed.map_err(engine_error)?;
        }
    }
}

impl Shared {
    /// Where a domain wants its reports; empty where it wants none. Fails while that cannot be found out.
    async fn targets(&self, domain: &str) -> Result<Vec<ReportTarget>, Nothing> {
        match self.dns.txt(&format!("_smtp._tls.{domain}")).await {
            Ok(records) => Ok(report_targets(&records)),
            Err(failed @ Nothing::Failed(_)) => Err(failed),
            Err(Nothing::NoName | Nothing::NoRecord) => Ok(Vec::new()),
        }
    }

    /// Adds counts to their rows, all or none of them.
    async fn add(&self, counts: &[(DueTlsReport, Vec<u8>, u64)]) -> Result<(), EngineError> {
        let keys = counts
            .iter()
            .map(|(due, observation, _)| due.row(observation));
        let keys: Vec<RowKey> = keys.collect();
        for _ in 0..TRIES_MAX {
            let rows = self.engine.get_many(&keys).await?;
            let mut batch = Batch::new();
            for ((key, row), (_, observation, sessions)) in keys.iter().zip(rows).zip(counts) {
                let known = row.as_deref().map_or(Ok(0), Count::sessions);
                let sum = Count {
                    sessions: known.map_err(corrupt)?.saturating_add(*sessions),
                    observation: observation.clone(),
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

    async fn counts(&self, due: &DueTlsReport) -> Result<Vec<(u64, Observation)>, EngineError> {
        let mut range = KeyRange::prefix(&due.prefix());
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
