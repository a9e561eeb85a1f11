//! Every key of the configuration, each defined once: meaning, default, unit and range.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use nightmail_cluster::Role;
use nightmail_core::net::IpNetwork;
use nightmail_core::{Address, Domain};

use super::define::section;
use super::value::{ByteSize, HostPort, ListenAddress, Switch, choice};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);

section! {
    /// What this server is called, and where it keeps everything.
    Server {
        /// The full name under which other sites know this server: in greetings, in Received fields and in
        /// EHLO to other sites. It must resolve to this machine.
        hostname: Domain = localhost();
        /// The one directory that holds all state: messages, mailboxes, queue, accounts.
        data: PathBuf = PathBuf::from("/var/lib/nightmail");
        /// Completes login names without a domain: "ann" then logs in as ann@ this domain.
        default_domain: Option<Domain> = None, sample "\"example.org\"";
        /// Gets mail for the postmaster of any domain that has no such user or alias; without it the first
        /// administrator does.
        postmaster: Option<Address> = None, sample "\"ann@example.org\"";
        /// What parts a user's name from a detail in addresses: with "+", mail to ann+news@ is delivered to ann@.
        /// An empty text turns this off.
        subaddress_separator: String = "+".to_owned();
        /// How long sessions may take to finish after the server is told to stop.
        shutdown_grace: Duration = 30 * SECOND, within Duration::ZERO..=HOUR;
        /// How long the server goes on as before after it is told to stop, while /readyz already says that it is
        /// stopping: a load balancer in front of it needs this long to send new clients elsewhere. Sessions are told
        /// to finish after it. A second SIGTERM cuts it short.
        drain_delay: Duration = Duration::ZERO, within Duration::ZERO..=10 * MINUTE;
    }
}

/// The name of a server that has not been given one.
fn localhost() -> Domain {
    Domain::parse("localhost").unwrap_or_else(|_| Domain::literal(Ipv4Addr::LOCALHOST.into()))
}

choice! {
    /// What is spoken on a listener.
    pub enum Protocol {
        /// Mail from other sites, usually on port 25 (RFC 5321).
        Smtp = "smtp",
        /// Mail from users' programs, after login (RFC 6409).
        Submission = "submission",
        /// Mail for local mailboxes from another MTA (RFC 2033).
        Lmtp = "lmtp",
        /// Waiting mail for customers who come to fetch it, usually on port 366 (RFC 2645).
        Odmr = "odmr",
        /// Mailbox access (RFC 3501).
        Imap = "imap",
        /// Maildrop access (RFC 1939).
        Pop3 = "pop3",
        /// The admin API over HTTP.
        Admin = "admin",
    }
}

choice! {
    /// How a listener uses TLS.
    pub enum TlsMode {
        /// Never.
        None = "none",
        /// When the client asks for it in the protocol.
        Starttls = "starttls",
        /// From the first octet (RFC 8314).
        Implicit = "implicit",
    }
}

section! {
    /// Where the server waits for connections. Write one [[listener]] for each address; without any, those
    /// shown here are used.
    Listener {
        /// What is spoken: "smtp", "submission", "lmtp", "odmr", "imap", "pop3" or "admin".
        protocol: Protocol = Protocol::Smtp;
        /// IP address and port, or for "lmtp" a socket such as "unix:/run/nightmail/lmtp.sock"; "admin" needs a socket.
        /// "[::]:25" takes IPv6 and IPv4 connections alike. "systemd:NAME" takes the sockets that systemd passes under
        /// that FileDescriptorName.
        address: ListenAddress = any_address(25);
        /// TLS: "none", "starttls", or "implicit" (from the first octet). Sockets of this machine never use it.
        tls: TlsMode = TlsMode::Starttls;
        /// Whether passwords are taken on connections without TLS. Anyone on the way can read them.
        plaintext_auth: bool = false;
        /// Most connections open at once; further ones are turned away with a temporary error.
        connections_max: usize = 10_000, within 1..=1_000_000;
        /// Most connections served at once; further ones, up to `connections_max`, wait for their greeting. As many as
        /// `connections_max` when 0.
        active_max: usize = 0, within 0..=1_000_000;
        /// How long a connection waits for its turn before it is turned away with a temporary error.
        active_wait: Duration = 30 * SECOND, within Duration::ZERO..=5 * MINUTE;
        /// Most connections open at once from one IP address.
        connections_per_address_max: usize = 100, within 1..=1_000_000;
        /// The proxies in front of this listener, as addresses and networks: ["10.0.0.0/8", "2001:db8::5"]. A
        /// connection from there must begin with a PROXY header (version 1 or 2), and is treated as one from the
        /// client that the header names. List no place that clients connect from by themselves.
        proxy_protocol_from: Vec<IpNetwork> = Vec::new();
    }
}

