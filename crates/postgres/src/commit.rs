//! Committing a batch: one transaction in one round trip, and certainty about its outcome.
//!
//! The whole transaction is sent before its first answer is waited for. A statement whose condition does not hold
//! fails on the server, which then carries out none of the rest. Every transaction ends by moving its connection's
//! lane on. When the connection is lost before the answer, the lane tells what became of the batch: see
//! [`Committer::resolve`].
//!
//! **Invariant:** no outcome is guessed. A batch is run again only after the lane was moved past it, so that the
//! transaction that is perhaps still under way can no longer be committed.

use std::pin::Pin;
use std::sync::Arc;

use nightmail_engine::{Batch, CommitError, Durability, EngineError, RowKey};
use tokio::time::{sleep, timeout};
use tokio_postgres::{Error, SimpleQueryMessage, Statement};

use crate::fault::Fault;
use crate::plan::Plan;
use crate::pool::{Backoff, Lease, Pool, Slot};
use crate::read::GetMany;
use crate::session::{Lane, Session, in_order};
use crate::sql::{Query, begin};

/// How often a batch is tried whose transaction was given up for reasons that are not its own.
const ATTEMPTS_MAX: usize = 16;

/// Bytes of keys and values in a batch: a message to the server holds no more than 1 GB, and some of it is overhead.
const BATCH_BYTES_MAX: usize = 512 << 20;

/// What became of a transaction.
#[derive(Debug)]
enum Outcome {
    /// It is committed.
    Done,
    /// It is not, and the connection goes on.
    Undone(Fault),
    /// It is not, and the connection is of no more use.
    Unusable(Fault),
    /// Nobody has said; the lane has, or has not, this number.
    Unknown(Fault, i64),
}

/// One batch on its way.
pub(crate) struct Committer<'a> {
    pub(crate) pool: &'a Arc<Pool>,
    pub(crate) batch: &'a Batch,
    pub(crate) durability: Durability,
}

