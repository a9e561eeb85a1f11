//! A mail host on loopback that does as it is told.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// Where a connection ends before its time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cut {
    /// Before the greeting.
    AtOnce,
    /// Within the content.
    MidContent,
    /// After the content was taken, without a reply.
    AfterContent,
    /// In the middle of the reply to RCPT.
    HalfReply,
    /// Nothing is ever said.
    Silent,
    /// After one message that was taken, without a word.
    AfterOne,
}

/// What the host answers.
#[derive(Clone)]
pub struct Behaviour {
    pub greeting: String,
    pub extensions: Vec<String>,
    pub mail: String,
    pub rcpt: fn(&str) -> &'static str,
    pub data: String,
    pub end: String,
    pub end_after: Duration,
    pub cut: Option<Cut>,
    pub tls: Option<TlsAcceptor>,
    /// STARTTLS is offered and the handshake is broken.
    pub broken_tls: bool,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            greeting: "220 sink.test ESMTP".into(),
            extensions: vec![
                "PIPELINING".into(),
                "8BITMIME".into(),
                "SIZE 10000000".into(),
            ],
            mail: "250 2.1.0 Ok".into(),
            rcpt: |_| "250 2.1.5 Ok",
            data: "354 go on".into(),
            end: "250 2.0.0 taken".into(),
            end_after: Duration::ZERO,
            cut: None,
            tls: None,
            broken_tls: false,
        }
    }
}

/// A message that was taken or refused at its end.
#[derive(Clone, Debug)]
pub struct Received {
    pub mail: String,
    pub rcpts: Vec<String>,
    pub content: Vec<u8>,
    pub tls: bool,
}

#[derive(Default)]
struct Shared {
    behaviour: Mutex<Behaviour>,
    received: Mutex<Vec<Received>>,
    lines: Mutex<Vec<String>>,
    peers: Mutex<Vec<IpAddr>>,
    connections: AtomicUsize,
    open: AtomicUsize,
    peak: AtomicUsize,
}

/// The host. Its listener ends with the test's runtime.
pub struct Sink {
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

impl Sink {
    pub async fn start(ip: Ipv4Addr, port: u16, behaviour: Behaviour) -> Self {
        let listener = TcpListener::bind((ip, port)).await.unwrap();
        let shared = Arc::new(Shared {
            behaviour: Mutex::new(behaviour),
            ..Shared::default()
        });
        let sink = Self {
            address: listener.local_addr().unwrap(),
            shared: Arc::clone(&shared),
        };
        tokio::spawn(async move {
            while let Ok((stream, peer)) = listener.accept().await {
                shared.peers.lock().push(peer.ip());
                tokio::spawn(connection(stream, Arc::clone(&shared)));
            }
        });
        sink
    }

    pub fn behave(&self, change: impl FnOnce(&mut Behaviour)) {
        change(&mut self.shared.behaviour.lock());
    }

    pub fn received(&self) -> Vec<Received> {
        self.shared.received.lock().clone()
    }

    pub fn lines(&self) -> Vec<String> {
        self.shared.lines.lock().clone()
    }

