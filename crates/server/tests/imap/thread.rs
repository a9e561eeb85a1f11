//! THREAD: conversations by references and by subject.

use crate::harness::{Client, Server};

fn put(client: &mut Client, id: &str, more: &str, subject: &str, second: u32) {
    let message = format!(
        "Message-ID: <{id}@x>\r\n{more}Subject: {subject}\r\nDate: Sun, 2 Feb 2003 10:00:{second:02} +0000\r\n\r\n.\r\n"
    );
    let responses = client.append("INBOX", message.as_bytes());
    assert!(responses.last().unwrap().text.starts_with("OK"));
}

fn filled(server: &Server) -> Client {
    let mut client = server.selected("INBOX");
    put(&mut client, "a", "", "lunch", 1);
    put(&mut client, "b", "References: <a@x>\r\n", "Re: lunch", 2);
    put(
        &mut client,
        "c",
        "In-Reply-To: Your <b@x> of Sunday\r\n",
        "Re: lunch",
        3,
    );
    put(&mut client, "d", "References: <a@x>\r\n", "other words", 4);
    put(&mut client, "e", "", "dinner", 0);
    // Two whose parent never came.
    put(&mut client, "g", "References:\r\n <f@x>\r\n", "g", 6);
    put(&mut client, "h", "References: <f@x>\r\n", "h", 5);
    // No reference, but the subject of an answer.
    put(&mut client, "i", "", "RE: [list] DINNER", 9);
    // A duplicate.
    put(&mut client, "a", "", "lunch again", 10);
    client
}

#[test]
fn conversations_follow_references_then_subjects() {
    let server = Server::start();
    let mut client = filled(&server);
    assert_eq!(
        client.texts("THREAD REFERENCES UTF-8 ALL"),
        ["* THREAD (5 8)(1 (2 3)(4))((7)(6))(9)"]
    );
    assert_eq!(
        client.texts("THREAD ORDEREDSUBJECT UTF-8 1:5,8"),
        ["* THREAD (5 8)(1 (2)(3))(4)"]
    );
}

#[test]
fn only_messages_that_fit_are_told() {
    let server = Server::start();
    let mut client = filled(&server);
    assert_eq!(
        client.texts("THREAD REFERENCES UTF-8 NOT UID 2"),
        ["* THREAD (5 8)(1 (3)(4))((7)(6))(9)"]
    );
    assert_eq!(
        client.texts("THREAD REFERENCES UTF-8 NOT ALL"),
        ["* THREAD"]
    );
    client.ok("STORE 1 +FLAGS.SILENT (\\Deleted)");
    client.ok("UID EXPUNGE 1");
    assert_eq!(
        client.texts("UID THREAD REFERENCES US-ASCII SUBJECT lunch"),
        ["* THREAD (9 2 3)"]
    );
}
