//! A search program, and deciding it from as little as possible.
//!
//! Every test answers yes, no, or that it needs to know more; so does their combination. Asking again with more facts
//! looks at each message in the cheapest way that decides it.

use nightmail_core::{Flags, ModSeq, Timestamp, Uid};
use nightmail_imap::UidSet;
use nightmail_imap::command::search::{EnvelopeField, SearchKey};
use nightmail_imap::parse::Day;
use nightmail_mime::search::TextSearch;
use nightmail_mime::{KnownField, Limits, ListItem, Mailbox, Structure, Trace, charset};
use nightmail_mime::{encoded_word, header};
use nightmail_store::{KeywordId, Mark, MessageRow};

use super::super::fetch::{Item, envelope};
use super::super::flags::KeywordTable;
use super::content::Decoded;

/// Of what is longer not all is kept beside the message.
const KEPT: Limits = Limits::DEFAULT;

/// What is known of a message. Each further fact costs more than the one before.
#[derive(Clone, Copy)]
pub(super) struct Facts<'a> {
    uid: Uid,
    mark: Option<Mark<'a>>,
    row: Option<&'a MessageRow>,
    /// The message with its structure.
    item: Option<&'a Item>,
    /// The message's own header, all of it.
    header: Option<&'a [u8]>,
    /// The decoded texts of what it holds.
    texts: Option<&'a Decoded>,
}

impl<'a> Facts<'a> {
    pub(super) const fn of_mark(uid: Uid, mark: Mark<'a>) -> Self {
        Self {
            uid,
            mark: Some(mark),
            row: None,
            item: None,
            header: None,
            texts: None,
        }
    }

    pub(super) const fn of_row(item: &'a Item) -> Self {
        Self {
            uid: item.uid,
            mark: None,
            row: Some(&item.row),
            item: None,
            header: None,
            texts: None,
        }
    }

    pub(super) const fn of_structure(item: &'a Item) -> Self {
        Self {
            item: Some(item),
            ..Self::of_row(item)
        }
    }

    pub(super) const fn of_header(item: &'a Item, header: &'a [u8]) -> Self {
        Self {
            header: Some(header),
            ..Self::of_structure(item)
        }
    }

    pub(super) const fn of_text(item: &'a Item, header: &'a [u8], texts: &'a Decoded) -> Self {
        Self {
            texts: Some(texts),
            ..Self::of_header(item, header)
        }
    }

    fn flags(&self) -> Option<Flags> {
        let marked = self.mark.map(|mark| mark.flags);
        marked.or_else(|| self.row.map(|row| row.flags))
    }

    fn keywords(&self) -> Option<&[KeywordId]> {
        let marked = self.mark.map(|mark| mark.keywords);
        marked.or_else(|| self.row.map(|row| row.keywords.as_slice()))
    }

    fn modseq(&self) -> Option<ModSeq> {
        let marked = self.mark.map(|mark| mark.modseq);
        marked.or_else(|| self.row.map(|row| row.modseq))
    }

    fn size(&self) -> Option<u64> {
        let marked = self.mark.and_then(|mark| mark.size());
        marked.or_else(|| self.row.map(|row| row.size))
    }
}

/// A search program.
#[derive(Debug)]
pub(super) enum Program {
    /// The answer is known.
    Is(bool),
    And(Vec<Self>),
    Or(Box<Self>, Box<Self>),
    Not(Box<Self>),
    Uids(UidSet),
    Flag(Flags),
    Keyword(KeywordId),
    /// Changed at or after it.
    ModSeq(ModSeq),
    /// INTERNALDATE.
    Received(Period),
    /// INTERNALDATE is at or before this time.
    Until(Timestamp),
    /// INTERNALDATE is at or after this time.
    From(Timestamp),
    /// SAVEDATE.
    Saved(Period),
    /// `Date:`.
    Sent(Period),
    Larger(u64),
    Smaller(u64),
    EmailId(String),
    Envelope(EnvelopeTest),
    Header(HeaderTest),
    Body(TextSearch),
    Text(TextSearch),
}

/// A program that a mark decides with a look or two.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct FlagTest {
    set: Flags,
    clear: Flags,
    keyword: Option<KeywordId>,
}

