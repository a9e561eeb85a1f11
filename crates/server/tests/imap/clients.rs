//! Clients that are spared what they stumble over; limits that all of them meet.

use nightmail_server::config::{Config, ImapClient, Literals};

use super::harness::Server;

#[test]
fn a_client_that_names_itself_is_spared_what_it_stumbles_over() {
    let server = Server::configured(|config: &mut Config| {
        config.imap.hide_capabilities = vec!["URLAUTH".into()];
        config.imap_clients = vec![ImapClient {
            name: "Old*".into(),
            version: "1.*".into(),
            hide: vec!["UTF8=ACCEPT".into(), "COMPRESS=DEFLATE".into()],
        }];
    });
    let mut client = server.client();
    let all = client.texts("CAPABILITY").concat();
    assert!(
        all.contains(" UTF8=ACCEPT") && !all.contains("URLAUTH"),
        "{all}"
    );
    client.ok("ID (\"name\" \"OldMail\" \"version\" \"2.0\")");
    assert_eq!(client.texts("CAPABILITY").concat(), all);
    client.ok("ID (\"name\" \"OldMail\" \"version\" \"1.9\")");
    let spared = client.texts("CAPABILITY").concat();
    assert!(
        !spared.contains("UTF8") && !spared.contains("COMPRESS"),
        "{spared}"
    );
    assert_eq!(client.texts("ENABLE UTF8=ACCEPT"), ["* ENABLED"]);
}

#[test]
fn literals_that_come_without_leave_can_be_bounded() {
    let server = Server::configured(|config| config.imap.literal = Literals::Minus);
    let mut client = server.client();
    let offered = client.texts("CAPABILITY").concat();
    assert!(
        offered.contains(" LITERAL- ") && !offered.contains("LITERAL+"),
        "{offered}"
    );
    let long = "x".repeat(4097);
    let answer = client.tagged(&format!("APPEND INBOX {{4097+}}\r\n{long}"));
    assert!(answer.starts_with("BAD [TOOBIG]"), "{answer}");
    let answer = client.tagged(&format!("APPEND INBOX {{4096+}}\r\n{}", &long[1..]));
    assert!(answer.starts_with("OK"), "{answer}");
}

#[test]
fn an_account_is_left_and_another_entered_on_one_connection() {
    let server = Server::start();
    server.add("bob@test");
    let mut client = server.selected("INBOX");
    client.append("INBOX", b"Subject: of ann\r\n\r\n");
    client.ok("UNAUTHENTICATE");
    assert!(client.tagged("SELECT INBOX").starts_with("BAD"));
    client.ok("LOGIN bob@test secret");
    assert_eq!(
        client.texts("STATUS INBOX (MESSAGES)"),
        ["* STATUS INBOX (MESSAGES 0)"]
    );
}

#[test]
fn a_set_of_a_hundred_thousand_uids_is_understood() {
    let server = Server::start();
    let mut client = server.selected("INBOX");
    client.append("INBOX", b"Subject: x\r\n\r\n");
    let set: Vec<String> = (0..100_000)
        .map(|number| (number * 2 + 1).to_string())
        .collect();
    let answer = client.texts(&format!("UID FETCH {} (UID)", set.join(",")));
    assert_eq!(answer.last().unwrap(), "* 1 FETCH (UID 1)");
    let tagged = client.tagged(&format!("UID FETCH {} (UID)", "1,".repeat(600_000)));
    assert!(tagged.starts_with("BAD"), "{tagged}");
    client.ok("NOOP");
}

#[test]
fn a_header_line_of_a_megabyte_comes_back_whole() {
    let server = Server::start();
    let mut client = server.selected("INBOX");
    let message = format!(
        "Subject: {}\r\nTo: a@b\r\n\r\nbody\r\n",
        "x".repeat(1 << 20)
    );
    client.append("INBOX", message.as_bytes());
    assert!(client.section(1, "") == message.as_bytes());
    let fetched = client.ok("FETCH 1 (ENVELOPE BODYSTRUCTURE)");
    assert_eq!(fetched.len(), 1);
}