/// All addresses of the machine, IPv6 and IPv4.
fn any_address(port: u16) -> ListenAddress {
    ListenAddress::Tcp(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)))
}

impl Listener {
    /// The listeners of a server whose configuration names none.
    pub fn defaults() -> Vec<Self> {
        let standard = [
            (Protocol::Smtp, 25, TlsMode::Starttls),
            (Protocol::Submission, 587, TlsMode::Starttls),
            (Protocol::Submission, 465, TlsMode::Implicit),
            (Protocol::Imap, 143, TlsMode::Starttls),
            (Protocol::Imap, 993, TlsMode::Implicit),
            (Protocol::Pop3, 110, TlsMode::Starttls),
            (Protocol::Pop3, 995, TlsMode::Implicit),
        ];
        standard
            .into_iter()
            .map(|(protocol, port, tls)| Self {
                protocol,
                address: any_address(port),
                tls,
                ..Self::default()
            })
            .collect()
    }

    /// How TLS is used here: never on a Unix-domain socket or for the admin API.
    pub const fn tls_mode(&self) -> TlsMode {
        match (&self.address, self.protocol) {
            (ListenAddress::Unix(_), _) | (_, Protocol::Admin) => TlsMode::None,
            _ => self.tls,
        }
    }
}

section! {
    /// Certificates. Without a certificate the server makes a self-signed one in the data directory, which
    /// other sites accept and users' programs warn about.
    Tls {
        /// PEM file with the certificate chain, the server's own certificate first.
        certificate: Option<PathBuf> = None, sample "\"/etc/nightmail/fullchain.pem\"";
        /// PEM file with the private key. Only the server's user should be able to read it.
        key: Option<PathBuf> = None, sample "\"/etc/nightmail/privkey.pem\"";
        /// How often the two files are looked at for a change. SIGHUP makes the server look at once.
        reload_interval: Duration = MINUTE, within SECOND..=DAY;
        /// PEM file with further authorities to trust where a certificate of another site is verified.
        authorities: Option<PathBuf> = None, sample "\"/etc/nightmail/ca.pem\"";
        /// "off", or "optional": submission, IMAP and POP3 clients may show a certificate and log in with it
        /// (AUTH EXTERNAL), as the account whose address it names.
        client_certificates: ClientCertificates = ClientCertificates::Off;
        /// PEM file with the authorities that those certificates come from.
        client_authorities: Option<PathBuf> = None, sample "\"/etc/nightmail/users-ca.pem\"";
    }
}

choice! {
    /// What is asked of clients about a certificate of theirs.
    pub enum ClientCertificates {
        /// Nothing.
        Off = "off",
        /// They may show one; one that is not valid counts as none.
        Optional = "optional",
    }
}

section! {
    /// A further certificate, for clients that ask for one of its names (SNI). Write one [[certificate]] for each.
    Certificate {
        /// PEM file with the chain, the certificate itself first.
        certificate: Option<PathBuf> = None, sample "\"/etc/nightmail/example.net.pem\"";
        /// PEM file with the private key. Only the server's user should be able to read it.
        key: Option<PathBuf> = None, sample "\"/etc/nightmail/example.net.key\"";
        /// The names it is shown for, "*.example.org" among them; those written in the certificate when empty.
        names: Vec<String> = Vec::new();
    }
}

choice! {
    /// How a certificate authority is shown that a name is ours.
    pub enum AcmeChallenge {
        /// By an answer over HTTP (RFC 8555 §8.3).
        Http = "http-01",
        /// In a TLS handshake (RFC 8737).
        TlsAlpn = "tls-alpn-01",
        /// By a DNS record that a command sets (RFC 8555 §8.4).
        Dns = "dns-01",
    }
}

