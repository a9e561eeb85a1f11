//! The loop that hands out work: from destinations that have mail to their sites, and from sites to workers.
//!
//! Sleeps until mail is queued, becomes due, or a worker asks for something. Nothing here waits for a peer or for DNS.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nightmail_core::Timestamp;
use nightmail_queue::Destination;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;

use crate::channel::{Call, Channel};
use crate::retry::millis;
use crate::settle::Settlement;
use crate::site::{Site, Staffing};
use crate::work::Worker;

/// Changes that come in quick succession are looked at together: looks follow each other no sooner. What this node has
/// queued itself is announced, and needs none.
const LOOK_EVERY_MILLIS: i64 = 20;
/// How often sites are tidied and counted, at most.
const TIDY_EVERY: Duration = Duration::from_secs(50);
/// Counting the queue reads all of its index: it takes at most this part of the time.
const COUNTING_SHARE: u32 = 200;
/// The longest sleep, so that a step of the wall clock is noticed.
const SLEEP_MAX: Duration = Duration::from_secs(3600);
/// Sites that metrics name, ever; the others are counted together.
const NAMED_MAX: usize = 50;

/// The tasks of the channel.
pub(crate) struct Workforce {
    workers: JoinSet<()>,
    /// Who records what they decide; ends when they have all ended.
    settler: JoinSet<()>,
}

impl Workforce {
    /// Waits at most `grace` for what is under way, and breaks off the rest.
    pub async fn finish(mut self, grace: Duration) {
        let ended = tokio::time::timeout(grace, async {
            while self.workers.join_next().await.is_some() {}
        })
        .await;
        if ended.is_err() {
            tracing::warn!(
                connections = self.workers.len(),
                "deliveries under way are broken off and will be repeated"
            );
            self.workers.shutdown().await;
        }
        // What is decided is recorded, as far as the store takes it.
        let limit = grace.max(Duration::from_secs(1));
        let recorded = tokio::time::timeout(limit, async {
            while self.settler.join_next().await.is_some() {}
        });
        if recorded.await.is_err() {
            self.settler.shutdown().await;
        }
    }
}

/// The loop.
pub(crate) struct Scheduler {
    channel: Arc<Channel>,
    calls: mpsc::UnboundedReceiver<Call>,
    workforce: Workforce,
    settled: mpsc::Sender<Settlement>,
    /// Destinations whose way is being looked up.
    routing: HashSet<Destination>,
    lookups: Arc<Semaphore>,
    slow_lookups: Arc<Semaphore>,
    /// Whether held messages are being let go; and whether more have become due meanwhile.
    releasing: bool,
    release_again: bool,
    tidied: Instant,
    /// The count under way, which gives the time it took; and when the next may begin.
    counting: JoinSet<Duration>,
    count_at: Instant,
    /// Names of sites that metrics have.
    named: HashSet<String>,
}

impl Scheduler {
    pub fn new(channel: Arc<Channel>, calls: mpsc::UnboundedReceiver<Call>) -> Self {
        let limits = &channel.options.limits;
        let (settled, settling) = mpsc::channel(limits.settling_max.max(1));
        let mut settler = JoinSet::new();
        settler.spawn(Arc::clone(&channel).settle_all(settling));
        Self {
            lookups: Arc::new(Semaphore::new(limits.lookups_max.max(1))),
            slow_lookups: Arc::new(Semaphore::new(limits.slow_lookups_max.max(1))),
            workforce: Workforce {
                workers: JoinSet::new(),
                settler,
            },
            settled,
            calls,
            routing: HashSet::new(),
            releasing: false,
            release_again: false,
            tidied: Instant::now(),
            counting: JoinSet::new(),
            count_at: Instant::now(),
            named: HashSet::new(),
            channel,
        }
    }

