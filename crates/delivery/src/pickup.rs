//! Taking messages up: what is to be sent now, what is put off, and what an operator wants done with it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use nightmail_core::{QueueId, Timestamp};
use nightmail_pace::{MailSource, Settings};
use nightmail_queue::{
    Alteration, Attempt, Destination, QueueMessage, Recipient, Source, StandingAction,
    StandingRules, Waiting,
};

use crate::attempt::{Job, results_of};
use crate::channel::{Call, Channel};
use crate::content::Content;
use crate::flights::Taken;
use crate::release::late_result;
use crate::retry::{AttemptResult, Ended, is_time_over, millis};
use crate::route::{Route, is_due};
use crate::site::Site;
use crate::work::Worker;

/// How long a message waits for the ways of its other destinations, to go to one site together.
const TOGETHER_WAIT: Duration = Duration::from_millis(250);
/// Destinations of a message that are asked about for that.
const TOGETHER_MAX: usize = 50;

/// How long mail that was sent another way waits for an attempt of before to end.
const REROUTED_WAIT_MILLIS: i64 = 5_000;

/// A message in hand.
pub(crate) struct Task {
    pub job: Job,
    pub taken: Vec<Taken>,
    /// All of the message, where it has been read ahead.
    pub content: Option<Vec<Bytes>>,
    /// The recipients to be sent to, by their places.
    pub send: Vec<usize>,
    /// What is decided about others.
    pub results: Vec<AttemptResult>,
}

/// What is done with a recipient that is due.
enum Decision {
    Send,
    Settle(AttemptResult),
    Reroute(Alteration),
}

impl Task {
    /// The site has died: nobody is sent to.
    pub fn put_off_by_death(&mut self, site: &Site) {
        if let Some(dead) = site.dead() {
            let send = std::mem::take(&mut self.send);
            let now = nightmail_commit::now();
            self.results
                .extend(results_of(&dead.trouble, dead.host.as_deref(), &send, now));
        }
    }

    fn put_off(&mut self, until: Timestamp, why: &str) {
        let now = nightmail_commit::now();
        for index in std::mem::take(&mut self.send) {
            self.results.push(AttemptResult {
                index,
                ended: Ended::NotNow {
                    until: Some(until),
                    waiting: Waiting::Retry,
                },
                attempt: Attempt::new(now, None, "4.4.5", None, why),
            });
        }
    }
}

impl Worker {
    /// The next messages of the site, the most urgent first; none when there is nothing to do.
    pub(crate) async fn take(&mut self) -> VecDeque<Task> {
        while self.site.has_work() {
            if self.channel.is_stopping() {
                break;
            }
            let channel = Arc::clone(&self.channel);
            // From before the count is read, so that nothing is missed between the two.
            let freed = channel.flights.freed();
            let room = channel.flights.room();
            let Some(destination) = self.site.next_destination(&channel.queue, room) else {
                channel.unless_stopped(freed).await;
                continue;
            };
            if channel.sites.is_fetched(&destination) {
                self.site.remove(&destination);
                continue;
            }
            match self.take_for(&destination, room).await {
                Ok(tasks) if !tasks.is_empty() => {
                    self.ask_for_help();
                    return tasks;
                }
                Ok(_) if room != (true, true) && self.site.has_work() => {
                    channel.unless_stopped(freed).await;
                }
                Ok(_) => tokio::task::yield_now().await,
                Err(error) => {
                    tracing::error!(%destination, %error, "the queue could not be read; it is tried again");
                    self.channel.pause().await;
                }
            }
        }
        VecDeque::new()
    }

    /// Has the loop see whether another worker is of use.
    pub(crate) fn ask_for_help(&self) {
        if self.site.has_work() {
            self.channel.call(Call::Staff(Arc::clone(&self.site)));
        }
    }

