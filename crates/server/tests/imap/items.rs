//! FETCH items of extensions: BINARY, PREVIEW, SAVEDATE, object identifiers; and PARTIAL.

use crate::harness::{Client, Server};

const PARTS: &[u8] = b"Subject: parts\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n\
    --b\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\nGr=C3=BC=\r\n=C3=9Fe\r\n\
    --b\r\nContent-Type: application/octet-stream\r\nContent-Transfer-Encoding: BASE64\r\n\r\nAAEC\r\nAwQ=\r\n\
    --b\r\nContent-Type: application/x\r\nContent-Transfer-Encoding: x-secret\r\n\r\nx\r\n\
    --b\r\nContent-Type: text/plain\r\n\r\nas it is\r\n--b--\r\n";

fn with_parts(server: &Server) -> Client {
    let mut client = server.client();
    client.append("INBOX", PARTS);
    client.ok("SELECT INBOX");
    client
}

#[test]
fn parts_come_decoded() {
    let server = Server::start();
    let mut client = with_parts(&server);
    let told = client.ok("FETCH 1 (BINARY.PEEK[1] BINARY.SIZE[1])");
    assert_eq!(told[0].literal(), "Grüße".as_bytes());
    assert!(told[0].text.ends_with(" BINARY.SIZE[1] 7)"), "{told:?}");
    let told = client.ok("FETCH 1 BINARY.PEEK[2]");
    assert!(told[0].text.contains("BINARY[2] ~{5}"), "{told:?}");
    assert_eq!(told[0].literal(), [0, 1, 2, 3, 4]);
    let told = client.ok("FETCH 1 BINARY.PEEK[2]<1.3>");
    assert!(told[0].text.contains("BINARY[2]<1> {3}"), "{told:?}");
    assert_eq!(told[0].literal(), [1, 2, 3]);
    assert_eq!(
        client.ok("FETCH 1 BINARY.PEEK[4]")[0].literal(),
        b"as it is"
    );
    assert_eq!(
        client.texts("FETCH 1 (BINARY.SIZE[2] BINARY.SIZE[4] BINARY.PEEK[7])"),
        ["* 1 FETCH (BINARY.SIZE[2] 5 BINARY.SIZE[4] 8 BINARY[7] NIL)"]
    );
    assert_eq!(client.ok("FETCH 1 BINARY.PEEK[]")[0].literal(), PARTS);
    let told = client.texts("FETCH 1 FLAGS");
    assert!(!told[0].contains("\\Seen"), "{told:?}");
    client.ok("FETCH 1 BINARY[1]");
    let told = client.texts("FETCH 1 FLAGS");
    assert!(told[0].contains("\\Seen"), "{told:?}");
}

#[test]
fn an_encoding_that_nobody_knows_is_refused() {
    let server = Server::start();
    let mut client = with_parts(&server);
    let tagged = client.tagged("FETCH 1 BINARY.PEEK[3]");
    assert!(tagged.starts_with("NO [UNKNOWN-CTE]"), "{tagged}");
    let tagged = client.tagged("FETCH 1 BINARY.SIZE[3]");
    assert!(tagged.starts_with("NO [UNKNOWN-CTE]"), "{tagged}");
    client.ok("NOOP");
}

#[test]
fn a_long_part_is_decoded_whole() {
    let server = Server::start();
    let mut client = server.client();
    let line = "QUJD".repeat(19) + "\r\n";
    let message = format!(
        "Content-Type: application/x\r\nContent-Transfer-Encoding: base64\r\n\r\n{}",
        line.repeat(20_000)
    );
    client.append("INBOX", message.as_bytes());
    client.ok("SELECT INBOX");
    let told = client.ok("FETCH 1 (BINARY.PEEK[1] BINARY.SIZE[1])");
    let decoded = told[0].literal();
    assert_eq!(decoded.len(), 57 * 20_000);
    assert!(decoded.chunks(3).all(|chunk| chunk == b"ABC"));
    assert!(
        told[0]
            .text
            .ends_with(&format!("BINARY.SIZE[1] {})", 57 * 20_000))
    );
}

