//! Mail that a customer fetches over a session turned around (ATRN, RFC 2645).
//!
//! The mail of the domains fetched is this session's while it lasts: nobody else begins to send it.

use std::sync::Arc;
use std::time::Duration;

use nightmail_core::{Domain, QueueId};
use nightmail_queue::{Alteration, Destination, HurryTarget, QueueMessage, Recipient, Ticket};
use nightmail_smtp::TlsFacts;
use nightmail_smtp::client::{Config, Protocol, TlsPolicy};

use crate::attempt::Job;
use crate::channel::{Call, Channel, Delivery};
use crate::connection::Connection;
use crate::error::DeliveryError;
use crate::retry::Ended;
use crate::route::{Target, is_due};
use crate::settle::Settled;
use crate::sites::Fetched;
use crate::tls::Protection;
use crate::wire::{AsyncStream, Wire};

/// Messages read from the index at once.
const PAGE: usize = 100;

/// How long a customer waits for who is at a message already, and how often that is looked at.
const OTHERS_WAIT: Duration = Duration::from_secs(5);
const OTHERS_POLL: Duration = Duration::from_millis(5);

/// What a session that was turned around came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct TurnReport {
    /// Recipients that the customer has taken.
    pub delivered: u64,
    /// Recipients that it has not.
    pub left: u64,
}

/// Mail that somebody fetches. However that ends, what was not fetched goes on waiting as before.
struct Fetching {
    channel: Arc<Channel>,
    fetched: Option<Fetched>,
}

impl Fetching {
    fn destinations(&self) -> &[Destination] {
        let fetched = self.fetched.as_ref();
        fetched.map_or(&[], |fetched| &fetched.destinations)
    }
}

impl Drop for Fetching {
    fn drop(&mut self) {
        let left = self.destinations().to_vec();
        self.fetched = None;
        for destination in left {
            self.channel.call(Call::Ready(destination));
        }
    }
}

impl Delivery {
    /// Sends the mail that waits for `domains` over `stream`, whose other end speaks as a server from here on: it greets
    /// first. `tls` is what the stream is under, with `peer_verified` where the customer has proven who it is, such as by
    /// logging in: then it is also sent mail that demands TLS. Ends when there is no more mail or the customer goes.
    pub async fn turn(
        &self,
        stream: Box<dyn AsyncStream>,
        tls: Option<TlsFacts>,
        domains: Vec<Domain>,
    ) -> Result<TurnReport, DeliveryError> {
        let channel = &self.channel;
        let destinations = domains.into_iter().map(Destination::Domain).collect();
        let fetched = Fetching {
            channel: Arc::clone(channel),
            fetched: Some(channel.sites.fetch(destinations)),
        };
        let destinations = fetched.destinations().to_vec();
        for destination in &destinations {
            if let Destination::Domain(domain) = destination {
                let target = HurryTarget::Domain(domain.clone());
                channel.queue.hurry(&target).await?;
            }
        }
        let mut report = TurnReport::default();
        let mut config = Config::new(Protocol::Smtp, channel.hello.clone());
        config.timeouts = channel.options.timeouts.clone();
        config.tls = TlsPolicy::Never;
        let name = "customer".to_owned();
        let target = Target {
            host: name.clone(),
            server_name: name,
            address: ([0, 0, 0, 0], 0).into(),
            protection: Protection::None,
            relaxed: false,
        };
        let wire = Wire::Turned(stream);
        let opened = Connection::open(Arc::clone(channel), target, Arc::new(config), wire, tls);
        let mut sent = Ok(());
        if let Ok(mut connection) = Box::pin(opened).await {
            for destination in &destinations {
                sent = Box::pin(self.send_all(&mut connection, destination, &mut report)).await;
                if sent.is_err() || !connection.is_open() {
                    break;
                }
            }
            Box::pin(connection.close()).await;
        }
        drop(fetched);
        sent.map(|()| report)
    }

    async fn send_all(
        &self,
        connection: &mut Connection,
        destination: &Destination,
        report: &mut TurnReport,
    ) -> Result<(), DeliveryError> {
        let queue = &self.channel.queue;
        let mut after = None;
        loop {
            let (ids, next) = queue.list_destination(destination, after, PAGE).await?;
            let messages = queue.load(&ids).await?;
            for (id, message) in ids.into_iter().zip(messages) {
                if let Some(message) = message {
                    self.send_one(connection, destination, (id, message), report)
                        .await?;
                }
                if !connection.is_open() || self.channel.is_stopping() {
                    return Ok(());
                }
            }
            match next {
                Some(next) => after = Some(next),
                None => return Ok(()),
            }
        }
    }

    /// Sends one message, where nobody else is at it.
    async fn send_one(
        &self,
        connection: &mut Connection,
        destination: &Destination,
        (id, message): (QueueId, QueueMessage),
        report: &mut TurnReport,
    ) -> Result<(), DeliveryError> {
        let channel = &self.channel;
        let Some(ticket) = self.claim(destination, id, &message).await? else {
            return Ok(());
        };
        let now = nightmail_commit::now();
        let taken = channel.flights.begin(ticket);
        // Somebody may have been at it between the look and the claim.
        let Some(message) = channel.queue.load(&[id]).await?.pop().flatten() else {
            taken.finish();
            return Ok(());
        };
        let indexes: Vec<usize> = message
            .pending()
            .filter(|(_, one)| one.destination() == *destination && is_due(one, now))
            .map(|(index, _)| index)
            .collect();
        let job = Job {
            id,
            message: Arc::new(message),
            hold: taken.ticket.hold().clone(),
        };
        let domain = match destination {
            Destination::Domain(domain) => domain.as_str(),
            Destination::Relay(_) | Destination::Unrouted => "",
        };
        let settings = channel.options.policies.of(domain, &[]);
        let usual_max = settings.recipients_per_transaction;
        let sent = connection.deliver(&job.message, None, &indexes, usual_max);
        let results = Box::pin(sent).await.into_results("customer");
        for result in &results {
            match result.ended {
                Ended::Delivered { .. } => report.delivered += 1,
                _ => report.left += 1,
            }
        }
        if channel.settle(&job, results, &settings).await? == Settled::Done {
            taken.finish();
        }
        Ok(())
    }

    /// The right to send a message. Whoever took it up before the customer called is waited for, and the mail made due
    /// once more: that may have ended in putting it off.
    async fn claim(
        &self,
        destination: &Destination,
        id: QueueId,
        message: &QueueMessage,
    ) -> Result<Option<Ticket>, DeliveryError> {
        let queue = &self.channel.queue;
        let ticket = queue.take_also(id, message, destination, nightmail_commit::now());
        if ticket.is_some() {
            return Ok(ticket);
        }
        let others_end = async {
            while queue.is_in_hand_for(id, destination) {
                tokio::time::sleep(OTHERS_POLL).await;
            }
        };
        if tokio::time::timeout(OTHERS_WAIT, others_end).await.is_err() {
            return Ok(None);
        }
        let fetched = destination.clone();
        let meant = move |_: &QueueMessage, one: &Recipient| one.destination() == fetched;
        queue.alter(id, Alteration::Retry, meant).await?;
        let message = queue.load(&[id]).await?.pop().flatten();
        let now = nightmail_commit::now();
        Ok(message.and_then(|message| queue.take_also(id, &message, destination, now)))
    }
}
