//! SORT: every criterion, in the charsets that people write.

use crate::harness::{Client, Server};

fn put(client: &mut Client, date: &str, message: &[u8]) {
    let place = format!("INBOX (\\Seen) \"{date}\"");
    let responses = client.append(&place, message);
    assert!(responses.last().unwrap().text.starts_with("OK"));
}

/// Messages as different programs write them.
fn filled(server: &Server) -> Client {
    let mut client = server.selected("INBOX");
    // Message 1: "Re: привет" in KOI8-R.
    put(
        &mut client,
        " 4-Jan-2003 12:00:00 +0000",
        b"From: Zoe <anna@example.org>\r\nTo: team: x@example.org, y@example.org;\r\n\
          Subject: =?koi8-r?B?UmU6INDSydfF1A==?=\r\nDate: Sun, 2 Feb 2003 23:30:00 -0500\r\n\r\nlonger than others\r\n",
    );
    // Message 2: "привет" in UTF-8, sent before the first.
    put(
        &mut client,
        " 3-Jan-2003 12:00:00 +0000",
        "From: bob@example.net\r\nTo: carol@example.org\r\nCc: dave@example.org\r\n\
         Subject: =?utf-8?Q?=D0=9F=D1=80=D0=B8=D0=B2=D0=B5=D1=82?=\r\n\
         Date: Mon, 3 Feb 2003 04:00:00 +0000\r\n\r\nx\r\n"
            .as_bytes(),
    );
    // Message 3: "apple", no date: when it came counts.
    put(
        &mut client,
        " 2-Jan-2003 12:00:00 +0000",
        b"From: =?iso-8859-1?Q?=E4nne?= <zed@example.org>\r\nTo: Alice <q@example.org>\r\n\
          Subject: [list] Fwd:  APPLE (fwd)\r\n\r\nxx\r\n",
    );
    // Message 4: no field at all but one.
    put(&mut client, " 1-Jan-2003 12:00:00 +0000", b"X: y\r\n\r\n");
    client
}

#[test]
fn every_criterion_orders_its_way() {
    let server = Server::start();
    let mut client = filled(&server);
    for (order, expected) in [
        ("ARRIVAL", "4 3 2 1"),
        ("REVERSE ARRIVAL", "1 2 3 4"),
        ("DATE", "4 3 2 1"),
        ("REVERSE DATE", "1 2 3 4"),
        ("SIZE", "4 3 2 1"),
        ("FROM", "4 1 2 3"),
        ("TO", "4 2 3 1"),
        ("CC", "1 3 4 2"),
        ("SUBJECT", "4 3 1 2"),
        ("SUBJECT DATE", "4 3 2 1"),
        ("REVERSE SUBJECT REVERSE DATE", "1 2 3 4"),
        ("DISPLAYFROM", "4 3 2 1"),
        ("DISPLAYTO", "4 3 2 1"),
    ] {
        let expected = format!("* SORT {expected}");
        let found = client.texts(&format!("SORT ({order}) UTF-8 ALL"));
        assert_eq!(found, [expected], "{order}");
    }
}

#[test]
fn messages_alike_stay_in_the_order_of_the_mailbox() {
    let server = Server::start();
    let mut client = filled(&server);
    assert_eq!(
        client.texts("SORT (REVERSE CC) UTF-8 ALL"),
        ["* SORT 2 1 3 4"]
    );
    assert_eq!(client.texts("SORT (CC) UTF-8 2:3"), ["* SORT 3 2"]);
    assert_eq!(client.texts("SORT (CC) UTF-8 NOT ALL"), ["* SORT"]);
}

#[test]
fn sorted_results_are_told_extended_and_by_uid() {
    let server = Server::start();
    let mut client = filled(&server);
    client.ok("STORE 3 +FLAGS.SILENT (\\Deleted)");
    client.ok("UID EXPUNGE 3");
    assert_eq!(client.texts("UID SORT (DATE) UTF-8 ALL"), ["* SORT 4 2 1"]);
    let found = client.texts("UID SORT RETURN (ALL COUNT MIN MAX) (DATE) UTF-8 ALL");
    assert!(
        found[0].ends_with(" UID MIN 4 MAX 1 COUNT 3 ALL 4,2,1"),
        "{found:?}"
    );
    let found = client.texts("SORT RETURN (PARTIAL -1:-2) (DATE) UTF-8 ALL");
    assert!(found[0].ends_with(" PARTIAL (-1:-2 2,1)"), "{found:?}");
    client.ok("SORT RETURN (SAVE) (DATE) UTF-8 SUBJECT \"привет\"");
    assert_eq!(client.texts("UID SEARCH $"), ["* SEARCH 1 2"]);
}
