//! A server with one account, and a client that speaks in lines.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use nightmail_commit::{Intent, NewBlob};
use nightmail_core::{AccountId, Address, Flags, Timestamp};
use nightmail_directory::{NewAccount, NewDomain, PasswordHash, Quota as DirectoryQuota};
use nightmail_heap::BlobBuilder;
use nightmail_server::auth::{HashParams, Logins, hash_password};
use nightmail_server::backend::Backend;
use nightmail_server::config::{Config, Listener};
use nightmail_server::drivers::imap::ImapService;
use nightmail_server::gate::Gate;
use nightmail_server::net::{BoundListener, ServiceOptions};
use nightmail_server::services::{Services, SharedServices};
use nightmail_server::shutdown::{Stopper, shutdown_pair};
use nightmail_server::tls::TlsContext;
use nightmail_store::{MailboxName, NewMessage, Quota, tx as store_tx};
use tokio::runtime::Runtime;

/// Long enough for anything that should happen.
const SOON: Duration = Duration::from_secs(20);
const CONFIG: &str = r#"
[server]
hostname = "mx.test"
[auth]
argon2_memory = "1 MiB"
argon2_iterations = 1
[[listener]]
protocol = "imap"
address = "127.0.0.1:0"
connections_per_address_max = 10000
"#;

pub struct Server {
    pub runtime: Runtime,
    pub address: SocketAddr,
    pub services: SharedServices,
    pub account: AccountId,
    pub stopper: Stopper,
    dir: tempfile::TempDir,
}

impl Server {
    /// A server with the account ann@test, password "secret".
    pub fn start() -> Self {
        Self::with_quota(DirectoryQuota::UNLIMITED)
    }

    pub fn with_quota(quota: DirectoryQuota) -> Self {
        Self::with(quota, |_| {})
    }

    /// A server that takes passwords under TLS only.
    pub fn strict() -> Self {
        Self::configured(|config| config.listeners[0].plaintext_auth = false)
    }

    /// A server with a configuration of its own.
    pub fn configured(change: impl FnOnce(&mut Config)) -> Self {
        Self::with(DirectoryQuota::UNLIMITED, change)
    }

    fn with(quota: DirectoryQuota, change: impl FnOnce(&mut Config)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config = Config::parse(CONFIG).unwrap();
        config.listeners[0].plaintext_auth = true;
        change(&mut config);
        config.server.data = dir.path().to_owned();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let (stopper, shutdown) = shutdown_pair();
        let (address, services, account) = runtime.block_on(async {
            let listener: Listener = config.listeners[0].clone();
            let services = Arc::new(services(config).await);
            let account = add_account(&services, quota).await;
            let bound = BoundListener::bind(&listener).unwrap();
            let address = bound.tcp_address().unwrap();
            let service = Arc::new(ImapService::new(Arc::clone(&services), &listener));
            tokio::spawn(bound.serve(service, options(), shutdown));
            (address, services, account)
        });
        Self {
            runtime,
            address,
            services,
            account,
            stopper,
            dir,
        }
    }

    /// The directory that holds everything.
    pub fn data(&self) -> &Path {
        self.dir.path()
    }

    /// A client that has read the greeting.
    pub fn connect(&self) -> Client {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        stream.set_nodelay(true).unwrap();
        let mut client = Client {
            stream: BufReader::new(stream),
            tag: 0,
        };
        assert!(client.response().text.starts_with("* OK [CAPABILITY "));
        client
    }

    /// A client that has logged in.
    pub fn client(&self) -> Client {
        let mut client = self.connect();
        client.ok("LOGIN ann@test secret");
        client
    }

    /// Adds another account, password "secret".
    pub fn add(&self, address: &str) -> AccountId {
        self.add_as(NewAccount::at(Address::parse(address).unwrap()))
    }

    /// Adds another account with settings of its own, password "secret".
    pub fn add_as(&self, new: NewAccount) -> AccountId {
        self.runtime.block_on(add(&self.services, new))
    }

    /// A client of another account.
    pub fn client_of(&self, address: &str) -> Client {
        let mut client = self.connect();
        client.ok(&format!("LOGIN {address} secret"));
        client
    }

