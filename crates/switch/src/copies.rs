//! Where the copies of a message go: into mailboxes here, into the queue, on in the name of an account.

use std::collections::{HashMap, HashSet};

use bytes::{Bytes, BytesMut};
use nightmail_core::{AccountId, Address, Flags, ReversePath};
use nightmail_directory::{AccountServices, AttachmentMode, OverQuota, Target};
use nightmail_mime::Structure;
use nightmail_queue::{NewQueueMessage, NewRecipient, Notify, Source};
use nightmail_store::Quota;

use crate::envelope::{Envelope, EnvelopeRecipient};
use crate::error::SwitchError;
use crate::notice::{notify_elsewhere, original_recipient};
use crate::plan::{LocalCopy, Plan};
use crate::switch::Switch;

/// What has been found to be done with a message.
#[derive(Default)]
struct Copies {
    places: HashMap<AccountId, usize>,
    local: Vec<LocalCopy>,
    remote: Vec<NewRecipient>,
    /// In whose name, and to whom.
    forwarded: Vec<(Address, Vec<NewRecipient>)>,
    copies_of: Vec<Vec<usize>>,
}

/// Lets accounts keep what they would otherwise send round in a circle: a message that they have sent on before. What
/// was written here to an account, a report or a reply, is kept too, as a failure to send it on would be told to nobody.
pub(crate) fn stop_circles(envelope: &mut Envelope, structure: Option<&Structure>) {
    let keeps_all = envelope.is_report();
    for recipient in &mut envelope.recipients {
        let targets = &mut recipient.routed.targets;
        let been_here = |sender: &Address| {
            structure.is_some_and(|found| found.trace.was_delivered_to(&sender.to_string()))
        };
        let again: HashSet<AccountId> = targets
            .iter()
            .filter_map(|target| match target {
                Target::Forwarded {
                    account, sender, ..
                } if been_here(sender) => Some(*account),
                _ => None,
            })
            .collect();
        let all = std::mem::take(targets);
        *targets = all
            .into_iter()
            .filter_map(|target| match target {
                Target::Forwarded { account, .. } if again.contains(&account) => None,
                Target::PassedOn { id, .. } if keeps_all || again.contains(&id) => {
                    Some(target.kept())
                }
                target => Some(target),
            })
            .collect();
    }
}

impl Switch {
    /// What goes where of a message of `blob_size` octets.
    pub(crate) async fn plan_copies(
        &self,
        mut envelope: Envelope,
        blob_size: u64,
    ) -> Result<Plan, SwitchError> {
        stop_circles(&mut envelope, None);
        let mut copies = Copies::default();
        for recipient in &envelope.recipients {
            let mut depends_on = Vec::new();
            for target in &recipient.routed.targets {
                match target {
                    Target::Account { id, .. } => {
                        let place = match copies.places.get(id) {
                            Some(place) => *place,
                            None => {
                                copies.local.push(self.copy(&envelope, target).await?);
                                copies.places.insert(*id, copies.local.len() - 1);
                                copies.local.len() - 1
                            }
                        };
                        depends_on.push(place);
                    }
                    Target::Remote(address) => {
                        add_remote(&mut copies.remote, recipient, address);
                    }
                    Target::Forwarded { to, sender, .. } => {
                        copies.add_forwarded(&envelope.reverse_path, sender, to);
                    }
                    Target::PassedOn { .. } => {}
                }
            }
            copies.copies_of.push(depends_on);
        }
        self.planned(envelope, blob_size, copies).await
    }

    async fn planned(
        &self,
        mut envelope: Envelope,
        blob_size: u64,
        copies: Copies,
    ) -> Result<Plan, SwitchError> {
        envelope.demands.hold_until = None;
        let (policy, missing_line_ends) = (envelope.policy, envelope.missing_line_ends);
        let mut queued = Vec::new();
        if !copies.remote.is_empty() {
            let id = self.queue().next_id().await?;
            let message = self.queue_message(envelope.clone(), blob_size, copies.remote);
            queued.push((id, message));
        }
        for (sender, recipients) in copies.forwarded {
            let id = self.queue().next_id().await?;
            let message = self.sent_on(&envelope, blob_size, &sender, recipients);
            queued.push((id, message));
        }
        Ok(Plan {
            copies: copies.local,
            saved: None,
            pieces: Vec::new(),
            queued,
            blob_size,
            missing_line_ends,
            policy,
            copies_of: copies.copies_of,
            reports: Vec::new(),
            replies: Vec::new(),
        })
    }

