//! Automatic replies of people who are away (RFC 3834): whether a message is answered, and with what.
//!
//! Only what a person wrote to the account by name is answered, once in a while, from the empty path and marked as a
//! reply that nothing answers in turn. Whom an account has answered is written in the intent that accepts the message:
//! a crash leaves both or neither.

use nightmail_core::{Address, Domain, Timestamp};
use nightmail_directory::Vacation;
use nightmail_mime::ListItem;
use nightmail_mime::address::parse_list;
use nightmail_mime::encoded_word::{decode_words, encode_words};
use nightmail_mime::header::{fields, first, message_ids, unfold};
use nightmail_mime::transfer::encode_quoted_printable;

/// Addresses of To and Cc fields that are looked at.
const ADDRESSES_MAX: usize = 1000;
/// Octets of References that a reply takes over.
const REFERENCES_OCTETS_MAX: usize = 4000;
/// Octets of the subject that a reply takes over.
const SUBJECT_OCTETS_MAX: usize = 500;

/// Whether a message with this header, from `sender`, is answered on behalf of whoever has the addresses `own`.
pub(crate) fn is_answered(header: &[u8], sender: &Address, own: &[Address]) -> bool {
    let from_self = own.iter().any(|own| own.lookup() == sender.lookup());
    !from_self && !is_of_machine(sender) && !is_automatic(header) && names(header, own)
}

/// Whether mail from this address is written by software, as its name says (RFC 5230 §4.6 gives examples).
fn is_of_machine(sender: &Address) -> bool {
    let local = sender.local_part().lookup();
    let bare: String = local.chars().filter(char::is_ascii_alphanumeric).collect();
    let is_named = ["mailerdaemon", "listserv", "majordomo", "postmaster"].contains(&bare.as_str());
    let begins = ["noreply", "donotreply", "nichtantworten", "bounce"]
        .iter()
        .any(|begin| bare.starts_with(begin));
    let ends = ["-request", "-bounces", "-bounce", "-owner", "-relay"]
        .iter()
        .any(|end| local.ends_with(end));
    is_named || begins || ends || local.starts_with("owner-")
}

/// Whether the header says that no person wrote the message, or that it went to many.
fn is_automatic(header: &[u8]) -> bool {
    fields(header).any(|field| {
        let name = field.name.to_ascii_lowercase();
        let value = unfold(field.value).to_ascii_lowercase();
        let word = value.split(|byte| matches!(byte, b' ' | b'\t' | b';' | b','));
        let word = word.into_iter().next().unwrap_or_default();
        match name.as_slice() {
            b"auto-submitted" => word != b"no",
            b"precedence" => [&b"bulk"[..], b"list", b"junk"].contains(&word),
            b"x-auto-response-suppress" => [&b"all"[..], b"oof", b"autoreply"]
                .iter()
                .any(|what| memchr::memmem::find(&value, what).is_some()),
            name => name.starts_with(b"list-"),
        }
    })
}

/// Whether the header names one of the addresses as a recipient.
fn names(header: &[u8], own: &[Address]) -> bool {
    let is_recipients = |name: &[u8]| {
        ["To", "Cc", "Bcc", "Resent-To", "Resent-Cc", "Resent-Bcc"]
            .iter()
            .any(|known| name.eq_ignore_ascii_case(known.as_bytes()))
    };
    let own: Vec<String> = own.iter().map(Address::lookup).collect();
    fields(header)
        .filter(|field| is_recipients(field.name))
        .flat_map(|field| parse_list(field.value, ADDRESSES_MAX))
        .any(|item| match item {
            ListItem::Mailbox(mailbox) => {
                let local = String::from_utf8_lossy(&mailbox.local_part).into_owned();
                let domain = mailbox.domain.unwrap_or_default();
                let text = format!("{local}@{}", String::from_utf8_lossy(&domain));
                Address::parse(&text).is_ok_and(|address| own.contains(&address.lookup()))
            }
            ListItem::GroupStart(_) | ListItem::GroupEnd => false,
        })
}

/// A reply to be written.
pub(crate) struct Reply<'a> {
    /// The name of this host, for the Message-ID.
    pub host: &'a Domain,
    /// The account's own address.
    pub from: &'a Address,
    /// The person's name; may be empty.
    pub full_name: &'a str,
    /// Who is answered.
    pub to: &'a Address,
    /// What is said.
    pub vacation: &'a Vacation,
    /// The header of the message that is answered.
    pub header: &'a [u8],
    /// A number that no other reply has.
    pub id: u128,
    /// When it is written.
    pub now: Timestamp,
}

