//! FETCH: sections of nested messages, partial fetches, fields that delivery added.

use crate::harness::Server;

const INNER: &str = "From: inner@x\r\nSubject: inside\r\n\r\nInner text.\r\n";
const NESTED_HEADER: &str = "From: a@b\r\nTo: c@d\r\nSubject: nested\r\nMIME-Version: 1.0\r\n\
    Content-Type: multipart/mixed; boundary=cut\r\n\r\n";

fn nested() -> String {
    format!(
        "{NESTED_HEADER}preamble\r\n--cut\r\nContent-Type: text/plain\r\n\r\nFirst part.\r\n--cut\r\n\
         Content-Type: message/rfc822\r\nContent-Description: it\r\n\r\n{INNER}\r\n--cut--\r\n"
    )
}

#[test]
fn sections_of_a_nested_message_are_its_octets() {
    let server = Server::start();
    let mut client = server.selected("INBOX");
    let message = nested();
    client.append("INBOX", message.as_bytes());
    for (section, expected) in [
        ("", message.as_str()),
        ("HEADER", NESTED_HEADER),
        ("TEXT", &message[NESTED_HEADER.len()..]),
        ("1", "First part."),
        ("1.MIME", "Content-Type: text/plain\r\n\r\n"),
        ("2", INNER),
        (
            "2.MIME",
            "Content-Type: message/rfc822\r\nContent-Description: it\r\n\r\n",
        ),
        ("2.HEADER", "From: inner@x\r\nSubject: inside\r\n\r\n"),
        ("2.TEXT", "Inner text.\r\n"),
        ("2.1", "Inner text.\r\n"),
        ("2.HEADER.FIELDS (subject)", "Subject: inside\r\n\r\n"),
        ("2.HEADER.FIELDS.NOT (subject)", "From: inner@x\r\n\r\n"),
        ("HEADER.FIELDS (to from)", "From: a@b\r\nTo: c@d\r\n\r\n"),
    ] {
        let fetched = client.section(1, section);
        assert_eq!(String::from_utf8_lossy(&fetched), expected, "{section}");
    }
    let texts = client.texts("FETCH 1 (BODY.PEEK[3] BODY.PEEK[1.2] BODY.PEEK[1.HEADER])");
    assert_eq!(
        texts,
        ["* 1 FETCH (BODY[3] NIL BODY[1.2] NIL BODY[1.HEADER] NIL)"]
    );
}

#[test]
fn partial_fetches_cut_what_is_there() {
    let server = Server::start();
    let mut client = server.selected("INBOX");
    let message = nested();
    client.append("INBOX", message.as_bytes());
    let mut partial = |range: &str| {
        let responses = client.ok(&format!("FETCH 1 BODY.PEEK[]<{range}>"));
        (responses[0].text.clone(), responses[0].literal().to_vec())
    };
    let (text, octets) = partial("5.10");
    assert_eq!(text, "* 1 FETCH (BODY[]<5> {10})");
    assert_eq!(octets, message.as_bytes()[5..15]);
    let (_, rest) = partial("100.100000");
    assert_eq!(rest, message.as_bytes()[100..]);
    let (text, nothing) = partial("100000.5");
    assert_eq!(text, "* 1 FETCH (BODY[]<100000> {0})");
    assert!(nothing.is_empty());
}

#[test]
fn what_delivery_put_before_a_message_is_part_of_it() {
    let server = Server::start();
    let prefix =
        "Return-Path: <x@y>\r\nDate: Tue, 14 Nov 2023 22:13:20 +0000\r\nMessage-ID: <1@mx>\r\n";
    let message = nested();
    server.deliver(prefix.as_bytes(), message.as_bytes());
    let mut client = server.selected("INBOX");
    assert_eq!(
        client.section(1, ""),
        [prefix, &message].concat().as_bytes()
    );
    assert_eq!(
        client.section(1, "HEADER"),
        [prefix, NESTED_HEADER].concat().as_bytes()
    );
    assert_eq!(
        client.section(1, "TEXT"),
        message.as_bytes()[NESTED_HEADER.len()..]
    );
    assert_eq!(client.section(1, "2"), INNER.as_bytes());
    assert_eq!(
        client.section(1, "HEADER.FIELDS (Return-Path Subject)"),
        b"Return-Path: <x@y>\r\nSubject: nested\r\n\r\n"
    );
    let straddling = client.ok("FETCH 1 BODY.PEEK[]<10.200>");
    assert_eq!(
        straddling[0].literal(),
        &[prefix, &message].concat().as_bytes()[10..210]
    );
    let texts = client.texts("FETCH 1 (RFC822.SIZE ENVELOPE)");
    let octets = prefix.len() + message.len();
    assert!(
        texts[0].contains(&format!("RFC822.SIZE {octets} ")),
        "{texts:?}"
    );
    let date = "ENVELOPE (\"Tue, 14 Nov 2023 22:13:20 +0000\" \"nested\" ";
    assert!(texts[0].contains(date), "{texts:?}");
    assert!(texts[0].contains("\"<1@mx>\""), "{texts:?}");
    assert_eq!(
        client.texts("SEARCH SENTON 14-Nov-2023 HEADER Return-Path x@y"),
        ["* SEARCH 1"]
    );
}

