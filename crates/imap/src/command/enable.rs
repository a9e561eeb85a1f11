//! ENABLE (RFC 5161). None of the extensions announced changes what the server sends unasked, so none is to enable.

use bytes::BufMut;

use super::Command;
use crate::parse::{Parser, Result};
use crate::session::Session;

pub(super) fn parse(parser: &mut Parser<'_>) -> Result<Command> {
    let mut names = Vec::new();
    while names.is_empty() || !parser.is_at_end() {
        parser.space()?;
        names.push(parser.atom()?.to_ascii_uppercase());
    }
    Ok(Command::Enable(names))
}

/// A name that is not known, or that needs no enabling, is passed over (RFC 5161 §3.1).
pub(crate) fn run(session: &mut Session) {
    session.text().put_slice(b"* ENABLED\r\n");
    session.ok("Nothing to enable");
}
