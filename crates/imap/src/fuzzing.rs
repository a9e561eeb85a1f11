//! Entry points for fuzzers: each takes any octets and fails where a promise of this crate is broken.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use nightmail_core::{Flags, MailboxId, ModSeq, Uid, UidValidity};
use nightmail_sasl::{self as sasl, Channel, MechanismSet, Question, ScramSecret};

use crate::command::acl::{AclAnswer, AclAsk};
use crate::command::list::MailboxDetails;
use crate::command::metadata::MetadataAsk;
use crate::command::quota::{QuotaRoot, Resource};
use crate::flag::FlagList;
use crate::io::{
    Answer, AppendUid, Ask, BinaryData, BlobRange, CopyUid, FetchRow, FlagsRow, Found, Input,
    MailboxEntry, MailboxUpdate, Output, Permitted, SectionData, Selected, StatusData, ThreadRow,
};
use crate::limits::{Config, Limits};
use crate::name::MailboxName;
use crate::set::{UidSet, UidSetSpec};
use crate::{Refusal, RefusalKind, Session, command, mutf7};

/// The UIDVALIDITY of every mailbox.
const UID_VALIDITY: UidValidity = match UidValidity::new(7) {
    Some(value) => value,
    None => panic!("7 is not 0"),
};

/// Believes every client but one whose proof is wrong.
fn decide(question: &Question) -> sasl::Answer {
    match question {
        Question::Scram { hash, .. } => sasl::Answer::Secret {
            secret: ScramSecret::derive(*hash, "secret", b"salt".to_vec(), 1),
            nonce: "nonce".into(),
        },
        Question::Disproven { .. } => sasl::Answer::Refused,
        _ => sasl::Answer::Accepted {
            identity: "joe".into(),
        },
    }
}

/// Parses a command; only the absence of panics is at stake.
pub fn parse_command(data: &[u8]) {
    let _ = command::parse(data, &Limits::default());
}

/// Decodes a mailbox name; what decodes must encode to the same octets.
pub fn decode_mutf7(data: &[u8]) {
    if let Ok(text) = mutf7::decode(data) {
        assert_eq!(mutf7::encode(&text).as_bytes(), data);
    }
}

/// Runs a session against a made-up store. The first octet says how input is cut and what others do meanwhile.
pub fn run_session(start: Instant, data: &[u8]) {
    let Some((&seed, text)) = data.split_first() else {
        return;
    };
    let mut world = World::new(start, seed);
    world.drain();
    for piece in text.chunks(usize::from(seed % 16) + 1) {
        while !world.closed && !world.session.wants_input() {
            world.drain();
        }
        world.feed(Input::Bytes(piece));
        if world.draw(8) == 0 {
            world.disturb();
        }
    }
    world.now += Duration::from_secs(3600);
    world.feed(Input::Timeout);
    assert!(world.closed, "a silent session ends");
}

/// What the client was told, and a mailbox that others change at will.
struct World {
    session: Session,
    now: Instant,
    state: u32,
    closed: bool,
    uids: Vec<Uid>,
    uid_next: u32,
    modseq: u64,
    /// How many messages the client believes to be there; none while none is selected.
    exists: Option<usize>,
    /// What is left to come of the message of an APPEND, where its length is known.
    appending: Option<Option<u64>>,
    literal_left: u64,
    line: Vec<u8>,
}

impl World {
    fn new(now: Instant, seed: u8) -> Self {
        let config = Config {
            plaintext_login: true,
            mechanisms: MechanismSet::all(),
            limits: Limits {
                bad_commands_max: 1000,
                ..Limits::default()
            },
            ..Config::default()
        };
        Self {
            session: Session::new(Arc::new(config), None, now),
            now,
            state: u32::from(seed) | 1,
            closed: false,
            uids: (2..9).filter_map(Uid::new).collect(),
            uid_next: 9,
            modseq: 1,
            exists: None,
            appending: None,
            literal_left: 0,
            line: Vec::new(),
        }
    }

    /// A number below `end`, drawn without randomness.
    fn draw(&mut self, end: u32) -> u32 {
        self.state = self
            .state
            .wrapping_mul(1_664_525)
            .wrapping_add(1_013_904_223);
        (self.state >> 16) % end
    }

    fn feed(&mut self, input: Input<'_>) {
        self.session.handle(self.now, input);
        self.drain();
    }

