//! Commands (RFC 5321 §4.1.1, RFC 1985, RFC 2033, RFC 2645, RFC 3030, RFC 3207, RFC 4954): from a line to a type and back.
//!
//! Owns the grammar of one command line. Whether a command may come now is the session's business.

mod atrn;
mod attributes;
mod demand;
mod etrn;
mod mail;
mod param;
mod path;
mod rcpt;
mod utf8;
mod xtext;

use std::fmt::{self, Write as _};
use std::time::Duration;

use bytes::BytesMut;
use nightmail_core::Domain;
use thiserror::Error;

pub(crate) use atrn::parse as parse_atrn;
pub use attributes::{XAttribute, XName};
pub(crate) use demand::rfc3339;
pub use demand::{ByMode, DeliverBy, Hold};
pub use etrn::EtrnTarget;
pub(crate) use mail::write_mail;
pub use mail::{BodyType, Mail, MailParams, Return};
pub(crate) use rcpt::write_rcpt;
pub use rcpt::{Notify, OriginalRecipient, Rcpt, RcptParams};
pub use xtext::Xtext;

/// RFC 5321 §4.5.3.1.2 for the argument of EHLO, HELO and LHLO.
const HELLO_OCTETS_MAX: usize = 255;

/// Why a line is not a command.
#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
pub enum CommandError {
    /// No such verb.
    #[error("unknown command")]
    Unknown,
    /// Control characters, or nothing at all.
    #[error("the line is empty or has control characters")]
    Line,
    /// Not the shape named.
    #[error("syntax: {0}")]
    Syntax(&'static str),
    /// An argument is missing, wrong or not expected.
    #[error("invalid arguments")]
    Arguments,
    /// The reverse-path is not one.
    #[error("invalid reverse-path")]
    ReversePath,
    /// The forward-path is not one.
    #[error("invalid forward-path")]
    ForwardPath,
    /// UTF-8 outside an SMTPUTF8 transaction.
    #[error("UTF-8 address without SMTPUTF8")]
    Utf8,
    /// A parameter that is not offered.
    #[error("unknown parameter")]
    ParameterUnknown,
    /// A parameter given twice.
    #[error("parameter given twice")]
    ParameterTwice,
    /// A parameter without its value, with one it cannot have, or with a wrong one.
    #[error("invalid parameter value")]
    ParameterValue,
}

/// Which optional extensions a server does. PIPELINING, SIZE, 8BITMIME and ENHANCEDSTATUSCODES are always done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extensions {
    /// DSN (RFC 3461): RET, ENVID, NOTIFY, ORCPT.
    pub dsn: bool,
    /// SMTPUTF8 (RFC 6531).
    pub smtputf8: bool,
    /// CHUNKING (RFC 3030): BDAT.
    pub chunking: bool,
    /// BINARYMIME (RFC 3030); counts only with `chunking`.
    pub binarymime: bool,
    /// AUTH (RFC 4954): the AUTH parameter of MAIL.
    pub auth: bool,
    /// ETRN (RFC 1985).
    pub etrn: bool,
    /// REQUIRETLS (RFC 8689).
    pub requiretls: bool,
    /// MT-PRIORITY (RFC 6710).
    pub mt_priority: bool,
    /// DELIVERBY (RFC 2852): the smallest number of seconds taken with `R`, zero for any.
    pub deliver_by: Option<u32>,
    /// FUTURERELEASE (RFC 4865): the longest time for which a message is held back.
    pub future_release: Option<Duration>,
    /// LIMITS (RFC 9422): the numbers of transactions and recipients are told.
    pub limits: bool,
}

impl Extensions {
    /// All of them.
    pub const ALL: Self = Self {
        dsn: true,
        smtputf8: true,
        chunking: true,
        binarymime: true,
        auth: true,
        etrn: true,
        requiretls: true,
        mt_priority: true,
        deliver_by: Some(0),
        future_release: Some(Duration::from_secs(999_999_999)),
        limits: true,
    };

