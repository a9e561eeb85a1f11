//! The channel as a whole: what its parts share, the loop that hands out work, and its end.

use std::sync::Arc;
use std::time::{Duration, Instant};

use nightmail_cluster::LeaseHold;
use nightmail_commit::Subscription;
use nightmail_core::{QueueId, Timestamp};
use nightmail_queue::{Attempt, Queue, QueueError};
use nightmail_smtp::command::HelloName;
use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinHandle, JoinSet};

use crate::attempt::{Job, hello_name};
use crate::dns::Dns;
use crate::error::DeliveryError;
use crate::lanes::Lanes;
use crate::options::DeliveryOptions;
use crate::random::Random;
use crate::report::Reports;
use crate::retry::{AttemptResult, Ended};
use crate::tls::Tls;

/// Changes that come in quick succession are looked at together.
const GATHER: Duration = Duration::from_millis(2);
/// How often the queue is counted, at most. It wakes for a full look this long after a change (see `nightmail_queue`).
const MEASURE_EVERY: Duration = Duration::from_secs(50);
/// The longest sleep, so that a step of the wall clock is noticed.
const SLEEP_MAX: Duration = Duration::from_secs(3600);

/// What the parts of the channel share.
pub(crate) struct Channel {
    pub queue: Arc<Queue>,
    pub options: DeliveryOptions,
    pub reports: Arc<dyn Reports>,
    pub dns: Arc<Dns>,
    pub tls: Tls,
    pub lanes: Arc<Lanes>,
    /// The right to a connection, wherever it goes.
    pub connections: Semaphore,
    pub random: Random,
    pub hello: HelloName,
    stopping: watch::Receiver<bool>,
}

impl Channel {
    /// Returns when the channel is to stop.
    pub async fn stopped(&self) {
        let mut stopping = self.stopping.clone();
        // An error means that the handle has gone, which is a wish to stop as well.
        let _ = stopping.wait_for(|stop| *stop).await;
    }

    pub fn is_stopping(&self) -> bool {
        // Without its handle nobody could stop the channel any more.
        *self.stopping.borrow() || self.stopping.has_changed().is_err()
    }

    /// Hands out what is due until the channel stops; sleeps until the next due time or change.
    async fn run(self: Arc<Self>, mut workers: JoinSet<()>) -> JoinSet<()> {
        let mut changes = self.queue.subscribe();
        let mut leases = self.queue.leases().changes();
        let mut measured = None;
        // Everything that was queued before this started is found by the first look.
        self.queue.note_change(nightmail_commit::now());
        while !self.is_stopping() {
            while workers.try_join_next().is_some() {}
            changes.mark_seen();
            let free = self
                .options
                .limits
                .messages_max
                .max(1)
                .saturating_sub(workers.len());
            let pause = match self.hand_out(free, &mut workers).await {
                Ok(pause) => pause,
                Err(error) => {
                    tracing::error!(%error, "the queue could not be read; it is tried again");
                    Pause::Until(Some(
                        nightmail_commit::now()
                            .plus_millis(millis(self.options.limits.store_pause)),
                    ))
                }
            };
            metrics::gauge!("nightmail_delivery_messages_active").set(workers.len() as f64);
            metrics::gauge!("nightmail_delivery_messages_parked").set(self.lanes.parked() as f64);
            self.measure(&mut measured).await;
            tokio::select! {
                () = self.wait(pause, &changes, &mut workers) => {}
                () = leases.changed() => self.lanes.give_back_lost(),
            }
        }
        self.lanes.clear();
        workers
    }

    /// Publishes the size of the queue, now and then: counting reads all of its index.
    async fn measure(&self, measured: &mut Option<Instant>) {
        if measured.is_some_and(|at| at.elapsed() < MEASURE_EVERY) {
            return;
        }
        *measured = Some(Instant::now());
        if let Ok(stats) = self.queue.stats(nightmail_commit::now()).await {
            metrics::gauge!("nightmail_queue_messages").set(stats.messages as f64);
            metrics::gauge!("nightmail_queue_messages_due").set(stats.due as f64);
        }
    }

    async fn hand_out(
        self: &Arc<Self>,
        free: usize,
        workers: &mut JoinSet<()>,
    ) -> Result<Pause, DeliveryError> {
        if free == 0 {
            return Ok(Pause::UntilFree);
        }
        let unparked = self.lanes.unpark(free);
        let free = free - unparked.len();
        for claim in unparked {
            workers.spawn(Arc::clone(self).work(claim));
        }
        let work = self.queue.claim_due(nightmail_commit::now(), free).await?;
        for claim in work.claims {
            workers.spawn(Arc::clone(self).work(claim));
        }
        Ok(if work.more {
            Pause::UntilFree
        } else {
            Pause::Until(work.look_again)
        })
    }