impl Committer<'_> {
    /// Commits the batch. Waits for as long as the server is away when the batch may have reached it.
    pub(crate) async fn run(&self) -> Result<(), CommitError> {
        self.batch.check_sizes()?;
        check_size(self.batch)?;
        let plan = match Plan::new(self.batch) {
            Ok(plan) => plan,
            Err(key) => {
                let never = Fault::Unmet("a check that cannot hold".to_owned());
                self.explain(&never).await?;
                return Err(conflict(key));
            }
        };
        let mut last = Fault::Again("nothing was tried".to_owned());
        let mut slot = None;
        for _ in 0..ATTEMPTS_MAX {
            let mut lease = match slot.take() {
                Some(lease) => lease,
                None => self.pool.acquire().await?,
            };
            match self.send(&plan, &mut lease.session).await {
                Outcome::Done => {
                    lease.release();
                    return Ok(());
                }
                Outcome::Undone(fault) => {
                    lease.release();
                    self.explain(&fault).await?;
                    last = fault;
                }
                Outcome::Unusable(fault) => {
                    self.note(&fault);
                    last = fault;
                }
                Outcome::Unknown(fault, number) => {
                    self.note(&fault);
                    let lane = lease.session.lane;
                    let (applied, lease) = self.resolve(lease.abandon(), lane, number).await?;
                    if applied {
                        lease.release();
                        return Ok(());
                    }
                    slot = Some(lease);
                    last = fault;
                }
            }
        }
        Err(self.given_up(last))
    }

    fn note(&self, fault: &Fault) {
        if matches!(fault, Fault::Lost(_)) {
            self.pool.note_lost(fault);
        }
    }

    /// Sends the transaction and hears its answers.
    async fn send(&self, plan: &Plan<'_>, session: &mut Session) -> Outcome {
        let patience = self.pool.options.statement_timeout;
        let silent = || Fault::Lost("PostgreSQL does not answer in time".to_owned());
        let mut queries: Vec<Query> = plan.steps().map(|(query, _)| query).collect();
        queries.push(Query::Lane);
        let statements = match timeout(patience, session.prepare(&queries)).await {
            Ok(Ok(statements)) => statements,
            Ok(Err(fault @ Fault::Lost(_))) => return Outcome::Unusable(fault),
            Ok(Err(fault)) => return Outcome::Undone(fault),
            Err(_) => return Outcome::Unusable(silent()),
        };
        let number = session.seq + 1;
        let warnings = session.link.warnings();
        session.count_round_trip();
        let answers = Box::pin(self.pipeline(plan, session, &statements, number));
        let Ok(answers) = timeout(patience, answers).await else {
            return Outcome::Unknown(silent(), number);
        };
        let outcome = judge(answers, number);
        if matches!(outcome, Outcome::Done) {
            session.seq = number;
            if session.link.warnings() != warnings {
                let fault = Fault::Lost("a commit was not waited for".to_owned());
                return Outcome::Unknown(fault, number);
            }
        }
        outcome
    }

    async fn pipeline(
        &self,
        plan: &Plan<'_>,
        session: &Session,
        statements: &[Statement],
        number: i64,
    ) -> Vec<Result<u64, Error>> {
        type Request<'r> = Pin<Box<dyn Future<Output = Result<u64, Error>> + Send + 'r>>;
        let client = &session.link.client;
        let words = |text: &'static str| -> Request<'_> {
            Box::pin(async move { client.batch_execute(text).await.map(|()| 0) })
        };
        let lane: &[u8] = &session.lane.0;
        let mut parameters: Vec<_> = plan.steps().map(|(_, parameters)| parameters).collect();
        parameters.push(vec![&lane, &number]);
        let mut requests = vec![words(begin(self.durability == Durability::Synced))];
        for (statement, parameters) in statements.iter().zip(&parameters) {
            requests.push(Box::pin(client.execute(statement, parameters)));
        }
        requests.push(words("COMMIT"));
        in_order(requests).await
    }

    /// Finds out, however long it takes, whether the batch that was to give `lane` this `number` was committed, and
    /// sees to it that it never will be if it was not.
    ///
    /// What is found is on stable storage, and on the standby that commits wait for, before it is acted upon.
    async fn resolve(
        &self,
        slot: Slot,
        lane: Lane,
        number: i64,
    ) -> Result<(bool, Lease), EngineError> {
        let mut pause = Backoff::default();
        loop {
            match self.look(lane, number).await {
                Ok((applied, session)) => {
                    let outcome = if applied { "applied" } else { "not_applied" };
                    metrics::counter!("nightmail_postgres_resolved_total", "outcome" => outcome)
                        .increment(1);
                    return Ok((applied, slot.lease(session)));
                }
                Err(fault) => self.pool.note_away(&fault),
            }
            tokio::select! {
                () = sleep(pause.next()) => {}
                () = self.pool.closed() => {
                    let reason = "the store was closed before the server answered".to_owned();
                    return Err(EngineError::Unavailable(reason));
                }
            }
        }
    }

    /// Looks at the lane and moves it past `number`, over a connection of its own.
    async fn look(&self, lane: Lane, number: i64) -> Result<(bool, Session), Fault> {
        let session = Box::pin(self.pool.connect()).await?;
        let name = lane.literal();
        // The row waits for a transaction that has moved the lane on and is still under way. One that has not yet
        // finds the lane past its number and fails. A lane that is past it for another reason was moved here before.
        let question = format!(
            "BEGIN; SELECT seq FROM nm_lane WHERE id = {name} FOR UPDATE; \
             UPDATE nm_lane SET seq = {number} + (seq <> {number})::int, at = now() \
             WHERE id = {name}; COMMIT"
        );
        session.count_round_trip();
        let warnings = session.link.warnings();
        let asked = session.link.client.simple_query(&question);
        let patience = self.pool.options.statement_timeout;
        let answers = timeout(patience, asked).await;
        let silent = |_| Fault::Lost("PostgreSQL does not answer in time".to_owned());
        let answers = answers.map_err(silent)??;
        if session.link.warnings() != warnings {
            return Err(Fault::Lost("a commit was not waited for".to_owned()));
        }
        // Without its row the lane was lost in a crash, and all that it said with it.
        let found = answers.iter().find_map(|answer| match answer {
            SimpleQueryMessage::Row(row) => row.get(0)?.parse::<i64>().ok(),
            _ => None,
        });
        Ok((found == Some(number), session))
    }

    /// After a transaction that was undone: what to tell the caller, or `Ok` when it is to be tried again.
    async fn explain(&self, fault: &Fault) -> Result<(), CommitError> {
        if !matches!(fault, Fault::Unmet(_) | Fault::Again(_)) {
            return Err(CommitError::Engine(fault.clone().into()));
        }
        let keys = self.batch.checks.iter().map(|check| &check.key);
        if self.batch.checks.is_empty() {
            return Ok(());
        }
        let values = self.pool.ask(&GetMany::new(keys)).await?;
        let mut checked = self.batch.checks.iter().zip(values);
        match checked.find(|(check, found)| check.expected != *found) {
            Some((check, _)) => Err(conflict(&check.key)),
            None => Ok(()),
        }
    }

    /// The checks held whenever they were looked at, and yet others always came first.
    fn given_up(&self, fault: Fault) -> CommitError {
        match (fault, self.batch.checks.first()) {
            (Fault::Unmet(_) | Fault::Again(_), Some(check)) => conflict(&check.key),
            (fault, _) => {
                tracing::warn!(error = %fault, "a batch was given up after {ATTEMPTS_MAX} tries");
                CommitError::Engine(EngineError::Unavailable(fault.to_string()))
            }
        }
    }
}

fn conflict(key: &RowKey) -> CommitError {
    CommitError::Conflict { key: key.clone() }
}

fn check_size(batch: &Batch) -> Result<(), EngineError> {
    let of_check = |check: &nightmail_engine::Check| {
        check.key.key.len() + check.expected.as_ref().map_or(0, |value| value.len())
    };
    let checks: usize = batch.checks.iter().map(of_check).sum();
    let bytes = checks + usize::try_from(batch.write_bytes()).unwrap_or(usize::MAX);
    if bytes <= BATCH_BYTES_MAX {
        return Ok(());
    }
    Err(EngineError::TooLarge {
        what: "a batch",
        bytes,
        limit: BATCH_BYTES_MAX,
    })
}

/// What the answers to `BEGIN`, the steps, the lane and `COMMIT` say. The first that is an error decides: the server
/// refuses what follows it until the transaction ends, and ends it undone.
fn judge(answers: Vec<Result<u64, Error>>, number: i64) -> Outcome {
    let (lane, commit) = (answers.len().wrapping_sub(2), answers.len().wrapping_sub(1));
    let failed = answers
        .into_iter()
        .enumerate()
        .find_map(|(index, answer)| Some((index, Fault::from(answer.err()?))));
    match failed {
        None => Outcome::Done,
        Some((_, fault @ Fault::Lost(_))) => Outcome::Unknown(fault, number),
        // The lane is gone, or somebody else's.
        Some((index, Fault::Unmet(text))) if index == lane => Outcome::Unusable(Fault::Again(text)),
        Some((index, fault @ Fault::Refused(_))) if index == commit => {
            Outcome::Unknown(fault, number)
        }
        Some((_, fault)) => Outcome::Undone(fault),
    }
}
