//! A worker: takes messages for one site, one batch after the other, and sends them over one connection while there is
//! mail, up to the bounds of the site's settings.
//!
//! The connection is made when the first message is to be sent. What is not to be sent now, because the site cannot be
//! reached, its schedule is closed or it waits to be asked, is put off without one, many messages at a time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use nightmail_pace::Via;
use tokio::sync::mpsc;

use crate::attempt::{Attempted, Wanted};
use crate::channel::{Call, Channel};
use crate::connection::Connection;
use crate::pickup::Task;
use crate::route::Route;
use crate::settle::Settlement;
use crate::site::Site;

/// Whoever works for a site.
pub(crate) struct Worker {
    pub channel: Arc<Channel>,
    pub site: Arc<Site>,
    settled: mpsc::Sender<Settlement>,
    connection: Option<Connection>,
    /// Messages to be taken at once: more where they go quickly, so that a slow host keeps none from another connection.
    pub batch: usize,
}

/// A message that takes no longer than this goes quickly.
const QUICK: Duration = Duration::from_millis(20);

impl Drop for Worker {
    fn drop(&mut self) {
        self.site.leave();
        // There may be work that came in meanwhile, when this one still counted as at work.
        self.channel.call(Call::Staff(Arc::clone(&self.site)));
    }
}

impl Worker {
    /// Whoever has been hired by [`Site::staff`].
    pub fn new(channel: Arc<Channel>, site: Arc<Site>, settled: mpsc::Sender<Settlement>) -> Self {
        Self {
            channel,
            site,
            settled,
            connection: None,
            batch: 1,
        }
    }

    /// Works until there is nothing to do.
    pub async fn run(mut self) {
        'work: while self.may_go_on() {
            let mut tasks = self.take().await;
            if tasks.is_empty() {
                if self.rest().await {
                    continue;
                }
                break;
            }
            let (begun, count) = (Instant::now(), tasks.len());
            while let Some(task) = tasks.pop_front() {
                if self.channel.is_stopping() || !Box::pin(self.carry_out(task)).await {
                    break 'work;
                }
            }
            self.learn(begun.elapsed(), count);
        }
        if let Some(connection) = self.connection.take() {
            Box::pin(connection.close()).await;
        }
    }

    /// So many messages have taken so long.
    fn learn(&mut self, time: Duration, count: usize) {
        let each = time / u32::try_from(count.max(1)).unwrap_or(u32::MAX);
        let max = self.channel.options.limits.batch_max.max(1);
        self.batch = match each <= QUICK {
            true => self.batch.saturating_mul(2).min(max),
            false => 1,
        };
    }

    fn may_go_on(&self) -> bool {
        let is_slowed = self.connection.is_none() && self.site.slowed().is_some();
        !self.channel.is_stopping() && !is_slowed && !self.site.has_too_many()
    }

    /// Waits for mail over an open connection. Returns whether there may be some.
    async fn rest(&mut self) -> bool {
        let (channel, site) = (Arc::clone(&self.channel), Arc::clone(&self.site));
        let idle = channel.gates.share_of(site.settings.idle);
        let Some(connection) = &mut self.connection else {
            return false;
        };
        if idle.is_zero() || !connection.is_open() {
            return false;
        }
        let _resting = Resting::begin(&site);
        // What came in before this one was known to rest woke nobody.
        if site.has_work() {
            return true;
        }
        tokio::select! {
            woken = connection.rest(idle, site.news.notified()) => woken,
            () = channel.stopped() => false,
        }
    }

    /// What was decided, to be recorded.
    async fn settle(&self, task: Task) {
        if task.results.is_empty() {
            return;
        }
        let settlement = Settlement {
            job: task.job,
            taken: task.taken,
            results: task.results,
            settings: Arc::clone(&self.site.settings),
        };
        // The channel goes only when nobody is left to record: as after a crash, it is tried again.
        let _ = self.settled.send(settlement).await;
    }

    /// Sends one message. Returns whether to go on.
    async fn carry_out(&mut self, mut task: Task) -> bool {
        if !task.job.hold.is_current() {
            return true;
        }
        self.check_rates(&mut task);
        if task.send.is_empty() {
            self.settle(task).await;
            return true;
        }
        if self.site.dead_for(&task.job.message).is_some() {
            // It died while this message waited for its turn.
            task.put_off_by_death(&self.site);
            self.settle(task).await;
            return true;
        }
        if let Err(wait) = self.channel.site_turn(&self.site) {
            self.site.wait(wait);
            return false;
        }
        self.channel.take_along(&self.site, &mut task).await;
        let send = std::mem::take(&mut task.send);
        let attempted = self.attempt(&task.job, task.content.as_deref(), send);
        let attempted = Box::pin(attempted).await;
        metrics::counter!("nightmail_delivery_attempts_total").increment(1);
        self.conclude(task, attempted).await
    }

    async fn conclude(&mut self, mut task: Task, attempted: Attempted) -> bool {
        let Attempted {
            results,
            undecided,
            reached,
        } = attempted;
        task.results.extend(results);
        if reached {
            self.site.succeeded();
        }
        let mut goes_on = true;
        if !reached && !undecided.indexes.is_empty() {
            let (trouble, host) = undecided.reason();
            if !trouble.permanent && self.channel.detour(&self.site, &task) {
                return false;
            }
            // A host that asks for less has been heard; a refusal for good is about this message.
            if !trouble.permanent && self.site.slowed().is_none() {
                let pause = self.channel.dead_pause(&self.site);
                if !self.site.unreachable(&trouble, host.as_deref(), pause) {
                    return false;
                }
            }
            goes_on = self.site.slowed().is_none();
        }
        task.results
            .extend(undecided.results(nightmail_commit::now()));
        self.settle(task).await;
        goes_on
    }

    /// The open connection, where it is of use for another message.
    pub(crate) async fn open_connection(&mut self, wanted: Wanted) -> Option<Connection> {
        let connection = self.connection.take()?;
        let settings = &self.site.settings;
        let is_worn = connection.messages() >= settings.messages_per_connection.max(1)
            || connection.begun().elapsed() >= settings.connection_lifetime;
        if connection.is_open() && connection.suits(wanted) && !is_worn {
            return Some(connection);
        }
        Box::pin(connection.close()).await;
        None
    }

    /// Keeps a connection for the next message.
    pub(crate) fn keep(&mut self, connection: Connection) {
        self.connection = Some(connection);
    }
}