    async fn take_for(
        &self,
        destination: &Destination,
        (pending, deferred): (bool, bool),
    ) -> Result<VecDeque<Task>, nightmail_queue::QueueError> {
        let (channel, site) = (&self.channel, &self.site);
        let now = nightmail_commit::now();
        let limits = &channel.options.limits;
        let limit = match site.only_puts_off(now) {
            true => limits.bulk_max,
            false => self.batch,
        };
        let taken = channel
            .queue
            .take(destination, now, limit.max(1), pending, deferred)
            .await;
        site.taken(&channel.queue, destination);
        let taken: Vec<Taken> = taken?
            .into_iter()
            .map(|ticket| channel.flights.begin(ticket))
            .collect();
        let ids: Vec<QueueId> = taken.iter().map(|taken| taken.ticket.id()).collect();
        let messages = channel.queue.load(&ids).await?;
        let rules = channel.rules().await?;
        let mut tasks = VecDeque::with_capacity(taken.len());
        for (taken, message) in taken.into_iter().zip(messages) {
            match message {
                Some(message) => {
                    let task = channel.pick_up(site, taken, message, rules.as_deref(), now);
                    tasks.extend(task.await);
                }
                None => taken.finish(),
            }
        }
        self.read_ahead(&mut tasks).await;
        Ok(tasks)
    }

    /// Reads what is to be sent, as far as it is small.
    async fn read_ahead(&self, tasks: &mut VecDeque<Task>) {
        let mut sent: Vec<&mut Task> = tasks
            .iter_mut()
            .filter(|task| !task.send.is_empty())
            .collect();
        if sent.is_empty() {
            return;
        }
        let messages: Vec<Arc<QueueMessage>> = sent
            .iter()
            .map(|task| Arc::clone(&task.job.message))
            .collect();
        let messages: Vec<&QueueMessage> = messages.iter().map(Arc::as_ref).collect();
        let committer = self.channel.queue.committer();
        let contents = Content::whole_of_small(committer, &messages).await;
        for (task, content) in sent.iter_mut().zip(contents) {
            task.content = content;
        }
    }

    /// Puts a message off whose source or sender has sent too many.
    pub(crate) fn check_rates(&self, task: &mut Task) {
        let Some(rates) = self
            .channel
            .rates
            .as_ref()
            .filter(|_| !task.send.is_empty())
        else {
            return;
        };
        let message = &task.job.message;
        let source = match message.source {
            Source::Submission(_) => MailSource::Submission,
            Source::Relay => MailSource::Relay,
            Source::Local => MailSource::Local,
        };
        if let Err(wait) = rates.take(source, &message.reverse_path, Instant::now()) {
            let until = nightmail_commit::now().plus_millis(millis(wait).max(1));
            task.put_off(until, "its source or sender has sent too many messages");
        }
    }
}

impl Channel {
    async fn rules(&self) -> Result<Option<Arc<StandingRules>>, nightmail_queue::QueueError> {
        match &self.options.standing {
            Some(book) => Ok(Some(book.current().await?)),
            None => Ok(None),
        }
    }

    /// Sorts the due recipients of one destination of a message.
    async fn pick_up(
        &self,
        site: &Site,
        taken: Taken,
        message: QueueMessage,
        rules: Option<&StandingRules>,
        now: Timestamp,
    ) -> Option<Task> {
        let destination = taken.ticket.destination().clone();
        let id = taken.ticket.id();
        let mut task = Task {
            job: Job {
                id,
                message: Arc::new(message),
                hold: taken.ticket.hold().clone(),
            },
            taken: vec![taken],
            content: None,
            send: Vec::new(),
            results: Vec::new(),
        };
        let message = Arc::clone(&task.job.message);
        let (mut rerouted, mut failed) = (false, false);
        for (index, recipient) in message.pending() {
            if recipient.destination() != destination || !is_due(recipient, now) {
                continue;
            }
            match self.decide(site, id, &message, (index, recipient), rules, now) {
                Decision::Send => task.send.push(index),
                Decision::Settle(result) => task.results.push(result),
                Decision::Reroute(alteration) => {
                    rerouted = true;
                    failed |= !self.reroute(id, recipient, alteration).await;
                }
            }
        }
        if failed {
            // The message is given back as it is.
            self.pause().await;
            return None;
        }
        if task.send.is_empty() && task.results.is_empty() {
            // It has changed since it was entered into the index, or goes another way.
            task.taken.into_iter().for_each(Taken::finish);
            return None;
        }
        if rerouted {
            tracing::debug!(queue_id = %id, "a part of the message goes another way");
        }
        Some(task)
    }

