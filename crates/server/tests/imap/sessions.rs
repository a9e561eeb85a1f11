//! Sessions: logging in, IDLE, stopping.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::harness::Server;

#[test]
fn logins_are_checked() {
    let server = Server::start();
    let mut client = server.connect();
    let tagged = client.tagged("LOGIN ann@test wrong");
    assert!(tagged.starts_with("NO [AUTHENTICATIONFAILED]"), "{tagged}");
    assert!(client.tagged("SELECT INBOX").starts_with("BAD"));
    // NUL ann@test NUL secret
    client.ok("AUTHENTICATE PLAIN AGFubkB0ZXN0AHNlY3JldA==");
    client.ok("SELECT INBOX");
    assert_eq!(client.texts("LOGOUT"), ["* BYE Logging out"]);
    assert!(client.is_closed());
}

#[test]
fn idle_tells_what_others_do_as_it_happens() {
    let server = Server::start();
    let mut idler = server.selected("INBOX");
    idler.fill("INBOX", 1);
    let tag = idler.begin(b"IDLE");
    assert!(idler.response().text.starts_with("+ "));
    let mut other = server.selected("INBOX");
    other.fill("INBOX", 1);
    assert_eq!(idler.response().text, "* 2 EXISTS");
    assert_eq!(idler.response().text, "* 2 RECENT");
    server.deliver(b"X: y\r\n", b"Subject: third\r\n\r\n");
    assert_eq!(idler.response().text, "* 3 EXISTS");
    assert_eq!(idler.response().text, "* 3 RECENT");
    other.ok("STORE 1 +FLAGS.SILENT (\\Deleted $New)");
    assert!(idler.response().text.starts_with("* FLAGS ("));
    assert!(idler.response().text.starts_with("* OK [PERMANENTFLAGS"));
    assert_eq!(
        idler.response().text,
        "* 1 FETCH (UID 1 FLAGS (\\Deleted $New \\Recent))"
    );
    other.ok("EXPUNGE");
    assert_eq!(idler.response().text, "* 1 EXPUNGE");
    idler.send(b"DONE\r\n");
    assert_eq!(idler.finish(&tag).len(), 1);
    assert_eq!(
        idler.texts("FETCH 1:* UID"),
        ["* 1 FETCH (UID 2)", "* 2 FETCH (UID 3)"]
    );
}

#[test]
fn what_happens_before_idle_is_told_when_it_begins() {
    let server = Server::start();
    let mut idler = server.selected("INBOX");
    server.deliver(b"", b"Subject: early\r\n\r\n");
    idler.begin(b"IDLE");
    let texts: Vec<_> = (0..3).map(|_| idler.response().text).collect();
    assert!(texts.contains(&"* 1 EXISTS".to_owned()), "{texts:?}");
}

#[test]
fn pipelined_commands_are_answered_in_order() {
    let server = Server::start();
    let mut client = server.client();
    client.fill("INBOX", 2);
    client.send(
        b"a SELECT INBOX\r\nb FETCH 1:2 BODY.PEEK[]\r\nc STORE 1 +FLAGS (\\Deleted)\r\nd EXPUNGE\r\n\
          e SEARCH ALL\r\nf CLOSE\r\ng NOOP\r\n",
    );
    for tag in ["a", "b", "c", "d", "e", "f", "g"] {
        let responses = client.finish(tag);
        assert!(
            responses.last().unwrap().text.starts_with("OK"),
            "{tag}: {responses:?}"
        );
    }
}

#[test]
fn literals_of_both_kinds_are_taken() {
    let server = Server::start();
    let mut client = server.connect();
    client.send(b"a LOGIN {8}\r\n");
    assert!(client.response().text.starts_with("+ "));
    client.send(b"ann@test {6+}\r\nsecret\r\n");
    assert!(client.finish("a").last().unwrap().text.starts_with("OK"));
    client.send(b"b STATUS {5+}\r\nINBOX (MESSAGES)\r\n");
    let responses = client.finish("b");
    assert_eq!(responses[0].text, "* STATUS INBOX (MESSAGES 0)");
}

#[test]
fn a_stopping_server_says_goodbye() {
    let server = Server::start();
    let mut idler = server.selected("INBOX");
    idler.begin(b"IDLE");
    assert!(idler.response().text.starts_with("+ "));
    let mut waiting = server.client();
    server.stopper.drain();
    for client in [&mut idler, &mut waiting] {
        assert!(client.response().text.starts_with("* BYE [UNAVAILABLE]"));
        assert!(client.is_closed());
    }
}

fn tls_client(server: &Server, stream: TcpStream) -> StreamOwned<ClientConnection, TcpStream> {
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
    let name = ServerName::try_from("mx.test").unwrap();
    StreamOwned::new(
        ClientConnection::new(Arc::new(config), name).unwrap(),
        stream,
    )
}

#[test]
fn passwords_are_taken_under_tls_only_and_plaintext_behind_starttls_is_dropped() {
    let server = Server::strict();
    let mut plain = server.connect();
    let capabilities = plain.texts("CAPABILITY");
    assert!(
        capabilities[0].contains(" STARTTLS LOGINDISABLED"),
        "{capabilities:?}"
    );
    let tagged = plain.tagged("LOGIN ann@test secret");
    assert!(tagged.starts_with("NO [PRIVACYREQUIRED]"), "{tagged}");

    let stream = TcpStream::connect(server.address).unwrap();
    stream
        .set_read_timeout(Some(std::time::Duration::from_secs(20)))
        .unwrap();
    let mut greeting = BufReader::new(&stream);
    let mut line = String::new();
    greeting.read_line(&mut line).unwrap();
    // What follows in clear must have no effect.
    (&stream).write_all(b"a STARTTLS\r\nb NOOP\r\n").unwrap();
    let mut answer = [0; 14];
    (&stream).read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"a OK Begin TLS");
    (&stream).read_exact(&mut [0; 2]).unwrap();
    let mut secure = BufReader::new(tls_client(&server, stream));
    secure
        .get_mut()
        .write_all(b"c CAPABILITY\r\nd LOGIN ann@test secret\r\ne SELECT INBOX\r\n")
        .unwrap();
    let mut lines = Vec::new();
    while !lines.iter().any(|line: &String| line.starts_with("e ")) {
        let mut line = String::new();
        secure.read_line(&mut line).unwrap();
        lines.push(line);
    }
    assert!(
        !lines.iter().any(|line| line.starts_with("b ")),
        "{lines:?}"
    );
    assert!(!lines[0].contains("STARTTLS") && lines[0].contains("AUTH=PLAIN"));
    assert!(
        lines.iter().any(|line| line.starts_with("d OK")),
        "{lines:?}"
    );
    assert!(
        lines.iter().any(|line| line.starts_with("e OK")),
        "{lines:?}"
    );
}
