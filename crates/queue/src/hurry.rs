//! Making mail for one destination due now: what ETRN asks for (RFC 1985).

use nightmail_commit::{Intent, Tx};
use nightmail_core::{Domain, QueueId, Timestamp};
use nightmail_engine::{KeyRange, Order, Space};

use crate::error::QueueError;
use crate::queue::{PAGE_ROWS, Queue};
use crate::record::{QueueMessage, Recipient};
use crate::row::{message_key, parse_message_key};
use crate::tx;

/// Messages looked at for one wish, the oldest first. What lies behind them comes at its own time.
const MESSAGES_LOOKED_AT_MAX: usize = 100 * PAGE_ROWS;

/// Whose mail is to be hurried.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum HurryTarget {
    /// Mail for that domain.
    Domain(Domain),
    /// Mail for that domain and those below it.
    Subdomains(Domain),
}

impl HurryTarget {
    /// Whether mail for `domain` is meant.
    pub fn fits(&self, domain: &Domain) -> bool {
        match self {
            Self::Domain(wanted) => wanted == domain,
            Self::Subdomains(above) => {
                let rest = domain.as_str().strip_suffix(above.as_str());
                rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
            }
        }
    }

    fn waits(&self, recipient: &Recipient, now: Timestamp) -> bool {
        self.fits(recipient.address.domain()) && recipient.next_attempt().is_some_and(|at| at > now)
    }
}

impl Queue {
    /// Makes the recipients meant by `target` that wait for a later attempt due now. Returns how many messages that
    /// concerned. Whoever hands out work is woken. A crash right after may undo it.
    ///
    /// Looks through the queue itself, at most [`MESSAGES_LOOKED_AT_MAX`] messages of it. What is held back stays so.
    pub async fn hurry(&self, target: &HurryTarget) -> Result<u64, QueueError> {
        let now = nightmail_commit::now();
        let mut hurried = 0;
        let mut range = KeyRange::all();
        for _ in 0..MESSAGES_LOOKED_AT_MAX / PAGE_ROWS {
            let rows = self.page(Space::Queue, &range).await?;
            for (key, row) in &rows {
                let message = QueueMessage::decode(row)?;
                let waits = |recipient| target.waits(recipient, now);
                if message.unrouted.is_none() && message.recipients.iter().any(waits) {
                    hurried += self
                        .hurry_one(parse_message_key(key)?, target.clone())
                        .await?;
                }
            }
            match rows.last() {
                Some((last, _)) if rows.len() == PAGE_ROWS => {
                    range = range.beyond(last, Order::Ascending);
                }
                _ => break,
            }
        }
        Ok(hurried)
    }

    /// One if the message is still there.
    async fn hurry_one(&self, id: QueueId, target: HurryTarget) -> Result<u64, QueueError> {
        let intent = Intent::soon(move |tx: &mut Tx<'_>| {
            let now = tx.now();
            tx::reschedule_some::<QueueError>(tx, id, now, |recipient| target.waits(recipient, now))
        });
        let moved = self
            .committer()
            .submit(intent.reading([message_key(id)]))
            .await;
        match moved.map_err(QueueError::from) {
            Ok(()) => Ok(1),
            Err(QueueError::NoSuchMessage) => Ok(0),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn domain(name: &str) -> Domain {
        name.parse().unwrap()
    }

    #[test]
    fn a_domain_is_itself_and_a_node_is_everything_below_it_too() {
        let only = HurryTarget::Domain(domain("x.test"));
        assert!(only.fits(&domain("X.test")));
        assert!(!only.fits(&domain("a.x.test")));
        let below = HurryTarget::Subdomains(domain("x.test"));
        assert!(below.fits(&domain("x.test")) && below.fits(&domain("a.b.x.test")));
        assert!(!below.fits(&domain("ax.test")) && !below.fits(&domain("test")));
    }
}
