//! AUTHENTICATE with PLAIN (RFC 4616) and LOGIN, and initial responses (RFC 3501 §6.2.2, RFC 4959).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::{Command, login};
use crate::io::{Credentials, Secret};
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

/// Where the exchange is: what the next response means.
enum Expect {
    Plain,
    User,
    Password { user: String },
}

impl Expect {
    /// The challenge that asks for it, encoded.
    const fn challenge(&self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::User => "VXNlcm5hbWU6",
            Self::Password { .. } => "UGFzc3dvcmQ6",
        }
    }
}

pub(crate) fn run(session: &mut Session, command: Authenticate) {
    let expect = match command.mechanism.as_str() {
        "PLAIN" => Expect::Plain,
        "LOGIN" => Expect::User,
        _ => {
            let refusal = Refusal::new(RefusalKind::Cannot, "No such mechanism");
            return session.refuse(&refusal);
        }
    };
    match command.initial {
        None => challenge(session, expect),
        Some(initial) if initial.expose() == b"=" => respond(session, expect, Vec::new()),
        Some(initial) => decode_and_respond(session, expect, initial.expose()),
    }
}

fn challenge(session: &mut Session, expect: Expect) {
    session.prompt(expect.challenge(), expect);
}

impl Step for Expect {
    fn line(self: Box<Self>, session: &mut Session, line: &[u8]) {
        if line == b"*" {
            return session.bad("Authentication cancelled");
        }
        decode_and_respond(session, *self, line);
    }
}

fn decode_and_respond(session: &mut Session, expect: Expect, line: &[u8]) {
    match STANDARD.decode(line) {
        Ok(response) => respond(session, expect, response),
        Err(_) => session.bad("The response is not base64"),
    }
}

fn respond(session: &mut Session, expect: Expect, response: Vec<u8>) {
    let credentials = match expect {
        Expect::Plain => plain(&response),
        Expect::User => match String::from_utf8(response) {
            Ok(user) => return challenge(session, Expect::Password { user }),
            Err(_) => None,
        },
        Expect::Password { user } => Some(Credentials {
            mechanism: "AUTHENTICATE LOGIN",
            authorization: None,
            user,
            password: Secret::new(response),
        }),
    };
    match credentials {
        Some(credentials) => login::check(session, credentials),
        None => session.bad("The response is not what the mechanism asks for"),
    }
}

/// RFC 4616 §2: `[authzid] NUL authcid NUL passwd`, in UTF-8.
fn plain(response: &[u8]) -> Option<Credentials> {
    let text = std::str::from_utf8(response).ok()?;
    let mut fields = text.split('\0');
    let (authorization, user, password) = (fields.next()?, fields.next()?, fields.next()?);
    fields.next().is_none().then(|| Credentials {
        mechanism: "AUTHENTICATE PLAIN",
        authorization: (!authorization.is_empty()).then(|| authorization.to_owned()),
        user: user.to_owned(),
        password: Secret::new(password.as_bytes()),
    })
}
