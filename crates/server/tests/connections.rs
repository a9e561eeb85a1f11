//! Connections over loopback: limits, deadlines, events, TLS, back-pressure and stopping.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on fails"
)]

mod common;

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::Duration;

use common::client::OutboundContext;
use common::{BIG_OCTETS, Echo, SOON, bind, config, options};
use nightmail_server::net::{BindError, BoundListener, Peer, Recv, Transport};
use nightmail_server::shutdown::{Shutdown, Stopper, shutdown_pair};
use nightmail_server::tls::TlsContext;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;

const LOOPBACK: &str = "address = \"127.0.0.1:0\"";

struct Running {
    address: SocketAddr,
    stopper: Stopper,
    task: JoinHandle<()>,
    dir: tempfile::TempDir,
    echo: Arc<Echo>,
}

fn start_with(listener: &str, idle: Duration, implicit: bool) -> Running {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path(), listener);
    let tls = TlsContext::load(&config).unwrap();
    let mut options = options();
    if implicit {
        options.implicit_tls = Some(Arc::clone(tls.server_config()));
    }
    let echo = Echo::new(tls, idle);
    let listener = bind(&config);
    let (stopper, shutdown): (Stopper, Shutdown) = shutdown_pair();
    Running {
        address: listener
            .tcp_address()
            .unwrap_or_else(|| ([127, 0, 0, 1], 0).into()),
        stopper,
        task: tokio::spawn(listener.serve(Arc::clone(&echo), options, shutdown)),
        dir,
        echo,
    }
}

fn start(listener: &str) -> Running {
    start_with(listener, SOON, false)
}

impl Running {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    fn outbound(&self) -> OutboundContext {
        OutboundContext::load(&config(self.dir.path(), LOOPBACK)).unwrap()
    }

    async fn client(&self) -> Transport {
        Transport::connect(self.address, SOON, SOON).await.unwrap()
    }
}

async fn expect(stream: &mut (impl AsyncReadExt + Unpin), text: &str) {
    let mut found = vec![0; text.len()];
    let read = timeout(SOON, stream.read_exact(&mut found)).await;
    read.expect("in time").expect("so many octets");
    assert_eq!(String::from_utf8_lossy(&found), text);
}

async fn expect_end(stream: &mut (impl AsyncReadExt + Unpin)) {
    let mut rest = Vec::new();
    timeout(SOON, stream.read_to_end(&mut rest))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&rest), "");
}

/// Reads exactly `count` octets through a client transport.
async fn read(client: &mut Transport, count: usize) -> Vec<u8> {
    let mut found = Vec::new();
    while found.len() < count {
        let deadline = Some(std::time::Instant::now() + SOON);
        let got = client
            .recv(deadline, |octets| found.extend_from_slice(octets))
            .await;
        assert!(
            matches!(got.unwrap(), Recv::Bytes(_)),
            "after {} octets",
            found.len()
        );
    }
    assert_eq!(found.len(), count);
    found
}

fn name() -> ServerName<'static> {
    ServerName::try_from("mx.test").unwrap()
}

#[tokio::test]
async fn a_session_greets_answers_and_closes() {
    let server = start(LOOPBACK);
    let mut client = server.connect().await;
    expect(&mut client, "hello\n").await;
    client.write_all(b"a\nb\nQUIT\n").await.unwrap();
    expect(&mut client, "a\nb\nbye\n").await;
    expect_end(&mut client).await;
}

#[tokio::test]
async fn a_silent_client_is_timed_out() {
    let server = start_with(LOOPBACK, Duration::from_millis(50), false);
    let mut client = server.connect().await;
    expect(&mut client, "hello\ntimeout\n").await;
    expect_end(&mut client).await;
}

#[tokio::test]
async fn an_event_reaches_a_waiting_session() {
    let server = start(LOOPBACK);
    let mut client = server.connect().await;
    expect(&mut client, "hello\n").await;
    server.echo.event.notify_one();
    expect(&mut client, "event\n").await;
}

#[tokio::test]
async fn connections_beyond_the_bound_of_an_address_are_told_so() {
    let server = start(&format!("{LOOPBACK}\nconnections_per_address_max = 2"));
    let mut first = server.connect().await;
    let mut second = server.connect().await;
    expect(&mut first, "hello\n").await;
    expect(&mut second, "hello\n").await;
    let mut third = server.connect().await;
    expect(&mut third, "too many from you\n").await;
    expect_end(&mut third).await;

    first.write_all(b"QUIT\n").await.unwrap();
    expect(&mut first, "bye\n").await;
    expect_end(&mut first).await;
    drop(first);
    let mut fourth = admitted(&server).await;
    fourth.write_all(b"x\n").await.unwrap();
    expect(&mut fourth, "x\n").await;
}

