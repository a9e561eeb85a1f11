//! The grammar of SEARCH (RFC 3501 §9 `search`, `search-key`).

use encoding_rs::Encoding;
use nightmail_core::{Flags, ModSeq};

use super::esearch::Returns;
use super::search::{Charset, EnvelopeField, Method, Search, SearchKey, SearchSet};
use super::{Command, sort, thread};
use crate::parse::{Day, ParseError, Parser, Result};

type Key = SearchKey<SearchSet>;

pub(super) fn parse_search(parser: &mut Parser<'_>, by_uid: bool) -> Result<Command> {
    parse(parser, by_uid, |_| Ok(Method::Search))
}

pub(super) fn parse_sort(parser: &mut Parser<'_>, by_uid: bool) -> Result<Command> {
    parse(parser, by_uid, |parser| {
        sort::parse_order(parser).map(Method::Sort)
    })
}

pub(super) fn parse_thread(parser: &mut Parser<'_>, by_uid: bool) -> Result<Command> {
    parse(parser, by_uid, |parser| {
        thread::parse_threading(parser).map(Method::Thread)
    })
}

fn parse(
    parser: &mut Parser<'_>,
    by_uid: bool,
    method: fn(&mut Parser<'_>) -> Result<Method>,
) -> Result<Command> {
    parser.space()?;
    let mut returns = None;
    let may_return = parser
        .peek()
        .is_some_and(|first| matches!(first, b'r' | b'R'));
    if may_return && parser.eat_word("RETURN") {
        parser.space()?;
        returns = Some(Returns::parse(parser)?);
        parser.space()?;
    }
    let method = method(parser)?;
    if returns.is_some() && matches!(method, Method::Thread(_)) {
        return Err(ParseError::Syntax("THREAD has no return options"));
    }
    let program = match method {
        Method::Search => Program::parse(parser),
        _ => {
            parser.space()?;
            Program::parse_after_charset(parser)
        }
    };
    let Program { charset, key } = program?;
    Ok(Command::Search(Search {
        by_uid,
        method,
        returns,
        charset,
        key,
    }))
}

/// A search program and the charset of its texts.
pub(super) struct Program {
    pub(super) charset: Charset,
    pub(super) key: Key,
}

impl Program {
    /// Reads `[CHARSET name] key…` to the end.
    pub(super) fn parse(parser: &mut Parser<'_>) -> Result<Self> {
        if parser.eat_word("CHARSET") {
            parser.space()?;
            return Self::parse_after_charset(parser);
        }
        Self::keys(parser, encoding_rs::UTF_8, Charset::Unnamed)
    }

    /// Reads `name key…` to the end.
    fn parse_after_charset(parser: &mut Parser<'_>) -> Result<Self> {
        let name = parser.astring()?.into_owned();
        parser.space()?;
        match charset(&name) {
            Some(charset) => Self::keys(parser, charset, Charset::Named),
            None => Ok(Self::unknown()),
        }
    }

    /// What is sought cannot be read.
    const fn unknown() -> Self {
        Self {
            charset: Charset::Unknown,
            key: SearchKey::All,
        }
    }

    fn keys(
        parser: &mut Parser<'_>,
        encoding: &'static Encoding,
        charset: Charset,
    ) -> Result<Self> {
        let mut grammar = Grammar {
            charset: encoding,
            keys_left: parser.limits().search_keys_max,
        };
        match grammar.keys(parser) {
            Ok(key) => Ok(Self { charset, key }),
            Err(ParseError::Charset) => Ok(Self::unknown()),
            Err(error) => Err(error),
        }
    }
}

/// A charset by its name. One in which ASCII is not ASCII cannot be told from the words around it.
fn charset(name: &[u8]) -> Option<&'static Encoding> {
    Encoding::for_label(name)
        .filter(|encoding| *encoding != encoding_rs::REPLACEMENT)
        .filter(|encoding| encoding.is_ascii_compatible() || *encoding == encoding_rs::ISO_2022_JP)
}

fn all_of(mut keys: Vec<Key>) -> Key {
    if keys.len() > 1 {
        return SearchKey::And(keys);
    }
    keys.pop().unwrap_or(SearchKey::All)
}

fn not(key: Key) -> Key {
    SearchKey::Not(Box::new(key))
}

