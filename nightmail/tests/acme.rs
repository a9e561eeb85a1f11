//! Certificates of the running program: fetched from a real authority, shown by name, renewed under open connections.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod common;

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;

use common::tools::{has, run};
use common::{PATIENCE, Service, Site, eventually};
use nightmail_testbed::pebble::Pebble;
use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::Value;

/// What is fetched: the first is the server's own name.
const NAMES: &str = "mx.example.test imap.example.test";

/// A connection to the IMAP listener, from its first octet under TLS.
type Session = BufReader<StreamOwned<ClientConnection, TcpStream>>;

/// A site, the authority that it fetches from, and a client that trusts the authority.
struct Certified {
    site: Site,
    pebble: Pebble,
    client: Arc<ClientConfig>,
}

impl Certified {
    /// Started; `None` where a program is missing. `settings` are the challenge's own keys, and further sections.
    fn start(settings: impl FnOnce(&Pebble, &Path) -> String) -> Option<Self> {
        if !has("curl") {
            return None;
        }
        let pebble = Pebble::start()?;
        let mut site = Site::new("");
        let own = rcgen::generate_simple_self_signed(vec!["file.example.test".to_owned()]).unwrap();
        let (certificate, key) = (site.dir().join("file.crt"), site.dir().join("file.key"));
        std::fs::write(&certificate, own.cert.pem()).unwrap();
        std::fs::write(&key, own.signing_key.serialize_pem()).unwrap();
        let mut toml = std::fs::read_to_string(site.config()).unwrap();
        toml += &format!(
            "[tls]\nreload_interval = \"1s\"\n[[certificate]]\ncertificate = \"{}\"\nkey = \"{}\"\n\
             [acme]\ndirectory = \"{}\"\nauthorities = \"{}\"\ncertificates = [\"{NAMES}\"]\n\
             terms_agreed = true\ncontact = \"postmaster@example.test\"\n{}\n",
            certificate.display(),
            key.display(),
            pebble.directory(),
            pebble.authority().display(),
            settings(&pebble, site.dir()),
        );
        std::fs::write(site.config(), toml).unwrap();
        site.start();
        let client = client(&[root(&pebble), own.cert.der().clone()]);
        Some(Self {
            site,
            pebble,
            client,
        })
    }

    /// What `certificate list` says of what is fetched from the authority.
    fn listed(&self) -> Option<Value> {
        let listed = self.site.admin(&["certificate", "list"]);
        let from = self.pebble.directory();
        let items = listed["items"].as_array().unwrap();
        items
            .iter()
            .find(|it| it["source"] == from.as_str())
            .cloned()
    }

    /// Waits until the last attempt was good.
    fn fetched(&self) {
        eventually("a certificate is fetched", || {
            self.listed().filter(|it| it["state"] == "good")
        });
    }

    /// A session with the certificate that was shown, which the client trusts for the name.
    fn open(&self, name: &'static str) -> std::io::Result<(Session, Vec<u8>)> {
        let stream = TcpStream::connect(self.site.address(Service::Imaps))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let name = ServerName::try_from(name).unwrap();
        let tls = ClientConnection::new(Arc::clone(&self.client), name).unwrap();
        let mut session = BufReader::new(StreamOwned::new(tls, stream));
        assert!(line(&mut session)?.starts_with("* OK"));
        let shown = session.get_ref().conn.peer_certificates().unwrap()[0].to_vec();
        Ok((session, shown))
    }
}

fn line(session: &mut Session) -> std::io::Result<String> {
    let mut line = String::new();
    session.read_line(&mut line)?;
    Ok(line)
}

/// Sends a command and waits for its success.
fn say(session: &mut Session, command: &str) {
    write!(session.get_mut(), "t {command}\r\n").unwrap();
    loop {
        let line = line(session).unwrap();
        assert!(!line.is_empty(), "the connection ended");
        if let Some(answer) = line.strip_prefix("t ") {
            assert!(answer.starts_with("OK"), "{command}: {answer}");
            return;
        }
    }
}

