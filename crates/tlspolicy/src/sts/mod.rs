//! MTA-STS (RFC 8461): how domains want their hosts to be reached, found out once and kept for all nodes.
//!
//! A policy is kept in [`Space::Site`] for as long as it says, and asked for again when the domain announces another or,
//! by the clock, long before it ends. In front of the rows stands a memory. Whoever asks while a domain is being looked
//! up waits for the same answer; other domains are not held up.
//!
//! **Invariant:** a policy that holds is used whatever cannot be looked up or fetched.

mod fetch;
mod refresh;
mod row;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use nightmail_core::{Domain, Timestamp};
use nightmail_dns::Dns;
use nightmail_engine::{Batch, CommitError, Durability, Engine, Value};
use parking_lot::Mutex;
use quick_cache::sync::Cache;
use rustls::pki_types::CertificateDer;
use tokio::sync::watch;
use tracing::{info, warn};

use crate::https::{Https, TlsSetupError};
use crate::policy::{Mode, Policy};
use crate::report::{PolicyType, TlsFailure, TlsOutcome, TlsReports, TlsResult};
use fetch::FetchError;
pub use refresh::Refreshed;
use row::PolicyRow;

const DAY_MILLIS: i64 = 86_400_000;

/// How policies are looked up.
#[derive(Clone, Debug)]
pub struct TlsPolicyOptions {
    /// Authorities trusted beside the public ones.
    pub roots: Vec<CertificateDer<'static>>,
    /// The port of policy hosts: 443, but in tests.
    pub https_port: u16,
    /// The longest that fetching a policy may take (RFC 8461 §3.3 names a minute).
    pub fetch_timeout: Duration,
    /// How long an answer is used until the domain is asked again whether it has changed; also after a failure.
    pub check_every: Duration,
    /// Domains whose answers are remembered in memory.
    pub remembered_max: usize,
    /// Where it is noted that a policy could not be fetched.
    pub reports: Option<TlsReports>,
}

impl Default for TlsPolicyOptions {
    fn default() -> Self {
        Self {
            roots: Vec::new(),
            https_port: 443,
            fetch_timeout: Duration::from_secs(60),
            check_every: Duration::from_secs(300),
            remembered_max: 10_000,
            reports: None,
        }
    }
}

/// What MTA-STS says about a domain.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum StsDecision {
    /// Nothing.
    #[default]
    None,
    /// What does not meet the policy is reported, and goes there all the same.
    Testing(Arc<Policy>),
    /// Mail goes only to hosts that the policy allows, over TLS with a valid certificate.
    Enforce(Arc<Policy>),
}

impl From<Arc<Policy>> for StsDecision {
    fn from(policy: Arc<Policy>) -> Self {
        match policy.mode() {
            Mode::None => Self::None,
            Mode::Testing => Self::Testing(policy),
            Mode::Enforce => Self::Enforce(policy),
        }
    }
}

/// What other sites say about TLS towards them. Cheap to clone; all clones share one memory.
#[derive(Clone)]
pub struct TlsPolicies(Arc<Shared>);

impl std::fmt::Debug for TlsPolicies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TlsPolicies").finish_non_exhaustive()
    }
}

struct Shared {
    dns: Dns,
    engine: Arc<dyn Engine>,
    https: Https,
    options: TlsPolicyOptions,
    known: Cache<Domain, Known>,
    flights: Mutex<HashMap<Domain, Answer>>,
    refreshed: Mutex<Option<Timestamp>>,
}

/// What is remembered of a domain.
#[derive(Clone)]
struct Known {
    row: Option<Arc<Policy>>,
    /// When the policy holds no more.
    expires: Timestamp,
    /// When the domain is asked again.
    until: Timestamp,
}

/// The answer of a look-up under way, once it is there.
type Answer = watch::Receiver<Option<StsDecision>>;

/// Ends a look-up, also when it panics.
struct Flight {
    shared: Arc<Shared>,
    domain: Domain,
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.shared.flights.lock().remove(&self.domain);
    }
}

