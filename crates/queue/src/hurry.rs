//! Making mail for one destination due now: what ETRN asks for (RFC 1985).

use std::collections::HashSet;

use nightmail_core::{Domain, QueueId};
use nightmail_engine::{KeyRange, Order, Space};

use crate::destination::Destination;
use crate::error::QueueError;
use crate::index::read_outbound;
use crate::queue::{PAGE_ROWS, Queue};
use crate::record::{QueueMessage, Recipient};
use crate::tx::Alteration;

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

    /// What the keys of the index begin with.
    fn keys(&self) -> Vec<Vec<u8>> {
        match self {
            Self::Domain(domain) => vec![Destination::Domain(domain.clone()).key()],
            Self::Subdomains(domain) => vec![
                Destination::Domain(domain.clone()).key(),
                Destination::key_below(domain),
            ],
        }
    }
}

impl Queue {
    /// Makes the recipients meant by `target` due now, whatever they wait for. Returns how many messages that
    /// concerned, counted once for each destination. Whoever hands out work is woken. A crash right after may undo it.
    ///
    /// What is held stays so, and what an operator has sent another way goes that way.
    pub async fn hurry(&self, target: &HurryTarget) -> Result<u64, QueueError> {
        let mut hurried = 0;
        for key in target.keys() {
            // What was due already is put behind, where it is met once more.
            let mut seen = HashSet::new();
            let mut range = KeyRange::prefix(&key);
            loop {
                let rows = self.page(Space::Outbound, &range).await?;
                let ids = rows
                    .iter()
                    .map(|(key, value)| Ok(read_outbound(key, value)?.1.id));
                let mut ids = ids.collect::<Result<Vec<QueueId>, QueueError>>()?;
                ids.retain(|id| seen.insert(*id));
                let whom = target.clone();
                let meant = move |_, _: &QueueMessage, recipient: &Recipient| {
                    recipient.relay.is_none() && whom.fits(recipient.address.domain())
                };
                hurried += self
                    .alter_many(ids, Alteration::Retry, meant)
                    .await?
                    .messages;
                match rows.last() {
                    Some((last, _)) if rows.len() == PAGE_ROWS => {
                        range = range.beyond(last, Order::Ascending);
                    }
                    _ => break,
                }
            }
        }
        Ok(hurried)
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