section! {
    /// Certificates fetched and renewed from an authority by ACME (RFC 8555). They are kept in the store, so that all
    /// nodes have them, and go before those of files.
    Acme {
        /// Where the authority's directory is. Nothing is fetched without it.
        directory: Option<String> = None, sample "\"https://acme-v02.api.letsencrypt.org/directory\"";
        /// Each entry is one certificate: its names, separated by blanks. The hostname when empty.
        certificates: Vec<String> = Vec::new();
        /// Where the authority writes about trouble.
        contact: Option<Address> = None, sample "\"postmaster@example.org\"";
        /// Whether its terms of service are agreed to. Most authorities refuse without.
        terms_agreed: bool = false;
        /// "http-01" (needs `http`), "tls-alpn-01" (needs `tls_alpn`) or "dns-01" (needs `dns_hook`).
        challenge: AcmeChallenge = AcmeChallenge::Http;
        /// Where challenges are answered over HTTP; the authority asks on port 80 of every name.
        http: SocketAddr = SocketAddr::from((Ipv6Addr::UNSPECIFIED, 80));
        /// Where challenges are answered over TLS; the authority asks on port 443 of every name.
        tls_alpn: SocketAddr = SocketAddr::from((Ipv6Addr::UNSPECIFIED, 443));
        /// A program that sets and removes the record: it is called with "set" or "remove", the name of the record and
        /// its text, and says by its exit code whether it is done.
        dns_hook: Option<PathBuf> = None, sample "\"/etc/nightmail/dns-hook\"";
        /// Certificates are renewed when they end within this time.
        renew_before: Duration = 30 * DAY, within HOUR..=90 * DAY;
        /// PEM file with an authority to trust for the directory's own certificate.
        authorities: Option<PathBuf> = None, sample "\"/etc/nightmail/acme-ca.pem\"";
    }
}

section! {
    /// What the process may do.
    System {
        /// The user to become once ports are bound, where the server is started as root.
        user: Option<String> = None, sample "\"nightmail\"";
        /// The group; that of the user when absent.
        group: Option<String> = None, sample "\"nightmail\"";
        /// Whether the process gives up, where the kernel has Landlock, every file but those it is configured to use.
        landlock: bool = true;
    }
}

section! {
    /// What one session and one message may use.
    Limits {
        /// Largest message accepted (RFC 1870).
        message_size_max: ByteSize = ByteSize::mib(50), within ByteSize::kib(64)..=ByteSize::mib(2047);
        /// Most recipients of one mail transaction; RFC 5321 asks for at least 100.
        recipients_max: usize = 1000, within 100..=100_000;
        /// Most mail transactions on one connection.
        transactions_max: usize = 1000, within 1..=1_000_000;
        /// Most errors in one session; the next one ends it.
        errors_max: usize = 20, within 1..=10_000;
        /// Most failed logins in one session; the last one ends it.
        auth_failures_max: usize = 5, within 1..=1000;
        /// A message with more Received fields than this is going in circles; RFC 5321 asks for at least 100.
        received_fields_max: usize = 100, within 100..=1000;
    }
}

choice! {
    /// Which literals an IMAP client may send without leave (RFC 7888).
    pub enum Literals {
        /// All: LITERAL+.
        Plus = "plus",
        /// Those of up to 4096 octets: LITERAL-.
        Minus = "minus",
    }
}

section! {
    /// IMAP.
    Imap {
        /// What clients may send without waiting for leave: "plus" (literals of every length, LITERAL+) or "minus"
        /// (up to 4096 octets, LITERAL-).
        literal: Literals = Literals::Plus;
        /// Capabilities that no client is told of, as CAPABILITY names them.
        hide_capabilities: Vec<String> = Vec::new(), sample "[\"COMPRESS=DEFLATE\"]";
        /// Messages that one command may look at or change (RFC 9738); 0: as many as there are.
        message_limit: usize = 0, within 0..=1_000_000_000;
    }
}

section! {
    /// POP3.
    Pop3 {
        /// Shortest time between two logins of an account (RFC 2449); 0s: none. An account may have its own.
        login_delay: Duration = Duration::ZERO, within Duration::ZERO..=DAY;
    }
}

