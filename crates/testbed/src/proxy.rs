//! A TCP proxy that cuts, stalls and delays connections.
//!
//! Four threads serve a connection: a reader and a writer each way, with a queue between them, so that a delay holds
//! bytes back without slowing them down. All end with the [`Proxy`].

#![expect(
    clippy::expect_used,
    reason = "a test that cannot listen must end, as tests do"
)]

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

/// Bytes read at once.
const CHUNK_BYTES: usize = 64 << 10;
/// Chunks under way in one direction.
const CHUNKS_MAX: usize = 256;

/// Where a connection is cut, seen from the bytes that made the rule decide.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cut {
    /// They do not reach the server, which sees the connection end.
    Before,
    /// They reach the server; no answer reaches the client.
    After,
    /// The client is cut off now; the server gets them when [`Proxy::deliver_late`] says so.
    Late,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Mode {
    Open,
    Stalled,
    Cut,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Direction {
    Up,
    Down,
}

type Predicate = Box<dyn FnMut(&[u8]) -> Option<Cut> + Send>;

enum Rule {
    Bytes(u64),
    When(Predicate),
}

struct State {
    mode: Mode,
    delay_up: Duration,
    delay_down: Duration,
    upstream: SocketAddr,
    rule: Option<Rule>,
    pairs: Vec<Arc<Pair>>,
    late: Vec<(TcpStream, Vec<u8>)>,
    stopped: bool,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    accepted: AtomicU64,
    bytes_up: AtomicU64,
    cuts: AtomicU64,
}

/// One client's connection and the one that it is passed on to.
struct Pair {
    client: TcpStream,
    server: TcpStream,
    cut: AtomicBool,
    /// The server is still to get bytes: its side must stay open.
    late: AtomicBool,
}

impl Pair {
    /// Ends the client's side and says the end to the server, which still gets what was written to it.
    fn cut(&self) {
        self.cut.store(true, Ordering::SeqCst);
        let _ = self.client.shutdown(Shutdown::Both);
        if !self.late.load(Ordering::SeqCst) {
            let _ = self.server.shutdown(Shutdown::Write);
        }
    }

    fn end(&self) {
        self.cut();
        let _ = self.server.shutdown(Shutdown::Both);
    }

    fn is_cut(&self) -> bool {
        self.cut.load(Ordering::SeqCst)
    }
}

/// A TCP proxy on a loopback port.
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

impl Proxy {
    /// Passes connections to a free loopback port on to `upstream`.
    ///
    /// # Panics
    ///
    /// When no port can be listened on.
    pub fn start(upstream: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a loopback port");
        let address = listener.local_addr().expect("a bound port has an address");
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                mode: Mode::Open,
                delay_up: Duration::ZERO,
                delay_down: Duration::ZERO,
                upstream,
                rule: None,
                pairs: Vec::new(),
                late: Vec::new(),
                stopped: false,
            }),
            changed: Condvar::new(),
            accepted: AtomicU64::new(0),
            bytes_up: AtomicU64::new(0),
            cuts: AtomicU64::new(0),
        });
        let accepting = Arc::clone(&shared);
        thread::spawn(move || accept(&listener, &accepting));
        Self { address, shared }
    }

    /// Where clients connect.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The port of [`Proxy::address`].
    pub const fn port(&self) -> u16 {
        self.address.port()
    }

    /// Connections from now on go to `upstream`.
    pub fn set_upstream(&self, upstream: SocketAddr) {
        self.shared.state.lock().upstream = upstream;
    }

    /// Ends every connection, and each new one as soon as it is made, until [`Proxy::mend`].
    pub fn cut(&self) {
        self.set_mode(Mode::Cut);
        self.cut_connections();
    }

    /// Ends every connection that is open now; new ones are served.
    pub fn cut_connections(&self) {
        let pairs = std::mem::take(&mut self.shared.state.lock().pairs);
        for pair in pairs {
            pair.cut();
        }
        self.shared.changed.notify_all();
    }

    /// Takes connections and bytes, and passes nothing on until [`Proxy::mend`].
    pub fn stall(&self) {
        self.set_mode(Mode::Stalled);
    }

    /// Passes everything on again, what was held back first. A rule that has not cut yet is forgotten.
    pub fn mend(&self) {
        self.shared.state.lock().rule = None;
        self.set_mode(Mode::Open);
    }

    /// Holds bytes back for `up` on their way to the server and `down` on their way to the client.
    pub fn delay(&self, up: Duration, down: Duration) {
        let mut state = self.shared.state.lock();
        state.delay_up = up;
        state.delay_down = down;
    }

    /// Lets `bytes` more bytes through to the server, then cuts the connection that has more, once.
    pub fn cut_after_bytes(&self, bytes: u64) {
        self.shared.state.lock().rule = Some(Rule::Bytes(bytes));
    }

    /// Shows `predicate` what clients send, piece by piece as it arrives, and cuts the connection of the piece for
    /// which it answers, once. Others stay open.
    pub fn cut_when(&self, predicate: impl FnMut(&[u8]) -> Option<Cut> + Send + 'static) {
        self.shared.state.lock().rule = Some(Rule::When(Box::new(predicate)));
    }

    /// Gives servers what [`Cut::Late`] kept from them, and then the end of the connection.
    pub fn deliver_late(&self) {
        let late = std::mem::take(&mut self.shared.state.lock().late);
        for (mut server, bytes) in late {
            let _ = server.write_all(&bytes);
            let _ = server.shutdown(Shutdown::Write);
        }
    }

    /// Connections taken so far.
    pub fn connections(&self) -> u64 {
        self.shared.accepted.load(Ordering::SeqCst)
    }

    /// Bytes passed on to servers so far.
    pub fn bytes_up(&self) -> u64 {
        self.shared.bytes_up.load(Ordering::SeqCst)
    }

    /// Connections that a rule has cut so far.
    pub fn cuts(&self) -> u64 {
        self.shared.cuts.load(Ordering::SeqCst)
    }

    fn set_mode(&self, mode: Mode) {
        self.shared.state.lock().mode = mode;
        self.shared.changed.notify_all();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let pairs = {
            let mut state = self.shared.state.lock();
            state.stopped = true;
            for (server, _) in state.late.drain(..) {
                let _ = server.shutdown(Shutdown::Both);
            }
            std::mem::take(&mut state.pairs)
        };
        self.shared.changed.notify_all();
        for pair in pairs {
            pair.end();
        }
        // Wakes the thread that accepts, which then sees that it is to stop.
        let _ = TcpStream::connect(self.address);
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for client in listener.incoming() {
        let (mode, upstream) = {
            let state = shared.state.lock();
            if state.stopped {
                return;
            }
            (state.mode, state.upstream)
        };
        let Ok(client) = client else { continue };
        shared.accepted.fetch_add(1, Ordering::SeqCst);
        if mode == Mode::Cut {
            continue;
        }
        let Ok(server) = TcpStream::connect(upstream) else {
            continue;
        };
        // Without a connection of its own each way the client sees an end at once.
        let _ = serve(client, server, shared);
    }
}

