//! Answers and updates as a transcript writes them: a word, then fields apart by spaces; a value with spaces stands in
//! parentheses.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use nightmail_core::{Flags, ModSeq, Timestamp, Uid, UidValidity};
use nightmail_imap::io::{
    AppendUid, BlobRange, CopyUid, FetchRow, FlagsRow, MailboxEntry, MailboxUpdate, Permitted,
    SectionData, Selected, SpecialUse, StatusData,
};
use nightmail_imap::{Answer, FlagList, Input, Keyword, MailboxName, Refusal, RefusalKind, UidSet};
use nightmail_sasl::{self as sasl, ScramHash, ScramSecret};

/// The fields of one answer.
struct Fields {
    words: Vec<String>,
    named: HashMap<String, Vec<String>>,
}

impl Fields {
    fn parse(text: &str) -> Self {
        let mut fields = Self {
            words: Vec::new(),
            named: HashMap::new(),
        };
        for token in tokens(text) {
            match token.split_once('=') {
                Some((name, value)) if name.chars().all(|c| c.is_ascii_lowercase()) => {
                    fields
                        .named
                        .entry(name.into())
                        .or_default()
                        .push(value.into());
                }
                _ => fields.words.push(token),
            }
        }
        fields
    }

    fn all(&self, name: &str) -> &[String] {
        self.named.get(name).map_or(&[], Vec::as_slice)
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.all(name).first().map(String::as_str)
    }

    fn number<T: std::str::FromStr>(&self, name: &str, default: T) -> T {
        self.text(name)
            .map_or(default, |text| text.parse().ok().expect(name))
    }

    fn flags(&self) -> FlagList {
        parse_flags(self.text("flags").unwrap_or("()"))
    }

    fn modseq(&self) -> ModSeq {
        ModSeq::new(self.number("modseq", 1))
    }

    fn uids(&self) -> Vec<Uid> {
        self.text("uids").map_or(Vec::new(), parse_uids)
    }

    fn says(&self, word: &str) -> bool {
        self.words.iter().any(|known| known == word)
    }
}

/// Splits at spaces outside parentheses.
fn tokens(text: &str) -> Vec<String> {
    let (mut tokens, mut token, mut depth) = (Vec::new(), String::new(), 0);
    for c in text.chars() {
        match c {
            ' ' if depth == 0 => tokens.push(std::mem::take(&mut token)),
            _ => token.push(c),
        }
        depth += i32::from(c == '(') - i32::from(c == ')');
    }
    tokens.push(token);
    tokens.retain(|token| !token.is_empty());
    tokens
}

fn uid(raw: u32) -> Uid {
    Uid::new(raw).unwrap()
}

fn parse_ranges(text: &str) -> Vec<(u32, u32)> {
    let range = |range: &str| {
        let (low, high) = range.split_once(':').unwrap_or((range, range));
        (low.parse().expect("a UID"), high.parse().expect("a UID"))
    };
    text.split(',')
        .filter(|range| !range.is_empty())
        .map(range)
        .collect()
}

fn parse_uids(text: &str) -> Vec<Uid> {
    let ranges = parse_ranges(text).into_iter();
    ranges.flat_map(|(low, high)| low..=high).map(uid).collect()
}

fn parse_set(text: &str) -> UidSet {
    parse_uids(text).into_iter().collect()
}

fn inner(text: &str) -> &str {
    let inner = text
        .strip_prefix('(')
        .and_then(|text| text.strip_suffix(')'));
    inner.unwrap_or(text)
}

fn parse_flags(text: &str) -> FlagList {
    let mut list = FlagList::default();
    for name in inner(text).split_whitespace() {
        match Flags::parse(name) {
            Some(flag) => list.flags = list.flags | flag,
            None => list.keywords.push(Keyword::new(name).expect("a keyword")),
        }
    }
    list
}

fn parse_keywords(text: &str) -> Arc<[Keyword]> {
    let names = text.split(',').filter(|name| !name.is_empty());
    names
        .map(|name| Keyword::new(name).expect("a keyword"))
        .collect()
}