section! {
    /// How long the server waits.
    Timeouts {
        /// For a client's next SMTP or LMTP command; RFC 5321 asks for at least 5 minutes.
        smtp_command: Duration = 5 * MINUTE, within SECOND..=HOUR;
        /// For the next piece of a message; RFC 5321 gives clients 3 minutes for each.
        smtp_data: Duration = 5 * MINUTE, within SECOND..=HOUR;
        /// For an IMAP client that says nothing, also in IDLE; RFC 3501 asks for at least 30 minutes.
        imap_idle: Duration = 30 * MINUTE, within SECOND..=DAY;
        /// For a POP3 client that says nothing; RFC 1939 asks for at least 10 minutes.
        pop3_idle: Duration = 10 * MINUTE, within SECOND..=DAY;
        /// For an IMAP or POP3 client to log in.
        login: Duration = 2 * MINUTE, within SECOND..=HOUR;
        /// For the TLS handshake.
        tls_handshake: Duration = 30 * SECOND, within SECOND..=HOUR;
        /// For a client to take any of what is sent to it.
        write: Duration = 3 * MINUTE, within SECOND..=HOUR;
    }
}

choice! {
    /// Where the index of the store is.
    pub enum EngineKind {
        /// In the data directory, for one server.
        Embedded = "embedded",
        /// In PostgreSQL, for any number of servers (nodes).
        Postgresql = "postgresql",
    }
}

section! {
    /// The store of messages and mailboxes.
    Store {
        /// "embedded": everything in the data directory, for one server. "postgresql": in the database of
        /// [postgresql], for any number of servers (nodes), with the messages in the object store of [objects].
        engine: EngineKind = EngineKind::Embedded;
        /// Memory for the cache of the index.
        cache: ByteSize = ByteSize::mib(16), within ByteSize::mib(1)..=ByteSize::mib(1 << 20);
        /// Messages are kept in files of this size.
        segment: ByteSize = ByteSize::mib(64), within ByteSize::mib(1)..=ByteSize::mib(4096);
        /// How long a message that nobody refers to any more is kept.
        reclaim_grace: Duration = HOUR, within Duration::ZERO..=30 * DAY;
        /// A file is rewritten when at least this share of it is no longer needed, in percent.
        compaction_dead_percent: u32 = 30, within 1..=99;
        /// Flags and read marks are on disk after this time at the latest; mail always is before it is acknowledged.
        sync_interval: Duration = Duration::from_millis(200), within Duration::from_millis(1)..=MINUTE;
    }
}

choice! {
    /// How connections to the database are protected.
    pub enum DatabaseTls {
        /// Not at all.
        None = "none",
        /// By TLS with a valid certificate.
        Verify = "verify",
    }
}

section! {
    /// The database that the nodes share, for engine = "postgresql". Run `nightmail cluster init` once before the
    /// first node starts, and after every upgrade.
    Postgresql {
        /// Where it is and as whom to log in. Name several hosts with target_session_attrs=read-write where a
        /// replica can take over.
        url: Option<String> = None, sample "\"postgresql://nightmail@db1,db2/nightmail?target_session_attrs=read-write\"";
        /// File whose first line is the password. Only the server's user should be able to read it.
        password_file: Option<PathBuf> = None, sample "\"/etc/nightmail/postgresql.password\"";
        /// TLS: "none" or "verify" (the server's certificate must be valid for its name).
        tls: DatabaseTls = DatabaseTls::Verify;
        /// PEM file with further authorities to trust for that.
        authorities: Option<PathBuf> = None, sample "\"/etc/nightmail/postgresql-ca.pem\"";
        /// Most connections of this node, besides one for events.
        connections_max: usize = 16, within 2..=1000;
        /// How long an operation waits for a connection before clients are told to try again later.
        acquire_timeout: Duration = 5 * SECOND, within Duration::from_millis(100)..=MINUTE;
        /// A connection that takes longer than this for a statement counts as lost.
        statement_timeout: Duration = 30 * SECOND, within SECOND..=10 * MINUTE;
        /// Largest message that is kept in the database, where there is no object store.
        message_size_max: ByteSize = ByteSize::mib(16), within ByteSize::kib(64)..=ByteSize::mib(256);
    }
}

section! {
    /// The object store that keeps the messages, for engine = "postgresql". Without it they are kept in the
    /// database, and none may be larger than `message_size_max` there.
    Objects {
        /// "s3://bucket/prefix", or "file:///directory" for a directory that all nodes share.
        url: Option<String> = None, sample "\"s3://mail/packs\"";
        /// Where the S3 service is, when it is not that of the region.
        endpoint: Option<String> = None, sample "\"https://s3.example.org\"";
        /// The region of the bucket.
        region: String = "us-east-1".to_owned();
        /// The id of the access key.
        access_key: Option<String> = None, sample "\"GK31c2f218a2e44f485b94239e\"";
        /// File whose first line is the secret of the access key. Only the server's user should be able to read it.
        secret_key_file: Option<PathBuf> = None, sample "\"/etc/nightmail/objects.secret\"";
        /// How long a request may take before clients are told to try again later.
        request_timeout: Duration = 10 * SECOND, within SECOND..=10 * MINUTE;
        /// Disk space under the data directory for messages read or written lately; "0" for none.
        cache: ByteSize = ByteSize::mib(1024), within ByteSize::mib(0)..=ByteSize::mib(1 << 20);
    }
}