fn serve(client: TcpStream, server: TcpStream, shared: &Arc<Shared>) -> io::Result<()> {
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (client_in, server_in) = (client.try_clone()?, server.try_clone()?);
    let pair = Arc::new(Pair {
        client,
        server,
        cut: AtomicBool::new(false),
        late: AtomicBool::new(false),
    });
    {
        let mut state = shared.state.lock();
        state.pairs.retain(|pair| !pair.is_cut());
        state.pairs.push(Arc::clone(&pair));
    }
    for (source, direction) in [(client_in, Direction::Up), (server_in, Direction::Down)] {
        let (sender, receiver) = sync_channel(CHUNKS_MAX);
        let reading = Arc::clone(shared);
        thread::spawn(move || read(source, &sender, &reading, direction));
        let (pair, writing) = (Arc::clone(&pair), Arc::clone(shared));
        thread::spawn(move || write(&receiver, &pair, &writing, direction));
    }
    Ok(())
}

/// Bytes and when they may go on.
type Chunk = (Instant, Vec<u8>);

fn read(mut source: TcpStream, sink: &SyncSender<Chunk>, shared: &Shared, direction: Direction) {
    let mut buffer = vec![0; CHUNK_BYTES];
    while let Ok(length @ 1..) = source.read(&mut buffer) {
        let delay = {
            let state = shared.state.lock();
            match direction {
                Direction::Up => state.delay_up,
                Direction::Down => state.delay_down,
            }
        };
        let bytes = buffer.iter().copied().take(length).collect();
        if sink.send((Instant::now() + delay, bytes)).is_err() {
            return;
        }
    }
}