/// `hash password salt nonce`, with 4096 iterations.
fn secret(text: &str) -> sasl::Answer {
    let words: Vec<_> = text.split(' ').collect();
    let hash = match words[0] {
        "sha1" => ScramHash::Sha1,
        _ => ScramHash::Sha256,
    };
    let salt = sasl::decode(words[2]).unwrap();
    sasl::Answer::Secret {
        secret: ScramSecret::derive(hash, words[1], salt, 4096),
        nonce: words[3].into(),
    }
}

/// What blobs hold, by token.
pub type Blobs = Vec<Vec<u8>>;

/// The inputs that an answer is made of: updates and answers, apart by ` ; `.
pub fn parse(text: &str, blobs: &mut Blobs) -> Vec<Input<'static>> {
    text.split(" ; ")
        .map(|part| parse_one(part, blobs))
        .collect()
}

fn parse_one(text: &str, blobs: &mut Blobs) -> Input<'static> {
    let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
    let fields = Fields::parse(rest);
    let validity = UidValidity::new(fields.number("validity", 7)).unwrap();
    Input::Answer(match word {
        "update" => return Input::Update(update(&fields)),
        "ok" => Answer::Done,
        "no" => refused(rest),
        "logged-in" => Answer::Authentication(sasl::Answer::Accepted {
            identity: "joe".into(),
        }),
        "wrong" => Answer::Authentication(sasl::Answer::Refused),
        "disabled" => Answer::Authentication(sasl::Answer::Disabled),
        "unavailable" => Answer::Authentication(sasl::Answer::Unavailable),
        "token" => Answer::Authentication(sasl::Answer::TokenRefused { json: rest.into() }),
        "secret" => Answer::Authentication(secret(rest)),
        "selected" => selected(&fields, validity),
        "mailboxes" => Answer::Mailboxes(fields.words.iter().map(|word| entry(word)).collect()),
        "status" => Answer::Status(StatusData {
            messages: fields.number("messages", 0),
            recent: fields.number("recent", 0),
            uid_next: uid(fields.number("next", 1)),
            uid_validity: validity,
            unseen: fields.number("unseen", 0),
        }),
        "ready" => Answer::AppendReady,
        "appended" => Answer::Appended(fields.words.first().map(|raw| AppendUid {
            uid_validity: validity,
            uid: uid(raw.parse().unwrap()),
        })),
        "row" => Answer::FetchRow(row(&fields, blobs)),
        "done" => Answer::FetchDone {
            gone: fields.says("gone"),
        },
        "flags" => Answer::StoreRow(FlagsRow {
            uid: parse_uids(&fields.words[0])[0],
            flags: fields.flags(),
            modseq: fields.modseq(),
        }),
        "stored" => Answer::Stored {
            modseq: fields.text("modseq").map(|_| fields.modseq()),
            gone: fields.says("gone"),
        },
        "copied" => Answer::Copied(fields.words.first().map(|source| CopyUid {
            uid_validity: validity,
            source: parse_set(source),
            target: parse_set(&fields.words[1]),
        })),
        "found" => Answer::Found(
            fields
                .words
                .first()
                .map_or(Vec::new(), |uids| parse_uids(uids)),
        ),
        other => panic!("no such answer: {other}"),
    })
}

fn refused(text: &str) -> Answer {
    let (kind, text) = text.split_once(' ').expect("kind and text");
    let kinds = [
        RefusalKind::NoSuchMailbox,
        RefusalKind::TryCreate,
        RefusalKind::AlreadyExists,
        RefusalKind::OverQuota,
        RefusalKind::NoPermission,
        RefusalKind::HasChildren,
        RefusalKind::Unavailable,
        RefusalKind::InUse,
        RefusalKind::Limit,
        RefusalKind::AuthenticationFailed,
        RefusalKind::AuthorizationFailed,
        RefusalKind::Expired,
    ];
    let kind = kinds
        .into_iter()
        .find(|known| format!("{known:?}") == kind)
        .expect("a kind");
    Answer::Refused(Refusal::new(kind, text.to_owned()))
}