impl FlagTest {
    pub(super) fn fits(&self, mark: &Mark<'_>) -> bool {
        mark.flags.contains(self.set)
            && mark.flags.bits() & self.clear.bits() == 0
            && self.keyword.is_none_or(|id| mark.keywords.contains(&id))
    }
}

/// Days, in days since 1970-01-01.
#[derive(Clone, Copy, Debug)]
pub(super) enum Period {
    Before(i64),
    On(i64),
    Since(i64),
}

impl Period {
    const fn holds(self, days: i64) -> bool {
        match self {
            Self::Before(day) => days < day,
            Self::On(day) => days == day,
            Self::Since(day) => days >= day,
        }
    }
}

/// Whether a header field holds a text.
#[derive(Debug)]
pub(super) struct HeaderTest {
    name: String,
    known: Option<KnownField>,
    /// None: the field is there.
    text: Option<TextSearch>,
}

impl Program {
    /// The program of a search that begins `now`.
    pub(super) fn new(key: SearchKey<UidSet>, keywords: &KeywordTable, now: Timestamp) -> Self {
        let boxed = |key: Box<SearchKey<UidSet>>| Box::new(Self::new(*key, keywords, now));
        let received = |period: fn(i64) -> Period, day: Day| Self::Received(period(day.get()));
        let saved = |period: fn(i64) -> Period, day: Day| Self::Saved(period(day.get()));
        let sent = |period: fn(i64) -> Period, day: Day| Self::Sent(period(day.get()));
        let ago = |seconds: u32| now.plus_millis(i64::from(seconds) * -1000);
        match key {
            SearchKey::All => Self::Is(true),
            SearchKey::And(keys) => {
                let all = keys.into_iter().map(|key| Self::new(key, keywords, now));
                Self::And(all.collect())
            }
            SearchKey::Or(left, right) => Self::Or(boxed(left), boxed(right)),
            SearchKey::Not(key) => Self::Not(boxed(key)),
            SearchKey::Messages(uids) => Self::Uids(uids),
            SearchKey::Flag(flag) => Self::Flag(flag),
            SearchKey::Keyword(keyword) => keywords
                .find(&keyword)
                .map_or(Self::Is(false), Self::Keyword),
            SearchKey::Before(day) => received(Period::Before, day),
            SearchKey::On(day) => received(Period::On, day),
            SearchKey::Since(day) => received(Period::Since, day),
            SearchKey::ModSeq(modseq) => Self::ModSeq(modseq),
            SearchKey::Older(seconds) => Self::Until(ago(seconds)),
            SearchKey::Younger(seconds) => Self::From(ago(seconds)),
            SearchKey::SavedBefore(day) => saved(Period::Before, day),
            SearchKey::SavedOn(day) => saved(Period::On, day),
            SearchKey::SavedSince(day) => saved(Period::Since, day),
            SearchKey::EmailId(id) => Self::EmailId(id),
            // Conversations are not kept, so that no message has such an id.
            SearchKey::ThreadId(_) => Self::Is(false),
            SearchKey::Envelope { field, text } => Self::Envelope(EnvelopeTest::new(field, &text)),
            SearchKey::SentBefore(day) => sent(Period::Before, day),
            SearchKey::SentOn(day) => sent(Period::On, day),
            SearchKey::SentSince(day) => sent(Period::Since, day),
            SearchKey::Larger(octets) => Self::Larger(octets),
            SearchKey::Smaller(octets) => Self::Smaller(octets),
            SearchKey::Header { field, text } => Self::Header(HeaderTest::new(field, &text)),
            SearchKey::Body(text) => Self::Body(TextSearch::new(&text)),
            SearchKey::Text(text) => Self::Text(TextSearch::new(&text)),
        }
    }

    /// The same where only flags and a keyword are asked for.
    pub(super) fn flag_test(&self) -> Option<FlagTest> {
        let mut test = FlagTest::default();
        self.add_to(&mut test).then_some(test)
    }