fn write(source: &Receiver<Chunk>, pair: &Pair, shared: &Shared, direction: Direction) {
    while let Ok((due, bytes)) = source.recv() {
        thread::sleep(due.saturating_duration_since(Instant::now()));
        shared.wait_while_stalled(pair);
        if pair.is_cut() {
            // What the server still says is taken from it and dropped, so that it reads what it was sent.
            continue;
        }
        let passed = match direction {
            Direction::Up => shared.pass_up(pair, &bytes),
            Direction::Down => (&pair.client).write_all(&bytes).is_ok(),
        };
        if !passed {
            pair.cut();
        }
    }
    pair.cut();
}

impl Shared {
    fn wait_while_stalled(&self, pair: &Pair) {
        let mut state = self.state.lock();
        while state.mode == Mode::Stalled && !state.stopped && !pair.is_cut() {
            self.changed.wait(&mut state);
        }
    }

    /// Passes bytes on to the server as far as the rule allows; whether the connection goes on.
    fn pass_up(&self, pair: &Pair, bytes: &[u8]) -> bool {
        let (cut, through) = self.state.lock().judge(bytes);
        let (passed, kept) = bytes.split_at(through.min(bytes.len()));
        if let Some(cut) = cut {
            // Before the bytes go, so that no answer to them can come through.
            pair.cut.store(true, Ordering::SeqCst);
            if cut == Cut::Late {
                self.keep_late(pair, kept);
            }
            let _ = pair.client.shutdown(Shutdown::Both);
            self.cuts.fetch_add(1, Ordering::SeqCst);
        }
        self.bytes_up
            .fetch_add(passed.len() as u64, Ordering::SeqCst);
        (&pair.server).write_all(passed).is_ok() && cut.is_none()
    }

    /// Keeps `bytes` for later. The connection to the server stays open meanwhile.
    fn keep_late(&self, pair: &Pair, bytes: &[u8]) {
        if let Ok(server) = pair.server.try_clone() {
            pair.late.store(true, Ordering::SeqCst);
            self.state.lock().late.push((server, bytes.to_vec()));
        }
    }
}

