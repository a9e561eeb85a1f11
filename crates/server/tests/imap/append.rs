//! APPEND: what goes in comes out, and what cannot be kept is refused.

use nightmail_directory::Quota;

use crate::harness::Server;

#[test]
fn a_message_in_a_synchronizing_literal_comes_out_as_it_went_in() {
    let server = Server::start();
    let mut client = server.selected("INBOX");
    let message = b"From: a@b\r\n\r\nhello\r\n";
    let tag = client.begin(format!("APPEND INBOX (\\Seen $Work) {{{}}}", message.len()).as_bytes());
    assert!(client.response().text.starts_with("+ "));
    client.send(message);
    client.send(b"\r\n");
    let responses = client.finish(&tag);
    let texts: Vec<_> = responses.iter().map(|r| r.text.as_str()).collect();
    assert!(texts.contains(&"* 1 EXISTS"), "{texts:?}");
    assert!(
        texts.last().unwrap().starts_with("OK [APPENDUID "),
        "{texts:?}"
    );
    let fetched = client.ok("FETCH 1 (FLAGS RFC822.SIZE BODY[])");
    assert!(
        fetched
            .iter()
            .any(|r| r.text.contains("FLAGS (\\Seen $Work \\Recent)")),
        "{fetched:?}"
    );
    assert_eq!(fetched.last().unwrap().literal(), message);
}

#[test]
fn the_internal_date_is_kept() {
    let server = Server::start();
    let mut client = server.selected("INBOX");
    let responses = client.append("INBOX \" 5-Feb-2003 11:22:33 +0200\"", b"A: b\r\n\r\n");
    assert!(responses.last().unwrap().text.starts_with("OK"));
    let texts = client.texts("FETCH 1 INTERNALDATE");
    assert_eq!(
        texts,
        ["* 1 FETCH (INTERNALDATE \" 5-Feb-2003 09:22:33 +0000\")"]
    );
}

#[test]
fn odd_messages_come_out_byte_for_byte() {
    let server = Server::start();
    let mut client = server.selected("INBOX");
    let every_octet: Vec<u8> = (1..=255).cycle().take(5000).collect();
    let messages: [&[u8]; 6] = [
        b"no header at all",
        b"\r\n",
        b"\r\nonly a body",
        b"Subject: no body\r\n",
        b" starts with a space\r\nbare \r and \n\r\n",
        &every_octet,
    ];
    for (index, message) in messages.iter().enumerate() {
        let uid = index as u32 + 1;
        client.append("INBOX", message);
        assert_eq!(client.section(uid, ""), *message);
        let parts = [client.section(uid, "HEADER"), client.section(uid, "TEXT")];
        assert_eq!(parts.concat(), *message, "{uid}");
    }
}

#[test]
fn a_message_to_no_mailbox_is_refused_before_it_is_sent() {
    let server = Server::start();
    let mut client = server.client();
    let tagged = client.tagged("APPEND nowhere {5}");
    assert!(tagged.starts_with("NO [TRYCREATE]"), "{tagged}");
    assert!(client.tagged("NOOP").starts_with("OK"));
}

#[test]
fn a_message_beyond_the_quota_is_refused() {
    let quota = Quota {
        bytes: Some(1000),
        ..Quota::UNLIMITED
    };
    let server = Server::with_quota(quota);
    let mut client = server.selected("INBOX");
    let message = vec![b'x'; 600];
    assert!(
        client
            .append("INBOX", &message)
            .last()
            .unwrap()
            .text
            .starts_with("OK")
    );
    let refused = client.append("INBOX", &message);
    assert!(refused.last().unwrap().text.starts_with("NO [OVERQUOTA]"));
    let tagged = client.tagged("COPY 1 Archive");
    assert!(tagged.starts_with("NO [OVERQUOTA]"), "{tagged}");
    let tagged = client.tagged("MOVE 1 Archive");
    assert!(
        tagged.starts_with("OK"),
        "moving needs no more room: {tagged}"
    );
}

#[test]
fn a_nul_ends_the_message_and_leaves_no_trace() {
    let server = Server::start();
    let mut client = server.selected("INBOX");
    let tagged = client.append("INBOX", b"Subject: a\0b\r\n\r\n");
    assert!(tagged.last().unwrap().text.starts_with("BAD"));
    assert_eq!(
        client.texts("STATUS INBOX (MESSAGES)"),
        ["* STATUS INBOX (MESSAGES 0)"]
    );
}

