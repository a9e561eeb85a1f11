//! SEARCH (RFC 3501 §6.4.4): what can be asked, and asking it.

use bytes::BufMut;
use nightmail_core::{Flags, Uid};

use crate::flag::Keyword;
use crate::io::{Answer, Ask};
use crate::parse::Day;
use crate::session::{Session, Step};
use crate::set::{SeqSet, UidSet, UidSetSpec};
use crate::view::View;
use crate::write;

/// The arguments of SEARCH.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Search {
    /// UID SEARCH.
    pub by_uid: bool,
    /// What is sought.
    pub key: SearchKey<SearchSet>,
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
    /// INTERNALDATE before this day.
    Before(Day),
    /// INTERNALDATE on this day.
    On(Day),
    /// INTERNALDATE on this day or later.
    Since(Day),
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
    fn map<N>(self, name: &impl Fn(M) -> N) -> SearchKey<N> {
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
            Self::Before(day) => SearchKey::Before(day),
            Self::On(day) => SearchKey::On(day),
            Self::Since(day) => SearchKey::Since(day),
            Self::SentBefore(day) => SearchKey::SentBefore(day),
            Self::SentOn(day) => SearchKey::SentOn(day),
            Self::SentSince(day) => SearchKey::SentSince(day),
            Self::Larger(octets) => SearchKey::Larger(octets),
            Self::Smaller(octets) => SearchKey::Smaller(octets),
            Self::Header { field, text } => SearchKey::Header { field, text },
            Self::Body(text) => SearchKey::Body(text),
            Self::Text(text) => SearchKey::Text(text),
        }
    }
}

fn resolve(view: &View, set: &SearchSet) -> UidSet {
    match set {
        SearchSet::Seq(set) => view.resolve_seq_leniently(set),
        SearchSet::Uid(set) => view.resolve_uid(set),
        SearchSet::Recent => view.recent_set(),
    }
}

pub(crate) fn run(session: &mut Session, search: Search) {
    let Some(view) = session.view() else { return };
    let key = search.key.map(&|set| resolve(view, &set));
    let by_uid = search.by_uid;
    session.ask(Ask::Search(key), Searching { by_uid });
}

struct Searching {
    by_uid: bool,
}

impl Step for Searching {
    fn answer(self: Box<Self>, session: &mut Session, answer: Answer) {
        match answer {
            Answer::Found(uids) => {
                self.write(session, &uids);
                session.ok("Searched");
            }
            other => session.refuse_unexpected(other),
        }
    }
}

impl Searching {
    /// What the client does not know yet is left out.
    fn write(&self, session: &mut Session, uids: &[Uid]) {
        let (out, view) = session.text_and_view();
        let Some(view) = view else { return };
        let mut hint = 0;
        out.put_slice(b"* SEARCH");
        for uid in uids {
            let Some(seq) = view.seq_of(*uid, &mut hint) else {
                continue;
            };
            out.put_u8(b' ');
            write::number(
                out,
                if self.by_uid {
                    u64::from(uid.get())
                } else {
                    seq as u64
                },
            );
        }
        out.put_slice(b"\r\n");
    }
}