impl TlsPolicies {
    /// With its rows in `engine`. Fails when a root is no certificate.
    pub fn new(
        dns: Dns,
        engine: Arc<dyn Engine>,
        options: TlsPolicyOptions,
    ) -> Result<Self, TlsSetupError> {
        Ok(Self(Arc::new(Shared {
            https: Https::new(dns.clone(), &options.roots, options.fetch_timeout)?,
            dns,
            engine,
            known: Cache::new(options.remembered_max.max(1)),
            options,
            flights: Mutex::default(),
            refreshed: Mutex::default(),
        })))
    }

    /// What MTA-STS says about mail for `domain`. Waits for DNS and, where a policy is announced that is not kept yet,
    /// for the domain's web server; never fails: what cannot be found out is what was known before, or nothing.
    pub async fn of(&self, domain: &Domain) -> StsDecision {
        self.of_at(domain, nightmail_commit::now()).await
    }

    /// The same at a given time.
    pub async fn of_at(&self, domain: &Domain, now: Timestamp) -> StsDecision {
        if domain.as_literal().is_some() {
            return StsDecision::None;
        }
        if let Some(decision) = self.0.remembered(domain, now) {
            return decision;
        }
        let mut answer = match self.join(domain, now) {
            Ok(decision) => return decision,
            Err(answer) => answer,
        };
        // It is gone without an answer when the program ends.
        let answer = answer.wait_for(Option::is_some).await;
        answer
            .ok()
            .and_then(|answer| answer.clone())
            .unwrap_or_default()
    }

    /// Joins the look-up of a domain, which begins where there is none, unless it has just ended. It goes on when nobody
    /// waits any more.
    fn join(&self, domain: &Domain, now: Timestamp) -> Result<StsDecision, Answer> {
        let mut flights = self.0.flights.lock();
        if let Some(answer) = flights.get(domain) {
            return Err(answer.clone());
        }
        // A look-up is remembered before it is taken out of the flights.
        if let Some(decision) = self.0.remembered(domain, now) {
            return Ok(decision);
        }
        let (answering, answer) = watch::channel(None);
        flights.insert(domain.clone(), answer.clone());
        drop(flights);
        let flight = Flight {
            shared: Arc::clone(&self.0),
            domain: domain.clone(),
        };
        tokio::spawn(async move {
            let (shared, domain) = (&flight.shared, &flight.domain);
            let known = Box::pin(shared.discover(domain, now)).await;
            shared.known.insert(domain.clone(), known.clone());
            // Whoever asks from now on finds what is known, or begins anew.
            drop(flight);
            answering.send_replace(Some(known.decision()));
        });
        Err(answer)
    }
}

impl Known {
    fn decision(&self) -> StsDecision {
        let policy = self.row.clone();
        policy.map(StsDecision::from).unwrap_or_default()
    }
}

impl Shared {
    fn remembered(&self, domain: &Domain, now: Timestamp) -> Option<StsDecision> {
        let known = self.known.get(domain)?;
        (now < known.until).then(|| known.decision())
    }

    /// RFC 8461 §5.1: a policy that is kept and holds, unless the domain announces another that can be fetched.
    async fn discover(&self, domain: &Domain, now: Timestamp) -> Known {
        let kept = self.kept(domain, now).await;
        let found = match (self.announced(domain).await, kept) {
            (Some(id), Some(kept)) if kept.row.policy.id == id => {
                self.mark_used(domain, &kept, now).await;
                Some(kept.row)
            }
            (Some(id), kept) => match self.fetch(domain, &id).await {
                Ok(policy) => Some(self.keep(domain, policy, now).await),
                Err(error) => {
                    self.note(domain, &error, now);
                    kept.map(|kept| kept.row)
                }
            },
            (None, kept) => kept.map(|kept| kept.row),
        };
        let pause = i64::try_from(self.options.check_every.as_millis()).unwrap_or(i64::MAX);
        let until = now.plus_millis(pause);
        match found {
            Some(row) => Known {
                expires: row.expires(),
                // One that ends sooner than it can be asked for again holds for so long.
                until: until.min(row.expires().max(row.fetched.plus_millis(pause))),
                row: Some(Arc::new(row.policy)),
            },
            None => Known {
                row: None,
                expires: now,
                until,
            },
        }
    }

