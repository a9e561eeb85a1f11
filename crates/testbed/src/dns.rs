//! A name server that answers from a table, over UDP and TCP, and fails where it is told to.
//!
//! It answers as a resolver does: aliases are followed, a name that is not there is told from a record that is not
//! there, and what does not fit into a datagram is cut off with the bit that asks for TCP. Its threads end with it.
//!
//! It signs zones when it is told to, and proves what is not there; signatures can be wrong, too.

#![expect(
    clippy::expect_used,
    reason = "a test that cannot listen must end, as tests do"
)]

mod hashed;
mod zones;

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{
    IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;

use hickory_proto::op::{Message, OpCode, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, CAA, CNAME, MX, NS, PTR, SOA, TLSA, TXT};
use hickory_proto::rr::{Name, Record};
pub use hickory_proto::rr::{RData, RecordType};
use parking_lot::Mutex;

use zones::{Answering, Flaw, Signing, Zones};

/// Times a port is drawn until it is free for both UDP and TCP.
const TRIES_MAX: usize = 100;
/// Aliases followed in one answer.
const ALIASES_MAX: usize = 16;
/// How long records may be kept by those who ask, in seconds.
const TTL_SECS: u32 = 60;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fault {
    Timeout,
    Code(ResponseCode),
    Truncated,
}

#[derive(Default)]
struct Table {
    records: HashMap<(String, RecordType), Vec<RData>>,
    /// By name, and by one type or all.
    faults: HashMap<(String, Option<RecordType>), Fault>,
    /// Questions asked so far, by name and type.
    asked: HashMap<(String, RecordType), usize>,
    streams: Vec<TcpStream>,
    zones: Zones,
}

struct Shared {
    table: Mutex<Table>,
    stopped: AtomicBool,
    ttl_secs: AtomicU32,
    negative_ttl_secs: AtomicU32,
}

/// A name server on a loopback port. Names that are not in its table do not exist.
///
/// Names are taken with or without their final dot, in any case; each label is taken octet by octet.
pub struct NameServer {
    address: SocketAddr,
    shared: Arc<Shared>,
}

impl NameServer {
    /// A server that knows nothing yet.
    ///
    /// # Panics
    ///
    /// When no port can be listened on.
    pub fn start() -> Self {
        let (udp, tcp) = (0..TRIES_MAX).find_map(|_| bind().ok()).expect("a port");
        let address = udp.local_addr().expect("a bound port has an address");
        let shared = Arc::new(Shared {
            table: Mutex::default(),
            stopped: AtomicBool::new(false),
            ttl_secs: AtomicU32::new(TTL_SECS),
            negative_ttl_secs: AtomicU32::new(0),
        });
        let datagrams = Arc::clone(&shared);
        thread::spawn(move || serve_datagrams(&udp, &datagrams));
        let streams = Arc::clone(&shared);
        thread::spawn(move || serve_streams(&tcp, &streams));
        Self { address, shared }
    }

    /// Where it is asked, by UDP and TCP.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Adds a record of any type.
    pub fn record(&self, name: &str, data: RData) -> &Self {
        let key = (key(name), data.record_type());
        let mut table = self.shared.table.lock();
        table.records.entry(key).or_default().push(data);
        drop(table);
        self
    }

    /// Makes a name exist that has no record.
    pub fn empty(&self, name: &str) -> &Self {
        let key = (key(name), RecordType::NULL);
        self.shared.table.lock().records.entry(key).or_default();
        self
    }

    /// Forgets a name: its records, its faults, and what is wrong with its signatures.
    pub fn remove(&self, name: &str) -> &Self {
        let gone = key(name);
        let mut table = self.shared.table.lock();
        table.records.retain(|(name, _), _| *name != gone);
        table.faults.retain(|(name, _), _| *name != gone);
        table.zones.mend(&gone);
        drop(table);
        self
    }

    /// Adds an IPv4 address.
    pub fn a(&self, name: &str, ip: Ipv4Addr) -> &Self {
        self.record(name, RData::A(A(ip)))
    }

    /// Adds an IPv6 address.
    pub fn aaaa(&self, name: &str, ip: Ipv6Addr) -> &Self {
        self.record(name, RData::AAAA(AAAA(ip)))
    }

    /// Adds a mail exchanger; an empty host makes a null MX.
    pub fn mx(&self, name: &str, preference: u16, host: &str) -> &Self {
        self.record(name, RData::MX(MX::new(preference, wire(host))))
    }

    /// Adds a TXT record, in strings of at most 255 octets.
    pub fn txt(&self, name: &str, text: &str) -> &Self {
        let strings: Vec<&[u8]> = match text.is_empty() {
            true => vec![b""],
            false => text.as_bytes().chunks(255).collect(),
        };
        self.txt_strings(name, &strings)
    }

    /// Adds a TXT record of these strings, each of at most 255 octets.
    pub fn txt_strings(&self, name: &str, strings: &[&[u8]]) -> &Self {
        self.record(name, RData::TXT(TXT::from_bytes(strings.to_vec())))
    }

    /// Names an address.
    pub fn ptr(&self, ip: IpAddr, host: &str) -> &Self {
        let name = Name::from(ip).to_ascii();
        self.record(&name, RData::PTR(PTR(wire(host))))
    }

    /// Makes a name an alias of another.
    pub fn cname(&self, name: &str, target: &str) -> &Self {
        self.record(name, RData::CNAME(CNAME(wire(target))))
    }

    /// Names a name server of a zone.
    pub fn ns(&self, name: &str, host: &str) -> &Self {
        self.record(name, RData::NS(NS(wire(host))))
    }

    /// Names an authority that may issue certificates; an empty host forbids all.
    pub fn caa(&self, name: &str, issuer: &str) -> &Self {
        let mut record = CAA::new_issue(false, None, Vec::new());
        if !issuer.is_empty() {
            record.value = issuer.as_bytes().to_vec();
        }
        self.record(name, RData::CAA(record))
    }

    /// Adds a TLSA record of a service over TCP: its usage, selector and matching type, and its data.
    pub fn tlsa(&self, host: &str, port: u16, fields: [u8; 3], data: &[u8]) -> &Self {
        let [usage, selector, matching] = fields;
        let record = TLSA::new(
            usage.into(),
            selector.into(),
            matching.into(),
            data.to_vec(),
        );
        self.record(&format!("_{port}._tcp.{host}"), RData::TLSA(record))
    }

    /// Signs a zone, and has the zone above vouch for it. With the first zone the root is signed; names in no zone
    /// that was named are the root's own.
    pub fn signed_zone(&self, apex: &str) -> &Self {
        self.zone(apex, Signing::Whole)
    }

    /// Signs a zone as [`Self::signed_zone`] does, and has it prove what is not there by hashes of names (NSEC3), zones
    /// below that are not vouched for left out. Not for the root: no root is hashed, and resolvers rely on it.
    pub fn hashed_zone(&self, apex: &str) -> &Self {
        self.signed_zone(apex);
        self.shared.table.lock().zones.hash(&key(apex));
        self
    }

    /// Delegates a zone without a key: nothing in it is proven, and that is proven.
    pub fn unsigned_zone(&self, apex: &str) -> &Self {
        self.zone(apex, Signing::None)
    }

    /// Signs a zone that the zone above does not vouch for: nothing in it is proven.
    pub fn island_zone(&self, apex: &str) -> &Self {
        self.zone(apex, Signing::Island)
    }

    /// Has the zone above vouch for a zone, and keeps the zone's signatures back.
    pub fn stripped_zone(&self, apex: &str) -> &Self {
        self.zone(apex, Signing::Stripped)
    }

    /// Makes the signatures over a name's records wrong.
    pub fn forged(&self, name: &str) -> &Self {
        let mut table = self.shared.table.lock();
        table.zones.spoil(key(name), Flaw::Forged);
        drop(table);
        self
    }

    /// Makes the signatures over a name's records end in the past.
    pub fn expired(&self, name: &str) -> &Self {
        let mut table = self.shared.table.lock();
        table.zones.spoil(key(name), Flaw::Expired);
        drop(table);
        self
    }

    /// The root's key as a DNSKEY record in presentation form, for a resolver to trust.
    ///
    /// # Panics
    ///
    /// When no zone was signed.
    pub fn trust_anchor(&self) -> String {
        self.shared.table.lock().zones.trust_anchor()
    }

    fn zone(&self, apex: &str, signing: Signing) -> &Self {
        self.shared.table.lock().zones.add(&key(apex), signing);
        self
    }

    /// Gives no answer about a name.
    pub fn timeout(&self, name: &str) -> &Self {
        self.fault(name, None, Fault::Timeout)
    }

    /// Gives no answer about one type of record of a name.
    pub fn timeout_of(&self, name: &str, kind: RecordType) -> &Self {
        self.fault(name, Some(kind), Fault::Timeout)
    }

    /// Says SERVFAIL about a name.
    pub fn servfail(&self, name: &str) -> &Self {
        self.fault(name, None, Fault::Code(ResponseCode::ServFail))
    }

    /// Says SERVFAIL about one type of record of a name.
    pub fn servfail_of(&self, name: &str, kind: RecordType) -> &Self {
        self.fault(name, Some(kind), Fault::Code(ResponseCode::ServFail))
    }

    /// Says REFUSED about a name.
    pub fn refused(&self, name: &str) -> &Self {
        self.fault(name, None, Fault::Code(ResponseCode::Refused))
    }

    /// Cuts every answer about a name off over UDP; TCP has it whole.
    pub fn truncated(&self, name: &str) -> &Self {
        self.fault(name, None, Fault::Truncated)
    }

    /// Makes a name an alias of an alias of itself.
    pub fn cname_loop(&self, name: &str) -> &Self {
        let other = format!("loop.{name}");
        self.cname(name, &other).cname(&other, name)
    }

    /// How long its answers may be kept from now on, in seconds: records, and the answer that there is none. At first
    /// 60 and 0.
    pub fn keep_for(&self, records_secs: u32, nothing_secs: u32) -> &Self {
        self.shared.ttl_secs.store(records_secs, Ordering::SeqCst);
        self.shared
            .negative_ttl_secs
            .store(nothing_secs, Ordering::SeqCst);
        self
    }

    /// How often it was asked for records of this type and name so far, over UDP and TCP.
    pub fn asked(&self, name: &str, kind: RecordType) -> usize {
        let table = self.shared.table.lock();
        table.asked.get(&(key(name), kind)).copied().unwrap_or(0)
    }

    /// How often it was asked anything so far.
    pub fn asked_in_all(&self) -> usize {
        self.shared.table.lock().asked.values().sum()
    }

    fn fault(&self, name: &str, kind: Option<RecordType>, fault: Fault) -> &Self {
        let key = (key(name), kind);
        self.shared.table.lock().faults.insert(key, fault);
        self
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        for stream in self.shared.table.lock().streams.drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
        // Wakes the threads that wait, which then see that they are to stop.
        if let Ok(socket) = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)) {
            let _ = socket.send_to(&[], self.address);
        }
        let _ = TcpStream::connect(self.address);
    }
}

