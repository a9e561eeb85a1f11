//! The keys about mail that comes in: who may hand it in, and how it is believed.

use std::path::PathBuf;
use std::time::Duration;

use nightmail_core::net::IpNetwork;
use nightmail_core::{Address, Domain};

use super::define::section;
use super::value::choice;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);

choice! {
    /// What follows from a check that fails.
    pub enum Consequence {
        /// Nothing.
        Off = "off",
        /// It is said in the header, and access rules can see it.
        Tag = "tag",
        /// A temporary error.
        Defer = "defer",
        /// A permanent error.
        Reject = "reject",
    }
}

section! {
    /// Mail from other sites (listeners of the protocol "smtp"): who may hand it in. Clients that log in, those of
    /// `trusted` and sockets of this machine pass all of it. [[access]] rules go before.
    Receiving {
        /// Addresses and networks whose clients pass every check and may relay: ["192.0.2.0/28"].
        trusted: Vec<IpNetwork> = Vec::new();
        /// The hosts that all mail from other sites comes through, as addresses and networks, where there are such: a
        /// buffer host or filter in front of this server. Mail from anywhere else is refused, except that to the
        /// postmaster and that of clients in `trusted`. What they hand in passes the checks; they may not relay.
        only_from: Vec<IpNetwork> = Vec::new();
        /// Addresses and networks from which XCLIENT and XFORWARD are taken: proxies and filters in front of this server.
        /// They are believed in whom they name, also as whom a client has logged in.
        xclient_from: Vec<IpNetwork> = Vec::new();
        /// How long a client must wait for the greeting. One that speaks before is not a mail server.
        greeting_delay: Duration = Duration::ZERO, within Duration::ZERO..=MINUTE;
        /// A client that speaks before the greeting, or sends commands ahead before EHLO has allowed it: "off", "tag",
        /// "defer" or "reject".
        early_talker: Consequence = Consequence::Tag;
        /// An address without a name, or with a name that does not lead back to it (RFC 1912 §2.1).
        reverse_dns: Consequence = Consequence::Tag;
        /// A HELO name that is no full name, or our own.
        helo: Consequence = Consequence::Tag;
        /// A sender whose domain has neither MX nor address, or says that it sends no mail (RFC 7505).
        sender_domain: Consequence = Consequence::Tag;
        /// Points from [[dns_list]] at which mail is refused, except that to the postmaster; 0 refuses nothing.
        dns_list_reject: u32 = 10, within 0..=10_000;
        /// Points from which it is greylisted although `greylist` is "suspect".
        dns_list_suspect: u32 = 3, within 0..=10_000;
        /// Which clients must come back: none ("off"), those that a check has tagged ("suspect"), or all not known ("all").
        greylist: Greylist = Greylist::Off;
        /// How long a client has to wait before it comes back.
        greylist_delay: Duration = 5 * MINUTE, within SECOND..=DAY;
        /// It must come back within this time.
        greylist_window: Duration = 2 * DAY, within MINUTE..=30 * DAY;
        /// A client network that has come back this often is not greylisted any more.
        greylist_auto_allow: u32 = 5, within 1..=1000;
        /// Whoever has passed is remembered for this long after its last message.
        greylist_lifetime: Duration = 35 * DAY, within HOUR..=365 * DAY;
        /// Errors of a session that delay nothing.
        tarpit_after: u32 = 5, within 0..=1000;
        /// Each error beyond those makes the next reply come this much later.
        tarpit_step: Duration = SECOND, within Duration::ZERO..=MINUTE;
        /// No reply comes later than by this.
        tarpit_max: Duration = 10 * SECOND, within Duration::ZERO..=5 * MINUTE;
        /// Connections that one client network (IPv4 /32, IPv6 /64) may open in a minute; 0 is any number.
        connections_per_minute: u32 = 0, within 0..=1_000_000;
        /// Messages that one client network may hand in in an hour; 0 is any number.
        messages_per_hour: u32 = 0, within 0..=100_000_000;
        /// Unknown recipients that one client network may name in an hour before all its recipients are deferred; 0 is
        /// any number.
        unknown_recipients_per_hour: u32 = 100, within 0..=1_000_000;
        /// New mail is deferred while messages wait longer than this for the store; zero never defers.
        shed_load_after: Duration = 5 * SECOND, within Duration::ZERO..=5 * MINUTE;
    }
}

