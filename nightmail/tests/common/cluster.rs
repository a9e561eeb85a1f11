//! Several servers of one store: their processes, the database, object store and bus that they share, and the
//! proxies through which each of them reaches those.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nightmail_testbed::garage::Garage;
use nightmail_testbed::nats::Nats;
use nightmail_testbed::postgres::Postgres;
use nightmail_testbed::proxy::Proxy;

use super::line::Lines;
use super::site::private_dir;
use super::{Imap, PATIENCE, Pop3, Service, Site, Smtp, eventually};

/// Lines of each node's log that a failed test shows.
const LOG_LINES_MAX: usize = 250;
/// Where the watch page of a node is, counted from its first port.
const HTTP_PORT_OFFSET: u16 = 12;

/// What the nodes share, and how they are configured.
#[derive(Clone, Debug)]
pub struct Plan {
    /// How many there are.
    pub nodes: usize,
    /// A database for all of them; without it there is one node with an embedded store.
    pub shared: bool,
    /// A replica that every commit waits for.
    pub replica: bool,
    /// Messages in Garage, where it is installed; else in a directory.
    pub garage: bool,
    /// Messages in the database: there is no object store.
    pub in_database: bool,
    /// Events by NATS, else by the database.
    pub nats: bool,
    /// Heartbeat and lease as the configuration names them; those that the program has by default when absent.
    pub beat: Option<(&'static str, &'static str)>,
    /// How long a message that nobody refers to is kept, and how long a deleted one can be brought back.
    pub reclaim_grace: &'static str,
    /// Further sections of each node's configuration.
    pub settings: String,
    /// Users of example.test.
    pub users: Vec<String>,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            nodes: 2,
            shared: true,
            replica: false,
            garage: false,
            in_database: false,
            nats: false,
            beat: Some(("300ms", "2s")),
            reclaim_grace: "1h",
            settings: String::new(),
            users: vec!["alice".to_owned(), "bob".to_owned()],
        }
    }
}

/// A file that keeps messages.
#[derive(Clone, Copy, Debug)]
pub struct Pack {
    pub bytes: u64,
    /// Since it was written.
    pub age: Duration,
}

/// The servers and what they share. All of it ends when it is dropped: first the nodes.
pub struct ClusterSite {
    /// The nodes n1, n2 and so on.
    pub nodes: Vec<Node>,
    /// The hosts that may be the database, and which of them is.
    pub hosts: Vec<Postgres>,
    pub primary: usize,
    pub nats: Option<Nats>,
    pub garage: Option<Garage>,
    plan: Plan,
    dir: tempfile::TempDir,
}

impl ClusterSite {
    /// All nodes, started, with the domain example.test and its users; `None`, said visibly, where something that
    /// the plan needs is not installed.
    pub fn start(plan: Plan) -> Option<Self> {
        let mut cluster = Self::prepared(plan)?;
        for node in &mut cluster.nodes {
            node.spawn();
        }
        for node in &mut cluster.nodes {
            node.await_ready();
        }
        let first = &cluster.nodes[0];
        first.admin(&["domain", "add", "example.test"]);
        for user in &cluster.plan.users {
            first.site.add_account(user);
        }
        Some(cluster)
    }

    /// The same with nodes that have not been started and a store without domains.
    pub fn prepared(plan: Plan) -> Option<Self> {
        let dir = private_dir();
        let mut hosts = Vec::new();
        if plan.shared {
            hosts.push(Postgres::start()?);
        }
        if plan.replica {
            let replica = hosts[0].start_replica();
            hosts.push(replica);
        }
        let nats = match plan.nats {
            true => Some(Nats::start()?),
            false => None,
        };
        let mut cluster = Self {
            nodes: Vec::new(),
            hosts,
            primary: 0,
            nats,
            garage: if plan.garage { Garage::start() } else { None },
            plan,
            dir,
        };
        for number in 1..=cluster.plan.nodes {
            let node = cluster.node(&format!("n{number}"));
            cluster.nodes.push(node);
        }
        if cluster.plan.shared {
            let init = cluster.nodes[0].site.command(&["cluster", "init"]).output();
            let init = init.unwrap();
            assert!(init.status.success(), "cluster init: {init:?}");
        }
        Some(cluster)
    }

