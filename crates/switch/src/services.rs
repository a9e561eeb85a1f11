//! What accounts want done with a message beyond keeping it, as far as it is planned before the intent: the pieces it is
//! broken into, automatic replies, and the copy among the sent mail.

use nightmail_core::{Address, Flags, ForwardPath, Timestamp};
use nightmail_directory::{AccountRecord, AccountServices, Target, Vacation};
use nightmail_mime::Structure;
use nightmail_queue::Source;
use nightmail_store::SpecialUse;

use crate::apart::{Piece, Whole, attachments};
use crate::copies::{bounds, is_apart};
use crate::envelope::{Body, Envelope, EnvelopeRecipient};
use crate::error::SwitchError;
use crate::plan::{LocalCopy, PlannedReply};
use crate::report::prepare;
use crate::switch::{Switch, heap, random_id};
use crate::vacation::{Reply, is_answered};

/// Accounts that answer one message, at most.
const REPLIES_MAX: usize = 20;

/// An account that is away.
struct Away<'a> {
    place: usize,
    account: nightmail_core::AccountId,
    reached_at: &'a Address,
    vacation: &'a Vacation,
}

/// Whether planning needs to know what the message is made of.
pub(crate) fn needs_structure(envelope: &Envelope) -> bool {
    targets(envelope).any(|(_, target)| match target {
        Target::Forwarded { .. } | Target::PassedOn { .. } => true,
        Target::Account { services, .. } => is_apart(services.as_deref()),
        Target::Remote(_) => false,
    })
}

fn targets(envelope: &Envelope) -> impl Iterator<Item = (usize, &Target)> {
    let recipients = envelope.recipients.iter().enumerate();
    recipients.flat_map(|(place, recipient)| {
        let targets = recipient.routed.targets.iter();
        targets.map(move |target| (place, target))
    })
}

fn services_of(target: &Target) -> Option<(nightmail_core::AccountId, &AccountServices)> {
    match target {
        Target::Account { id, services, .. } | Target::PassedOn { id, services, .. } => {
            Some((*id, services.as_deref()?))
        }
        Target::Remote(_) | Target::Forwarded { .. } => None,
    }
}

impl Switch {
    /// The structure of the message.
    pub(crate) async fn structure(&self, body: Body<'_>) -> Result<Structure, SwitchError> {
        match body {
            Body::New(new) => Structure::decode(&new.meta).map_err(|error| {
                SwitchError::Failed(nightmail_commit::CommitFailure::Unavailable(
                    error.to_string(),
                ))
            }),
            Body::Stored { blob, .. } => Ok(self.store().structure(blob).await?),
        }
    }

    /// What the message is broken into, where an account wants that and it has attachments.
    pub(crate) async fn plan_pieces(
        &self,
        envelope: &Envelope,
        body: Body<'_>,
        structure: Option<&Structure>,
    ) -> Result<Vec<Piece>, SwitchError> {
        let is_wanted = targets(envelope).any(|(_, target)| match target {
            Target::Account { services, .. } => is_apart(services.as_deref()),
            _ => false,
        });
        let (Some(structure), Some(host), true, false) =
            (structure, self.host(), is_wanted, envelope.is_report())
        else {
            return Ok(Vec::new());
        };
        let parts = attachments(structure);
        if parts.is_empty() {
            return Ok(Vec::new());
        }
        let whole = Whole {
            store: self.store(),
            body,
            structure,
            trace: &envelope.trace,
            host,
        };
        whole.pieces(&parts).await
    }

    /// The replies on behalf of those who are away.
    pub(crate) async fn plan_replies(
        &self,
        envelope: &Envelope,
        body: Body<'_>,
        now: Timestamp,
    ) -> Result<Vec<PlannedReply>, SwitchError> {
        let Some(sender) = envelope.reverse_path.address() else {
            return Ok(Vec::new());
        };
        let mut away: Vec<Away<'_>> = Vec::new();
        for (place, target) in targets(envelope) {
            if let Some((account, services)) = services_of(target)
                && let Some(vacation) = &services.vacation
                && vacation.is_active(now)
                && away.len() < REPLIES_MAX
                && !away.iter().any(|known| known.account == account)
            {
                away.push(Away {
                    place,
                    account,
                    reached_at: target.address(),
                    vacation,
                });
            }
        }
        if away.is_empty() {
            return Ok(Vec::new());
        }
        let header = self.header(envelope, body).await?;
        let mut replies = Vec::new();
        for away in away {
            let recipient = envelope.recipients.get(away.place);
            let named = recipient.map(|recipient| recipient.routed.path());
            if let Some(reply) = self.plan_reply(sender, &header, &away, named, now).await? {
                replies.push(reply);
            }
        }
        Ok(replies)
    }