/// Trusts these.
fn client(trusted: &[CertificateDer<'static>]) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    for certificate in trusted {
        roots.add(certificate.clone()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let mut config = config.with_no_client_auth();
    // A session that is resumed would not be shown any certificate.
    config.resumption = Resumption::disabled();
    Arc::new(config)
}

/// The root that the authority's certificates lead to.
fn root(pebble: &Pebble) -> CertificateDer<'static> {
    let url = format!("{}/roots/0", pebble.management());
    let pem = run("curl", &["-sS", "-k", "-f", "--max-time", "55", &url]).ok();
    CertificateDer::from_pem_slice(&pem.stdout).unwrap()
}

#[test]
fn a_renewal_is_shown_to_the_next_client_and_disturbs_none() {
    let http = |pebble: &Pebble, _: &Path| format!("http = \"{}\"", pebble.http());
    let Some(mut certified) = Certified::start(http) else {
        return;
    };
    certified.fetched();
    let (mut session, first) = eventually("the certificate is shown", || {
        certified.open("mx.example.test").ok()
    });
    say(&mut session, "LOGIN alice demo");
    let (_, other) = certified.open("imap.example.test").unwrap();
    assert_eq!(other, first);
    let (_, file) = certified.open("file.example.test").unwrap();
    assert_ne!(file, first, "that of a file, by its name");

    let answer = certified
        .site
        .admin(&["certificate", "renew", "imap.example.test"]);
    assert_eq!(answer["count"], 1);
    let second = eventually("another certificate is shown", || {
        let (_, shown) = certified.open("mx.example.test").ok()?;
        (shown != first).then_some(shown)
    });
    say(&mut session, "NOOP");
    say(&mut session, "SELECT INBOX");

    // It is in the store: a server that starts again has it from the first connection on, and fetches nothing.
    certified.fetched();
    drop(session);
    certified.site.stop();
    certified.site.start();
    assert_eq!(certified.open("mx.example.test").unwrap().1, second);
    let log = certified.site.log();
    assert!(!log.contains("PRIVATE KEY") && !log.contains("certificate fetched"));
}

#[test]
fn names_are_proven_in_a_handshake_of_the_program() {
    let tls = |pebble: &Pebble, _: &Path| {
        format!(
            "challenge = \"tls-alpn-01\"\ntls_alpn = \"{}\"",
            pebble.tls()
        )
    };
    let Some(certified) = Certified::start(tls) else {
        return;
    };
    certified.fetched();
    eventually("the certificate is shown", || {
        certified.open("imap.example.test").ok()
    });
}

#[test]
fn names_are_proven_by_records_that_a_hook_sets() {
    let dns = |pebble: &Pebble, _: &Path| {
        let hook = pebble.hook();
        format!("challenge = \"dns-01\"\ndns_hook = \"{}\"", hook.display())
    };
    let Some(certified) = Certified::start(dns) else {
        return;
    };
    certified.fetched();
    eventually("the certificate is shown", || {
        certified.open("imap.example.test").ok()
    });
    let log = certified.pebble.hook_log();
    for word in ["set", "remove"] {
        let call = format!("{word} _acme-challenge.imap.example.test ");
        assert!(log.contains(&call), "{log}");
    }
}

#[test]
fn an_authority_that_is_not_convinced_is_quoted_and_left_alone() {
    // Nobody answers where it asks.
    let elsewhere = |_: &Pebble, _: &Path| "http = \"127.0.0.1:0\"".to_owned();
    let Some(certified) = Certified::start(elsewhere) else {
        return;
    };
    let state = eventually("the attempt fails", || {
        let listed = certified.site.admin(&["certificate", "list"]);
        let state = listed["items"][0]["state"].as_str()?.to_owned();
        state.contains("mx.example.test: ").then_some(state)
    });
    assert!(state.starts_with("not fetched: ") && state.contains("again at "));
    // The self-signed certificate serves meanwhile, and no command is needed to go on.
    let text = certified.site.command(&["certificate", "list"]).output();
    let text = String::from_utf8(text.unwrap().stdout).unwrap();
    assert!(
        text.contains("self-signed") && text.contains("file.crt"),
        "{text}"
    );
    let none = certified.site.command(&["certificate", "renew", "no.test"]);
    let none = { none }.output().unwrap();
    assert_eq!(none.status.code(), Some(1), "{none:?}");
}
