//! What is fuzzed: a function for each parser and each protocol machine, which takes any octets and panics where
//! something that must always hold does not.
//!
//! Owns the list of targets. What each asserts lies, where it is more than a line, in the `fuzzing` module of the
//! crate that is fuzzed.

#![expect(clippy::expect_used, reason = "a harness panics on purpose")]

use std::time::Instant;

use nightmail_core::codec::{RowReader, RowWriter};
use nightmail_core::time::Civil;
use nightmail_core::{Address, Domain, Timestamp};

/// A target.
pub type Target = fn(&[u8]);

/// Every target with its name, which is also the name of its corpus.
pub const TARGETS: &[(&str, Target)] = &[
    ("core_address", core_address),
    ("core_row", core_row),
    ("core_times", core_times),
    ("imap_command", imap_command),
    ("imap_mutf7", imap_mutf7),
    ("imap_session", imap_session),
    ("imap_url", imap_url),
    ("mime_envelope", mime_envelope),
    ("mime_fields", mime_fields),
    ("mime_header", mime_header),
    ("mime_row", mime_row),
    ("mime_scanner", mime_scanner),
    ("mime_text", mime_text),
    ("mime_thread", mime_thread),
    ("pop3_session", pop3_session),
    ("pop3_stuffer", pop3_stuffer),
    ("smtp_client", smtp_client),
    ("smtp_command", smtp_command),
    ("smtp_reply", smtp_reply),
    ("smtp_server", smtp_server),
];

/// An address or a domain; what parses is written in a form that parses to the same.
pub fn core_address(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Ok(address) = Address::parse(text) {
        assert_eq!(Address::parse(&address.to_string()), Ok(address));
    }
    if let Ok(domain) = Domain::parse(text) {
        assert_eq!(Domain::parse(domain.as_str()), Ok(domain));
    }
}

/// Fields of a row. The first octet says how many, the octets after it which; they are read from the rest and
/// written again: what was read reads the same.
pub fn core_row(data: &[u8]) {
    let Some((&count, rest)) = data.split_first() else {
        return;
    };
    let (kinds, row) = rest.split_at(usize::from(count % 16).min(rest.len()));
    let Ok((mut reader, version)) = RowReader::new(row, u8::MAX) else {
        return;
    };
    let mut writer = RowWriter::new(version);
    let mut read = Vec::new();
    for kind in kinds {
        let Ok(field) = read_field(&mut reader, *kind) else {
            break;
        };
        write_field(&mut writer, &field);
        read.push((kind, field));
    }
    let written = writer.finish();
    let (mut again, _) = RowReader::new(&written, version).expect("a version");
    for (kind, field) in &read {
        assert_eq!(read_field(&mut again, **kind).as_ref(), Ok(field));
    }
    assert!(again.rest().is_empty());
}

#[derive(PartialEq, Debug)]
enum Field<'a> {
    U8(u8),
    U32(u32),
    U64(u64),
    I64(i64),
    Varint(u64),
    Fixed(&'a [u8]),
    Bytes(&'a [u8]),
    Str(&'a str),
}

fn read_field<'a>(
    reader: &mut RowReader<'a>,
    kind: u8,
) -> Result<Field<'a>, nightmail_core::codec::RowError> {
    Ok(match kind % 8 {
        0 => Field::U8(reader.u8()?),
        1 => Field::U32(reader.u32()?),
        2 => Field::U64(reader.u64()?),
        3 => Field::I64(reader.i64()?),
        4 => Field::Varint(reader.varint()?),
        5 => Field::Fixed(reader.fixed(usize::from(kind / 8))?),
        6 => Field::Bytes(reader.bytes()?),
        _ => Field::Str(reader.str()?),
    })
}

fn write_field(writer: &mut RowWriter, field: &Field<'_>) {
    match *field {
        Field::U8(value) => writer.u8(value),
        Field::U32(value) => writer.u32(value),
        Field::U64(value) => writer.u64(value),
        Field::I64(value) => writer.i64(value),
        Field::Varint(value) => writer.varint(value),
        Field::Fixed(value) => writer.fixed(value),
        Field::Bytes(value) => writer.bytes(value),
        Field::Str(value) => writer.str(value),
    };
}

/// A date, field by field; a date that exists gives a time that gives the date.
pub fn core_times(data: &[u8]) {
    let Some(octets) = data.first_chunk::<8>() else {
        return;
    };
    let millis = i64::from_le_bytes(*octets);
    let _ = Timestamp::from_millis(millis).rfc5322();
    let _ = Timestamp::from_millis(millis).imap_date_time();
    let civil = Civil {
        year: i64::from(u16::from_le_bytes([octets[0], octets[1]])),
        month: octets[2],
        day: octets[3],
        hour: octets[4],
        minute: octets[5],
        second: octets[6],
    };
    if let Some(time) = Timestamp::from_civil(civil, 0)
        && civil.second < 60
    {
        assert_eq!(time.civil(), civil);
    }
}

/// One IMAP command.
pub fn imap_command(data: &[u8]) {
    nightmail_imap::fuzzing::parse_command(data);
}

