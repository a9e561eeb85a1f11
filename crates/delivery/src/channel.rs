//! The channel as a whole: what its parts share, and its beginning and end.

use std::sync::Arc;
use std::time::Duration;

use nightmail_cluster::LeaseHold;
use nightmail_core::{Domain, QueueId};
use nightmail_pace::{Buckets, Rates};
use nightmail_queue::{
    Attempt, Destination, Queue, QueueError, QueueMessage, Recipient, RelayName,
};
use nightmail_smtp::command::HelloName;
use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::attempt::Job;
use crate::dns::Dns;
use crate::error::DeliveryError;
use crate::flights::Flights;
use crate::options::DeliveryOptions;
use crate::random::Random;
use crate::reach::Gates;
use crate::report::Reports;
use crate::retry::{AttemptResult, Ended};
use crate::schedule::{Scheduler, Workforce};
use crate::site::Site;
use crate::sites::Sites;
use crate::tls::Tls;

/// What the parts of the channel ask of its loop.
pub(crate) enum Call {
    /// The site has work that may need another worker.
    Staff(Arc<Site>),
    /// The site may go on.
    Alarm(Arc<Site>),
    /// There may be work for the destination.
    Ready(Destination),
    /// Held messages have been let go.
    Released,
    /// The way to a destination has been found.
    Routed(Destination, Arc<Site>),
}

/// What the parts of the channel share.
pub(crate) struct Channel {
    pub queue: Arc<Queue>,
    pub options: DeliveryOptions,
    pub reports: Arc<dyn Reports>,
    pub dns: Arc<Dns>,
    pub tls: Tls,
    pub sites: Arc<Sites>,
    pub flights: Arc<Flights>,
    pub gates: Gates,
    /// How fast mail of a source or sender may leave, where that is bounded.
    pub rates: Option<Rates>,
    /// How fast sites get mail.
    pub site_rates: Buckets<String>,
    /// The relays of the options, as what an operator can send mail to.
    pub relays: Vec<Destination>,
    pub random: Random,
    pub hello: HelloName,
    calls: mpsc::UnboundedSender<Call>,
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

    /// Waits for something, or for the channel to stop.
    pub async fn unless_stopped(&self, something: impl Future<Output = ()>) {
        tokio::select! {
            () = something => {}
            () = self.stopped() => {}
        }
    }

    /// Asks something of the loop. Each part has at most one call under way, so that their number is bounded.
    pub fn call(&self, call: Call) {
        // The loop is gone only when the channel stops.
        let _ = self.calls.send(call);
    }

    /// The site of a destination: the one it is known to go to, or where it is found to go now.
    pub async fn site_of(&self, destination: &Destination) -> Arc<Site> {
        if let Some(site) = self.sites.find(destination) {
            return site;
        }
        let (route, settings) = Box::pin(self.route(destination)).await;
        let lifetime = self.options.limits.route_lifetime;
        self.sites.enter(destination, route, settings, lifetime)
    }
}

/// The outbound SMTP channel of a node. Dropped without [`Delivery::stop`], it ends as after a crash: what was being
/// attempted is attempted again.
pub struct Delivery {
    pub(crate) channel: Arc<Channel>,
    stop: watch::Sender<bool>,
    runner: Mutex<Option<JoinHandle<Workforce>>>,
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
        let (calls, called) = mpsc::unbounded_channel();
        let rules = options.rates.clone();
        let relays = options.relays.keys();
        let relays = relays.filter_map(|name| RelayName::new(name).map(Destination::Relay));
        let channel = Arc::new(Channel {
            dns: Arc::new(Dns::new(options.dns.clone())),
            tls: Tls::new(&options)?,
            sites: Arc::default(),
            flights: Arc::new(Flights::new(limits)),
            gates: Gates::new(limits),
            rates: (!rules.is_empty()).then(|| Rates::new(rules, limits.buckets_max)),
            site_rates: Buckets::new(limits.buckets_max),
            relays: relays.collect(),
            random: Random::new(seed),
            hello,
            queue,
            reports,
            calls,
            stopping,
            options,
        });
        let runner = tokio::spawn(Scheduler::new(Arc::clone(&channel), called).run());
        Ok(Self {
            channel,
            stop,
            runner: Mutex::new(Some(runner)),
        })
    }

    /// Stops handing out work, waits at most `grace` for transactions under way, and breaks off the rest. Whoever calls
    /// it again returns at once.
    pub async fn stop(&self, grace: Duration) {
        let _ = self.stop.send(true);
        let runner = self.runner.lock().take();
        let Some(runner) = runner else { return };
        if let Ok(workforce) = runner.await {
            workforce.finish(grace).await;
        }
    }

    /// Gives recipients of a message up on an operator's word: those pending ones that `whom` picks fail with `reason`,
    /// and the sender is told as their NOTIFY asks. Returns how many.
    ///
    /// Fails with [`QueueError::NoSuchMessage`] when it is not in the queue.
    pub async fn bounce(
        &self,
        id: QueueId,
        reason: &str,
        whom: impl Fn(&QueueMessage, &Recipient) -> bool,
    ) -> Result<u64, DeliveryError> {
        let message = self
            .channel
            .queue
            .show(id)
            .await?
            .ok_or(QueueError::NoSuchMessage)?;
        let attempt = Attempt::new(nightmail_commit::now(), None, "5.0.0", None, reason);
        let results: Vec<AttemptResult> = message
            .pending()
            .filter(|(_, recipient)| whom(&message, recipient))
            .map(|(index, _)| AttemptResult {
                index,
                ended: Ended::Permanent,
                attempt: attempt.clone(),
            })
            .collect();
        let given_up = results.len() as u64;
        let job = Job {
            id,
            message: Arc::new(message),
            hold: LeaseHold::none(),
        };
        let settings = self.channel.options.policies.default_settings();
        self.channel.settle(&job, results, settings).await?;
        Ok(given_up)
    }

    /// Messages being worked on, counted once for each destination.
    pub fn active(&self) -> usize {
        self.channel.queue.in_hand()
    }
}

/// The name for EHLO. An address literal and every domain fit.
fn hello_name(host: &Domain) -> Option<HelloName> {
    HelloName::parse(host.as_str().as_bytes()).ok()
}
