//! Answers and updates as a transcript writes them: a word, then fields apart by spaces; a value with spaces stands in
//! parentheses.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use nightmail_core::{Flags, MailboxId, ModSeq, Timestamp, Uid, UidValidity};
use nightmail_imap::command::acl::AclAnswer;
use nightmail_imap::command::list::MailboxDetails;
use nightmail_imap::command::notify::{NameNotice, Notice, StatusNews};
use nightmail_imap::command::quota::{QuotaRoot, Resource};
use nightmail_imap::io::{
    AppendUid, BinaryData, BlobRange, CopyUid, FetchRow, FlagsRow, MailboxEntry, MailboxUpdate,
    Permitted, Resynced, SectionData, Selected, SpecialUse, StatusData,
};
use nightmail_imap::io::{Found, FoundIn, ThreadRow};
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
        "acl" => Answer::Acl(AclAnswer::List(pairs(rest))),
        "rights" => Answer::Acl(AclAnswer::Mine(rest.into())),
        "possible" => possible(rest),
        "quota" => Answer::Quota(rest.split(", ").map(quota_root).collect()),
        "metadata" => Answer::Metadata(annotations(rest)),
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
        "status" => Answer::Status(status(&fields, validity)),
        "details" => Answer::Details(fields.words.iter().map(|word| details(word)).collect()),
        "created" => Answer::Created(MailboxId::new(fields.words[0].parse().unwrap())),
        "notified" => Answer::Notified(fields.words.iter().map(|word| notice(word)).collect()),
        "notice" => return Input::Notice(notice(&fields.words[0])),
        "ready" => Answer::AppendReady,
        "url-token" => Answer::UrlToken(fields.words[0].clone()),
        "url-data" => Answer::UrlData(match fields.words.first() {
            Some(text) => SectionData::Bytes(text.clone().into()),
            None => SectionData::Absent,
        }),
        "logged-out" => Answer::LoggedOut(
            fields
                .words
                .first()
                .map(|_| nightmail_sasl::Channel::default()),
        ),
        "part" => Answer::AppendedPart(fields.words[0].parse().unwrap()),
        "appended" => Answer::Appended(fields.words.first().map(|raw| AppendUid {
            uid_validity: validity,
            uids: parse_set(raw),
        })),
        "row" => Answer::FetchRow(row(&fields, blobs)),
        "vanished" => Answer::Vanished(parse_set(&fields.words[0])),
        "modseqs" => Answer::StoreModSeq {
            uids: parse_set(&fields.words[0]),
            modseq: fields.modseq(),
        },
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
            modified: parse_set(fields.text("modified").unwrap_or("")),
        },
        "copied" => Answer::Copied(fields.words.first().map(|source| CopyUid {
            uid_validity: validity,
            source: parse_set(source),
            target: parse_set(&fields.words[1]),
        })),
        "found" => Answer::Found(found(&fields)),
        "found-in" => Answer::FoundIn(FoundIn {
            mailbox: MailboxName::new(fields.text("mailbox").expect("a name")).unwrap(),
            uid_validity: validity,
            found: found(&fields),
        }),
        "threads" => Answer::Threads(fields.words.iter().map(|word| thread_row(word)).collect()),
        "progress" => {
            return Input::Progress {
                done: fields.text("done").map(|raw| raw.parse().unwrap()),
                goal: fields.text("goal").map(|raw| raw.parse().unwrap()),
            };
        }
        other => panic!("no such answer: {other}"),
    })
}

/// UIDs in their order, and `modseqs=5,6` where each changed.
fn found(fields: &Fields) -> Found {
    let modseqs = fields.text("modseqs").unwrap_or("").split(',');
    Found {
        uids: fields
            .words
            .first()
            .map_or(Vec::new(), |uids| parse_uids(uids)),
        modseqs: modseqs
            .filter(|raw| !raw.is_empty())
            .map(|raw| ModSeq::new(raw.parse().unwrap()))
            .collect(),
    }
}

/// `DEPTH:UID`, with `-` for what is not there.
fn thread_row(word: &str) -> ThreadRow {
    let (depth, raw) = word.split_once(':').expect("a depth");
    ThreadRow {
        depth: depth.parse().unwrap(),
        uid: raw.parse().ok().map(uid),
    }
}

