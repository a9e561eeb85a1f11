//! `ENVELOPE`, `BODY` and `BODYSTRUCTURE` as IMAP writes them (RFC 3501 §7.4.2 and §9).

use crate::address::ListItem;
use crate::content::{Disposition, MediaType, Parameter};
use crate::envelope::Envelope;
use crate::structure::{Content, Part, Structure};

/// What stands for a domain that an address lacks: NIL would make it a group.
const NO_DOMAIN: &[u8] = b"MISSING_DOMAIN";
/// What stands for a local-part that an address lacks.
const NO_LOCAL_PART: &[u8] = b"MISSING_MAILBOX";
/// A multipart without parts cannot be written; it is shown to hold one empty text.
const EMPTY_PART: &[u8] = b"(\"text\" \"plain\" (\"charset\" \"us-ascii\") NIL NIL \"7bit\" 0 0";
/// Content-MD5, disposition, language and location of a part that has none.
const NO_EXTENSION: &[u8] = b" NIL NIL NIL NIL";

/// Writes `string`: quoted where RFC 3501 §9 allows it, otherwise a literal. NUL, which neither may hold, is
/// left out.
pub fn write_string(value: &[u8], out: &mut Vec<u8>) {
    let quotable = value
        .iter()
        .all(|&byte| byte.is_ascii() && !matches!(byte, 0 | b'\r' | b'\n'));
    if quotable {
        out.push(b'"');
        for &byte in value {
            if matches!(byte, b'"' | b'\\') {
                out.push(b'\\');
            }
            out.push(byte);
        }
        out.push(b'"');
        return;
    }
    let len = value.iter().filter(|&&byte| byte != 0).count();
    out.extend_from_slice(format!("{{{len}}}\r\n").as_bytes());
    out.extend(value.iter().filter(|&&byte| byte != 0));
}

/// Writes `nstring`: `NIL` or a string.
pub fn write_nstring(value: Option<&[u8]>, out: &mut Vec<u8>) {
    match value {
        Some(value) => write_string(value, out),
        None => out.extend_from_slice(b"NIL"),
    }
}

/// Writes `envelope`. Sender and Reply-To default to From.
pub fn write_envelope(envelope: &Envelope, out: &mut Vec<u8>) {
    out.push(b'(');
    write_nstring(envelope.date.as_deref(), out);
    out.push(b' ');
    write_nstring(envelope.subject.as_deref(), out);
    for list in [
        &envelope.from,
        envelope.sender(),
        envelope.reply_to(),
        &envelope.to,
        &envelope.cc,
        &envelope.bcc,
    ] {
        out.push(b' ');
        write_addresses(list, out);
    }
    out.push(b' ');
    write_nstring(envelope.in_reply_to.as_deref(), out);
    out.push(b' ');
    write_nstring(envelope.message_id.as_deref(), out);
    out.push(b')');
}

fn write_addresses(list: &[ListItem], out: &mut Vec<u8>) {
    if list.is_empty() {
        out.extend_from_slice(b"NIL");
        return;
    }
    out.push(b'(');
    for item in list {
        write_address(item, out);
    }
    out.push(b')');
}

fn write_address(item: &ListItem, out: &mut Vec<u8>) {
    let fields = match item {
        ListItem::GroupStart(name) => [None, None, Some(name.as_slice()), None],
        ListItem::GroupEnd => [None; 4],
        ListItem::Mailbox(mailbox) => {
            let local_part = mailbox.local_part.as_slice();
            [
                mailbox.name.as_deref(),
                mailbox.route.as_deref(),
                Some(if local_part.is_empty() {
                    NO_LOCAL_PART
                } else {
                    local_part
                }),
                Some(mailbox.domain.as_deref().unwrap_or(NO_DOMAIN)),
            ]
        }
    };
    let mut separator = b'(';
    for field in fields {
        out.push(separator);
        write_nstring(field, out);
        separator = b' ';
    }
    out.push(b')');
}

/// Writes `body`: with extension data for `BODYSTRUCTURE`, without for `BODY`.
pub fn write_body(structure: &Structure, extended: bool, out: &mut Vec<u8>) {
    write_part(structure.root(), extended, out);
}

