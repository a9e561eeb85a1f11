//! Listeners behind proxies: whose address counts, what is believed of whom, and that no octet is lost.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on fails"
)]

mod common;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::client::OutboundContext;
use common::{Echo, bind, config, options};
use nightmail_server::net::{Recv, Transport};
use nightmail_server::shutdown::{Stopper, shutdown_pair};
use nightmail_server::tls::TlsContext;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

/// Long enough for anything that should happen.
const SOON: Duration = Duration::from_secs(60);
/// A listener behind a proxy on this machine.
const BEHIND: &str = "address = \"127.0.0.1:0\"\nproxy_protocol_from = [\"127.0.0.0/8\"]";
const CLIENT: &str = "203.0.113.9:4711\n";
const V1: &[u8] = b"PROXY TCP4 203.0.113.9 127.0.0.1 4711 25\r\n";
const V2: &[u8] =
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x10\xcb\0\x71\x09\x7f\0\0\x01\x12\x67\0\x19\x04\0\x01x";
const V2_LOCAL: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";

struct Running {
    address: SocketAddr,
    dir: tempfile::TempDir,
    /// Sessions end with it.
    _stopper: Stopper,
}

#[derive(Clone, Copy, PartialEq)]
enum Tls {
    None,
    Starttls,
    Implicit,
}

fn start_with(listener: &str, tls: Tls, handshake_timeout: Duration) -> Running {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path(), listener);
    let context = TlsContext::load(&config).unwrap();
    let mut options = options();
    options.handshake_timeout = handshake_timeout;
    if tls == Tls::Implicit {
        options.implicit_tls = Some(Arc::clone(context.server_config()));
    }
    let listener = bind(&config);
    let (stopper, shutdown) = shutdown_pair();
    let address = listener.tcp_address().unwrap();
    tokio::spawn(listener.serve(Echo::new(context, SOON), options, shutdown));
    Running {
        address,
        dir,
        _stopper: stopper,
    }
}

fn start(listener: &str) -> Running {
    start_with(listener, Tls::None, SOON)
}

impl Running {
    /// A connection on which something has been sent.
    async fn sent(&self, octets: &[u8]) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(octets).await.unwrap();
        stream
    }

    /// A connection with a header before a question, all in one piece.
    async fn asked(&self, header: &[u8]) -> TcpStream {
        self.sent(&[header, b"WHO\n"].concat()).await
    }
}

async fn expect(stream: &mut TcpStream, text: &str) {
    let mut found = vec![0; text.len()];
    let read = timeout(SOON, stream.read_exact(&mut found)).await;
    read.expect("in time").expect("so many octets");
    assert_eq!(String::from_utf8_lossy(&found), text);
}

/// The server closes without having said anything.
async fn expect_closed(mut stream: TcpStream) {
    let mut said = Vec::new();
    // What was sent and never read makes the close a reset.
    let _ = timeout(SOON, stream.read_to_end(&mut said))
        .await
        .expect("in time");
    assert_eq!(String::from_utf8_lossy(&said), "");
}

/// A proxy for one connection. With `hears_first` it sends its header together with what the client says first.
async fn proxy(server: SocketAddr, header: &'static [u8], hears_first: bool) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut client, _) = listener.accept().await.unwrap();
        let mut first = header.to_vec();
        if hears_first {
            client.read_buf(&mut first).await.unwrap();
        }
        let mut upstream = TcpStream::connect(server).await.unwrap();
        upstream.write_all(&first).await.unwrap();
        let _ = copy_bidirectional(&mut client, &mut upstream).await;
    });
    address
}

async fn read_text(client: &mut Transport, text: &str) {
    let mut found = Vec::new();
    while found.len() < text.len() {
        let deadline = Some(Instant::now() + SOON);
        let got = client
            .recv(deadline, |octets| found.extend_from_slice(octets))
            .await;
        assert!(matches!(got.unwrap(), Recv::Bytes(_)), "after {found:?}");
    }
    assert_eq!(String::from_utf8_lossy(&found), text);
}

async fn say(client: &mut Transport, text: &'static str) {
    client.send(text.into());
    client.flush().await.unwrap();
}

#[tokio::test]
async fn a_header_names_the_client_and_what_follows_it_is_kept() {
    let server = start(BEHIND);
    for header in [V1, V2] {
        expect(&mut server.asked(header).await, &format!("hello\n{CLIENT}")).await;
    }
    let v6 = b"PROXY TCP6 2001:db8::9 ::1 1 2\r\n";
    expect(&mut server.asked(v6).await, "hello\n[2001:db8::9]:1\n").await;
    let mapped = b"PROXY TCP6 ::ffff:203.0.113.9 ::1 4711 25\r\n";
    expect(&mut server.asked(mapped).await, &format!("hello\n{CLIENT}")).await;
}