    /// Where connections came from.
    pub fn peers(&self) -> Vec<IpAddr> {
        self.shared.peers.lock().clone()
    }

    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// The most connections that were open at once.
    pub fn peak(&self) -> usize {
        self.shared.peak.load(Ordering::SeqCst)
    }
}

async fn connection(stream: TcpStream, shared: Arc<Shared>) {
    let _ = stream.set_nodelay(true);
    shared.connections.fetch_add(1, Ordering::SeqCst);
    let open = shared.open.fetch_add(1, Ordering::SeqCst) + 1;
    shared.peak.fetch_max(open, Ordering::SeqCst);
    let behaviour = shared.behaviour.lock().clone();
    let _ = session(stream, &behaviour, &shared).await;
    shared.open.fetch_sub(1, Ordering::SeqCst);
}

trait Io: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

async fn session(
    mut stream: TcpStream,
    behaviour: &Behaviour,
    shared: &Shared,
) -> std::io::Result<()> {
    match behaviour.cut {
        Some(Cut::AtOnce) => return Ok(()),
        Some(Cut::Silent) => {
            let mut sunk = Vec::new();
            stream.read_to_end(&mut sunk).await?;
            return Ok(());
        }
        _ => {}
    }
    say(&mut stream, &behaviour.greeting).await?;
    let mut plain = BufReader::new(stream);
    if !talk(&mut plain, behaviour, shared, false).await? {
        return Ok(());
    }
    let mut stream = plain.into_inner();
    if behaviour.broken_tls {
        return stream.write_all(b"no TLS here\r\n").await;
    }
    let Some(acceptor) = &behaviour.tls else {
        return Ok(());
    };
    let mut tls = BufReader::new(acceptor.accept(stream).await?);
    talk(&mut tls, behaviour, shared, true).await?;
    Ok(())
}

/// Serves one stream that somebody else has opened: greets and takes mail until QUIT.
pub async fn serve<S: AsyncRead + AsyncWrite + Unpin + Send>(
    mut stream: S,
    behaviour: &Behaviour,
) -> Vec<Received> {
    let shared = Shared::default();
    let _ = say(&mut stream, &behaviour.greeting).await;
    let _ = talk(&mut BufReader::new(stream), behaviour, &shared, true).await;
    shared.received.into_inner()
}

async fn say(stream: &mut (impl AsyncWrite + Unpin), reply: &str) -> std::io::Result<()> {
    stream.write_all(format!("{reply}\r\n").as_bytes()).await
}

/// Talks until QUIT, the end, or STARTTLS (true).
async fn talk<S: Io>(
    stream: &mut BufReader<S>,
    behaviour: &Behaviour,
    shared: &Shared,
    tls: bool,
) -> std::io::Result<bool> {
    let (mut mail, mut rcpts, mut binary) = (String::new(), Vec::new(), Vec::new());
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await? == 0 {
            return Ok(false);
        }
        let line = line.trim_end().to_owned();
        shared.lines.lock().push(line.clone());
        let verb = line
            .split([' ', ':'])
            .next()
            .unwrap_or_default()
            .to_ascii_uppercase();
        let reply = match verb.as_str() {
            "EHLO" => hello(behaviour, tls),
            "STARTTLS" => {
                say(stream, "220 2.0.0 go on").await?;
                return Ok(true);
            }
            "AUTH" => "235 2.7.0 welcome".into(),
            "MAIL" => {
                mail = if behaviour.mail.starts_with('2') {
                    line
                } else {
                    String::new()
                };
                rcpts.clear();
                behaviour.mail.clone()
            }
            "RCPT" if behaviour.cut == Some(Cut::HalfReply) => {
                stream.write_all(b"250-2.1.5 half\r\n25").await?;
                return Ok(false);
            }
            "RCPT" if mail.is_empty() => "503 5.5.1 MAIL first".into(),
            "RCPT" => {
                let reply = (behaviour.rcpt)(&line);
                if reply.starts_with('2') {
                    rcpts.push(line);
                }
                reply.into()
            }
            "DATA" if rcpts.is_empty() => "503 5.5.1 no recipients".into(),
            "DATA" if behaviour.data.starts_with('3') => {
                say(stream, &behaviour.data).await?;
                let Some(content) = read_content(stream, behaviour.cut).await? else {
                    return Ok(false);
                };
                let received = Received {
                    mail: mail.clone(),
                    rcpts: std::mem::take(&mut rcpts),
                    content,
                    tls,
                };
                tokio::time::sleep(behaviour.end_after).await;
                shared.received.lock().push(received);
                if behaviour.cut == Some(Cut::AfterContent) {
                    return Ok(false);
                }
                if behaviour.cut == Some(Cut::AfterOne) {
                    say(stream, &behaviour.end).await?;
                    return Ok(false);
                }
                behaviour.end.clone()
            }
            "DATA" => behaviour.data.clone(),
            "BDAT" => {
                let mut words = line.split(' ').skip(1);
                let mut chunk = vec![0; words.next().unwrap().parse().unwrap()];
                stream.read_exact(&mut chunk).await?;
                binary.extend_from_slice(&chunk);
                if words
                    .next()
                    .is_some_and(|last| last.eq_ignore_ascii_case("LAST"))
                {
                    shared.received.lock().push(Received {
                        mail: mail.clone(),
                        rcpts: std::mem::take(&mut rcpts),
                        content: std::mem::take(&mut binary),
                        tls,
                    });
                }
                behaviour.end.clone()
            }
            "QUIT" => {
                say(stream, "221 2.0.0 bye").await?;
                return Ok(false);
            }
            _ => "250 2.0.0 Ok".into(),
        };
        say(stream, &reply).await?;
        if reply.starts_with("421") {
            return Ok(false);
        }
    }
}

fn hello(behaviour: &Behaviour, tls: bool) -> String {
    let mut lines = vec!["sink.test".to_owned()];
    lines.extend(behaviour.extensions.clone());
    if !tls && (behaviour.tls.is_some() || behaviour.broken_tls) {
        lines.push("STARTTLS".into());
    }
    let last = lines.pop().unwrap();
    let mut reply: String = lines.iter().map(|line| format!("250-{line}\r\n")).collect();
    reply.push_str(&format!("250 {last}"));
    reply
}

/// The content without dot-stuffing; nothing where it was cut off.
async fn read_content<S: Io>(
    stream: &mut BufReader<S>,
    cut: Option<Cut>,
) -> std::io::Result<Option<Vec<u8>>> {
    let mut content = Vec::new();
    loop {
        let mut line = Vec::new();
        if stream.read_until(b'\n', &mut line).await? == 0 {
            return Ok(None);
        }
        if line == b".\r\n" {
            return Ok(Some(content));
        }
        content.extend_from_slice(line.strip_prefix(b".").unwrap_or(&line));
        if cut == Some(Cut::MidContent) {
            return Ok(None);
        }
    }
}
