//! ENABLE (RFC 5161): by name, what changes what the server sends or how it reads.

use bytes::BufMut;

use super::Command;
use crate::capability;
use crate::enabled::Extension;
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

/// A name that is not known, not announced to this client, or that needs no enabling, is passed over (RFC 5161 §3.1).
pub(crate) fn run(session: &mut Session, names: &[String]) {
    let wanted = |extension: &Extension| {
        let capability = extension.capability();
        names
            .iter()
            .any(|name| name.eq_ignore_ascii_case(capability))
    };
    let counted = session.enabled().has(Extension::Condstore);
    let mut answer = String::from("* ENABLED");
    for extension in Extension::ALL.into_iter().filter(wanted) {
        let name = extension.capability();
        if capability::is_offered(session.hidden(), name) && session.enable(extension) {
            answer.push(' ');
            answer.push_str(name);
        }
    }
    let out = session.text();
    out.put_slice(answer.as_bytes());
    out.put_slice(b"\r\n");
    if !counted && session.enabled().has(Extension::Condstore) {
        session.tell_highest_modseq();
    }
    session.ok("Enabled");
}
