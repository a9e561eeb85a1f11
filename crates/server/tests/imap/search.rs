//! SEARCH: every kind of key, and text in any charset.

use crate::harness::{Client, Server};

const FIRST: &str = "From: Ann Example <ann@example.org>\r\nTo: bob@example.net\r\n\
    Subject: =?iso-8859-1?Q?Gr=FC=DFe_aus_K=F6ln?=\r\nDate: Sun, 2 Feb 2003 23:30:00 -0500\r\n\r\nPlain words.\r\n";
const SECOND: &str = "From: bob@example.net\r\nTo: ann@example.org\r\nCc: carol@example.com\r\n\
    Subject: Re: lunch\r\nDate: Mon, 3 Feb 2003 10:00:00 +0000\r\nX-Tag: one\r\nMIME-Version: 1.0\r\n\
    Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n\r\nWsO8cmljaCBpc3Qgc2Now7Zu\r\n";
const THIRD: &str = "Subject: outer\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=x\r\n\r\n\
    --x\r\nContent-Type: text/html\r\n\r\n<b>Needle</b> in hay\r\n--x\r\nContent-Type: message/rfc822\r\n\r\n\
    Subject: buried\r\n\r\nDeep text\r\n--x\r\nContent-Type: application/octet-stream; name=secret.bin\r\n\
    Content-Transfer-Encoding: base64\r\n\r\nTmVlZGxl\r\n--x--\r\n";

fn filled(server: &Server) -> Client {
    let mut client = server.selected("INBOX");
    for (flags, message) in [
        ("(\\Seen) \" 1-Jan-2003 12:00:00 +0000\"", FIRST),
        ("(\\Flagged Work) \" 2-Jan-2003 12:00:00 +0000\"", SECOND),
        ("(\\Deleted) \" 3-Jan-2003 12:00:00 +0000\"", THIRD),
    ] {
        let responses = client.append(&format!("INBOX {flags}"), message.as_bytes());
        assert!(responses.last().unwrap().text.starts_with("OK"));
    }
    client
}

/// `expected` are the numbers of the messages, parted by spaces.
fn assert_found(client: &mut Client, key: &str, expected: &str) {
    let found = client.texts(&format!("SEARCH {key}"));
    let expected = format!("* SEARCH {expected}");
    assert_eq!(found, [expected.trim_end()], "{key}");
}

#[test]
fn every_kind_of_key_finds_its_messages() {
    let server = Server::start();
    let mut client = filled(&server);
    let larger = format!("LARGER {}", FIRST.len());
    for (key, expected) in [
        ("ALL", "1 2 3"),
        ("2:*", "2 3"),
        ("UID 1,3", "1 3"),
        ("RECENT", "1 2 3"),
        ("OLD", ""),
        ("NEW", "2 3"),
        ("SEEN", "1"),
        ("UNSEEN UNDELETED", "2"),
        ("OR FLAGGED DELETED", "2 3"),
        ("NOT (OR FLAGGED DELETED)", "1"),
        ("KEYWORD WORK", "2"),
        ("UNKEYWORD Work", "1 3"),
        ("BEFORE 2-Jan-2003", "1"),
        ("ON 2-Jan-2003", "2"),
        ("SINCE 2-Jan-2003", "2 3"),
        ("SENTON 2-Feb-2003", "1"),
        ("SENTBEFORE 3-Feb-2003", "1"),
        ("SENTSINCE 3-Feb-2003", "2"),
        (larger.as_str(), "2 3"),
        ("SMALLER 1", ""),
        ("FROM ann", "1"),
        ("TO ANN", "2"),
        ("CC carol", "2"),
        ("BCC x", ""),
        ("SUBJECT LUNCH", "2"),
        ("NOT SUBJECT lunch", "1 3"),
        ("HEADER X-Tag \"\"", "2"),
        ("HEADER x-tag two", ""),
        ("HEADER Subject er", "3"),
        ("BODY words", "1"),
        ("BODY needle", "3"),
        ("BODY TmVlZGxl", ""),
        ("BODY buried", "3"),
        ("BODY \"deep TEXT\"", "3"),
        ("TEXT example.org", "1 2"),
        ("TEXT secret.bin", "3"),
        ("BODY secret.bin", ""),
        ("NOT TEXT example.org", "3"),
        ("OR BODY words SUBJECT lunch", "1 2"),
        ("UNSEEN TEXT needle", "3"),
    ] {
        assert_found(&mut client, key, expected);
    }
}