/// Counts a worker among those who rest.
struct Resting(Arc<Site>);

impl Resting {
    fn begin(site: &Arc<Site>) -> Self {
        site.rests(true);
        Self(Arc::clone(site))
    }
}

impl Drop for Resting {
    fn drop(&mut self) {
        self.0.rests(false);
    }
}

impl Channel {
    /// How long a site that could not be reached is left alone: less than the pause after a first attempt, so that mail
    /// that is due again finds it free to be tried.
    fn dead_pause(&self, site: &Site) -> Duration {
        let pause = site.settings.retry.pause(1, self.random.next()) / 2;
        pause.min(self.options.limits.dead_max)
    }

    /// Takes a message's token from the site's bucket; an error tells how long to wait for one.
    fn site_turn(&self, site: &Site) -> Result<(), Duration> {
        let Some(rate) = &site.settings.rate else {
            return Ok(());
        };
        let now = Instant::now();
        self.site_rates.take(&site.name, rate, 1, now)
    }

    /// Sends what cannot be routed directly to the relay that is there for it. Returns whether there is one.
    fn detour(&self, site: &Site, task: &Task) -> bool {
        let (Via::MxThenRelay(relay), Route::Hosts(_)) = (&site.settings.route, &site.route) else {
            return false;
        };
        let lifetime = self.options.limits.route_lifetime;
        for taken in &task.taken {
            let route = Route::Relay(relay.clone());
            let settings = Arc::clone(&site.settings);
            let destination = taken.ticket.destination();
            tracing::info!(%destination, relay, "not reachable directly: it goes by the relay");
            site.remove(destination);
            self.sites.enter(destination, route, settings, lifetime);
        }
        true
    }
}
