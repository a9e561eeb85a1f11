//! What an IMAP session costs while it waits: one that has a mailbox selected and is in IDLE.

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
use std::net::{SocketAddr, TcpStream};

use harness::Server;

const CONNECTIONS: usize = 1000;
const MESSAGES: usize = 100;
/// The goal of the design for a session of a protocol.
const OCTETS_MAX: usize = 12 * 1024;

fn resident_octets() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}

#[test]
fn an_idling_session_costs_little() {
    let server = Server::start();
    server.client().fill("INBOX", MESSAGES);
    let mut clients = idling(server.address, 100);
    let before = resident_octets();
    clients.extend(idling(server.address, CONNECTIONS));
    let each = (resident_octets().saturating_sub(before)) / CONNECTIONS;
    println!("an idling IMAP session costs {each} octets");
    assert!(each <= OCTETS_MAX, "{each} octets for each session");
}

fn idling(address: SocketAddr, count: usize) -> Vec<TcpStream> {
    let connect = || {
        let mut client = TcpStream::connect(address).unwrap();
        client
            .write_all(b"a LOGIN ann@test secret\r\nb SELECT INBOX\r\nc FETCH 1:* BODY.PEEK[]\r\nd IDLE\r\n")
            .unwrap();
        let mut seen = Vec::new();
        let mut octets = [0; 4096];
        while !seen.ends_with(b"+ idling\r\n") {
            let count = client.read(&mut octets).unwrap();
            assert_ne!(count, 0, "{}", String::from_utf8_lossy(&seen));
            seen.extend_from_slice(&octets[..count]);
        }
        client
    };
    (0..count).map(|_| connect()).collect()
}