    fn add_to(&self, test: &mut FlagTest) -> bool {
        match self {
            Self::Is(true) => true,
            Self::And(keys) => keys.iter().all(|key| key.add_to(test)),
            Self::Flag(flag) => {
                test.set = test.set | *flag;
                true
            }
            Self::Not(key) => match **key {
                Self::Flag(flag) if flag.bits().is_power_of_two() => {
                    test.clear = test.clear | flag;
                    true
                }
                _ => false,
            },
            Self::Keyword(id) if test.keyword.is_none() => {
                test.keyword = Some(*id);
                true
            }
            _ => false,
        }
    }

    /// Whether the message fits; none where more has to be known.
    pub(super) fn test(&self, facts: &Facts<'_>) -> Option<bool> {
        match self {
            Self::Is(answer) => Some(*answer),
            Self::And(keys) => all(keys.iter().map(|key| key.test(facts))),
            Self::Or(left, right) => match left.test(facts) {
                Some(true) => Some(true),
                left => match (left, right.test(facts)) {
                    (_, Some(true)) => Some(true),
                    (Some(false), Some(false)) => Some(false),
                    _ => None,
                },
            },
            Self::Not(key) => key.test(facts).map(|fits| !fits),
            Self::Uids(uids) => Some(uids.contains(facts.uid)),
            Self::Flag(flag) => facts.flags().map(|flags| flags.contains(*flag)),
            Self::Keyword(id) => facts.keywords().map(|keywords| keywords.contains(id)),
            Self::ModSeq(since) => facts.modseq().map(|modseq| modseq >= *since),
            Self::Until(time) => facts.row.map(|row| row.internal_date <= *time),
            Self::From(time) => facts.row.map(|row| row.internal_date >= *time),
            Self::Saved(period) => facts.row.map(|row| period.holds(row.save_date.days())),
            Self::EmailId(id) => facts.row.map(|row| email_id(row) == *id),
            Self::Envelope(test) => test.test(facts),
            Self::Received(period) => facts.row.map(|row| period.holds(row.internal_date.days())),
            Self::Sent(period) => facts.item.map(|item| {
                let sent = envelope(item).sent;
                sent.is_some_and(|sent| period.holds(sent.local_days()))
            }),
            Self::Larger(octets) => facts.size().map(|size| size > *octets),
            Self::Smaller(octets) => facts.size().map(|size| size < *octets),
            Self::Header(test) => test.test(facts),
            Self::Body(search) => facts.texts.map(|texts| is_in_any(search, &texts.body)),
            Self::Text(search) => text(search, facts),
        }
    }
}

fn all(mut answers: impl Iterator<Item = Option<bool>>) -> Option<bool> {
    let mut unknown = false;
    let refused = answers.any(|answer| {
        unknown |= answer.is_none();
        answer == Some(false)
    });
    match (refused, unknown) {
        (true, _) => Some(false),
        (false, true) => None,
        (false, false) => Some(true),
    }
}

/// EMAILID as FETCH tells it.
fn email_id(row: &MessageRow) -> String {
    format!("E{:016x}", row.email_id)
}

fn is_in_any(search: &TextSearch, texts: &[String]) -> bool {
    texts.iter().any(|text| search.is_in(text))
}

/// Header or body: a header that holds the text saves looking at the body.
fn text(search: &TextSearch, facts: &Facts<'_>) -> Option<bool> {
    let in_header = header::fields(facts.header?).any(|field| {
        let name = String::from_utf8_lossy(field.name);
        let value = encoded_word::decode_words(field.value);
        search.is_in(&format!("{name}: {value}"))
    });
    if in_header {
        return Some(true);
    }
    let in_texts =
        |texts: &Decoded| is_in_any(search, &texts.mime) || is_in_any(search, &texts.body);
    facts.texts.map(in_texts)
}

/// Whether a field of the envelope holds a text.
#[derive(Debug)]
pub(super) struct EnvelopeTest {
    field: EnvelopeField,
    /// The same by the header, for what the envelope leaves open.
    header: HeaderTest,
}

impl EnvelopeTest {
    fn new(field: EnvelopeField, text: &str) -> Self {
        Self {
            field,
            header: HeaderTest::new(field.name().to_owned(), text),
        }
    }

