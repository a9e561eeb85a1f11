//! Measurements: printed, never judged. Run by hand: `cargo test -p nightmail-server --test imap measure -- --ignored --nocapture`.

use std::time::Instant;

use nightmail_commit::NewBlob;
use nightmail_core::{Flags, Timestamp};
use nightmail_heap::BlobBuilder;
use nightmail_store::{NewMessage, Quota};

use crate::harness::Server;

const MESSAGES: u32 = 50_000;
const AT_ONCE: u32 = 500;

fn message(number: u32) -> String {
    format!(
        "From: Ann Example <ann{number}@example.org>\r\nTo: Bob <bob@example.net>, \"C. D.\" <cd@example.com>\r\n\
         Cc: list-{number}@lists.example.org\r\nSubject: Message {number} of a long list\r\n\
         Date: Mon, 23 Nov 2026 06:00:00 +0000\r\nMessage-ID: <{number}.abcdef@example.org>\r\n\
         In-Reply-To: <{number}.fedcba@example.org>\r\nMIME-Version: 1.0\r\n\
         Content-Type: multipart/alternative; boundary=\"b{number}\"\r\n\r\n--b{number}\r\n\
         Content-Type: text/plain; charset=utf-8\r\n\r\nHello\r\n--b{number}\r\n\
         Content-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n<p>Hello\r\n--b{number}--\r\n"
    )
}

fn fill(server: &Server) {
    let store = &server.services.store;
    server.runtime.block_on(async {
        let mailbox = store.inbox(server.account).await.unwrap();
        for first in (0..MESSAGES).step_by(AT_ONCE as usize) {
            let mut messages = Vec::new();
            for number in first..first + AT_ONCE {
                let text = message(number);
                let mut builder = BlobBuilder::new(store.heap());
                builder.push(text.as_bytes()).unwrap();
                let new = NewMessage {
                    missing_line_ends: 0,
                    mailbox,
                    flags: Flags::EMPTY,
                    keywords: Vec::new(),
                    internal_date: Timestamp::from_secs(1_700_000_000),
                    prefix: Vec::new().into(),
                    blob_size: builder.size(),
                };
                let blob = NewBlob {
                    blob: builder.finish().unwrap(),
                    envelope: Vec::new().into(),
                    meta: nightmail_mime::scan(text.as_bytes()).encode().into(),
                };
                messages.push((blob, new));
            }
            let appended = store.append_all(server.account, Quota::default(), messages, None);
            appended.await.unwrap();
        }
    });
}

#[test]
#[ignore = "a measurement"]
fn measure_fetch_of_envelopes() {
    let server = Server::start();
    fill(&server);
    let mut client = server.selected("INBOX");
    for items in [
        "(ENVELOPE BODYSTRUCTURE)",
        "(ENVELOPE BODYSTRUCTURE)",
        "(ENVELOPE BODYSTRUCTURE)",
        "(INTERNALDATE)",
        "(FLAGS)",
        "(PREVIEW)",
    ] {
        let begun = Instant::now();
        let lines = client.drain(&format!("FETCH 1:{MESSAGES} {items}"));
        let took = begun.elapsed();
        println!("FETCH {items}: {lines} lines in {took:?}");
    }
}