    /// What it was made by.
    pub const fn plan(&self) -> &Plan {
        &self.plan
    }

    /// A further node, not started: with a data directory, ports and proxies of its own.
    pub fn node(&self, name: &str) -> Node {
        let database = self.hosts.iter().map(Postgres::address);
        let database: Vec<_> = database.map(Proxy::start).collect();
        let objects = self
            .garage
            .as_ref()
            .map(|garage| Proxy::start((Ipv4Addr::LOCALHOST, garage.port()).into()));
        let site = Site::bare("");
        let base = site.address(Service::Smtp);
        let node = Node {
            name: name.to_owned(),
            http: SocketAddr::new(base.ip(), base.port() + HTTP_PORT_OFFSET),
            log: site.dir().join("log"),
            site,
            database,
            objects,
            child: None,
        };
        self.configure(&node, &self.plan);
        node
    }

    /// Gives every node another grace period; it counts from their next start.
    pub fn set_reclaim_grace(&mut self, grace: &'static str) {
        self.plan.reclaim_grace = grace;
        for node in &self.nodes {
            self.configure(node, &self.plan);
        }
    }

    fn configure(&self, node: &Node, plan: &Plan) {
        let bare = std::fs::read_to_string(node.site.config()).unwrap();
        let own = match bare.split_once("[store]") {
            Some((own, _)) => own.to_owned(),
            None => bare.replace("http = \"off\"", &format!("http = \"{}\"", node.http)),
        };
        let settings = self.settings(node, plan);
        // What is deleted can be brought back for as long as what nobody refers to is kept.
        let grace = plan.reclaim_grace;
        let mailboxes = format!("[mailboxes]\nundelete_window = \"{grace}\"\n");
        let all = own + &settings + &plan.settings + &mailboxes;
        std::fs::write(node.site.config(), all).unwrap();
    }

    fn settings(&self, node: &Node, plan: &Plan) -> String {
        let mut text = format!("[store]\nreclaim_grace = \"{}\"\n", plan.reclaim_grace);
        if !plan.shared {
            return text;
        }
        let hosts = node
            .database
            .iter()
            .map(|proxy| proxy.address().to_string());
        let hosts: Vec<_> = hosts.collect();
        text += &format!(
            "engine = \"postgresql\"\n[postgresql]\ntls = \"none\"\nacquire_timeout = \"2s\"\n\
             statement_timeout = \"5s\"\nurl = \"postgresql://nightmail@{}/nightmail?target_session_attrs=read-write\"\n",
            hosts.join(",")
        );
        text += &self.objects(node);
        if let Some(nats) = &self.nats {
            let port = nats.port();
            text += &format!("[events]\nbus = \"nats\"\nnats_servers = [\"127.0.0.1:{port}\"]\n");
        }
        text += &format!("[node]\nname = \"{}\"\n", node.name);
        if let Some((heartbeat, lease)) = plan.beat {
            text += &format!("heartbeat = \"{heartbeat}\"\nlease = \"{lease}\"\n");
        }
        text
    }

    fn objects(&self, node: &Node) -> String {
        if self.plan.in_database {
            return String::new();
        }
        let Some((garage, proxy)) = self.garage.as_ref().zip(node.objects.as_ref()) else {
            return format!(
                "[objects]\nurl = \"file://{}\"\n",
                self.pack_folder().display()
            );
        };
        let secret = node.site.dir().join("objects.secret");
        super::tools::private_file(&secret, garage.secret_key());
        format!(
            "[objects]\nurl = \"s3://{}/packs\"\nendpoint = \"http://{}\"\nregion = \"{}\"\naccess_key = \"{}\"\n\
             secret_key_file = \"{}\"\nrequest_timeout = \"3s\"\n",
            garage.bucket(),
            proxy.address(),
            garage.region(),
            garage.access_key(),
            secret.display()
        )
    }