choice! {
    /// Who is greylisted.
    pub enum Greylist {
        /// Nobody.
        Off = "off",
        /// Clients that a check has tagged.
        Suspect = "suspect",
        /// Every client that is not known.
        All = "all",
    }
}

section! {
    /// A DNS list of addresses or names (RFC 5782). Write one [[dns_list]] for each.
    DnsList {
        /// Its zone.
        zone: Option<Domain> = None, sample "\"zen.spamhaus.org\"";
        /// What is looked up: "client" (address), "client-name", "helo" or "sender" (domains).
        of: DnsListSubject = DnsListSubject::Client;
        /// Points for being on it; negative for lists of the good.
        weight: i32 = 10, within -10_000..=10_000;
        /// The answers that count, such as "127.0.0.2" or "127.0.0.0/24"; all of 127.0.0.0/8 when empty.
        answers: Vec<IpNetwork> = Vec::new();
    }
}

choice! {
    /// What a DNS list is asked about.
    pub enum DnsListSubject {
        /// The client's address.
        Client = "client",
        /// The client's name.
        ClientName = "client-name",
        /// The name it says it has.
        Helo = "helo",
        /// The sender's domain.
        Sender = "sender",
    }
}

choice! {
    /// When an access rule is looked at.
    pub enum AccessStage {
        /// When the client connects.
        Connect = "connect",
        /// After HELO or EHLO.
        Helo = "helo",
        /// After MAIL.
        Mail = "mail",
        /// After each RCPT.
        Rcpt = "rcpt",
        /// When the message is there.
        Data = "data",
    }
}

choice! {
    /// What an access rule does.
    pub enum AccessAction {
        /// Lets pass: no later rule of this stage and no check is looked at for this session or transaction.
        Accept = "accept",
        /// Refuses for good, with `text`.
        Reject = "reject",
        /// Refuses for now, with `text`.
        Defer = "defer",
        /// Takes the message and throws it away; at stage "rcpt", for this recipient only.
        Discard = "discard",
        /// Names `tag` for later rules and in the header, and goes on.
        Tag = "tag",
        /// Sends the message to `route` instead of its recipients; at stage "rcpt", instead of this recipient only.
        Route = "route",
    }
}

section! {
    /// A rule about who may hand in what. Write one [[access]] for each; they are looked at in their order, and the
    /// first that fits and does not tag decides. All conditions given must hold; of a list, one entry. They are looked at
    /// before all checks, also for the clients of `trusted`; not for sockets of this machine and the protocol "lmtp", and
    /// on listeners of the protocol "submission" at the stages "mail", "rcpt" and "data" only.
    /// `nightmail access test` shows which rule decides, and why.
    Access {
        /// What it is called in the log and by `access test`.
        name: String = String::new();
        /// When it is looked at: "connect", "helo", "mail", "rcpt" or "data".
        stage: AccessStage = AccessStage::Rcpt;
        /// Addresses and networks of clients.
        client: Vec<IpNetwork> = Vec::new();
        /// Names of clients that lead back to their address; "*.example.org" is all below, "unknown" is none.
        client_name: Vec<String> = Vec::new();
        /// Names given in HELO or EHLO, with "*" for any text.
        helo: Vec<String> = Vec::new();
        /// Senders: "ann@example.org", "@example.org", "@*.example.org", "ann@", or "<>" for none.
        sender: Vec<String> = Vec::new();
        /// Recipients, in the same forms.
        recipient: Vec<String> = Vec::new();
        /// Whether the client uses TLS.
        tls: Option<bool> = None, sample "true";
        /// Whether the client has logged in. A rule that does not say so is not looked at for those who have.
        authenticated: Option<bool> = None, sample "true";
        /// Tags that a rule or a check has given: "early-talker", "reverse-dns", "helo", "spf-fail", "dmarc-fail", …
        tagged: Vec<String> = Vec::new();
        /// "accept" (and no check is made for this session or transaction), "reject", "defer", "discard" (it is taken and
        /// thrown away), "tag" (it goes on) or "route". At stage "rcpt", discarding and routing concern that recipient only.
        action: AccessAction = AccessAction::Accept;
        /// What the client is told by "reject" and "defer".
        text: Option<String> = None, sample "\"Mail from there is not wanted here\"";
        /// The tag that "tag" gives.
        tag: Option<String> = None, sample "\"partner\"";
        /// The address that "route" sends to.
        route: Option<Address> = None, sample "\"quarantine@example.org\"";
    }
}