#[test]
fn every_occurrence_of_a_field_counts() {
    let server = Server::start();
    let mut client = server.selected("INBOX");
    for header in [
        "Message-ID:\r\n <one@a.test>\r\nIn-Reply-To: <zero@a.test>\r\n <nil@a.test>\r\n",
        "Message-ID: <two@a.test>\r\nSubject: first\r\nMessage-Id: <three@a.test>\r\nSubject: second\r\n",
        "Subject: first\r\n",
    ] {
        let message = format!("{header}\r\nIn-Reply-To: <body@a.test>\r\n");
        client.append("INBOX", message.as_bytes());
    }
    for (key, expected) in [
        ("HEADER Message-ID <ONE@a.test>", "1"),
        ("HEADER Message-ID two", "2"),
        ("HEADER Message-ID three", "2"),
        ("HEADER Message-ID \"\"", "1 2"),
        ("NOT HEADER Message-ID a.test", "3"),
        ("HEADER In-Reply-To \"<zero@a.test> <nil\"", "1"),
        ("HEADER In-Reply-To body", ""),
        ("HEADER Subject second", "2"),
        ("HEADER Subject first", "2 3"),
    ] {
        assert_found(&mut client, key, expected);
    }
}

#[test]
fn text_is_compared_decoded_in_any_charset() {
    let server = Server::start();
    let mut client = filled(&server);
    for (search, expected) in [
        (
            "SEARCH CHARSET UTF-8 SUBJECT \"GRÜSSE\"".as_bytes(),
            "* SEARCH",
        ),
        (
            "SEARCH CHARSET UTF-8 SUBJECT \"köln\"".as_bytes(),
            "* SEARCH 1",
        ),
        (
            "SEARCH CHARSET utf-8 BODY \"ZÜRICH\"".as_bytes(),
            "* SEARCH 2",
        ),
        (
            "SEARCH CHARSET UTF-8 TEXT \"schön\"".as_bytes(),
            "* SEARCH 2",
        ),
        (
            b"SEARCH CHARSET ISO-8859-1 SUBJECT \"k\xf6ln\"",
            "* SEARCH 1",
        ),
        (b"SEARCH CHARSET US-ASCII SUBJECT lunch", "* SEARCH 2"),
        (
            "SEARCH CHARSET UTF-8 SUBJECT {5+}\r\nköln".as_bytes(),
            "* SEARCH 1",
        ),
    ] {
        let responses = client.command_octets(search);
        assert_eq!(
            responses[0].text,
            expected,
            "{}",
            String::from_utf8_lossy(search)
        );
    }
    let tagged = client.tagged("SEARCH CHARSET x-none ALL");
    assert!(tagged.starts_with("NO [BADCHARSET"), "{tagged}");
}

#[test]
fn uid_search_answers_with_uids() {
    let server = Server::start();
    let mut client = filled(&server);
    client.ok("STORE 1 +FLAGS.SILENT (\\Deleted)");
    client.ok("UID EXPUNGE 1");
    assert_eq!(client.texts("SEARCH BODY needle"), ["* SEARCH 2"]);
    assert_eq!(client.texts("UID SEARCH BODY needle"), ["* SEARCH 3"]);
    assert_eq!(client.texts("UID SEARCH 1"), ["* SEARCH 2"]);
}