    fn decide(
        &self,
        site: &Site,
        id: QueueId,
        message: &QueueMessage,
        (index, recipient): (usize, &Recipient),
        rules: Option<&StandingRules>,
        now: Timestamp,
    ) -> Decision {
        let result = |ended, status, text: &str| {
            Decision::Settle(AttemptResult {
                index,
                ended,
                attempt: Attempt::new(now, None, status, None, text),
            })
        };
        if is_time_over(message, now) {
            return Decision::Settle(late_result(message, index, now));
        }
        if let Some(rule) = rules.and_then(|rules| rules.decide(id, message, recipient, now)) {
            return match &rule.action {
                StandingAction::Hold(reason) => result(Ended::Held, "4.7.0", reason),
                StandingAction::Bounce(reason) => result(Ended::Permanent, "5.7.1", reason),
                StandingAction::Drop => result(Ended::Dropped, "5.7.1", "dropped by a rule"),
                StandingAction::Reroute(relay) => {
                    Decision::Reroute(Alteration::Reroute(relay.clone()))
                }
            };
        }
        if self.goes_another_way(id, recipient) {
            let ended = Ended::NotNow {
                until: Some(now.plus_millis(REROUTED_WAIT_MILLIS)),
                waiting: recipient.waiting,
            };
            return result(
                ended,
                "4.4.5",
                "it is still being sent the way it went before",
            );
        }
        let is_hurried = recipient.waiting == Waiting::Hurried;
        let settings = &site.settings;
        if let Some((ended, why)) = not_now(settings, now).filter(|_| !is_hurried) {
            return result(ended, "4.4.1", why);
        }
        if let Route::Nowhere(why) = &site.route {
            // Mail that its owners fetch needs no way to them.
            if settings.on_request {
                return result(ON_REQUEST, "4.4.1", &why.text);
            }
            let results = results_of(&why.clone().into(), None, &[index], now);
            return results
                .into_iter()
                .next()
                .map_or(Decision::Send, Decision::Settle);
        }
        if is_hurried && let Some(asked) = recipient.next_attempt() {
            site.revive(asked);
        }
        match site.dead_for(message) {
            Some(dead) => results_of(&dead.trouble, dead.host.as_deref(), &[index], now)
                .into_iter()
                .next()
                .map_or(Decision::Send, Decision::Settle),
            None => Decision::Send,
        }
    }

    /// Whether the recipient goes that way from now on.
    /// Whether an attempt is under way from before an operator sent the recipient another way. It may succeed yet.
    fn goes_another_way(&self, id: QueueId, recipient: &Recipient) -> bool {
        let goes_now = recipient.destination();
        let is_sent_to =
            |other: &Destination| *other != goes_now && self.queue.is_in_hand_for(id, other);
        let domain = || Destination::Domain(recipient.address.domain().clone());
        self.relays.iter().any(is_sent_to) || (recipient.relay.is_some() && is_sent_to(&domain()))
    }

    async fn reroute(&self, id: QueueId, recipient: &Recipient, alteration: Alteration) -> bool {
        let address = recipient.address.clone();
        let whom = move |_: &QueueMessage, recipient: &Recipient| recipient.address == address;
        let altered = self.queue.alter(id, alteration, whom).await;
        if let Err(error) = &altered {
            tracing::error!(queue_id = %id, %error, "a recipient could not be sent another way");
        }
        altered.is_ok()
    }

