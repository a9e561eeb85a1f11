//! The header fields that this hop adds: Received (RFC 5321 §4.4), and what a submission lacks (RFC 6409 §8).

use std::fmt::Write;

use nightmail_core::{Domain, SessionId, Timestamp};
use nightmail_smtp::server::EndOfMessage;

use crate::net::Peer;

/// Where a message comes from, as its Received field says it.
#[derive(Clone, Copy, Debug)]
pub struct Origin<'a> {
    /// The client.
    pub peer: Peer,
    /// Its name by reverse DNS, where it is known.
    pub name: Option<&'a str>,
    /// The name it has given, where that is not the one of the session.
    pub hello: Option<&'a str>,
}

/// The Received field of a message, ended by CRLF. Names the recipient only where there is one.
pub fn received(
    message: &EndOfMessage,
    origin: &Origin<'_>,
    session: SessionId,
    hostname: &Domain,
    now: Timestamp,
) -> Vec<u8> {
    let said = message.facts.hello.as_ref();
    let hello = origin
        .hello
        .or(said.map(|hello| hello.name.as_str()))
        .unwrap_or("unknown");
    let mut field = format!("Received: from {}", comment_free(hello));
    let name = origin.name.map(comment_free);
    let name = name.map(|name| format!("{name} ")).unwrap_or_default();
    // A field that cannot be written into a String does not exist.
    let _ = match origin.peer {
        Peer::Tcp(address) if address.is_ipv6() => {
            write!(field, " ({name}[IPv6:{}])", address.ip())
        }
        Peer::Tcp(address) => write!(field, " ({name}[{}])", address.ip()),
        Peer::Unix => write!(field, " (local)"),
    };
    let _ = write!(
        field,
        "\r\n\tby {hostname} with {}",
        message.with_protocol()
    );
    let _ = write!(field, " id {session}");
    if let Some(tls) = &message.facts.tls {
        let _ = write!(
            field,
            "\r\n\t(using {} with cipher {})",
            tls.version, tls.cipher
        );
    }
    let recipients = &message.envelope.recipients;
    if let Some(only) = recipients.iter().next().filter(|_| recipients.len() == 1) {
        let _ = write!(field, "\r\n\tfor <{}>", only.forward_path);
    }
    // The clause of RFC 6710, after everything that RFC 5321 names.
    if let Some(priority) = message.envelope.mail.params.mt_priority {
        let _ = write!(field, "\r\n\tPRIORITY {priority}");
    }
    let _ = write!(field, ";\r\n\t{}\r\n", now.rfc5322());
    field.into_bytes()
}

/// A HELO name is any visible text; parentheses and the like would change the meaning of the field.
fn comment_free(name: &str) -> String {
    let keep = |c: char| c.is_ascii_alphanumeric() || "-._:[]".contains(c);
    let name: String = name
        .chars()
        .map(|c| if keep(c) { c } else { '?' })
        .collect();
    if name.is_empty() {
        "unknown".to_owned()
    } else {
        name
    }
}

/// Appends the Date and Message-ID that a submitted message lacks.
pub fn submission_fields(
    trace: &mut Vec<u8>,
    has_date: bool,
    has_message_id: bool,
    session: SessionId,
    hostname: &Domain,
    now: Timestamp,
) {
    if !has_date {
        trace.extend_from_slice(format!("Date: {}\r\n", now.rfc5322()).as_bytes());
    }
    if !has_message_id {
        let mut random = [0; 8];
        // Session and time make it unique already.
        let _ = getrandom::fill(&mut random);
        let random = u64::from_be_bytes(random);
        let id = format!(
            "Message-ID: <{:x}.{session}.{random:x}@{hostname}>\r\n",
            now.millis()
        );
        trace.extend_from_slice(id.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_lacks_is_added() {
        let hostname = Domain::parse("mx.test").unwrap();
        let now = Timestamp::from_secs(0);
        let mut trace = Vec::new();
        submission_fields(&mut trace, true, true, SessionId::new(1), &hostname, now);
        assert!(trace.is_empty());
        submission_fields(&mut trace, false, false, SessionId::new(1), &hostname, now);
        let text = String::from_utf8(trace).unwrap();
        assert!(
            text.starts_with("Date: Thu, 1 Jan 1970 00:00:00 +0000\r\nMessage-ID: <"),
            "{text}"
        );
        assert!(text.ends_with("@mx.test>\r\n"));
    }

    #[test]
    fn a_hello_name_cannot_forge_the_field() {
        assert_eq!(comment_free("a(b)\tc;"), "a?b??c?");
        assert_eq!(comment_free(""), "unknown");
    }
}
