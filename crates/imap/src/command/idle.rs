//! IDLE (RFC 2177).

use crate::io::Output;
use crate::session::{Session, Step};

/// What is already known is told at once; from here on `Session` tells news as it comes.
pub(crate) fn run(session: &mut Session) {
    session.prompt("idling", Idling);
    session.tell_news();
    session.set_idling(true);
    session.push(Output::Idle(true));
}

struct Idling;

impl Step for Idling {
    fn line(self: Box<Self>, session: &mut Session, line: &[u8]) {
        self.abandoned(session);
        if line.eq_ignore_ascii_case(b"DONE") {
            session.ok("Idle ended");
        } else {
            session.bad("Expected DONE");
        }
    }

    fn abandoned(self: Box<Self>, session: &mut Session) {
        session.set_idling(false);
        session.push(Output::Idle(false));
    }
}
