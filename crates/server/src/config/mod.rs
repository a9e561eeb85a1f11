//! The configuration: one TOML file is the truth for the server.
//!
//! `keys` defines every key once; from there come the structs, the parser, its error messages and the commented
//! example. Reading reports everything that is wrong at once, with lines, and never falls back to a default for
//! a value that was given.

mod check;
mod customer;
mod define;
mod imap_client;
mod journal;
mod keys;
mod mailboxes;
mod preflight;
mod receiving;
mod report;
mod sending;
mod suggest;
mod tls_reports;
mod value;

use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

pub use customer::Customer;
use define::{Row, Section, TableReader, describe};
pub use imap_client::ImapClient;
pub use journal::Journal;
pub use keys::{
    Acme, AcmeChallenge, Admin, Auth, Certificate, ClientCertificates, DatabaseTls, EngineKind,
    EventBus, Events, Imap, Limits, Listener, Literals, Log, LogFormat, Node, Objects, Pop3,
    Postgresql, Protocol, Server, Store, System, Timeouts, Tls, TlsMode,
};
pub use mailboxes::{Mailboxes, Percent, WhenFull};
pub use nightmail_cluster::Role;
pub use nightmail_core::net::IpNetwork;
pub use preflight::{Finding, Preflight, Severity, preflight, read_secret};
pub use receiving::{
    Access, AccessAction, AccessStage, Authentication, Consequence, DnsList, DnsListSubject,
    Greylist, Receiving, Submission, TokenIssuer,
};
use report::Report;
pub use report::{ConfigError, Problem};
pub use sending::{
    Delivery, Destination, DoubleBounces, OutboundRate, OutboundTls, PrecedenceRule,
    PrecedenceSource, Queue, RateSubject, Relay, RelayTls, ReplyConsequence, ReplyRule, ReplyStage,
    Route, Schedule, Smarthost,
};
pub use tls_reports::TlsReports;
pub use value::{ByteSize, HostPort, ListenAddress, NotThisKind, Setting, Switch};

/// The name of the table that has defaults of its own where there is none.
const LISTENER: &str = "listener";