section! {
    /// Sender authentication of mail from other sites.
    Authentication {
        /// SPF (RFC 7208) says that the client may not send for the sender's domain ("fail"): "off", "tag", "defer" or
        /// "reject".
        spf: Consequence = Consequence::Tag;
        /// Whether DKIM signatures (RFC 6376) are verified.
        dkim: bool = true;
        /// The domain's DMARC policy (RFC 7489) is to reject or quarantine: "off", "tag", or "reject" to do what it says.
        dmarc: Consequence = Consequence::Reject;
        /// A message that has not exactly one From field, or one that can be read in two ways: "off", "tag", "defer" or
        /// "reject". DMARC policies can be evaded by it.
        unclear_author: Consequence = Consequence::Tag;
        /// Whether ARC chains (RFC 8617) are verified.
        arc: bool = true;
        /// Domains whose ARC seals are believed: what they saw counts where DMARC fails here.
        arc_trusted: Vec<Domain> = Vec::new();
        /// Whether forwarded mail is sealed with the key of `arc_domain`.
        arc_seal: bool = false;
        /// The domain whose DKIM key seals.
        arc_domain: Option<Domain> = None, sample "\"example.org\"";
        /// Whether submitted mail is signed with the keys made by `nightmail dkim new`.
        sign: bool = true;
        /// Signatures, keys and records looked at in one message.
        signatures_max: usize = 10, within 1..=100;
        /// Whether aggregate reports are gathered and sent to the domains that ask for them.
        dmarc_reports: bool = false;
        /// Whether failure reports are sent, one for each message that fails, to the domains that ask for them.
        dmarc_failure_reports: bool = false;
        /// Who the reports are from; postmaster@ the hostname when absent.
        reports_from: Option<Address> = None, sample "\"dmarc-reports@example.org\"";
    }
}

section! {
    /// Mail from our own users (listeners of the protocol "submission").
    Submission {
        /// Whether the sender must be an address of the account: its own, an alias that leads to it alone, or one given
        /// by `nightmail account sender add`.
        sender_owned: bool = true;
        /// Whether the From field must be one, too.
        from_owned: bool = false;
        /// Messages that one account may hand in in an hour; 0 is any number.
        messages_per_hour: u32 = 1000, within 0..=10_000_000;
        /// Recipients that one account may name in an hour; 0 is any number.
        recipients_per_hour: u32 = 5000, within 0..=100_000_000;
        /// Messages that one address may hand in in an hour; 0 is any number.
        messages_per_address_per_hour: u32 = 5000, within 0..=100_000_000;
        /// Longest time for which a message may be held back by its sender (FUTURERELEASE, RFC 4865); zero turns it off.
        hold_max: Duration = 30 * DAY, within Duration::ZERO..=365 * DAY;
    }
}

section! {
    /// Who may issue the tokens that clients log in with (OAUTHBEARER, XOAUTH2). Write one [[token_issuer]] for each.
    TokenIssuer {
        /// The issuer that must stand in the token ("iss").
        issuer: String = String::new(), sample "\"https://login.example.org\"";
        /// The audience that must stand in it ("aud"); not looked at when absent.
        audience: Option<String> = None, sample "\"nightmail\"";
        /// File with its public keys: a JSON Web Key Set or PEM. It is read again when it changes.
        keys: Option<PathBuf> = None, sample "\"/etc/nightmail/issuer.jwks\"";
        /// The claim that holds the account's address or login name.
        account_claim: String = "email".to_owned();
        /// A scope that the token must have; none when absent.
        scope: Option<String> = None, sample "\"mail\"";
        /// How far its clock and ours may be apart.
        clock_skew: Duration = MINUTE, within Duration::ZERO..=HOUR;
    }
}
