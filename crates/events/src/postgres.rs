//! Messages by LISTEN and NOTIFY of PostgreSQL.
//!
//! One connection of its own, beside those of the engine: NOTIFY takes a lock of the whole database when it commits,
//! which no commit of mail shall wait for. Payloads are base64, because they are text. What is sent while there is no
//! connection is refused; what is notified meanwhile is lost, and the bridge is told of the gap.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use nightmail_postgres::{Link, PostgresOptions, connect};
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;
use tokio::time::timeout;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Notification};

use crate::bus::{Bus, BusError, Connectivity, Inlet, Received};
use crate::channel::Channel;

/// Messages that wait to be sent; the bridge sends one after the other.
const WAITING_MAX: usize = 16;
/// How long the connection may be quiet before it is asked for a sign of life.
const QUIET_MAX: Duration = Duration::from_secs(3);
/// How long an answer may take before the connection counts as lost. With [`QUIET_MAX`] a silent loss is noticed
/// within 8 s.
const ANSWER_MAX: Duration = Duration::from_secs(5);
/// How long connecting may take in all.
const CONNECT_MAX: Duration = Duration::from_secs(10);
/// Between two attempts to connect: this at first, doubled up to the other.
const BACKOFF_FIRST: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(5);

/// A bus over PostgreSQL. Ends when it is dropped.
pub struct PostgresBus {
    inlet: Arc<Inlet>,
    jobs: mpsc::Sender<Job>,
    lane: AbortHandle,
}

impl PostgresBus {
    /// Starts on the current tokio runtime and connects when it can, again and again.
    pub fn start(options: PostgresOptions, channel: Channel) -> Self {
        let inlet = Arc::new(Inlet::new());
        let (jobs, waiting) = mpsc::channel(WAITING_MAX);
        let lane = Lane {
            options,
            channel,
            inlet: Arc::clone(&inlet),
        };
        Self {
            inlet,
            jobs,
            lane: tokio::spawn(lane.run(waiting)).abort_handle(),
        }
    }
}

impl Drop for PostgresBus {
    fn drop(&mut self) {
        self.lane.abort();
    }
}

impl Bus for PostgresBus {
    fn send(&self, message: Bytes) -> BoxFuture<'_, Result<(), BusError>> {
        Box::pin(async move {
            let (answer, answered) = oneshot::channel();
            let job = Job {
                payload: STANDARD_NO_PAD.encode(&message),
                answer,
            };
            self.jobs.send(job).await.map_err(|_| BusError::Away)?;
            answered.await.unwrap_or(Err(BusError::Away))
        })
    }

    fn incoming(&self) -> mpsc::Receiver<Received> {
        self.inlet.open()
    }

    fn connectivity(&self) -> Connectivity {
        self.inlet.connectivity()
    }
}

struct Job {
    payload: String,
    answer: oneshot::Sender<Result<(), BusError>>,
}

impl Job {
    fn answer(self, outcome: Result<(), BusError>) {
        // The bridge may have ended meanwhile.
        let _ = self.answer.send(outcome);
    }
}

struct Lane {
    options: PostgresOptions,
    channel: Channel,
    inlet: Arc<Inlet>,
}

impl Lane {
    async fn run(self, mut jobs: mpsc::Receiver<Job>) {
        let mut backoff = BACKOFF_FIRST;
        loop {
            match refuse_during(&mut jobs, self.open()).await {
                Ok(mut link) => {
                    backoff = BACKOFF_FIRST;
                    tracing::info!("events go over PostgreSQL");
                    self.inlet.connected();
                    let error = self.serve(&mut link, &mut jobs).await;
                    self.inlet.disconnected();
                    tracing::warn!(%error, "the connection for events is lost");
                }
                Err(error) => tracing::warn!(%error, "no connection for events"),
            }
            refuse_during(&mut jobs, tokio::time::sleep(backoff)).await;
            backoff = (backoff * 2).min(BACKOFF_MAX);
        }
    }

    async fn open(&self) -> Result<Link, BusError> {
        let opening = async {
            let link = connect(&self.options).await.map_err(failed)?;
            // A hint need not be on the disk, and a name with dots needs its quotes.
            let channel = self.channel.as_str();
            let setup = format!("SET synchronous_commit = off; LISTEN \"{channel}\"");
            link.client.batch_execute(&setup).await.map_err(failed)?;
            Ok(link)
        };
        timeout(CONNECT_MAX, Box::pin(opening))
            .await
            .unwrap_or_else(|late| Err(failed(late)))
    }

    /// Sends and receives until the connection fails, and says how.
    async fn serve(&self, link: &mut Link, jobs: &mut mpsc::Receiver<Job>) -> BusError {
        let Link {
            client,
            notifications,
            ..
        } = link;
        tokio::select! {
            error = self.receive(notifications) => error,
            error = self.send(client, jobs) => error,
        }
    }

    async fn receive(&self, notifications: &mut mpsc::UnboundedReceiver<Notification>) -> BusError {
        while let Some(notification) = notifications.recv().await {
            // Who writes something else into the channel is not of the cluster; the bridge cannot read it either.
            let bytes = STANDARD_NO_PAD
                .decode(notification.payload())
                .unwrap_or_default();
            self.inlet.deliver(Received::Message(bytes.into()));
        }
        BusError::Failed("the server closed the connection".into())
    }

    async fn send(&self, client: &Client, jobs: &mut mpsc::Receiver<Job>) -> BusError {
        loop {
            let outcome = match timeout(QUIET_MAX, jobs.recv()).await {
                Ok(Some(job)) => {
                    let outcome = self.notify(client, &job.payload).await;
                    job.answer(outcome.clone());
                    outcome
                }
                Ok(None) => return BusError::Away,
                Err(_) => in_time(client.check_connection()).await,
            };
            if let Err(error) = outcome {
                return error;
            }
        }
    }

    async fn notify(&self, client: &Client, payload: &str) -> Result<(), BusError> {
        let channel = self.channel.as_str();
        let texts: [(&(dyn ToSql + Sync), Type); 2] =
            [(&channel, Type::TEXT), (&payload, Type::TEXT)];
        let statement = client.execute_typed("SELECT pg_notify($1, $2)", &texts);
        in_time(statement).await.map(drop)
    }
}

/// Waits for `work`; what is to be sent meanwhile is refused.
async fn refuse_during<T>(jobs: &mut mpsc::Receiver<Job>, work: impl Future<Output = T>) -> T {
    tokio::pin!(work);
    loop {
        tokio::select! {
            done = &mut work => return done,
            Some(job) = jobs.recv() => job.answer(Err(BusError::Away)),
        }
    }
}

async fn in_time<T>(
    statement: impl Future<Output = Result<T, tokio_postgres::Error>>,
) -> Result<T, BusError> {
    match timeout(ANSWER_MAX, statement).await {
        Ok(answer) => answer.map_err(failed),
        Err(late) => Err(failed(late)),
    }
}

/// With the causes: the driver's own text leaves them out.
fn failed(error: impl std::error::Error) -> BusError {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        text.push_str(": ");
        text.push_str(&next.to_string());
        cause = next.source();
    }
    BusError::Failed(text)
}