/// Connects again until a connection that ended a moment ago is no longer counted.
async fn admitted(server: &Running) -> TcpStream {
    for _ in 0..200 {
        let mut client = server.connect().await;
        let mut first = [0; 6];
        client.read_exact(&mut first).await.unwrap();
        if &first == b"hello\n" {
            return client;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("never admitted");
}

#[tokio::test]
async fn connections_beyond_the_bound_of_a_listener_are_told_so() {
    let server = start(&format!("{LOOPBACK}\nconnections_max = 1"));
    let mut first = server.connect().await;
    expect(&mut first, "hello\n").await;
    let mut second = server.connect().await;
    expect(&mut second, "too many\n").await;
}

#[tokio::test]
async fn connections_beyond_those_served_at_once_wait_for_their_turn() {
    let server = start(&format!(
        "{LOOPBACK}\nactive_max = 1\nactive_wait = \"60s\""
    ));
    let mut first = server.connect().await;
    expect(&mut first, "hello\n").await;
    let mut second = server.connect().await;
    second.write_all(b"early\n").await.unwrap();
    let nothing = timeout(Duration::from_millis(100), second.read_u8()).await;
    assert!(nothing.is_err(), "it is not its turn");
    first.write_all(b"QUIT\n").await.unwrap();
    expect(&mut first, "bye\n").await;
    expect(&mut second, "hello\nearly\n").await;
}

#[tokio::test]
async fn who_has_waited_long_enough_is_turned_away() {
    let server = start(&format!(
        "{LOOPBACK}\nactive_max = 1\nactive_wait = \"50ms\""
    ));
    let mut first = server.connect().await;
    expect(&mut first, "hello\n").await;
    let mut second = server.connect().await;
    expect(&mut second, "too many\n").await;
}

#[tokio::test]
async fn starttls_goes_on_encrypted_and_drops_what_came_in_clear() {
    let server = start(LOOPBACK);
    let mut client = server.client().await;
    assert_eq!(read(&mut client, 6).await, b"hello\n");
    client.buffer().extend_from_slice(b"STARTTLS\ninjected\n");
    client.flush().await.unwrap();
    assert_eq!(read(&mut client, 3).await, b"go\n");
    let config = server.outbound().opportunistic;
    client
        .start_tls_as_client(&config, name(), SOON)
        .await
        .unwrap();
    assert_eq!(client.tls_info().unwrap().version, "TLSv1.3");
    client.buffer().extend_from_slice(b"secret\nQUIT\n");
    client.flush().await.unwrap();
    assert_eq!(read(&mut client, 11).await, b"secret\nbye\n");
    let end = client.recv(None, |_| ()).await.unwrap();
    assert_eq!(end, Recv::Eof);
}

#[tokio::test]
async fn implicit_tls_carries_much_both_ways() {
    let server = start_with(LOOPBACK, SOON, true);
    let mut client = server.client().await;
    let config = server.outbound().opportunistic;
    client
        .start_tls_as_client(&config, name(), SOON)
        .await
        .unwrap();
    assert_eq!(read(&mut client, 6).await, b"hello\n");
    client.buffer().extend_from_slice(b"BIG\n");
    client.flush().await.unwrap();
    let big = read(&mut client, BIG_OCTETS).await;
    assert!(big.iter().all(|octet| *octet == b'x'));

    let mut line = vec![b'y'; 200_000];
    line.push(b'\n');
    client.send(line.clone().into());
    client.flush().await.unwrap();
    assert!(read(&mut client, line.len()).await == line);
}

#[tokio::test]
async fn a_plain_client_on_a_tls_port_ends_without_a_session() {
    let server = start_with(LOOPBACK, SOON, true);
    let mut client = server.connect().await;
    client.write_all(b"EHLO client\r\n").await.unwrap();
    let mut rest = Vec::new();
    let _ = timeout(SOON, client.read_to_end(&mut rest)).await.unwrap();
    assert!(!rest.starts_with(b"hello"));
}

#[tokio::test]
async fn much_output_reaches_a_client_that_reads_late() {
    let server = start(LOOPBACK);
    let mut client = server.connect().await;
    client.write_all(b"BIG\nBIG\nQUIT\n").await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    let mut all = Vec::new();
    timeout(SOON, client.read_to_end(&mut all))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(all.len(), 6 + 2 * BIG_OCTETS + 4);
    assert!(all.ends_with(b"xbye\n"));
}

#[tokio::test]
async fn a_client_that_takes_nothing_is_given_up() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let write_timeout = Duration::from_millis(50);
    let mut sender = Transport::connect(address, SOON, write_timeout)
        .await
        .unwrap();
    let _peer = listener.accept().await.unwrap();
    let mut failed = None;
    for _ in 0..100 {
        sender.send(vec![0; 1 << 20].into());
        if let Err(error) = timeout(SOON, sender.flush()).await.unwrap() {
            failed = Some(error.kind());
            break;
        }
    }
    assert_eq!(failed, Some(std::io::ErrorKind::TimedOut));
}

#[tokio::test]
async fn draining_tells_sessions_and_ends_the_listener() {
    let server = start(LOOPBACK);
    let mut client = server.connect().await;
    expect(&mut client, "hello\n").await;
    server.stopper.drain();
    expect(&mut client, "shutdown\n").await;
    expect_end(&mut client).await;
    drop(client);
    timeout(SOON, server.task).await.unwrap().unwrap();
    assert!(TcpStream::connect(server.address).await.is_err());
}

#[tokio::test]
async fn aborting_drops_sessions_that_do_not_finish() {
    let server = start(LOOPBACK);
    let mut client = server.connect().await;
    client.write_all(b"BIG\nBIG\nBIG\n").await.unwrap();
    expect(&mut client, "hello\n").await;
    server.stopper.drain();
    server.stopper.abort();
    timeout(SOON, server.task).await.unwrap().unwrap();
}

#[tokio::test]
async fn unix_sockets_serve_and_leave_no_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("lmtp.sock");
    std::fs::write(&path, b"").unwrap();
    std::fs::remove_file(&path).unwrap();
    let listener = format!("protocol = \"lmtp\"\naddress = \"unix:{}\"", path.display());
    let server = start(&listener);
    let mut client = UnixStream::connect(&path).await.unwrap();
    expect(&mut client, "hello\n").await;
    client.write_all(b"QUIT\n").await.unwrap();
    expect(&mut client, "bye\n").await;

    let second = BoundListener::bind(&config(dir.path(), &listener).listeners[0]);
    assert!(matches!(second, Err(BindError::InUse(_))), "{second:?}");
    drop(client);
    server.stopper.drain();
    timeout(SOON, server.task).await.unwrap().unwrap();
    assert!(!path.exists());
}