    /// The directory that keeps the messages where there is no Garage.
    fn pack_folder(&self) -> PathBuf {
        self.dir.path().join("packs")
    }

    /// What is in that directory.
    pub fn packs(&self) -> Vec<Pack> {
        let entries = std::fs::read_dir(self.pack_folder());
        let pack = |entry: std::fs::DirEntry| {
            let data = entry.metadata().ok()?;
            let age = data.modified().ok()?.elapsed().unwrap_or_default();
            let bytes = data.len();
            Some(Pack { bytes, age })
        };
        let entries = entries.into_iter().flatten().flatten();
        entries.filter_map(pack).collect()
    }

    /// The database as it is now.
    pub fn database(&mut self) -> &mut Postgres {
        &mut self.hosts[self.primary]
    }

    /// The primary dies, and its replica takes over.
    pub fn fail_over(&mut self) {
        self.hosts[self.primary].kill();
        self.primary = 1 - self.primary;
        self.hosts[self.primary].promote();
    }

    /// Makes a new replica of the database in the place of the host that died.
    pub fn replace_replica(&mut self) {
        let spare = 1 - self.primary;
        let replica = self.hosts[self.primary].start_replica();
        for node in &self.nodes {
            node.database[spare].set_upstream(replica.address());
        }
        self.hosts[spare] = replica;
    }

    /// Stops every node as an operator does, and expects that all is well.
    pub fn stop(&mut self) {
        for node in &mut self.nodes {
            node.terminate();
        }
        for node in &mut self.nodes {
            assert_eq!(node.ended().code(), Some(0), "{} at its end", node.name);
        }
    }

    /// Everything that is stored must agree, with every message read.
    #[track_caller]
    pub fn check(&self) {
        let checked = self.nodes[0].admin(&["check", "--read-messages"]);
        assert_eq!(checked["problems"], serde_json::json!([]), "{checked}");
    }

    /// Messages that wait to be sent elsewhere.
    pub fn queued(&self) -> Vec<serde_json::Value> {
        let listed = self.nodes[0].admin(&["queue", "list"]);
        let items = listed["items"].as_array();
        items.unwrap_or_else(|| panic!("{listed}")).clone()
    }
}

/// A server of the cluster that can be started, stopped in every way, and cut from what it needs.
pub struct Node {
    pub name: String,
    /// Its configuration and addresses.
    pub site: Site,
    /// How it reaches each host of the database.
    pub database: Vec<Proxy>,
    /// How it reaches the object store, where that is Garage.
    pub objects: Option<Proxy>,
    /// Where its health is served.
    pub http: SocketAddr,
    log: PathBuf,
    child: Option<Child>,
}

impl Node {
    /// Where a service listens.
    pub fn address(&self, service: Service) -> SocketAddr {
        self.site.address(service)
    }

    /// Carries an operator's command out through this node.
    pub fn admin(&self, arguments: &[&str]) -> serde_json::Value {
        self.site.admin(arguments)
    }

    /// A connection to the MTA.
    pub fn smtp(&self) -> Smtp {
        Smtp::connect(self.address(Service::Smtp)).unwrap()
    }

    /// An IMAP session in a user's mailbox.
    pub fn imap(&self, user: &str, mailbox: &str) -> Imap {
        let address = self.address(Service::Imap);
        Imap::open(address, user, super::site::PASSWORD, mailbox).unwrap()
    }

    /// A POP3 session.
    pub fn pop3(&self, user: &str) -> Pop3 {
        Pop3::login(self.address(Service::Pop3), user, super::site::PASSWORD).unwrap()
    }

    /// Runs the server, and does not wait for it. What it logs is added to what it logged before.
    pub fn spawn(&mut self) {
        assert!(self.child.is_none(), "{} runs already", self.name);
        let log = File::options().create(true).append(true).open(&self.log);
        let mut command = self.site.command(&["serve"]);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        self.child = Some(command.stderr(log.unwrap()).spawn().unwrap());
    }

