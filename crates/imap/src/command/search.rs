//! SEARCH (RFC 3501 §6.4.4) and its kin: what can be asked, and asking it.
//!
//! SORT, THREAD and the extended forms share this program and this file's way of asking; how their results are
//! written is in files of their own. `$` (RFC 5182) is kept in the view.

use nightmail_core::{Flags, ModSeq, Uid};

use super::esearch::{self, Returns, Row};
use super::sort::SortKey;
use super::thread::{self, Threading};
use crate::enabled::Extension;
use crate::flag::Keyword;
use crate::io::{Answer, Ask, Find, Found};
use crate::parse::{Day, ParseError};
use crate::session::{Session, Step};
use crate::set::{Bound, SeqSet, UidSet, UidSetSpec};
use crate::view::View;

/// The arguments of SEARCH, SORT (RFC 5256) and THREAD.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Search {
    /// The UID form.
    pub by_uid: bool,
    /// Which of the commands it is.
    pub method: Method,
    /// What of the results is wanted; none: the plain response.
    pub returns: Option<Returns>,
    /// The charset of its texts.
    pub charset: Charset,
    /// What is sought.
    pub key: SearchKey<SearchSet>,
}

/// What is done with the messages found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Method {
    /// SEARCH: told in the order of the mailbox.
    Search,
    /// SORT: told in this order.
    Sort(Vec<SortKey>),
    /// THREAD: told as conversations.
    Thread(Threading),
}

/// How the charset of a search was given.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Charset {
    /// Not at all: UTF-8.
    Unnamed,
    /// By a name that is known.
    Named,
    /// By a name that is not known, or the texts are not written in it.
    Unknown,
}

/// Messages named in a search by a place in the mailbox or the session.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SearchSet {
    /// By sequence number.
    Seq(SeqSet),
    /// By UID.
    Uid(UidSetSpec),
    /// With `\Recent`.
    Recent,
    /// `$`: what the last search saved (RFC 5182).
    Saved,
}

/// Fields that are sought in the envelope (RFC 3501 §6.4.4).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EnvelopeField {
    /// `BCC`
    Bcc,
    /// `CC`
    Cc,
    /// `FROM`
    From,
    /// `SUBJECT`
    Subject,
    /// `TO`
    To,
}

impl EnvelopeField {
    /// The name of the header field, in small letters.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bcc => "bcc",
            Self::Cc => "cc",
            Self::From => "from",
            Self::Subject => "subject",
            Self::To => "to",
        }
    }
}

/// A search program over messages named by `M`: [`SearchSet`] as written, [`UidSet`] as the driver gets it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SearchKey<M> {
    /// Every message.
    All,
    /// Messages that fit all of these.
    And(Vec<Self>),
    /// Messages that fit one or both.
    Or(Box<Self>, Box<Self>),
    /// Messages that do not fit.
    Not(Box<Self>),
    /// These messages.
    Messages(M),
    /// With this system flag.
    Flag(Flags),
    /// With this keyword, compared without case.
    Keyword(Keyword),
    /// Changed at or after this modification sequence (RFC 7162 §3.1.5).
    ModSeq(ModSeq),
    /// INTERNALDATE before this day.
    Before(Day),
    /// INTERNALDATE on this day.
    On(Day),
    /// INTERNALDATE on this day or later.
    Since(Day),
    /// INTERNALDATE at least so many seconds ago (RFC 5032).
    Older(u32),
    /// INTERNALDATE at most so many seconds ago (RFC 5032).
    Younger(u32),
    /// Came into the mailbox before this day (RFC 8514).
    SavedBefore(Day),
    /// Came into the mailbox on this day.
    SavedOn(Day),
    /// Came into the mailbox on this day or later.
    SavedSince(Day),
    /// `Date:` before this day.
    SentBefore(Day),
    /// `Date:` on this day.
    SentOn(Day),
    /// `Date:` on this day or later.
    SentSince(Day),
    /// RFC822.SIZE greater than this.
    Larger(u64),
    /// RFC822.SIZE less than this.
    Smaller(u64),
    /// With this EMAILID (RFC 8474).
    EmailId(String),
    /// With this THREADID (RFC 8474).
    ThreadId(String),
    /// The field of the envelope holds the text, decoded and compared without case; an empty text: the field is there.
    Envelope {
        /// Which field.
        field: EnvelopeField,
        /// The text.
        text: String,
    },
    /// The header field holds the text, decoded and compared without case; an empty text: the field is there.
    Header {
        /// The name of the field.
        field: String,
        /// The text.
        text: String,
    },
    /// The body holds the text.
    Body(String),
    /// Header or body hold the text.
    Text(String),
}

