//! The keys about mail that goes out: by which way, how fast, when, and in which order.

pub(super) mod check;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use nightmail_core::Domain;
use nightmail_pace::{
    CodePattern, Offset, Pattern, Precedence, Rate, SenderPattern, Weekday, Window,
};

use super::TlsMode;
use super::define::section;
use super::value::{HostPort, Switch, choice};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);

choice! {
    /// What TLS must come to towards mail exchangers.
    pub enum OutboundTls {
        /// None is used.
        None = "none",
        /// Where it is offered, with any certificate (RFC 7435).
        Opportunistic = "opportunistic",
        /// It is required, with any certificate.
        Encrypt = "encrypt",
        /// It is required, with a certificate that is valid for the host.
        Verify = "verify",
        /// DANE (RFC 7672) or nothing.
        Dane = "dane",
    }
}

choice! {
    /// The way of mail for other sites.
    pub enum Route {
        /// The mail exchangers of the destination.
        Direct = "direct",
        /// A relay.
        Relay = "relay",
        /// The mail exchangers, and a relay for what cannot be routed directly.
        DirectThenRelay = "direct-then-relay",
    }
}

section! {
    /// How mail reaches other sites. [[destination]] tables say otherwise for some.
    Delivery {
        /// The name given in EHLO; the hostname when absent.
        ehlo_name: Option<Domain> = None, sample "\"out.example.org\"";
        /// The way: "direct" (mail exchangers), "relay", or "direct-then-relay": the relay gets what cannot be routed
        /// directly, as DNS fails or no host can be reached at the first attempt. When absent, "relay" where there is a
        /// `relay` or a [smarthost], "direct" otherwise.
        route: Option<Route> = None, sample "\"direct-then-relay\"";
        /// The [[relay]] of that route; "smarthost" is that of [smarthost], and meant when absent.
        relay: Option<String> = None, sample "\"smarthost\"";
        /// Whether "direct-then-relay" also hands on what is for domains that do not exist or take no mail; it is returned
        /// otherwise.
        relay_unknown: bool = false;
        /// TLS towards mail exchangers: "none", "opportunistic", "encrypt" (required, any certificate), "verify" (required,
        /// valid for the host) or "dane" (DANE or nothing; needs `dnssec`).
        tls: OutboundTls = OutboundTls::Opportunistic;
        /// Whether TLSA records (DANE, RFC 7672) are followed where a site has them. Needs `dnssec`.
        dane: bool = true;
        /// Whether MTA-STS policies (RFC 8461) are followed where a site has one.
        mta_sts: bool = true;
        /// The waits between attempts; the last one repeats until the message is too old. When empty, they grow by the
        /// square of the attempts: `retry_first`, 4 times, 9 times, 16 times as long, up to `retry_max`.
        retry_waits: Vec<Duration> = Vec::new();
        /// The first wait where `retry_waits` is empty.
        retry_first: Duration = 5 * MINUTE, within SECOND..=DAY;
        /// The longest wait where `retry_waits` is empty.
        retry_max: Duration = 4 * HOUR, within SECOND..=7 * DAY;
        /// By how much of itself a wait is lengthened or shortened at random, in percent.
        retry_jitter_percent: u8 = 20, within 0..=100;
        /// A message that could not be delivered for this long is returned; RFC 5321 asks for 4 to 5 days.
        lifetime: Duration = 5 * DAY, within MINUTE..=60 * DAY;
        /// The same for reports and other mail without a sender, which goes to the postmaster or is dropped (see
        /// `double_bounces` in [queue]).
        bounce_lifetime: Duration = DAY, within MINUTE..=60 * DAY;
        /// The sender is told about a delay of this length, once; zero: never.
        warn_after: Duration = 4 * HOUR, within Duration::ZERO..=60 * DAY;
        /// Most connections at once to one site: the hosts that take the mail of a destination, which others may share.
        connections_per_destination_max: usize = 20, within 1..=1000;
        /// Connections to a site that nothing is known of; success allows more, failure fewer.
        connections_start: usize = 5, within 1..=1000;
        /// Most connections at once to all destinations together.
        connections_max: usize = 1000, within 1..=10_000;
        /// Most messages sent over one connection.
        messages_per_connection: u32 = 100, within 1..=1_000_000;
        /// A connection gets no further message when it is older than this.
        connection_lifetime: Duration = 5 * MINUTE, within SECOND..=HOUR;
        /// How long an open connection waits for more mail.
        idle: Duration = 5 * SECOND, within Duration::ZERO..=5 * MINUTE;
        /// Most recipients in one transaction; RFC 5321 lets every server take 100.
        recipients_per_transaction: usize = 100, within 1..=10_000;
        /// Addresses of this machine to connect from, one for each family of IP; the system chooses when empty.
        source_addresses: Vec<IpAddr> = Vec::new();
        /// How long one attempt to connect may take.
        connect_timeout: Duration = 30 * SECOND, within SECOND..=5 * MINUTE;
        /// The port mail exchangers are reached on.
        port: u16 = 25, within 1..=65_535;
        /// DNS servers to ask; those of the machine when empty.
        dns_servers: Vec<SocketAddr> = Vec::new();
        /// Whether answers about mail exchangers are proven by DNSSEC. The DNS servers must pass signatures on.
        dnssec: bool = false;
        /// File with the keys that proofs start from: DNSKEY records, one a line; those of the Internet's root when absent.
        trust_anchors: Option<PathBuf> = None, sample "\"/etc/nightmail/root.key\"";
    }
}