    /// Hands out work until the channel stops.
    pub async fn run(mut self) -> Workforce {
        let channel = Arc::clone(&self.channel);
        let queue = Arc::clone(&channel.queue);
        let mut changes = queue.subscribe();
        let mut leases = queue.leases().changes();
        self.prepare().await;
        // Everything that was queued before this started is found by the first look.
        queue.note_change(nightmail_commit::now());
        let mut look_at = Some(nightmail_commit::now());
        let mut looked_at = Timestamp::default();
        while !channel.is_stopping() {
            while self.workforce.workers.try_join_next().is_some() {}
            tokio::select! {
                () = channel.stopped() => break,
                () = leases.changed() => look_at = Some(nightmail_commit::now()),
                () = queue.announced() => self.take_announced(),
                Some(call) = self.calls.recv() => self.answer(call),
                () = changes.changed() => {
                    changes.mark_seen();
                    let now = nightmail_commit::now();
                    queue.note_change(now);
                    let soon = looked_at.plus_millis(LOOK_EVERY_MILLIS).clamp(
                        now,
                        now.plus_millis(LOOK_EVERY_MILLIS),
                    );
                    look_at = Some(look_at.map_or(soon, |at| at.min(soon)));
                }
                () = sleep_until(look_at) => {
                    looked_at = nightmail_commit::now();
                    look_at = self.look().await;
                }
            }
            self.tidy();
        }
        self.workforce
    }

    /// Brings the index of an older store up to date, as soon as the store lets it.
    async fn prepare(&self) {
        while !self.channel.is_stopping() {
            match self.channel.queue.prepare().await {
                Ok(0) => return,
                Ok(messages) => {
                    tracing::info!(messages, "the queue has been indexed anew");
                    return;
                }
                Err(error) => {
                    tracing::error!(%error, "the queue could not be indexed; it is tried again");
                    self.channel.pause().await;
                }
            }
        }
    }

    /// Looks for what has become due. Returns when to look again.
    async fn look(&mut self) -> Option<Timestamp> {
        let now = nightmail_commit::now();
        match self.channel.queue.look(now).await {
            Ok(look) => {
                for destination in look.ready {
                    self.activate(destination);
                }
                if look.more {
                    Some(now)
                } else {
                    look.look_again
                }
            }
            Err(error) => {
                tracing::error!(%error, "the queue could not be read; it is tried again");
                let pause = self.channel.options.limits.store_pause;
                Some(nightmail_commit::now().plus_millis(millis(pause)))
            }
        }
    }

    fn take_announced(&mut self) {
        for destination in self.channel.queue.drain_announced() {
            self.activate(destination);
        }
    }

    /// A destination has work.
    fn activate(&mut self, destination: Destination) {
        if destination == Destination::Unrouted {
            return self.release();
        }
        if self.channel.sites.is_fetched(&destination) {
            return;
        }
        match self.channel.sites.find(&destination) {
            Some(site) => self.enter(&destination, site),
            None => self.find_way(destination),
        }
    }

    fn enter(&mut self, destination: &Destination, site: Arc<Site>) {
        site.add(&self.channel.queue, destination);
        self.staff(site);
    }

    fn find_way(&mut self, destination: Destination) {
        if !self.routing.insert(destination.clone()) {
            return;
        }
        let channel = Arc::clone(&self.channel);
        let (lookups, slow) = (Arc::clone(&self.lookups), Arc::clone(&self.slow_lookups));
        self.workforce.workers.spawn(async move {
            let found = in_turn(&channel, &destination, &lookups, &slow);
            tokio::select! {
                site = Box::pin(found) => channel.call(Call::Routed(destination, site)),
                () = channel.stopped() => {}
            }
        });
    }

    fn answer(&mut self, call: Call) {
        match call {
            Call::Staff(site) => self.staff(site),
            Call::Ready(destination) => self.activate(destination),
            Call::Released => {
                self.releasing = false;
                if std::mem::take(&mut self.release_again) {
                    self.release();
                }
            }
            Call::Alarm(site) => {
                site.alarm_is_over();
                self.staff(site);
            }
            Call::Routed(destination, site) => {
                self.routing.remove(&destination);
                if !self.channel.sites.is_fetched(&destination) {
                    self.enter(&destination, site);
                }
            }
        }
    }