    fn drain(&mut self) {
        let mut asks = 0;
        while let Some(output) = self.session.poll_output() {
            assert!(!self.closed, "nothing follows Close");
            match output {
                Output::Send(text) => self.read(&text),
                Output::SendBlob(blob) => {
                    assert!(self.literal_left >= blob.octets, "a blob was announced");
                    self.literal_left -= blob.octets;
                }
                Output::Body(octets) => {
                    assert!(self.appending.is_some(), "a message was begun");
                    if let Some(known) = self.appending.flatten() {
                        let left = known.checked_sub(octets.len() as u64);
                        assert!(left.is_some(), "no more of a message than was announced");
                        self.appending = Some(left);
                    }
                }
                Output::AbortBody => self.appending = None,
                Output::Ask(ask) => {
                    asks += 1;
                    assert!(asks < 10_000, "questions come to an end");
                    self.answer(ask);
                }
                Output::StartTls => {
                    let channel = Channel {
                        bindings: vec![("tls-exporter", vec![7; 32])],
                        certificate: true,
                    };
                    self.session
                        .handle(self.now, Input::TlsEstablished(channel));
                }
                Output::Compress(_) | Output::Idle(_) | Output::ClientId(_) => {}
                Output::Close => self.closed = true,
            }
        }
    }

    fn give(&mut self, answer: Answer) {
        self.session.handle(self.now, Input::Answer(answer));
    }

    fn answer(&mut self, ask: Ask) {
        if self.draw(16) == 0 {
            return self.give(Answer::Refused(Refusal::new(
                RefusalKind::Unavailable,
                "try later",
            )));
        }
        match ask {
            Ask::Acl(ask) => self.answer_acl(&ask),
            Ask::Quota(_) => self.answer_quota(),
            Ask::Metadata(ask) => self.answer_metadata(ask),
            Ask::Authenticate(question) => self.give(Answer::Authentication(decide(&question))),
            Ask::Select { read_only, .. } => self.answer_select(read_only),
            Ask::Mailboxes(_) => self.answer_mailboxes(),
            Ask::Details { mailboxes, .. } => {
                let details = mailboxes.iter().map(|_| MailboxDetails::default());
                self.give(Answer::Details(details.collect()));
            }
            Ask::Notify(_) => self.give(Answer::Notified(Vec::new())),
            Ask::Create { .. } => self.give(Answer::Created(MailboxId::new(1))),
            Ask::Status { .. } => self.answer_status(),
            Ask::AppendBegin(begin) => self.answer_append(begin.octets),
            Ask::AppendUrl { octets_max, .. } => self.answer_part(octets_max),
            Ask::AuthorizeUrl(_) => self.give(Answer::UrlToken("00".into())),
            Ask::FetchUrl(_) => {
                let data = SectionData::Bytes(Bytes::from_static(b"a"));
                self.give(Answer::UrlData(data));
            }
            Ask::ResetUrlKeys(_) => self.give(Answer::Done),
            Ask::Unauthenticate => self.give(Answer::LoggedOut(None)),
            Ask::AppendFinish => self.answer_appended(),
            Ask::Fetch { uids, plan } => self.answer_fetch(&uids, &plan),
            Ask::Store { uids, .. } => self.answer_store(&uids),
            Ask::Copy { uids, .. } => self.answer_copy(uids),
            Ask::Move { uids, .. } => {
                self.remove(&uids);
                self.give(Answer::Copied(None));
            }
            Ask::Expunge { uids } => {
                self.remove(&uids.unwrap_or_else(|| self.uids.iter().copied().take(2).collect()));
                self.give(Answer::Done);
            }
            Ask::Search(find) => self.answer_search(find.modseqs),
            Ask::Thread { .. } => self.answer_thread(),
            Ask::SearchMailboxes { .. } => self.give(Answer::Done),
            Ask::Refresh { .. } => {
                self.disturb();
                self.give(Answer::Done);
            }
            Ask::Close { .. }
            | Ask::Delete(_)
            | Ask::Rename { .. }
            | Ask::Subscribe(_)
            | Ask::Unsubscribe(_) => self.give(Answer::Done),
        }
    }

    fn uid_next(&self) -> Uid {
        Uid::new(self.uid_next).unwrap_or(Uid::FIRST)
    }

