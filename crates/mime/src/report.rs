//! Delivery status notifications (RFC 3464 in a multipart/report of RFC 6522; RFC 6533 where addresses need it).
//!
//! Every line written is ASCII and at most 998 octets, so that a report passes any relay; only a non-ASCII
//! address in its own To field needs SMTPUTF8. Whoever has sent with SMTPUTF8 is told in UTF-8, under an encoding;
//! anybody else gets the types of RFC 3464, with addresses in the ASCII form of RFC 6533 §3. What cannot be returned
//! that way is returned as its header.

use std::fmt::Write as _;

use nightmail_core::{Address, Domain, ForwardPath, Timestamp};

use crate::header;
use crate::transfer::encode_quoted_printable;

/// Fields are folded at white space to stay below this where they can (RFC 5322 §2.1.1).
const LINE_OCTETS_WANTED: usize = 76;
/// RFC 5321 §4.5.3.1.6, without CRLF.
const LINE_OCTETS_MAX: usize = 998;
/// Longer diagnostics are cut.
const DIAGNOSTIC_OCTETS_MAX: usize = 2000;

/// What a delivery status notification says.
#[derive(Clone, Copy, Debug)]
pub struct Report<'a> {
    /// The name of this mail system.
    pub reporting_mta: &'a Domain,
    /// The From value, such as `Mail Delivery System <MAILER-DAEMON@mx.test>`.
    pub from: &'a str,
    /// The reverse-path of the message that is reported on.
    pub to: &'a Address,
    /// Whether the message was sent with SMTPUTF8 (RFC 6531), so that its sender reads the types of RFC 6533.
    pub smtputf8: bool,
    /// When the report is made.
    pub date: Timestamp,
    /// The report's own message id, without angle brackets.
    pub message_id: &'a str,
    /// A boundary that occurs nowhere else.
    pub boundary: &'a str,
    /// The envelope id the sender gave (RFC 3461 §4.4), decoded.
    pub envelope_id: Option<&'a str>,
    /// When the message was accepted.
    pub arrival: Option<Timestamp>,
    /// By when the sender wanted it delivered (RFC 2852 §5).
    pub deliver_by: Option<Timestamp>,
    /// The recipients reported on; at least one.
    pub recipients: &'a [RecipientReport<'a>],
    /// What is returned of the message.
    pub original: Original<'a>,
}

/// What became of one recipient.
#[derive(Clone, Copy, Debug)]
pub struct RecipientReport<'a> {
    /// The recipient as last handled.
    pub recipient: &'a ForwardPath,
    /// The recipient as the sender gave it (RFC 3461 §4.2), such as `rfc822;a@x.test`, decoded.
    pub original_recipient: Option<&'a str>,
    /// What was done.
    pub action: Action,
    /// The enhanced status code (RFC 3463), such as `5.1.1`.
    pub status: &'a str,
    /// The host that answered.
    pub remote_mta: Option<&'a str>,
    /// The answer of that host, or what went wrong here.
    pub diagnostic: Option<&'a str>,
    /// Whether that is what the host answered.
    pub answered: bool,
    /// When delivery was last tried.
    pub last_attempt: Option<Timestamp>,
    /// Until when delivery will be tried.
    pub will_retry_until: Option<Timestamp>,
}

/// What was done for a recipient (RFC 3464 §2.3.3).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    /// Given up.
    Failed,
    /// Not yet delivered; tries go on.
    Delayed,
    /// Delivered into a mailbox.
    Delivered,
    /// Handed to a system that sends no reports.
    Relayed,
    /// Delivered to several recipients, such as a list's.
    Expanded,
}

