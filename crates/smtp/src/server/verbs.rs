//! The table of verbs: who may use each, what must have come before, and who handles it.

use super::{Role, Server};
use crate::replies;
use crate::reply::Reply;

/// Something a verb needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    /// TLS, where it is required.
    Tls,
    /// An identity, where it is required.
    Identity,
    /// EHLO, HELO or LHLO.
    Hello,
    /// AUTH is offered at all.
    AuthOffer,
    /// Mail can be handed in.
    MailOffer,
    /// ETRN is offered.
    EtrnOffer,
    /// ATRN is offered.
    AtrnOffer,
    /// The client may use XCLIENT.
    XclientOffer,
    /// The client may use XFORWARD.
    XforwardOffer,
    /// No identity yet.
    NoIdentity,
    /// No transaction, for a verb that may not come within one.
    NoTransaction,
    /// No transaction, for MAIL.
    NoMail,
    /// A transaction.
    Mail,
    /// An accepted recipient.
    Rcpt,
    /// No BDAT yet.
    NoChunks,
}

impl Need {
    /// Whether it is about what the session offers, not about what has come before.
    pub(super) const fn is_offer(self) -> bool {
        matches!(
            self,
            Self::AuthOffer
                | Self::MailOffer
                | Self::EtrnOffer
                | Self::AtrnOffer
                | Self::XclientOffer
                | Self::XforwardOffer
        )
    }

    pub(super) const fn reply(self) -> Reply {
        match self {
            Self::Tls => replies::TLS_REQUIRED,
            Self::Identity => replies::AUTH_REQUIRED,
            Self::Hello => replies::HELLO_FIRST,
            Self::AuthOffer | Self::MailOffer | Self::EtrnOffer | Self::AtrnOffer => {
                replies::NOT_IMPLEMENTED
            }
            Self::XclientOffer | Self::XforwardOffer => replies::ATTRIBUTES_DENIED,
            Self::NoIdentity => replies::ALREADY_AUTHENTICATED,
            Self::NoTransaction => replies::WITHIN_TRANSACTION,
            Self::NoMail => replies::NESTED_MAIL,
            Self::Mail => replies::MAIL_FIRST,
            Self::Rcpt => replies::RCPT_FIRST,
            Self::NoChunks => replies::CHUNKS_BEGUN,
        }
    }
}

/// Who may use a verb.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum For {
    Smtp,
    Mta,
    Lmtp,
    All,
}

/// One row of the table.
pub(super) struct Verb {
    /// In capitals.
    name: &'static str,
    users: For,
    /// Checked in this order; the first that is not met gives the reply.
    pub(super) needs: &'static [Need],
    /// Counts towards `idle_commands_max`.
    pub(super) idle: bool,
    pub(super) handler: fn(&mut Server, &[u8]),
    /// Whether HELP shows it.
    shown: bool,
}

const fn verb(
    name: &'static str,
    users: For,
    needs: &'static [Need],
    idle: bool,
    handler: fn(&mut Server, &[u8]),
) -> Verb {
    Verb {
        name,
        users,
        needs,
        idle,
        handler,
        shown: true,
    }
}

/// A command between mail servers, which HELP does not show.
const fn unshown(verb: Verb) -> Verb {
    Verb {
        shown: false,
        ..verb
    }
}

/// Another protocol's request, sent here by mistake or by a browser that was made to.
const fn stranger(name: &'static str) -> Verb {
    unshown(verb(name, All, &[], false, Server::stranger))
}

use For::{All, Lmtp, Mta, Smtp};
use Need::{
    AtrnOffer, AuthOffer, EtrnOffer, Hello, Identity, Mail, MailOffer, NoChunks, NoIdentity,
    NoMail, NoTransaction, Rcpt, Tls, XclientOffer, XforwardOffer,
};

#[rustfmt::skip]
static VERBS: [Verb; 25] = [
    //   verb        users  needs                                                     idle   handler             RFC
    verb("EHLO",     Smtp,  &[],                                                      true,  Server::ehlo),   // 5321 §4.1.1.1
    verb("HELO",     Smtp,  &[],                                                      true,  Server::helo),   // 5321 §4.1.1.1
    verb("LHLO",     Lmtp,  &[],                                                      true,  Server::ehlo),   // 2033 §4.1
    verb("MAIL",     All,   &[MailOffer, Tls, Hello, Identity, NoChunks, NoMail],     true,  Server::mail),   // 5321 §4.1.1.2
    verb("RCPT",     All,   &[MailOffer, Tls, Hello, Identity, Mail, NoChunks],       false, Server::rcpt),   // 5321 §4.1.1.3
    verb("DATA",     All,   &[MailOffer, Tls, Hello, Identity, Mail, NoChunks, Rcpt], false, Server::data),   // 5321 §4.1.1.4
    verb("BDAT",     All,   &[],                                                      false, Server::bdat),   // 3030 §2
    verb("RSET",     All,   &[],                                                      true,  Server::rset),   // 5321 §4.1.1.5
    verb("VRFY",     All,   &[MailOffer, Tls, Identity],                              true,  Server::vrfy),   // 5321 §4.1.1.6
    verb("EXPN",     All,   &[MailOffer, Tls, Identity],                              true,  Server::expn),   // 5321 §4.1.1.7
    verb("HELP",     All,   &[],                                                      true,  Server::help),   // 5321 §4.1.1.8
    verb("NOOP",     All,   &[],                                                      true,  Server::noop),   // 5321 §4.1.1.9
    verb("QUIT",     All,   &[],                                                      false, Server::quit),   // 5321 §4.1.1.10
    verb("STARTTLS", All,   &[],                                                      true,  Server::starttls), // 3207 §4
    verb("AUTH",     All,   &[AuthOffer, Hello, NoIdentity, NoTransaction],           true,  Server::auth),   // 4954 §4
    verb("ETRN",     Mta,   &[EtrnOffer, Tls, Hello, Identity, NoTransaction],        true,  Server::etrn),   // 1985 §5
    verb("ATRN",     Smtp,  &[AtrnOffer, Tls, Hello, Identity, NoTransaction],        true,  Server::atrn),   // 2645 §5.2.1
    unshown(verb("XCLIENT",  All, &[XclientOffer, NoTransaction],            true,  Server::xclient)),
    unshown(verb("XFORWARD", All, &[XforwardOffer, NoTransaction],           true,  Server::xforward)),
    stranger("GET"),
    stranger("HEAD"),
    stranger("POST"),
    stranger("PUT"),
    stranger("OPTIONS"),
    stranger("CONNECT"),
];

/// What BDAT needs; its handler checks, because the octets after it must be read in any case.
pub(super) const BDAT_NEEDS: &[Need] = &[MailOffer, Tls, Hello, Identity, Mail, Rcpt];

/// The row of a verb, compared without case, that this role may use.
pub(super) fn find(name: &[u8], role: Role) -> Option<&'static Verb> {
    usable(role).find(|verb| verb.name.as_bytes().eq_ignore_ascii_case(name))
}

/// The names of the verbs that HELP shows, with what they need.
pub(super) fn shown(role: Role) -> impl Iterator<Item = (&'static str, &'static [Need])> {
    let shown = usable(role).filter(|verb| verb.shown);
    shown.map(|verb| (verb.name, verb.needs))
}

fn usable(role: Role) -> impl Iterator<Item = &'static Verb> {
    VERBS.iter().filter(move |verb| match verb.users {
        All => true,
        Lmtp => role == Role::Lmtp,
        Smtp => role != Role::Lmtp,
        Mta => role == Role::Mta,
    })
}