    fn answer_status(&mut self) {
        self.give(Answer::Status(StatusData {
            messages: 1,
            recent: 0,
            uid_next: self.uid_next(),
            uid_validity: UID_VALIDITY,
            unseen: 0,
            deleted: 0,
            octets: 0,
            deleted_octets: 0,
            highest_modseq: ModSeq::new(1),
            mailbox: MailboxId::new(1),
        }));
    }

    fn answer_append(&mut self, octets: Option<u64>) {
        assert!(
            matches!(self.appending, None | Some(Some(0) | None)),
            "all of it came"
        );
        self.appending = Some(octets);
        self.give(Answer::AppendReady);
    }

    fn answer_part(&mut self, octets_max: u64) {
        let octets = 10;
        self.give(match octets_max < octets {
            true => Answer::Refused(Refusal::new(RefusalKind::TooBig, "too big")),
            false => Answer::AppendedPart(octets),
        });
    }

    fn answer_appended(&mut self) {
        let left = self.appending.take();
        assert!(
            matches!(left, Some(Some(0) | None)),
            "all of the message came"
        );
        self.give(Answer::Appended(Some(AppendUid {
            uid_validity: UID_VALIDITY,
            uids: UidSet::range(self.uid_next(), self.uid_next()),
        })));
    }

    fn answer_copy(&mut self, uids: UidSet) {
        self.give(Answer::Copied(Some(CopyUid {
            uid_validity: UID_VALIDITY,
            source: uids.clone(),
            target: uids,
        })));
    }

    fn answer_search(&mut self, modseqs: bool) {
        let uids = self.uids.clone();
        let modseqs = match modseqs {
            true => vec![ModSeq::new(7); uids.len()],
            false => Vec::new(),
        };
        self.give(Answer::Found(Found { uids, modseqs }));
    }

    fn answer_thread(&mut self) {
        let row = |(index, uid): (usize, &Uid)| ThreadRow {
            depth: index.min(2) as u32,
            uid: Some(*uid),
        };
        let rows = self.uids.iter().enumerate().map(row).collect();
        self.give(Answer::Threads(rows));
    }

    fn answer_select(&mut self, read_only: bool) {
        self.give(Answer::Selected(Selected {
            read_only,
            permitted: Permitted::ALL,
            uids: self.uids.clone().into(),
            uid_validity: UID_VALIDITY,
            uid_next: self.uid_next(),
            first_unseen: self.uids.first().copied(),
            recent_floor: Uid::FIRST,
            keywords: Arc::default(),
            highest_modseq: ModSeq::new(self.modseq),
            mailbox_id: MailboxId::new(5),
            resynced: None,
        }));
    }

    fn answer_acl(&mut self, ask: &AclAsk) {
        self.give(match ask {
            AclAsk::Get(_) => Answer::Acl(AclAnswer::List(vec![("\u{e9} \"".into(), "lr".into())])),
            AclAsk::Mine(_) => Answer::Acl(AclAnswer::Mine("lr".into())),
            AclAsk::Possible { .. } => Answer::Acl(AclAnswer::Possible {
                always: String::new(),
                each: vec!["l".into(), "r".into()],
            }),
            AclAsk::Set { .. } | AclAsk::Delete { .. } => Answer::Done,
        });
    }

    fn answer_quota(&mut self) {
        let root = QuotaRoot {
            name: "joe@example.org".into(),
            resources: Some(vec![(Resource::Storage, 5, 10), (Resource::Message, 1, 2)]),
        };
        self.give(Answer::Quota(vec![root]));
    }

    fn answer_metadata(&mut self, ask: MetadataAsk) {
        self.give(match ask {
            MetadataAsk::Get { mut entries, .. } => {
                entries.dedup();
                let value = Bytes::from_static(b"a\0\r\n");
                Answer::Metadata(
                    entries
                        .into_iter()
                        .map(|entry| (entry, value.clone()))
                        .collect(),
                )
            }
            MetadataAsk::Set { .. } => Answer::Done,
        });
    }

    fn answer_mailboxes(&mut self) {
        let names = ["A/B", "INBOX"]
            .iter()
            .filter_map(|name| MailboxName::new(name).ok());
        let entries = names.map(|name| MailboxEntry {
            name,
            mailbox: Some(MailboxId::new(1)),
            selectable: true,
            subscribed: false,
            special_use: None,
            rights: None,
        });
        self.give(Answer::Mailboxes(entries.collect()));
    }