impl Action {
    /// The word of the Action field.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Delayed => "delayed",
            Self::Delivered => "delivered",
            Self::Relayed => "relayed",
            Self::Expanded => "expanded",
        }
    }

    const fn sentence(self) -> &'static str {
        match self {
            Self::Failed => "Your message could not be delivered to:",
            Self::Delayed => {
                "Your message is not delivered yet; you need not send it again. Tries go on for:"
            }
            Self::Delivered => "Your message was delivered to:",
            Self::Relayed => "Your message was passed on, to a system that may not report, for:",
            Self::Expanded => "Your message was delivered to the members of:",
        }
    }

    const fn subject(self) -> &'static str {
        match self {
            Self::Failed => "Your message could not be delivered",
            Self::Delayed => "Your message is delayed",
            Self::Delivered | Self::Relayed | Self::Expanded => "Your message was delivered",
        }
    }
}

/// What of the message the report returns (RFC 3461 §4.3).
#[derive(Clone, Copy, Debug)]
pub enum Original<'a> {
    /// Nothing.
    None,
    /// Its header section.
    Headers(&'a [u8]),
    /// The whole message; its header only where it is neither made of short ASCII lines nor internationalized
    /// (message/global, RFC 6532 §3.7).
    Message(&'a [u8]),
}

/// Writes the report as a message with CRLF line ends.
pub fn generate_report(report: &Report<'_>) -> Vec<u8> {
    let is_global = reads_utf8(report) && report.recipients.iter().any(needs_utf8);
    let mut out = report_header(report).into_bytes();
    let text = "text/plain; charset=utf-8";
    write_part(
        report.boundary,
        text,
        human_text(report).as_bytes(),
        &mut out,
    );
    let status_type = if is_global {
        "message/global-delivery-status"
    } else {
        "message/delivery-status"
    };
    let status = delivery_status(report, is_global);
    write_part(report.boundary, status_type, status.as_bytes(), &mut out);
    write_original(report, &mut out);
    out.extend_from_slice(format!("--{}--\r\n", report.boundary).as_bytes());
    out
}

/// Whether the sender understands what is written in UTF-8.
fn reads_utf8(report: &Report<'_>) -> bool {
    report.smtputf8 || !report.to.is_ascii()
}

fn needs_utf8(recipient: &RecipientReport<'_>) -> bool {
    let original = recipient.original_recipient.unwrap_or_default();
    !original.is_ascii() || !recipient.recipient.to_string().is_ascii()
}

/// The first action by weight: what the subject speaks of.
fn main_action(report: &Report<'_>) -> Action {
    let has = |action| report.recipients.iter().any(|r| r.action == action);
    if has(Action::Failed) {
        Action::Failed
    } else if has(Action::Delayed) {
        Action::Delayed
    } else {
        Action::Delivered
    }
}

fn report_header(report: &Report<'_>) -> String {
    let mut out = String::new();
    write_field("From", report.from, true, &mut out);
    write_field("To", &format!("<{}>", report.to), true, &mut out);
    write_field("Subject", main_action(report).subject(), false, &mut out);
    write_field("Date", &report.date.rfc5322(), false, &mut out);
    let message_id = format!("<{}>", report.message_id);
    write_field("Message-ID", &message_id, false, &mut out);
    write_field("Auto-Submitted", "auto-replied", false, &mut out);
    write_field("MIME-Version", "1.0", false, &mut out);
    let content_type = format!(
        "multipart/report; report-type=delivery-status; boundary=\"{}\"",
        report.boundary
    );
    write_field("Content-Type", &content_type, false, &mut out);
    out.push_str("\r\n");
    out
}

fn human_text(report: &Report<'_>) -> String {
    let mut out = format!("This is the mail system of {}.\r\n", report.reporting_mta);
    for action in [
        Action::Failed,
        Action::Delayed,
        Action::Delivered,
        Action::Relayed,
        Action::Expanded,
    ] {
        let mut about = report.recipients.iter().filter(|r| r.action == action);
        let Some(first) = about.next() else {
            continue;
        };
        let _ = write!(out, "\r\n{}\r\n", action.sentence());
        for recipient in std::iter::once(first).chain(about) {
            human_recipient(recipient, &mut out);
        }
    }
    out
}

fn human_recipient(recipient: &RecipientReport<'_>, out: &mut String) {
    let _ = write!(out, "\r\n  <{}>\r\n", recipient.recipient);
    if let Some(host) = recipient.remote_mta {
        let answered = if recipient.answered { " answered" } else { "" };
        let _ = write!(out, "    Host {}{answered}:\r\n", clean(host, true));
    }
    if let Some(diagnostic) = recipient.diagnostic {
        let mut line = String::from("   ");
        for word in clean(diagnostic, true).split_ascii_whitespace() {
            if line.len() + word.len() >= LINE_OCTETS_WANTED && line.len() > 3 {
                let _ = write!(out, "{line}\r\n");
                line.truncate(3);
            }
            line.push(' ');
            line.push_str(word);
        }
        let _ = write!(out, "{line}\r\n");
    }
    if let Some(until) = recipient.will_retry_until {
        let _ = write!(out, "    Tries go on until {}.\r\n", until.rfc5322());
    }
}

/// RFC 3464 §2: the fields about the message, then a group of fields for each recipient.
fn delivery_status(report: &Report<'_>, is_global: bool) -> String {
    let mut out = String::new();
    let mut field = |name: &str, value: &str| write_field(name, value, is_global, &mut out);
    if let Some(id) = report.envelope_id {
        field("Original-Envelope-Id", id);
    }
    field("Reporting-MTA", &format!("dns; {}", report.reporting_mta));
    if let Some(arrival) = report.arrival {
        field("Arrival-Date", &arrival.rfc5322());
    }
    if let Some(deadline) = report.deliver_by {
        field("Deliver-By-Date", &deadline.rfc5322());
    }
    for recipient in report.recipients {
        out.push_str("\r\n");
        recipient_status(recipient, is_global, &mut out);
    }
    out
}

fn recipient_status(recipient: &RecipientReport<'_>, is_global: bool, out: &mut String) {
    let mut field = |name: &str, value: &str| write_field(name, value, is_global, out);
    if let Some(original) = recipient.original_recipient {
        match original.split_once(';') {
            Some((kind, address)) if !is_global && !address.is_ascii() => {
                let kind = kind.trim();
                field(
                    "Original-Recipient",
                    &format!("{kind};{}", unitext(address)),
                );
            }
            _ => field("Original-Recipient", original),
        }
    }
    let address = recipient.recipient.to_string();
    let typed = match (address.is_ascii(), is_global) {
        (true, _) => format!("rfc822; {address}"),
        (false, true) => format!("utf-8; {address}"),
        (false, false) => format!("utf-8; {}", unitext(&address)),
    };
    field("Final-Recipient", &typed);
    field("Action", recipient.action.as_str());
    field("Status", recipient.status);
    if let Some(host) = recipient.remote_mta {
        field("Remote-MTA", &format!("dns; {host}"));
    }
    if let Some(diagnostic) = recipient.diagnostic {
        let kind = match recipient.answered {
            true => "smtp",
            false => "x-nightmail",
        };
        field("Diagnostic-Code", &format!("{kind}; {diagnostic}"));
    }
    if let Some(last) = recipient.last_attempt {
        field("Last-Attempt-Date", &last.rfc5322());
    }
    if let Some(until) = recipient.will_retry_until {
        field("Will-Retry-Until", &until.rfc5322());
    }
}

/// An address in ASCII: characters that are not, and those that would be misread, as `\x{HEX}` (RFC 6533 §3,
/// utf-8-addr-unitext).
fn unitext(address: &str) -> String {
    let mut out = String::with_capacity(address.len() * 2);
    for c in address.trim().chars() {
        let plain = c.is_ascii_graphic() && !matches!(c, '+' | '=' | '\\');
        if plain {
            out.push(c);
        } else {
            // Writing into a String cannot fail.
            let _ = write!(out, "\\x{{{:X}}}", u32::from(c));
        }
    }
    out
}

/// One line of visible characters; ASCII only unless `utf8`.
fn clean(value: &str, utf8: bool) -> String {
    let mut out = String::new();
    for c in value.chars() {
        if out.len() >= DIAGNOSTIC_OCTETS_MAX {
            break;
        }
        out.push(match c {
            c if c.is_control() => ' ',
            c if c.is_ascii() || utf8 => c,
            _ => '?',
        });
    }
    out
}

/// Writes a field and folds it at white space; a word that is longer than a line may be is cut.
fn write_field(name: &str, value: &str, utf8: bool, out: &mut String) {
    let _ = write!(out, "{name}:");
    let mut column = name.len() + 1;
    for word in clean(value, utf8).split_ascii_whitespace() {
        for piece in pieces(word) {
            if column + 1 + piece.len() > LINE_OCTETS_WANTED && column > name.len() + 1 {
                out.push_str("\r\n");
                column = 0;
            }
            out.push(' ');
            out.push_str(piece);
            column += 1 + piece.len();
        }
    }
    out.push_str("\r\n");
}

/// Cuts a word into pieces that fit a line after any field name.
fn pieces(word: &str) -> impl Iterator<Item = &str> {
    let mut rest = word;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let mut end = rest.len().min(LINE_OCTETS_MAX - 48);
        while !rest.is_char_boundary(end) {
            end -= 1;
        }
        let (piece, after) = rest.split_at_checked(end)?;
        rest = after;
        Some(piece)
    })
}