    /// AUTH alone, for sessions that take no mail.
    pub(crate) const AUTH_ONLY: Self = Self {
        dsn: false,
        smtputf8: false,
        chunking: false,
        binarymime: false,
        auth: true,
        ..Self::USUAL
    };

    /// Those that ask nothing of a driver but to keep what it is told in the envelope.
    pub const USUAL: Self = Self {
        etrn: false,
        requiretls: false,
        mt_priority: false,
        deliver_by: None,
        future_release: None,
        limits: false,
        ..Self::ALL
    };
}

/// How a line is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Syntax {
    /// What is offered.
    pub extensions: Extensions,
    /// Whether a path may come without angle brackets.
    pub unbracketed_paths: bool,
    /// Whether MAIL of this transaction had SMTPUTF8.
    pub utf8_transaction: bool,
}

impl Syntax {
    /// Everything offered, brackets needed, within an SMTPUTF8 transaction.
    pub const ALL: Self = Self {
        extensions: Extensions::ALL,
        unbracketed_paths: false,
        utf8_transaction: true,
    };
}

/// The name a client gives itself in EHLO, HELO or LHLO: visible ASCII, not checked any further
/// (RFC 5321 §4.1.4 forbids refusing mail over it).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HelloName(Box<str>);

impl HelloName {
    /// The first word of `args`. Fails without one, on non-ASCII and above 255 octets.
    pub fn parse(args: &[u8]) -> Result<Self, CommandError> {
        let word = args.split(|b| is_blank(*b)).next().unwrap_or_default();
        let fits = (1..=HELLO_OCTETS_MAX).contains(&word.len());
        match std::str::from_utf8(word) {
            Ok(name) if fits && word.iter().all(u8::is_ascii_graphic) => Ok(Self(name.into())),
            _ => Err(CommandError::Arguments),
        }
    }

    /// The name as given.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// BDAT (RFC 3030 §2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bdat {
    /// Octets that follow the command line.
    pub octets: u64,
    /// Whether the message ends with them.
    pub last: bool,
}

impl Bdat {
    /// Parses `size [LAST]`.
    pub fn parse(args: &[u8]) -> Result<Self, CommandError> {
        let mut words = words(args);
        let octets = words.next().and_then(decimal);
        let last = words.next();
        let known = last.is_none_or(|word| word.eq_ignore_ascii_case(b"LAST"));
        match octets {
            Some(octets) if known && words.next().is_none() => Ok(Self {
                octets,
                last: last.is_some(),
            }),
            _ => Err(CommandError::Arguments),
        }
    }
}

/// Writes a BDAT command with its CRLF.
pub(crate) fn write_bdat(out: &mut BytesMut, octets: usize, last: bool) {
    let last = if last { " LAST" } else { "" };
    // Writing to memory cannot fail.
    let _ = write!(out, "BDAT {octets}{last}\r\n");
}

/// AUTH (RFC 4954 §4).
#[derive(Clone, PartialEq, Eq)]
pub struct Auth {
    /// The mechanism's name, in capitals.
    pub mechanism: Box<str>,
    /// The initial response as sent: base64, or `=` for an empty one.
    pub initial: Option<Box<str>>,
}

impl Auth {
    /// Parses `mechanism [initial-response]`.
    pub fn parse(args: &[u8]) -> Result<Self, CommandError> {
        let mut words = words(args).map(ascii);
        let mechanism = words.next().flatten().filter(|name| is_mechanism(name));
        let initial = words.next();
        match (mechanism, initial, words.next()) {
            (Some(_), Some(None), _) | (None, ..) | (.., Some(_)) => Err(CommandError::Arguments),
            (Some(mechanism), initial, None) => Ok(Self {
                mechanism: mechanism.to_ascii_uppercase().into(),
                initial: initial.flatten().map(Into::into),
            }),
        }
    }
}

/// Never shows the response: it holds a password.
impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Auth")
            .field("mechanism", &self.mechanism)
            .field("initial", &self.initial.is_some())
            .finish()
    }
}