/// A key that is one word.
fn simple(word: &str) -> Option<Key> {
    let recent = || SearchKey::Messages(SearchSet::Recent);
    Some(match word {
        "ALL" => SearchKey::All,
        "ANSWERED" => SearchKey::Flag(Flags::ANSWERED),
        "DELETED" => SearchKey::Flag(Flags::DELETED),
        "DRAFT" => SearchKey::Flag(Flags::DRAFT),
        "FLAGGED" => SearchKey::Flag(Flags::FLAGGED),
        "SEEN" => SearchKey::Flag(Flags::SEEN),
        "UNANSWERED" => not(SearchKey::Flag(Flags::ANSWERED)),
        "UNDELETED" => not(SearchKey::Flag(Flags::DELETED)),
        "UNDRAFT" => not(SearchKey::Flag(Flags::DRAFT)),
        "UNFLAGGED" => not(SearchKey::Flag(Flags::FLAGGED)),
        "UNSEEN" => not(SearchKey::Flag(Flags::SEEN)),
        "RECENT" => recent(),
        "OLD" => not(recent()),
        // Every message has a date at which it came into its mailbox (RFC 8514).
        "SAVEDATESUPPORTED" => SearchKey::All,
        "NEW" => SearchKey::And(vec![recent(), not(SearchKey::Flag(Flags::SEEN))]),
        _ => return None,
    })
}

fn envelope_field(word: &str) -> Option<EnvelopeField> {
    Some(match word {
        "BCC" => EnvelopeField::Bcc,
        "CC" => EnvelopeField::Cc,
        "FROM" => EnvelopeField::From,
        "SUBJECT" => EnvelopeField::Subject,
        "TO" => EnvelopeField::To,
        _ => return None,
    })
}

/// The key that compares with a day.
fn by_day(word: &str) -> Option<fn(Day) -> Key> {
    Some(match word {
        "BEFORE" => SearchKey::Before,
        "ON" => SearchKey::On,
        "SINCE" => SearchKey::Since,
        "SAVEDBEFORE" => SearchKey::SavedBefore,
        "SAVEDON" => SearchKey::SavedOn,
        "SAVEDSINCE" => SearchKey::SavedSince,
        "SENTBEFORE" => SearchKey::SentBefore,
        "SENTON" => SearchKey::SentOn,
        "SENTSINCE" => SearchKey::SentSince,
        _ => return None,
    })
}

/// `["/flags/…" (all|priv|shared)] number`: which flag it is of makes no difference, there is one for all
/// (RFC 7162 §3.1.5).
fn modseq(parser: &mut Parser<'_>) -> Result<Key> {
    const BAD_ENTRY: ParseError =
        ParseError::Syntax("expected an entry such as \"/flags/\\\\seen\" all");
    if parser.peek() == Some(b'"') {
        let entry = parser.string()?;
        let flag = entry.strip_prefix(b"/flags/").ok_or(BAD_ENTRY)?;
        parser.space()?;
        let kind = parser.atom()?.to_ascii_lowercase();
        if flag.is_empty() || !matches!(kind.as_str(), "all" | "priv" | "shared") {
            return Err(BAD_ENTRY);
        }
        parser.space()?;
    }
    let modseq = parser.number64()?;
    if i64::try_from(modseq).is_err() {
        return Err(ParseError::Syntax("the number is too great"));
    }
    Ok(SearchKey::ModSeq(ModSeq::new(modseq)))
}

/// An object identifier (RFC 8474 §7).
fn object_id(parser: &mut Parser<'_>) -> Result<String> {
    let id = parser.atom()?;
    let is_id_char = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-');
    if id.len() > 255 || !id.bytes().all(is_id_char) {
        return Err(ParseError::Syntax("expected an object identifier"));
    }
    Ok(id.to_owned())
}

struct Grammar {
    charset: &'static Encoding,
    keys_left: usize,
}

impl Grammar {
    /// Keys to the end of the command.
    fn keys(&mut self, parser: &mut Parser<'_>) -> Result<Key> {
        let depth_left = parser.limits().search_depth_max;
        let mut keys = vec![self.key(parser, depth_left)?];
        while !parser.is_at_end() {
            parser.space()?;
            keys.push(self.key(parser, depth_left)?);
        }
        Ok(all_of(keys))
    }

    fn key(&mut self, parser: &mut Parser<'_>, depth_left: usize) -> Result<Key> {
        self.keys_left = self
            .keys_left
            .checked_sub(1)
            .ok_or(ParseError::TooMany("search keys"))?;
        let depth_left = depth_left
            .checked_sub(1)
            .ok_or(ParseError::TooMany("levels"))?;
        match parser.peek() {
            Some(b'(') => {
                let keys_max = parser.limits().search_keys_max;
                parser
                    .list(keys_max, "search keys", |parser| {
                        self.key(parser, depth_left)
                    })
                    .map(all_of)
            }
            Some(b'*' | b'0'..=b'9') => {
                let set = parser.seq_set()?;
                Ok(SearchKey::Messages(SearchSet::Seq(set)))
            }
            Some(b'$') => {
                parser.eat(b'$');
                Ok(SearchKey::Messages(SearchSet::Saved))
            }
            _ => {
                let word = parser.atom()?.to_ascii_uppercase();
                match simple(&word) {
                    Some(key) => Ok(key),
                    None => self.with_argument(parser, &word, depth_left),
                }
            }
        }
    }

