//! What the top-level header says about the message's way here: known fields present, hops, deliveries.

use crate::header::{self, Field};
use crate::lex;

macro_rules! known_fields {
    ($($variant:ident $name:literal,)*) => {
        /// A header field this program knows by name.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum KnownField {
            $(#[doc = concat!("`", $name, "`")] $variant,)*
        }

        impl KnownField {
            const NAMES: &'static [(Self, &'static str)] = &[$((Self::$variant, $name),)*];
        }
    };
}

known_fields! {
    Date "Date",
    From "From",
    Sender "Sender",
    ReplyTo "Reply-To",
    To "To",
    Cc "Cc",
    Bcc "Bcc",
    MessageId "Message-ID",
    InReplyTo "In-Reply-To",
    References "References",
    Subject "Subject",
    MimeVersion "MIME-Version",
    ContentType "Content-Type",
    ContentTransferEncoding "Content-Transfer-Encoding",
    ContentId "Content-ID",
    ContentDescription "Content-Description",
    ContentDisposition "Content-Disposition",
    ContentLanguage "Content-Language",
    ContentLocation "Content-Location",
    ContentMd5 "Content-MD5",
    Received "Received",
    ReturnPath "Return-Path",
    DeliveredTo "Delivered-To",
    AutoSubmitted "Auto-Submitted",
    Precedence "Precedence",
    ListId "List-Id",
    ListUnsubscribe "List-Unsubscribe",
    DkimSignature "DKIM-Signature",
    AuthenticationResults "Authentication-Results",
    ResentFrom "Resent-From",
}

impl KnownField {
    /// The field of this name, compared without case.
    pub fn parse(name: &[u8]) -> Option<Self> {
        Self::NAMES
            .iter()
            .find(|(_, known)| {
                known.len() == name.len() && known.as_bytes().eq_ignore_ascii_case(name)
            })
            .map(|(field, _)| *field)
    }

    /// The name as usually written.
    pub fn name(self) -> &'static str {
        Self::NAMES
            .iter()
            .find(|(field, _)| *field == self)
            .map_or("", |(_, name)| name)
    }

    const fn bit(self) -> u32 {
        1 << self as u32
    }
}

/// The bit of [`Trace`] for a message that may go without TLS: above those of the known fields, and as their only one
/// about a value.
const TLS_OPTIONAL: u32 = 1 << 31;
/// The bit of a row for a header of which [`Trace::repeats`] is false; rows of before do not say.
const ONCE: u32 = 1 << 30;

/// What a top-level header shows of the message's way.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Trace {
    /// One bit for each [`KnownField`], and [`TLS_OPTIONAL`].
    pub(crate) present: u32,
    /// Whether one of Subject, Message-ID and In-Reply-To may be there more than once, so that the envelope has not all.
    pub(crate) repeats: bool,
    /// How many Received fields there are.
    pub received_count: u32,
    /// The values of Delivered-To fields, trimmed, without angle brackets.
    pub delivered_to: Vec<Vec<u8>>,
}

impl Trace {
    /// Reads a header section. Keeps `deliveries_max` Delivered-To values.
    pub fn parse(header: &[u8], deliveries_max: usize) -> Self {
        let mut trace = Self::default();
        for field in header::fields(header) {
            if let Some(known) = KnownField::parse(field.name) {
                trace.add(known, &field, deliveries_max);
            } else if makes_tls_optional(&field) {
                trace.present |= TLS_OPTIONAL;
            }
        }
        trace
    }

    pub(crate) fn add(&mut self, known: KnownField, field: &Field<'_>, deliveries_max: usize) {
        let again = self.has(known);
        self.present |= known.bit();
        match known {
            KnownField::Subject | KnownField::MessageId | KnownField::InReplyTo => {
                self.repeats |= again;
            }
            KnownField::Received => self.received_count = self.received_count.saturating_add(1),
            KnownField::DeliveredTo if self.delivered_to.len() < deliveries_max => {
                let value = header::unfold(field.value);
                let bare = value
                    .strip_prefix(b"<")
                    .and_then(|value| value.strip_suffix(b">"));
                self.delivered_to
                    .push(lex::trim(bare.unwrap_or(&value)).to_vec());
            }
            _ => {}
        }
    }