fn refused(text: &str) -> Answer {
    let (kind, text) = text.split_once(' ').expect("kind and text");
    let kinds = [
        RefusalKind::NoSuchMailbox,
        RefusalKind::BadUrl,
        RefusalKind::TryCreate,
        RefusalKind::AlreadyExists,
        RefusalKind::Cannot,
        RefusalKind::TooManyAnnotations,
        RefusalKind::OverQuota,
        RefusalKind::NoPermission,
        RefusalKind::HasChildren,
        RefusalKind::Unavailable,
        RefusalKind::InUse,
        RefusalKind::NotificationOverflow,
        RefusalKind::Limit,
        RefusalKind::AuthenticationFailed,
        RefusalKind::AuthorizationFailed,
        RefusalKind::Expired,
        RefusalKind::ServerBug,
        RefusalKind::SpecialUse,
        RefusalKind::PrivacyRequired,
        RefusalKind::TooBig,
        RefusalKind::ReadOnly,
        RefusalKind::UnknownCte,
    ];
    let kind = kinds
        .into_iter()
        .find(|known| format!("{known:?}") == kind)
        .expect("a kind");
    Answer::Refused(Refusal::new(kind, text.to_owned()))
}

/// `bob lr anyone l`
fn pairs(text: &str) -> Vec<(String, String)> {
    let words: Vec<&str> = text.split(' ').collect();
    let pairs = words.chunks(2).filter(|pair| pair.len() == 2);
    pairs.map(|pair| (pair[0].into(), pair[1].into())).collect()
}

/// `l r s w`: the first is what is always there, `-` for nothing.
fn possible(text: &str) -> Answer {
    let mut words = text.split(' ').map(str::to_owned);
    let always = words.next().unwrap().replace('-', "");
    Answer::Acl(AclAnswer::Possible {
        always,
        each: words.collect(),
    })
}

/// `joe STORAGE 5 10 MESSAGE 1 2`; `joe ?` where the rest may not be told.
fn quota_root(text: &str) -> QuotaRoot {
    let words: Vec<&str> = text.split(' ').collect();
    let resources = words[1..].chunks(3).filter(|words| words.len() == 3);
    let resources = resources.map(|words| {
        let resource = match words[0] {
            "STORAGE" => Resource::Storage,
            "MESSAGE" => Resource::Message,
            _ => Resource::Mailbox,
        };
        (
            resource,
            words[1].parse().unwrap(),
            words[2].parse().unwrap(),
        )
    });
    QuotaRoot {
        name: words[0].into(),
        resources: (words.get(1) != Some(&"?")).then(|| resources.collect()),
    }
}

/// `/shared/comment=text`, escaped as lines are.
fn annotations(text: &str) -> Vec<(String, Bytes)> {
    let named = text.split(' ').filter_map(|word| word.split_once('='));
    let octets = |text| Bytes::from(super::player::unescape(text));
    named
        .map(|(name, text)| (name.into(), octets(text)))
        .collect()
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
        mailbox_id: MailboxId::new(fields.number("id", 1)),
        resynced: fields.says("resynced").then(|| Resynced {
            vanished: parse_set(fields.text("vanished").unwrap_or("")),
            changed: changed(fields),
        }),
    })
}

/// `changed=UID:(flags):MODSEQ`
fn changed(fields: &Fields) -> Vec<FlagsRow> {
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
    changed.collect()
}

fn update(fields: &Fields) -> MailboxUpdate {
    MailboxUpdate {
        uids: fields.uids().into(),
        modseq: fields.modseq(),
        changed: changed(fields),
        keywords: fields.text("keywords").map(parse_keywords),
    }
}

fn status(fields: &Fields, uid_validity: UidValidity) -> StatusData {
    StatusData {
        messages: fields.number("messages", 0),
        recent: fields.number("recent", 0),
        uid_next: uid(fields.number("next", 1)),
        uid_validity,
        unseen: fields.number("unseen", 0),
        deleted: fields.number("deleted", 0),
        octets: fields.number("octets", 0),
        deleted_octets: fields.number("deletedoctets", 0),
        highest_modseq: fields.modseq(),
        mailbox: MailboxId::new(fields.number("mailbox", 1)),
    }
}

