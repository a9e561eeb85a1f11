//! How the channel is set up.

use std::net::IpAddr;
use std::time::Duration;

use nightmail_core::{Address, Domain};
use nightmail_dns::Dns;
use nightmail_smtp::client::Timeouts;
use rustls::pki_types::CertificateDer;

/// Everything the channel is told.
#[derive(Clone, Debug)]
pub struct DeliveryOptions {
    /// The name said in EHLO and in reports.
    pub host_name: Domain,
    /// Further names under which MX records may mean this host.
    pub own_names: Vec<Domain>,
    /// Addresses at which this host takes mail.
    pub own_addresses: Vec<IpAddr>,
    /// Who gets a report that cannot reach its sender; without, it is logged and dropped.
    pub postmaster: Option<Address>,
    /// The port of other sites' MX hosts.
    pub mx_port: u16,
    /// Whether STARTTLS is used towards MX hosts that offer it. Their certificates are not verified.
    pub mx_tls: bool,
    /// The host that all mail is handed to, instead of MX hosts.
    pub smarthost: Option<Smarthost>,
    /// Certificate authorities trusted beside the public ones where certificates are verified.
    pub trusted_roots: Vec<CertificateDer<'static>>,
    /// Who is asked about names.
    pub dns: Dns,
    /// When failed attempts are repeated and given up.
    pub retry: RetryPolicy,
    /// Bounds.
    pub limits: DeliveryLimits,
    /// How long a host may take for its replies (RFC 5321 §4.5.3.2).
    pub timeouts: Timeouts,
    /// Seeds the order of equal hosts and the jitter; drawn from the system when not given.
    pub seed: Option<u64>,
}

impl DeliveryOptions {
    /// The defaults of a host of this name, which asks `dns`.
    pub fn new(host_name: Domain, dns: Dns) -> Self {
        Self {
            host_name,
            own_names: Vec::new(),
            own_addresses: Vec::new(),
            postmaster: None,
            mx_port: 25,
            mx_tls: true,
            smarthost: None,
            trusted_roots: Vec::new(),
            dns,
            retry: RetryPolicy::default(),
            limits: DeliveryLimits::default(),
            timeouts: Timeouts::default(),
            seed: None,
        }
    }
}

/// A host that takes all mail for other sites.
#[derive(Clone, Debug)]
pub struct Smarthost {
    /// A host name or an IP address. MX records are not looked at.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// How the connection is protected.
    pub tls: SmarthostTls,
    /// How this host identifies itself.
    pub login: Option<Login>,
}

/// How the connection to a smarthost is protected.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SmarthostTls {
    /// Plain.
    None,
    /// STARTTLS if offered; the certificate is not verified. A login is not sent without TLS.
    Opportunistic,
    /// STARTTLS, with the certificate verified against the host's name.
    StartTls,
    /// TLS from the first byte, with the certificate verified against the host's name.
    Implicit,
}

/// A user and password for AUTH.
#[derive(Clone)]
pub struct Login {
    /// The user.
    pub user: String,
    /// The password.
    pub password: String,
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Login({}, …)", self.user)
    }
}

/// When failed attempts are repeated and given up.
#[derive(Clone, Debug)]
pub struct RetryPolicy {
    /// Pauses in milliseconds after the first, second, … failed attempt; the last one repeats.
    pub pauses_millis: Vec<u64>,
    /// By how much of itself a pause is lengthened or shortened at random, in percent.
    pub jitter_percent: u64,
    /// How long after acceptance a message is given up, in milliseconds. RFC 5321 §4.5.4.1 asks for 4 to 5 days.
    pub expiry_millis: i64,
    /// How long after acceptance a delay is reported, in milliseconds; `None`: never.
    pub delay_report_millis: Option<i64>,
    /// Whether delays are also reported to senders who gave no NOTIFY.
    pub delay_reports_unasked: bool,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        const MINUTE: u64 = 60_000;
        Self {
            pauses_millis: [1, 5, 15, 30, 60, 120, 240]
                .map(|minutes| minutes * MINUTE)
                .into(),
            jitter_percent: 10,
            expiry_millis: 5 * 24 * 60 * MINUTE as i64,
            delay_report_millis: Some(4 * 60 * MINUTE as i64),
            delay_reports_unasked: false,
        }
    }
}

/// Bounds of the channel.
#[derive(Clone, Debug)]
pub struct DeliveryLimits {
    /// Messages worked on at once; most of them wait for a connection.
    pub messages_max: usize,
    /// Destinations of one message worked on at once.
    pub destinations_per_message_max: usize,
    /// Connections at once. Each holds at most about 0.5 MiB of a message.
    pub connections_max: usize,
    /// Connections to one destination at once.
    pub connections_per_destination_max: usize,
    /// Messages that wait for such a connection with a worker; what is more is parked.
    pub waiting_per_destination_max: usize,
    /// Messages parked in memory, about 200 bytes each; what is more is put off in the queue.
    pub parked_max: usize,
    /// For how long it is put off, in milliseconds.
    pub put_off_millis: i64,
    /// Recipients in one transaction. RFC 5321 §4.5.3.1.8 lets every server take 100.
    pub recipients_per_transaction_max: usize,
    /// MX hosts of one destination that are looked at.
    pub hosts_max: usize,
    /// Addresses tried in one attempt.
    pub addresses_max: usize,
    /// How long connecting to one address may take.
    pub connect_timeout: Duration,
    /// How long a TLS handshake may take.
    pub tls_timeout: Duration,
    /// The largest message returned whole in a report; of larger ones the header is returned.
    pub report_message_octets_max: u64,
    /// How much of a header is returned in a report.
    pub report_header_octets_max: u64,
    /// How long work on a message pauses after the store failed.
    pub store_pause: Duration,
}

impl Default for DeliveryLimits {
    fn default() -> Self {
        Self {
            messages_max: 1000,
            destinations_per_message_max: 20,
            connections_max: 300,
            connections_per_destination_max: 20,
            waiting_per_destination_max: 20,
            parked_max: 50_000,
            put_off_millis: 300_000,
            recipients_per_transaction_max: 100,
            hosts_max: 16,
            addresses_max: 8,
            connect_timeout: Duration::from_secs(30),
            tls_timeout: Duration::from_secs(60),
            report_message_octets_max: 64 << 10,
            report_header_octets_max: 64 << 10,
            store_pause: Duration::from_secs(5),
        }
    }
}
