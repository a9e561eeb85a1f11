//! Which recipients go together: what a host takes in a transaction and in a session (RFC 9422), and who is kept apart.
//!
//! A host that sends no reports of its own cannot be told that a recipient's sender wants none. Such recipients go in
//! a transaction of their own, under the null reverse-path, so that nothing can come back (RFC 3461 §5.2.2).

use nightmail_core::Domain;
use nightmail_queue::{Notify, QueueMessage};
use nightmail_smtp::client::Capabilities;

/// The recipients of one transaction.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Batch {
    /// Their places in the message.
    pub indexes: Vec<usize>,
    /// Whether nothing may come back: the null reverse-path is used.
    pub silent: bool,
}

/// The recipients that one session is to offer, and what it has offered.
#[derive(Default)]
pub(crate) struct Share {
    left: Vec<usize>,
    transactions: u32,
    /// Domains offered, where the host limits their number.
    domains: Vec<Domain>,
}

impl Share {
    /// The recipients at `indexes` of a message.
    pub fn new(indexes: &[usize]) -> Self {
        Self {
            left: indexes.to_vec(),
            ..Self::default()
        }
    }

    /// Whether all have been offered.
    pub const fn is_empty(&self) -> bool {
        self.left.is_empty()
    }

    /// Those not offered, which are taken out.
    pub fn left(&mut self) -> Vec<usize> {
        std::mem::take(&mut self.left)
    }

    /// The recipients of the next transaction, at most `usual_max` of them; `None` where the host takes no more in this
    /// session.
    pub fn next(
        &mut self,
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
        for index in self.left() {
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
                self.left.push(index);
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