    fn with_argument(
        &mut self,
        parser: &mut Parser<'_>,
        word: &str,
        depth_left: usize,
    ) -> Result<Key> {
        parser
            .space()
            .map_err(|_| ParseError::Syntax("no such search key"))?;
        Ok(match word {
            "NOT" => not(self.key(parser, depth_left)?),
            "OR" => {
                let left = self.key(parser, depth_left)?;
                parser.space()?;
                SearchKey::Or(Box::new(left), Box::new(self.key(parser, depth_left)?))
            }
            "UID" if parser.eat(b'$') => SearchKey::Messages(SearchSet::Saved),
            "UID" => SearchKey::Messages(SearchSet::Uid(parser.uid_set()?)),
            "KEYWORD" => SearchKey::Keyword(parser.keyword()?),
            "UNKEYWORD" => not(SearchKey::Keyword(parser.keyword()?)),
            "MODSEQ" => modseq(parser)?,
            "LARGER" => SearchKey::Larger(parser.number64()?),
            "SMALLER" => SearchKey::Smaller(parser.number64()?),
            "OLDER" => SearchKey::Older(parser.nz_number()?),
            "YOUNGER" => SearchKey::Younger(parser.nz_number()?),
            "EMAILID" => SearchKey::EmailId(object_id(parser)?),
            "THREADID" => SearchKey::ThreadId(object_id(parser)?),
            "HEADER" => {
                let field = self.text(parser)?;
                parser.space()?;
                let text = self.text(parser)?;
                SearchKey::Header { field, text }
            }
            "BODY" => SearchKey::Body(self.text(parser)?),
            "TEXT" => SearchKey::Text(self.text(parser)?),
            _ => match (envelope_field(word), by_day(word)) {
                (Some(field), _) => SearchKey::Envelope {
                    field,
                    text: self.text(parser)?,
                },
                (None, Some(key)) => key(parser.day()?),
                (None, None) => return Err(ParseError::Syntax("no such search key")),
            },
        })
    }

