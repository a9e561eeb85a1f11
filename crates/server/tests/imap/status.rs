//! STATUS: every item, of many mailboxes, and of the selected one.

use std::time::Instant;

use crate::harness::Server;

#[test]
fn every_item_is_told() {
    let server = Server::start();
    let mut client = server.client();
    client.append("INBOX (\\Seen)", b"Subject: a\r\n\r\nText\r\n");
    client.append("INBOX (\\Deleted)", b"Subject: bb\r\n\r\nText\r\n");
    let texts = client.texts(
        "STATUS INBOX (MESSAGES UIDNEXT UNSEEN DELETED SIZE DELETED-STORAGE APPENDLIMIT HIGHESTMODSEQ)",
    );
    let limit = server.services.config.message_size_max().get();
    let expected = format!(
        "* STATUS INBOX (MESSAGES 2 UIDNEXT 3 UNSEEN 1 DELETED 1 SIZE 41 DELETED-STORAGE 21 APPENDLIMIT {limit} \
         HIGHESTMODSEQ "
    );
    assert!(texts[0].starts_with(&expected), "{texts:?}");
    let refused = client.tagged("STATUS INBOX (MESSAGES NONSENSE)");
    assert!(refused.starts_with("BAD"), "{refused}");
}

#[test]
fn asking_for_highestmodseq_enables_condstore() {
    let server = Server::start();
    let mut client = server.client();
    client.fill("INBOX", 1);
    client.ok("STATUS INBOX (HIGHESTMODSEQ)");
    client.ok("SELECT INBOX");
    let texts = client.texts("STORE 1 +FLAGS (\\Seen)");
    assert!(texts[0].contains("MODSEQ ("), "{texts:?}");
}

#[test]
fn the_selected_mailbox_is_counted_as_it_is() {
    let server = Server::start();
    let mut client = server.selected("INBOX");
    server.deliver(b"", b"Subject: new\r\n\r\n");
    let texts = client.texts("STATUS INBOX (MESSAGES)");
    assert_eq!(texts[0], "* STATUS INBOX (MESSAGES 1)");
    assert!(texts.contains(&"* 1 EXISTS".to_owned()), "{texts:?}");
}

#[test]
fn many_folders_are_counted_at_once() {
    let server = Server::start();
    let mut client = server.client();
    for number in 0..100 {
        client.ok(&format!("CREATE f/{number:04}"));
    }
    let texts = client.texts("LIST \"\" f/% RETURN (STATUS (MESSAGES UIDNEXT UNSEEN))");
    assert_eq!(texts.len(), 200);
    assert_eq!(texts[1], "* STATUS f/0000 (MESSAGES 0 UIDNEXT 1 UNSEEN 0)");
}

/// Prints what STATUS of 1,000 folders takes.
#[test]
#[ignore = "a measurement"]
fn status_of_a_thousand_folders_is_measured() {
    let server = Server::start();
    let mut client = server.client();
    for number in 0..1000 {
        client.ok(&format!("CREATE f/{number:04}"));
    }
    for _ in 0..5 {
        let begun = Instant::now();
        let texts = client.texts("LIST \"\" f/% RETURN (STATUS (MESSAGES UIDNEXT UNSEEN))");
        assert_eq!(texts.len(), 2000);
        println!("one LIST: {:?}", begun.elapsed());
        let begun = Instant::now();
        let commands: Vec<String> = (0..1000)
            .map(|n| format!("s{n} STATUS f/{n:04} (MESSAGES UIDNEXT UNSEEN)\r\n"))
            .collect();
        client.send(commands.concat().as_bytes());
        client.finish("s999");
        println!("1000 STATUS: {:?}", begun.elapsed());
    }
}
