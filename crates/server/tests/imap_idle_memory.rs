//! What an IMAP session costs while it waits: one that has a mailbox selected and is in IDLE, in the clear and under
//! TLS.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on fails"
)]

#[expect(dead_code, reason = "this test speaks for itself")]
#[path = "imap/harness.rs"]
mod harness;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex};

use harness::Server;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

const CONNECTIONS: usize = 1000;
const MESSAGES: usize = 100;
/// The goals of the design for a session, all of it.
const PLAIN_OCTETS_MAX: usize = 6 * 1024;
const TLS_OCTETS_MAX: usize = 25 * 1024;
/// Memory is the process's: one test at a time.
static ALONE: Mutex<()> = Mutex::new(());

fn resident_octets() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}

/// What each of many sessions costs that are held by what `connect` returns.
fn cost(what: &str, connect: impl Fn() -> TcpStream) -> usize {
    let mut clients: Vec<TcpStream> = (0..100).map(|_| connect()).collect();
    let before = resident_octets();
    clients.extend((0..CONNECTIONS).map(|_| connect()));
    let each = resident_octets().saturating_sub(before) / CONNECTIONS;
    println!("an idling IMAP session {what} costs {each} octets");
    each
}

#[test]
fn an_idling_session_costs_little() {
    let _alone = ALONE.lock().unwrap();
    let server = Server::start();
    server.client().fill("INBOX", MESSAGES);
    let each = cost("in the clear", || {
        let mut stream = TcpStream::connect(server.address).unwrap();
        go_idle(&mut stream);
        stream
    });
    assert!(each <= PLAIN_OCTETS_MAX, "{each} octets for each session");
}

#[test]
fn an_idling_session_under_tls_costs_little() {
    let _alone = ALONE.lock().unwrap();
    let server = Server::start();
    server.client().fill("INBOX", MESSAGES);
    let config = trusting(&server);
    let each = cost("under TLS", || {
        let mut stream = TcpStream::connect(server.address).unwrap();
        stream.write_all(b"t STARTTLS\r\n").unwrap();
        read_until(&mut stream, b"Begin TLS\r\n");
        let name = ServerName::try_from("mx.test").unwrap();
        let client = ClientConnection::new(Arc::clone(&config), name).unwrap();
        let mut secure = StreamOwned::new(client, stream);
        go_idle(&mut secure);
        // The client's side of TLS is not part of the cost.
        let (_, stream) = secure.into_parts();
        stream
    });
    assert!(each <= TLS_OCTETS_MAX, "{each} octets for each session");
}

fn trusting(server: &Server) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    let certificate = server.data().join("self-signed.crt");
    roots
        .add(CertificateDer::from_pem_file(certificate).unwrap())
        .unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(config)
}

/// Logs in, reads every message and waits in IDLE.
fn go_idle(stream: &mut (impl Read + Write)) {
    stream
        .write_all(
            b"a LOGIN ann@test secret\r\nb SELECT INBOX\r\nc FETCH 1:* BODY.PEEK[]\r\nd IDLE\r\n",
        )
        .unwrap();
    read_until(stream, b"+ idling\r\n");
}

fn read_until(stream: &mut impl Read, end: &[u8]) {
    let mut seen = Vec::new();
    let mut octets = [0; 4096];
    while !seen.ends_with(end) {
        let count = stream.read(&mut octets).unwrap();
        assert_ne!(count, 0, "{}", String::from_utf8_lossy(&seen));
        seen.extend_from_slice(&octets[..count]);
    }
}
