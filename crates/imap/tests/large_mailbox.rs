//! A fetch of very many messages holds little output and writes every row.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "tests"
)]

use std::sync::Arc;
use std::time::Instant;

use nightmail_core::{Flags, MailboxId, ModSeq, Uid, UidValidity};
use nightmail_imap::io::{FetchRow, MailboxUpdate, Selected};
use nightmail_imap::{Answer, Ask, Config, FlagList, Input, Output, Session};
use nightmail_sasl::{Answer::Accepted, Channel};

const MESSAGES: u32 = 100_000;

fn drain(session: &mut Session, sent: &mut Vec<u8>) -> Option<Ask> {
    let mut asked = None;
    while let Some(output) = session.poll_output() {
        match output {
            Output::Send(text) => sent.extend_from_slice(&text),
            Output::Ask(ask) => asked = Some(ask),
            other => panic!("{other:?}"),
        }
    }
    asked
}

fn row(uid: Uid) -> FetchRow {
    FetchRow {
        flags: FlagList {
            flags: Flags::SEEN,
            keywords: Vec::new(),
        },
        ..FetchRow::new(uid)
    }
}

fn selected(now: Instant) -> (Session, Arc<[Uid]>) {
    let uids: Arc<[Uid]> = (1..=MESSAGES).filter_map(Uid::new).collect();
    let mut session = Session::new(Arc::new(Config::default()), Some(Channel::default()), now);
    let mut sent = Vec::new();
    session.handle(now, Input::Bytes(b"a LOGIN u p\r\nb SELECT INBOX\r\n"));
    drain(&mut session, &mut sent);
    session.handle(
        now,
        Input::Answer(Answer::Authentication(Accepted {
            identity: "joe".into(),
        })),
    );
    drain(&mut session, &mut sent);
    session.handle(
        now,
        Input::Answer(Answer::Selected(Selected {
            read_only: false,
            permitted: nightmail_imap::io::Permitted::ALL,
            uids: Arc::clone(&uids),
            uid_validity: UidValidity::new(1).unwrap(),
            uid_next: Uid::new(MESSAGES + 1).unwrap(),
            first_unseen: None,
            recent_floor: Uid::new(MESSAGES + 1).unwrap(),
            keywords: Arc::default(),
            highest_modseq: ModSeq::new(1),
            mailbox_id: MailboxId::new(1),
            resynced: None,
        })),
    );
    drain(&mut session, &mut sent);
    (session, uids)
}

#[test]
fn rows_pause_where_output_is_full() {
    let now = Instant::now();
    let (mut session, uids) = selected(now);
    session.handle(now, Input::Bytes(b"c FETCH 1:* (FLAGS)\r\n"));
    let mut sent = Vec::new();
    let Some(Ask::Fetch { uids: asked, .. }) = drain(&mut session, &mut sent) else {
        panic!("no fetch");
    };
    assert_eq!(asked.ranges().len(), 1);
    let mut largest = 0;
    for uid in uids.iter() {
        session.handle(now, Input::Answer(Answer::FetchRow(row(*uid))));
        if session.output_is_full() {
            let before = sent.len();
            assert!(drain(&mut session, &mut sent).is_none());
            largest = largest.max(sent.len() - before);
        }
    }
    session.handle(now, Input::Answer(Answer::FetchDone { gone: false }));
    drain(&mut session, &mut sent);
    let text = String::from_utf8(sent).unwrap();
    assert_eq!(text.lines().count(), MESSAGES as usize + 1);
    assert!(text.ends_with("* 100000 FETCH (FLAGS (\\Seen))\r\nc OK Fetched\r\n"));
    assert!(largest < 65 * 1024, "{largest} octets were held");
}

#[test]
fn every_other_message_expunged_is_told_in_order() {
    let now = Instant::now();
    let (mut session, uids) = selected(now);
    let update = MailboxUpdate {
        uids: uids
            .iter()
            .copied()
            .filter(|uid| uid.get() % 2 == 0)
            .collect(),
        modseq: ModSeq::new(2),
        changed: Vec::new(),
        keywords: None,
    };
    session.handle(now, Input::Update(update));
    session.handle(now, Input::Bytes(b"c NOOP\r\n"));
    let mut sent = Vec::new();
    assert!(matches!(
        drain(&mut session, &mut sent),
        Some(Ask::Refresh { .. })
    ));
    session.handle(now, Input::Answer(Answer::Done));
    drain(&mut session, &mut sent);
    let text = String::from_utf8(sent).unwrap();
    let numbers = text
        .lines()
        .filter_map(|line| line.strip_prefix("* ")?.strip_suffix(" EXPUNGE"))
        .map(|number| number.parse::<u32>().unwrap());
    assert!(numbers.eq(1..=MESSAGES / 2));
}