fn write_part(part: &Part, extended: bool, out: &mut Vec<u8>) {
    match &part.content {
        Content::Multipart(children) => write_multipart(part, children, extended, out),
        Content::Leaf | Content::Message(_) => write_single(part, extended, out),
    }
}

fn write_multipart(part: &Part, children: &[Part], extended: bool, out: &mut Vec<u8>) {
    out.push(b'(');
    for child in children {
        write_part(child, extended, out);
    }
    if children.is_empty() {
        out.extend_from_slice(EMPTY_PART);
        out.extend_from_slice(if extended { NO_EXTENSION } else { b"" });
        out.push(b')');
    }
    out.push(b' ');
    write_string(&part.media.subtype, out);
    if extended {
        out.push(b' ');
        write_parameters(&part.media.parameters, false, out);
        write_placement(part, out);
    }
    out.push(b')');
}

fn write_single(part: &Part, extended: bool, out: &mut Vec<u8>) {
    out.push(b'(');
    let unopened = matches!(part.content, Content::Leaf) && is_composite(&part.media);
    if unopened {
        // A multipart or message that was not looked into cannot be shown as one.
        out.extend_from_slice(b"\"application\" \"octet-stream\"");
    } else {
        write_string(&part.media.main, out);
        out.push(b' ');
        write_string(&part.media.subtype, out);
    }
    out.push(b' ');
    let is_text = part.is_text();
    write_parameters(&part.media.parameters, is_text, out);
    for value in [&part.id, &part.description] {
        out.push(b' ');
        write_nstring(value.as_deref(), out);
    }
    out.push(b' ');
    write_string(part.encoding.as_deref().unwrap_or(b"7bit"), out);
    out.extend_from_slice(format!(" {}", part.octets()).as_bytes());
    if let Content::Message(message) = &part.content {
        out.push(b' ');
        write_envelope(&message.envelope, out);
        out.push(b' ');
        write_part(&message.root, extended, out);
    }
    if is_text || matches!(part.content, Content::Message(_)) {
        out.extend_from_slice(format!(" {}", part.lines).as_bytes());
    }
    if extended {
        out.push(b' ');
        write_nstring(part.md5.as_deref(), out);
        write_placement(part, out);
    }
    out.push(b')');
}

fn is_composite(media: &MediaType) -> bool {
    media.is_main("multipart") || media.is("message", "rfc822")
}

/// Writes `body-fld-param`; a text without a charset is in us-ascii (RFC 2046 §4.1.2).
fn write_parameters(parameters: &[Parameter], is_text: bool, out: &mut Vec<u8>) {
    let has_charset = parameters
        .iter()
        .any(|parameter| parameter.name.eq_ignore_ascii_case(b"charset"));
    let mut separator = b'(';
    for parameter in parameters {
        out.push(separator);
        write_string(&parameter.name, out);
        out.push(b' ');
        write_string(&parameter.value, out);
        separator = b' ';
    }
    if is_text && !has_charset {
        out.push(separator);
        out.extend_from_slice(b"\"charset\" \"us-ascii\"");
        separator = b' ';
    }
    out.extend_from_slice(if separator == b'(' { b"NIL" } else { b")" });
}

/// Writes disposition, language and location.
fn write_placement(part: &Part, out: &mut Vec<u8>) {
    out.push(b' ');
    write_disposition(part.disposition.as_ref(), out);
    out.push(b' ');
    let mut separator = b'(';
    for tag in &part.languages {
        out.push(separator);
        write_string(tag, out);
        separator = b' ';
    }
    out.extend_from_slice(if separator == b'(' { b"NIL" } else { b")" });
    out.push(b' ');
    write_nstring(part.location.as_deref(), out);
}

fn write_disposition(disposition: Option<&Disposition>, out: &mut Vec<u8>) {
    let Some(disposition) = disposition else {
        out.extend_from_slice(b"NIL");
        return;
    };
    out.push(b'(');
    write_string(&disposition.kind, out);
    out.push(b' ');
    write_parameters(&disposition.parameters, false, out);
    out.push(b')');
}
