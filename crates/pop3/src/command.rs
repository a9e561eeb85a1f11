//! The commands: one table of verb, states, need of TLS, handler and source.

use crate::session::Session;

/// The states in which a command is allowed (RFC 1939 §3).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum States {
    Authorization,
    Transaction,
    Both,
}

impl States {
    pub(crate) const fn allow(self, is_transaction: bool) -> bool {
        match self {
            Self::Authorization => !is_transaction,
            Self::Transaction => is_transaction,
            Self::Both => true,
        }
    }
}

/// A row of the table. The handler gets what follows the verb and one space.
pub(crate) struct Command {
    pub(crate) verb: &'static str,
    pub(crate) states: States,
    /// Whether it carries a password, which [`Config::plaintext_login`](crate::Config) guards.
    pub(crate) needs_tls: bool,
    pub(crate) handler: fn(&mut Session, &str),
}

impl Command {
    /// The command of a verb, compared without case.
    pub(crate) fn find(verb: &str) -> Option<&'static Self> {
        COMMANDS
            .iter()
            .find(|command| command.verb.eq_ignore_ascii_case(verb))
    }
}

const fn row(
    verb: &'static str,
    states: States,
    needs_tls: bool,
    handler: fn(&mut Session, &str),
) -> Command {
    Command {
        verb,
        states,
        needs_tls,
        handler,
    }
}

#[rustfmt::skip]
static COMMANDS: [Command; 16] = [
    row("USER", States::Authorization, true,  Session::user), // RFC 1939 §7
    row("PASS", States::Authorization, true,  Session::pass), // RFC 1939 §7
    row("AUTH", States::Authorization, true,  Session::auth), // RFC 5034 §4
    row("STLS", States::Authorization, false, Session::stls), // RFC 2595 §4
    row("UTF8", States::Authorization, false, Session::utf8), // RFC 6856 §2
    row("LANG", States::Both,          false, Session::lang), // RFC 6856 §3
    row("CAPA", States::Both,          false, Session::capa), // RFC 2449 §5
    row("QUIT", States::Both,          false, Session::quit), // RFC 1939 §4, §6
    row("STAT", States::Transaction,   false, Session::stat), // RFC 1939 §5
    row("LIST", States::Transaction,   false, Session::list), // RFC 1939 §5
    row("UIDL", States::Transaction,   false, Session::uidl), // RFC 1939 §7
    row("RETR", States::Transaction,   false, Session::retr), // RFC 1939 §5
    row("TOP",  States::Transaction,   false, Session::top),  // RFC 1939 §7
    row("DELE", States::Transaction,   false, Session::dele), // RFC 1939 §5
    row("RSET", States::Transaction,   false, Session::rset), // RFC 1939 §5
    row("NOOP", States::Transaction,   false, Session::noop), // RFC 1939 §5
];