    /// A text in the charset of the search.
    fn text(&self, parser: &mut Parser<'_>) -> Result<String> {
        let octets = parser.astring()?;
        self.charset
            .decode_without_bom_handling_and_without_replacement(&octets)
            .map(std::borrow::Cow::into_owned)
            .ok_or(ParseError::Charset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flag::Keyword;
    use crate::limits::Limits;
    use crate::set::{SeqSet, UidSetSpec};
    use proptest::prelude::*;

    fn search(text: &str) -> Result<Key> {
        let limits = Limits::default();
        let line = format!("a SEARCH {text}");
        match crate::command::parse(line.as_bytes(), &limits)? {
            (_, Command::Search(search)) if search.charset == Charset::Unknown => {
                Err(ParseError::Charset)
            }
            (_, Command::Search(search)) => Ok(search.key),
            other => panic!("{other:?}"),
        }
    }

    /// Writes a key in the grammar; `Not` of a flag has its own word, which means the same.
    fn print(key: &Key) -> String {
        let list = |keys: &[Key]| keys.iter().map(print).collect::<Vec<_>>().join(" ");
        match key {
            SearchKey::All => "ALL".into(),
            SearchKey::And(keys) => format!("({})", list(keys)),
            SearchKey::Or(left, right) => format!("OR {} {}", print(left), print(right)),
            SearchKey::Not(key) => format!("NOT {}", print(key)),
            SearchKey::Messages(SearchSet::Seq(set)) => set.to_string(),
            SearchKey::Messages(SearchSet::Uid(set)) => format!("UID {set}"),
            SearchKey::Messages(SearchSet::Recent) => "RECENT".into(),
            SearchKey::Messages(SearchSet::Saved) => "$".into(),
            SearchKey::ModSeq(modseq) => format!("MODSEQ \"/flags/\\\\seen\" all {modseq}"),
            SearchKey::Older(seconds) => format!("OLDER {seconds}"),
            SearchKey::EmailId(id) => format!("EMAILID {id}"),
            SearchKey::Envelope { field, text } => {
                format!("{} {{{}}}\r\n{text}", field.name(), text.len())
            }
            SearchKey::Flag(flag) => flag.to_string().trim_start_matches('\\').to_owned(),
            SearchKey::Keyword(keyword) => format!("KEYWORD {keyword}"),
            SearchKey::Larger(octets) => format!("LARGER {octets}"),
            SearchKey::Smaller(octets) => format!("SMALLER {octets}"),
            SearchKey::Header { field, text } => {
                format!(
                    "HEADER {{{}}}\r\n{field} {{{}}}\r\n{text}",
                    field.len(),
                    text.len()
                )
            }
            SearchKey::Body(text) => format!("BODY {{{}}}\r\n{text}", text.len()),
            SearchKey::Text(text) => format!("TEXT {{{}}}\r\n{text}", text.len()),
            other => panic!("{other:?} is not printed"),
        }
    }

    #[test]
    fn days_are_days_since_the_epoch() {
        assert_eq!(
            search("SENTON 2-Jan-1970"),
            Ok(SearchKey::SentOn(Day::new(1)))
        );
        assert_eq!(
            search("BEFORE \"1-jan-1970\""),
            Ok(SearchKey::Before(Day::new(0)))
        );
        for text in [
            "ON 1-1-1970",
            "ON 1-Jan-70",
            "ON",
            "ON 0-Jan-1970",
            "SINCE \" 1-Jan-1970\"",
        ] {
            assert!(search(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn depth_and_count_are_bounded() {
        let deep = |levels: usize| format!("{}ALL", "NOT ".repeat(levels));
        assert!(search(&deep(31)).is_ok());
        assert_eq!(search(&deep(32)), Err(ParseError::TooMany("levels")));
        let many = vec!["ALL"; 1001].join(" ");
        assert_eq!(search(&many), Err(ParseError::TooMany("search keys")));
    }

    #[test]
    fn text_is_decoded_by_its_charset() {
        let utf8 = SearchKey::Body("é".into());
        assert_eq!(search("CHARSET UTF-8 BODY \"é\""), Ok(utf8.clone()));
        assert_eq!(search("BODY \"é\""), Ok(utf8));
        let latin1 = SearchKey::Body("Ã©".into());
        assert_eq!(search("CHARSET windows-1252 BODY \"é\""), Ok(latin1));
        for charset in ["x-none", "UTF-16", "utf-7"] {
            assert_eq!(
                search(&format!("CHARSET {charset} ALL")),
                Err(ParseError::Charset)
            );
        }
    }

    fn key() -> impl Strategy<Value = Key> {
        let leaf = prop_oneof![
            Just(SearchKey::All),
            Just(SearchKey::Messages(SearchSet::Recent)),
            Just(SearchKey::Messages(SearchSet::Saved)),
            (0..i64::MAX as u64).prop_map(|modseq| SearchKey::ModSeq(ModSeq::new(modseq))),
            (1..=u32::MAX).prop_map(SearchKey::Older),
            "[A-Za-z0-9_-]{1,20}".prop_map(SearchKey::EmailId),
            "[^\0]{0,5}".prop_map(|text| SearchKey::Envelope {
                field: EnvelopeField::Cc,
                text
            }),
            Just(SearchKey::Flag(Flags::SEEN)),
            Just(SearchKey::Flag(Flags::DRAFT)),
            Just(SearchKey::Messages(SearchSet::Seq(
                SeqSet::parse(b"3:*,1").unwrap()
            ))),
            Just(SearchKey::Messages(SearchSet::Uid(
                UidSetSpec::parse(b"7").unwrap()
            ))),
            "[a-z$][a-z]{0,5}".prop_map(|text| SearchKey::Keyword(Keyword::new(&text).unwrap())),
            any::<u64>().prop_map(SearchKey::Larger),
            any::<u64>().prop_map(SearchKey::Smaller),
            ("[^\0]{0,5}", "[^\0]{0,5}")
                .prop_map(|(field, text)| SearchKey::Header { field, text }),
            "[^\0]{0,9}".prop_map(SearchKey::Body),
            "[^\0]{0,9}".prop_map(SearchKey::Text),
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 2..4).prop_map(SearchKey::And),
                (inner.clone(), inner.clone())
                    .prop_map(|(left, right)| SearchKey::Or(Box::new(left), Box::new(right))),
                inner.prop_map(not),
            ]
        })
    }

    proptest! {
        #[test]
        fn programs_survive_printing(key in key()) {
            prop_assert_eq!(search(&print(&key)), Ok(key));
        }
    }
}
