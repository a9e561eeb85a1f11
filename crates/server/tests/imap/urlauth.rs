//! URLs: in CATENATE, vouched for, fetched by others, made void.

use super::harness::{Client, Server};

const MESSAGE: &[u8] =
    b"Subject: report\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=x\r\n\r\n\
    --x\r\nContent-Type: text/plain\r\n\r\nfirst part\r\n--x\r\n\r\nsecond\r\n--x--\r\n";

fn client_with_message(server: &Server) -> Client {
    let mut client = server.client();
    client.ok("CREATE Drafts/A");
    let answer = client.append("Drafts/A", MESSAGE);
    assert!(answer.last().unwrap().text.starts_with("OK"), "{answer:?}");
    client
}

/// Vouches for a URL.
fn authorized(client: &mut Client, rump: &str) -> String {
    let texts = client.texts(&format!("GENURLAUTH \"{rump}\" INTERNAL"));
    let url = texts[0].strip_prefix("* GENURLAUTH \"").unwrap();
    let url = url.strip_suffix('"').unwrap();
    assert!(url.starts_with(&format!("{rump}:internal:")), "{url}");
    url.to_owned()
}

/// What a URL names.
fn fetched(client: &mut Client, url: &str) -> Option<Vec<u8>> {
    let responses = client.ok(&format!("URLFETCH \"{url}\""));
    let response = &responses[0];
    assert!(response.text.starts_with("* URLFETCH "), "{response:?}");
    match response.text.ends_with(" NIL") {
        true => None,
        false => Some(response.literal().to_vec()),
    }
}

#[test]
fn a_message_is_put_together_from_parts_of_others() {
    let server = Server::start();
    let mut client = client_with_message(&server);
    client.ok("SELECT Drafts/A");
    let parts = "APPEND INBOX (\\Seen) CATENATE (URL \"/Drafts/A/;UID=1/;SECTION=HEADER.FIELDS%20(Subject)\" \
        TEXT {8+}\r\nbefore\r\n URL \";UID=1/;section=1\" TEXT {2+}\r\n\r\n URL \"/Drafts/A/;uid=1/;section=TEXT/;partial=2.5\")";
    let answer = client.tagged(parts);
    assert!(answer.starts_with("OK [APPENDUID "), "{answer}");
    client.ok("SELECT INBOX");
    let message = client.section(1, "");
    let wanted = "Subject: report\r\n\r\nbefore\r\nfirst part\r\nx\r\nCo";
    assert_eq!(String::from_utf8(message).unwrap(), wanted);
}

#[test]
fn a_long_part_is_passed_through() {
    let server = Server::start();
    let mut client = server.client();
    let body = b"0123456789abcdef".repeat(100_000);
    let message = [b"Subject: long\r\n\r\n".as_slice(), &body].concat();
    client.append("INBOX", &message);
    let answer = client.tagged(
        "APPEND INBOX CATENATE (TEXT {4+}\r\n\r\n\r\n URL /INBOX/;UID=1/;SECTION=TEXT URL /INBOX/;UID=1)",
    );
    assert!(answer.starts_with("OK"), "{answer}");
    client.ok("SELECT INBOX");
    let wanted = [b"\r\n\r\n".as_slice(), &body, &message].concat();
    assert!(client.section(2, "") == wanted);
}

#[test]
fn a_url_that_names_nothing_appends_nothing() {
    let server = Server::start();
    let mut client = client_with_message(&server);
    for url in [
        "/Drafts/A/;UID=9",
        "/Drafts/B/;UID=1",
        "/Drafts/A;UIDVALIDITY=1/;UID=1",
        "/Drafts/A/;UID=1/;SECTION=7",
        "imap://bob@mx.test/Drafts/A/;UID=1",
        "nonsense",
        ";UID=1",
    ] {
        let command = format!("APPEND INBOX CATENATE (TEXT {{5+}}\r\nhello URL \"{url}\")");
        let answer = client.tagged(&command);
        assert!(
            answer.starts_with(&format!("NO [BADURL \"{url}\"]")),
            "{answer}"
        );
    }
    assert_eq!(
        client.texts("STATUS INBOX (MESSAGES)"),
        ["* STATUS INBOX (MESSAGES 0)"]
    );
}

#[test]
fn others_read_what_was_vouched_for_until_the_key_is_reset() {
    let server = Server::start();
    server.add("bob@test");
    let mut ann = client_with_message(&server);
    let rump = "imap://ann%40test@mx.test/Drafts/A/;uid=1/;section=1;urlauth=user+bob%40test";
    let url = authorized(&mut ann, rump);
    let mut bob = server.client_of("bob@test");
    assert_eq!(fetched(&mut bob, &url).as_deref(), Some(&b"first part"[..]));
    assert_eq!(fetched(&mut ann, &url), None, "it is for bob alone");
    let forged = url.replace("section=1", "section=2");
    assert_eq!(fetched(&mut bob, &forged), None);
    let answer = bob.tagged(&format!("APPEND INBOX CATENATE (URL \"{url}\")"));
    assert!(answer.starts_with("OK"), "{answer}");
    ann.ok("RESETKEY Drafts/A");
    assert_eq!(fetched(&mut bob, &url), None);
    let again = authorized(&mut ann, rump);
    assert_ne!(url, again);
    assert!(fetched(&mut bob, &again).is_some());
    ann.ok("RESETKEY");
    assert_eq!(fetched(&mut bob, &again), None);
}

#[test]
fn a_url_is_good_for_those_it_names_and_until_its_time() {
    let server = Server::start();
    server.add("bob@test");
    let mut ann = client_with_message(&server);
    let mut bob = server.client_of("bob@test");
    let base = "imap://ann%40test@mx.test/Drafts/A/;uid=1";
    for (end, good) in [
        (";urlauth=anonymous", true),
        (";URLAUTH=authuser", true),
        (";urlauth=submit+bob%40test", false),
        (";expire=2099-01-01T00:00:00Z;urlauth=anonymous", true),
        (";expire=2009-01-01T00:00:00Z;urlauth=anonymous", false),
    ] {
        let url = authorized(&mut ann, &format!("{base}{end}"));
        assert_eq!(fetched(&mut bob, &url).is_some(), good, "{end}");
    }
    ann.ok("DELETE Drafts/A");
    let url = format!("{base};urlauth=anonymous:internal:00");
    assert_eq!(fetched(&mut bob, &url), None);
}

#[test]
fn nobody_vouches_for_what_is_not_theirs() {
    let server = Server::start();
    server.add("bob@test");
    let mut bob = server.client_of("bob@test");
    client_with_message(&server);
    for rump in [
        "imap://ann%40test@mx.test/Drafts/A/;uid=1;urlauth=anonymous",
        "imap://bob%40test@mx.test/Drafts/A/;uid=1;urlauth=anonymous",
        "/INBOX/;uid=1;urlauth=anonymous",
    ] {
        let answer = bob.tagged(&format!("GENURLAUTH \"{rump}\" INTERNAL"));
        assert!(answer.starts_with("NO "), "{answer}");
    }
}
