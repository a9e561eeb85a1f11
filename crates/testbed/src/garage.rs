//! An S3 object store: Garage, one node.

#![expect(
    clippy::expect_used,
    reason = "a test whose server does not start must end, as tests do"
)]

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::programs;

/// How long anything may take that Garage does.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often is looked whether it has been done.
const LOOK_EVERY: Duration = Duration::from_millis(50);
const STARTS_MAX: usize = 5;
const BUCKET: &str = "mail";
/// Guards the ports of a node that only this machine can reach, for as long as a test takes.
const RPC_SECRET: &str = "4425f5c26c5e11581d3223904324dcb5b5d5dfb14e5e7f35e38c595424f5f1e6";

/// One Garage node on free ports of 127.0.0.1, with an empty bucket and a key for it. Ended when dropped.
pub struct Garage {
    program: PathBuf,
    folder: TempDir,
    server: Option<Child>,
    paused: bool,
    port: u16,
    access_key: String,
    secret_key: String,
}

impl Garage {
    /// Starts a node; `None`, said visibly, where Garage is not installed. It is looked for in `NIGHTMAIL_GARAGE` (the
    /// program's path) and on the path.
    ///
    /// # Panics
    ///
    /// When the program is there and does not start.
    pub fn start() -> Option<Self> {
        let named = std::env::var_os("NIGHTMAIL_GARAGE").map(PathBuf::from);
        let found = named
            .filter(|named| named.is_file())
            .or_else(|| programs::find("garage", &[]));
        let Some(program) = found else {
            programs::skip_always("Garage, an object store, is not installed");
            return None;
        };
        // Somebody else may take a free port before the server does.
        for _ in 0..STARTS_MAX {
            let mut garage = Self {
                program: program.clone(),
                folder: tempfile::tempdir().expect("a folder for Garage"),
                server: None,
                paused: false,
                port: 0,
                access_key: String::new(),
                secret_key: String::new(),
            };
            garage.configure();
            if garage.launch() {
                garage.lay_out();
                garage.make_bucket();
                return Some(garage);
            }
        }
        panic!("Garage does not start");
    }