#[test]
fn a_delivered_message_without_a_header_can_be_read() {
    let server = Server::start();
    server.deliver(b"Return-Path: <>\r\n", b"");
    server.deliver(b"", b"");
    server.deliver(b"Return-Path: <>\r\n", b"no header");
    let mut client = server.selected("INBOX");
    assert_eq!(client.section(1, ""), b"Return-Path: <>\r\n");
    assert_eq!(client.section(2, ""), b"");
    let parts = [client.section(3, "HEADER"), client.section(3, "TEXT")];
    assert_eq!(parts.concat(), b"Return-Path: <>\r\nno header");
    assert_eq!(
        client
            .ok("FETCH 1:* (ENVELOPE BODYSTRUCTURE BODY[TEXT])")
            .len(),
        3
    );
}

#[test]
fn structure_is_told_as_the_message_has_it() {
    let server = Server::start();
    let mut client = server.selected("INBOX");
    client.append("INBOX", nested().as_bytes());
    let texts = client.texts("FETCH 1 (BODY UID)");
    let inner = "(NIL \"inside\" ((NIL NIL \"inner\" \"x\")) ((NIL NIL \"inner\" \"x\")) \
        ((NIL NIL \"inner\" \"x\")) NIL NIL NIL NIL NIL)";
    let expected = format!(
        "* 1 FETCH (BODY ((\"text\" \"plain\" (\"charset\" \"us-ascii\") NIL NIL \"7bit\" 11 0)\
         (\"message\" \"rfc822\" NIL NIL \"it\" \"7bit\" {} {inner} (\"text\" \"plain\" \
         (\"charset\" \"us-ascii\") NIL NIL \"7bit\" 13 1) 4) \"mixed\") UID 1)",
        INNER.len()
    );
    assert_eq!(texts, [expected]);
}

#[test]
fn reading_marks_as_seen_unless_it_peeks_or_examines() {
    let server = Server::start();
    let mut client = server.selected("INBOX");
    client.fill("INBOX", 3);
    client.ok("FETCH 1 (BODY.PEEK[] RFC822.HEADER)");
    assert_eq!(client.texts("SEARCH SEEN"), ["* SEARCH"]);
    let fetched = client.texts("FETCH 1:2 BODY[TEXT]");
    assert_eq!(
        fetched[1],
        "* 2 FETCH (BODY[TEXT] {9} FLAGS (\\Seen \\Recent))"
    );
    assert_eq!(client.texts("NOOP"), Vec::<String>::new(), "not told twice");
    assert_eq!(client.texts("SEARCH SEEN"), ["* SEARCH 1 2"]);
    let fetched = client.texts("FETCH 2 BODY[TEXT]");
    assert_eq!(fetched, ["* 2 FETCH (BODY[TEXT] {9})"]);
    client.ok("EXAMINE INBOX");
    client.ok("FETCH 3 BODY[]");
    assert_eq!(client.texts("SEARCH SEEN"), ["* SEARCH 1 2"]);
    assert!(
        client
            .tagged("STORE 3 +FLAGS (\\Seen)")
            .starts_with("NO [READ-ONLY]")
    );
}

#[test]
fn many_messages_come_in_order_and_whole() {
    let server = Server::start();
    let mut client = server.selected("INBOX");
    for number in 0..1100 {
        let message = format!("Subject: {number}\r\n\r\n{}\r\n", "x".repeat(number));
        server.deliver(b"X-Prefix: y\r\n", message.as_bytes());
    }
    client.ok("NOOP");
    let fetched = client.ok("FETCH 1:* (UID BODY.PEEK[])");
    assert_eq!(fetched.len(), 1100);
    for (number, response) in fetched.iter().enumerate() {
        let seq = number + 1;
        assert!(
            response
                .text
                .starts_with(&format!("* {seq} FETCH (UID {seq} "))
        );
        let text = String::from_utf8_lossy(response.literal());
        assert!(text.starts_with(&format!("X-Prefix: y\r\nSubject: {number}\r\n\r\n")));
        assert!(text.ends_with(&format!("\n{}\r\n", "x".repeat(number))));
    }
    let flags = client.texts("UID FETCH 5,1000:1003,7 FLAGS");
    assert_eq!(flags.len(), 6);
    assert!(
        flags[5].starts_with("* 1003 FETCH (UID 1003 FLAGS ("),
        "{flags:?}"
    );
}

#[test]
fn a_damaged_message_does_not_hide_the_others() {
    let server = Server::start();
    let bodies = ["first 0a1b2c", "second 3d4e5f", "third 6a7b8c"];
    for body in bodies {
        server.deliver(b"", body.as_bytes());
    }
    let segment = server.data().join("heap/0000000000000000.seg");
    let mut octets = std::fs::read(&segment).unwrap();
    let second = bodies[1].as_bytes();
    let at = octets.windows(second.len()).position(|w| w == second);
    octets[at.expect("octets as short as these are not packed")] ^= 1;
    std::fs::write(&segment, octets).unwrap();
    let mut client = server.selected("INBOX");
    let responses = client.command("FETCH 1:* BODY.PEEK[]");
    assert_eq!(responses.len(), 3, "{responses:?}");
    assert_eq!(responses[0].literal(), bodies[0].as_bytes());
    assert_eq!(responses[1].literal(), bodies[2].as_bytes());
    let tagged = &responses[2].text;
    assert!(tagged.starts_with("NO [UNAVAILABLE]"), "{tagged}");
    assert_eq!(client.texts("SEARCH BODY 6a7b8c"), ["* SEARCH 3"]);
    assert_eq!(
        client.texts("FETCH 2 RFC822.SIZE"),
        ["* 2 FETCH (RFC822.SIZE 13)"]
    );
}