/// Writes a body part; content that is not short ASCII lines is made quoted-printable.
fn write_part(boundary: &str, media: &str, content: &[u8], out: &mut Vec<u8>) {
    let mut head = format!("--{boundary}\r\nContent-Type: {media}\r\n");
    let content = if is_seven_bit(content) {
        crlf_lines(content)
    } else {
        head.push_str("Content-Transfer-Encoding: quoted-printable\r\n");
        encode_quoted_printable(content)
    };
    out.extend_from_slice(head.as_bytes());
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(&content);
    out.extend_from_slice(b"\r\n");
}

fn write_original(report: &Report<'_>, out: &mut Vec<u8>) {
    let header = match report.original {
        Original::None => return,
        Original::Message(message) if is_seven_bit(message) => {
            return write_part(report.boundary, "message/rfc822", message, out);
        }
        Original::Headers(bytes) | Original::Message(bytes) => {
            let names: [&str; 0] = [];
            header::pick_fields(bytes, &names, true)
        }
    };
    let is_global =
        reads_utf8(report) && !header.is_ascii() && std::str::from_utf8(&header).is_ok();
    if let (Original::Message(message), true) = (report.original, is_global) {
        return write_part(report.boundary, "message/global", message, out);
    }
    let media = if is_global {
        "message/global-headers"
    } else {
        "text/rfc822-headers"
    };
    write_part(report.boundary, media, &header, out);
}

