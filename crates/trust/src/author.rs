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
    /// An address has no domain that can be looked up.
    pub(crate) odd: bool,
    /// Another reader may see another author: there are more than are looked at, a domain is malformed, or a mailbox can
    /// be read in two ways.
    pub(crate) hidden: bool,
}

impl Authors {
    pub(crate) fn read(index: &FieldIndex<'_>) -> Self {
        let mut authors = Self {
            fields: index.count("from"),
            ..Self::default()
        };
        for field in index.all("from").take(DOMAINS_MAX) {
            let items = parse_list(field.value, ITEMS_MAX + 1);
            authors.hidden |= items.len() > ITEMS_MAX || !reads_in_one_way(field.value);
            for item in items {
                if let ListItem::Mailbox(mailbox) = item {
                    authors.add(mailbox.domain.as_deref());
                }
            }
        }
        authors.hidden |= authors.fields != 1;
        authors
    }

    fn add(&mut self, domain: Option<&[u8]>) {
        let Some(domain) = domain else {
            self.odd = true;
            return;
        };
        let text = std::str::from_utf8(domain).ok();
        match text.and_then(|text| Domain::parse(text).ok()) {
            Some(domain) if domain.as_literal().is_some() => self.odd = true,
            Some(domain) if self.domains.iter().any(|known| known == domain.as_str()) => {}
            Some(domain) if self.domains.len() < DOMAINS_MAX => {
                self.domains.push(domain.as_str().to_owned());
            }
            _ => self.hidden = true,
        }
    }
}

/// One entry of an address list, as far as it has come.
#[derive(Default)]
struct Entry {
    angles: usize,
    in_angle: bool,
    /// At-signs that may part a local-part from a domain: within angle brackets, or where there are none.
    ats: usize,
    /// An at-sign behind the angle brackets.
    trails: bool,
}

impl Entry {
    const fn is_plain(&self) -> bool {
        self.angles <= 1 && self.ats <= 1 && !self.trails
    }

    const fn octet(&mut self, octet: u8) {
        match octet {
            b'<' => {
                // What stands before is a name, whatever it holds.
                self.ats = 0;
                self.angles += 1;
                self.in_angle = true;
            }
            b'>' => self.in_angle = false,
            // The end of a route (RFC 5322 §4.4).
            b':' if self.in_angle => self.ats = 0,
            b'@' if self.in_angle || self.angles == 0 => self.ats += 1,
            b'@' => self.trails = true,
            _ => {}
        }
    }
}

/// Whether every reader of an address list sees the same addresses: no entry has two, and quotes and comments end.
fn reads_in_one_way(value: &[u8]) -> bool {
    let (mut depth, mut quoted) = (0usize, false);
    let mut entry = Entry::default();
    let mut octets = value.iter().copied();
    while let Some(octet) = octets.next() {
        match octet {
            b'\\' if quoted || depth > 0 => {
                octets.next();
            }
            b'"' if depth == 0 => quoted = !quoted,
            _ if quoted => {}
            b'(' => depth += 1,
            b')' => depth = depth.saturating_sub(1),
            _ if depth > 0 => {}
            // Several hops of a route are parted by commas.
            b',' if entry.in_angle && entry.ats > 0 => entry.ats = 0,
            b',' | b';' if entry.is_plain() => entry = Entry::default(),
            octet => entry.octet(octet),
        }
    }
    entry.is_plain() && !quoted && depth == 0
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
        for value in ["a", "a@[192.0.2.1]", "<>", "a@b.test, c"] {
            let authors = read(&format!("From: {value}\r\n"));
            assert!(authors.odd && !authors.hidden, "{value}");
        }
        assert_eq!(read("To: a@b.test\r\n").fields, 0);
    }

    #[test]
    fn what_others_may_read_otherwise_is_hidden() {
        let many = format!("{}c@y.test", "a@x.test, ".repeat(ITEMS_MAX));
        for value in [
            "a@x..test",
            "a@-x.test",
            "a@x.test@y.test",
            "<a@x.test@y.test>",
            "<a@x.test> <b@y.test>",
            "<a@x.test> b@y.test",
            "a@x.test, b@y.test@z.test, c@x.test",
            "\"a <b@x.test>",
            "a@x.test (b",
            "a@a.test, a@b.test, a@c.test, a@d.test, a@e.test, a@f.test",
            &many,
        ] {
            assert!(read(&format!("From: {value}\r\n")).hidden, "{value}");
        }
        assert!(read("To: a@x.test\r\n").hidden);
        assert!(read("From: a@x.test\r\nFrom: a@x.test\r\n").hidden);
        for value in [
            "a@y.test <a@x.test>",
            "\"a@y.test\" <a@x.test> (@)",
            "G: a@x.test, \"b, @c\"@x.test;",
            "<@x.test,@y.test:a@x.test>",
            "a\\b <a@x.test>",
            "A (\\) <a@y.test>) <a@x.test>",
        ] {
            assert!(!read(&format!("From: {value}\r\n")).hidden, "{value}");
        }
    }
}