fn bind() -> io::Result<(UdpSocket, TcpListener)> {
    let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    Ok((UdpSocket::bind(tcp.local_addr()?)?, tcp))
}

/// A name as the table keeps it.
fn key(name: &str) -> String {
    let name = name.strip_suffix('.').unwrap_or(name);
    name.to_ascii_lowercase()
}

fn key_of(name: &Name) -> String {
    let labels: Vec<_> = name.iter().map(String::from_utf8_lossy).collect();
    labels.join(".").to_ascii_lowercase()
}

/// A name as messages carry it.
fn wire(name: &str) -> Name {
    let name = name.strip_suffix('.').unwrap_or(name);
    let labels = name.split('.').filter(|label| !label.is_empty());
    let mut name = Name::from_labels(labels.map(str::as_bytes)).expect("a name of a test");
    name.set_fqdn(true);
    name
}

fn serve_datagrams(socket: &UdpSocket, shared: &Shared) {
    let mut buffer = [0; 4096];
    loop {
        let received = socket.recv_from(&mut buffer);
        if shared.stopped.load(Ordering::SeqCst) {
            return;
        }
        let Ok((length, peer)) = received else {
            continue;
        };
        let query = buffer.get(..length).unwrap_or_default();
        if let Some(answer) = shared.answer(query, true) {
            let _ = socket.send_to(&answer, peer);
        }
    }
}