    /// The message as it goes on in the name of the account `sender`: failures are told to it, and nothing of what its
    /// sender wanted to hear. The mark of its having been here stands in front.
    fn sent_on(
        &self,
        envelope: &Envelope,
        blob_size: u64,
        sender: &Address,
        recipients: Vec<NewRecipient>,
    ) -> NewQueueMessage {
        let mut sealed = BytesMut::from(format!("Delivered-To: {sender}\r\n").as_bytes());
        sealed.extend_from_slice(&envelope.sealed);
        let mut forwarded = Envelope {
            reverse_path: match &envelope.reverse_path {
                ReversePath::Null => ReversePath::Null,
                ReversePath::Address(_) => ReversePath::Address(sender.clone()),
            },
            recipients: Vec::new(),
            source: Source::Relay,
            ret: None,
            envid: None,
            sealed: sealed.freeze(),
            ..envelope.clone()
        };
        forwarded.demands.deliver_by = None;
        self.queue_message(forwarded, blob_size, recipients)
    }

    /// The copy for an account.
    async fn copy(&self, envelope: &Envelope, target: &Target) -> Result<LocalCopy, SwitchError> {
        let Target::Account {
            id,
            address,
            quota,
            services,
            ..
        } = target
        else {
            return Err(SwitchError::Store(
                nightmail_store::StoreError::NoSuchAccount,
            ));
        };
        let mailbox = self.store().inbox(*id).await?;
        let mut prefix = format!(
            "Return-Path: <{}>\r\nDelivered-To: {address}\r\n",
            envelope.reverse_path
        )
        .into_bytes();
        prefix.extend_from_slice(&envelope.trace);
        let services = services.as_deref();
        Ok(LocalCopy {
            account: *id,
            mailbox,
            quota: bounds(*quota),
            prefix: prefix.into(),
            flags: Flags::EMPTY,
            apart: is_apart(services) && !envelope.is_report(),
            refuses: self.refuses(services),
        })
    }

    /// Whether a full mailbox is told as something that does not pass.
    pub(crate) fn refuses(&self, services: Option<&AccountServices>) -> bool {
        match services.map(|services| services.over_quota) {
            None | Some(OverQuota::Default) => self.refuses_over_quota(),
            Some(OverQuota::Defer) => false,
            Some(OverQuota::Refuse) => true,
        }
    }
}

pub(crate) fn is_apart(services: Option<&AccountServices>) -> bool {
    services.is_some_and(|services| services.attachments == AttachmentMode::Apart)
}

/// The bounds that the store looks at.
pub(crate) fn bounds(quota: nightmail_directory::Quota) -> Quota {
    Quota {
        bytes: quota.bytes,
        messages: quota.messages,
        mailboxes: quota.mailboxes,
    }
}

impl Copies {
    fn add_forwarded(&mut self, reverse_path: &ReversePath, sender: &Address, to: &Address) {
        let recipient = NewRecipient {
            address: to.clone(),
            notify: match reverse_path {
                ReversePath::Null => Notify::Never,
                ReversePath::Address(_) => Notify::On {
                    success: false,
                    failure: true,
                    delay: false,
                },
            },
            orcpt: None,
        };
        let known = self.forwarded.iter_mut().find(|(by, _)| by == sender);
        match known {
            Some((_, recipients)) if recipients.iter().any(|known| known.address == *to) => {}
            Some((_, recipients)) => recipients.push(recipient),
            None => self.forwarded.push((sender.clone(), vec![recipient])),
        }
    }
}

/// The recipients of a message that is held back: the forward-path, or for the postmaster whoever that is now.
pub(crate) fn held_recipients(recipient: &EnvelopeRecipient) -> Vec<NewRecipient> {
    let addresses = match recipient.routed.path() {
        nightmail_core::ForwardPath::Address(address) => vec![address.clone()],
        nightmail_core::ForwardPath::Postmaster => {
            let targets = recipient.routed.targets.iter();
            targets.map(|target| target.address().clone()).collect()
        }
    };
    let held = |address| NewRecipient {
        address,
        notify: recipient.notify,
        orcpt: recipient.orcpt.clone(),
    };
    addresses.into_iter().map(held).collect()
}

/// One entry for each address, by whatever ways it is reached.
fn add_remote(remote: &mut Vec<NewRecipient>, recipient: &EnvelopeRecipient, address: &Address) {
    if !remote.iter().any(|known| known.address == *address) {
        remote.push(NewRecipient {
            address: address.clone(),
            notify: notify_elsewhere(recipient),
            orcpt: original_recipient(recipient, address),
        });
    }
}

/// What stands in front of the blob of a queued message.
pub(crate) fn queue_prefix(envelope: &Envelope) -> Bytes {
    let mut prefix = BytesMut::from(envelope.sealed.as_ref());
    prefix.extend_from_slice(&envelope.trace);
    prefix.freeze()
}