    /// Where the S3 service is, as `http://127.0.0.1:port`.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The port of the S3 service on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The region's name.
    pub fn region(&self) -> &'static str {
        "garage"
    }

    /// The bucket.
    pub fn bucket(&self) -> &'static str {
        BUCKET
    }

    /// The key's id.
    pub fn access_key(&self) -> &str {
        &self.access_key
    }

    /// The key's secret.
    pub fn secret_key(&self) -> &str {
        &self.secret_key
    }

    /// Stops the node from doing anything, connections open, until [`Self::resume`].
    pub fn pause(&mut self) {
        self.signal("-STOP");
        self.paused = true;
    }

    /// Lets a paused node go on.
    pub fn resume(&mut self) {
        self.signal("-CONT");
        self.paused = false;
    }

    /// Ends the node at once; what it has answered stays on its disk.
    pub fn stop(&mut self) {
        if let Some(mut server) = self.server.take() {
            let _ = server.kill();
            let _ = server.wait();
        }
        self.paused = false;
    }

    /// Starts the node again on the same ports, after a [`Self::stop`] where it is running.
    ///
    /// # Panics
    ///
    /// When it does not start.
    pub fn restart(&mut self) {
        self.stop();
        let deadline = Instant::now() + PATIENCE;
        while !self.launch() {
            assert!(Instant::now() < deadline, "Garage does not start again");
            sleep(LOOK_EVERY);
        }
    }

    fn signal(&self, signal: &str) {
        let Some(server) = &self.server else {
            return;
        };
        let sent = Command::new("kill")
            .args([signal, &server.id().to_string()])
            .status();
        assert!(sent.is_ok_and(|sent| sent.success()), "kill {signal}");
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn configure(&mut self) {
        let [s3, rpc, admin] = free_ports();
        self.port = s3;
        let text = format!(
            "metadata_dir = {meta:?}\ndata_dir = {data:?}\ndb_engine = \"lmdb\"\n\
             metadata_fsync = false\ndata_fsync = false\nreplication_factor = 1\n\
             rpc_bind_addr = \"127.0.0.1:{rpc}\"\nrpc_public_addr = \"127.0.0.1:{rpc}\"\n\
             rpc_secret = \"{RPC_SECRET}\"\n\
             [s3_api]\ns3_region = \"garage\"\napi_bind_addr = \"127.0.0.1:{s3}\"\n\
             root_domain = \".s3.garage\"\n\
             [admin]\napi_bind_addr = \"127.0.0.1:{admin}\"\n",
            meta = self.path("meta"),
            data = self.path("data"),
        );
        fs::write(self.path("garage.toml"), text).expect("Garage's configuration is written");
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command
            .arg("-c")
            .arg(self.path("garage.toml"))
            .stdin(Stdio::null())
            .stderr(Stdio::null());
        command
    }

    /// Runs the program and waits until it answers. False when it ended instead.
    fn launch(&mut self) -> bool {
        let log = fs::File::create(self.path("log")).expect("Garage's log is made");
        let spawned = self
            .command()
            .arg("server")
            .stdout(Stdio::null())
            .stderr(log)
            .spawn();
        let server = spawned.unwrap_or_else(|error| panic!("{}: {error}", self.program.display()));
        self.server = Some(server);
        let deadline = Instant::now() + PATIENCE;
        while self.try_ask(&["status"]).is_none() {
            let server = self.server.as_mut().map(Child::try_wait);
            if !matches!(server, Some(Ok(None))) {
                return false;
            }
            assert!(Instant::now() < deadline, "Garage does not answer");
            sleep(LOOK_EVERY);
        }
        true
    }

    /// What the program prints; `None` when it fails.
    fn try_ask(&self, arguments: &[&str]) -> Option<String> {
        let output = self.command().args(arguments).output().ok()?;
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        output.status.success().then_some(printed)
    }

    fn ask(&self, arguments: &[&str]) -> String {
        let printed = self.try_ask(arguments);
        printed.unwrap_or_else(|| panic!("garage {arguments:?} failed"))
    }

    /// The same until it succeeds: a layout takes a moment to be known everywhere.
    fn ask_until_done(&self, arguments: &[&str]) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(printed) = self.try_ask(arguments) {
                return printed;
            }
            assert!(Instant::now() < deadline, "garage {arguments:?} failed");
            sleep(LOOK_EVERY);
        }
    }

    fn lay_out(&self) {
        let id = self.ask(&["node", "id", "-q"]);
        let id = id.split('@').next().unwrap_or_default().trim();
        self.ask(&["layout", "assign", "-z", "z1", "-c", "1G", id]);
        self.ask(&["layout", "apply", "--version", "1"]);
    }

    fn make_bucket(&mut self) {
        self.ask_until_done(&["bucket", "create", BUCKET]);
        let key = self.ask_until_done(&["key", "create", "test"]);
        let field = |name: &str| {
            let line = key.lines().find(|line| line.contains(name));
            let word = line.and_then(|line| line.split_whitespace().last());
            word.unwrap_or_else(|| panic!("{name} is not in {key}"))
                .to_owned()
        };
        self.access_key = field("Key ID");
        self.secret_key = field("Secret key");
        let access_key = self.access_key.clone();
        let allow = ["bucket", "allow", "--read", "--write", "--owner", BUCKET];
        self.ask_until_done(&[&allow[..], &["--key", &access_key]].concat());
    }

    /// Where the node keeps its data.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
}

impl Drop for Garage {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Three ports that nobody listens on.
fn free_ports() -> [u16; 3] {
    let listeners = [(); 3].map(|()| {
        TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port on the loopback address")
    });
    listeners.map(|listener| {
        let address = listener.local_addr();
        address.expect("a listener has an address").port()
    })
}
