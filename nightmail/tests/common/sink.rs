//! A mail host on loopback that keeps what it takes and refuses what it is told to.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use super::line::Lines;

/// A message that was taken.
#[derive(Clone, Debug, Default)]
pub struct Received {
    pub mail: String,
    pub rcpts: Vec<String>,
    pub content: Vec<u8>,
    /// What AUTH PLAIN carried, where the client logged in.
    pub auth: Option<String>,
}

#[derive(Default)]
struct Shared {
    /// What RCPT is answered with.
    rcpt: Mutex<String>,
    /// What EHLO is answered with.
    extensions: Mutex<Vec<String>>,
    received: Mutex<Vec<Received>>,
    attempts: Mutex<usize>,
}

impl Shared {
    /// Keeps what was sent; the session goes on logged in as it was.
    fn take(&self, message: &mut Received) -> String {
        let next = Received {
            auth: message.auth.clone(),
            ..Received::default()
        };
        let taken = std::mem::replace(message, next);
        self.received.lock().unwrap().push(taken);
        "250 2.0.0 taken".to_owned()
    }
}

/// The host; its threads end with the test's process.
pub struct Sink {
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

impl Sink {
    /// A host that takes everything.
    pub fn start(ip: Ipv4Addr, port: u16) -> Self {
        let listener = TcpListener::bind((ip, port)).unwrap();
        let shared = Arc::new(Shared::default());
        let sink = Self {
            address: listener.local_addr().unwrap(),
            shared: Arc::clone(&shared),
        };
        sink.answer("250 2.1.5 Ok");
        sink.offer(&[]);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = Arc::clone(&shared);
                // A client may break off at any time.
                std::thread::spawn(move || session(stream, &shared).is_ok());
            }
        });
        sink
    }

    /// What RCPT is answered with from now on.
    pub fn answer(&self, reply: &str) {
        reply.clone_into(&mut self.shared.rcpt.lock().unwrap());
    }

    /// What is offered from now on, beside the usual.
    pub fn offer(&self, extensions: &[&str]) {
        let usual = ["PIPELINING", "8BITMIME", "AUTH PLAIN", "SIZE 100000000"];
        let all = usual.iter().chain(extensions);
        *self.shared.extensions.lock().unwrap() = all.map(|name| (*name).to_owned()).collect();
    }

    /// What was taken so far.
    pub fn received(&self) -> Vec<Received> {
        self.shared.received.lock().unwrap().clone()
    }

    /// How many recipients were named so far.
    pub fn attempts(&self) -> usize {
        *self.shared.attempts.lock().unwrap()
    }
}

fn session(stream: TcpStream, shared: &Shared) -> io::Result<()> {
    let mut lines = Lines::over(stream)?;
    lines.write(b"220 sink.test ESMTP\r\n")?;
    let mut message = Received::default();
    loop {
        let line = super::text(&lines.line()?);
        let verb = line
            .split(' ')
            .next()
            .unwrap_or_default()
            .to_ascii_uppercase();
        let reply = match verb.as_str() {
            "EHLO" => {
                let extensions = shared.extensions.lock().unwrap().join("\r\n250-");
                format!("250-sink.test\r\n250-{extensions}\r\n250 HELP")
            }
            "AUTH" => {
                message.auth = line
                    .rsplit_once(' ')
                    .map(|(_, response)| response.to_owned());
                "235 2.7.0 welcome".to_owned()
            }
            "MAIL" => {
                message.mail = line;
                message.rcpts = Vec::new();
                "250 2.1.0 Ok".to_owned()
            }
            "RCPT" => {
                *shared.attempts.lock().unwrap() += 1;
                let reply = shared.rcpt.lock().unwrap().clone();
                if reply.starts_with('2') {
                    message.rcpts.push(line);
                }
                reply
            }
            "DATA" if message.rcpts.is_empty() => "503 5.5.1 no recipients".to_owned(),
            "DATA" => {
                lines.write(b"354 go on\r\n")?;
                message.content = content(&mut lines)?;
                shared.take(&mut message)
            }
            "BDAT" => {
                let mut words = line.split(' ').skip(1);
                let octets = words.next().and_then(|word| word.parse().ok());
                message.content.extend(lines.octets(octets.unwrap_or(0))?);
                match words.next() {
                    Some(_last) => shared.take(&mut message),
                    None => "250 2.0.0 taken".to_owned(),
                }
            }
            "QUIT" => return lines.write(b"221 2.0.0 bye\r\n"),
            _ => "250 2.0.0 Ok".to_owned(),
        };
        lines.write(format!("{reply}\r\n").as_bytes())?;
    }
}

fn content(lines: &mut Lines) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    loop {
        let line = lines.line()?;
        if line == b"." {
            return Ok(content);
        }
        content.extend_from_slice(line.strip_prefix(b".").unwrap_or(&line));
        content.extend_from_slice(b"\r\n");
    }
}