#[tokio::test]
async fn a_header_may_come_octet_by_octet() {
    let server = start(BEHIND);
    for header in [V1, V2] {
        let mut stream = server.sent(b"").await;
        stream.set_nodelay(true).unwrap();
        for octet in [header, b"WHO\n"].concat() {
            stream.write_all(&[octet]).await.unwrap();
        }
        expect(&mut stream, &format!("hello\n{CLIENT}")).await;
    }
}

#[tokio::test]
async fn a_proxy_that_speaks_for_itself_keeps_its_address() {
    let server = start(BEHIND);
    for header in [V2_LOCAL, b"PROXY UNKNOWN\r\n"] {
        let mut stream = server.asked(header).await;
        let own = stream.local_addr().unwrap();
        expect(&mut stream, &format!("hello\n{own}\n")).await;
    }
}

#[tokio::test]
async fn tls_begins_right_behind_the_header() {
    for (tls, hears_first) in [
        (Tls::None, false),
        (Tls::Starttls, false),
        (Tls::Implicit, false),
        (Tls::Implicit, true),
    ] {
        let server = start_with(BEHIND, tls, SOON);
        let context = OutboundContext::load(&config(server.dir.path(), BEHIND)).unwrap();
        for header in [V1, V2] {
            let front = proxy(server.address, header, hears_first).await;
            let mut client = Transport::connect(front, SOON, SOON).await.unwrap();
            if tls == Tls::Starttls {
                read_text(&mut client, "hello\n").await;
                say(&mut client, "STARTTLS\n").await;
                read_text(&mut client, "go\n").await;
            }
            if tls != Tls::None {
                let name = ServerName::try_from("mx.test").unwrap();
                let begun = client.start_tls_as_client(&context.opportunistic, name, SOON);
                begun.await.unwrap();
            }
            if tls != Tls::Starttls {
                read_text(&mut client, "hello\n").await;
            }
            say(&mut client, "WHO\n").await;
            read_text(&mut client, CLIENT).await;
        }
    }
}

#[tokio::test]
async fn a_proxy_without_a_header_is_shut_out() {
    let server = start(BEHIND);
    for octets in [
        &b"WHO\n"[..],
        b"PROXY TCP4 nobody\r\nWHO\n",
        &V2[..12],
        b"PROXY",
    ] {
        let mut stream = server.sent(octets).await;
        stream.shutdown().await.unwrap();
        expect_closed(stream).await;
    }
    let implicit = start_with(BEHIND, Tls::Implicit, SOON);
    expect_closed(implicit.sent(b"\x16\x03\x01\x00\x05hello").await).await;
}

#[tokio::test]
async fn a_proxy_that_says_nothing_is_not_waited_for() {
    let server = start_with(BEHIND, Tls::None, Duration::from_millis(50));
    expect_closed(server.sent(b"").await).await;
    expect_closed(server.sent(b"PROXY TCP4").await).await;
}

#[tokio::test]
async fn nobody_else_is_believed() {
    for listener in [
        "address = \"127.0.0.1:0\"",
        "address = \"127.0.0.1:0\"\nproxy_protocol_from = [\"10.0.0.0/8\", \"::1\"]",
    ] {
        let server = start(listener);
        let mut stream = server.asked(V1).await;
        let own = stream.local_addr().unwrap();
        let header = std::str::from_utf8(V1).unwrap();
        expect(&mut stream, &format!("hello\n{header}{own}\n")).await;
    }
}

#[tokio::test]
async fn the_bound_of_an_address_is_that_of_the_client() {
    let server = start(&format!("{BEHIND}\nconnections_per_address_max = 1"));
    let mut first = server.asked(V1).await;
    expect(&mut first, &format!("hello\n{CLIENT}")).await;
    let other = b"PROXY TCP4 203.0.113.10 127.0.0.1 4711 25\r\n";
    let mut second = server.asked(other).await;
    expect(&mut second, "hello\n203.0.113.10:4711\n").await;
    // The same client again, by the other version.
    let mut third = server.sent(V2).await;
    expect(&mut third, "too many from you\n").await;

    first.write_all(b"QUIT\n").await.unwrap();
    expect(&mut first, "bye\n").await;
    drop(first);
    let began = Instant::now();
    loop {
        let mut again = server.sent(V1).await;
        let mut word = [0; 6];
        again.read_exact(&mut word).await.unwrap();
        if &word == b"hello\n" {
            return;
        }
        assert!(
            began.elapsed() < SOON,
            "a client that left is still counted"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn the_bound_of_a_listener_holds_before_the_header() {
    let server = start(&format!("{BEHIND}\nconnections_max = 1"));
    let mut silent = server.sent(b"").await;
    let mut second = server.sent(b"").await;
    expect(&mut second, "too many\n").await;
    silent.write_all(&[V1, b"WHO\n"].concat()).await.unwrap();
    expect(&mut silent, &format!("hello\n{CLIENT}")).await;
}