    /// Sees to it that a site's work is done.
    fn staff(&mut self, site: Arc<Site>) {
        let channel = Arc::clone(&self.channel);
        if channel.is_stopping() {
            return;
        }
        match site.staff() {
            Staffing::Enough => {}
            Staffing::Wake => site.news.notify_one(),
            Staffing::Hire => {
                let worker = Worker::new(channel, site, self.settled.clone());
                self.workforce.workers.spawn(worker.run());
            }
            Staffing::Later(time) => {
                self.workforce.workers.spawn(async move {
                    tokio::select! {
                        () = tokio::time::sleep(time) => channel.call(Call::Alarm(site)),
                        () = channel.stopped() => {}
                    }
                });
            }
        }
    }

    /// Lets held messages go, one task at a time.
    fn release(&mut self) {
        if self.releasing {
            // It may have looked for the last time already.
            self.release_again = true;
            return;
        }
        self.releasing = true;
        let channel = Arc::clone(&self.channel);
        self.workforce.workers.spawn(async move {
            Arc::clone(&channel).let_all_go().await;
            channel.call(Call::Released);
        });
    }

    /// Forgets what is not of use any more and publishes how things are, now and then.
    fn tidy(&mut self) {
        metrics::gauge!("nightmail_delivery_messages_active")
            .set(self.channel.flights.count() as f64);
        if self.tidied.elapsed() < TIDY_EVERY {
            return;
        }
        self.tidied = Instant::now();
        self.channel.sites.tidy();
        let (entries, destinations) = self.channel.queue.in_memory();
        metrics::gauge!("nightmail_queue_messages_ready").set(entries as f64);
        metrics::gauge!("nightmail_queue_destinations_ready").set(destinations as f64);
        self.publish_sites();
        self.count();
    }

    /// Publishes the size of the queue.
    fn count(&mut self) {
        if let Some(Ok(took)) = self.counting.try_join_next() {
            self.count_at = Instant::now() + took * COUNTING_SHARE;
        }
        if !self.counting.is_empty() || Instant::now() < self.count_at {
            return;
        }
        let queue = Arc::clone(&self.channel.queue);
        self.counting.spawn(async move {
            let begun = Instant::now();
            if let Ok(stats) = queue.stats(nightmail_commit::now()).await {
                metrics::gauge!("nightmail_queue_messages").set(stats.messages as f64);
                metrics::gauge!("nightmail_queue_messages_due").set(stats.due as f64);
            }
            begun.elapsed()
        });
    }

    /// The connections of the busiest sites by their names, and those of all others together.
    fn publish_sites(&mut self) {
        let mut connections: HashMap<String, usize> =
            self.named.iter().map(|name| (name.clone(), 0)).collect();
        let mut others = 0;
        let mut sites = self.channel.sites.all();
        sites.sort_by_cached_key(|site| std::cmp::Reverse(site.condition().connections));
        for site in sites {
            let open = site.condition().connections;
            if open > 0 && self.named.len() < NAMED_MAX && !self.named.contains(&site.name) {
                self.named.insert(site.name.clone());
            }
            match self.named.contains(&site.name) {
                true => *connections.entry(site.name.clone()).or_default() += open,
                false => others += open,
            }
        }
        connections.insert("other".into(), others);
        for (name, open) in connections {
            metrics::gauge!("nightmail_delivery_site_connections", "site" => name).set(open as f64);
        }
    }
}

/// The site of a destination. Whoever waits for long gives its turn away and goes on beside, so that names whose servers
/// do not answer hold up only each other.
async fn in_turn(
    channel: &Channel,
    destination: &Destination,
    lookups: &Semaphore,
    slow: &Semaphore,
) -> Arc<Site> {
    let turn = lookups.acquire().await;
    let mut found = Box::pin(channel.site_of(destination));
    let time = channel.options.limits.connecting_slow;
    if let Ok(site) = tokio::time::timeout(time, &mut found).await {
        return site;
    }
    let _beside = tokio::select! {
        beside = slow.acquire() => beside,
        site = &mut found => return site,
    };
    drop(turn);
    found.await
}

async fn sleep_until(at: Option<Timestamp>) {
    let pause = match at {
        Some(at) => {
            let left = at.millis().saturating_sub(nightmail_commit::now().millis());
            Duration::from_millis(u64::try_from(left).unwrap_or(0)).min(SLEEP_MAX)
        }
        None => SLEEP_MAX,
    };
    tokio::time::sleep(pause).await;
}
