//! AUTHENTICATE and initial responses (RFC 3501 §6.2.2, RFC 4959); the mechanisms are those of `nightmail-sasl`.

use nightmail_sasl::{self as sasl, Exchange, Mechanism, decode, decode_initial, encode};

use super::{Command, login};
use crate::io::{Answer, Ask, Secret};
use crate::parse::{Parser, Result};
use crate::refusal::{Refusal, RefusalKind};
use crate::session::{Session, Step};

/// The arguments of AUTHENTICATE.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Authenticate {
    /// The mechanism in capitals.
    pub mechanism: String,
    /// The initial response as sent: base64, or `=` for an empty one.
    pub initial: Option<Secret>,
}

pub(super) fn parse(parser: &mut Parser<'_>) -> Result<Command> {
    parser.space()?;
    let mechanism = parser.atom()?.to_ascii_uppercase();
    let initial = if parser.eat(b' ') {
        let response = parser.take_while(|b| matches!(b, b'!'..=b'~'));
        Some(Secret::new(response))
    } else {
        None
    };
    parser.end()?;
    Ok(Command::Authenticate(Authenticate { mechanism, initial }))
}

pub(crate) fn run(session: &mut Session, command: Authenticate) {
    let offered = session.mechanisms();
    let mechanism = Mechanism::parse(&command.mechanism);
    let Some(mechanism) = mechanism.filter(|mechanism| offered.contains(*mechanism)) else {
        let refusal = Refusal::new(RefusalKind::Cannot, "No such mechanism");
        return session.refuse(&refusal);
    };
    let mut exchange = Exchange::new(mechanism, offered, session.channel());
    let step = match command.initial {
        None => exchange.start(None),
        Some(initial) => match text(initial.expose()).and_then(decode_initial) {
            Some(initial) => exchange.start(Some(&initial)),
            None => return session.bad(NOT_BASE64),
        },
    };
    go_on(session, exchange, step);
}

const NOT_BASE64: &str = "The response is not base64";

fn text(octets: &[u8]) -> Option<&str> {
    std::str::from_utf8(octets).ok()
}

fn go_on(session: &mut Session, exchange: Exchange, step: sasl::Step) {
    match step {
        sasl::Step::Challenge(challenge) => {
            session.prompt(&encode(&challenge), Responding(exchange));
        }
        sasl::Step::Ask(question) => session.ask(Ask::Authenticate(question), Asking(exchange)),
        sasl::Step::Succeeded { data: None, .. } => login::welcome(session),
        // The final reply carries no data: it goes as a challenge, which the client answers with nothing.
        sasl::Step::Succeeded {
            data: Some(data), ..
        } => {
            session.prompt(&encode(&data), Confirming);
        }
        sasl::Step::Failed(sasl::Failure::Invalid) => {
            session.bad("The response is not what the mechanism asks for");
        }
        sasl::Step::Failed(failure) => login::fail(session, failure),
    }
}

/// A response of the client is awaited.
struct Responding(Exchange);

impl Step for Responding {
    fn line(self: Box<Self>, session: &mut Session, line: &[u8]) {
        if line == b"*" {
            return session.bad("Authentication cancelled");
        }
        let mut exchange = self.0;
        match text(line).and_then(decode) {
            Some(response) => {
                let step = exchange.respond(&response);
                go_on(session, exchange, step);
            }
            None => session.bad(NOT_BASE64),
        }
    }
}

/// An answer of the driver is awaited.
struct Asking(Exchange);

impl Step for Asking {
    fn answer(self: Box<Self>, session: &mut Session, answer: Answer) {
        let mut exchange = self.0;
        match answer {
            Answer::Authentication(answer) => {
                let step = exchange.answer(answer);
                go_on(session, exchange, step);
            }
            Answer::Refused(refusal) => session.refuse_login(&refusal),
            other => session.refuse_unexpected(other),
        }
    }
}

/// The client has logged in, and must say that it has read the last challenge.
struct Confirming;

impl Step for Confirming {
    fn line(self: Box<Self>, session: &mut Session, line: &[u8]) {
        match line {
            b"" => login::welcome(session),
            b"*" => session.bad("Authentication cancelled"),
            _ => session.bad("The response is not what the mechanism asks for"),
        }
    }
}