#[test]
fn three_megabytes_pass_in_both_directions() {
    let server = Server::start();
    let mut client = server.selected("INBOX");
    let header = b"Subject: big\r\n\r\n";
    let line = b"The quick brown fox jumps over the lazy dog, 0123456789.\r\n";
    let body: Vec<u8> = line.iter().copied().cycle().take(3_000_000).collect();
    let message = [&header[..], &body].concat();
    let responses = client.append("INBOX", &message);
    assert!(responses.last().unwrap().text.starts_with("OK"));
    let fetched = client.ok("FETCH 1 (BODY.PEEK[TEXT]<2999990.100> BODY.PEEK[] BODY.PEEK[HEADER])");
    let literals = &fetched[0].literals;
    assert_eq!(literals[0], body[2_999_990..]);
    assert!(literals[1] == message);
    assert_eq!(literals[2], header);
    assert_eq!(client.section(1, "HEADER.FIELDS (subject)"), header);
}

#[test]
fn several_messages_come_together_or_not_at_all() {
    let quota = Quota {
        messages: Some(3),
        ..Quota::UNLIMITED
    };
    let server = Server::with_quota(quota);
    let mut client = server.selected("INBOX");
    let answer = client.command(
        "APPEND INBOX (\\Seen) {5+}\r\nfirst (\\Flagged $Work) \" 5-Feb-2003 11:22:33 +0200\" {6+}\r\nsecond",
    );
    let tagged = &answer.last().unwrap().text;
    assert!(tagged.starts_with("OK [APPENDUID "), "{tagged}");
    assert!(tagged.contains(" 1:2] "), "{tagged}");
    assert_eq!(client.section(1, ""), b"first");
    assert_eq!(client.section(2, ""), b"second");
    let flags = client.texts("FETCH 2 (FLAGS INTERNALDATE)").concat();
    assert!(
        flags.contains("\\Flagged $Work") && flags.contains("2003"),
        "{flags}"
    );
    let answer = client.tagged("APPEND INBOX {5+}\r\nthird {6+}\r\nfourth");
    assert!(answer.starts_with("NO [OVERQUOTA]"), "{answer}");
    let answer = client.tagged("APPEND INBOX {5+}\r\nthird {0+}\r\n");
    assert!(answer.starts_with("NO "), "{answer}");
    assert_eq!(
        client.texts("STATUS INBOX (MESSAGES)"),
        ["* STATUS INBOX (MESSAGES 2)"]
    );
}

#[test]
fn a_message_takes_the_place_of_another() {
    let quota = Quota {
        messages: Some(2),
        ..Quota::UNLIMITED
    };
    let server = Server::with_quota(quota);
    let mut client = server.selected("INBOX");
    client.append("INBOX", b"one");
    client.append("INBOX", b"two");
    client.ok("NOOP");
    let answer = client.command("REPLACE 1 INBOX (\\Draft) {5+}\r\nthree");
    let texts: Vec<&str> = answer.iter().map(|answer| answer.text.as_str()).collect();
    assert!(texts[0].starts_with("* OK [APPENDUID "), "{texts:?}");
    assert!(texts.contains(&"* 1 EXPUNGE"), "{texts:?}");
    assert!(texts.contains(&"* 2 EXISTS"), "{texts:?}");
    assert!(texts.last().unwrap().starts_with("OK"), "{texts:?}");
    assert_eq!(client.section(2, ""), b"two");
    assert_eq!(client.section(3, ""), b"three");
    client.ok("CREATE Other");
    let answer = client.tagged("UID REPLACE 3 Other {4+}\r\nfour");
    assert!(answer.starts_with("OK"), "{answer}");
    assert_eq!(
        client.texts("STATUS Other (MESSAGES)"),
        ["* STATUS Other (MESSAGES 1)"]
    );
    let answer = client.tagged("UID REPLACE 3 Other {4+}\r\nfour");
    assert!(answer.starts_with("NO "), "{answer}");
}

#[test]
fn a_message_may_hold_nul_where_it_says_so() {
    let server = Server::start();
    let mut client = server.selected("INBOX");
    let answer =
        client.command_octets(b"APPEND INBOX ~{21+}\r\nSubject: x\r\n\r\n\0\x01\0\0\xff\r\n");
    assert!(answer.last().unwrap().text.starts_with("OK"), "{answer:?}");
    assert_eq!(client.section(1, "TEXT"), b"\0\x01\0\0\xff\r\n");
}

#[test]
fn the_length_of_messages_is_announced() {
    let server = Server::start();
    let mut client = server.client();
    let limit = server.services.config.message_size_max().get();
    let offered = client.texts("CAPABILITY").concat();
    assert!(
        offered.contains(&format!(" APPENDLIMIT={limit}")),
        "{offered}"
    );
    let answer = client.tagged(&format!("APPEND INBOX {{{}}}", limit + 1));
    assert!(answer.starts_with("NO [TOOBIG]"), "{answer}");
}