fn serve_streams(listener: &TcpListener, shared: &Arc<Shared>) {
    for stream in listener.incoming() {
        if shared.stopped.load(Ordering::SeqCst) {
            return;
        }
        let Ok(stream) = stream else { continue };
        let Ok(copy) = stream.try_clone() else {
            continue;
        };
        shared.table.lock().streams.push(copy);
        let shared = Arc::clone(shared);
        // A stream ends with an error; there is nobody to tell.
        thread::spawn(move || serve_stream(stream, &shared));
    }
}

fn serve_stream(mut stream: TcpStream, shared: &Shared) -> io::Result<()> {
    while !shared.stopped.load(Ordering::SeqCst) {
        let mut length = [0; 2];
        stream.read_exact(&mut length)?;
        let mut query = vec![0; usize::from(u16::from_be_bytes(length))];
        stream.read_exact(&mut query)?;
        if let Some(answer) = shared.answer(&query, false) {
            let length = u16::try_from(answer.len()).map_err(io::Error::other)?;
            let mut framed = length.to_be_bytes().to_vec();
            framed.extend_from_slice(&answer);
            stream.write_all(&framed)?;
        }
    }
    Ok(())
}

impl Shared {
    /// The answer to a query as it came, `None` for silence.
    fn answer(&self, query: &[u8], datagram: bool) -> Option<Vec<u8>> {
        let query = Message::from_vec(query).ok()?;
        let question = query.queries.first()?;
        let asked = (key_of(question.name()), question.query_type());
        let mut response = Message::response(query.metadata.id, OpCode::Query);
        response.metadata.recursion_desired = query.metadata.recursion_desired;
        response.metadata.recursion_available = true;
        response.add_query(question.clone());
        let fault = {
            let mut table = self.table.lock();
            *table.asked.entry(asked.clone()).or_default() += 1;
            let fault = table.fault_of(&asked);
            match fault {
                Some(Fault::Timeout) => return None,
                Some(Fault::Code(code)) => response.metadata.response_code = code,
                Some(Fault::Truncated) | None if !table.zones.is_empty() => {
                    table.zones.ttl_secs = self.ttl_secs.load(Ordering::SeqCst);
                    table.zones.negative_ttl_secs = self.negative_ttl_secs.load(Ordering::SeqCst);
                    let wants_proof = query.edns.as_ref().is_some_and(|e| e.flags().dnssec_ok);
                    let answering = Answering {
                        table: &table,
                        zones: &table.zones,
                        wants_proof,
                    };
                    answering.fill(&mut response, question.name(), asked.1);
                }
                Some(Fault::Truncated) | None => {
                    self.fill(&mut response, &table, question.name(), asked.1);
                }
            }
            fault
        };
        let bytes = response.to_vec().ok()?;
        let too_long = bytes.len() > usize::from(query.max_payload());
        if datagram && (too_long || fault == Some(Fault::Truncated)) {
            return response.truncate().to_vec().ok();
        }
        Some(bytes)
    }

