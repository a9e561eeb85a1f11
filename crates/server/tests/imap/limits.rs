//! What is large, deep or long is answered or refused, and in time that grows no faster than it does.

use crate::harness::{Client, Server};

/// Appends messages many at a time.
fn append_all(client: &mut Client, mailbox: &str, messages: &[String]) {
    for some in messages.chunks(400) {
        let mut command = format!("APPEND {mailbox}");
        for message in some {
            command.push_str(&format!(" {{{}+}}\r\n{message}", message.len()));
        }
        client.ok(&command);
    }
}

fn nested(levels: usize) -> String {
    let mut message = "Subject: deep\r\nMIME-Version: 1.0\r\n".to_owned();
    for level in 0..levels {
        message.push_str(&format!(
            "Content-Type: multipart/mixed; boundary=b{level}\r\n\r\n--b{level}\r\n"
        ));
    }
    message.push_str("Content-Type: text/plain\r\n\r\nfound inside\r\n");
    for level in (0..levels).rev() {
        message.push_str(&format!("--b{level}--\r\n"));
    }
    message
}

fn with_parts(parts: usize) -> String {
    let mut message =
        "Subject: many\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n".to_owned();
    for part in 0..parts {
        message.push_str(&format!("--b\r\n\r\npart {part}.\r\n"));
    }
    message + "--b--\r\n"
}

#[test]
fn a_message_of_any_shape_is_stored_described_and_searched() {
    let server = Server::start();
    let mut client = server.client();
    let addresses: Vec<String> = (0..40_000).map(|n| format!("u{n}@example.test")).collect();
    let messages = [
        nested(200),
        "Subject: in\r\nContent-Type: message/rfc822\r\n\r\n".repeat(200)
            + "Subject: core\r\n\r\ncore text\r\n",
        with_parts(10_000),
        format!("Subject: {}needle\r\n\r\ntext\r\n", "x".repeat(1_000_000)),
        format!(
            "To: {}\r\nSubject: behind\r\n\r\ntext\r\n",
            addresses.join(", ")
        ),
        format!(
            "From: {}\r\nTo: {}\r\n\r\ntext\r\n",
            "(".repeat(300_000),
            "g:".repeat(100_000)
        ),
        format!(
            "Subject: {}\r\n\r\ntext\r\n",
            "=?utf-8?q?a?=".repeat(80_000)
        ),
    ];
    for message in &messages {
        let appended = client.append("INBOX", message.as_bytes());
        assert!(appended.last().unwrap().text.starts_with("OK"));
    }
    client.ok("SELECT INBOX");
    let path = vec!["1"; 90].join(".");
    for item in [
        "BODYSTRUCTURE",
        "ENVELOPE",
        "PREVIEW",
        "BINARY.PEEK[1]",
        &format!("BODY.PEEK[{path}]"),
    ] {
        let told = client.ok(&format!("FETCH 1:* {item}"));
        assert_eq!(told.len(), messages.len(), "{item}");
    }
    let too_deep = vec!["1"; 100_000].join(".");
    assert!(
        client
            .tagged(&format!("FETCH 1 BODY.PEEK[{too_deep}]"))
            .starts_with("BAD")
    );
    for (key, found) in [
        ("TEXT \"found inside\"", "* SEARCH 1"),
        ("BODY \"core text\"", "* SEARCH 2"),
        ("BODY \"part 9999.\"", "* SEARCH 3"),
        ("SUBJECT needle", "* SEARCH 4"),
        ("HEADER Subject needle", "* SEARCH 4"),
        ("SUBJECT behind", "* SEARCH 5"),
        ("TO u39999@", "* SEARCH 5"),
    ] {
        assert_eq!(client.texts(&format!("SEARCH {key}")), [found], "{key}");
    }
    assert_eq!(client.ok("SORT (SUBJECT FROM TO DATE) UTF-8 ALL").len(), 1);
    assert_eq!(client.ok("THREAD REFERENCES UTF-8 ALL").len(), 1);
}

