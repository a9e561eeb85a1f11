//! A name server on loopback that answers from a table.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex};

use hickory_proto::op::{Message, OpCode, ResponseCode};
use hickory_proto::rr::rdata::{A, MX};
use hickory_proto::rr::{Name, RData, Record, RecordType};

type Table = HashMap<(String, RecordType), Vec<RData>>;

/// The server; its thread ends with the test's process. Names that are not in its table do not exist.
pub struct NameServer {
    pub address: SocketAddr,
    table: Arc<Mutex<Table>>,
}

impl NameServer {
    /// A server that knows nothing yet.
    pub fn start() -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let server = Self {
            address: socket.local_addr().unwrap(),
            table: Arc::default(),
        };
        let table = Arc::clone(&server.table);
        std::thread::spawn(move || serve(&socket, &table));
        server
    }

    /// Names a mail exchanger of a domain.
    pub fn mx(&self, domain: &str, preference: u16, host: &str) -> &Self {
        self.record(
            domain,
            RecordType::MX,
            RData::MX(MX::new(preference, name(host))),
        )
    }

    /// Gives a host its address.
    pub fn host(&self, host: &str, ip: Ipv4Addr) -> &Self {
        self.record(host, RecordType::A, RData::A(A(ip)))
    }

    fn record(&self, host: &str, kind: RecordType, data: RData) -> &Self {
        self.table
            .lock()
            .unwrap()
            .entry((host.into(), kind))
            .or_default()
            .push(data);
        self
    }

    /// The setting that makes a server ask here.
    pub fn setting(&self) -> String {
        format!("dns_servers = [\"{}\"]\n", self.address)
    }
}

/// The address of a mail exchanger of a test.
pub fn ip(address: SocketAddr) -> Ipv4Addr {
    match address.ip() {
        IpAddr::V4(ip) => ip,
        IpAddr::V6(_) => panic!("tests use IPv4"),
    }
}

fn name(text: &str) -> Name {
    Name::from_ascii(format!("{}.", text.trim_end_matches('.'))).unwrap()
}

fn serve(socket: &UdpSocket, table: &Mutex<Table>) {
    let mut buffer = [0; 4096];
    while let Ok((len, peer)) = socket.recv_from(&mut buffer) {
        let Ok(query) = Message::from_vec(&buffer[..len]) else {
            continue;
        };
        if let Some(response) = respond(&query, &table.lock().unwrap()) {
            socket.send_to(&response.to_vec().unwrap(), peer).unwrap();
        }
    }
}

fn respond(query: &Message, table: &Table) -> Option<Message> {
    let question = query.queries.first()?;
    let mut response = Message::response(query.metadata.id, OpCode::Query);
    response.metadata.recursion_available = true;
    response.add_query(question.clone());
    let host = question
        .name()
        .to_ascii()
        .trim_end_matches('.')
        .to_ascii_lowercase();
    for data in table
        .get(&(host.clone(), question.query_type()))
        .into_iter()
        .flatten()
    {
        response.add_answer(Record::from_rdata(
            question.name().clone(),
            60,
            data.clone(),
        ));
    }
    if !table.keys().any(|(known, _)| *known == host) {
        response.metadata.response_code = ResponseCode::NXDomain;
    }
    Some(response)
}
