//! The envelope of a message in IMAP's sense (RFC 3501 §7.4.2): ten header fields.

use crate::address::{self, ListItem};
use crate::date::{self, SentDate};
use crate::header;
use crate::trace::KnownField;

/// The envelope. Values are unfolded and otherwise as written; encoded-words stay encoded.
///
/// Sender and Reply-To are as in the header; [`Envelope::sender`] and [`Envelope::reply_to`] fall back to From.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Envelope {
    /// The Date value.
    pub date: Option<Vec<u8>>,
    /// What the Date value means, where it can be read.
    pub sent: Option<SentDate>,
    /// The Subject value.
    pub subject: Option<Vec<u8>>,
    /// From.
    pub from: Vec<ListItem>,
    /// Sender, empty where absent.
    pub header_sender: Vec<ListItem>,
    /// Reply-To, empty where absent.
    pub header_reply_to: Vec<ListItem>,
    /// All To fields.
    pub to: Vec<ListItem>,
    /// All Cc fields.
    pub cc: Vec<ListItem>,
    /// All Bcc fields.
    pub bcc: Vec<ListItem>,
    /// The In-Reply-To value.
    pub in_reply_to: Option<Vec<u8>>,
    /// The Message-ID value.
    pub message_id: Option<Vec<u8>>,
}

impl Envelope {
    /// Reads the envelope from a header section. Keeps about `addresses_max` addresses of each field.
    pub fn parse(header: &[u8], addresses_max: usize) -> Self {
        let mut envelope = Self::default();
        for field in header::fields(header) {
            if let Some(known) = KnownField::parse(field.name) {
                envelope.add(known, field.value, addresses_max);
            }
        }
        envelope
    }

    /// Takes one field in. Of To, Cc and Bcc every occurrence counts, of the others the first.
    pub(crate) fn add(&mut self, known: KnownField, value: &[u8], addresses_max: usize) {
        match known {
            KnownField::Date if self.date.is_none() => {
                self.sent = date::parse(value);
                self.date = Some(header::unfold(value));
            }
            KnownField::Subject => set_first(&mut self.subject, value),
            KnownField::InReplyTo => set_first(&mut self.in_reply_to, value),
            KnownField::MessageId => set_first(&mut self.message_id, value),
            _ => self.add_addresses(known, value, addresses_max),
        }
    }

    fn add_addresses(&mut self, known: KnownField, value: &[u8], addresses_max: usize) {
        let (list, repeats) = match known {
            KnownField::From => (&mut self.from, false),
            KnownField::Sender => (&mut self.header_sender, false),
            KnownField::ReplyTo => (&mut self.header_reply_to, false),
            KnownField::To => (&mut self.to, true),
            KnownField::Cc => (&mut self.cc, true),
            KnownField::Bcc => (&mut self.bcc, true),
            _ => return,
        };
        if repeats || list.is_empty() {
            let left = addresses_max.saturating_sub(list.len());
            list.extend(address::parse_list(value, left));
        }
    }

    /// Sender, or From where the header has none.
    pub fn sender(&self) -> &[ListItem] {
        or_from(&self.header_sender, &self.from)
    }

    /// Reply-To, or From where the header has none.
    pub fn reply_to(&self) -> &[ListItem] {
        or_from(&self.header_reply_to, &self.from)
    }
}

fn or_from<'a>(list: &'a [ListItem], from: &'a [ListItem]) -> &'a [ListItem] {
    if list.is_empty() { from } else { list }
}

fn set_first(slot: &mut Option<Vec<u8>>, value: &[u8]) {
    if slot.is_none() {
        *slot = Some(header::unfold(value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sender_and_reply_to_fall_back_to_from() {
        let envelope = Envelope::parse(b"From: a@b\r\nSender: \r\nReply-To: c@d\r\n\r\n", 10);
        assert_eq!(envelope.sender(), envelope.from);
        assert_ne!(envelope.reply_to(), envelope.from);
    }

    #[test]
    fn the_first_subject_and_every_recipient_count() {
        let envelope = Envelope::parse(
            b"Subject: one\r\n two\r\nSubject: x\r\nTo: a@b\r\nto: c@d, e@f\r\nFrom: g@h\r\nFrom: i@j\r\n",
            10,
        );
        assert_eq!(envelope.subject.as_deref(), Some(&b"one two"[..]));
        assert_eq!(envelope.to.len(), 3);
        assert_eq!(envelope.from.len(), 1);
        assert!(envelope.sent.is_none() && envelope.date.is_none());
    }
}