impl<M> SearchKey<M> {
    /// The same program with the messages named in another way.
    pub fn map<N>(self, name: &impl Fn(M) -> N) -> SearchKey<N> {
        let all = |keys: Vec<Self>| keys.into_iter().map(|key| key.map(name)).collect();
        let boxed = |key: Box<Self>| Box::new(key.map(name));
        match self {
            Self::All => SearchKey::All,
            Self::And(keys) => SearchKey::And(all(keys)),
            Self::Or(left, right) => SearchKey::Or(boxed(left), boxed(right)),
            Self::Not(key) => SearchKey::Not(boxed(key)),
            Self::Messages(messages) => SearchKey::Messages(name(messages)),
            Self::Flag(flag) => SearchKey::Flag(flag),
            Self::Keyword(keyword) => SearchKey::Keyword(keyword),
            Self::ModSeq(modseq) => SearchKey::ModSeq(modseq),
            Self::Before(day) => SearchKey::Before(day),
            Self::On(day) => SearchKey::On(day),
            Self::Since(day) => SearchKey::Since(day),
            Self::Older(seconds) => SearchKey::Older(seconds),
            Self::Younger(seconds) => SearchKey::Younger(seconds),
            Self::SavedBefore(day) => SearchKey::SavedBefore(day),
            Self::SavedOn(day) => SearchKey::SavedOn(day),
            Self::SavedSince(day) => SearchKey::SavedSince(day),
            Self::SentBefore(day) => SearchKey::SentBefore(day),
            Self::SentOn(day) => SearchKey::SentOn(day),
            Self::SentSince(day) => SearchKey::SentSince(day),
            Self::Larger(octets) => SearchKey::Larger(octets),
            Self::Smaller(octets) => SearchKey::Smaller(octets),
            Self::EmailId(id) => SearchKey::EmailId(id),
            Self::ThreadId(id) => SearchKey::ThreadId(id),
            Self::Envelope { field, text } => SearchKey::Envelope { field, text },
            Self::Header { field, text } => SearchKey::Header { field, text },
            Self::Body(text) => SearchKey::Body(text),
            Self::Text(text) => SearchKey::Text(text),
        }
    }

    /// Whether a part of the program, or it itself, is such.
    fn any(&self, is_such: &impl Fn(&Self) -> bool) -> bool {
        is_such(self)
            || match self {
                Self::And(keys) => keys.iter().any(|key| key.any(is_such)),
                Self::Or(left, right) => left.any(is_such) || right.any(is_such),
                Self::Not(key) => key.any(is_such),
                _ => false,
            }
    }

    /// Whether modification sequences are sought, so that they are told with the results (RFC 7162 §3.1.5).
    pub fn has_modseq(&self) -> bool {
        self.any(&|key| matches!(key, Self::ModSeq(_)))
    }
}

impl SearchKey<UidSet> {
    /// The set that everything found is in, where the program begins with one.
    pub(crate) fn among(&self) -> Option<&UidSet> {
        match self {
            Self::Messages(uids) => Some(uids),
            Self::And(keys) => keys.iter().find_map(|key| match key {
                Self::Messages(uids) => Some(uids),
                _ => None,
            }),
            _ => None,
        }
    }
}

impl SearchKey<SearchSet> {
    /// Whether messages are named by sequence number.
    pub(crate) fn has_numbers(&self) -> bool {
        self.any(&|key| matches!(key, Self::Messages(SearchSet::Seq(_))))
    }

    /// Whether messages are named in a way that only the selected mailbox gives a meaning.
    pub(crate) fn is_of_selected(&self) -> bool {
        self.any(&|key| {
            matches!(
                key,
                Self::Messages(SearchSet::Seq(_) | SearchSet::Saved | SearchSet::Uid(_))
            )
        })
    }

    /// The program over a mailbox that is not selected, by the UIDs of its messages, ascending, and the first that is
    /// `\Recent`. What the selected mailbox alone gives a meaning names nothing.
    pub fn over(self, uids: &[Uid], recent_floor: Uid) -> SearchKey<UidSet> {
        let last = uids.last().copied();
        self.map(&|set| match (set, last) {
            (SearchSet::Uid(set), Some(last)) => uids_of(&set, last),
            (SearchSet::Recent, Some(last)) if last >= recent_floor => {
                UidSet::range(recent_floor, last)
            }
            _ => UidSet::default(),
        })
    }
}

fn uids_of(set: &UidSetSpec, last: Uid) -> UidSet {
    let raw = |bound| match bound {
        Bound::Last => Some(last),
        Bound::Number(number) => Uid::new(number),
    };
    let ranges = set
        .ranges()
        .filter_map(|(first, second)| Some((raw(first)?, raw(second)?)));
    UidSet::from_ranges(ranges)
}

fn resolve(view: &View, set: &SearchSet) -> UidSet {
    match set {
        SearchSet::Seq(set) => view.resolve_seq_leniently(set),
        SearchSet::Uid(set) => view.resolve_uid(set),
        SearchSet::Recent => view.recent_set(),
        SearchSet::Saved => view.saved(),
    }
}

