//! What an idle connection costs, all of it: task, session, transport and the kernel's bookkeeping in the process.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on fails"
)]

mod common;

use std::io::Read;
use std::net::TcpStream;
use std::sync::Arc;

use common::{Echo, SOON, bind, config, options};
use nightmail_server::shutdown::shutdown_pair;
use nightmail_server::tls::TlsContext;

const CONNECTIONS: usize = 2000;
/// The goal for a whole session of a protocol is 12 KiB; this one has next to no machine.
const OCTETS_MAX: usize = 4096;

fn resident_octets() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}

#[test]
fn an_idle_connection_costs_little() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(dir.path(), "address = \"127.0.0.1:0\"");
    config.listeners[0].connections_per_address_max = 10_000;
    let guard = runtime.enter();
    let listener = bind(&config);
    let address = listener.tcp_address().unwrap();
    let echo = Echo::new(TlsContext::load(&config).unwrap(), SOON);
    let (_stopper, shutdown) = shutdown_pair();
    runtime.spawn(listener.serve(Arc::clone(&echo), options(), shutdown));
    drop(guard);

    let mut clients = connect(address, 100);
    let before = resident_octets();
    clients.extend(connect(address, CONNECTIONS));
    let each = (resident_octets().saturating_sub(before)) / CONNECTIONS;
    println!("an idle connection costs {each} octets");
    assert!(each <= OCTETS_MAX, "{each} octets for each connection");
}

fn connect(address: std::net::SocketAddr, count: usize) -> Vec<TcpStream> {
    let mut clients = Vec::with_capacity(count);
    for _ in 0..count {
        let mut client = TcpStream::connect(address).unwrap();
        let mut greeting = [0; 6];
        client.read_exact(&mut greeting).unwrap();
        assert_eq!(&greeting, b"hello\n");
        clients.push(client);
    }
    clients
}