    /// Waits until the server says that it can do its work.
    pub fn await_ready(&mut self) {
        let began = Instant::now();
        while !self.is_ready() {
            let ended = self.child.as_mut().map(Child::try_wait);
            let runs = matches!(ended, Some(Ok(None)));
            assert!(runs, "{} ended with {ended:?}\n{}", self.name, self.log());
            let late = began.elapsed() > PATIENCE;
            assert!(!late, "{} is not ready\n{}", self.name, self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Runs the server and waits until it can do its work.
    pub fn start(&mut self) {
        self.spawn();
        self.await_ready();
    }

    /// Whether a process was started and not yet waited for.
    pub fn is_running(&self) -> bool {
        self.child.is_some()
    }

    /// The exit status of a process that ended by itself.
    pub fn fell(&mut self) -> Option<ExitStatus> {
        let status = self.child.as_mut()?.try_wait().unwrap();
        if status.is_some() {
            self.child = None;
        }
        status
    }

    /// Whether `/readyz` says so.
    pub fn is_ready(&self) -> bool {
        self.health("/readyz").is_some_and(|(code, _)| code == 200)
    }

    /// Status and text of a health page; `None` while nobody answers.
    pub fn health(&self, path: &str) -> Option<(u16, String)> {
        let wait = Duration::from_secs(10);
        let mut stream = TcpStream::connect_timeout(&self.http, wait).ok()?;
        stream.set_read_timeout(Some(wait)).ok()?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).ok()?;
        let mut response = String::new();
        stream.read_to_string(&mut response).ok()?;
        let code = response.split(' ').nth(1)?.parse().ok()?;
        let body = response.split_once("\r\n\r\n")?.1;
        Some((code, body.to_owned()))
    }

    /// Kills the server without warning.
    pub fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Stops the process in its tracks: its connections stay open and silent.
    pub fn pause(&self) {
        self.signal("STOP");
    }

    /// Lets a paused process go on.
    pub fn resume(&self) {
        self.signal("CONT");
    }

    /// Sends SIGTERM.
    pub fn terminate(&self) {
        self.signal("TERM");
    }

    fn signal(&self, name: &str) {
        let pid = self.child.as_ref().unwrap().id().to_string();
        let told = Command::new("kill")
            .args([&format!("-{name}"), &pid])
            .status();
        assert!(told.unwrap().success(), "no process {pid}");
    }

    /// Waits until the process ends.
    pub fn ended(&mut self) -> ExitStatus {
        eventually(&format!("{} ends", self.name), || self.fell())
    }

    /// Stops the server as an operator does, and expects that all is well.
    pub fn stop(&mut self) {
        self.terminate();
        assert_eq!(self.ended().code(), Some(0), "{}", self.log());
    }

    /// Ends and refuses its connections to the database.
    pub fn cut_database(&self) {
        self.database.iter().for_each(Proxy::cut);
    }

    /// Holds back everything between it and the database.
    pub fn stall_database(&self) {
        self.database.iter().for_each(Proxy::stall);
    }

    /// Everything that it needs can be reached again.
    pub fn mend(&self) {
        self.database.iter().for_each(Proxy::mend);
        self.objects.iter().for_each(Proxy::mend);
    }

    /// What all its processes logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        let log = self.log();
        if let Some(folder) = std::env::var_os("NIGHTMAIL_KEEP_LOGS") {
            let kept = Path::new(&folder).join(format!("{}-{}.log", self.name, self.http));
            // Of help to whoever looks for a mistake, and no part of the test.
            let _ = std::fs::write(kept, &log);
        }
        if std::thread::panicking() {
            let lines: Vec<_> = log.lines().collect();
            let shown = lines[lines.len().saturating_sub(LOG_LINES_MAX)..].join("\n");
            eprintln!("--- log of {}\n{shown}", self.name);
        }
    }
}