    /// Takes the other destinations of a message that go to the same site along.
    pub(crate) async fn take_along(&self, site: &Arc<Site>, task: &mut Task) {
        let now = nightmail_commit::now();
        let others = other_destinations(task, now);
        if others.is_empty() {
            return;
        }
        let ways = async {
            let mut found = Vec::new();
            for destination in &others {
                found.push(self.site_of(destination).await);
            }
            found
        };
        let Ok(ways) = tokio::time::timeout(TOGETHER_WAIT, Box::pin(ways)).await else {
            return;
        };
        let same = others
            .iter()
            .zip(ways)
            .filter(|(destination, way)| {
                Arc::ptr_eq(way, site) && !self.sites.is_fetched(destination)
            })
            .map(|(destination, _)| destination);
        let taken: Vec<Taken> = same
            .filter_map(|destination| {
                let message = &task.job.message;
                let ticket = self
                    .queue
                    .take_also(task.job.id, message, destination, now)?;
                Some(self.flights.begin(ticket))
            })
            .collect();
        if !taken.is_empty() && self.add_along(site, task, taken, now).await.is_none() {
            tracing::debug!(queue_id = %task.job.id, "the message is sent to one destination only");
        }
    }

    /// Adds what was taken along. The message is read again: others may have sent to these destinations since.
    async fn add_along(
        &self,
        site: &Site,
        task: &mut Task,
        taken: Vec<Taken>,
        now: Timestamp,
    ) -> Option<()> {
        let id = task.job.id;
        let rules = self.rules().await.ok()?;
        let message = self.queue.load(&[id]).await.ok()?.pop()??;
        let (mut send, mut results) = (Vec::new(), Vec::new());
        for (index, recipient) in message.pending() {
            let destination = recipient.destination();
            let is_taken = taken
                .iter()
                .any(|taken| *taken.ticket.destination() == destination);
            if !is_taken || !is_due(recipient, now) {
                continue;
            }
            let one = (index, recipient);
            match self.decide(site, id, &message, one, rules.as_deref(), now) {
                Decision::Send => send.push(index),
                Decision::Settle(result) => results.push(result),
                Decision::Reroute(alteration) => {
                    if !self.reroute(id, recipient, alteration).await {
                        return None;
                    }
                }
            }
        }
        // Whom an operator has held, dropped or sent another way meanwhile is not sent to.
        let own = task.taken.first().map(|taken| taken.ticket.destination());
        let is_meant =
            |recipient: &Recipient| is_due(recipient, now) && Some(&recipient.destination()) == own;
        let recipients = &message.recipients;
        task.send
            .retain(|index| recipients.get(*index).is_some_and(is_meant));
        task.send.extend(send);
        task.send.sort_unstable();
        task.results.extend(results);
        task.taken.extend(taken);
        task.job.message = Arc::new(message);
        Some(())
    }
}

const ON_REQUEST: Ended = Ended::NotNow {
    until: None,
    waiting: Waiting::Request,
};

/// What a destination's mail waits for before it is tried at all.
fn not_now(settings: &Settings, now: Timestamp) -> Option<(Ended, &'static str)> {
    if settings.on_request {
        return Some((ON_REQUEST, "nobody has asked for the mail"));
    }
    let schedule = settings.schedule.as_ref()?;
    let closed = Ended::NotNow {
        until: schedule.next_open(now),
        waiting: Waiting::Window,
    };
    (!schedule.is_open(now)).then_some((closed, "its schedule is closed"))
}

/// The destinations of a message beside the one it was taken for.
fn other_destinations(task: &Task, now: Timestamp) -> Vec<Destination> {
    let own = task.taken.first().map(|taken| taken.ticket.destination());
    let mut others: Vec<Destination> = Vec::new();
    let due = task.job.message.pending();
    for (_, recipient) in due.filter(|(_, recipient)| is_due(recipient, now)) {
        let destination = recipient.destination();
        if Some(&destination) != own && !others.contains(&destination) {
            others.push(destination);
        }
        if others.len() >= TOGETHER_MAX {
            break;
        }
    }
    others
}