impl Reply<'_> {
    /// The reply as a message with CRLF line ends, all ASCII but for addresses that are not.
    pub fn compose(&self) -> Vec<u8> {
        let mut out = String::new();
        let mut field = |name: &str, value: &str| out.push_str(&format!("{name}: {value}\r\n"));
        let from = match self.full_name.is_empty() {
            true => format!("<{}>", self.from),
            false => format!("{} <{}>", phrase(self.full_name), self.from),
        };
        field("From", &from);
        field("To", &format!("<{}>", self.to));
        field("Subject", &encode_words(&self.subject()));
        field("Date", &self.now.rfc5322());
        field("Message-ID", &format!("<{:032x}@{}>", self.id, self.host));
        if let Some(id) = self.answered_id() {
            field("In-Reply-To", &id);
            field("References", &self.references(&id));
        }
        field("Auto-Submitted", "auto-replied (vacation)");
        field("X-Auto-Response-Suppress", "All");
        field("MIME-Version", "1.0");
        field("Content-Type", "text/plain; charset=utf-8");
        field("Content-Transfer-Encoding", "quoted-printable");
        out.push_str("\r\n");
        let mut out = out.into_bytes();
        out.extend(encode_quoted_printable(self.vacation.text.as_bytes()));
        out
    }

    /// As the account wants it, else `Auto: ` and the subject of the message (RFC 3834 §3.1.5).
    fn subject(&self) -> String {
        if !self.vacation.subject.is_empty() {
            return self.vacation.subject.clone();
        }
        let value = first(self.header, "Subject").unwrap_or_default();
        let mut subject = decode_words(value.get(..SUBJECT_OCTETS_MAX).unwrap_or(value));
        if subject.is_empty() {
            subject.push_str("your message");
        }
        format!("Auto: {subject}")
    }

    fn answered_id(&self) -> Option<String> {
        let value = first(self.header, "Message-ID")?;
        let id = message_ids(value).next()?;
        shown_id(id)
    }

    /// What the message refers to, and the message: its last part, where that is long (RFC 5322 §3.6.4).
    fn references(&self, answered: &str) -> String {
        let value = first(self.header, "References")
            .or_else(|| first(self.header, "In-Reply-To"))
            .unwrap_or_default();
        let mut ids: Vec<String> = message_ids(value).filter_map(shown_id).collect();
        ids.push(answered.to_owned());
        let mut octets = 0;
        let mut kept: Vec<String> = ids
            .into_iter()
            .rev()
            .take_while(|id| {
                octets += id.len();
                octets <= REFERENCES_OCTETS_MAX
            })
            .collect();
        kept.reverse();
        kept.join("\r\n ")
    }
}

/// A message id with its angle brackets; `None` where it is no word of visible ASCII characters, or too long.
fn shown_id(id: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(id).ok()?;
    let is_sound =
        !text.is_empty() && text.len() < 900 && text.bytes().all(|b| b.is_ascii_graphic());
    is_sound.then(|| format!("<{text}>"))
}

