//! Entry points for fuzzers and property tests. Each takes any bytes and asserts what must hold.

use std::ops::Range;

use crate::structure::{Content, Part, SectionKind, Structure};
use crate::{Envelope, Limits, Scanner, header, imap, search};

/// Scans a message whole and in pieces of `piece` octets, and checks the structure.
pub fn scanner(message: &[u8], piece: usize) -> Structure {
    let whole = crate::scan(message);
    let mut scanner = Scanner::new(Limits::default());
    for chunk in message.chunks(piece.max(1)) {
        scanner.push(chunk);
    }
    assert_eq!(whole, scanner.finish(), "pieces of {piece}");
    check(&whole, message);
    whole
}

/// Checks that ranges nest inside the message, that lines are counted, that both byte forms can be written and
/// that the structure reads back as it was.
pub fn check(structure: &Structure, message: &[u8]) {
    assert_eq!(structure.octets, message.len() as u64);
    check_part(structure.root(), &(0..structure.octets), message);
    for path in [&[][..], &[1], &[2], &[1, 1], &[1, 2, 1]] {
        for kind in [
            SectionKind::Header,
            SectionKind::Text,
            SectionKind::Mime,
            SectionKind::Body,
        ] {
            if let Some(range) = structure.section(path, kind) {
                assert!(slice(message, &range).is_some());
            }
        }
    }
    for extended in [false, true] {
        let mut out = Vec::new();
        imap::write_body(structure, extended, &mut out);
        check_balanced(&out);
    }
    let mut out = Vec::new();
    imap::write_envelope(structure.envelope(), &mut out);
    check_balanced(&out);
    assert_eq!(
        Structure::decode(&structure.encode()).as_ref(),
        Ok(structure)
    );
}

fn slice<'a>(message: &'a [u8], range: &Range<u64>) -> Option<&'a [u8]> {
    let start = usize::try_from(range.start).ok()?;
    message.get(start..usize::try_from(range.end).ok()?)
}

fn check_part(part: &Part, within: &Range<u64>, message: &[u8]) {
    assert!(within.start <= part.header.start && part.header.end <= within.end);
    assert!(part.header.start <= part.header.end && part.header.end == part.body.start);
    assert!(part.body.start <= part.body.end && part.body.end <= within.end);
    let body = slice(message, &part.body).unwrap_or_default();
    assert_eq!(part.octets(), body.len() as u64);
    assert_eq!(part.lines, memchr::memchr_iter(b'\n', body).count() as u64);
    search::decode_text(part, body);
    match &part.content {
        Content::Leaf => {}
        Content::Multipart(children) => {
            let mut from = part.body.start;
            for child in children {
                check_part(child, &(from..part.body.end), message);
                from = child.body.end;
            }
        }
        Content::Message(inner) => {
            assert_eq!(inner.root.header.start, part.body.start);
            assert_eq!(inner.root.body.end, part.body.end);
            check_part(&inner.root, &part.body, message);
        }
    }
}

/// Checks that IMAP data is one parenthesized list: strings and literals whole, parentheses in pairs.
fn check_balanced(data: &[u8]) {
    let mut depth = 0i32;
    let mut rest = data;
    while let Some((&byte, after)) = rest.split_first() {
        rest = match byte {
            b'(' => {
                depth += 1;
                after
            }
            b')' => {
                depth -= 1;
                assert!(depth > 0 || after.is_empty(), "the list ends early");
                after
            }
            b'"' => after_quoted(after),
            b'{' => after_literal(after),
            _ => {
                assert!(byte.is_ascii_graphic() || byte == b' ', "octet {byte}");
                after
            }
        };
    }
    assert_eq!(depth, 0);
}

fn after_quoted(mut rest: &[u8]) -> &[u8] {
    loop {
        rest = match rest {
            [b'"', after @ ..] => return after,
            [b'\\', _, after @ ..] => after,
            [byte, after @ ..] => {
                assert!(byte.is_ascii() && !matches!(byte, 0 | b'\r' | b'\n'));
                after
            }
            [] => panic!("a quoted string is open"),
        };
    }
}

fn after_literal(rest: &[u8]) -> &[u8] {
    let Some(end) = memchr::memmem::find(rest, b"}\r\n") else {
        panic!("a literal has no length");
    };
    let (len, after) = rest.split_at_checked(end).unwrap_or_default();
    let len = std::str::from_utf8(len)
        .ok()
        .and_then(|len| len.parse().ok());
    let Some((_, after)) = len.and_then(|len: usize| after.get(3..)?.split_at_checked(len)) else {
        panic!("a literal is cut");
    };
    after
}

/// Decodes any row; what decodes must encode to a row that decodes to the same.
pub fn structure_decode(row: &[u8]) {
    if let Ok(structure) = Structure::decode(row) {
        assert_eq!(Structure::decode(&structure.encode()), Ok(structure));
    }
}

/// Parses a header section into an envelope and writes it.
pub fn envelope(header: &[u8]) {
    let envelope = Envelope::parse(header, 1000);
    let mut out = Vec::new();
    imap::write_envelope(&envelope, &mut out);
    check_balanced(&out);
}

/// Iterates, picks and decodes the fields of a header section.
pub fn header(header: &[u8]) {
    let mut end = 0;
    for field in header::fields(header) {
        assert!(field.offset >= end && !field.name.is_empty());
        end = field.offset + field.raw.len();
        assert_eq!(header.get(field.offset..end), Some(field.raw));
        crate::encoded_word::decode_words(field.value);
    }
    let names: [&str; 0] = [];
    assert!(header::pick_fields(header, &names, true).ends_with(b"\r\n"));
    assert_eq!(header::pick_fields(header, &names, false), b"\r\n");
}