section! {
    /// A server that takes all mail for other sites, instead of their mail exchangers: the relay of the name "smarthost".
    Smarthost {
        /// Host and port. Without it, mail goes straight to the destinations.
        address: Option<HostPort> = None, sample "\"relay.example.org:587\"";
        /// TLS: "none", "starttls" or "implicit". The certificate must be valid for the host.
        tls: TlsMode = TlsMode::Starttls;
        /// The user to log in as; no login when absent.
        user: Option<String> = None, sample "\"mx.example.org\"";
        /// File whose first line is the password. Only the server's user should be able to read it.
        password_file: Option<PathBuf> = None, sample "\"/etc/nightmail/smarthost.password\"";
    }
}

section! {
    /// What holds for some destinations. Write one [[destination]] for each; of all that fit, in their order, the first
    /// that has a key decides it, and [delivery] what none has. Keys mean what they mean there.
    Destination {
        /// Which: "example.com", ".example.com" (and all below), "*.example.com" (all below), "*" (every one); "mx:" and one
        /// of these looks at the mail exchangers instead of the domain. Keys about the way itself (`route`, `relay`,
        /// `schedule`, `on_request`) are looked up by domain only.
        r#match: Option<Vec<Pattern>> = None, sample "[\".example.com\", \"mx:*.example.net\"]";
        /// "direct", "relay" or "direct-then-relay"; "relay" when only `relay` is given.
        route: Option<Route> = None, sample "\"relay\"";
        /// The name of a [[relay]].
        relay: Option<String> = None, sample "\"partner\"";
        /// Whether "direct-then-relay" also hands on what is for unknown domains.
        relay_unknown: Option<bool> = None, sample "true";
        /// "none", "opportunistic", "encrypt", "verify" or "dane".
        tls: Option<OutboundTls> = None, sample "\"verify\"";
        /// Whether TLSA records are followed.
        dane: Option<bool> = None, sample "false";
        /// Whether MTA-STS policies are followed.
        mta_sts: Option<bool> = None, sample "false";
        /// Most connections at once to one site.
        connections_max: Option<usize> = None, within Some(1)..=Some(1000), sample "2";
        /// Connections to a site that nothing is known of.
        connections_start: Option<usize> = None, within Some(1)..=Some(1000), sample "1";
        /// Most messages sent over one connection.
        messages_per_connection: Option<u32> = None, within Some(1)..=Some(1_000_000), sample "10";
        /// How old a connection may become.
        connection_lifetime: Option<Duration> = None, within Some(SECOND)..=Some(HOUR), sample "\"1m\"";
        /// How long an open connection waits for more mail.
        idle: Option<Duration> = None, within Some(Duration::ZERO)..=Some(5 * MINUTE), sample "\"0s\"";
        /// Most recipients in one transaction.
        recipients_per_transaction: Option<usize> = None, within Some(1)..=Some(10_000), sample "50";
        /// Messages that may be sent in a time, or "off" for any number.
        rate: Option<Switch<Rate>> = None, sample "\"600/1h\"";
        /// The waits between attempts; waits that grow by the square when empty.
        retry_waits: Option<Vec<Duration>> = None, sample "[\"10m\", \"1h\"]";
        /// The first wait, where they grow by the square.
        retry_first: Option<Duration> = None, within Some(SECOND)..=Some(DAY), sample "\"15m\"";
        /// The longest wait, where they grow by the square.
        retry_max: Option<Duration> = None, within Some(SECOND)..=Some(7 * DAY), sample "\"8h\"";
        /// By how much of itself a wait is lengthened or shortened at random, in percent.
        retry_jitter_percent: Option<u8> = None, within Some(0)..=Some(100), sample "10";
        /// A message that could not be delivered for this long is returned.
        lifetime: Option<Duration> = None, within Some(MINUTE)..=Some(60 * DAY), sample "\"2d\"";
        /// The same for mail without a sender.
        bounce_lifetime: Option<Duration> = None, within Some(MINUTE)..=Some(60 * DAY), sample "\"12h\"";
        /// The sender is told about a delay of this length, once; zero: never.
        warn_after: Option<Duration> = None, within Some(Duration::ZERO)..=Some(60 * DAY), sample "\"1h\"";
        /// Addresses of this machine to connect from.
        source_addresses: Option<Vec<IpAddr>> = None, sample "[\"192.0.2.25\"]";
        /// The name given in EHLO.
        ehlo_name: Option<Domain> = None, sample "\"bulk.example.org\"";
        /// The name of a [[schedule]]: mail is sent in its windows only.
        schedule: Option<String> = None, sample "\"nights\"";
        /// Whether mail waits until it is asked for: by ETRN or ATRN of the site, or by `nightmail queue run`.
        on_request: Option<bool> = None, sample "true";
    }
}