fn is_mechanism(name: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    (1..=20).contains(&name.len()) && name.bytes().all(allowed)
}

/// A command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// EHLO (RFC 5321 §4.1.1.1).
    Ehlo(HelloName),
    /// HELO (RFC 5321 §4.1.1.1).
    Helo(HelloName),
    /// LHLO (RFC 2033 §4.1).
    Lhlo(HelloName),
    /// MAIL (RFC 5321 §4.1.1.2).
    Mail(Mail),
    /// RCPT (RFC 5321 §4.1.1.3).
    Rcpt(Rcpt),
    /// DATA (RFC 5321 §4.1.1.4).
    Data,
    /// BDAT (RFC 3030 §2).
    Bdat(Bdat),
    /// RSET (RFC 5321 §4.1.1.5).
    Rset,
    /// VRFY (RFC 5321 §4.1.1.6), with what to verify.
    Vrfy(Box<str>),
    /// EXPN (RFC 5321 §4.1.1.7), with what to expand.
    Expn(Box<str>),
    /// HELP (RFC 5321 §4.1.1.8); its argument is dropped.
    Help,
    /// NOOP (RFC 5321 §4.1.1.9); its argument is dropped.
    Noop,
    /// QUIT (RFC 5321 §4.1.1.10).
    Quit,
    /// STARTTLS (RFC 3207 §4).
    StartTls,
    /// AUTH (RFC 4954 §4).
    Auth(Auth),
    /// ETRN (RFC 1985 §5).
    Etrn(EtrnTarget),
    /// ATRN (RFC 2645 §5.2.1), with the domains whose mail is wanted; none for all.
    Atrn(Vec<Domain>),
    /// XCLIENT.
    Xclient(Vec<XAttribute>),
    /// XFORWARD.
    Xforward(Vec<XAttribute>),
}

impl Command {
    /// Parses a line without its CRLF.
    pub fn parse(line: &[u8], syntax: &Syntax) -> Result<Self, CommandError> {
        let (verb, args) = split_verb(line)?;
        let alone = |command| no_arguments(args).map(|()| command);
        match verb.to_ascii_uppercase().as_slice() {
            b"EHLO" => HelloName::parse(args).map(Self::Ehlo),
            b"HELO" => HelloName::parse(args).map(Self::Helo),
            b"LHLO" => HelloName::parse(args).map(Self::Lhlo),
            b"MAIL" => Mail::parse(args, syntax).map(Self::Mail),
            b"RCPT" => Rcpt::parse(args, syntax).map(Self::Rcpt),
            b"BDAT" => Bdat::parse(args).map(Self::Bdat),
            b"AUTH" => Auth::parse(args).map(Self::Auth),
            b"ETRN" => EtrnTarget::parse(args).map(Self::Etrn),
            b"ATRN" => atrn::parse(args).map(Self::Atrn),
            b"XCLIENT" => XAttribute::parse_all(args, &XName::XCLIENT).map(Self::Xclient),
            b"XFORWARD" => XAttribute::parse_all(args, &XName::XFORWARD).map(Self::Xforward),
            b"VRFY" => text_argument(args).map(Self::Vrfy),
            b"EXPN" => text_argument(args).map(Self::Expn),
            b"HELP" => Ok(Self::Help),
            b"NOOP" => Ok(Self::Noop),
            b"DATA" => alone(Self::Data),
            b"RSET" => alone(Self::Rset),
            b"QUIT" => alone(Self::Quit),
            b"STARTTLS" => alone(Self::StartTls),
            _ => Err(CommandError::Unknown),
        }
    }
}

