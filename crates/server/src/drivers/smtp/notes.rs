//! What goes into the log of events: who was refused, what was accepted, and what became of each recipient's copy.

use nightmail_core::{ForwardPath, ReversePath, Timestamp};
use nightmail_directory::Target;
use nightmail_journal::{Event, EventKind, Journal};
use nightmail_mime::header::first;
use nightmail_smtp::Reply;
use nightmail_smtp::server::EndOfMessage;
use nightmail_switch::{Envelope, Outcome, Receipt};

use super::SmtpSession;
use super::outcome::refusal_reply;
use crate::drivers::incoming::Received;
use crate::net::Transport;

/// Digits of a message's digest that stand in for its Message-ID; its lines in the server's log have them too.
const DIGEST_DIGITS: usize = 16;

/// What will be noted once a message is accepted: known before, as accepting takes it away.
pub(super) struct Notes {
    accepted: Event,
    /// For each recipient of the envelope: if it is accepted, and if it is not.
    recipients: Vec<Recipient>,
}

struct Recipient {
    named: String,
    events: Vec<Event>,
}

impl SmtpSession {
    fn journal(&self) -> Option<&Journal> {
        Some(&self.service.services.journal).filter(|journal| journal.is_on())
    }

    /// An event of this client, now.
    fn event(&self, kind: EventKind, sender: &ReversePath) -> Event {
        Event {
            sender: Some(sender.to_string()),
            host: self.client.ip().map(|ip| ip.to_string()),
            ..Event::new(nightmail_commit::now(), kind)
        }
    }

    /// A sender or a recipient was refused.
    pub(super) fn note_refused(
        &self,
        sender: &ReversePath,
        recipient: Option<&ForwardPath>,
        reply: &Reply,
    ) {
        let Some(journal) = self.journal() else {
            return;
        };
        journal.note(Event {
            recipient: recipient.map(ToString::to_string),
            ..refused(self.event(EventKind::Refused, sender), reply)
        });
    }

    /// A message was refused, for all its recipients.
    pub(super) fn note_message_refused(
        &self,
        message: &EndOfMessage,
        message_id: Option<&str>,
        reply: &Reply,
    ) {
        let said = |event| refused(event, reply);
        self.note_each(message, EventKind::Refused, message_id, said);
    }

    /// A rule has sent a message, or thrown it away, for all its recipients.
    pub(super) fn note_ruled(
        &self,
        message: &EndOfMessage,
        message_id: Option<&str>,
        kind: EventKind,
        text: &str,
    ) {
        self.note_each(message, kind, message_id, |event| Event {
            text: Some(text.to_owned()),
            ..event
        });
    }

    fn note_each(
        &self,
        message: &EndOfMessage,
        kind: EventKind,
        message_id: Option<&str>,
        complete: impl Fn(Event) -> Event,
    ) {
        let Some(journal) = self.journal() else {
            return;
        };
        let envelope = &message.envelope;
        for rcpt in envelope.recipients.iter() {
            journal.note(complete(Event {
                message_id: message_id.map(str::to_owned),
                recipient: Some(rcpt.forward_path.to_string()),
                ..self.event(kind, &envelope.mail.reverse_path)
            }));
        }
    }

    /// A rule has thrown one recipient's copy away.
    pub(super) fn note_discarded(
        &self,
        message: &EndOfMessage,
        message_id: Option<&str>,
        recipient: &ForwardPath,
    ) {
        let Some(journal) = self.journal() else {
            return;
        };
        let sender = &message.envelope.mail.reverse_path;
        journal.note(Event {
            message_id: message_id.map(str::to_owned),
            recipient: Some(recipient.to_string()),
            text: Some("thrown away, as a rule wants it".to_owned()),
            ..self.event(EventKind::Dropped, sender)
        });
    }

    /// The Message-ID, or what stands in for it; nothing where it is not needed.
    pub(super) fn noted_id(&self, incoming: &Received) -> Option<String> {
        self.journal()?;
        match &incoming.structure.envelope().message_id {
            Some(id) if !id.is_empty() => Some(String::from_utf8_lossy(id).into_owned()),
            _ => {
                let digest = incoming.blob.blob.id().to_string();
                Some(digest.chars().take(DIGEST_DIGITS).collect())
            }
        }
    }

