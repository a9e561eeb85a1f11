//! A connection as the engine uses it: with its settings, its lane and its prepared statements.
//!
//! A *lane* is a row that belongs to one connection. Each batch moves its number on by one, in the batch's own
//! transaction, so that whoever asks later can tell whether that batch was committed.

use std::fmt::Write;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;

use futures_util::future::{MaybeDone, maybe_done};
use tokio::time::timeout;
use tokio_postgres::types::ToSql;
use tokio_postgres::{RowStream, Statement};

use crate::connect::{Link, PostgresOptions, connect};
use crate::fault::Fault;
use crate::sql::{Query, Statements, settings};

/// The name of a lane: random, so that no node gives it to another connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Lane(pub(crate) [u8; 16]);

impl Lane {
    fn new() -> Result<Self, Fault> {
        let mut name = [0; 16];
        getrandom::fill(&mut name).map_err(|error| Fault::Refused(error.to_string()))?;
        Ok(Self(name))
    }

    /// The name as a literal of SQL.
    pub(crate) fn literal(&self) -> String {
        let mut text = String::from("'\\x");
        for byte in self.0 {
            // Writing to a String does not fail.
            let _ = write!(text, "{byte:02x}");
        }
        text.push_str("'::bytea");
        text
    }
}

/// Counts the times that an answer of the server was waited for.
#[derive(Default, Debug)]
pub(crate) struct RoundTrips(AtomicU64);