    /// A client that has a mailbox selected.
    pub fn selected(&self, mailbox: &str) -> Client {
        let mut client = self.client();
        client.ok(&format!("SELECT {mailbox}"));
        client
    }

    /// Puts a message into INBOX as delivery does: with fields of its own before it.
    pub fn deliver(&self, prefix: &[u8], message: &[u8]) {
        let store = &self.services.store;
        self.runtime.block_on(async {
            let mut builder = BlobBuilder::new(store.heap());
            builder.push(message).unwrap();
            let new = NewMessage {
                missing_line_ends: 0,
                mailbox: store.inbox(self.account).await.unwrap(),
                flags: Flags::EMPTY,
                keywords: Vec::new(),
                internal_date: Timestamp::from_secs(1_700_000_000),
                prefix: prefix.to_vec().into(),
                blob_size: builder.size(),
            };
            let blob = NewBlob {
                blob: builder.finish().unwrap(),
                envelope: Vec::new().into(),
                meta: nightmail_mime::scan(message).encode().into(),
            };
            let appended = store
                .append(self.account, Quota::default(), blob, new)
                .await;
            appended.unwrap();
        });
    }

    /// Deletes a mailbox as another protocol would.
    pub fn delete_mailbox(&self, name: &str) {
        let name = MailboxName::parse(name).unwrap();
        let deleted = self.services.store.delete_mailbox(self.account, name);
        self.runtime.block_on(deleted).unwrap();
    }
}

async fn services(config: Config) -> Services {
    let backend = Backend::open(&config).await.unwrap();
    let gate = Gate::new(&config, &backend).unwrap();
    Services {
        gate,
        queue: backend.queue,
        delivery: Default::default(),
        journal: backend.journal,
        logins: Logins::new(&config).unwrap(),
        store: backend.store,
        directory: backend.directory,
        switch: backend.switch,
        tls: TlsContext::load(&config).unwrap(),
        cluster: backend.cluster,
        maildrops: Default::default(),
        config,
    }
}

async fn add_account(services: &Services, quota: DirectoryQuota) -> AccountId {
    let new = NewAccount {
        quota: Some(quota),
        ..NewAccount::at(Address::parse("ann@test").unwrap())
    };
    add(services, new).await
}

/// Adds an account with the password "secret", and its domain where that is new.
async fn add(services: &Services, new: NewAccount) -> AccountId {
    let params = HashParams::new(&services.config.auth).unwrap();
    let hash = hash_password(b"secret", &params).unwrap();
    let domain = new.address.domain().clone();
    if services.directory.domain(&domain).await.unwrap().is_none() {
        let domain = NewDomain::named(domain);
        services.directory.add_domain(domain).await.unwrap();
    }
    let new = NewAccount {
        password: Some(PasswordHash::new(hash)),
        ..new
    };
    let id = services.directory.add_account(new).await.unwrap();
    let intent = Intent::synced(move |tx| store_tx::create_account(tx, id));
    services.store.committer().submit(intent).await.unwrap();
    id
}

fn options() -> ServiceOptions {
    ServiceOptions {
        implicit_tls: None,
        handshake_timeout: SOON,
        write_timeout: SOON,
    }
}

/// One response line; what came in literals stands apart.
#[derive(Clone, Debug)]
pub struct Response {
    pub text: String,
    pub literals: Vec<Vec<u8>>,
}

impl Response {
    /// The only literal.
    pub fn literal(&self) -> &[u8] {
        assert_eq!(self.literals.len(), 1, "{}", self.text);
        &self.literals[0]
    }
}

pub struct Client {
    stream: BufReader<TcpStream>,
    tag: u32,
}

impl Client {
    /// The connection itself, when nothing of it is left unread.
    pub fn into_stream(self) -> TcpStream {
        assert!(self.stream.buffer().is_empty());
        self.stream.into_inner()
    }

    pub fn send(&mut self, octets: &[u8]) {
        self.stream.get_mut().write_all(octets).unwrap();
    }

    /// Whether the server closed the connection.
    pub fn is_closed(&mut self) -> bool {
        self.stream.fill_buf().is_ok_and(<[u8]>::is_empty)
    }