choice! {
    /// How the connection to a relay is protected.
    pub enum RelayTls {
        /// Not at all.
        None = "none",
        /// By STARTTLS where it is offered, with any certificate. A login is not sent without TLS.
        Opportunistic = "opportunistic",
        /// By STARTTLS, with a certificate that is valid for the host.
        Starttls = "starttls",
        /// From the first octet, with a certificate that is valid for the host.
        Implicit = "implicit",
    }
}

section! {
    /// A server that takes mail for other sites: a gateway, a provider's relay. Write one [[relay]] for each.
    Relay {
        /// What [delivery], [[destination]] and `nightmail queue reroute` call it.
        name: String = String::new(), sample "\"partner\"";
        /// Its hosts and ports, tried in this order.
        hosts: Option<Vec<HostPort>> = None, sample "[\"relay1.example.org:25\", \"relay2.example.org:25\"]";
        /// TLS: "none", "opportunistic", "starttls" or "implicit". Except with "opportunistic", the certificate must be
        /// valid for the host.
        tls: RelayTls = RelayTls::Starttls;
        /// The user to log in as; no login when absent.
        user: Option<String> = None, sample "\"mx.example.org\"";
        /// File whose first line is the password. Only the server's user should be able to read it.
        password_file: Option<PathBuf> = None, sample "\"/etc/nightmail/partner.password\"";
        /// PEM file with the certificate chain to show to it, the certificate itself first.
        client_certificate: Option<PathBuf> = None, sample "\"/etc/nightmail/partner.pem\"";
        /// PEM file with the private key of that certificate.
        client_key: Option<PathBuf> = None, sample "\"/etc/nightmail/partner.key\"";
    }
}

section! {
    /// When mail may be sent to a [[destination]]. Write one [[schedule]] for each. A window belongs to the day it begins
    /// on, and may end on the next.
    Schedule {
        /// What [[destination]] calls it.
        name: String = String::new(), sample "\"nights\"";
        /// The windows of weekdays, such as ["08:00-12:00", "22:00-06:00"]; [] is closed for the day.
        weekdays: Vec<Window> = vec![Window::DAY];
        /// The windows of the days of `weekend_days`.
        weekend: Vec<Window> = vec![Window::DAY];
        /// The days of the weekend.
        weekend_days: Vec<Weekday> = vec![Weekday::Saturday, Weekday::Sunday];
        /// How far the clock of the windows is ahead of UTC, all year.
        offset: Offset = Offset::default();
    }
}

choice! {
    /// What a reply was to.
    pub enum ReplyStage {
        /// The connection: greeting, EHLO, STARTTLS, AUTH, or the session as a whole.
        Connection = "connection",
        /// MAIL.
        Mail = "mail",
        /// RCPT.
        Rcpt = "rcpt",
        /// DATA, BDAT or the end of data.
        Data = "data",
    }
}

choice! {
    /// What follows from a reply.
    pub enum ReplyConsequence {
        /// No connection is opened to the site for `pause`; those that are open go on.
        Slow = "slow",
        /// The site gets one connection at most for `pause`.
        OneAtATime = "one-at-a-time",
        /// Nothing is sent to the site for `pause`.
        Pause = "pause",
        /// It is tried again later.
        Defer = "defer",
        /// It is returned.
        Fail = "fail",
        /// The next host of the site is tried.
        NextHost = "next-host",
        /// It is held until an operator releases it.
        Hold = "hold",
        /// What the reply itself says.
        Usual = "usual",
    }
}