impl RoundTrips {
    pub(crate) fn count(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
        metrics::counter!("nightmail_postgres_round_trips_total").increment(1);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A connection with a lane.
pub(crate) struct Session {
    pub(crate) link: Link,
    pub(crate) lane: Lane,
    /// The number of the lane's last batch.
    pub(crate) seq: i64,
    /// Which outage this session was opened after: an older one may lead to a server that is no more.
    pub(crate) epoch: u64,
    statements: Statements,
    round_trips: Arc<RoundTrips>,
}

impl Session {
    /// Connects, makes the settings and a lane of its own.
    ///
    /// The lane's row is not waited for: a crash that takes it takes every batch that moved it on too.
    pub(crate) async fn open(
        options: &PostgresOptions,
        round_trips: &Arc<RoundTrips>,
        epoch: u64,
    ) -> Result<Self, Fault> {
        let link = connect(options).await?;
        let lane = Lane::new()?;
        let setup = format!(
            "SET synchronous_commit = off; {}; \
             INSERT INTO nm_lane (id, seq, at) VALUES ({}, 0, now())",
            settings(),
            lane.literal()
        );
        round_trips.count();
        let setups = [setup.as_str(), "SET synchronous_commit = on"];
        let setting_up = in_order(setups.map(|text| link.client.batch_execute(text)));
        let silent = |_| Fault::Lost("PostgreSQL does not answer in time".to_owned());
        let done = timeout(options.acquire_timeout, setting_up).await;
        for done in done.map_err(silent)? {
            done?;
        }
        metrics::gauge!("nightmail_postgres_connections").increment(1.0);
        Ok(Self {
            link,
            lane,
            seq: 0,
            epoch,
            statements: Statements::default(),
            round_trips: Arc::clone(round_trips),
        })
    }

    /// Whether the connection is known to have ended.
    pub(crate) fn is_closed(&self) -> bool {
        self.link.client.is_closed()
    }

    /// The prepared statements for `queries`. Those that are missing are prepared in one round trip.
    pub(crate) async fn prepare(&mut self, queries: &[Query]) -> Result<Vec<Statement>, Fault> {
        let mut missing = queries.to_vec();
        missing.retain(|query| self.statements.find(*query).is_none());
        if !missing.is_empty() {
            self.round_trips.count();
            let texts: Vec<_> = missing.iter().map(|query| query.text()).collect();
            let preparing = texts
                .iter()
                .map(|(text, types)| self.link.client.prepare_typed(text, types));
            for (query, statement) in missing.iter().zip(in_order(preparing).await) {
                self.statements.keep(*query, statement?);
            }
        }
        let unprepared = || Fault::Lost("a statement was not prepared".to_owned());
        queries
            .iter()
            .map(|query| self.statements.find(*query).ok_or_else(unprepared))
            .collect()
    }

    async fn prepare_one(&mut self, query: Query) -> Result<Statement, Fault> {
        let statement = self.prepare(&[query]).await?.pop();
        statement.ok_or_else(|| Fault::Lost("a statement was not prepared".to_owned()))
    }

    /// Asks `query`; the rows come as they are read.
    pub(crate) async fn query(
        &mut self,
        query: Query,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<RowStream, Fault> {
        let statement = self.prepare_one(query).await?;
        self.round_trips.count();
        let parameters = parameters.iter().copied();
        Ok(self.link.client.query_raw(&statement, parameters).await?)
    }

    /// Carries `query` out and says how many rows it changed.
    pub(crate) async fn execute(
        &mut self,
        query: Query,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<u64, Fault> {
        let statement = self.prepare_one(query).await?;
        self.round_trips.count();
        Ok(self.link.client.execute(&statement, parameters).await?)
    }

    /// Counts a round trip that is made around the methods above.
    pub(crate) fn count_round_trip(&self) {
        self.round_trips.count();
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        metrics::gauge!("nightmail_postgres_connections").decrement(1.0);
    }
}

/// Sends requests in their order, all before the first answer is waited for.
///
/// A request is sent when its future is polled for the first time; answers come in the order of the requests.
pub(crate) async fn in_order<F: Future>(requests: impl IntoIterator<Item = F>) -> Vec<F::Output> {
    let mut requests: Vec<Pin<Box<MaybeDone<F>>>> = requests
        .into_iter()
        .map(|request| Box::pin(maybe_done(request)))
        .collect();
    poll_fn(|context| {
        for request in &mut requests {
            let _ = request.as_mut().poll(context);
        }
        Poll::Ready(())
    })
    .await;
    let mut answers = Vec::with_capacity(requests.len());
    for mut request in requests {
        request.as_mut().await;
        answers.extend(request.as_mut().take_output());
    }
    answers
}

#[cfg(test)]
mod tests {
    use nightmail_engine::{Batch, RowKey, Space, Value};
    use nightmail_testbed::postgres::Postgres;

    use super::*;
    use crate::connect::PostgresTls;
    use crate::plan::Plan;
    use crate::schema;

    /// Were a `BEGIN` to fail, each statement after it would be a transaction of its own.
    #[tokio::test]
    async fn statements_of_a_batch_do_nothing_outside_its_transaction() {
        let Some(server) = Postgres::start() else {
            return;
        };
        let config = server.url().parse().unwrap();
        let options = PostgresOptions::new(config, PostgresTls::None);
        schema::init(&options).await.unwrap();
        server.psql("INSERT INTO nm_meta VALUES ('a', '1'), ('b', '1'), ('c', '1'), ('d', '1')");
        let mut session = Session::open(&options, &Arc::default(), 0).await.unwrap();
        let row = |name: &str| RowKey::new(Space::Meta, name);
        let one = Some(Value::from_static(b"1"));
        let mut batch = Batch::new();
        batch.check(row("a"), one.clone()).put(row("a"), "2");
        batch.check(row("b"), one.clone()).delete(row("b"));
        batch.put(row("c"), "2").delete(row("d"));
        batch.check(row("e"), None).put(row("e"), "2");
        batch.put(row("f"), "2").check(row("g"), None);
        let plan = Plan::new(&batch).unwrap();
        for (query, parameters) in plan.steps() {
            // Some fail, as they find no row; what counts is that none is changed.
            let _ = session.execute(query, &parameters).await;
        }
        let lane = session.lane.0;
        let moved = session.execute(Query::Lane, &[&&lane[..], &1i64]).await;
        assert!(matches!(moved, Err(Fault::Unmet(_))), "{moved:?}");
        let rows = "SELECT string_agg(encode(k || v, 'escape'), ' ' ORDER BY k) FROM nm_meta";
        assert_eq!(server.psql(rows), "a1 b1 c1 d1");
    }

    #[tokio::test]
    async fn requests_are_sent_in_order_before_the_first_answer() {
        let sent = std::cell::RefCell::new(Vec::new());
        let request = |number: usize| {
            let sent = &sent;
            async move {
                sent.borrow_mut().push(number);
                tokio::task::yield_now().await;
                sent.borrow().len()
            }
        };
        assert_eq!(in_order((0..100).map(request)).await, [100; 100]);
        assert_eq!(sent.into_inner(), (0..100).collect::<Vec<_>>());
    }
}
