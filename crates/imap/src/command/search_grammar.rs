//! The grammar of SEARCH (RFC 3501 §9 `search`, `search-key`).

use encoding_rs::Encoding;
use nightmail_core::Flags;

use super::Command;
use super::search::{Search, SearchKey, SearchSet};
use crate::parse::{ParseError, Parser, Result};

type Key = SearchKey<SearchSet>;

pub(super) fn parse(parser: &mut Parser<'_>, by_uid: bool) -> Result<Command> {
    parser.space()?;
    let charset = if parser.eat_word("CHARSET") {
        parser.space()?;
        let name = parser.astring()?.into_owned();
        parser.space()?;
        charset(&name)?
    } else {
        encoding_rs::UTF_8
    };
    let mut grammar = Grammar {
        charset,
        keys_left: parser.limits().search_keys_max,
    };
    let depth_left = parser.limits().search_depth_max;
    let mut keys = vec![grammar.key(parser, depth_left)?];
    while !parser.is_at_end() {
        parser.space()?;
        keys.push(grammar.key(parser, depth_left)?);
    }
    let key = all_of(keys);
    Ok(Command::Search(Search { by_uid, key }))
}

/// A charset by its name. One in which ASCII is not ASCII cannot be told from the words around it.
fn charset(name: &[u8]) -> Result<&'static Encoding> {
    Encoding::for_label(name)
        .filter(|encoding| encoding.is_ascii_compatible() && *encoding != encoding_rs::REPLACEMENT)
        .ok_or(ParseError::Charset)
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
        "NEW" => SearchKey::And(vec![recent(), not(SearchKey::Flag(Flags::SEEN))]),
        _ => return None,
    })
}

struct Grammar {
    charset: &'static Encoding,
    keys_left: usize,
}

impl Grammar {
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
            "UID" => SearchKey::Messages(SearchSet::Uid(parser.uid_set()?)),
            "KEYWORD" => SearchKey::Keyword(parser.keyword()?),
            "UNKEYWORD" => not(SearchKey::Keyword(parser.keyword()?)),
            "BEFORE" => SearchKey::Before(parser.day()?),
            "ON" => SearchKey::On(parser.day()?),
            "SINCE" => SearchKey::Since(parser.day()?),
            "SENTBEFORE" => SearchKey::SentBefore(parser.day()?),
            "SENTON" => SearchKey::SentOn(parser.day()?),
            "SENTSINCE" => SearchKey::SentSince(parser.day()?),
            "LARGER" => SearchKey::Larger(parser.number64()?),
            "SMALLER" => SearchKey::Smaller(parser.number64()?),
            "BCC" | "CC" | "FROM" | "SUBJECT" | "TO" => SearchKey::Header {
                field: word.to_ascii_lowercase(),
                text: self.text(parser)?,
            },
            "HEADER" => {
                let field = self.text(parser)?;
                parser.space()?;
                let text = self.text(parser)?;
                SearchKey::Header { field, text }
            }
            "BODY" => SearchKey::Body(self.text(parser)?),
            "TEXT" => SearchKey::Text(self.text(parser)?),
            _ => return Err(ParseError::Syntax("no such search key")),
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
    use crate::parse::Day;
    use crate::set::{SeqSet, UidSetSpec};
    use proptest::prelude::*;

    fn search(text: &str) -> Result<Key> {
        let limits = Limits::default();
        let line = format!("a SEARCH {text}");
        match crate::command::parse(line.as_bytes(), &limits)? {
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