/// Without spaces outside parentheses: `-` for nothing, else `(status fields)`, `(entry /shared/x VALUE)` or both.
fn details(word: &str) -> MailboxDetails {
    let mut details = MailboxDetails::default();
    for part in inner(word).split(';') {
        match part.split_once(' ') {
            Some(("status", rest)) => {
                let fields = Fields::parse(rest);
                let validity = UidValidity::new(fields.number("validity", 7)).unwrap();
                details.status = Some(status(&fields, validity));
            }
            Some(("entry", rest)) => {
                let (name, value) = rest.split_once(' ').expect("an entry and its value");
                let value = (value != "NIL").then(|| Bytes::from(value.to_owned()));
                let entries = details.metadata.get_or_insert_default();
                entries.push((name.into(), value));
            }
            _ => assert_eq!(part, "-"),
        }
    }
    details
}

/// `(status NAME [initial] [messages] [flags] [unseen] fields)`, `(name NAME [exists] [open] [no-access] [children]
/// [subscribed] [was=NAME])`, `(metadata NAME|- ENTRY...)` or `overflow`.
fn notice(word: &str) -> Notice {
    let text = inner(word);
    let (kind, rest) = text.split_once(' ').unwrap_or((text, ""));
    let (name, rest) = rest.split_once(' ').unwrap_or((rest, ""));
    let mailbox = |name: &str| MailboxName::new(&name.replace('_', " ")).unwrap();
    let fields = Fields::parse(rest);
    match kind {
        "status" => Notice::Status {
            mailbox: mailbox(name),
            news: StatusNews {
                initial: fields.says("initial"),
                messages: fields.says("messages"),
                flags: fields.says("flags"),
                unseen: fields.says("unseen"),
            },
            data: status(
                &fields,
                UidValidity::new(fields.number("validity", 7)).unwrap(),
            ),
        },
        "name" => Notice::Name(NameNotice {
            name: Some(mailbox(name)),
            exists: fields.says("exists") || fields.says("open"),
            selectable: fields.says("open"),
            no_access: fields.says("no-access"),
            has_children: fields.says("children"),
            subscribed: fields.says("subscribed"),
            special_use: None,
            old_name: fields.text("was").map(mailbox),
        }),
        "metadata" => Notice::Metadata {
            mailbox: (name != "-").then(|| mailbox(name)),
            entries: rest.split(' ').map(Into::into).collect(),
        },
        "overflow" => Notice::Overflow,
        other => panic!("no such notice: {other}"),
    }
}

/// `NAME:letters`, `e` for one that can be selected, `n` for one that is there and cannot, `s` for a subscribed one,
/// `r` with rights, a digit for its id, and what it is for in capitals.
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
    let number = letters.chars().find_map(|letter| letter.to_digit(10));
    let exists = letters.contains(['e', 'n']);
    let rights = letters.contains('r').then(|| "lrswipkxteacd".into());
    MailboxEntry {
        name: MailboxName::new(&name.replace('_', " ")).unwrap(),
        mailbox: exists.then(|| MailboxId::new(u64::from(number.unwrap_or(1)))),
        selectable: letters.contains('e'),
        rights,
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
    let binaries = fields
        .all("binary")
        .iter()
        .map(|text| match text.split_once(':') {
            None if text == "absent" => BinaryData::Absent,
            Some(("size", octets)) => BinaryData::Size(octets.parse().unwrap()),
            Some(("bytes", text)) => {
                let octets = super::player::unescape(inner(text));
                BinaryData::Octets(SectionData::Bytes(octets.into()))
            }
            _ => panic!("no such binary data: {text}"),
        });
    FetchRow {
        flags: fields.flags(),
        flags_changed: fields.says("changed"),
        modseq: fields.modseq(),
        internal_date: Timestamp::from_secs(fields.number("date", 0)),
        octets: fields.number("size", 0),
        envelope: structure("envelope"),
        body: structure("body"),
        body_structure: structure("bodystructure"),
        sections: sections.collect(),
        binaries: binaries.collect(),
        save_date: Timestamp::from_secs(fields.number("saved", 0)),
        email_id: fields.number("email", 0),
        thread_id: fields.text("thread").map(|raw| raw.parse().unwrap()),
        preview: fields.text("preview").map(|text| inner(text).to_owned()),
        ..FetchRow::new(parse_uids(&fields.words[0])[0])
    }
}
