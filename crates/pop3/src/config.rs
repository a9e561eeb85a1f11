//! What a session offers and how much it bears.

use std::time::Duration;

use nightmail_sasl::{Mechanism, MechanismSet};

/// What the sessions of a listener have in common.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// The name the greeting gives.
    pub hostname: String,
    /// What CAPA says of the implementation (RFC 2449 §6.9).
    pub implementation: String,
    /// Whether STLS is offered while there is no TLS.
    pub starttls: bool,
    /// Whether USER, PASS and AUTH work without TLS.
    pub plaintext_login: bool,
    /// The mechanisms of AUTH; those that the connection is good for are offered.
    pub mechanisms: MechanismSet,
    /// The longest time that an account may have to wait between logins (RFC 2449 §6.5), in seconds; none: no account
    /// has to.
    pub login_delay_secs: Option<u32>,
    /// After how many days messages are removed where the account has no rule of its own (RFC 2449 §6.7).
    pub expire_days: Option<u32>,
    /// Bounds of a session.
    pub limits: Limits,
}

impl Config {
    /// STLS offered, PLAIN and LOGIN, no login without TLS, default limits.
    pub fn new(hostname: impl Into<String>) -> Self {
        Self {
            hostname: hostname.into(),
            implementation: "Nightmail".into(),
            starttls: true,
            plaintext_login: false,
            mechanisms: [Mechanism::Plain, Mechanism::Login].into_iter().collect(),
            login_delay_secs: None,
            expire_days: None,
            limits: Limits::default(),
        }
    }
}

/// Bounds of one session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Octets of a command line with its line end. RFC 2449 §4 asks for 255, RFC 6856 §2 for 512 at least.
    pub line_octets_max: usize,
    /// Octets of an AUTH line and of the lines of its exchange (RFC 4954 §4 names 12,288 for SMTP).
    pub auth_line_octets_max: usize,
    /// Octets of pipelined input kept before [`Session::wants_input`](crate::Session::wants_input) says no.
    pub input_octets_max: usize,
    /// Refused commands after which the session ends.
    pub bad_commands_max: u32,
    /// Failed logins after which the session ends.
    pub auth_failures_max: u32,
    /// Time for a client to log in.
    pub login_timeout: Duration,
    /// Silence after which a session that is logged in ends (RFC 1939 §3: at least 10 minutes).
    pub idle_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            line_octets_max: 512,
            auth_line_octets_max: 12_288,
            input_octets_max: 16 * 1024,
            bad_commands_max: 20,
            auth_failures_max: 3,
            login_timeout: Duration::from_secs(180),
            idle_timeout: Duration::from_secs(600),
        }
    }
}
