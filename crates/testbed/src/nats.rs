//! A NATS server.

use std::io::Read;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::programs;

const START_TIMEOUT: Duration = Duration::from_secs(60);
const STARTS_MAX: usize = 5;

/// A server on a free port of 127.0.0.1, without persistence. Killed when dropped.
pub struct Nats {
    program: PathBuf,
    arguments: Vec<String>,
    port: u16,
    child: Option<Child>,
}

impl Nats {
    /// Starts a server that lets everybody in; `None`, said visibly, where the program is not installed.
    ///
    /// # Panics
    ///
    /// When the program is there and does not start.
    pub fn start() -> Option<Self> {
        Self::start_with(&[])
    }

    /// The same with arguments of the caller's, such as `--user` and `--pass`.
    ///
    /// # Panics
    ///
    /// When the program is there and does not start.
    pub fn start_with(arguments: &[&str]) -> Option<Self> {
        let Some(program) = programs::find("nats-server", &["/usr/sbin", "/usr/local/bin"]) else {
            programs::skip("nats-server is not installed");
            return None;
        };
        // Somebody else may take the free port before the server does.
        for _ in 0..STARTS_MAX {
            let mut server = Self {
                program: program.clone(),
                arguments: arguments.iter().map(ToString::to_string).collect(),
                port: free_port(),
                child: None,
            };
            if server.launch() {
                return Some(server);
            }
        }
        panic!("nats-server does not start");
    }

    /// Where it listens, as clients take it.
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Kills it. Connections end; nothing that it held is left.
    pub fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Starts it again on the same port, after a [`Self::stop`] where it is running.
    ///
    /// # Panics
    ///
    /// When it does not start.
    pub fn restart(&mut self) {
        self.stop();
        let deadline = Instant::now() + START_TIMEOUT;
        while !self.launch() {
            assert!(
                Instant::now() < deadline,
                "nats-server does not start again"
            );
            sleep(Duration::from_millis(50));
        }
    }

    /// Runs the program and waits until it greets. False when it ended instead.
    fn launch(&mut self) -> bool {
        let child = Command::new(&self.program)
            .args(["--addr", "127.0.0.1", "--port", &self.port.to_string()])
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        match child {
            Ok(child) => self.child = Some(child),
            Err(error) => panic!("{}: {error}", self.program.display()),
        }
        let deadline = Instant::now() + START_TIMEOUT;
        while Instant::now() < deadline && self.is_running() {
            if greets(self.port) {
                // Another program may greet on the port that this one could not have.
                return self.is_running();
            }
            sleep(Duration::from_millis(10));
        }
        self.stop();
        false
    }

    fn is_running(&mut self) -> bool {
        self.child
            .as_mut()
            .is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }
}

impl Drop for Nats {
    fn drop(&mut self) {
        self.stop();
    }
}

fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|listener| listener.local_addr())
        .map_or(0, |address| address.port())
}

fn greets(port: u16) -> bool {
    let Ok(mut stream) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)) else {
        return false;
    };
    let mut greeting = [0; 4];
    stream
        .set_read_timeout(Some(Duration::from_secs(5)))
        .is_ok()
        && stream.read_exact(&mut greeting).is_ok()
        && &greeting == b"INFO"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_comes_back_on_its_port_and_ends_when_dropped() {
        let Some(mut nats) = Nats::start() else {
            return;
        };
        let port = nats.port();
        assert!(greets(port));
        nats.stop();
        assert!(!greets(port));
        nats.restart();
        assert!(greets(port));
        drop(nats);
        assert!(!greets(port));
    }
}
