//! A web server over TLS for tests: it has pages for any number of names, a certificate for whichever is asked for, and
//! notes what it was asked.
//!
//! Certificates come from an authority of its own, and are wrong where that is wanted. Its threads end with it.

#![expect(
    clippy::expect_used,
    reason = "a test that cannot listen must end, as tests do"
)]

use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use parking_lot::Mutex;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// Octets of a request's head.
const HEAD_OCTETS_MAX: u64 = 64 * 1024;

/// What is wrong with the certificate that is shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum CertificateFault {
    /// Nothing: it is for the name that the client asks for, and from the server's authority.
    #[default]
    None,
    /// It is for another name.
    OtherName,
    /// It has run out.
    Expired,
    /// Its authority is one that nobody knows.
    OtherAuthority,
}

/// What is answered to a request.
#[derive(Clone, Debug)]
pub struct Page {
    /// The status, such as 200.
    pub status: u16,
    /// Header fields beside the length.
    pub fields: Vec<(String, String)>,
    /// The content.
    pub body: Vec<u8>,
    /// Whether the content never ends: its last octet is not sent.
    pub stalls: bool,
}

impl Page {
    /// A page of plain text.
    pub fn text(body: &str) -> Self {
        Self {
            status: 200,
            fields: vec![("Content-Type".to_owned(), "text/plain".to_owned())],
            body: body.as_bytes().to_vec(),
            stalls: false,
        }
    }
}

/// A request as it came.
#[derive(Clone, Debug)]
pub struct PageRequest {
    /// The method, such as `GET`.
    pub method: String,
    /// The name asked for, without the port.
    pub host: String,
    /// The path with its query.
    pub path: String,
    /// The media type of the content; empty where there is none.
    pub media_type: String,
    /// The content.
    pub body: Vec<u8>,
}

struct Shared {
    pages: Mutex<HashMap<(String, String), Page>>,
    requests: Mutex<Vec<PageRequest>>,
    streams: Mutex<Vec<TcpStream>>,
    fault: Mutex<CertificateFault>,
    stopped: AtomicBool,
    authority: Issuer<'static, KeyPair>,
    unknown: Issuer<'static, KeyPair>,
}

/// A web server on a loopback port. It answers 404 where it has no page.
pub struct HttpsServer {
    address: SocketAddr,
    authority: CertificateDer<'static>,
    shared: Arc<Shared>,
}

impl HttpsServer {
    /// A server without pages.
    ///
    /// # Panics
    ///
    /// When no port can be listened on.
    pub fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let address = listener.local_addr().expect("a bound port has an address");
        let (certificate, authority) = authority();
        let shared = Arc::new(Shared {
            pages: Mutex::default(),
            requests: Mutex::default(),
            streams: Mutex::default(),
            fault: Mutex::default(),
            stopped: AtomicBool::new(false),
            authority,
            unknown: self::authority().1,
        });
        let serving = Arc::clone(&shared);
        thread::spawn(move || serve(&listener, &serving));
        Self {
            address,
            authority: certificate,
            shared,
        }
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The certificate of its authority.
    pub fn authority(&self) -> CertificateDer<'static> {
        self.authority.clone()
    }

    /// Answers requests for a path of a name with this page from now on.
    pub fn page(&self, host: &str, path: &str, page: Page) -> &Self {
        let key = (host.to_ascii_lowercase(), path.to_owned());
        self.shared.pages.lock().insert(key, page);
        self
    }

    /// Shows such certificates from now on.
    pub fn certificates(&self, fault: CertificateFault) -> &Self {
        *self.shared.fault.lock() = fault;
        self
    }

    /// The requests so far.
    pub fn requests(&self) -> Vec<PageRequest> {
        self.shared.requests.lock().clone()
    }
}

impl Drop for HttpsServer {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        for stream in self.shared.streams.lock().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
        // Wakes the thread that waits, which then sees that it is to stop.
        let _ = TcpStream::connect(self.address);
    }
}

