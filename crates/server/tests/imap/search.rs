//! SEARCH: every kind of key, and text in any charset.

use crate::harness::{Client, Server};

const FIRST: &str = "From: Ann Example <ann@example.org>\r\nTo: bob@example.net\r\n\
    Subject: =?iso-8859-1?Q?Gr=FC=DFe_aus_K=F6ln?=\r\nDate: Sun, 2 Feb 2003 23:30:00 -0500\r\n\r\nPlain words.\r\n";
const SECOND: &str = "From: bob@example.net\r\nTo: ann@example.org\r\nCc: carol@example.com\r\n\
    Subject: Re: lunch\r\nDate: Mon, 3 Feb 2003 10:00:00 +0000\r\nX-Tag: one\r\nMIME-Version: 1.0\r\n\
    Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n\r\nWsO8cmljaCBpc3Qgc2Now7Zu\r\n";
const THIRD: &str = "Subject: outer\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=x\r\n\r\n\
    --x\r\nContent-Type: text/html\r\n\r\n<b>Needle</b> in hay\r\n--x\r\nContent-Type: message/rfc822\r\n\r\n\
    Subject: buried\r\n\r\nDeep text\r\n--x\r\nContent-Type: application/octet-stream\r\n\
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
        ("NOT TEXT example.org", "3"),
        ("OR BODY words SUBJECT lunch", "1 2"),
        ("UNSEEN TEXT needle", "3"),
    ] {
        let found = client.texts(&format!("SEARCH {key}"));
        let expected = format!("* SEARCH {expected}");
        assert_eq!(found, [expected.trim_end()], "{key}");
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