    async fn plan_reply(
        &self,
        sender: &Address,
        header: &[u8],
        away: &Away<'_>,
        named: Option<&ForwardPath>,
        now: Timestamp,
    ) -> Result<Option<PlannedReply>, SwitchError> {
        let Some(host) = self.host() else {
            return Ok(None);
        };
        let Some(record) = self.directory().account(away.account).await? else {
            return Ok(None);
        };
        let own = own_addresses(&record, away.reached_at, named);
        let directory = self.directory();
        if !is_answered(header, sender, &own)
            || directory.has_replied(record.id, sender, now).await?
        {
            return Ok(None);
        }
        let reply = Reply {
            host,
            from: &record.address,
            full_name: &record.full_name,
            to: sender,
            vacation: away.vacation,
            header,
            id: random_id()?,
            now,
        };
        let message = reply.compose();
        let mut bytes = match self.signer() {
            Some(signer) => signer.sign(&record.address, &message).await,
            None => Vec::new(),
        };
        bytes.extend(message);
        let blob = prepare(self.store().heap(), sender, bytes).await;
        let blob = blob.map_err(heap)?;
        let Some(plan) = Box::pin(self.plan_report(sender, &blob, false)).await? else {
            return Ok(None);
        };
        Ok(Some(PlannedReply {
            about: away.place,
            account: record.id,
            to: sender.clone(),
            interval_days: away.vacation.interval_days,
            blob,
            plan,
        }))
    }

    /// The copy among the sent mail of whoever submitted the message, where that is wanted and there is such a mailbox.
    pub(crate) async fn plan_saved(
        &self,
        envelope: &Envelope,
        body: Body<'_>,
    ) -> Result<Option<LocalCopy>, SwitchError> {
        // What comes out of the queue was saved when it was submitted.
        let (Source::Submission(account), Body::New(_)) = (envelope.source, body) else {
            return Ok(None);
        };
        let record = self.directory().account(account).await?;
        let Some(record) = record.filter(|record| record.services.save_sent) else {
            return Ok(None);
        };
        let listed = self.store().list(account).await?;
        let sent = listed
            .iter()
            .find(|listed| listed.entry.special_use == Some(SpecialUse::Sent));
        let Some(sent) = sent else {
            tracing::info!(%account, "sent mail is not saved: there is no mailbox for it");
            return Ok(None);
        };
        Ok(Some(LocalCopy {
            account,
            mailbox: sent.entry.mailbox,
            quota: bounds(record.quota),
            prefix: envelope.trace.clone(),
            flags: Flags::SEEN,
            apart: false,
            refuses: false,
        }))
    }
}

/// The addresses by which a person may have been written to.
fn own_addresses(
    record: &AccountRecord,
    reached_at: &Address,
    named: Option<&ForwardPath>,
) -> Vec<Address> {
    let mut own = vec![record.address.clone(), reached_at.clone()];
    if let Some(ForwardPath::Address(address)) = named {
        own.push(address.clone());
    }
    let logins = record.logins.iter();
    own.extend(logins.filter_map(|login| Address::parse(login).ok()));
    own
}

/// Whether nobody of the recipients is known to want anything.
pub(crate) fn is_plain(recipients: &[EnvelopeRecipient]) -> bool {
    recipients.iter().all(|recipient| {
        let mut targets = recipient.routed.targets.iter();
        targets.all(|target| match target {
            Target::Account { services, .. } => services.is_none(),
            Target::Remote(_) => true,
            Target::Forwarded { .. } | Target::PassedOn { .. } => false,
        })
    })
}
