//! A server of one test: its directory, its configuration, its process.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::{PATIENCE, eventually};

/// The program under test.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_nightmail");
/// The password of every account that a test makes.
pub const PASSWORD: &str = "demo";

/// What is listened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    Smtp,
    Submission,
    Submissions,
    Lmtp,
    Imap,
    Imaps,
    Pop3,
    Pop3s,
}

const SERVICES: [(Service, &str, &str); 8] = [
    (Service::Smtp, "smtp", "starttls"),
    (Service::Submission, "submission", "starttls"),
    (Service::Submissions, "submission", "implicit"),
    (Service::Lmtp, "lmtp", "none"),
    (Service::Imap, "imap", "starttls"),
    (Service::Imaps, "imap", "implicit"),
    (Service::Pop3, "pop3", "starttls"),
    (Service::Pop3s, "pop3", "implicit"),
];

/// A server that can be started, killed and started again on the same data.
pub struct Site {
    dir: tempfile::TempDir,
    pub data: PathBuf,
    host: Ipv4Addr,
    port: u16,
    running: Option<Running>,
}

struct Running {
    child: Child,
    log: Arc<Mutex<String>>,
}

impl Site {
    /// A server with the domain example.test and the accounts alice and bob, not started yet. `settings` are
    /// further sections of its configuration.
    pub fn new(settings: &str) -> Self {
        let site = Self::bare(settings);
        site.admin(&["domain", "add", "example.test"]);
        for user in ["alice", "bob"] {
            site.add_account(user);
        }
        site
    }

    /// The same, started.
    pub fn started(settings: &str) -> Self {
        let mut site = Self::new(settings);
        site.start();
        site
    }

    /// A server without any domain.
    pub fn bare(settings: &str) -> Self {
        let dir = private_dir();
        let data = dir.path().join("data");
        Self::on(dir, data, settings)
    }

    /// A server that keeps its data there.
    pub fn on(dir: tempfile::TempDir, data: PathBuf, settings: &str) -> Self {
        let (host, port) = own_addresses();
        let site = Self {
            dir,
            data,
            host,
            port,
            running: None,
        };
        std::fs::write(site.config(), site.toml(settings)).unwrap();
        site
    }

    fn toml(&self, settings: &str) -> String {
        let data = self.data.display();
        let mut toml = format!(
            "[server]\nhostname = \"mx.example.test\"\ndata = \"{data}\"\nshutdown_grace = \"20s\"\n\
             [admin]\nhttp = \"off\"\n[auth]\nargon2_memory = \"1MiB\"\nargon2_iterations = 1\n"
        );
        for (service, protocol, tls) in SERVICES {
            let address = self.address(service);
            write!(
                toml,
                "[[listener]]\nprotocol = \"{protocol}\"\naddress = \"{address}\"\ntls = \"{tls}\"\n\
                 plaintext_auth = true\nconnections_per_address_max = 1000\n"
            )
            .unwrap();
        }
        toml.push_str(&unchecked(settings));
        toml.push_str(settings);
        toml
    }

    /// The configuration file.
    pub fn config(&self) -> PathBuf {
        self.dir.path().join("nightmail.toml")
    }

    /// A place for a test's own files.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The address all services listen on.
    pub fn host(&self) -> String {
        self.host.to_string()
    }

    /// Where a service listens.
    pub fn address(&self, service: Service) -> SocketAddr {
        let index = SERVICES
            .iter()
            .position(|known| known.0 == service)
            .unwrap();
        SocketAddr::from((self.host, self.port + index as u16))
    }

    /// The port of a service.
    pub fn port(&self, service: Service) -> u16 {
        self.address(service).port()
    }

    /// The certificate that the server signed itself.
    pub fn certificate(&self) -> PathBuf {
        self.data.join("self-signed.crt")
    }

    /// Adds an account of example.test.
    pub fn add_account(&self, user: &str) {
        let address = format!("{user}@example.test");
        self.admin(&[
            "account",
            "add",
            &address,
            "--password",
            PASSWORD,
            "--login",
            user,
        ]);
    }