#[tokio::test]
async fn a_socket_file_left_by_a_crash_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("lmtp.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let server = start(&format!(
        "protocol = \"lmtp\"\naddress = \"unix:{}\"",
        path.display()
    ));
    let mut client = UnixStream::connect(&path).await.unwrap();
    expect(&mut client, "hello\n").await;
    drop(server);
}

#[tokio::test]
async fn a_port_in_use_says_how_to_mend_it() {
    let server = start(LOOPBACK);
    let dir = tempfile::tempdir().unwrap();
    let taken = config(dir.path(), &format!("address = \"{}\"", server.address));
    let error = BoundListener::bind(&taken.listeners[0]).unwrap_err();
    assert!(matches!(error, BindError::InUse(_)));
    assert!(error.to_string().contains("change the address"));
    let elsewhere = config(dir.path(), "address = \"192.0.2.77:0\"");
    let error = BoundListener::bind(&elsewhere.listeners[0]).unwrap_err();
    assert!(matches!(error, BindError::NoSuchAddress(_)), "{error}");
}

#[tokio::test]
async fn the_unspecified_address_takes_ipv4_clients() {
    let server = start("address = \"[::]:0\"");
    let address = SocketAddr::from(([127, 0, 0, 1], server.address.port()));
    let mut client = TcpStream::connect(address).await.unwrap();
    expect(&mut client, "hello\n").await;
}

#[test]
fn an_ipv4_peer_is_never_shown_in_ipv6_form() {
    let mapped: SocketAddr = "[::ffff:192.0.2.1]:25".parse().unwrap();
    assert_eq!(Peer::tcp(mapped).to_string(), "192.0.2.1:25");
}

#[tokio::test]
async fn the_admin_socket_speaks_http_and_is_private() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path(), LOOPBACK);
    let listener = BoundListener::bind(&config.admin_listener()).unwrap();
    let path = dir.path().join("admin.sock");
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let (stopper, shutdown) = shutdown_pair();
    let routes = axum::Router::new().route("/", axum::routing::get(|| async { "here" }));
    let server = tokio::spawn(listener.serve_http(routes, shutdown));
    let mut client = UnixStream::connect(&path).await.unwrap();
    let request = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    client.write_all(request).await.unwrap();
    let mut response = String::new();
    client.read_to_string(&mut response).await.unwrap();
    assert!(response.ends_with("here"), "{response}");
    stopper.abort();
    timeout(SOON, server).await.unwrap().unwrap().unwrap();
    assert!(!path.exists());
}
