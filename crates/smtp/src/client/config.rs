//! How a sending session behaves.

use std::time::Duration;

use crate::command::HelloName;
use crate::sasl::Password;

/// Which protocol the server speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// SMTP (RFC 5321).
    Smtp,
    /// LMTP (RFC 2033).
    Lmtp,
}

/// Whether STARTTLS (RFC 3207) is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsPolicy {
    /// Not even where offered.
    Never,
    /// Where offered; a refused STARTTLS leaves plain text.
    Opportunistic,
    /// No mail without.
    Required,
}

/// Who we are to a smarthost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    /// Identity.
    pub identity: String,
    /// Password.
    pub password: Password,
    /// Whether the password may cross the network without TLS.
    pub without_tls: bool,
}

/// The settings of a session; many sessions may share them.
#[derive(Clone, Debug)]
pub struct Config {
    /// Which protocol the server speaks.
    pub protocol: Protocol,
    /// Our name in EHLO or LHLO.
    pub hello: HelloName,
    /// STARTTLS.
    pub tls: TlsPolicy,
    /// AUTH, for a smarthost. A session that cannot authenticate fails.
    pub login: Option<Login>,
    /// Commands sent ahead of their replies, where the server does PIPELINING. 50: their replies fit any
    /// receive window.
    pub pipeline_commands_max: usize,
    /// Whether content goes by BDAT (RFC 3030) where the server does CHUNKING and PIPELINING. Binary content always
    /// does.
    pub chunking: bool,
    /// Chunks sent ahead of their replies, where the server does PIPELINING. 4: what is sent for nothing to a server
    /// that refuses the first is bounded.
    pub pipeline_chunks_max: usize,
    /// How long to wait.
    pub timeouts: Timeouts,
}

impl Config {
    /// Opportunistic TLS, no AUTH, BDAT where it can be, the timeouts of RFC 5321.
    pub fn new(protocol: Protocol, hello: HelloName) -> Self {
        Self {
            protocol,
            hello,
            tls: TlsPolicy::Opportunistic,
            login: None,
            pipeline_commands_max: 50,
            chunking: true,
            pipeline_chunks_max: 4,
            timeouts: Timeouts::default(),
        }
    }
}

/// How long to wait (RFC 5321 §4.5.3.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// For the greeting. 5 minutes.
    pub greeting: Duration,
    /// For the reply to EHLO, HELO, STARTTLS, AUTH and RSET. 5 minutes.
    pub hello: Duration,
    /// For the reply to MAIL. 5 minutes.
    pub mail: Duration,
    /// For the reply to each RCPT. 5 minutes.
    pub rcpt: Duration,
    /// For the 354 after DATA. 2 minutes.
    pub data_start: Duration,
    /// Between chunks of content. 3 minutes.
    pub data_block: Duration,
    /// For the reply to the end of data. 10 minutes.
    pub data_end: Duration,
    /// For a TLS handshake. 1 minute.
    pub handshake: Duration,
    /// A ready session without a delivery says QUIT. 5 minutes, after which a server may give up too.
    pub idle: Duration,
    /// For the reply to QUIT. 10 seconds.
    pub quit: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        let minutes = |count: u64| Duration::from_secs(60 * count);
        Self {
            greeting: minutes(5),
            hello: minutes(5),
            mail: minutes(5),
            rcpt: minutes(5),
            data_start: minutes(2),
            data_block: minutes(3),
            data_end: minutes(10),
            handshake: minutes(1),
            idle: minutes(5),
            quit: Duration::from_secs(10),
        }
    }
}