    fn test(&self, facts: &Facts<'_>) -> Option<bool> {
        let by_envelope = facts.item.and_then(|item| self.test_envelope(item));
        by_envelope.or_else(|| self.header.test(facts))
    }

    /// Nothing where the header has to be seen: it holds more addresses than are kept, or the prefix has the field.
    fn test_envelope(&self, item: &Item) -> Option<bool> {
        let text = self.header.text.as_ref().filter(|_| is_read_whole(item))?;
        let envelope = item.structure.envelope();
        let list = match self.field {
            EnvelopeField::Bcc => &envelope.bcc,
            EnvelopeField::Cc => &envelope.cc,
            EnvelopeField::From => &envelope.from,
            EnvelopeField::To => &envelope.to,
            EnvelopeField::Subject => return None,
        };
        let is_whole = list.len() < KEPT.addresses_max && !self.header.is_in_prefix(item);
        is_whole.then(|| text.is_in(&shown(list)))
    }
}

/// Whether what is kept beside the message is of all its header, which is read up to a bound.
fn is_read_whole(item: &Item) -> bool {
    let header = &item.structure.root().header;
    header.end.saturating_sub(header.start) <= KEPT.header_octets_max as u64
}

/// Addresses as people write them, decoded.
fn shown(list: &[ListItem]) -> String {
    let mut out = String::new();
    for item in list {
        match item {
            ListItem::Mailbox(mailbox) => show(mailbox, &mut out),
            ListItem::GroupStart(name) => {
                out.push_str(&encoded_word::decode_words(name));
                out.push_str(": ");
            }
            ListItem::GroupEnd => out.push_str("; "),
        }
    }
    out
}

fn show(mailbox: &Mailbox, out: &mut String) {
    let name = mailbox.name.as_deref().unwrap_or_default();
    if !name.is_empty() {
        out.push_str(&encoded_word::decode_words(name));
        out.push_str(" <");
    }
    out.push_str(&charset::decode_unnamed(&mailbox.local_part));
    if let Some(domain) = &mailbox.domain {
        out.push('@');
        out.push_str(&charset::decode_unnamed(domain));
    }
    out.push_str(if name.is_empty() { ", " } else { ">, " });
}

impl HeaderTest {
    fn is_in_prefix(&self, item: &Item) -> bool {
        let prefix = &item.row.prefix;
        let has = |known| !prefix.is_empty() && Trace::parse(prefix, 0).has(known);
        self.known.is_some_and(has)
    }

    fn new(name: String, text: &str) -> Self {
        Self {
            known: KnownField::parse(name.as_bytes()),
            text: (!text.is_empty()).then(|| TextSearch::new(text)),
            name,
        }
    }

    fn test(&self, facts: &Facts<'_>) -> Option<bool> {
        let by_structure = facts.item.and_then(|item| self.test_structure(item));
        by_structure.or_else(|| facts.header.map(|header| self.test_header(header)))
    }

    /// Which known fields there are, and what subject and ids say, is kept beside the message; what the prefix adds is
    /// seen in the prefix.
    fn test_structure(&self, item: &Item) -> Option<bool> {
        let known = self.known.filter(|_| is_read_whole(item))?;
        let structure: &Structure = &item.structure;
        match (structure.has_field(known), &self.text) {
            (false, _) if !self.is_in_prefix(item) => Some(false),
            (_, None) => Some(true),
            (true, Some(text)) if !structure.repeats_fields() && !self.is_in_prefix(item) => {
                let envelope = structure.envelope();
                let value = match known {
                    KnownField::Subject => &envelope.subject,
                    KnownField::MessageId => &envelope.message_id,
                    KnownField::InReplyTo => &envelope.in_reply_to,
                    _ => return None,
                };
                Some(text.is_in(&encoded_word::decode_words(value.as_deref()?)))
            }
            _ => None,
        }
    }

    fn test_header(&self, octets: &[u8]) -> bool {
        let mut fields = header::fields(octets).filter(|field| field.is(&self.name));
        fields.any(|field| match &self.text {
            Some(text) => text.is_in(&encoded_word::decode_words(field.value)),
            None => true,
        })
    }
}