choice! {
    /// What carries events between nodes.
    pub enum EventBus {
        /// LISTEN and NOTIFY of the database.
        Postgresql = "postgresql",
        /// A NATS server.
        Nats = "nats",
    }
}

section! {
    /// How nodes wake each other. Without the bus mail flows all the same; IDLE clients hear of it later.
    Events {
        /// "postgresql" (needs nothing more) or "nats".
        bus: EventBus = EventBus::Postgresql;
        /// The NATS servers.
        nats_servers: Vec<HostPort> = Vec::new();
        /// The user to log in as; no login when absent.
        nats_user: Option<String> = None, sample "\"nightmail\"";
        /// File whose first line is the password.
        nats_password_file: Option<PathBuf> = None, sample "\"/etc/nightmail/nats.password\"";
        /// Whether the connection must use TLS.
        nats_tls: bool = false;
        /// Parts clusters that share a bus.
        cluster: String = "nightmail".to_owned();
    }
}

section! {
    /// This server as one of several nodes.
    Node {
        /// Its name, unlike that of any other node; the hostname when absent.
        name: Option<String> = None, sample "\"mx1\"";
        /// What it does: "mx", "submission", "imap", "pop3", "delivery", "admin". Listeners of other roles are
        /// not opened.
        roles: Vec<Role> = Role::ALL.to_vec();
        /// How often it says that it is alive.
        heartbeat: Duration = 2 * SECOND, within Duration::from_millis(50)..=MINUTE;
        /// A node that has not said so for this long is shut out, and others go on with its work. At least
        /// three heartbeats.
        lease: Duration = 6 * SECOND, within Duration::from_millis(150)..=10 * MINUTE;
    }
}

section! {
    /// Logins.
    Auth {
        /// How long a password that was right is recognised without hashing it again. Zero turns this off.
        password_cache: Duration = 5 * MINUTE, within Duration::ZERO..=DAY;
        /// Most passwords recognised at once.
        password_cache_entries: usize = 100_000, within 0..=10_000_000;
        /// Memory that hashing a new password takes (Argon2id).
        argon2_memory: ByteSize = ByteSize::mib(19), within ByteSize::mib(1)..=ByteSize::mib(4096);
        /// Passes over that memory.
        argon2_iterations: u32 = 2, within 1..=100;
        /// Most passwords hashed at once; as many as there are cores when 0.
        argon2_concurrency: usize = 0, within 0..=1024;
        /// How often SCRAM iterates the hash of a new password. Clients do the same work at each login.
        scram_iterations: u32 = 15_000, within 4096..=10_000_000;
        /// Failed logins of one client network (IPv4 /32, IPv6 /64) in an hour, over all protocols, from which on its
        /// logins are answered late, and from twice as many on not at all; 0 is any number.
        failures_per_address_per_hour: u32 = 100, within 0..=1_000_000;
    }
}

choice! {
    /// The form of log lines.
    pub enum LogFormat {
        /// A line of text.
        Text = "text",
        /// A JSON object on a line.
        Json = "json",
    }
}

section! {
    /// The log, on standard error.
    Log {
        /// "error", "warn", "info", "debug" or "trace"; also for parts: "info,nightmail_smtp=debug".
        level: String = "info".to_owned();
        /// "text" or "json".
        format: LogFormat = LogFormat::Text;
    }
}

section! {
    /// Operation: the admin API, metrics and health.
    Admin {
        /// The socket of the admin API, which the command line uses; admin.sock in the data directory when absent.
        socket: Option<PathBuf> = None, sample "\"/run/nightmail/admin.sock\"";
        /// Where /metrics, /healthz and /readyz are served over HTTP, or "off".
        http: Switch<SocketAddr> = Switch::On(SocketAddr::from((Ipv4Addr::LOCALHOST, 8025)));
    }
}