/// A display name.
fn phrase(name: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || c == ' ';
    if name.chars().all(is_plain) && name.len() < 60 {
        return name.to_owned();
    }
    if !name.is_ascii() || name.contains("=?") {
        return encode_words(name);
    }
    let quoted: String = name
        .chars()
        .filter(|c| !c.is_control())
        .flat_map(|c| match c {
            '"' | '\\' => vec!['\\', c],
            c => vec![c],
        })
        .collect();
    format!("\"{quoted}\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Address {
        text.parse().unwrap()
    }

    fn answered(header: &str, sender: &str) -> bool {
        let own = [address("ann@x.test"), address("Ann.Lee@x.test")];
        is_answered(header.as_bytes(), &address(sender), &own)
    }

    #[test]
    fn only_mail_that_a_person_wrote_to_the_account_is_answered() {
        let to = "To: Bob <bob@x.test>, \"Ann\" <ANN@x.test>\r\n";
        assert!(answered(to, "s@far.test"));
        assert!(answered("Cc: ann.lee@X.test\r\n", "s@far.test"));
        assert!(answered("Resent-To: ann@x.test\r\n", "s@far.test"));
        assert!(answered(
            &format!("{to}Auto-Submitted: NO\r\n"),
            "s@far.test"
        ));
        assert!(answered(
            &format!("{to}Precedence: first-class\r\n"),
            "s@far.test"
        ));
        for header in [
            "",
            "To: team@x.test\r\n",
            "X-To: ann@x.test\r\n",
            "To: ann@y.test\r\n",
        ] {
            assert!(!answered(header, "s@far.test"), "{header}");
        }
    }

    #[test]
    fn machines_and_lists_are_not_answered() {
        for field in [
            "Auto-Submitted: auto-generated",
            "auto-submitted: Auto-Replied (vacation)",
            "Auto-Submitted: auto-replied; owner-email=a@b",
            "Precedence: BULK",
            "Precedence: list",
            "precedence:\r\n junk",
            "List-Id: <a.b>",
            "List-Unsubscribe: <mailto:a@b>",
            "LIST-POST: NO",
            "X-Auto-Response-Suppress: DR, OOF",
        ] {
            let header = format!("To: ann@x.test\r\n{field}\r\n");
            assert!(!answered(&header, "s@far.test"), "{field}");
        }
        for sender in [
            "MAILER-DAEMON@far.test",
            "no-reply@far.test",
            "NoReply+x@far.test",
            "do_not_reply@far.test",
            "owner-list@far.test",
            "list-request@far.test",
            "list-bounces@far.test",
            "bounces+1-2@far.test",
            "ANN@x.test",
        ] {
            assert!(!answered("To: ann@x.test\r\n", sender), "{sender}");
        }
        assert!(answered("To: ann@x.test\r\n", "request@far.test"));
    }

    fn reply(header: &str, subject: &str, name: &str) -> String {
        let vacation = Vacation {
            subject: subject.into(),
            text: "Back on Monday.\n.\nFröhlich".into(),
            from: None,
            until: None,
            interval_days: 7,
        };
        let reply = Reply {
            host: &"mx.x.test".parse().unwrap(),
            from: &address("ann@x.test"),
            full_name: name,
            to: &address("s@far.test"),
            vacation: &vacation,
            header: header.as_bytes(),
            id: 7,
            now: Timestamp::from_millis(0),
        };
        String::from_utf8(reply.compose()).unwrap()
    }

    #[test]
    fn a_reply_says_what_it_answers_and_that_nothing_answers_it() {
        let header = "Message-ID: <3@a>\r\nReferences: <1@a>\r\n <2@a>\r\nSubject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\n";
        let text = reply(header, "", "Ann Lee");
        for part in [
            "From: Ann Lee <ann@x.test>\r\n",
            "To: <s@far.test>\r\n",
            "Subject: =?utf-8?q?Auto=3A_Gr=C3=BC=C3=9Fe?=\r\n",
            "In-Reply-To: <3@a>\r\n",
            "References: <1@a>\r\n <2@a>\r\n <3@a>\r\n",
            "Auto-Submitted: auto-replied",
            "Message-ID: <00000000000000000000000000000007@mx.x.test>\r\n",
            "\r\n\r\nBack on Monday.\r\n.\r\nFr=C3=B6hlich\r\n",
        ] {
            assert!(text.contains(part), "{part:?} is not in\n{text}");
        }
        let own = [address("s@far.test")];
        assert!(!is_answered(text.as_bytes(), &address("ann@x.test"), &own));
    }

    #[test]
    fn nothing_that_others_wrote_makes_a_field_of_a_reply() {
        let header = "Message-ID: <a\x07b>\r\nSubject: x\r\n y\x00\r\nTo: a\r\n";
        let text = reply(header, "Out\r\nBcc: a@b", "A \"B\"\r\nX: y");
        assert!(
            !text.contains("\r\nBcc") && !text.contains("\r\nX:"),
            "{text}"
        );
        assert!(text.contains("Subject: Out  Bcc: a@b\r\n"), "{text}");
        assert!(!text.contains("In-Reply-To"));
        let named = reply("", "", "Jörg (Chef)");
        assert!(
            named.contains("From: =?utf-8?q?J=C3=B6rg_=28Chef=29"),
            "{named}"
        );
        assert!(named.contains("Subject: Auto: your message\r\n"));
    }
}