/// A mailbox name in modified UTF-7.
pub fn imap_mutf7(data: &[u8]) {
    nightmail_imap::fuzzing::decode_mutf7(data);
}

/// An IMAP session: an octet that chooses, then what the client sends.
pub fn imap_session(data: &[u8]) {
    nightmail_imap::fuzzing::run_session(Instant::now(), data);
}

/// An IMAP URL; what it is vouched for by is its beginning.
pub fn imap_url(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let limits = nightmail_imap::Limits::default();
    if let Ok(url) = nightmail_imap::url::ImapUrl::parse(text, &limits)
        && let Some(authorization) = url.authorization
    {
        assert!(text.starts_with(&authorization.rump));
    }
}

/// A header section, as an envelope.
pub fn mime_envelope(data: &[u8]) {
    nightmail_mime::fuzzing::envelope(data);
}

/// The value of a structured field, whichever it is, and encoded text.
pub fn mime_fields(data: &[u8]) {
    let _ = nightmail_mime::address::parse_list(data, 1000);
    let _ = nightmail_mime::MediaType::parse(data, 100);
    let _ = nightmail_mime::Disposition::parse(data, 100);
    let _ = nightmail_mime::date::parse(data);
    let _ = nightmail_mime::encoded_word::decode_words(data);
    let _ = nightmail_mime::transfer::decode_base64(data);
    let encoded = nightmail_mime::transfer::encode_quoted_printable(data);
    let lines = encoded.split(|octet| *octet == b'\n');
    assert!(
        lines.into_iter().all(|line| line.len() <= 77),
        "RFC 2045 §6.7 (5)"
    );
    let _ = nightmail_mime::transfer::decode_quoted_printable(data);
}

/// A header section, field by field.
pub fn mime_header(data: &[u8]) {
    nightmail_mime::fuzzing::header(data);
}

/// A row that holds a structure.
pub fn mime_row(data: &[u8]) {
    nightmail_mime::fuzzing::structure_decode(data);
}

/// A message: an octet for the size of pieces, then its octets.
pub fn mime_scanner(data: &[u8]) {
    let (piece, message) = data.split_first().unwrap_or((&0, &[]));
    nightmail_mime::fuzzing::scanner(message, usize::from(*piece));
}

/// A subject and a text in HTML: what is taken out of either is no longer than it.
pub fn mime_text(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let subject = nightmail_mime::subject::BaseSubject::of(&text);
    assert!(subject.text.len() <= text.len());
    let _ = nightmail_mime::html::text_of(&text);
}

/// Messages, one on each line: its id, then what it refers to. Each of them is in one thread, once.
pub fn mime_thread(data: &[u8]) {
    let mut threader = nightmail_mime::thread::Threader::default();
    let lines: Vec<&[u8]> = data.split(|octet| *octet == b'\n').collect();
    for line in &lines {
        let mut ids = line.split(|octet| *octet == b' ');
        let id = ids.next().filter(|id| !id.is_empty());
        let facts = nightmail_mime::thread::Facts {
            subject: line.last().map(ToString::to_string).unwrap_or_default(),
            is_reply: line.len() % 2 == 0,
            sent_millis: line.len() as i64,
        };
        threader.add(id, ids, facts);
    }
    let mut depth_max = 0;
    let mut told = vec![0_u32; lines.len()];
    for row in threader.finish() {
        assert!(
            row.depth <= depth_max,
            "a message is below the one before it"
        );
        depth_max = row.depth + 1;
        if let Some(message) = row.message {
            told[message as usize] += 1;
        }
    }
    assert!(told.iter().all(|times| *times == 1), "every message, once");
}

/// A POP3 session: an octet for the size of pieces, then what the client sends.
pub fn pop3_session(data: &[u8]) {
    let (piece, input) = data.split_first().unwrap_or((&0, &[]));
    nightmail_pop3::fuzzing::session(Instant::now(), input, usize::from(*piece));
}

/// A message on its way to a POP3 client: octets for the size of pieces and for TOP, then the message.
pub fn pop3_stuffer(data: &[u8]) {
    let (head, message) = data.split_at(data.len().min(2));
    let octet = |index| head.get(index).copied().unwrap_or_default();
    nightmail_pop3::fuzzing::stuffer(message, usize::from(octet(0)), u64::from(octet(1)));
}

/// A sending SMTP or LMTP session: two octets that choose, then what the server sends.
pub fn smtp_client(data: &[u8]) {
    nightmail_smtp::fuzzing::client_session(Instant::now(), data);
}

/// An SMTP command line.
pub fn smtp_command(data: &[u8]) {
    nightmail_smtp::fuzzing::command_line(data);
}

/// SMTP replies.
pub fn smtp_reply(data: &[u8]) {
    nightmail_smtp::fuzzing::reply(data);
}

/// A receiving SMTP, submission or LMTP session: two octets that choose, then what the client sends.
pub fn smtp_server(data: &[u8]) {
    nightmail_smtp::fuzzing::server_session(Instant::now(), data);
}