#[test]
fn large_texts_are_searched_without_their_attachments() {
    let server = Server::start();
    let mut client = server.selected("INBOX");
    let text = "filler line\r\n".repeat(40_000);
    let attachment = "QUJD".repeat(50_000);
    let message = format!(
        "Subject: big\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\n\r\n\
         {text}the end\r\n--x\r\nContent-Type: image/png\r\nContent-Transfer-Encoding: base64\r\n\r\n\
         {attachment}\r\n--x--\r\n"
    );
    client.append("INBOX", message.as_bytes());
    assert_eq!(client.texts("SEARCH BODY \"the END\""), ["* SEARCH 1"]);
    assert_eq!(client.texts("SEARCH BODY QUJDQUJD"), ["* SEARCH"]);
    assert_eq!(
        client.texts("SEARCH SUBJECT big HEADER MIME-Version 1"),
        ["* SEARCH 1"]
    );
}

#[test]
fn results_are_saved_and_told_extended() {
    let server = Server::start();
    let mut client = filled(&server);
    let found = client.texts("UID SEARCH RETURN (MIN MAX COUNT ALL) UID 1:2");
    assert!(
        found[0].ends_with(") UID MIN 1 MAX 2 COUNT 2 ALL 1:2"),
        "{found:?}"
    );
    client.ok("SEARCH RETURN (SAVE) OR FLAGGED DELETED");
    assert_eq!(client.texts("SEARCH $ UNDELETED"), ["* SEARCH 2"]);
    assert_eq!(client.ok("FETCH $ (UID)").len(), 2);
    client.ok("UID COPY $ INBOX");
    client.ok("UID EXPUNGE $");
    assert_eq!(client.texts("UID SEARCH UID $"), ["* SEARCH 2"]);
    client.ok("STORE $ +FLAGS.SILENT (\\Draft)");
    assert_eq!(client.texts("UID SEARCH DRAFT"), ["* SEARCH 2"]);
}

#[test]
fn ages_identities_and_changes_are_sought() {
    let server = Server::start();
    let mut client = filled(&server);
    let fresh = "Subject: fresh\r\n\r\n.\r\n";
    client.append("INBOX", fresh.as_bytes());
    let since = client.texts("SEARCH RETURN (MAX) MODSEQ 1");
    // The first such command in the session begins with what the mailbox stands at (RFC 7162 §3.1).
    assert!(since[0].starts_with("* OK [HIGHESTMODSEQ "), "{since:?}");
    let (_, modseq) = since[1].rsplit_once(" MODSEQ ").unwrap();
    client.ok("STORE 1 +FLAGS.SILENT (Changed)");
    let next = modseq.parse::<u64>().unwrap() + 1;
    let found = client.texts(&format!("SEARCH MODSEQ {next}"));
    assert!(found[0].starts_with("* SEARCH 1 (MODSEQ "), "{found:?}");
    for (key, expected) in [
        ("YOUNGER 3600", "* SEARCH 4"),
        ("OLDER 3600", "* SEARCH 1 2 3"),
        ("SAVEDSINCE 1-Jan-2020", "* SEARCH 1 2 3 4"),
        ("SAVEDBEFORE 1-Jan-2020", "* SEARCH"),
        ("SAVEDATESUPPORTED", "* SEARCH 1 2 3 4"),
        ("THREADID T00", "* SEARCH"),
        ("EMAILID E00", "* SEARCH"),
    ] {
        assert_eq!(client.texts(&format!("SEARCH {key}")), [expected], "{key}");
    }
    let fetched = client.texts("FETCH 2 (EMAILID)");
    let (_, id) = fetched[0].split_once("EMAILID (").unwrap();
    let (id, _) = id.split_once(')').unwrap();
    assert_eq!(
        client.texts(&format!("SEARCH EMAILID {id}")),
        ["* SEARCH 2"]
    );
}

/// Each with its text in an own charset and encoding.
const CHARSETS: [(&[u8], &str); 5] = [
    (
        b"Subject: =?iso-2022-jp?B?GyRCRnxLXDhsGyhC?=\r\nContent-Type: text/plain; charset=iso-2022-jp\r\n\r\n\x1b$BF|K\\8l\x1b(B\r\n",
        "日本語",
    ),
    (
        b"Content-Type: text/plain; charset=koi8-r\r\n\r\n\xf0\xd2\xc9\xd7\xc5\xd4\r\n",
        "пРИВЕт",
    ),
    (
        b"Content-Type: text/plain; charset=\"gb18030\"\r\nContent-Transfer-Encoding: base64\r\n\r\n1tDOxA==\r\n",
        "中文",
    ),
    (
        b"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\nca=\r\nfe=CC=81 cre=\r\nme\r\n",
        "CAFÉ CREME",
    ),
    (
        b"Content-Type: text/html; charset=iso-8859-1\r\n\r\n<p>Stra<b>\xdfe</b> am<br>Fl&uuml;&szlig;chen</p>\r\n",
        "straße am flüßchen",
    ),
];

