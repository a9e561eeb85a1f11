//! COMPRESS (RFC 4978): the connection compressed both ways.

use super::Command;
use crate::parse::{Parser, Result};
use crate::session::Session;

pub(super) fn parse(parser: &mut Parser<'_>) -> Result<Command> {
    parser.space()?;
    let algorithm = parser.atom()?.to_ascii_uppercase();
    parser.end()?;
    Ok(Command::Compress(algorithm))
}

pub(crate) fn run(session: &mut Session, algorithm: &str) {
    if algorithm != "DEFLATE" {
        return session.bad("The algorithm is DEFLATE");
    }
    if session.is_compressed() {
        return session.bad_with("COMPRESSIONACTIVE", "DEFLATE is active");
    }
    session.ok("DEFLATE active");
    session.set_compressed(true);
}