    async fn wait(&self, pause: Pause, changes: &Subscription, workers: &mut JoinSet<()>) {
        match pause {
            Pause::UntilFree => {
                tokio::select! {
                    _ = workers.join_next() => {}
                    () = self.stopped() => {}
                }
            }
            Pause::Until(at) => {
                tokio::select! {
                    () = changes.changed() => {
                        self.queue.note_change(nightmail_commit::now());
                        tokio::time::sleep(GATHER).await;
                    }
                    () = self.lanes.has_room() => {}
                    () = tokio::time::sleep(until(at)) => {}
                    () = self.stopped() => {}
                }
            }
        }
    }
}

/// What the loop waits for.
enum Pause {
    /// A worker that ends.
    UntilFree,
    /// A time or a change.
    Until(Option<Timestamp>),
}

fn until(at: Option<Timestamp>) -> Duration {
    let Some(at) = at else { return SLEEP_MAX };
    let left = at.millis().saturating_sub(nightmail_commit::now().millis());
    Duration::from_millis(u64::try_from(left).unwrap_or(0)).min(SLEEP_MAX)
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// The outbound SMTP channel of a node. Dropped without [`Delivery::stop`], it ends as after a crash: what was being
/// attempted is attempted again.
pub struct Delivery {
    channel: Arc<Channel>,
    stop: watch::Sender<bool>,
    runner: JoinHandle<JoinSet<()>>,
}

impl Delivery {
    /// Starts the channel on the current tokio runtime.
    ///
    /// Fails with [`DeliveryError::Setup`] when TLS cannot be set up.
    pub fn start(
        queue: Arc<Queue>,
        reports: Arc<dyn Reports>,
        options: DeliveryOptions,
    ) -> Result<Self, DeliveryError> {
        let (stop, stopping) = watch::channel(false);
        let hello = hello_name(&options.host_name).ok_or_else(|| {
            DeliveryError::Setup(format!("{} cannot be said in EHLO", options.host_name))
        })?;
        let seed = match options.seed {
            Some(seed) => seed,
            None => getrandom::u64().map_err(|error| DeliveryError::Setup(error.to_string()))?,
        };
        let limits = &options.limits;
        let channel = Arc::new(Channel {
            dns: Arc::new(Dns::new(options.dns.clone())),
            tls: Tls::new(&options)?,
            lanes: Arc::new(Lanes::new(limits)),
            connections: Semaphore::new(limits.connections_max.clamp(1, Semaphore::MAX_PERMITS)),
            random: Random::new(seed),
            hello,
            queue,
            reports,
            stopping,
            options,
        });
        let runner = tokio::spawn(Arc::clone(&channel).run(JoinSet::new()));
        Ok(Self {
            channel,
            stop,
            runner,
        })
    }

    /// Stops handing out work, waits at most `grace` for transactions under way, and breaks off the rest.
    pub async fn stop(self, grace: Duration) {
        let _ = self.stop.send(true);
        let Ok(mut workers) = self.runner.await else {
            return;
        };
        let finished = tokio::time::timeout(grace, async {
            while workers.join_next().await.is_some() {}
        })
        .await;
        if finished.is_err() {
            tracing::warn!(
                messages = workers.len(),
                "deliveries under way are broken off and will be repeated"
            );
            workers.shutdown().await;
        }
    }

    /// Gives a message up on an operator's word: its pending recipients fail with `reason`, and the sender is told as
    /// their NOTIFY asks.
    ///
    /// Fails with [`QueueError::NoSuchMessage`] when it is not in the queue.
    pub async fn bounce(&self, id: QueueId, reason: &str) -> Result<(), DeliveryError> {
        let message = self
            .channel
            .queue
            .show(id)
            .await?
            .ok_or(QueueError::NoSuchMessage)?;
        let attempt = Attempt::new(nightmail_commit::now(), None, "5.0.0", None, reason);
        let result = |(index, _)| AttemptResult {
            index,
            ended: Ended::Permanent,
            attempt: attempt.clone(),
        };
        let results = message.pending().map(result).collect();
        self.channel
            .settle(
                &Job {
                    id,
                    message: Arc::new(message),
                    hold: LeaseHold::none(),
                },
                results,
            )
            .await
    }

    /// Messages being worked on, parked ones included.
    pub fn active(&self) -> usize {
        self.channel.queue.claimed()
    }
}
