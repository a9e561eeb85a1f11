//! Address lists of header fields (RFC 5322 §3.4, and §4.4 for obsolete routes), as an IMAP envelope shows them.
//!
//! Values lose quoting and folds but keep RFC 2047 encoded-words. A comment names an address that has no
//! display name. What breaks the grammar is read as far as it makes sense, never refused.

use crate::lex;

/// One member of an address list in the order of IMAP's `ENVELOPE` (RFC 3501 §7.4.2).
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ListItem {
    /// An address.
    Mailbox(Mailbox),
    /// A group of this name begins.
    GroupStart(Vec<u8>),
    /// The group ends.
    GroupEnd,
}

/// An address with its display name.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Mailbox {
    /// The display name, or the comment that stands for it.
    pub name: Option<Vec<u8>>,
    /// The obsolete source route, without its colon.
    pub route: Option<Vec<u8>>,
    /// The local-part without quoting; empty for `<>`.
    pub local_part: Vec<u8>,
    /// The domain; absent where the field names none.
    pub domain: Option<Vec<u8>>,
}

/// Parses an address list and stops after `items_max` items.
pub fn parse_list(value: &[u8], items_max: usize) -> Vec<ListItem> {
    let mut parser = ListParser {
        rest: value,
        items: Vec::new(),
        in_group: false,
        entry: Entry::default(),
    };
    while parser.items.len() < items_max && parser.step() {}
    parser.flush();
    if parser.in_group {
        parser.items.push(ListItem::GroupEnd);
    }
    parser.items
}

/// What has been read of one address.
#[derive(Default)]
struct Entry {
    /// The words so far, one space where white space stood.
    phrase: Vec<u8>,
    /// The words so far without white space.
    joined: Vec<u8>,
    domain: Option<Vec<u8>>,
    angle: Option<Mailbox>,
    comment: Option<Vec<u8>>,
}

impl Entry {
    fn word(&mut self, word: &[u8], spaced: bool) {
        if self.angle.is_some() {
            return;
        }
        if let Some(domain) = &mut self.domain {
            domain.extend_from_slice(word);
            return;
        }
        if spaced && !self.phrase.is_empty() {
            self.phrase.push(b' ');
        }
        self.phrase.extend_from_slice(word);
        self.joined.extend_from_slice(word);
    }

    fn at_sign(&mut self) {
        if self.angle.is_none() {
            self.domain.get_or_insert_default();
        }
    }

    fn finish(self) -> Option<Mailbox> {
        let name = |phrase: Vec<u8>| Some(phrase).filter(|name| !name.is_empty());
        if let Some(angle) = self.angle {
            return Some(Mailbox {
                name: name(self.phrase).or(self.comment),
                ..angle
            });
        }
        let local_part = if self.domain.is_some() {
            self.joined
        } else {
            self.phrase
        };
        if local_part.is_empty() && self.domain.is_none() {
            return None;
        }
        Some(Mailbox {
            name: self.comment,
            route: None,
            local_part,
            domain: self.domain.filter(|domain| !domain.is_empty()),
        })
    }
}

struct ListParser<'a> {
    rest: &'a [u8],
    items: Vec<ListItem>,
    in_group: bool,
    entry: Entry,
}

impl ListParser<'_> {
    /// Reads one token; `false` at the end.
    fn step(&mut self) -> bool {
        let trimmed = lex::skip_space(self.rest);
        let spaced = trimmed.len() < self.rest.len();
        self.rest = trimmed;
        let Some((&first, after)) = trimmed.split_first() else {
            return false;
        };
        match first {
            b'(' => {
                let (comment, rest) = lex::comment(trimmed);
                self.rest = rest;
                let comment = lex::trim(&comment);
                if !comment.is_empty() {
                    self.entry.comment = Some(comment.to_vec());
                }
            }
            b'@' => {
                self.rest = after;
                self.entry.at_sign();
            }
            b'<' => self.angle(after),
            b':' => {
                self.rest = after;
                self.colon();
            }
            b',' | b';' => {
                self.rest = after;
                self.separator(first);
            }
            b'>' => self.rest = after,
            _ => {
                let (word, rest) = word(trimmed);
                self.rest = rest;
                self.entry.word(&word, spaced);
            }
        }
        true
    }

    fn angle(&mut self, after: &[u8]) {
        let (angle, consumed) = angle_address(after);
        self.rest = self.rest.get(1 + consumed..).unwrap_or_default();
        if self.entry.angle.is_none() {
            self.entry.angle = Some(angle);
        }
    }

    fn colon(&mut self) {
        if self.in_group || self.entry.angle.is_some() || self.entry.domain.is_some() {
            return;
        }
        let group = std::mem::take(&mut self.entry);
        self.items.push(ListItem::GroupStart(group.phrase));
        self.in_group = true;
    }

    fn separator(&mut self, separator: u8) {
        self.flush();
        if separator == b';' && self.in_group {
            self.items.push(ListItem::GroupEnd);
            self.in_group = false;
        }
    }

    fn flush(&mut self) {
        let entry = std::mem::take(&mut self.entry);
        self.items.extend(entry.finish().map(ListItem::Mailbox));
    }
}