#[test]
fn texts_are_found_whatever_they_are_written_in() {
    let server = Server::start();
    let mut client = server.selected("INBOX");
    for (message, _) in CHARSETS {
        client.append("INBOX", message);
    }
    for (index, (_, text)) in CHARSETS.iter().enumerate() {
        let expected = format!("* SEARCH {}", index + 1);
        let command = format!("SEARCH CHARSET UTF-8 BODY {{{}+}}\r\n{text}", text.len());
        assert_eq!(client.texts(&command), [expected], "{text}");
    }
    let found = client.texts("SEARCH SUBJECT \"日本\"");
    assert_eq!(found, ["* SEARCH 1"]);
    let japanese = b"SEARCH CHARSET ISO-2022-JP TEXT {12+}\r\n\x1b$BF|K\\8l\x1b(B";
    assert_eq!(client.command_octets(japanese)[0].text, "* SEARCH 1");
}

#[test]
fn addresses_are_sought_as_they_are_read() {
    let server = Server::start();
    let mut client = server.selected("INBOX");
    let message = "From: =?utf-8?Q?J=C3=B6rg?= \"von\" Bern <joerg@example.org>\r\n\
        To: team: a@example.org, \"B, C\" <b@example.org>;\r\nBcc: hidden@example.org\r\n\r\n.\r\n";
    client.append("INBOX", message.as_bytes());
    for (key, fits) in [
        ("FROM \"jörg\"", true),
        ("FROM \"von bern <joerg@\"", true),
        ("FROM team", false),
        ("TO team", true),
        ("TO \"b, c\"", true),
        ("TO example.org", true),
        ("BCC hidden", true),
        ("CC \"\"", false),
        ("TO \"\"", true),
    ] {
        let expected = if fits { "* SEARCH 1" } else { "* SEARCH" };
        assert_eq!(client.texts(&format!("SEARCH {key}")), [expected], "{key}");
    }
}

#[test]
fn a_limit_on_messages_is_announced_and_kept() {
    let server = Server::configured(|config| config.imap.message_limit = 2);
    let mut client = filled(&server);
    assert!(client.texts("CAPABILITY")[0].contains(" MESSAGELIMIT=2"));
    let responses = client.command("SEARCH ALL");
    assert_eq!(responses[0].text, "* SEARCH 2 3");
    assert!(responses[1].text.starts_with("OK [MESSAGELIMIT 2 2]"));
    assert!(
        client
            .tagged("COPY 1:3 INBOX")
            .starts_with("NO [MESSAGELIMIT 2]")
    );
    assert!(client.tagged("COPY 1:2 INBOX").starts_with("OK"));
}

#[test]
fn long_sets_and_deep_programs_are_answered_or_refused() {
    let server = Server::start();
    let mut client = filled(&server);
    let numbers: Vec<String> = (1..=100_000)
        .map(|number| (2 * number).to_string())
        .collect();
    let set = numbers.join(",");
    assert_eq!(
        client.texts(&format!("UID SEARCH UID {set}")),
        ["* SEARCH 2"]
    );
    let deep = format!("SEARCH {}ALL", "NOT ".repeat(10_000));
    assert!(client.tagged(&deep).starts_with("BAD"));
    let nested = format!("SEARCH {}ALL{}", "(".repeat(10_000), ")".repeat(10_000));
    assert!(client.tagged(&nested).starts_with("BAD"));
    let wide = format!("SEARCH {}", "SEEN ".repeat(2_000).trim_end());
    assert!(client.tagged(&wide).starts_with("BAD"));
}