/// `rights=st`: letters of RFC 4314.
fn permitted(letters: &str) -> Permitted {
    Permitted {
        seen: letters.contains('s'),
        deleted: letters.contains('t'),
        others: letters.contains('w'),
    }
}

fn selected(fields: &Fields, uid_validity: UidValidity) -> Answer {
    let uids = fields.uids();
    let next = uids.last().map_or(1, |last| last.get() + 1);
    Answer::Selected(Selected {
        read_only: fields.says("read-only"),
        permitted: permitted(fields.text("rights").unwrap_or("swt")),
        uids: uids.into(),
        uid_validity,
        uid_next: uid(fields.number("next", next)),
        first_unseen: fields.text("unseen").map(|raw| uid(raw.parse().unwrap())),
        recent_floor: uid(fields.number("recent", next)),
        keywords: parse_keywords(fields.text("keywords").unwrap_or("")),
        highest_modseq: fields.modseq(),
    })
}

/// `changed=UID:(flags):MODSEQ`
fn update(fields: &Fields) -> MailboxUpdate {
    let changed = fields.all("changed").iter().map(|text| {
        let mut parts = text.splitn(2, ':');
        let raw = parts.next().unwrap().parse().unwrap();
        let (flags, modseq) = parts.next().unwrap().rsplit_once(':').expect("a modseq");
        FlagsRow {
            uid: uid(raw),
            flags: parse_flags(flags),
            modseq: ModSeq::new(modseq.parse().unwrap()),
        }
    });
    MailboxUpdate {
        uids: fields.uids().into(),
        changed: changed.collect(),
        keywords: fields.text("keywords").map(parse_keywords),
    }
}

/// `NAME:letters`, `e` for one that can be selected, `s` for a subscribed one, and what it is for in capitals.
fn entry(word: &str) -> MailboxEntry {
    let (name, letters) = word.rsplit_once(':').unwrap_or((word, "e"));
    let uses = [
        ('A', SpecialUse::Archive),
        ('D', SpecialUse::Drafts),
        ('F', SpecialUse::Flagged),
        ('J', SpecialUse::Junk),
        ('L', SpecialUse::All),
        ('S', SpecialUse::Sent),
        ('T', SpecialUse::Trash),
    ];
    MailboxEntry {
        name: MailboxName::new(&name.replace('_', " ")).unwrap(),
        selectable: letters.contains('e'),
        subscribed: letters.contains('s'),
        special_use: uses
            .into_iter()
            .find(|(letter, _)| letters.contains(*letter))
            .map(|(_, kind)| kind),
    }
}

fn row(fields: &Fields, blobs: &mut Blobs) -> FetchRow {
    let structure = |name| Bytes::from(fields.text(name).unwrap_or("").to_owned());
    let sections = fields
        .all("section")
        .iter()
        .map(|text| match text.split_once(':') {
            None if text == "absent" => SectionData::Absent,
            Some(("bytes", text)) => {
                SectionData::Bytes(super::player::unescape(inner(text)).into())
            }
            Some(("blob", text)) => {
                let mut octets = b"not this: ".to_vec();
                let start = octets.len() as u64;
                octets.extend(super::player::unescape(inner(text)));
                let end = octets.len() as u64;
                blobs.push(octets);
                SectionData::Blob(BlobRange {
                    token: blobs.len() as u64 - 1,
                    start,
                    octets: end - start,
                })
            }
            _ => panic!("no such section data: {text}"),
        });
    FetchRow {
        uid: parse_uids(&fields.words[0])[0],
        flags: fields.flags(),
        flags_changed: fields.says("changed"),
        modseq: fields.modseq(),
        internal_date: Timestamp::from_secs(fields.number("date", 0)),
        octets: fields.number("size", 0),
        envelope: structure("envelope"),
        body: structure("body"),
        body_structure: structure("bodystructure"),
        sections: sections.collect(),
    }
}