#[test]
fn long_conversations_are_threaded() {
    let server = Server::start();
    let mut client = server.client();
    client.ok("CREATE chain");
    client.ok("CREATE same");
    let id = |at: usize| format!("<m{at}@x>");
    let chain: Vec<String> = (0..20_000)
        .map(|at| {
            format!(
                "Subject: s\r\nMessage-ID: {}\r\nReferences: {}\r\n\r\n",
                id(at + 1),
                id(at)
            )
        })
        .collect();
    append_all(&mut client, "chain", &chain);
    let all: String = (0..20_000).map(|at| format!("\r\n {}", id(at))).collect();
    append_all(
        &mut client,
        "chain",
        &[format!("Subject: s\r\nReferences:{all}\r\n\r\n")],
    );
    let same: Vec<String> = (0..20_000)
        .map(|at| format!("Subject: s\r\nMessage-ID: {}\r\n\r\n", id(at)))
        .collect();
    append_all(&mut client, "same", &same);
    for mailbox in ["chain", "same"] {
        client.ok(&format!("SELECT {mailbox}"));
        for command in [
            "THREAD REFERENCES UTF-8 ALL",
            "THREAD ORDEREDSUBJECT UTF-8 ALL",
            "SORT (SUBJECT DATE) UTF-8 ALL",
        ] {
            let told = client.texts(command);
            let numbers = told[0]
                .split(|c: char| !c.is_ascii_digit())
                .filter(|word| !word.is_empty());
            let count = if mailbox == "chain" { 20_001 } else { 20_000 };
            assert_eq!(numbers.count(), count, "{mailbox} {command}");
        }
    }
}

#[test]
fn a_set_of_100_000_elements_is_one_command_like_others() {
    let server = Server::start();
    let mut client = server.selected("INBOX");
    client.fill("INBOX", 10);
    let odd: Vec<String> = (0..100_000).map(|at| (2 * at + 1).to_string()).collect();
    let odd = odd.join(",");
    assert_eq!(client.ok(&format!("UID FETCH {odd} (FLAGS)")).len(), 5);
    assert_eq!(
        client
            .ok(&format!("UID STORE {odd} +FLAGS (\\Flagged)"))
            .len(),
        5
    );
    assert_eq!(
        client.texts(&format!("UID SEARCH UID {odd}")),
        ["* SEARCH 1 3 5 7 9"]
    );
    let all = vec!["1:*"; 100_000].join(",");
    assert_eq!(client.ok(&format!("FETCH {all} (UID)")).len(), 10);
    assert!(
        client
            .tagged(&format!("FETCH {odd} (UID)"))
            .starts_with("BAD")
    );
    let too_long = vec!["1"; 600_000].join(",");
    assert!(
        client
            .tagged(&format!("UID FETCH {too_long} (UID)"))
            .starts_with("BAD")
    );
}

#[test]
fn searches_nest_as_deep_as_is_allowed() {
    let server = Server::start();
    let mut client = server.selected("INBOX");
    client.fill("INBOX", 2);
    assert_eq!(
        client.texts(&format!("SEARCH {}SEEN", "NOT ".repeat(29))),
        ["* SEARCH 1 2"]
    );
    for search in [
        "NOT ".repeat(400) + "SEEN",
        "OR SEEN ".repeat(400) + "SEEN",
        "(".repeat(50_000) + "SEEN" + &")".repeat(50_000),
    ] {
        assert!(
            client
                .tagged(&format!("SEARCH {search}"))
                .starts_with("BAD")
        );
    }
    let side_by_side: Vec<String> = (0..400).map(|n| format!("NOT TEXT absent{n}")).collect();
    assert_eq!(
        client.texts(&format!("SEARCH {}", side_by_side.join(" "))),
        ["* SEARCH 1 2"]
    );
}

#[test]
fn thousands_of_mailboxes_are_listed_watched_and_renamed() {
    let server = Server::start();
    let mut client = server.client();
    let count = 3000;
    for some in (0..count).collect::<Vec<_>>().chunks(200) {
        let tags: Vec<String> = some
            .iter()
            .map(|at| client.begin(format!("CREATE top/{at}{}", "a".repeat(40)).as_bytes()))
            .collect();
        for tag in tags {
            assert!(client.finish(&tag).last().unwrap().text.starts_with("OK"));
        }
    }
    let stars = vec!["*"; 300].join("a");
    assert!(client.ok(&format!("LIST \"\" {stars}b")).is_empty());
    client.ok("NOTIFY SET (personal (MessageNew MessageExpunge))");
    // What one account renames holds up nobody: a row after the other would take minutes.
    client.ok("RENAME top peak");
    assert_eq!(client.ok("LIST \"\" peak/%").len(), count);
    assert!(client.ok("LIST \"\" top/%").is_empty());
}