section! {
    /// What follows from a reply of another site. Write one [[reply_rule]] for each; the first that fits decides, and all
    /// conditions given must hold. Behind them stand built-in ones: a site that says that it has too many connections, or
    /// gets mail too fast, is given no new connections for 10 minutes.
    ReplyRule {
        /// Destinations, in the forms of [[destination]]; "mx:" looks at the host that replied.
        r#match: Vec<Pattern> = Vec::new();
        /// What the reply was to: "connection", "mail", "rcpt" or "data".
        stage: Option<ReplyStage> = None, sample "\"connection\"";
        /// Its code, with dots for any digit.
        code: Option<CodePattern> = None, sample "\"4..\"";
        /// Its enhanced status code, with "*" for any text.
        enhanced: Option<String> = None, sample "\"4.7.*\"";
        /// Its text, with "*" for any text.
        text: Option<String> = None, sample "\"*too many connections*\"";
        /// "slow" (the site gets no new connections for `pause`), "one-at-a-time" (no more than one), "pause" (nothing is
        /// sent there), "defer" (try again later), "fail" (return it), "next-host", "hold" (until an operator releases
        /// it) or "usual" (what the reply says; no further rule is looked at).
        action: ReplyConsequence = ReplyConsequence::Slow;
        /// For how long.
        pause: Duration = 10 * MINUTE, within SECOND..=7 * DAY;
    }
}

choice! {
    /// What a rate counts by.
    pub enum RateSubject {
        /// Where mail comes from.
        Source = "source",
        /// Its sender.
        Sender = "sender",
        /// The domain of its sender.
        SenderDomain = "sender-domain",
    }
}

section! {
    /// How much mail may leave. Write one [[outbound_rate]] for each; all that fit must hold. What is too much waits.
    OutboundRate {
        /// What is counted, each for itself: "source", "sender" or "sender-domain".
        of: RateSubject = RateSubject::Sender;
        /// Which: sources ("submission", "relay", "local"), or senders ("ann@example.org", "@example.org",
        /// "@.example.org"); all when empty.
        r#match: Vec<String> = Vec::new();
        /// Messages that may leave in a time.
        rate: Option<Rate> = None, sample "\"1000/1h\"";
    }
}

choice! {
    /// Where mail comes from.
    pub enum PrecedenceSource {
        /// Our users.
        Submission = "submission",
        /// Other sites.
        Relay = "relay",
        /// This server.
        Local = "local",
        /// A list, or other mail in bulk, whoever handed it in.
        List = "list",
    }
}

section! {
    /// How urgent mail is. Write one [[precedence]] for each; the first that fits decides. Without any, mail in bulk has a
    /// precedence of 240 and all other of 0. What a sender asks for by MT-PRIORITY (RFC 6710) is added: each step makes
    /// it more urgent by 30.
    PrecedenceRule {
        /// Where it comes from: "submission", "relay", "local" (reports on mail that could not be delivered) or "list"
        /// (mail with a List-Id, List-Unsubscribe or Precedence field); from anywhere when absent.
        source: Option<PrecedenceSource> = None, sample "\"list\"";
        /// Its senders: "ann@example.org", "@example.org", "@.example.org", "ann@", or "<>" for none; all when empty.
        sender: Vec<SenderPattern> = Vec::new();
        /// The precedence; lower goes sooner, weighed against size and age (see [queue]).
        precedence: i32 = 0, within -10_000..=10_000;
        /// The strict band: nothing of a higher band goes while something of a lower one is ready.
        band: u8 = Precedence::BAND, within 0..=8;
    }
}

choice! {
    /// What becomes of a report that cannot be delivered.
    pub enum DoubleBounces {
        /// It goes to the postmaster.
        Postmaster = "postmaster",
        /// It is dropped, with a line in the log.
        Drop = "drop",
    }
}

section! {
    /// The queue of mail for other sites. The weight of a message is precedence × `precedence_weight` + size band ×
    /// `size_weight` − age × `age_weight`; the lightest goes first. Size bands are 0 up to 16 KiB, and one more for each
    /// four times that. Age is counted in `age_band`.
    Queue {
        /// What a step of precedence weighs.
        precedence_weight: u32 = 1, within 0..=1_000_000;
        /// What a size band weighs.
        size_weight: u32 = 2, within 0..=1_000_000;
        /// What a step of age weighs.
        age_weight: u32 = 1, within 1..=1_000_000;
        /// A step of age. With the other defaults, mail in bulk stands behind what comes in for 4 hours after it.
        age_band: Duration = MINUTE, within SECOND..=HOUR;
        /// Most fresh messages worked on at once.
        pending_max: usize = 4000, within 1..=100_000;
        /// Most messages worked on at once that have been deferred before.
        deferred_max: usize = 2000, within 1..=100_000;
        /// A report that cannot be delivered: "postmaster" or "drop".
        double_bounces: DoubleBounces = DoubleBounces::Postmaster;
        /// Senders whose mail is sent with a return address for each recipient (VERP), so that reports name it:
        /// "@lists.example.org".
        verp_from: Vec<SenderPattern> = Vec::new();
        /// The two characters that part such an address: with "+=", news@ becomes news+ann=example.net@.
        verp_delimiters: String = "+=".to_owned();
    }
}

#[cfg(test)]
mod tests;
