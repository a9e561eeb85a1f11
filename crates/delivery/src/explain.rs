//! Saying what mail waits for, from what is known in memory.

use std::time::Duration;

use nightmail_core::{QueueId, Timestamp};
use nightmail_pace::Settings;
use nightmail_queue::{Destination, QueueMessage, Recipient, Waiting};

use crate::channel::{Call, Channel, Delivery};
use crate::error::DeliveryError;
use crate::route::Route;
use crate::site::Site;

impl Delivery {
    /// What is known here of why the pending recipients of a message wait: their places in the message, and texts. Empty
    /// when it is not in the queue.
    pub async fn explain(&self, id: QueueId) -> Result<Vec<(usize, String)>, DeliveryError> {
        let channel = &self.channel;
        let Some(message) = channel.queue.show(id).await? else {
            return Ok(Vec::new());
        };
        let now = nightmail_commit::now();
        let texts = message.pending().map(|(index, recipient)| {
            let text = channel.why(id, &message, recipient, now);
            (index, text)
        });
        Ok(texts.collect())
    }

    /// What is known here of the destinations that there is or was work for, in words.
    pub fn destinations(&self) -> Vec<(Destination, String)> {
        let known = self.channel.sites.known();
        let told = known.into_iter();
        told.map(|(destination, site)| (destination, state_of(&site)))
            .collect()
    }

    /// Tries a destination at once, however it has failed so far. What is not due is not concerned; see
    /// [`nightmail_queue::Queue::hurry`].
    pub fn run_now(&self, destination: &Destination) {
        if let Some(site) = self.channel.sites.find(destination) {
            site.forgive();
            self.channel.call(Call::Staff(site));
        }
    }
}

impl Channel {
    fn why(
        &self,
        id: QueueId,
        message: &QueueMessage,
        recipient: &Recipient,
        now: Timestamp,
    ) -> String {
        if let Some(reason) = &recipient.hold {
            return format!("held: {reason}");
        }
        if message.unrouted.is_some() {
            return "held back until its time, as the sender wants it".to_owned();
        }
        let destination = recipient.destination();
        let site = self.sites.find(&destination);
        let settings = match &site {
            Some(site) => site.settings.clone(),
            None => {
                let domain = recipient.address.domain();
                self.options.policies.of(domain.as_str(), &[])
            }
        };
        let mut texts = Vec::new();
        if self.queue.is_in_hand(id) {
            texts.push("this node is working on the message".to_owned());
        }
        if self.sites.is_fetched(&destination) {
            texts.push("its destination fetches its mail now".to_owned());
        }
        texts.extend(by_time(recipient, &settings, now));
        match site {
            Some(site) => texts.push(state_of(&site)),
            None if recipient.next_attempt().is_some_and(|due| due <= now) => {
                texts.push("the way there is not known yet".to_owned());
            }
            None => {}
        }
        texts.join("; ")
    }
}

/// What the clock, the schedule and requests have to do with it.
fn by_time(recipient: &Recipient, settings: &Settings, now: Timestamp) -> Option<String> {
    let due = recipient.next_attempt()?;
    if due <= now {
        return Some("due".to_owned());
    }
    Some(match recipient.waiting {
        Waiting::Fresh => format!("to be tried first at {due}"),
        Waiting::Retry | Waiting::Hurried => format!("to be tried again at {due}"),
        Waiting::Window => {
            let schedule = settings.schedule.as_ref();
            match schedule.and_then(|schedule| schedule.next_open(now)) {
                Some(open) => format!("waits for its schedule, which opens at {open}"),
                None => "waits for its schedule".to_owned(),
            }
        }
        Waiting::Request => "waits to be asked for (ETRN, ATRN, or an operator)".to_owned(),
    })
}

/// How a site is, in words.
fn state_of(site: &Site) -> String {
    if let Route::Nowhere(why) = &site.route {
        return format!("no way there: {}", why.text);
    }
    let condition = site.condition();
    let mut texts = vec![format!("site {}", site.name)];
    if let Some(left) = condition.dead {
        let why = condition.trouble.unwrap_or_default();
        texts.push(format!(
            "not reachable, left alone for {}: {why}",
            secs(left)
        ));
    }
    if let Some(left) = condition.slowed {
        texts.push(format!("slowed down for {}", secs(left)));
    }
    let (open, connecting) = (condition.connections, condition.connecting);
    texts.push(format!(
        "{open} connections, {connecting} being made, {} allowed",
        condition.allowed
    ));
    if open + connecting >= condition.allowed && condition.dead.is_none() {
        texts.push("no more are made now".to_owned());
    }
    texts.join(", ")
}

fn secs(time: Duration) -> String {
    format!("{} s", time.as_secs().max(1))
}
