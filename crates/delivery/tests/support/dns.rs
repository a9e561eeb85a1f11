//! A name server on loopback that answers from a table.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use hickory_resolver::proto::op::{Message, OpCode, ResponseCode};
use hickory_resolver::proto::rr::rdata::{A, AAAA, CNAME, MX};
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use parking_lot::Mutex;
use tokio::net::UdpSocket;

#[derive(Clone)]
enum Answer {
    Records(Vec<RData>),
    ServFail,
    Silence,
}

type Table = HashMap<(String, RecordType), Answer>;

/// The server. Names that are not in its table do not exist.
pub struct NameServer {
    pub address: SocketAddr,
    table: Arc<Mutex<Table>>,
}

impl NameServer {
    pub async fn start() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let server = Self {
            address: socket.local_addr().unwrap(),
            table: Arc::default(),
        };
        tokio::spawn(serve(socket, Arc::clone(&server.table)));
        server
    }

    pub fn mx(&self, domain: &str, preference: u16, host: &str) -> &Self {
        self.record(
            domain,
            RecordType::MX,
            RData::MX(MX::new(preference, name(host))),
        )
    }

    pub fn address_of(&self, host: &str, ip: IpAddr) -> &Self {
        match ip {
            IpAddr::V4(ip) => self.record(host, RecordType::A, RData::A(A(ip))),
            IpAddr::V6(ip) => self.record(host, RecordType::AAAA, RData::AAAA(AAAA(ip))),
        }
    }

    pub fn alias(&self, from: &str, to: &str) -> &Self {
        self.record(from, RecordType::CNAME, RData::CNAME(CNAME(name(to))))
    }

    pub fn fails(&self, host: &str, kind: RecordType) -> &Self {
        self.table
            .lock()
            .insert((host.into(), kind), Answer::ServFail);
        self
    }

    pub fn is_silent(&self, host: &str, kind: RecordType) -> &Self {
        self.table
            .lock()
            .insert((host.into(), kind), Answer::Silence);
        self
    }

    fn record(&self, host: &str, kind: RecordType, data: RData) -> &Self {
        let mut table = self.table.lock();
        match table
            .entry((host.into(), kind))
            .or_insert_with(|| Answer::Records(Vec::new()))
        {
            Answer::Records(records) => records.push(data),
            other => *other = Answer::Records(vec![data]),
        }
        drop(table);
        self
    }
}

fn name(text: &str) -> Name {
    Name::from_ascii(format!("{}.", text.trim_end_matches('.'))).unwrap()
}

async fn serve(socket: UdpSocket, table: Arc<Mutex<Table>>) {
    let mut buffer = vec![0; 4096];
    loop {
        let Ok((len, peer)) = socket.recv_from(&mut buffer).await else {
            return;
        };
        let Ok(query) = Message::from_vec(&buffer[..len]) else {
            continue;
        };
        if let Some(response) = respond(&query, &table.lock()) {
            let _ = socket.try_send_to(&response.to_vec().unwrap(), peer);
        }
    }
}

fn respond(query: &Message, table: &Table) -> Option<Message> {
    let question = query.queries.first()?;
    let mut response = Message::response(query.metadata.id, OpCode::Query);
    response.metadata.recursion_available = true;
    response.add_query(question.clone());
    let mut owner = question.name().clone();
    for _ in 0..8 {
        let host = owner.to_ascii().trim_end_matches('.').to_ascii_lowercase();
        match table.get(&(host.clone(), question.query_type())) {
            Some(Answer::Silence) => return None,
            Some(Answer::ServFail) => {
                response.metadata.response_code = ResponseCode::ServFail;
                return Some(response);
            }
            Some(Answer::Records(records)) => {
                for data in records {
                    response.add_answer(Record::from_rdata(owner.clone(), 60, data.clone()));
                }
                return Some(response);
            }
            None => {}
        }
        match table.get(&(host.clone(), RecordType::CNAME)) {
            Some(Answer::Records(records)) => {
                let alias = records.first()?.clone();
                response.add_answer(Record::from_rdata(owner.clone(), 60, alias.clone()));
                let RData::CNAME(target) = alias else {
                    return None;
                };
                owner = target.0;
            }
            _ => {
                if !table.keys().any(|(known, _)| *known == host) {
                    response.metadata.response_code = ResponseCode::NXDomain;
                }
                return Some(response);
            }
        }
    }
    None
}