/// The line without its CRLF.
impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ehlo(name) => write!(f, "EHLO {}", name.as_str()),
            Self::Helo(name) => write!(f, "HELO {}", name.as_str()),
            Self::Lhlo(name) => write!(f, "LHLO {}", name.as_str()),
            Self::Mail(mail) => mail.fmt(f),
            Self::Rcpt(rcpt) => rcpt.fmt(f),
            Self::Bdat(Bdat { octets, last: true }) => write!(f, "BDAT {octets} LAST"),
            Self::Bdat(Bdat { octets, .. }) => write!(f, "BDAT {octets}"),
            Self::Auth(auth) => match &auth.initial {
                Some(initial) => write!(f, "AUTH {} {initial}", auth.mechanism),
                None => write!(f, "AUTH {}", auth.mechanism),
            },
            Self::Etrn(target) => write!(f, "ETRN {target}"),
            Self::Atrn(domains) => atrn::write(f, domains),
            Self::Xclient(attributes) => write_attributes(f, "XCLIENT", attributes),
            Self::Xforward(attributes) => write_attributes(f, "XFORWARD", attributes),
            Self::Vrfy(text) => write_text(f, "VRFY", text),
            Self::Expn(text) => write_text(f, "EXPN", text),
            Self::Help => f.write_str("HELP"),
            Self::Noop => f.write_str("NOOP"),
            Self::Data => f.write_str("DATA"),
            Self::Rset => f.write_str("RSET"),
            Self::Quit => f.write_str("QUIT"),
            Self::StartTls => f.write_str("STARTTLS"),
        }
    }
}

fn write_attributes(
    f: &mut fmt::Formatter<'_>,
    verb: &str,
    attributes: &[XAttribute],
) -> fmt::Result {
    f.write_str(verb)?;
    for attribute in attributes {
        write!(f, " {attribute}")?;
    }
    Ok(())
}

/// Parts the verb from its arguments, without the blanks around them.
pub(crate) fn split_verb(line: &[u8]) -> Result<(&[u8], &[u8]), CommandError> {
    if line.iter().any(|b| b.is_ascii_control() && *b != b'\t') {
        return Err(CommandError::Line);
    }
    let end = line.iter().position(|b| is_blank(*b)).unwrap_or(line.len());
    match line.split_at_checked(end) {
        Some(([], [])) | None => Err(CommandError::Line),
        Some((verb, args)) => Ok((verb, trim(args))),
    }
}

/// Fails where a command without arguments has some.
pub(crate) fn no_arguments(args: &[u8]) -> Result<(), CommandError> {
    match args {
        [] => Ok(()),
        _ => Err(CommandError::Arguments),
    }
}

/// The argument of VRFY and EXPN, without the SMTPUTF8 word that may follow it and must where the argument is not ASCII
/// (RFC 6531 §3.7.4).
pub(crate) fn text_argument(args: &[u8]) -> Result<Box<str>, CommandError> {
    let text = std::str::from_utf8(args).map_err(|_| CommandError::Arguments)?;
    let (mut kept, mut utf8) = (text, false);
    while let Some((before, "SMTPUTF8" | "smtputf8")) = kept.rsplit_once([' ', '\t']) {
        (kept, utf8) = (before.trim_end(), true);
    }
    match kept {
        "" => Err(CommandError::Arguments),
        text if !text.is_ascii() && !utf8 => Err(CommandError::Utf8),
        text => Ok(text.into()),
    }
}

fn write_text(f: &mut fmt::Formatter<'_>, verb: &str, text: &str) -> fmt::Result {
    let utf8 = if text.is_ascii() { "" } else { " SMTPUTF8" };
    write!(f, "{verb} {text}{utf8}")
}

const fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

fn trim(mut text: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = text {
        text = rest;
    }
    text
}

fn words(args: &[u8]) -> impl Iterator<Item = &[u8]> {
    args.split(|b| is_blank(*b)).filter(|word| !word.is_empty())
}

fn ascii(word: &[u8]) -> Option<&str> {
    std::str::from_utf8(word)
        .ok()
        .filter(|word| word.is_ascii())
}

/// One to twenty digits; a number beyond `u64` counts as the largest.
fn decimal(digits: &[u8]) -> Option<u64> {
    let fits = (1..=20).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit);
    let text = ascii(digits).filter(|_| fits)?;
    Some(text.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests;
