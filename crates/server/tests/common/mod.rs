//! A line protocol to drive connections with: it echoes lines, and knows the words STARTTLS, BIG, WHO and QUIT.

#[allow(dead_code, reason = "not every test program does TLS")]
pub mod client;

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use nightmail_server::config::{Config, Listener};
use nightmail_server::drivers::{Flow, Session, Wake, run};
use nightmail_server::net::{BoundListener, Refusal, Service, ServiceOptions, Transport};
use nightmail_server::shutdown::Shutdown;
use nightmail_server::tls::TlsContext;
use tokio::sync::Notify;

/// Long enough for anything that should happen.
pub const SOON: Duration = Duration::from_secs(10);
/// What BIG sends.
pub const BIG_OCTETS: usize = 3_000_000;

/// The service of a test.
pub struct Echo {
    pub tls: TlsContext,
    pub idle: Duration,
    pub event: Arc<Notify>,
}

impl Echo {
    pub fn new(tls: TlsContext, idle: Duration) -> Arc<Self> {
        Arc::new(Self {
            tls,
            idle,
            event: Arc::default(),
        })
    }
}

impl Service for Echo {
    fn refusal(&self, refusal: Refusal) -> &'static [u8] {
        match refusal {
            Refusal::TooMany => b"too many\n",
            Refusal::TooManyFromAddress => b"too many from you\n",
        }
    }

    async fn serve(self: Arc<Self>, transport: Box<Transport>, shutdown: Shutdown) {
        let mut session = EchoSession {
            service: self,
            peer: transport.peer().to_string(),
            input: Vec::new(),
            output: vec![Bytes::from_static(b"hello\n")],
            last: Instant::now(),
            close: false,
            starttls: false,
        };
        let _ = run(&mut session, transport, shutdown).await;
    }
}

struct EchoSession {
    service: Arc<Echo>,
    peer: String,
    input: Vec<u8>,
    output: Vec<Bytes>,
    last: Instant,
    close: bool,
    starttls: bool,
}

impl EchoSession {
    fn say(&mut self, text: &'static str) {
        self.output.push(Bytes::from_static(text.as_bytes()));
    }

    fn line(&mut self, line: &[u8]) {
        match line {
            b"STARTTLS\n" => {
                self.say("go\n");
                self.starttls = true;
                self.input.clear();
            }
            b"BIG\n" => self.output.push(Bytes::from(vec![b'x'; BIG_OCTETS])),
            b"WHO\n" => self.output.push(format!("{}\n", self.peer).into()),
            b"QUIT\n" => {
                self.say("bye\n");
                self.close = true;
            }
            line => self.output.push(Bytes::copy_from_slice(line)),
        }
    }
}

impl Session for EchoSession {
    async fn advance(&mut self, transport: &mut Transport) -> io::Result<Flow> {
        while let Some(end) = self.input.iter().position(|octet| *octet == b'\n') {
            let line: Vec<u8> = self.input.drain(..=end).collect();
            self.line(&line);
        }
        if self.input.is_empty() {
            self.input = Vec::new();
        }
        for piece in self.output.drain(..) {
            transport.send(piece);
            if transport.is_full() {
                transport.flush().await?;
            }
        }
        self.output = Vec::new();
        if std::mem::take(&mut self.starttls) {
            let config = Arc::clone(self.service.tls.server_config());
            transport.start_tls(&config, SOON).await?;
        }
        Ok(if self.close {
            Flow::Close
        } else {
            Flow::Continue
        })
    }

    fn wake(&mut self, now: Instant, wake: Wake<'_>) {
        self.last = now;
        match wake {
            Wake::Bytes(octets) => self.input.extend_from_slice(octets),
            Wake::Event => self.say("event\n"),
            Wake::Timeout => {
                self.say("timeout\n");
                self.close = true;
            }
            Wake::Shutdown => {
                self.say("shutdown\n");
                self.close = true;
            }
            Wake::PeerClosed => self.close = true,
        }
    }

    fn deadline(&self) -> Option<Instant> {
        Some(self.last + self.service.idle)
    }

    async fn event(&mut self) {
        self.service.event.notified().await;
    }
}

/// A configuration whose data directory is `dir`, with one listener.
pub fn config(dir: &std::path::Path, listener: &str) -> Config {
    let text = format!("[server]\nhostname = \"mx.test\"\n[[listener]]\n{listener}\n");
    let mut config = Config::parse(&text).unwrap();
    config.server.data = dir.to_owned();
    config
}

/// Options of a plain listener.
pub fn options() -> ServiceOptions {
    ServiceOptions {
        implicit_tls: None,
        handshake_timeout: SOON,
        write_timeout: SOON,
    }
}

/// Binds the first listener of a configuration.
pub fn bind(config: &Config) -> BoundListener {
    let listener: &Listener = &config.listeners[0];
    BoundListener::bind(listener).unwrap()
}
