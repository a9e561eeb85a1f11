//! Runs the program as an operator would.
#![allow(
    dead_code,
    clippy::unwrap_used,
    reason = "each test program uses a part, and may panic"
)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(60);

fn program() -> Command {
    Command::new(env!("CARGO_BIN_EXE_nightmail"))
}

/// Runs a command to its end.
pub fn run(args: &[&str]) -> Output {
    run_with_input(args, "")
}

/// Runs a command with this standard input.
pub fn run_with_input(args: &[&str], input: &str) -> Output {
    let mut child = program()
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A command that does not read its input may have ended already.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

pub fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// Panics unless the command succeeded; its output.
pub fn succeed(args: &[&str]) -> String {
    let output = run(args);
    assert!(output.status.success(), "{args:?}: {}", stderr(&output));
    stdout(&output)
}

/// The exit code of a command and what it said on standard error.
pub fn fail(args: &[&str]) -> (i32, String) {
    let output = run(args);
    (output.status.code().unwrap(), stderr(&output))
}

/// Ports of loopback that were free just now.
fn free_ports<const N: usize>() -> [u16; N] {
    let held: [TcpListener; N] = std::array::from_fn(|_| TcpListener::bind("127.0.0.1:0").unwrap());
    held.map(|listener| listener.local_addr().unwrap().port())
}

/// A configuration with an LMTP and a POP3 listener, in a folder of its own.
pub struct Configured {
    pub dir: tempfile::TempDir,
    pub lmtp: u16,
    pub pop3: u16,
}

impl Configured {
    pub fn new() -> Self {
        let [lmtp, pop3] = free_ports();
        let dir = tempfile::tempdir().unwrap();
        let configured = Self { dir, lmtp, pop3 };
        let text = format!(
            "[server]\nhostname = \"mx.x.test\"\ndata = \"{}\"\n\n[admin]\nhttp = \"off\"\n\n\
             [[listener]]\nprotocol = \"lmtp\"\naddress = \"127.0.0.1:{lmtp}\"\ntls = \"none\"\n\n\
             [[listener]]\nprotocol = \"pop3\"\naddress = \"127.0.0.1:{pop3}\"\nplaintext_auth = true\n",
            configured.data().display()
        );
        std::fs::write(configured.config_path(), text).unwrap();
        configured
    }

    pub fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    pub fn config_path(&self) -> PathBuf {
        self.dir.path().join("nightmail.toml")
    }

    /// Runs an admin command that has to succeed.
    pub fn admin(&self, args: &[&str]) -> String {
        let config = self.config_path().display().to_string();
        succeed(&[&["--config", &config], args].concat())
    }

    pub fn serve(&self) -> Running {
        let config = self.config_path().display().to_string();
        let server = Running::start(&["serve", "--config", &config]);
        server.wait_for_socket(&self.data());
        server
    }
}

/// A server that is killed when dropped.
pub struct Running {
    child: Child,
}

impl Running {
    pub fn start(args: &[&str]) -> Self {
        Self::spawn(program().args(args))
    }

    /// Starts a command that becomes the server.
    pub fn spawn(command: &mut Command) -> Self {
        let command = command.stdout(Stdio::null()).stderr(Stdio::piped());
        Self {
            child: command.spawn().unwrap(),
        }
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal, by its name.
    pub fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args([signal, &pid]).status();
        assert!(sent.unwrap().success());
    }

    /// Waits until the server answers its operator.
    pub fn wait_for_socket(&self, data: &Path) {
        let socket = data.join("admin.sock").display().to_string();
        let until = Instant::now() + PATIENCE;
        while !run(&["--socket", &socket, "status"]).status.success() {
            assert!(
                Instant::now() < until,
                "the server does not answer at {socket}"
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// The first line that it says from now on with this text.
    pub fn line_with(&mut self, text: &str) -> String {
        let said = BufReader::new(self.child.stderr.take().unwrap());
        let found = said
            .lines()
            .map(Result::unwrap)
            .find(|line| line.contains(text));
        found.unwrap()
    }

    /// Asks it to stop and waits for its end.
    pub fn stop(mut self) -> ExitStatus {
        self.signal("-TERM");
        self.child.wait().unwrap()
    }

    /// Kills it.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits for its end; exit code and what it said.
    pub fn end(mut self) -> (i32, String) {
        let mut said = String::new();
        self.child
            .stderr
            .take()
            .unwrap()
            .read_to_string(&mut said)
            .unwrap();
        (self.child.wait().unwrap().code().unwrap(), said)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A conversation in lines.
struct Wire {
    reader: BufReader<TcpStream>,
}

impl Wire {
    /// Connects and reads the greeting.
    fn connect(port: u16) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut wire = Self {
            reader: BufReader::new(stream),
        };
        wire.line();
        wire
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.reader.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// Sends a line and reads the last line of the reply, which begins with `expected`.
    fn ask(&mut self, text: &str, expected: &str) -> String {
        self.reader
            .get_mut()
            .write_all(format!("{text}\r\n").as_bytes())
            .unwrap();
        loop {
            let line = self.line();
            if line.as_bytes().get(3) != Some(&b'-') {
                assert!(line.starts_with(expected), "{text}: {line}");
                return line;
            }
        }
    }

    /// Lines up to a lone dot.
    fn until_dot(&mut self) -> Vec<String> {
        std::iter::from_fn(|| Some(self.line()).filter(|line| line != ".")).collect()
    }
}

/// Delivers a message over LMTP; it is on disk when this returns.
pub fn deliver(port: u16, to: &str, subject: &str) {
    let mut wire = Wire::connect(port);
    wire.ask("LHLO client.test", "250");
    wire.ask("MAIL FROM:<far@z.test>", "250");
    wire.ask(&format!("RCPT TO:<{to}>"), "250");
    wire.ask("DATA", "354");
    wire.ask(&format!("Subject: {subject}\r\n\r\nText\r\n."), "250");
}

/// The subjects in a maildrop, in order.
pub fn subjects(port: u16, user: &str, password: &str) -> Vec<String> {
    let mut wire = Wire::connect(port);
    wire.ask(&format!("USER {user}"), "+OK");
    wire.ask(&format!("PASS {password}"), "+OK");
    let stat = wire.ask("STAT", "+OK");
    let count: u32 = stat.split(' ').nth(1).unwrap().parse().unwrap();
    let subject = |number| {
        wire.ask(&format!("TOP {number} 0"), "+OK");
        let lines = wire.until_dot();
        let mut subjects = lines
            .iter()
            .filter_map(|line| line.strip_prefix("Subject: "));
        subjects.next().unwrap().to_owned()
    };
    let subjects = (1..=count).map(subject).collect();
    wire.ask("QUIT", "+OK");
    subjects
}