pub(crate) fn run(session: &mut Session, search: Search) {
    if let Some(returns) = &search.returns
        && returns.save
        && search.charset == Charset::Unknown
    {
        // A search that is refused leaves nothing saved (RFC 5182 §2.1).
        save(session, UidSet::default());
    }
    if !begin(session, search.charset, &search.key) {
        return;
    }
    let Some(view) = session.view() else { return };
    let modseqs = search.key.has_modseq();
    let key = search.key.map(&|set| resolve(view, &set));
    let limited = session.limit_search(key, search.method == Method::Search);
    let Some(key) = limited else { return };
    let (by_uid, returns) = (search.by_uid, search.returns);
    let mut searching = Searching {
        by_uid,
        sorted: false,
        returns,
        names_mailbox: false,
    };
    let order = match search.method {
        Method::Search => Vec::new(),
        Method::Sort(order) => {
            searching.sorted = true;
            order
        }
        Method::Thread(threading) => return thread::ask(session, key, threading, by_uid),
    };
    if searching.returns.is_none() && !searching.sorted {
        // RFC 9051 §6.4.4: the plain form answers as RETURN (ALL) does.
        let extended = session.enabled().has(Extension::Imap4Rev2);
        searching.returns = extended.then_some(Returns::ALL);
    }
    let find = Box::new(Find {
        key,
        order,
        modseqs,
    });
    session.ask(Ask::Search(find), searching);
}

/// The selected mailbox alone, asked for by ESEARCH: the answer names it (RFC 7377 §2.1).
pub(super) fn run_in_selected(session: &mut Session, returns: Returns, key: SearchKey<SearchSet>) {
    let Some(view) = session.view() else {
        return session.bad("No mailbox is selected");
    };
    let modseqs = key.has_modseq();
    let key = key.map(&|set| resolve(view, &set));
    let Some(key) = session.limit_search(key, true) else {
        return;
    };
    let searching = Searching {
        by_uid: true,
        sorted: false,
        returns: Some(returns),
        names_mailbox: true,
    };
    let find = Box::new(Find {
        key,
        order: Vec::new(),
        modseqs,
    });
    session.ask(Ask::Search(find), searching);
}

/// Whether the program may be asked; where not, the command is answered.
pub(super) fn begin(session: &mut Session, charset: Charset, key: &SearchKey<SearchSet>) -> bool {
    let enabled = session.enabled();
    if charset == Charset::Named && enabled.has(Extension::Utf8Accept) {
        session.bad("A charset is not named once UTF-8 is accepted (RFC 6855 3)");
        return false;
    }
    if charset == Charset::Unknown {
        session.reject(ParseError::Charset);
        return false;
    }
    if key.has_numbers() && enabled.has(Extension::UidOnly) {
        session.bad_with("UIDREQUIRED", "Messages are named by UID only");
        return false;
    }
    if key.has_modseq() {
        session.enable_condstore();
    }
    true
}

fn save(session: &mut Session, found: UidSet) {
    if let Some(view) = session.view_mut() {
        view.save(found);
    }
}

struct Searching {
    by_uid: bool,
    sorted: bool,
    returns: Option<Returns>,
    /// Whether the answer says which mailbox it is about.
    names_mailbox: bool,
}

impl Step for Searching {
    fn answer(self: Box<Self>, session: &mut Session, answer: Answer) {
        match answer {
            Answer::Found(found) => {
                let text = if self.sorted { "Sorted" } else { "Searched" };
                self.tell(session, &found);
                session.ok(text);
            }
            other => {
                if self.returns.as_ref().is_some_and(|returns| returns.save) {
                    save(session, UidSet::default());
                }
                session.refuse_unexpected(other);
            }
        }
    }
}

impl Searching {
    fn tell(&self, session: &mut Session, found: &Found) {
        let Some(view) = session.view() else { return };
        let rows = self.rows(view, found);
        let Some(returns) = &self.returns else {
            let name = if self.sorted { "SORT" } else { "SEARCH" };
            return esearch::write_plain(session.text(), name, &rows);
        };
        let validity = view.uid_validity();
        if returns.save {
            save(session, returns.saved(&rows));
        }
        if returns.is_save_alone() {
            return;
        }
        let named = self
            .names_mailbox
            .then(|| session.selected_name().cloned())
            .flatten();
        let head = esearch::Head {
            tag: session.tag(),
            mailbox: named.as_ref().map(|name| (name, validity)),
            by_uid: self.by_uid,
            utf8: session.enabled().utf8(),
        };
        esearch::write(session.text(), &head, returns, &rows, self.sorted);
    }

    /// What was found; what the client does not know yet is left out.
    fn rows(&self, view: &View, found: &Found) -> Vec<Row> {
        let mut hint = 0;
        let mut modseqs = found.modseqs.iter();
        let row = |uid: &Uid| {
            let modseq = modseqs.next().copied();
            let seq = view.seq_of(*uid, &mut hint)?;
            let number = if self.by_uid {
                uid.get()
            } else {
                u32::try_from(seq).ok()?
            };
            Some(Row {
                uid: *uid,
                number,
                modseq,
            })
        };
        found.uids.iter().filter_map(row).collect()
    }
}
