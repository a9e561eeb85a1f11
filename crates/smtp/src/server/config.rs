//! What a listener's sessions offer, and their limits.

use std::time::Duration;

use crate::body::BareNewline;
use crate::command::Extensions;
use crate::sasl::{Mechanism, MechanismSet};

/// Whom a session serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Mail from other sites (RFC 5321), port 25.
    Mta,
    /// Mail from our users (RFC 6409), ports 587 and 465.
    Msa,
    /// Mail from a neighbouring MTA, with a reply for each recipient (RFC 2033).
    Lmtp,
    /// Customers that take their waiting mail over the connection they have made (RFC 2645), port 366. No mail is
    /// handed in.
    Odmr,
}

/// When STARTTLS (RFC 3207) is offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsOffer {
    /// Never.
    Off,
    /// While TLS is not active.
    Offered,
    /// The same, and mail is taken with TLS only (530 5.7.0).
    Required,
}

/// When AUTH (RFC 4954) is offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthOffer {
    /// Never.
    Off,
    /// Under TLS only; 538 5.7.11 without.
    OverTls,
    /// Always: passwords may cross the network in the clear.
    Always,
}

/// The settings that all sessions of a listener share.
#[derive(Clone, Debug)]
pub struct Config {
    /// Whom the sessions serve.
    pub role: Role,
    /// Our name in the greeting and in EHLO: a domain, or an address literal.
    pub hostname: String,
    /// What follows `ESMTP` or `LMTP` in the greeting; may be empty.
    pub banner: String,
    /// STARTTLS.
    pub tls: TlsOffer,
    /// AUTH.
    pub auth: AuthOffer,
    /// The mechanisms of AUTH. Those that a channel cannot carry are not offered over it.
    pub auth_mechanisms: MechanismSet,
    /// Whether mail is taken from authenticated peers only (530 5.7.0).
    pub auth_required: bool,
    /// Optional extensions done. `auth` here is ruled by [`Config::auth`]. REQUIRETLS is offered under TLS only, ETRN by
    /// an MTA, FUTURERELEASE by an MSA that knows the time ([`super::Server::set_clock`]), DELIVERBY not under LMTP.
    pub extensions: Extensions,
    /// Bare CR or LF in commands and message data. [`BareNewline::Keep`] works as `Reject` here: only
    /// binary bodies keep them.
    pub bare_newline: BareNewline,
    /// Whether `MAIL FROM:a@b` without angle brackets is understood.
    pub unbracketed_paths: bool,
    /// Whether VRFY is asked of the driver; 252 otherwise.
    pub ask_vrfy: bool,
    /// The bounds of a session.
    pub limits: Limits,
}

impl Config {
    /// The usual settings of a role: an MTA offers neither TLS nor AUTH until told so, an MSA and ODMR want AUTH
    /// under TLS, LMTP wants nothing.
    pub fn new(role: Role, hostname: impl Into<String>) -> Self {
        let customers = matches!(role, Role::Msa | Role::Odmr);
        Self {
            role,
            hostname: hostname.into(),
            banner: String::new(),
            tls: if customers {
                TlsOffer::Offered
            } else {
                TlsOffer::Off
            },
            auth: if customers {
                AuthOffer::OverTls
            } else {
                AuthOffer::Off
            },
            auth_mechanisms: [Mechanism::Plain, Mechanism::Login].into_iter().collect(),
            auth_required: customers,
            extensions: Extensions::USUAL,
            bare_newline: BareNewline::Reject,
            unbracketed_paths: false,
            ask_vrfy: false,
            limits: Limits::default(),
        }
    }
}

/// The bounds of a session. By default, a session of a peer that has not authenticated holds less than 64 KiB: waiting
/// input below `pipeline_octets_max` and one input more of at most 16 KiB, 4 KiB of replies and the last of them, and
/// `envelope_octets_max`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// A command line with its CRLF. 4,096; RFC 5321 §4.5.3.1.4 asks for 512, its extensions for up to
    /// 1,300 more.
    pub command_line_octets_max: usize,
    /// An AUTH line with its CRLF. 12,288 (RFC 4954 §4).
    pub sasl_line_octets_max: usize,
    /// Pipelined input that waits for an answer; one input may exceed it. 12,800: more than any line.
    pub pipeline_octets_max: usize,
    /// A message. 52,428,800; RFC 5321 §4.5.3.1.7 asks for 65,536.
    pub message_octets_max: u64,
    /// Recipients of a transaction. 1,000; RFC 5321 §4.5.3.1.8 asks for 100.
    pub recipients_max: usize,
    /// Paths and parameters of a transaction of a peer that has not authenticated, as they are kept; 452 for recipients
    /// beyond. 28,672; 100 paths of 256 octets (RFC 5321 §4.5.3.1.3, §4.5.3.1.8) fit.
    pub envelope_octets_max: usize,
    /// Errors of the peer in a session, before 421. 20.
    pub errors_max: u32,
    /// Recipients refused in a session, before 421. 100.
    pub recipients_refused_max: u32,
    /// Failed AUTH in a session, before 421. 5.
    pub auth_failures_max: u32,
    /// Commands since the last message that do not bring mail (RSET, NOOP, EHLO, MAIL ...), before 421.
    /// 200.
    pub idle_commands_max: u32,
    /// Transactions in a session, before 421. 10,000.
    pub transactions_max: u32,
    /// Octets read from a message after its refusal, before 421. 268,435,456.
    pub discard_octets_max: u64,
    /// Wait for a command. 5 minutes (RFC 5321 §4.5.3.2.7). A line that trickles in does not extend it.
    pub command_timeout: Duration,
    /// Wait for more message data. 5 minutes; a client may need 3 for a block (RFC 5321 §4.5.3.2.5).
    pub data_timeout: Duration,
    /// Time for a whole DATA, or one BDAT chunk. 1 hour.
    pub transfer_timeout: Duration,
    /// What message data must come to in octets a second, once `data_timeout` has passed since its start; zero for any.
    /// 100.
    pub data_rate_min: u32,
    /// Time for a TLS handshake. 1 minute.
    pub handshake_timeout: Duration,
    /// Time for a whole session. A message under way may be finished; nothing else is taken after it. 4 hours.
    pub session_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            command_line_octets_max: 4096,
            sasl_line_octets_max: 12_288,
            pipeline_octets_max: 12_800,
            message_octets_max: 50 * 1024 * 1024,
            recipients_max: 1000,
            envelope_octets_max: 28 * 1024,
            errors_max: 20,
            recipients_refused_max: 100,
            auth_failures_max: 5,
            idle_commands_max: 200,
            transactions_max: 10_000,
            discard_octets_max: 256 * 1024 * 1024,
            command_timeout: Duration::from_secs(5 * 60),
            data_timeout: Duration::from_secs(5 * 60),
            transfer_timeout: Duration::from_secs(60 * 60),
            data_rate_min: 100,
            handshake_timeout: Duration::from_secs(60),
            session_timeout: Duration::from_secs(4 * 60 * 60),
        }
    }
}
