//! What is done by the clock: policies are fetched again before they end, and forgotten when they have.
//!
//! RFC 8461 §3.3 wants it, so that whoever can keep a look-up from being answered cannot wait for the end of a policy.

use futures_util::{StreamExt, stream};
use nightmail_core::{Domain, Timestamp};
use nightmail_engine::{EngineError, KeyRange, Order, Space, Value};
use tracing::warn;

use super::row::{self, PolicyRow};
use super::{DAY_MILLIS, Shared, TlsPolicies};
use crate::policy::Mode;

/// Between two rounds.
const ROUND_MILLIS: i64 = 10 * 60 * 1000;
/// Between two attempts to fetch the same policy.
const RETRY_MILLIS: i64 = 60 * 60 * 1000;
/// A policy that mail has not asked for so long is left to end.
const UNUSED_MILLIS: i64 = 30 * DAY_MILLIS;
/// Rows in one read.
const ROWS_AT_ONCE: usize = 256;
/// Policies fetched at the same time.
const FETCHES_MAX: usize = 8;

/// What a round has done.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Refreshed {
    /// Policies fetched again.
    pub fetched: usize,
    /// Policies that could not be fetched.
    pub failed: usize,
    /// Policies forgotten.
    pub removed: usize,
}

/// What is to be done about a row.
enum Due {
    Nothing,
    Fetch,
    Remove,
}

fn due(row: &PolicyRow, now: Timestamp) -> Due {
    if row.expires() <= now {
        return Due::Remove;
    }
    let lifetime = row.expires().millis().saturating_sub(row.fetched.millis());
    let old = row.fetched.plus_millis(DAY_MILLIS.min(lifetime / 2)) <= now;
    let rested = row.failed.plus_millis(RETRY_MILLIS) <= now;
    let wanted = now < row.used.plus_millis(UNUSED_MILLIS) && row.policy.mode != Mode::None;
    match old && rested && wanted {
        true => Due::Fetch,
        false => Due::Nothing,
    }
}

impl TlsPolicies {
    /// Fetches policies again that are a day old, or half through their life, and removes those that have ended. To be
    /// called now and then, by one node at a time; does nothing more often than every ten minutes.
    pub async fn refresh(&self, now: Timestamp) -> Result<Refreshed, EngineError> {
        {
            let mut refreshed = self.0.refreshed.lock();
            if refreshed.is_some_and(|last| now < last.plus_millis(ROUND_MILLIS)) {
                return Ok(Refreshed::default());
            }
            *refreshed = Some(now);
        }
        let mut done = Refreshed::default();
        let mut range = KeyRange::prefix(row::PREFIX);
        loop {
            let scan =
                self.0
                    .engine
                    .scan(Space::Site, range.clone(), Order::Ascending, ROWS_AT_ONCE);
            let rows = scan.await?;
            let Some((last, _)) = rows.last() else {
                return Ok(done);
            };
            range = range.beyond(last, Order::Ascending);
            let results = stream::iter(rows)
                .map(|(key, value)| self.0.tend(PolicyRow::domain(&key), value, now))
                .buffer_unordered(FETCHES_MAX);
            let results: Vec<Refreshed> = results.collect().await;
            for one in results {
                done.fetched += one.fetched;
                done.failed += one.failed;
                done.removed += one.removed;
            }
        }
    }
}

impl Shared {
    async fn tend(&self, domain: Option<Domain>, value: Value, now: Timestamp) -> Refreshed {
        let mut done = Refreshed::default();
        let (Some(domain), Ok(row)) = (domain, PolicyRow::decode(&value)) else {
            return done;
        };
        match due(&row, now) {
            Due::Nothing => {}
            Due::Remove => {
                self.replace(&domain, &value, None).await;
                done.removed = 1;
            }
            Due::Fetch => {
                let (row, fetched) = Box::pin(self.renewed(&domain, row, now)).await;
                self.replace(&domain, &value, Some(&row)).await;
                done.fetched = usize::from(fetched);
                done.failed = usize::from(!fetched);
            }
        }
        done
    }

    /// The row with the policy fetched again, or with the failure noted.
    async fn renewed(
        &self,
        domain: &Domain,
        mut row: PolicyRow,
        now: Timestamp,
    ) -> (PolicyRow, bool) {
        // The policy counts by itself; without an announcement it goes on under the id it had.
        let id = self.announced(domain).await;
        let id = id.unwrap_or_else(|| row.policy.id.clone());
        match self.fetch(domain, &id).await {
            Ok(policy) => {
                row.policy = policy;
                row.fetched = now;
                row.failed = Timestamp::default();
                (row, true)
            }
            Err(error) => {
                warn!(%domain, %error, "an MTA-STS policy in use cannot be fetched again");
                row.failed = now;
                (row, false)
            }
        }
    }
}