fn authority() -> (CertificateDer<'static>, Issuer<'static, KeyPair>) {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().expect("a key");
    let certificate = params.self_signed(&key).expect("a certificate");
    (certificate.der().clone(), Issuer::new(params, key))
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

/// Makes the certificate of each handshake.
#[derive(Debug)]
struct Issue(Arc<Shared>);

impl ResolvesServerCert for Issue {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let fault = *self.0.fault.lock();
        let name = match fault {
            CertificateFault::OtherName => "other.test",
            _ => hello.server_name().unwrap_or("unnamed.test"),
        };
        let mut params = CertificateParams::new(vec![name.to_owned()]).ok()?;
        if fault == CertificateFault::Expired {
            params.not_before = date_time_ymd(2019, 1, 1);
            params.not_after = date_time_ymd(2020, 1, 1);
        }
        let issuer = match fault {
            CertificateFault::OtherAuthority => &self.0.unknown,
            _ => &self.0.authority,
        };
        let key = KeyPair::generate().ok()?;
        let certificate = params.signed_by(&key, issuer).ok()?;
        let key = PrivatePkcs8KeyDer::from(key.serialize_der());
        let key = aws_lc_rs::sign::any_supported_type(&key.into()).ok()?;
        let chain = vec![certificate.der().clone()];
        Some(Arc::new(CertifiedKey::new(chain, key)))
    }
}

fn serve(listener: &TcpListener, shared: &Arc<Shared>) {
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("the usual versions")
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(Issue(Arc::clone(shared))));
    let config = Arc::new(config);
    for stream in listener.incoming() {
        if shared.stopped.load(Ordering::SeqCst) {
            return;
        }
        let Ok(stream) = stream else { continue };
        let Ok(copy) = stream.try_clone() else {
            continue;
        };
        shared.streams.lock().push(copy);
        let (shared, config) = (Arc::clone(shared), Arc::clone(&config));
        // A connection ends with an error; there is nobody to tell.
        thread::spawn(move || converse(stream, config, &shared));
    }
}

/// Answers one request.
fn converse(stream: TcpStream, config: Arc<ServerConfig>, shared: &Shared) -> io::Result<()> {
    let connection = ServerConnection::new(config).map_err(io::Error::other)?;
    let mut reader = BufReader::new(StreamOwned::new(connection, stream));
    let request = read_request(&mut reader)?;
    let key = (request.host.clone(), request.path.clone());
    shared.requests.lock().push(request);
    let page = shared.pages.lock().get(&key).cloned();
    let page = page.unwrap_or_else(|| Page {
        status: 404,
        ..Page::text("not here")
    });
    let mut head = format!("HTTP/1.1 {} -\r\nConnection: close\r\n", page.status);
    for (name, value) in &page.fields {
        head += &format!("{name}: {value}\r\n");
    }
    head += &format!("Content-Length: {}\r\n\r\n", page.body.len());
    let stream = reader.get_mut();
    stream.write_all(head.as_bytes())?;
    let kept_back = usize::from(page.stalls);
    let sent = page.body.len().saturating_sub(kept_back);
    stream.write_all(page.body.get(..sent).unwrap_or_default())?;
    stream.flush()?;
    if page.stalls {
        // Until the client has enough of it, or the server ends.
        let _ = stream.read(&mut [0]);
        return Ok(());
    }
    stream.conn.send_close_notify();
    stream.flush()
}

fn read_request(reader: &mut impl BufRead) -> io::Result<PageRequest> {
    let mut lines = Vec::new();
    let mut head = reader.by_ref().take(HEAD_OCTETS_MAX).lines();
    while let Some(line) = head.next().transpose()? {
        if line.is_empty() {
            break;
        }
        lines.push(line);
    }
    let first = lines.first().map(String::as_str).unwrap_or_default();
    let mut words = first.split(' ').map(str::to_owned);
    let (method, path) = (words.next(), words.next());
    let field = |wanted: &str| {
        let mut fields = lines.iter().filter_map(|line| line.split_once(':'));
        let found = fields.find(|(name, _)| name.eq_ignore_ascii_case(wanted));
        found
            .map(|(_, value)| value.trim().to_owned())
            .unwrap_or_default()
    };
    let host = field("host").to_ascii_lowercase();
    let mut body = vec![0; field("content-length").parse().unwrap_or(0)];
    let media_type = field("content-type");
    reader.read_exact(&mut body)?;
    Ok(PageRequest {
        method: method.unwrap_or_default(),
        host: host.split(':').next().unwrap_or_default().to_owned(),
        path: path.unwrap_or_default(),
        media_type,
        body,
    })
}
