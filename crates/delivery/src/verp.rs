//! Variable envelope return paths: a reverse-path that names the recipient, so that whoever reads what comes back knows
//! whom it is about without reading it.

use nightmail_core::{Address, ReversePath};

use crate::options::Verp;

impl Verp {
    /// Whether this sender's recipients get an address each.
    pub(crate) fn fits(&self, sender: &ReversePath) -> bool {
        sender.address().is_some() && self.senders.iter().any(|pattern| pattern.fits(sender))
    }

    /// The sender's address for one recipient; the sender's own where that cannot be written.
    pub(crate) fn path(&self, sender: &ReversePath, recipient: &Address) -> ReversePath {
        let Some(address) = sender.address() else {
            return sender.clone();
        };
        let (before, at) = self.delimiters;
        let (local, domain) = (address.local_part(), address.domain());
        let (to_local, to_domain) = (recipient.local_part(), recipient.domain());
        let text = format!("{local}{before}{to_local}{at}{to_domain}@{domain}");
        Address::parse(&text).map_or_else(|_| sender.clone(), ReversePath::Address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reverse_path_names_its_recipient() {
        let verp = Verp {
            senders: vec!["@lists.test".parse().unwrap()],
            delimiters: ('+', '='),
        };
        let sender = ReversePath::Address("news@lists.test".parse().unwrap());
        let other = ReversePath::Address("news@other.test".parse().unwrap());
        assert!(verp.fits(&sender) && !verp.fits(&other) && !verp.fits(&ReversePath::Null));
        let recipient = "ann@far.test".parse().unwrap();
        assert_eq!(
            verp.path(&sender, &recipient).to_string(),
            "news+ann=far.test@lists.test"
        );
        let odd = "\"a b\"@far.test".parse().unwrap();
        assert_eq!(verp.path(&sender, &odd), sender);
    }
}