    /// The program with this server's configuration.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(PROGRAM);
        command.arg("--config").arg(self.config()).args(arguments);
        command
    }

    /// Carries an operator's command out and gives its answer.
    pub fn admin(&self, arguments: &[&str]) -> serde_json::Value {
        let output = self.command(arguments).arg("--json").output().unwrap();
        let says = String::from_utf8_lossy(&output.stdout);
        let complains = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "{arguments:?}: {says}{complains}\n{}",
            self.log()
        );
        serde_json::from_str(&says).unwrap_or_else(|error| panic!("{arguments:?}: {error}: {says}"))
    }

    /// Starts the server and waits until it is ready.
    pub fn start(&mut self) {
        assert!(self.running.is_none(), "running already");
        let mut command = self.command(&["serve"]);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let lines = follow(child.stderr.take().unwrap(), Arc::clone(&log));
        self.running = Some(Running { child, log });
        let began = Instant::now();
        loop {
            match lines.recv_timeout(PATIENCE.saturating_sub(began.elapsed())) {
                Ok(line) if line.contains(" ready ") => return,
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) => panic!("not ready in time\n{}", self.log()),
                Err(RecvTimeoutError::Disconnected) => panic!("not started\n{}", self.log()),
            }
        }
    }

    /// What the running server has logged.
    pub fn log(&self) -> String {
        let running = self.running.as_ref();
        running
            .map(|running| running.log.lock().unwrap().clone())
            .unwrap_or_default()
    }

    /// The process id of the running server.
    pub fn pid(&self) -> u32 {
        self.running.as_ref().unwrap().child.id()
    }

    /// Sends SIGTERM.
    pub fn terminate(&self) {
        let pid = self.pid().to_string();
        let told = Command::new("sh")
            .args(["-c", "kill -TERM \"$0\"", &pid])
            .status()
            .unwrap();
        assert!(told.success(), "no process {pid}");
    }

    /// Waits until the process ends.
    pub fn ended(&mut self) -> ExitStatus {
        let child = &mut self.running.as_mut().unwrap().child;
        let status = eventually("the server ends", || child.try_wait().unwrap());
        if !status.success() {
            eprintln!(
                "--- log of a server that ended with {status}\n{}",
                self.log()
            );
        }
        self.running = None;
        status
    }

    /// Stops the server as an operator does, and expects that all is well.
    pub fn stop(&mut self) {
        self.terminate();
        assert_eq!(self.ended().code(), Some(0));
    }

    /// Kills the server without warning.
    pub fn kill(&mut self) {
        let mut running = self.running.take().unwrap();
        running.child.kill().unwrap();
        running.child.wait().unwrap();
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if let Some(mut running) = self.running.take() {
            if std::thread::panicking() {
                eprintln!("--- log of the server\n{}", running.log.lock().unwrap());
            }
            let _ = running.child.kill();
            let _ = running.child.wait();
        }
    }
}

/// Turns the checks of mail from other sites off, except in the sections that a test writes itself: most tests use names
/// that no DNS knows, from addresses that have none.
fn unchecked(settings: &str) -> String {
    let sections = [
        (
            "receiving",
            "early_talker = \"off\"\nsender_domain = \"off\"\nreverse_dns = \"off\"\ntarpit_step = \"0s\"\n\
             unknown_recipients_per_hour = 0\n",
        ),
        (
            "authentication",
            "spf = \"off\"\ndkim = false\ndmarc = \"off\"\narc = false\n",
        ),
        ("submission", "sender_owned = false\n"),
    ];
    let mut toml = String::new();
    for (name, keys) in sections {
        if !settings.contains(&format!("[{name}]")) {
            toml.push_str(&format!("[{name}]\n{keys}"));
        }
    }
    toml
}

/// A directory that only its owner can open.
pub fn private_dir() -> tempfile::TempDir {
    use std::os::unix::fs::PermissionsExt;
    tempfile::Builder::new()
        .prefix("nightmail-")
        .permissions(std::fs::Permissions::from_mode(0o700))
        .tempdir()
        .unwrap()
}

/// Passes the log's lines on and keeps them.
fn follow(from: impl std::io::Read + Send + 'static, log: Arc<Mutex<String>>) -> Receiver<String> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            let mut log = log.lock().unwrap();
            log.push_str(&line);
            log.push('\n');
            drop(log);
            // Only the start is waited for; later lines have no listener.
            let _ = sender.send(line);
        }
    });
    receiver
}

/// An address of the loopback network that no other running test has, and the first of some ports below those
/// that connections are made from.
pub fn own_addresses() -> (Ipv4Addr, u16) {
    static TAKEN: AtomicU16 = AtomicU16::new(0);
    let [_, high, middle, low] = std::process::id().to_be_bytes();
    let host = Ipv4Addr::new(127, 64 + (high & 63), middle, low);
    (host, 2500 + 20 * TAKEN.fetch_add(1, Ordering::Relaxed))
}

/// A time that a server takes for something it does at once.
pub const SOON: Duration = Duration::from_secs(20);
