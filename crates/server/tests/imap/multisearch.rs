//! ESEARCH: one search over several mailboxes.

use crate::harness::{Client, Server};

fn put(client: &mut Client, mailbox: &str, subject: &str) {
    let message = format!("Subject: {subject}\r\n\r\nText\r\n");
    let responses = client.append(mailbox, message.as_bytes());
    assert!(responses.last().unwrap().text.starts_with("OK"));
}

fn filled(server: &Server) -> Client {
    let mut client = server.client();
    for name in ["Lists", "Lists/rust", "Lists/rust/old", "Other"] {
        client.ok(&format!("CREATE {name}"));
        put(&mut client, name, "chaff");
        put(&mut client, name, "wanted");
    }
    put(&mut client, "INBOX", "wanted");
    client.ok("SUBSCRIBE Other");
    client.ok("SUBSCRIBE Missing");
    client
}

/// The mailboxes told, with what was found in each.
fn found(client: &mut Client, command: &str) -> Vec<String> {
    let told = client.texts(command).into_iter().map(|text| {
        assert!(text.starts_with("* ESEARCH (TAG \"t"), "{text}");
        let (_, name) = text.split_once(" MAILBOX ").unwrap();
        let (name, rest) = name.split_once(" UIDVALIDITY ").unwrap();
        let (_, results) = rest.split_once(") UID ").unwrap();
        format!("{name} {results}")
    });
    told.collect()
}

#[test]
fn mailboxes_are_searched_by_every_kind_of_source() {
    let server = Server::start();
    let mut client = filled(&server);
    for (sources, expected) in [
        (
            "mailboxes (Lists Other)",
            &["Lists ALL 2", "Other ALL 2"][..],
        ),
        ("mailboxes Missing", &[]),
        (
            "subtree Lists",
            &["Lists ALL 2", "Lists/rust ALL 2", "Lists/rust/old ALL 2"],
        ),
        ("subtree-one Lists", &["Lists ALL 2", "Lists/rust ALL 2"]),
        ("inboxes", &["INBOX ALL 1"]),
        ("subscribed", &["INBOX ALL 1", "Other ALL 2"]),
        ("mailboxes Other subtree Other", &["Other ALL 2"]),
    ] {
        let command = format!("ESEARCH IN ({sources}) SUBJECT wanted");
        assert_eq!(found(&mut client, &command), expected, "{sources}");
    }
    let all = found(
        &mut client,
        "ESEARCH IN (personal) RETURN (COUNT) SUBJECT wanted",
    );
    assert_eq!(all.len(), 5, "{all:?}");
    assert!(found(&mut client, "ESEARCH IN (personal) SUBJECT nothing").is_empty());
}

#[test]
fn the_selected_mailbox_stays_selected() {
    let server = Server::start();
    let mut client = filled(&server);
    assert!(client.tagged("ESEARCH ALL").starts_with("BAD"));
    client.ok("SELECT Lists");
    assert_eq!(found(&mut client, "ESEARCH 1"), ["Lists ALL 1"]);
    let both = found(&mut client, "ESEARCH IN (selected mailboxes INBOX) RECENT");
    assert_eq!(both, ["INBOX ALL 1", "Lists ALL 1:2"]);
    assert_eq!(client.texts("SEARCH SUBJECT wanted"), ["* SEARCH 2"]);
}