/// Reads an atom, a quoted string, a domain literal, or one stray special; at least one byte.
fn word(input: &[u8]) -> (Vec<u8>, &[u8]) {
    match input.first() {
        Some(b'"') => lex::quoted(input),
        Some(b'[') => {
            let end = memchr::memchr(b']', input).map_or(input.len(), |end| end + 1);
            let (literal, rest) = input.split_at_checked(end).unwrap_or((input, &[]));
            let visible = literal.iter().copied().filter(|&b| !lex::is_space(b));
            (visible.collect(), rest)
        }
        _ => {
            let is_end = |byte| lex::is_space(byte) || b"()<>[]:;@\\,\"".contains(&byte);
            let (atom, rest) = lex::until(input, is_end);
            if atom.is_empty() {
                let (stray, rest) = input.split_at_checked(1).unwrap_or((input, &[]));
                return (stray.to_vec(), rest);
            }
            (atom.to_vec(), rest)
        }
    }
}

/// Reads what follows `<` up to and with `>`, or up to a comma where `>` is missing. Returns the bytes used.
fn angle_address(input: &[u8]) -> (Mailbox, usize) {
    let (route, mut rest) = route(lex::skip_cfws(input));
    let mut mailbox = Mailbox {
        route,
        ..Mailbox::default()
    };
    loop {
        rest = lex::skip_cfws(rest);
        match rest.split_first() {
            None | Some((b',' | b';', _)) => break,
            Some((b'>', after)) => {
                rest = after;
                break;
            }
            Some((b'@', after)) => {
                mailbox.domain.get_or_insert_default();
                rest = after;
            }
            Some(_) => {
                let (word, after) = word(rest);
                let target = mailbox.domain.as_mut().unwrap_or(&mut mailbox.local_part);
                target.extend_from_slice(&word);
                rest = after;
            }
        }
    }
    mailbox.domain = mailbox.domain.filter(|domain| !domain.is_empty());
    (mailbox, input.len() - rest.len())
}

/// Reads an obsolete route `@a,@b:`.
fn route(input: &[u8]) -> (Option<Vec<u8>>, &[u8]) {
    let colon = match input.first() {
        Some(b'@') => memchr::memchr2(b':', b'>', input),
        _ => None,
    };
    let Some((route, [b':', rest @ ..])) = colon.and_then(|at| input.split_at_checked(at)) else {
        return (None, input);
    };
    let visible = route.iter().copied().filter(|&b| !lex::is_space(b));
    (Some(visible.collect()), rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(value: &str) -> String {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let items = parse_list(value.as_bytes(), 100);
        let shown = items.iter().map(|item| match item {
            ListItem::GroupStart(name) => format!("[{}", text(name)),
            ListItem::GroupEnd => "]".to_owned(),
            ListItem::Mailbox(m) => format!(
                "{}|{}|{}|{}",
                m.name.as_deref().map_or("-".into(), text),
                m.route.as_deref().map_or("-".into(), text),
                text(&m.local_part),
                m.domain.as_deref().map_or("-".into(), text)
            ),
        });
        shown.collect::<Vec<_>>().join(" ; ")
    }

    #[test]
    fn every_form_of_address_is_read() {
        for (value, expected) in [
            ("a@b.test", "-|-|a|b.test"),
            (" <a@b.test> ", "-|-|a|b.test"),
            ("Al Bo <a@b>", "Al Bo|-|a|b"),
            ("Al Q. Bo<a@b>", "Al Q. Bo|-|a|b"),
            ("\"Bo, Al\" <a@b>,c@d", "Bo, Al|-|a|b ; -|-|c|d"),
            ("\"Q \\\"x\\\"\" <a@b>", "Q \"x\"|-|a|b"),
            ("a@b (Al (of) Bo)", "Al (of) Bo|-|a|b"),
            ("<a@b> (Al)", "Al|-|a|b"),
            ("=?utf-8?q?J=C3=B6?= <a@b>", "=?utf-8?q?J=C3=B6?=|-|a|b"),
            ("<@x.test,@y.test:a@b>", "-|@x.test,@y.test|a|b"),
            ("\"a b\"@c", "-|-|a b|c"),
            ("a . b @ c . d", "-|-|a.b|c.d"),
            ("a@[192.0.2.1], x", "-|-|a|[192.0.2.1] ; -|-|x|-"),
            ("a@[IPv6:2001:db8::1]", "-|-|a|[IPv6:2001:db8::1]"),
            ("Al\r\n\tBo <a@b>", "Al Bo|-|a|b"),
        ] {
            assert_eq!(shown(value), expected, "{value:?}");
        }
    }

    #[test]
    fn groups_have_a_start_and_an_end() {
        assert_eq!(
            shown("A Group: a@b, Bo <c@d>;, e@f"),
            "[A Group ; -|-|a|b ; Bo|-|c|d ; ] ; -|-|e|f"
        );
        assert_eq!(
            shown("undisclosed-recipients:;"),
            "[undisclosed-recipients ; ]"
        );
        assert_eq!(shown("open: a@b"), "[open ; -|-|a|b ; ]");
    }

    #[test]
    fn broken_lists_are_read_as_far_as_they_go() {
        for (value, expected) in [
            ("", ""),
            (",,;", ""),
            ("<>", "-|-||-"),
            ("Al <a@b, c@d", "Al|-|a|b ; -|-|c|d"),
            ("a@b>, )", "-|-|a|b ; -|-|)|-"),
            ("root", "-|-|root|-"),
            ("Al Bo", "-|-|Al Bo|-"),
            ("\"open <a@b>", "-|-|open <a@b>|-"),
            ("(only a comment)", ""),
            ("a@", "-|-|a|-"),
            ("\\", "-|-|\\|-"),
        ] {
            assert_eq!(shown(value), expected, "{value:?}");
        }
    }

    #[test]
    fn a_list_stops_at_its_limit() {
        assert_eq!(parse_list(b"a@b, c@d, e@f", 1).len(), 1);
    }
}