fn is_seven_bit(content: &[u8]) -> bool {
    content.iter().all(|&byte| byte.is_ascii() && byte != 0)
        && content
            .split(|&byte| byte == b'\n')
            .all(|line| line.len() <= LINE_OCTETS_MAX)
}

/// Every line ends in CRLF; a bare CR counts as a line end.
fn crlf_lines(content: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(content.len() + 2);
    for line in content.split_inclusive(|&byte| byte == b'\n') {
        for piece in header::without_line_end(line).split(|&byte| byte == b'\r') {
            out.extend_from_slice(piece);
            out.extend_from_slice(b"\r\n");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{SectionKind, Structure};

    fn failed<'a>(recipient: &'a ForwardPath, diagnostic: &'a str) -> RecipientReport<'a> {
        RecipientReport {
            recipient,
            original_recipient: Some("rfc822;Old@x.test"),
            action: Action::Failed,
            status: "5.1.1",
            remote_mta: Some("mx.far.test"),
            diagnostic: Some(diagnostic),
            answered: true,
            last_attempt: Some(Timestamp::from_secs(60)),
            will_retry_until: None,
        }
    }

    fn generate(recipients: &[RecipientReport<'_>], original: Original<'_>) -> (String, Structure) {
        generate_for(false, recipients, original)
    }

    fn generate_for(
        smtputf8: bool,
        recipients: &[RecipientReport<'_>],
        original: Original<'_>,
    ) -> (String, Structure) {
        let report = Report {
            reporting_mta: &"mx.test".parse().unwrap(),
            from: "Mail Delivery System <MAILER-DAEMON@mx.test>",
            to: &"a@near.test".parse().unwrap(),
            smtputf8,
            date: Timestamp::from_secs(120),
            message_id: "r1@mx.test",
            boundary: "=_b1",
            envelope_id: Some("QQ1"),
            arrival: Some(Timestamp::from_secs(0)),
            deliver_by: Some(Timestamp::from_secs(30)),
            recipients,
            original,
        };
        let bytes = generate_report(&report);
        assert!(bytes.is_ascii());
        let text = String::from_utf8(bytes).unwrap();
        assert!(
            text.split_inclusive("\r\n")
                .all(|line| line.ends_with("\r\n") && line.len() <= 1000)
        );
        let structure = crate::fuzzing::scanner(text.as_bytes(), 7);
        (text, structure)
    }

    fn part<'a>(text: &'a str, structure: &Structure, number: u32) -> &'a str {
        let range = structure.section(&[number], SectionKind::Body).unwrap();
        &text[range.start as usize..range.end as usize]
    }

    #[test]
    fn a_failure_names_recipient_reason_and_original() {
        let path = ForwardPath::Address("bob@far.test".parse().unwrap());
        let recipients = [failed(&path, "550 5.1.1 No\r\nInjected: such user")];
        let original = b"Subject: hi\nTo: bob@far.test\n\nbody\n";
        let (text, structure) = generate(&recipients, Original::Message(original));
        assert!(structure.root().media.is("multipart", "report"));
        assert!(part(&text, &structure, 1).contains("<bob@far.test>"));
        assert_eq!(
            part(&text, &structure, 2),
            "Original-Envelope-Id: QQ1\r\n\
             Reporting-MTA: dns; mx.test\r\n\
             Arrival-Date: Thu, 1 Jan 1970 00:00:00 +0000\r\n\
             Deliver-By-Date: Thu, 1 Jan 1970 00:00:30 +0000\r\n\
             \r\n\
             Original-Recipient: rfc822;Old@x.test\r\n\
             Final-Recipient: rfc822; bob@far.test\r\n\
             Action: failed\r\n\
             Status: 5.1.1\r\n\
             Remote-MTA: dns; mx.far.test\r\n\
             Diagnostic-Code: smtp; 550 5.1.1 No Injected: such user\r\n\
             Last-Attempt-Date: Thu, 1 Jan 1970 00:01:00 +0000\r\n"
        );
        let inner = structure.section(&[3], SectionKind::Header).unwrap();
        assert_eq!(
            &text[inner.start as usize..inner.end as usize],
            "Subject: hi\r\nTo: bob@far.test\r\n\r\n"
        );
    }

    #[test]
    fn an_eight_bit_original_is_returned_as_its_header() {
        let path = ForwardPath::Postmaster;
        let original = "Subject: a\r\n\r\nkörper\r\n".as_bytes();
        let mut recipient = failed(&path, "300 seconds are too few");
        recipient.answered = false;
        let (text, structure) = generate(&[recipient], Original::Message(original));
        assert!(
            structure
                .part(&[3])
                .unwrap()
                .media
                .is("text", "rfc822-headers")
        );
        assert_eq!(part(&text, &structure, 3), "Subject: a\r\n\r\n");
        let said = "Diagnostic-Code: x-nightmail; 300 seconds are too few\r\n";
        assert!(part(&text, &structure, 2).contains(said));
        assert!(!part(&text, &structure, 1).contains("answered"));
    }

    #[test]
    fn a_utf8_recipient_makes_the_report_global() {
        let path = ForwardPath::Address("jörg@far.test".parse().unwrap());
        let header = "Subject: Grüße\r\n\r\n".as_bytes();
        let (text, structure) =
            generate_for(true, &[failed(&path, "550 nö")], Original::Headers(header));
        let status = structure.part(&[2]).unwrap();
        assert!(status.media.is("message", "global-delivery-status"));
        let decoded = crate::search::decode_text(status, part(&text, &structure, 2).as_bytes());
        assert!(decoded.contains("Final-Recipient: utf-8; jörg@far.test\r\n"));
        assert!(decoded.contains("Diagnostic-Code: smtp; 550 nö\r\n"));
        assert!(
            structure
                .part(&[3])
                .unwrap()
                .media
                .is("message", "global-headers")
        );
    }

    #[test]
    fn an_original_recipient_in_utf8_is_kept_for_an_ascii_recipient() {
        let path = ForwardPath::Address("jorg@far.test".parse().unwrap());
        let mut recipient = failed(&path, "550 no");
        recipient.original_recipient = Some("utf-8;jörg@near.test");
        let (text, structure) = generate_for(true, &[recipient], Original::None);
        let status = structure.part(&[2]).unwrap();
        assert!(status.media.is("message", "global-delivery-status"));
        let decoded = crate::search::decode_text(status, part(&text, &structure, 2).as_bytes());
        assert!(decoded.contains("Original-Recipient: utf-8;jörg@near.test\r\n"));
        assert!(decoded.contains("Final-Recipient: rfc822; jorg@far.test\r\n"));
    }

    #[test]
    fn a_sender_who_may_not_read_utf8_is_told_in_ascii() {
        let path = ForwardPath::Address("jörg+a@far.test".parse().unwrap());
        let mut recipient = failed(&path, "550 nö");
        recipient.original_recipient = Some("utf-8;jörg=用@near.test");
        let header = "Subject: Grüße\r\n\r\n".as_bytes();
        let (text, structure) = generate(&[recipient], Original::Message(header));
        let status = structure.part(&[2]).unwrap();
        assert!(status.media.is("message", "delivery-status"));
        let status = part(&text, &structure, 2);
        for line in [
            "Original-Recipient: utf-8;j\\x{F6}rg\\x{3D}\\x{7528}@near.test\r\n",
            "Final-Recipient: utf-8; j\\x{F6}rg\\x{2B}a@far.test\r\n",
            "Diagnostic-Code: smtp; 550 n?\r\n",
        ] {
            assert!(status.contains(line), "{status}");
        }
        let original = structure.part(&[3]).unwrap();
        assert!(original.media.is("text", "rfc822-headers"));
    }

    #[test]
    fn an_internationalized_original_is_returned_whole() {
        let path = ForwardPath::Postmaster;
        let original = "Subject: Grüße\r\n\r\nkörper = .\r\n".as_bytes();
        let recipients = [failed(&path, "550 no")];
        let (text, structure) = generate_for(true, &recipients, Original::Message(original));
        let returned = structure.part(&[3]).unwrap();
        assert!(returned.media.is("message", "global"));
        let range = structure.section(&[3], SectionKind::Mime).unwrap();
        let head = &text[range.start as usize..range.end as usize];
        assert!(head.contains("quoted-printable"), "{head}");
        assert!(text.contains("Gr=C3=BC=C3=9Fe"));
        let status = structure.part(&[2]).unwrap();
        assert!(
            status.media.is("message", "delivery-status"),
            "all of it is ASCII"
        );
    }

    #[test]
    fn long_words_are_cut_and_long_fields_folded() {
        let path = ForwardPath::Postmaster;
        let long = format!("550 {} {}", "x".repeat(1500), "word ".repeat(60));
        let mut recipient = failed(&path, &long);
        recipient.action = Action::Delayed;
        recipient.will_retry_until = Some(Timestamp::from_secs(86_400));
        let (text, structure) = generate(&[recipient], Original::None);
        assert!(text.contains("Subject: Your message is delayed\r\n"));
        assert!(text.contains("Will-Retry-Until: Fri, 2 Jan 1970 00:00:00 +0000\r\n"));
        assert_eq!(structure.root().children().len(), 2);
    }
}