    fn present(&self, uids: &UidSet) -> Vec<Uid> {
        self.uids
            .iter()
            .copied()
            .filter(|uid| uids.contains(*uid))
            .collect()
    }

    fn answer_fetch(&mut self, uids: &UidSet, plan: &command::fetch::FetchPlan) {
        for uid in self.present(uids) {
            let section = match self.draw(3) {
                0 => SectionData::Absent,
                1 => SectionData::Bytes(Bytes::from_static(b"a)\r\nb")),
                _ => SectionData::Blob(BlobRange {
                    token: 1,
                    start: 5,
                    octets: 77,
                }),
            };
            let binaries = plan.binaries.iter().map(|part| match part.size_only {
                true => BinaryData::Size(5),
                false => BinaryData::Octets(SectionData::Bytes(Bytes::from_static(b"\0a"))),
            });
            self.give(Answer::FetchRow(FetchRow {
                flags_changed: plan.set_seen,
                modseq: ModSeq::new(self.modseq),
                octets: 5,
                envelope: Bytes::from_static(b"(NIL)"),
                body: Bytes::from_static(b"(NIL)"),
                body_structure: Bytes::from_static(b"(NIL)"),
                sections: vec![section; plan.sections.len()],
                binaries: binaries.collect(),
                ..FetchRow::new(uid)
            }));
        }
        self.give(Answer::FetchDone { gone: false });
    }

    fn answer_store(&mut self, uids: &UidSet) {
        self.modseq += 1;
        let modseq = ModSeq::new(self.modseq);
        for uid in self.present(uids) {
            let flags = FlagList {
                flags: Flags::SEEN,
                keywords: Vec::new(),
            };
            self.give(Answer::StoreRow(FlagsRow { uid, flags, modseq }));
        }
        self.give(Answer::Stored {
            modseq: Some(modseq),
            gone: false,
            modified: UidSet::default(),
        });
    }

    fn remove(&mut self, uids: &UidSet) {
        self.uids.retain(|uid| !uids.contains(*uid));
        self.push_update(Vec::new());
    }

    /// Another session removes, adds or marks a message.
    fn disturb(&mut self) {
        self.modseq += 1;
        match self.draw(3) {
            0 if !self.uids.is_empty() => {
                let index = self.draw(self.uids.len() as u32) as usize;
                self.uids.remove(index);
            }
            1 => {
                self.uids.extend(Uid::new(self.uid_next));
                self.uid_next += 1;
            }
            _ => {}
        }
        let changed = self.uids.first().map(|uid| FlagsRow {
            uid: *uid,
            flags: FlagList::default(),
            modseq: ModSeq::new(self.modseq),
        });
        self.push_update(changed.into_iter().collect());
        self.drain();
    }

    fn push_update(&mut self, changed: Vec<FlagsRow>) {
        let update = MailboxUpdate {
            uids: self.uids.clone().into(),
            modseq: ModSeq::new(self.modseq),
            changed,
            keywords: None,
        };
        self.session.handle(self.now, Input::Update(update));
    }

    /// Follows what the client is told, as a client does.
    fn read(&mut self, text: &[u8]) {
        for &octet in text {
            if self.literal_left > 0 {
                self.literal_left -= 1;
                continue;
            }
            self.line.push(octet);
            if octet == b'\n' {
                let line = std::mem::take(&mut self.line);
                assert!(line.ends_with(b"\r\n"), "lines end in CRLF");
                self.read_line(&String::from_utf8_lossy(&line));
            }
        }
    }

    /// Each UID was counted, unless the client had asked what was gone before.
    fn read_vanished(&mut self, set: &str) {
        let Some(set) = UidSetSpec::parse(set.as_bytes()).and_then(|set| set.exact()) else {
            return;
        };
        let lengths = set.ranges().map(|(low, high)| high.get() - low.get() + 1);
        let gone: u32 = lengths.sum();
        let left = self.exists.map(|exists| exists.checked_sub(gone as usize));
        assert!(left != Some(None), "VANISHED names messages");
        self.exists = left.flatten();
    }