impl State {
    /// Whether the connection is cut at `bytes`, and how many of them go through.
    fn judge(&mut self, bytes: &[u8]) -> (Option<Cut>, usize) {
        let (cut, through) = match &mut self.rule {
            None => return (None, bytes.len()),
            Some(Rule::Bytes(left)) => {
                let through = usize::try_from(*left).unwrap_or(usize::MAX);
                *left = left.saturating_sub(bytes.len() as u64);
                ((through < bytes.len()).then_some(Cut::After), through)
            }
            Some(Rule::When(predicate)) => match predicate(bytes) {
                None => (None, bytes.len()),
                Some(Cut::After) => (Some(Cut::After), bytes.len()),
                Some(cut) => (Some(cut), 0),
            },
        };
        if cut.is_some() {
            self.rule = None;
        }
        (cut, through)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that sends back what it gets, and then how much that was.
    fn echo() -> SocketAddr {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            for stream in listener.incoming().take(3) {
                let mut stream = stream.unwrap();
                thread::spawn(move || io::copy(&mut stream.try_clone().unwrap(), &mut stream));
            }
        });
        address
    }

    fn connect(proxy: &Proxy) -> TcpStream {
        let stream = TcpStream::connect(proxy.address()).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(60)))
            .unwrap();
        stream
    }

    fn ask(stream: &mut TcpStream, text: &[u8]) -> io::Result<Vec<u8>> {
        stream.write_all(text)?;
        let mut answer = vec![0; text.len()];
        stream.read_exact(&mut answer)?;
        Ok(answer)
    }

    #[test]
    fn bytes_pass_until_the_cut_and_again_when_mended() {
        let proxy = Proxy::start(echo());
        let mut stream = connect(&proxy);
        assert_eq!(ask(&mut stream, b"hello").unwrap(), b"hello");
        proxy.cut();
        assert!(ask(&mut stream, b"hello").is_err());
        assert!(ask(&mut connect(&proxy), b"hello").is_err());
        proxy.mend();
        assert_eq!(ask(&mut connect(&proxy), b"hello").unwrap(), b"hello");
    }

    #[test]
    fn a_stalled_connection_gets_its_answer_when_mended() {
        let proxy = Proxy::start(echo());
        let mut stream = connect(&proxy);
        proxy.stall();
        stream.write_all(b"late").unwrap();
        stream
            .set_read_timeout(Some(Duration::from_millis(200)))
            .unwrap();
        let mut answer = [0; 4];
        assert!(stream.read_exact(&mut answer).is_err());
        proxy.mend();
        stream
            .set_read_timeout(Some(Duration::from_secs(60)))
            .unwrap();
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"late");
    }

    #[test]
    fn a_delay_holds_bytes_back_each_way() {
        let proxy = Proxy::start(echo());
        let mut stream = connect(&proxy);
        proxy.delay(Duration::from_millis(60), Duration::from_millis(60));
        let begin = Instant::now();
        ask(&mut stream, b"x").unwrap();
        assert!(begin.elapsed() >= Duration::from_millis(120));
    }

    /// A server that gathers all it gets from one connection.
    fn gather() -> (SocketAddr, thread::JoinHandle<Vec<u8>>) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let taken = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut all = Vec::new();
            stream.read_to_end(&mut all).unwrap();
            all
        });
        (address, taken)
    }

    fn taken_with(rule: impl FnOnce(&Proxy)) -> Vec<u8> {
        let (address, taken) = gather();
        let proxy = Proxy::start(address);
        rule(&proxy);
        let mut stream = connect(&proxy);
        stream.write_all(b"one COMMIT two").unwrap();
        let mut nothing = [0; 1];
        assert_eq!(stream.read(&mut nothing).unwrap_or(0), 0);
        proxy.deliver_late();
        taken.join().unwrap()
    }

    fn at_commit(cut: Cut) -> impl FnMut(&[u8]) -> Option<Cut> {
        move |bytes| bytes.windows(6).any(|w| w == b"COMMIT").then_some(cut)
    }

    #[test]
    fn a_rule_cuts_exactly_where_it_says() {
        let taken = taken_with(|proxy| proxy.cut_after_bytes(5));
        assert_eq!(taken, b"one C");
        let taken = taken_with(|proxy| proxy.cut_when(at_commit(Cut::Before)));
        assert_eq!(taken, b"");
        let taken = taken_with(|proxy| proxy.cut_when(at_commit(Cut::After)));
        assert_eq!(taken, b"one COMMIT two");
    }

    #[test]
    fn late_bytes_reach_the_server_after_the_client_was_cut() {
        let taken = taken_with(|proxy| proxy.cut_when(at_commit(Cut::Late)));
        assert_eq!(taken, b"one COMMIT two");
    }
}
