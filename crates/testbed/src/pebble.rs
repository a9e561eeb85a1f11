//! A certificate authority that speaks ACME (Pebble), and the name server that it asks.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::programs;

const START_TIMEOUT: Duration = Duration::from_secs(60);

/// What listens on the address of one authority, above its first port.
#[derive(Clone, Copy)]
enum Port {
    Directory,
    Management,
    Names,
    NamesManagement,
    /// Where the authority asks for challenges.
    Http,
    Tls,
    Count,
}

/// An authority and its name server, on a loopback address of their own. Every name leads to that address. It refuses
/// some good nonces, as it does by itself. Both are killed when dropped.
pub struct Pebble {
    folder: tempfile::TempDir,
    host: Ipv4Addr,
    port: u16,
    children: Vec<Child>,
}

impl Pebble {
    /// Starts both; `None`, said visibly, where they are not installed.
    ///
    /// # Panics
    ///
    /// When the programs are there and do not start.
    pub fn start() -> Option<Self> {
        let (Some(authority), Some(names)) = (
            programs::find("pebble", &[]),
            programs::find("pebble-challtestsrv", &[]),
        ) else {
            programs::skip("pebble is not installed");
            return None;
        };
        static TAKEN: AtomicU16 = AtomicU16::new(0);
        let [_, high, middle, low] = std::process::id().to_be_bytes();
        let mut pebble = Self {
            folder: must("a folder", tempfile::tempdir()),
            host: Ipv4Addr::new(127, 128 + (high & 63), middle, low),
            port: 3500 + Port::Count as u16 * TAKEN.fetch_add(1, Ordering::Relaxed),
            children: Vec::new(),
        };
        pebble.configure();
        pebble.start_names(&names);
        pebble.start_authority(&authority);
        Some(pebble)
    }

    /// Starts the authority again: it knows no account and no order any more, and has another root.
    ///
    /// # Panics
    ///
    /// When it does not start.
    pub fn forget_all(&mut self) {
        if let (Some(mut authority), Some(program)) =
            (self.children.pop(), programs::find("pebble", &[]))
        {
            let _ = authority.kill();
            let _ = authority.wait();
            self.start_authority(&program);
        }
    }

    /// The address of its directory.
    pub fn directory(&self) -> String {
        format!("https://{}/dir", self.at(Port::Directory))
    }

    /// Where it tells about itself, such as its root under `/roots/0`.
    pub fn management(&self) -> String {
        format!("https://{}", self.at(Port::Management))
    }

    /// The PEM file of who vouches for the directory's own certificate.
    pub fn authority(&self) -> PathBuf {
        self.folder.path().join("pebble.pem")
    }

    /// Where it asks for the answer to http-01.
    pub fn http(&self) -> SocketAddr {
        self.at(Port::Http)
    }

    /// Where it asks for the answer to tls-alpn-01.
    pub fn tls(&self) -> SocketAddr {
        self.at(Port::Tls)
    }

    /// Writes a program that sets and removes TXT records of its name server, as a server of ours calls it; it notes
    /// its calls in `hook.log` in the same folder. Needs curl.
    ///
    /// # Panics
    ///
    /// When it cannot be written.
    pub fn hook(&self) -> PathBuf {
        let (draft, hook) = (self.folder.path().join("draft"), self.hook_path());
        let manage = self.at(Port::NamesManagement);
        let text = format!(
            "#!/bin/sh\nset -e\necho \"$@\" >> '{log}'\ncase \"$1\" in\n\
             set) data=\"{{\\\"host\\\":\\\"$2.\\\",\\\"value\\\":\\\"$3\\\"}}\"; what=set-txt ;;\n\
             remove) data=\"{{\\\"host\\\":\\\"$2.\\\"}}\"; what=clear-txt ;;\nesac\n\
             exec curl -sS -f --max-time 30 -d \"$data\" \"http://{manage}/$what\"\n",
            log = self.folder.path().join("hook.log").display(),
        );
        must("hook", fs::write(&draft, text));
        // Put there by another process: no test that forks meanwhile holds it open for writing.
        let status = Command::new("install")
            .args(["-m", "700"])
            .args([&draft, &hook])
            .status();
        assert!(must("install", status).success());
        hook
    }

    /// What the hook was called with, a line each.
    pub fn hook_log(&self) -> String {
        fs::read_to_string(self.folder.path().join("hook.log")).unwrap_or_default()
    }

    fn hook_path(&self) -> PathBuf {
        self.folder.path().join("hook")
    }

    fn at(&self, port: Port) -> SocketAddr {
        SocketAddr::from((self.host, self.port + port as u16))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn configure(&self) {
        let made = must(
            "a certificate",
            rcgen::generate_simple_self_signed(vec![self.host.to_string()]),
        );
        must("write", fs::write(self.authority(), made.cert.pem()));
        let key = self.path("pebble.key");
        must("write", fs::write(&key, made.signing_key.serialize_pem()));
        let config = format!(
            "{{\"pebble\":{{\"listenAddress\":\"{}\",\"managementListenAddress\":\"{}\",\
             \"certificate\":\"{}\",\"privateKey\":\"{}\",\"httpPort\":{},\"tlsPort\":{},\
             \"ocspResponderURL\":\"\",\"externalAccountBindingRequired\":false}}}}",
            self.at(Port::Directory),
            self.at(Port::Management),
            self.authority().display(),
            key.display(),
            self.http().port(),
            self.tls().port(),
        );
        must("write", fs::write(self.path("pebble.json"), config));
    }

    fn start_names(&mut self, program: &Path) {
        let mut command = Command::new(program);
        command
            .args([
                "-defaultIPv6",
                "",
                "-http01",
                "",
                "-https01",
                "",
                "-tlsalpn01",
                "",
            ])
            .args(["-defaultIPv4", &self.host.to_string()])
            .args(["-dns01", &self.at(Port::Names).to_string()])
            .args(["-management", &self.at(Port::NamesManagement).to_string()]);
        self.launch(command, Port::NamesManagement);
    }

    fn start_authority(&mut self, program: &Path) {
        let mut command = Command::new(program);
        command
            .arg("-config")
            .arg(self.path("pebble.json"))
            .args(["-dnsserver", &self.at(Port::Names).to_string()])
            .env("PEBBLE_VA_NOSLEEP", "1");
        self.launch(command, Port::Directory);
    }

    /// Starts a program and waits until it takes connections.
    fn launch(&mut self, mut command: Command, port: Port) {
        let log = must("a log", fs::File::create(self.path("log")));
        let errors = must("a log", log.try_clone());
        let child = command.stdin(Stdio::null()).stdout(log).stderr(errors);
        let mut child = must("a program", child.spawn());
        let deadline = Instant::now() + START_TIMEOUT;
        let address = self.at(port);
        let started = loop {
            if TcpStream::connect(address).is_ok() {
                break true;
            }
            if !matches!(child.try_wait(), Ok(None)) || Instant::now() > deadline {
                break false;
            }
            sleep(Duration::from_millis(10));
        };
        self.children.push(child);
        let log = || fs::read_to_string(self.path("log")).unwrap_or_default();
        assert!(started, "{command:?} does not start: {}", log());
    }
}

impl Drop for Pebble {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The value, without which nothing can be tested.
fn must<T, E: std::fmt::Display>(what: &str, result: Result<T, E>) -> T {
    match result {
        Ok(value) => value,
        Err(error) => panic!("{what}: {error}"),
    }
}
