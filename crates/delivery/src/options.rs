//! How the channel is set up.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use nightmail_core::{Address, Domain};
use nightmail_dns::Dns;
use nightmail_journal::Journal;
use nightmail_pace::{Policies, RateRule, ReplyRules, SenderPattern, Settings};
use nightmail_queue::RuleBook;
use nightmail_smtp::client::Timeouts;
use nightmail_tlspolicy::{TlsPolicies, TlsReports};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// Everything the channel is told.
#[derive(Clone)]
pub struct DeliveryOptions {
    /// The name said in EHLO and in reports.
    pub host_name: Domain,
    /// Further names under which MX records may mean this host.
    pub own_names: Vec<Domain>,
    /// Addresses at which this host takes mail.
    pub own_addresses: Vec<IpAddr>,
    /// Who gets a report that cannot reach its sender; without, it is logged and dropped.
    pub postmaster: Option<Address>,
    /// What becomes of failures that no sender can be told of.
    pub double_bounces: DoubleBounces,
    /// The port of other sites' MX hosts.
    pub mx_port: u16,
    /// What holds for each destination: its way, its bounds, when it is tried again.
    pub policies: Arc<Policies>,
    /// The relays that settings and operators name.
    pub relays: BTreeMap<String, Relay>,
    /// What follows from replies.
    pub reply_rules: Arc<ReplyRules>,
    /// How fast mail of a source or sender may leave.
    pub rates: Vec<RateRule>,
    /// Senders who get an address of their own for each recipient.
    pub verp: Option<Verp>,
    /// Whether delays are also reported to senders who gave no NOTIFY.
    pub delay_reports_unasked: bool,
    /// Certificate authorities trusted beside the public ones where certificates are verified.
    pub trusted_roots: Vec<CertificateDer<'static>>,
    /// What domains publish about TLS (MTA-STS, DANE); without, nothing is asked for.
    pub tls_policies: Option<TlsPolicies>,
    /// Where the results of TLS are counted.
    pub tls_reports: Option<TlsReports>,
    /// The operator's standing rules.
    pub standing: Option<Arc<RuleBook>>,
    /// The log of events.
    pub journal: Journal,
    /// Who is asked about names.
    pub dns: Dns,
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
            double_bounces: DoubleBounces::default(),
            mx_port: 25,
            policies: Arc::new(Policies::new(Vec::new(), Settings::default())),
            relays: BTreeMap::new(),
            reply_rules: Arc::default(),
            rates: Vec::new(),
            verp: None,
            delay_reports_unasked: false,
            trusted_roots: Vec::new(),
            tls_policies: None,
            tls_reports: None,
            standing: None,
            journal: Journal::off(),
            dns,
            limits: DeliveryLimits::default(),
            timeouts: Timeouts::default(),
            seed: None,
        }
    }
}

/// What becomes of failures that no sender can be told of: of reports themselves, and of reports that cannot reach
/// their sender.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum DoubleBounces {
    /// The postmaster gets a report.
    #[default]
    Postmaster,
    /// They are logged and dropped.
    Drop,
}

/// Variable envelope return paths: the reverse-path names the recipient, `local+rlocal=rdomain@domain`.
#[derive(Clone, Debug)]
pub struct Verp {
    /// For whom.
    pub senders: Vec<SenderPattern>,
    /// Between the sender's local part and the recipient, and in place of the recipient's at-sign.
    pub delimiters: (char, char),
}

/// Hosts that take mail for elsewhere.
#[derive(Clone, Debug)]
pub struct Relay {
    /// Its name in the configuration.
    pub name: String,
    /// Host names or IP addresses and ports, tried in this order. MX records are not looked at.
    pub hosts: Vec<(String, u16)>,
    /// How the connection is protected.
    pub tls: SmarthostTls,
    /// How this host identifies itself.
    pub login: Option<Login>,
    /// The certificate that this host shows.
    pub client_certificate: Option<ClientCertificate>,
}

/// A certificate with its key.
#[derive(Clone)]
pub struct ClientCertificate {
    /// The certificate, and those that vouch for it.
    pub chain: Vec<CertificateDer<'static>>,
    /// Its private key.
    pub key: Arc<PrivateKeyDer<'static>>,
}

impl std::fmt::Debug for ClientCertificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ClientCertificate({} certificates)", self.chain.len())
    }
}

/// How the connection to a relay is protected.
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

/// Bounds of the channel.
#[derive(Clone, Debug)]
pub struct DeliveryLimits {
    /// Fresh messages in hand at once.
    pub pending_max: usize,
    /// Messages in hand at once that had been deferred.
    pub deferred_max: usize,
    /// Connections at once that mail may be sent over. Each holds at most about 0.5 MiB of a message.
    pub connections_max: usize,
    /// Connections at once that are being made, for as long as they are not slow.
    pub connecting_max: usize,
    /// After how long a connection that is being made counts as slow, and no longer keeps others from being made.
    pub connecting_slow: Duration,
    /// Slow ones at once; what is more is broken off.
    pub slow_max: usize,
    /// Destinations whose way is looked up at once, for as long as that is not slow.
    pub lookups_max: usize,
    /// Slow look-ups at once. What is more keeps others from being made.
    pub slow_lookups_max: usize,
    /// For how long the way to a destination is kept while there is mail for it.
    pub route_lifetime: Duration,
    /// Messages taken at once for one connection.
    pub batch_max: usize,
    /// Messages taken at once that are only to be put off or given up.
    pub bulk_max: usize,
    /// Messages whose outcome waits to be recorded.
    pub settling_max: usize,
    /// MX hosts of one destination that are looked at.
    pub hosts_max: usize,
    /// Addresses tried in one attempt.
    pub addresses_max: usize,
    /// How long connecting to one address may take.
    pub connect_timeout: Duration,
    /// How long a TLS handshake may take.
    pub tls_timeout: Duration,
    /// How long no connection is tried to a site none of whose hosts could be reached, at most. Less where its mail is
    /// due again sooner.
    pub dead_max: Duration,
    /// Buckets of rates by sender that are remembered.
    pub buckets_max: usize,
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
            pending_max: 4000,
            deferred_max: 2000,
            connections_max: 1000,
            connecting_max: 200,
            connecting_slow: Duration::from_secs(3),
            slow_max: 1000,
            lookups_max: 100,
            slow_lookups_max: 2000,
            route_lifetime: Duration::from_secs(300),
            batch_max: 16,
            bulk_max: 200,
            settling_max: 1024,
            hosts_max: 16,
            addresses_max: 8,
            connect_timeout: Duration::from_secs(30),
            tls_timeout: Duration::from_secs(60),
            dead_max: Duration::from_secs(600),
            buckets_max: 100_000,
            report_message_octets_max: 64 << 10,
            report_header_octets_max: 64 << 10,
            store_pause: Duration::from_secs(5),
        }
    }
}