    /// The policy in the rows, if it holds. While the rows cannot be read, the one in memory.
    async fn kept(&self, domain: &Domain, now: Timestamp) -> Option<Kept> {
        let kept = match self.engine.get_many(&[PolicyRow::key(domain)]).await {
            Ok(rows) => {
                let value = rows.into_iter().next().flatten()?;
                Kept::decode(value)
            }
            Err(error) => {
                warn!(%domain, %error, "the policy that is kept of a domain cannot be read");
                let known = self.known.get(domain)?;
                let policy = Policy::clone(known.row.as_deref()?);
                Some(Kept::in_memory(policy, known.expires))
            }
        };
        kept.filter(|kept| now < kept.row.expires())
    }

    /// Keeps a policy that was just fetched. One that cannot be kept is used all the same.
    async fn keep(&self, domain: &Domain, policy: Policy, now: Timestamp) -> PolicyRow {
        let row = PolicyRow {
            policy,
            fetched: now,
            used: now,
            failed: Timestamp::default(),
        };
        let mut batch = Batch::new();
        batch.put(PolicyRow::key(domain), row.encode());
        if let Err(error) = self.engine.commit(batch, Durability::Soon).await {
            warn!(%domain, %error, "the policy of a domain cannot be kept");
        }
        info!(%domain, mode = row.policy.mode.as_str(), id = row.policy.id, "MTA-STS policy fetched");
        row
    }

    /// Notes once a day that mail goes there: what is not used any more is not fetched again by the clock.
    async fn mark_used(&self, domain: &Domain, kept: &Kept, now: Timestamp) {
        if now < kept.row.used.plus_millis(DAY_MILLIS) {
            return;
        }
        let Some(value) = &kept.value else { return };
        let row = PolicyRow {
            used: now,
            ..kept.row.clone()
        };
        self.replace(domain, value, Some(&row)).await;
    }

    /// Changes or removes a row that is still as it was read; whoever was faster is as good.
    async fn replace(&self, domain: &Domain, was: &Value, row: Option<&PolicyRow>) {
        let key = PolicyRow::key(domain);
        let mut batch = Batch::new();
        batch.check(key.clone(), Some(was.clone()));
        match row {
            Some(row) => batch.put(key, row.encode()),
            None => batch.delete(key),
        };
        match self.engine.commit(batch, Durability::Soon).await {
            Ok(()) | Err(CommitError::Conflict { .. }) => {}
            Err(error) => warn!(%domain, %error, "the policy of a domain cannot be kept"),
        }
    }

    /// Says that a policy could not be fetched, to people here and there.
    fn note(&self, domain: &Domain, error: &FetchError, now: Timestamp) {
        info!(%domain, %error, "the MTA-STS policy of a domain cannot be fetched");
        let Some(reports) = &self.options.reports else {
            return;
        };
        let result = TlsResult {
            domain: domain.clone(),
            policy: PolicyType::Sts,
            policy_strings: Vec::new(),
            mx_host: String::new(),
            outcome: TlsOutcome::Failure(TlsFailure {
                kind: error.result_type(),
                receiving_ip: None,
                receiving_helo: None,
                sending_ip: None,
                reason: error.to_string(),
            }),
        };
        reports.record_at(&result, now);
    }
}

/// A policy as it was read.
struct Kept {
    row: PolicyRow,
    /// The row's octets; `None` where they could not be read.
    value: Option<Value>,
}

impl Kept {
    fn decode(value: Value) -> Option<Self> {
        match PolicyRow::decode(&value) {
            Ok(row) => Some(Self {
                row,
                value: Some(value),
            }),
            Err(error) => {
                warn!(%error, "a policy that is kept does not read, and is fetched again");
                None
            }
        }
    }

    fn in_memory(policy: Policy, expires: Timestamp) -> Self {
        let millis = i64::try_from(policy.max_age_secs.saturating_mul(1000)).unwrap_or(i64::MAX);
        let fetched = expires.plus_millis(-millis);
        Self {
            row: PolicyRow {
                policy,
                fetched,
                used: fetched,
                failed: Timestamp::default(),
            },
            value: None,
        }
    }
}