#[test]
fn previews_show_the_first_words() {
    let server = Server::start();
    let mut client = with_parts(&server);
    let told = client.ok("FETCH 1 (PREVIEW)");
    assert_eq!(told[0].literal(), "Grüße".as_bytes());
    client.append(
        "INBOX",
        b"Content-Type: text/html\r\n\r\n<p>Hello <b>\"you\"</b></p>",
    );
    client.append("INBOX", b"Content-Type: image/png\r\n\r\nxyz");
    let told = client.texts("FETCH 2:3 (PREVIEW (LAZY))");
    let told: Vec<_> = told
        .iter()
        .filter(|line| line.contains("PREVIEW"))
        .collect();
    assert_eq!(
        told,
        [
            "* 2 FETCH (PREVIEW \"Hello \\\"you\\\"\")",
            "* 3 FETCH (PREVIEW \"\")"
        ]
    );
}

#[test]
fn a_message_keeps_its_name_in_every_mailbox() {
    let server = Server::start();
    let mut client = with_parts(&server);
    client.ok("CREATE Other");
    client.ok("COPY 1 Other");
    client.append("INBOX", b"Subject: another\r\n\r\nx\r\n");
    let ids = client.texts("FETCH 1:2 (EMAILID THREADID)");
    let ids: Vec<_> = ids
        .iter()
        .filter_map(|line| line.split_once("EMAILID "))
        .map(|(_, id)| id.to_owned())
        .collect();
    assert_eq!(ids.len(), 2);
    assert_ne!(ids[0], ids[1]);
    assert!(
        ids[0].starts_with("(E") && ids[0].ends_with(" THREADID NIL)"),
        "{ids:?}"
    );
    let first = client.texts("SELECT Other");
    let copied = client.texts("FETCH 1 (EMAILID THREADID)");
    assert!(copied[0].ends_with(&ids[0]), "{copied:?} {ids:?}");
    let id_of = |lines: &[String]| {
        let line = lines.iter().find(|line| line.contains("[MAILBOXID (M"));
        line.unwrap().clone()
    };
    client.ok("RENAME Other Elsewhere");
    let renamed = client.texts("EXAMINE Elsewhere");
    assert_eq!(id_of(&first), id_of(&renamed));
    let inbox = client.texts("EXAMINE INBOX");
    assert_ne!(id_of(&first), id_of(&inbox));
}

#[test]
fn the_day_a_message_was_saved_is_not_the_day_it_came() {
    let server = Server::start();
    let mut client = server.client();
    client.append(
        "INBOX \" 1-Jan-2001 00:00:00 +0000\"",
        b"Subject: old\r\n\r\nx\r\n",
    );
    client.ok("SELECT INBOX");
    let told = client.texts("FETCH 1 (INTERNALDATE SAVEDATE)");
    assert!(told[0].contains("INTERNALDATE \" 1-Jan-2001"), "{told:?}");
    let (_, saved) = told[0].split_once("SAVEDATE \"").unwrap();
    assert!(!saved.contains("2001"), "{told:?}");
}

#[test]
fn a_part_of_the_messages_is_given() {
    let server = Server::start();
    let mut client = server.client();
    client.fill("INBOX", 9);
    client.ok("SELECT INBOX");
    client.ok("UID STORE 2,4,6,8 +FLAGS.SILENT (\\Deleted)");
    client.ok("EXPUNGE");
    let uids = |told: &[String]| {
        let uids = told.iter().filter_map(|line| line.split_once("UID "));
        uids.map(|(_, uid)| uid.trim_end_matches(')').to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        uids(&client.texts("UID FETCH 1:* UID (PARTIAL 2:3)")),
        ["3", "5"]
    );
    assert_eq!(
        uids(&client.texts("UID FETCH 1:* UID (PARTIAL -1:-2)")),
        ["7", "9"]
    );
    assert_eq!(
        uids(&client.texts("UID FETCH 1:* UID (PARTIAL 9:12)")),
        Vec::<String>::new()
    );
}

#[test]
fn envelopes_read_ahead_come_in_order_and_from_memory_alike() {
    let server = Server::start();
    let mut client = server.client();
    client.fill("INBOX", 20);
    client.ok("SELECT INBOX");
    for _ in 0..4 {
        client.ok("COPY 1:* INBOX");
    }
    client.ok("NOOP");
    let first = client.texts("FETCH 1:* (UID ENVELOPE BODYSTRUCTURE)");
    assert_eq!(first.len(), 320);
    for (index, line) in first.iter().enumerate() {
        let seq = index + 1;
        let start = format!(
            "* {seq} FETCH (UID {seq} ENVELOPE (NIL \"number {}\"",
            index % 20 + 1
        );
        assert!(line.starts_with(&start), "{line}");
    }
    assert_eq!(
        client.texts("FETCH 1:* (UID ENVELOPE BODYSTRUCTURE)"),
        first
    );
}
