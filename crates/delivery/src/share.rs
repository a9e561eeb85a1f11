//! Which recipients go together: what a host takes in a transaction and in a session (RFC 9422), and who is kept apart.
//!
//! A host that sends no reports of its own cannot be told that a recipient's sender wants none. Such recipients go in
//! a transaction of their own, under the null reverse-path, so that nothing can come back (RFC 3461 §5.2.2).

use nightmail_core::Domain;
use nightmail_queue::{Notify, QueueMessage, Recipient};
use nightmail_smtp::client::Capabilities;

/// The recipients of one transaction.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Batch {
    /// Their places in the message.
    pub indexes: Vec<usize>,
    /// Whether nothing may come back: the null reverse-path is used.
    pub silent: bool,
}

impl Batch {
    /// The first of them.
    pub fn first<'a>(&self, message: &'a QueueMessage) -> Option<&'a Recipient> {
        message.recipients.get(*self.indexes.first()?)
    }
}

/// What one session has been offered so far.
#[derive(Default)]
pub(crate) struct Share {
    transactions: u32,
    /// Domains offered, where the host limits their number.
    domains: Vec<Domain>,
}

impl Share {
    /// Takes the recipients of the next transaction out of `left`, at most `usual_max` of them; `None` where the host
    /// takes no more in this session.
    pub fn next(
        &mut self,
        left: &mut Vec<usize>,
        message: &QueueMessage,
        offered: &Capabilities,
        usual_max: usize,
    ) -> Option<Batch> {
        if offered.mail_max.is_some_and(|max| self.transactions >= max) {
            return None;
        }
        let limit = offered.rcpt_max.and_then(|max| usize::try_from(max).ok());
        let batch_max = limit.map_or(usual_max, |max| max.min(usual_max)).max(1);
        let apart = !offered.dsn && message.reverse_path.address().is_some();
        let mut silent = None;
        let mut indexes = Vec::new();
        for index in std::mem::take(left) {
            let Some(recipient) = message.recipients.get(index) else {
                continue;
            };
            let is_silent = apart && recipient.notify == Notify::Never;
            let fits = indexes.len() < batch_max
                && silent.is_none_or(|silent| silent == is_silent)
                && self.has_room_for(recipient.address.domain(), offered.rcpt_domain_max);
            if fits {
                silent = Some(is_silent);
                indexes.push(index);
            } else {
                left.push(index);
            }
        }
        self.transactions += 1;
        let silent = silent?;
        Some(Batch { indexes, silent })
    }

    fn has_room_for(&mut self, domain: &Domain, max: Option<u32>) -> bool {
        let Some(max) = max.and_then(|max| usize::try_from(max).ok()) else {
            return true;
        };
        if self.domains.contains(domain) {
            return true;
        }
        let has_room = self.domains.len() < max;
        if has_room {
            self.domains.push(domain.clone());
        }
        has_room
    }
}