    /// What a row keeps of the fields that are there.
    pub(crate) const fn bits(&self) -> u32 {
        match self.repeats {
            true => self.present,
            false => self.present | ONCE,
        }
    }

    /// The reverse of [`Self::bits`], without the rest.
    pub(crate) fn from_bits(bits: u32) -> Self {
        Self {
            present: bits & !ONCE,
            repeats: bits & ONCE == 0,
            ..Self::default()
        }
    }

    /// Whether the field is there.
    pub const fn has(&self, field: KnownField) -> bool {
        self.present & field.bit() != 0
    }

    /// Whether the sender lets it go without TLS where nothing else would do (`TLS-Required: No`, RFC 8689 §3).
    pub const fn tls_is_optional(&self) -> bool {
        self.present & TLS_OPTIONAL != 0
    }

    /// Whether a Delivered-To field names this address, compared without case: the message has been here.
    pub fn was_delivered_to(&self, address: &str) -> bool {
        self.delivered_to
            .iter()
            .any(|seen| seen.eq_ignore_ascii_case(address.as_bytes()))
    }
}

fn makes_tls_optional(field: &Field<'_>) -> bool {
    field.name.eq_ignore_ascii_case(b"TLS-Required")
        && lex::trim(&header::unfold(field.value)).eq_ignore_ascii_case(b"No")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hops_and_deliveries_are_counted() {
        let trace = Trace::parse(
            b"Received: a\r\nreceived: b\r\nDelivered-To: <A@x.test>\r\nDELIVERED-TO: b@x.test\r\nDate: x\r\n\r\nFrom: y",
            10,
        );
        assert_eq!(trace.received_count, 2);
        assert!(trace.was_delivered_to("a@X.test") && trace.was_delivered_to("b@x.test"));
        assert!(!trace.was_delivered_to("c@x.test"));
        assert!(trace.has(KnownField::Date) && !trace.has(KnownField::From));
    }

    #[test]
    fn fields_that_the_envelope_has_only_the_first_of_are_noted() {
        for (header, repeats) in [
            (
                &b"Message-ID: a\r\nSubject: b\r\nTo: c\r\nTo: d\r\n\r\nSubject: e"[..],
                false,
            ),
            (b"Message-ID: a\r\nMESSAGE-ID: a\r\n\r\n", true),
            (
                b"Subject: a\r\nMessage-ID: b\r\nSubject: a\r\nIn-Reply-To: c\r\n\r\n",
                true,
            ),
        ] {
            let trace = Trace::parse(header, 1);
            assert_eq!(trace.repeats, repeats, "{header:?}");
            assert_eq!(Trace::from_bits(trace.bits()), trace);
        }
        let of_before = Trace::from_bits(KnownField::Subject.bit());
        assert!(of_before.repeats && of_before.has(KnownField::Subject));
    }

    #[test]
    fn only_the_word_no_makes_tls_optional() {
        let is_optional = |header: &[u8]| Trace::parse(header, 1).tls_is_optional();
        assert!(is_optional(b"Date: x\r\nTLS-Required: No\r\n\r\n"));
        assert!(is_optional(b"tls-required:\r\n NO \r\n\r\n"));
        for header in [
            &b"TLS-Required: Yes\r\n\r\n"[..],
            b"TLS-Required: No thanks\r\n\r\n",
            b"X-TLS-Required: No\r\n\r\n",
            b"Date: x\r\n\r\nTLS-Required: No\r\n",
        ] {
            assert!(!is_optional(header), "{header:?}");
        }
    }

    #[test]
    fn every_known_field_has_a_bit_of_its_own() {
        let mut seen = TLS_OPTIONAL | ONCE;
        for (field, name) in KnownField::NAMES {
            assert_eq!(
                KnownField::parse(name.to_lowercase().as_bytes()),
                Some(*field)
            );
            assert_eq!(field.name(), *name);
            assert_eq!(seen & field.bit(), 0);
            seen |= field.bit();
        }
    }
}
