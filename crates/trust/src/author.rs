//! Who the From field names (RFC 5322 §3.6.2, RFC 7489 §6.6.1).

use nightmail_core::Domain;
use nightmail_mime::address::{ListItem, parse_list};

use crate::inspector::FieldIndex;

/// Items of a From field that are read.
const ITEMS_MAX: usize = 100;
/// Domains of authors that are looked at.
const DOMAINS_MAX: usize = 5;

/// The authors of a message.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Authors {
    /// How many From fields there are.
    pub(crate) fields: usize,
    /// The domains of their addresses, each once.
    pub(crate) domains: Vec<String>,
    /// An address has no domain that can be looked up, or there are more than are looked at.
    pub(crate) odd: bool,
}

impl Authors {
    pub(crate) fn read(index: &FieldIndex<'_>) -> Self {
        let mut authors = Self {
            fields: index.count("from"),
            ..Self::default()
        };
        for field in index.all("from").take(DOMAINS_MAX) {
            for item in parse_list(field.value, ITEMS_MAX) {
                if let ListItem::Mailbox(mailbox) = item {
                    authors.add(mailbox.domain.as_deref());
                }
            }
        }
        authors
    }

    fn add(&mut self, domain: Option<&[u8]>) {
        let parsed = domain
            .and_then(|domain| std::str::from_utf8(domain).ok())
            .and_then(|domain| Domain::parse(domain).ok())
            .filter(|domain| domain.as_literal().is_none());
        match parsed {
            Some(domain) if self.domains.iter().any(|known| known == domain.as_str()) => {}
            Some(domain) if self.domains.len() < DOMAINS_MAX => {
                self.domains.push(domain.as_str().to_owned());
            }
            _ => self.odd = true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(header: &str) -> Authors {
        Authors::read(&FieldIndex::new(header.as_bytes()))
    }

    #[test]
    fn each_domain_is_named_once() {
        let authors =
            read("FROM : \"a@evil.test\" <a@X.test>, b@x.test (c@d.test), Grp: e@y.test;\r\n");
        assert_eq!(authors.domains, ["x.test", "y.test"]);
        assert!(!authors.odd);
        assert_eq!(authors.fields, 1);
    }

    #[test]
    fn domains_beyond_ascii_are_looked_up_as_a_labels() {
        assert_eq!(
            read("From: j\u{f6}rg@b\u{fc}cher.test\r\n").domains,
            ["xn--bcher-kva.test"]
        );
    }

    #[test]
    fn what_cannot_be_looked_up_is_odd() {
        for value in ["a", "a@[192.0.2.1]", "a@x..test", "<>", "a@b.test, c"] {
            assert!(read(&format!("From: {value}\r\n")).odd, "{value}");
        }
        assert_eq!(read("To: a@b.test\r\n").fields, 0);
    }
}
