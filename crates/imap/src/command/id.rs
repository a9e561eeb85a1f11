//! ID (RFC 2971).

use bytes::{BufMut, BytesMut};

use super::Command;
use crate::io::Output;
use crate::limits::ClientRule;
use crate::parse::{ParseError, Parser, Result};
use crate::session::Session;
use crate::write;

/// RFC 2971 §3.3.
const FIELD_OCTETS_MAX: usize = 30;
const VALUE_OCTETS_MAX: usize = 1024;

pub(super) fn parse(parser: &mut Parser<'_>) -> Result<Command> {
    parser.space()?;
    let mut pairs = Vec::new();
    if !parser.eat_word("NIL") {
        parser.expect(b'(', "expected NIL or a list")?;
        while !parser.eat(b')') {
            if !pairs.is_empty() {
                parser.space()?;
            }
            if pairs.len() >= parser.limits().id_pairs_max {
                return Err(ParseError::TooMany("fields"));
            }
            pairs.push(parse_pair(parser)?);
        }
    }
    parser.end()?;
    Ok(Command::Id(pairs))
}

fn parse_pair(parser: &mut Parser<'_>) -> Result<(String, Option<String>)> {
    let field = lossy(&parser.string()?, FIELD_OCTETS_MAX)?;
    parser.space()?;
    if parser.eat_word("NIL") {
        return Ok((field, None));
    }
    let value = lossy(&parser.string()?, VALUE_OCTETS_MAX)?;
    Ok((field, Some(value)))
}

fn lossy(octets: &[u8], octets_max: usize) -> Result<String> {
    if octets.len() > octets_max {
        return Err(ParseError::Syntax("the field is too long"));
    }
    Ok(String::from_utf8_lossy(octets).into_owned())
}

pub(crate) fn run(session: &mut Session, pairs: Vec<(String, Option<String>)>) {
    let config = session.config();
    heed(session, &config.clients, &pairs);
    if !pairs.is_empty() {
        session.push(Output::ClientId(pairs));
    }
    let out = session.text();
    out.put_slice(b"* ID ");
    write_pairs(out, &config.id);
    out.put_slice(b"\r\n");
    session.ok("Pleased to meet you");
}

/// Keeps from a client what it is known to stumble over.
fn heed(session: &mut Session, rules: &[ClientRule], pairs: &[(String, Option<String>)]) {
    let field = |wanted: &str| {
        let found = pairs
            .iter()
            .find(|(field, _)| field.eq_ignore_ascii_case(wanted));
        found.and_then(|(_, value)| value.as_deref()).unwrap_or("")
    };
    let (name, version) = (field("name"), field("version"));
    let mut applying = rules
        .iter()
        .filter(|rule| rule.applies_to(name, version))
        .peekable();
    if applying.peek().is_some() {
        let mut hidden = session.config().hidden.clone();
        hidden.extend(applying.flat_map(|rule| rule.hide.iter().cloned()));
        session.hide(hidden);
    }
}

fn write_pairs(out: &mut BytesMut, pairs: &[(String, String)]) {
    if pairs.is_empty() {
        return out.put_slice(b"NIL");
    }
    for (index, (field, value)) in pairs.iter().enumerate() {
        out.put_u8(if index == 0 { b'(' } else { b' ' });
        write::quoted(out, field);
        out.put_u8(b' ');
        write::quoted(out, value);
    }
    out.put_u8(b')');
}