    pub fn response(&mut self) -> Response {
        let mut response = Response {
            text: String::new(),
            literals: Vec::new(),
        };
        loop {
            let mut line = Vec::new();
            self.stream.read_until(b'\n', &mut line).unwrap();
            let line = String::from_utf8_lossy(&line).into_owned();
            let line = line.strip_suffix("\r\n").expect("a whole line");
            response.text.push_str(line);
            let Some(octets) = announced(line) else {
                return response;
            };
            let mut literal = vec![0; octets];
            self.stream.read_exact(&mut literal).unwrap();
            response.literals.push(literal);
        }
    }

    /// Sends a command; returns all its responses, the tagged one last and without its tag.
    pub fn command(&mut self, command: &str) -> Vec<Response> {
        self.command_octets(command.as_bytes())
    }

    pub fn command_octets(&mut self, command: &[u8]) -> Vec<Response> {
        let tag = self.begin(command);
        self.finish(&tag)
    }

    /// Sends a command and returns its tag.
    pub fn begin(&mut self, command: &[u8]) -> String {
        self.tag += 1;
        let tag = format!("t{}", self.tag);
        self.send(&[tag.as_bytes(), b" ", command, b"\r\n"].concat());
        tag
    }

    /// Reads up to the tagged response.
    pub fn finish(&mut self, tag: &str) -> Vec<Response> {
        let mut responses = Vec::new();
        loop {
            let mut response = self.response();
            let tagged = response.text.strip_prefix(&format!("{tag} "));
            match tagged.map(str::to_owned) {
                Some(text) => {
                    response.text = text;
                    responses.push(response);
                    return responses;
                }
                None => responses.push(response),
            }
        }
    }

    /// Sends a command and reads to its end as fast as can be; returns how many lines came.
    pub fn drain(&mut self, command: &str) -> usize {
        let end = format!("{} OK", self.begin(command.as_bytes()));
        let (mut lines, mut line) = (0, Vec::new());
        loop {
            line.clear();
            self.stream.read_until(b'\n', &mut line).unwrap();
            lines += 1;
            if line.starts_with(end.as_bytes()) {
                return lines;
            }
        }
    }

    /// Sends a command that must succeed; returns its untagged responses.
    pub fn ok(&mut self, command: &str) -> Vec<Response> {
        let mut responses = self.command(command);
        let tagged = responses.pop().unwrap();
        assert!(tagged.text.starts_with("OK"), "{command}: {}", tagged.text);
        responses
    }

    /// As [`Self::ok`]; only the texts of the untagged responses.
    pub fn texts(&mut self, command: &str) -> Vec<String> {
        let responses = self.ok(command).into_iter();
        responses.map(|response| response.text).collect()
    }

    /// Sends a command; returns the text of the tagged response.
    pub fn tagged(&mut self, command: &str) -> String {
        self.command(command).pop().unwrap().text
    }

    /// Appends a message; returns all responses.
    pub fn append(&mut self, mailbox_and_flags: &str, message: &[u8]) -> Vec<Response> {
        let head = format!("APPEND {mailbox_and_flags} {{{}+}}\r\n", message.len());
        self.command_octets(&[head.as_bytes(), message].concat())
    }

    /// Appends messages that only differ in their subject.
    pub fn fill(&mut self, mailbox: &str, count: usize) {
        for number in 1..=count {
            let message = format!("Subject: number {number}\r\n\r\nText {number}.\r\n");
            let responses = self.append(mailbox, message.as_bytes());
            assert!(responses.last().unwrap().text.starts_with("OK"));
        }
    }

    /// The only section of a message.
    pub fn section(&mut self, uid: u32, section: &str) -> Vec<u8> {
        let responses = self.ok(&format!("UID FETCH {uid} (BODY.PEEK[{section}])"));
        assert_eq!(responses.len(), 1, "{responses:?}");
        responses[0].literal().to_vec()
    }
}

fn announced(line: &str) -> Option<usize> {
    let (_, octets) = line.strip_suffix('}')?.rsplit_once('{')?;
    octets.parse().ok()
}