    /// What to note when the message has been accepted; `None` where nothing is noted.
    pub(super) fn notes(
        &self,
        envelope: &Envelope,
        message_id: Option<&str>,
        incoming: &Received,
        transport: &Transport,
    ) -> Option<Notes> {
        self.journal()?;
        // A submission may have been given one just now.
        let added = match &incoming.structure.envelope().message_id {
            Some(_) => None,
            None => first(&envelope.trace, "Message-ID"),
        };
        let added = added.map(|id| String::from_utf8_lossy(id).into_owned());
        let mut from = format!(
            "{} octets by {}, session {}",
            incoming.blob.blob.size(),
            self.service.protocol.as_str(),
            transport.session()
        );
        if let Some(account) = self.account {
            from.push_str(&format!(", account {account}"));
        }
        let accepted = Event {
            message_id: added.or_else(|| message_id.map(str::to_owned)),
            text: Some(from),
            ..self.event(EventKind::Accepted, &envelope.reverse_path)
        };
        let copy = Event {
            host: None,
            text: None,
            ..accepted.clone()
        };
        let held = envelope.demands.hold_until;
        let held = held.filter(|until| *until > accepted.at);
        let recipients = envelope.recipients.iter().map(|recipient| {
            let named = recipient.routed.path().to_string();
            let targets = recipient.routed.targets();
            Recipient {
                events: match held {
                    Some(until) => vec![held_back(&copy, &named, until)],
                    None => copies(&copy, &named, targets),
                },
                named,
            }
        });
        Some(Notes {
            recipients: recipients.collect(),
            accepted,
        })
    }
}

impl Notes {
    /// Notes what accepting came to.
    pub(super) fn note(self, journal: &Journal, receipt: &Receipt) {
        let queue_id = receipt.queue_id;
        let lost = Event {
            kind: EventKind::Refused,
            ..self.accepted.clone()
        };
        if receipt.outcomes.contains(&Outcome::Accepted) {
            journal.note(Event {
                queue_id,
                ..self.accepted
            });
        }
        for (account, to) in &receipt.replied {
            journal.note(Event {
                kind: EventKind::Reported,
                sender: Some(String::new()),
                recipient: Some(to.to_string()),
                text: Some(format!("answered automatically, account {account}")),
                ..lost.clone()
            });
        }
        for (recipient, outcome) in self.recipients.into_iter().zip(&receipt.outcomes) {
            match outcome {
                Outcome::Accepted => {
                    for event in recipient.events {
                        journal.note(Event { queue_id, ..event });
                    }
                }
                Outcome::Refused(refusal) => journal.note(Event {
                    recipient: Some(recipient.named),
                    ..refused(lost.clone(), &refusal_reply(refusal))
                }),
            }
        }
    }
}

/// The event, with what was replied.
fn refused(event: Event, reply: &Reply) -> Event {
    let text = reply.text().lines().next().unwrap_or_default();
    let status = reply.enhanced().map(|code| code.to_string());
    let said = match &status {
        Some(status) => format!("{} {status} {text}", reply.code()),
        None => format!("{} {text}", reply.code()),
    };
    Event {
        status,
        text: Some(said),
        ..event
    }
}

fn held_back(copy: &Event, named: &str, until: Timestamp) -> Event {
    Event {
        kind: EventKind::Queued,
        recipient: Some(named.to_owned()),
        text: Some(format!("held back until {until}, as the sender wants it")),
        ..copy.clone()
    }
}

/// What becomes of a recipient that is accepted: one event for each copy, after one for whom it stands for where that is
/// not itself.
fn copies(copy: &Event, named: &str, targets: &[Target]) -> Vec<Event> {
    let addresses = targets.iter().map(|target| target.address().to_string());
    let addresses: Vec<String> = addresses.collect();
    let stands_for_itself = matches!(addresses.as_slice(), [only] if only == named);
    let mut events = Vec::with_capacity(targets.len() + 1);
    if !stands_for_itself {
        events.push(Event {
            kind: EventKind::Expanded,
            recipient: Some(named.to_owned()),
            text: Some(format!("to {}", addresses.join(", "))),
            ..copy.clone()
        });
    }
    for (target, address) in targets.iter().zip(addresses) {
        let (kind, text) = match target {
            Target::Account { id, .. } => (EventKind::Delivered, Some(format!("account {id}"))),
            Target::Remote(_) => (EventKind::Queued, None),
            Target::Forwarded { sender, .. } => {
                (EventKind::Queued, Some(format!("sent on by {sender}")))
            }
            Target::PassedOn { id, .. } => (
                EventKind::Expanded,
                Some(format!("account {id} sends it on")),
            ),
        };
        events.push(Event {
            kind,
            recipient: Some(address),
            text,
            ..copy.clone()
        });
    }
    events
}