/// Declares which tables there are, in the order the example shows them: those that stand once, then those that may
/// stand any number of times.
macro_rules! tables {
    (
        once { $( $(#[doc = $doc:literal])* $field:ident: $type:ident, )* }
        often { $( $(#[doc = $many_doc:literal])* $many:ident = $name:literal: $each:ident, checked by $check:path; )* }
    ) => {
        /// The whole configuration.
        #[derive(Clone, Debug, PartialEq)]
        pub struct Config {
            $( $(#[doc = $doc])* pub $field: $type, )*
            /// `[[listener]]`, one for each address.
            pub listeners: Vec<Listener>,
            $( $(#[doc = $many_doc])* pub $many: Vec<$each>, )*
        }

        impl Default for Config {
            fn default() -> Self {
                Self {
                    $( $field: $type::default(), )*
                    listeners: Listener::defaults(),
                    $( $many: Vec::new(), )*
                }
            }
        }

        const TABLES: &[&str] = &[$( stringify!($field), )* LISTENER, $( $name, )*];

        impl Config {
            fn read(root: &DeTable<'_>, report: &mut Report) -> Self {
                Self {
                    $( $field: read_section(root, stringify!($field), report), )*
                    listeners: read_tables(root, LISTENER, report, check::listener)
                        .unwrap_or_else(Listener::defaults),
                    $( $many: read_tables(root, $name, report, $check).unwrap_or_default(), )*
                }
            }

            /// The configuration as a complete commented file, which reads back as equal.
            pub fn to_toml(&self) -> String {
                let mut out = String::new();
                $( write_section(&format!("[{}]", stringify!($field)), &self.$field, &mut out); )*
                write_tables(LISTENER, &self.listeners, &mut out);
                $( write_tables($name, &self.$many, &mut out); )*
                out
            }
        }
    };
}

tables! {
    once {
        /// `[server]`
        server: Server,
        /// `[tls]`
        tls: Tls,
        /// `[acme]`
        acme: Acme,
        /// `[limits]`
        limits: Limits,
        /// `[timeouts]`
        timeouts: Timeouts,
        /// `[mailboxes]`
        mailboxes: Mailboxes,
        /// `[imap]`
        imap: Imap,
        /// `[pop3]`
        pop3: Pop3,
        /// `[receiving]`
        receiving: Receiving,
        /// `[authentication]`
        authentication: Authentication,
        /// `[submission]`
        submission: Submission,
        /// `[delivery]`
        delivery: Delivery,
        /// `[smarthost]`
        smarthost: Smarthost,
        /// `[queue]`
        queue: Queue,
        /// `[tls_reports]`
        tls_reports: TlsReports,
        /// `[store]`
        store: Store,
        /// `[postgresql]`
        postgresql: Postgresql,
        /// `[objects]`
        objects: Objects,
        /// `[events]`
        events: Events,
        /// `[node]`
        node: Node,
        /// `[journal]`
        journal: Journal,
        /// `[auth]`
        auth: Auth,
        /// `[system]`
        system: System,
        /// `[log]`
        log: Log,
        /// `[admin]`
        admin: Admin,
    }
    often {
        /// `[[certificate]]`, one for each further certificate.
        certificates = "certificate": Certificate, checked by check::certificate;
        /// `[[access]]`, in the order they are looked at.
        access_rules = "access": Access, checked by check::access;
        /// `[[dns_list]]`
        dns_lists = "dns_list": DnsList, checked by check::dns_list;
        /// `[[destination]]`, in the order they are looked at.
        destinations = "destination": Destination, checked by sending::check::destination;
        /// `[[relay]]`
        relays = "relay": Relay, checked by sending::check::relay;
        /// `[[schedule]]`
        schedules = "schedule": Schedule, checked by sending::check::schedule;
        /// `[[reply_rule]]`, in the order they are looked at.
        reply_rules = "reply_rule": ReplyRule, checked by sending::check::reply_rule;
        /// `[[outbound_rate]]`
        outbound_rates = "outbound_rate": OutboundRate, checked by sending::check::outbound_rate;
        /// `[[precedence]]`, in the order they are looked at.
        precedence_rules = "precedence": PrecedenceRule, checked by sending::check::nothing;
        /// `[[customer]]`
        customers = "customer": Customer, checked by customer::check;
        /// `[[imap_client]]`
        imap_clients = "imap_client": ImapClient, checked by imap_client::check;
        /// `[[token_issuer]]`
        token_issuers = "token_issuer": TokenIssuer, checked by check::token_issuer;
    }
}

impl Config {
    /// Reads a configuration file.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Unreadable {
            path: path.to_owned(),
            source,
        })?;
        Self::parse(&text).map_err(|problems| ConfigError::Invalid {
            path: path.to_owned(),
            problems,
        })
    }

    /// Reads a configuration, or says everything that is wrong with it.
    pub fn parse(text: &str) -> Result<Self, Vec<Problem>> {
        let mut report = Report::new(text);
        let (root, errors) = DeTable::parse_recoverable(text);
        for error in &errors {
            report.problem(error.span(), format!("not TOML: {}", error.message()));
        }
        let root = root.get_ref();
        unknown_tables(root, &mut report);
        let config = Self::read(root, &mut report);
        config.validate(&mut report);
        sending::check::names(root, &config, &mut report);
        let problems = report.finish();
        if problems.is_empty() {
            Ok(config)
        } else {
            Err(problems)
        }
    }

    /// A complete commented configuration with every key at its default.
    pub fn example() -> String {
        format!(
            "# Configuration of Nightmail. Every key is shown with its default; absent keys have it too.\n\n{}",
            Self::default().to_toml()
        )
    }

    /// The socket of the admin API.
    pub fn admin_socket(&self) -> PathBuf {
        match &self.admin.socket {
            Some(path) => path.clone(),
            None => self.server.data.join("admin.sock"),
        }
    }

    /// The listener of the admin API on its socket.
    pub fn admin_listener(&self) -> Listener {
        Listener {
            protocol: Protocol::Admin,
            address: ListenAddress::Unix(self.admin_socket()),
            tls: TlsMode::None,
            ..Listener::default()
        }
    }

    /// The listener of metrics and health, unless turned off.
    pub fn watch_listener(&self) -> Option<Listener> {
        let address = *self.admin.http.on()?;
        Some(Listener {
            protocol: Protocol::Admin,
            address: ListenAddress::Tcp(address),
            tls: TlsMode::None,
            ..Listener::default()
        })
    }

    /// The character that parts a user's name from a detail, unless turned off.
    pub fn subaddress_separator(&self) -> Option<char> {
        self.server.subaddress_separator.chars().next()
    }

    /// The name given in EHLO to other sites.
    pub fn ehlo_name(&self) -> &nightmail_core::Domain {
        let chosen = self.delivery.ehlo_name.as_ref();
        chosen.unwrap_or(&self.server.hostname)
    }

    /// What no single key can show to be wrong.
    fn validate(&self, report: &mut Report) {
        let mut refuse = |wrong: bool, text: &str| {
            if wrong {
                report.problem(None, text.to_owned());
            }
        };
        let separator = &self.server.subaddress_separator;
        refuse(
            separator.chars().count() > 1
                || separator.contains(|c: char| !c.is_ascii_punctuation()),
            "`subaddress_separator` in [server]: expected one punctuation character such as \"+\", or \"\"",
        );
        refuse(
            self.tls.certificate.is_some() != self.tls.key.is_some(),
            "[tls]: give both `certificate` and `key`, or neither for a self-signed certificate",
        );
        refuse(
            !crate::log::is_filter(&self.log.level),
            "`level` in [log]: expected \"error\", \"warn\", \"info\", \"debug\" or \"trace\", or a list such as \"info,nightmail_smtp=debug\"",
        );
        self.validate_cluster(&mut refuse);
        self.validate_receiving(&mut refuse);
        self.validate_sending(&mut refuse);
        for (index, listener) in self.listeners.iter().enumerate() {
            let port_zero = matches!(&listener.address, ListenAddress::Tcp(tcp) if tcp.port() == 0);
            let mut earlier = self.listeners.iter().take(index);
            refuse(
                !port_zero && earlier.any(|other| other.address == listener.address),
                &format!(
                    "two [[listener]] tables have the address \"{}\"",
                    listener.address
                ),
            );
        }
    }
}

impl Config {
    /// What is wrong with the tables that only many nodes need.
    fn validate_cluster(&self, refuse: &mut impl FnMut(bool, &str)) {
        let shared = self.store.engine == EngineKind::Postgresql;
        let objects = &self.objects;
        refuse(
            shared && self.postgresql.url.is_none(),
            "[postgresql]: engine = \"postgresql\" in [store] needs a `url`",
        );
        refuse(
            objects.access_key.is_some() != objects.secret_key_file.is_some(),
            "[objects]: give both `access_key` and `secret_key_file`, or neither",
        );
        refuse(
            self.events.bus == EventBus::Nats && self.events.nats_servers.is_empty(),
            "[events]: bus = \"nats\" needs `nats_servers`",
        );
        refuse(
            self.events.nats_user.is_some() != self.events.nats_password_file.is_some(),
            "[events]: give both `nats_user` and `nats_password_file`, or neither",
        );
        refuse(
            self.node.lease < self.node.heartbeat * 3,
            "[node]: `lease` must be at least three times `heartbeat`",
        );
    }

    /// Largest message accepted. One that is kept in the database must fit there.
    pub fn message_size_max(&self) -> ByteSize {
        let limit = self.limits.message_size_max;
        if self.store.engine == EngineKind::Postgresql && self.objects.url.is_none() {
            limit.min(self.postgresql.message_size_max)
        } else {
            limit
        }
    }

    /// The name of this node.
    pub fn node_name(&self) -> &str {
        let name = self.node.name.as_deref();
        name.unwrap_or(self.server.hostname.as_str())
    }

    /// Whether this node does what `role` says.
    pub fn has_role(&self, role: Role) -> bool {
        self.node.roles.contains(&role)
    }
}

impl Protocol {
    /// The role of a node that listens for this.
    pub const fn role(self) -> Role {
        match self {
            Self::Smtp | Self::Lmtp => Role::Mx,
            Self::Submission => Role::Submission,
            Self::Odmr => Role::Delivery,
            Self::Imap => Role::Imap,
            Self::Pop3 => Role::Pop3,
            Self::Admin => Role::Admin,
        }
    }
}

fn unknown_tables(root: &DeTable<'_>, report: &mut Report) {
    for (key, value) in root {
        let name = key.get_ref().as_ref();
        if TABLES.contains(&name) {
            continue;
        }
        let text = if value.get_ref().is_table() || value.get_ref().is_array() {
            format!("unknown table [{name}]{}", suggest::hint(name, TABLES))
        } else {
            format!(
                "`{name}` stands outside any table; every key belongs under a heading such as [server]"
            )
        };
        report.problem(Some(key.span()), text);
    }
}

fn read_section<S: Section>(root: &DeTable<'_>, name: &'static str, report: &mut Report) -> S {
    match root.get(name) {
        None => S::default(),
        Some(value) => read_table(value, format!("[{name}]"), report, |_| ()),
    }
}

/// Reads a table that may stand more than once; `None` when there is none.
fn read_tables<S: Section>(
    root: &DeTable<'_>,
    name: &'static str,
    report: &mut Report,
    check: impl Fn((&S, &mut TableReader<'_, '_>)),
) -> Option<Vec<S>> {
    let value = root.get(name)?;
    let Some(tables) = value.get_ref().as_array() else {
        let text = format!("[{name}]: write [[{name}]] with two brackets, once for each");
        report.problem(Some(value.span()), text);
        return Some(Vec::new());
    };
    let heading = format!("[[{name}]]");
    let read = |table| read_table(table, heading.clone(), report, &check);
    Some(tables.iter().map(read).collect())
}

fn read_table<S: Section>(
    value: &Spanned<DeValue<'_>>,
    name: String,
    report: &mut Report,
    check: impl FnOnce((&S, &mut TableReader<'_, '_>)),
) -> S {
    let Some(table) = value.get_ref().as_table() else {
        let found = describe(value.get_ref());
        report.problem(
            Some(value.span()),
            format!("expected the table {name}, found {found}"),
        );
        return S::default();
    };
    let mut reader = TableReader::new(name, table, value.span(), report);
    let section = reader.section();
    check((&section, &mut reader));
    section
}

fn write_section<S: Section>(heading: &str, section: &S, out: &mut String) {
    write_comment(S::DOC, out);
    out.push_str(heading);
    out.push_str("\n\n");
    for row in section.rows() {
        write_comment(row.doc, out);
        if let Some(range) = &row.range {
            out.push_str(&format!("# From {range}.\n"));
        }
        write_row(&row, out);
        out.push('\n');
    }
}

/// The first table is shown with every key, the others with what differs from the defaults. Where there is none, its
/// keys are shown commented out.
fn write_tables<S: Section>(name: &str, tables: &[S], out: &mut String) {
    let heading = format!("[[{name}]]");
    let usual = S::default();
    if tables.is_empty() {
        let mut shown = String::new();
        write_section(&heading, &usual, &mut shown);
        for line in shown.lines() {
            let mark = if line.is_empty() || line.starts_with('#') {
                ""
            } else {
                "#"
            };
            out.push_str(&format!("{mark}{line}\n"));
        }
        return;
    }
    for (index, table) in tables.iter().enumerate() {
        if index == 0 {
            write_section(&heading, table, out);
            continue;
        }
        out.push_str(&heading);
        out.push('\n');
        for (row, usual) in table.rows().iter().zip(usual.rows()) {
            if row.value != usual.value {
                write_row(row, out);
            }
        }
        out.push('\n');
    }
}

fn write_comment(lines: &[&str], out: &mut String) {
    for line in lines {
        out.push_str(&format!("#{line}\n"));
    }
}

fn write_row(row: &Row, out: &mut String) {
    match (&row.value, row.sample) {
        // An empty text, or an empty list, is as good as none.
        (Some(value), Some(sample)) if matches!(value.as_str(), "\"\"" | "[]") => {
            out.push_str(&format!("#{} = {sample}\n", row.name));
        }
        (Some(value), _) => out.push_str(&format!("{} = {value}\n", row.name)),
        (None, Some(sample)) => out.push_str(&format!("#{} = {sample}\n", row.name)),
        (None, None) => {}
    }
}

#[cfg(test)]
mod tests;