    /// Puts in the records of a name, those of what it is an alias of behind it, or the news that there are none.
    fn fill(&self, response: &mut Message, table: &Table, asked: &Name, kind: RecordType) {
        let ttl = self.ttl_secs.load(Ordering::SeqCst);
        let mut name = asked.clone();
        for _ in 0..ALIASES_MAX {
            let here = key_of(&name);
            if let Some(records) = table.records.get(&(here.clone(), kind)) {
                for data in records {
                    response.add_answer(Record::from_rdata(name.clone(), ttl, data.clone()));
                }
                return;
            }
            let Some(target) = table.alias(&here) else {
                if !table.exists(&here) {
                    response.metadata.response_code = ResponseCode::NXDomain;
                }
                let soa = self.start_of_authority(&name);
                response.add_authority(soa);
                return;
            };
            let alias = RData::CNAME(CNAME(target.clone()));
            response.add_answer(Record::from_rdata(name, ttl, alias));
            let turns = response
                .answers
                .iter()
                .any(|answer| key_of(&answer.name) == key_of(&target));
            if turns {
                return;
            }
            name = target;
        }
    }

    fn start_of_authority(&self, name: &Name) -> Record {
        let ttl = self.negative_ttl_secs.load(Ordering::SeqCst);
        let (server, person) = (wire("ns.test"), wire("hostmaster.test"));
        let soa = SOA::new(server, person, 1, 3600, 600, 86_400, ttl);
        Record::from_rdata(name.base_name(), ttl, RData::SOA(soa))
    }
}

impl Table {
    fn fault_of(&self, (name, kind): &(String, RecordType)) -> Option<Fault> {
        let one = self.faults.get(&(name.clone(), Some(*kind)));
        one.or_else(|| self.faults.get(&(name.clone(), None)))
            .copied()
    }

    fn alias(&self, name: &str) -> Option<Name> {
        let records = self.records.get(&(name.to_owned(), RecordType::CNAME))?;
        match records.first()? {
            RData::CNAME(target) => Some(target.0.clone()),
            _ => None,
        }
    }

    /// Whether a name has records of any type, or a name below it has (RFC 8020).
    fn exists(&self, name: &str) -> bool {
        self.records.keys().any(|(known, _)| {
            let above = known.strip_suffix(name);
            above.is_some_and(|above| above.is_empty() || above.ends_with('.'))
        })
    }
}