    fn read_line(&mut self, line: &str) {
        let line = line.trim_end();
        let literal = line
            .rsplit_once('{')
            .and_then(|(_, size)| size.strip_suffix('}'));
        self.literal_left = literal.and_then(|size| size.parse().ok()).unwrap_or(0);
        if line.contains("OK [PERMANENTFLAGS ()]") || line.contains("] Flags permitted") {
            self.exists = Some(0);
        }
        if let Some(set) = line.strip_prefix("* VANISHED ") {
            self.read_vanished(set);
        }
        let mut words = line.split(' ');
        let numbered = (
            words.next(),
            words.next().and_then(|n| n.parse::<usize>().ok()),
        );
        let (Some("*"), Some(number)) = numbered else {
            return;
        };
        match (words.next(), self.exists) {
            (Some("EXISTS"), exists) => {
                assert!(
                    exists.is_some_and(|exists| exists <= number),
                    "EXISTS never shrinks"
                );
                self.exists = Some(number);
            }
            (Some("EXPUNGE"), Some(exists)) => {
                assert!((1..=exists).contains(&number), "EXPUNGE names a message");
                self.exists = Some(exists - 1);
            }
            (Some("FETCH"), Some(exists)) => {
                assert!((1..=exists).contains(&number), "FETCH names a message");
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Words of the grammar in any order reach further than any octets do.
    fn conversation() -> impl Strategy<Value = Vec<u8>> {
        let line = prop_oneof![
            Just("a LOGIN u p"),
            Just("a LOGIN {1+}\r\nu {1}\r\np"),
            Just("a SELECT INBOX"),
            Just("a EXAMINE INBOX"),
            Just("a FETCH 1:* (FLAGS BODY[] UID)"),
            Just("a FETCH 1 BODY.PEEK[TEXT]<3.4>"),
            Just("a FETCH 1:* (MODSEQ BINARY[1]<0.1> BINARY.SIZE[1] PREVIEW (LAZY) EMAILID)"),
            Just("a UID FETCH 1:* FLAGS (CHANGEDSINCE 1 VANISHED PARTIAL -1:-5)"),
            Just("a UID STORE 1:* (UNCHANGEDSINCE 1) +FLAGS.SILENT (\\Seen)"),
            Just("a ENABLE CONDSTORE QRESYNC UIDONLY IMAP4rev2"),
            Just("a SELECT x (QRESYNC (7 1 1:5 (1,3 2,4)))"),
            Just("a UID FETCH 1:* BODY[1.MIME]"),
            Just("a STORE 1:* +FLAGS (\\Seen k)"),
            Just("a UID STORE 1:* FLAGS.SILENT ()"),
            Just("a SEARCH OR SEEN NOT 1:2"),
            Just("a UID SEARCH RECENT"),
            Just("a EXPUNGE"),
            Just("a MOVE 1 x"),
            Just("a UID COPY 1:* x"),
            Just("a NOOP"),
            Just("a IDLE"),
            Just("DONE"),
            Just("a LIST \"\" %"),
            Just("a STATUS x (MESSAGES)"),
            Just("a APPEND x {3+}\r\nabc"),
            Just("a APPEND x {3+}\r\na\0c x {2+}\r\nzz"),
            Just("a APPEND x {2}\r\nab"),
            Just("a AUTHENTICATE PLAIN"),
            Just("AHUAcA=="),
            Just("a CLOSE"),
            Just("a STARTTLS"),
            Just("a {5+}\r\nxxxxx"),
            Just("a X {5}"),
        ];
        let line = prop_oneof![
            8 => line.prop_map(|text| text.as_bytes().to_vec()),
            1 => proptest::collection::vec(any::<u8>(), 0..20),
        ];
        (any::<u8>(), proptest::collection::vec(line, 0..40)).prop_map(|(seed, lines)| {
            let start: &[&[u8]] = if seed & 1 == 0 {
                &[b"a LOGIN u p", b"a SELECT x"]
            } else {
                &[]
            };
            let mut data = vec![seed];
            for line in start.iter().copied().chain(lines.iter().map(Vec::as_slice)) {
                data.extend_from_slice(line);
                data.extend_from_slice(b"\r\n");
            }
            data
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn no_conversation_breaks_a_session(data in conversation()) {
            run_session(Instant::now(), &data);
        }

        #[test]
        fn no_octets_break_the_parsers(data: Vec<u8>, words in "a (FETCH|SEARCH|STORE|LIST|APPEND|UID) [ -~]{0,30}") {
            parse_command(&data);
            parse_command(words.as_bytes());
            decode_mutf7(&data);
        }
    }
}
