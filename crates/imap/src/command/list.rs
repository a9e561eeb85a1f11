//! LIST and LSUB (RFC 3501 §6.3.8, §6.3.9), LIST-EXTENDED (RFC 5258), CHILDREN (RFC 3348), SPECIAL-USE (RFC 6154).
//!
//! The driver gives all names; which of them are answered, and with which attributes, is worked out here.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::{BufMut, BytesMut};

use super::Command;
use crate::io::{Answer, Ask, MailboxEntry};
use crate::parse::{ParseError, Parser, Result};
use crate::pattern::ListPattern;
use crate::session::{Session, Step};
use crate::write;

/// The arguments of LIST and LSUB.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct List {
    /// LSUB.
    pub lsub: bool,
    /// Which names are chosen.
    pub select: ListSelect,
    /// The patterns, each with the reference before it.
    pub patterns: Vec<ListPattern>,
    /// What more is told of them.
    pub give: ListReturn,
}

/// Selection options (RFC 5258 §3.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ListSelect {
    /// SUBSCRIBED
    pub subscribed: bool,
    /// RECURSIVEMATCH
    pub recursive_match: bool,
    /// SPECIAL-USE
    pub special_use: bool,
}

/// Return options (RFC 5258 §3.2). CHILDREN and SPECIAL-USE are told always, which they allow.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ListReturn {
    /// SUBSCRIBED
    pub subscribed: bool,
    /// Whether the command is an extended one: then a name without a mailbox is `\NonExistent`.
    pub extended: bool,
}

pub(super) fn parse_list(parser: &mut Parser<'_>) -> Result<Command> {
    parser.space()?;
    let mut give = ListReturn::default();
    let mut select = ListSelect::default();
    if parser.peek() == Some(b'(') {
        give.extended = true;
        select = parse_select(parser)?;
        parser.space()?;
    }
    let reference = parser.astring()?;
    parser.space()?;
    let patterns_max = parser.limits().list_patterns_max;
    let utf8 = parser.is_utf8();
    let one = |parser: &mut Parser<'_>| {
        let pattern = parser.list_mailbox()?;
        Ok(ListPattern::from_wire(&reference, &pattern, utf8))
    };
    let mut patterns = if parser.peek() == Some(b'(') {
        give.extended = true;
        parser.list(patterns_max, "patterns", one)?
    } else {
        let pattern = parser.list_mailbox()?;
        // An empty pattern asks for the root of the reference, whatever that is.
        let reference = if pattern.is_empty() { &[] } else { &*reference };
        vec![ListPattern::from_wire(reference, &pattern, utf8)]
    };
    if parser.eat(b' ') {
        give.extended = true;
        give.subscribed = parse_return(parser)?;
    }
    parser.end()?;
    if give.extended {
        patterns.retain(|pattern| !pattern.is_empty());
    }
    give.subscribed |= select.subscribed;
    Ok(Command::List(List {
        lsub: false,
        select,
        patterns,
        give,
    }))
}

pub(super) fn parse_lsub(parser: &mut Parser<'_>) -> Result<Command> {
    parser.space()?;
    let reference = parser.astring()?;
    parser.space()?;
    let pattern = parser.list_mailbox()?;
    parser.end()?;
    Ok(Command::List(List {
        lsub: true,
        select: ListSelect {
            subscribed: true,
            ..ListSelect::default()
        },
        patterns: vec![ListPattern::from_wire(
            &reference,
            &pattern,
            parser.is_utf8(),
        )],
        give: ListReturn::default(),
    }))
}

/// Options in parentheses, possibly none.
fn parse_options(parser: &mut Parser<'_>, mut option: impl FnMut(&str) -> bool) -> Result<()> {
    parser.expect(b'(', "expected a list of options")?;
    let mut first = true;
    while !parser.eat(b')') {
        if !std::mem::take(&mut first) {
            parser.space()?;
        }
        if !option(&parser.atom()?.to_ascii_uppercase()) {
            return Err(ParseError::Syntax("no such option"));
        }
    }
    Ok(())
}

fn parse_select(parser: &mut Parser<'_>) -> Result<ListSelect> {
    let mut select = ListSelect::default();
    parse_options(parser, |option| {
        match option {
            "SUBSCRIBED" => select.subscribed = true,
            "RECURSIVEMATCH" => select.recursive_match = true,
            "SPECIAL-USE" => select.special_use = true,
            // There are no mailboxes on other servers to add.
            "REMOTE" => {}
            _ => return false,
        }
        true
    })?;
    if select.recursive_match && !select.subscribed && !select.special_use {
        return Err(ParseError::Syntax("RECURSIVEMATCH needs another option"));
    }
    Ok(select)
}

fn parse_return(parser: &mut Parser<'_>) -> Result<bool> {
    if !parser.eat_word("RETURN") {
        return Err(ParseError::Syntax("expected RETURN"));
    }
    parser.space()?;
    let mut subscribed = false;
    parse_options(parser, |option| {
        subscribed |= option == "SUBSCRIBED";
        matches!(option, "SUBSCRIBED" | "CHILDREN" | "SPECIAL-USE")
    })?;
    Ok(subscribed)
}

pub(crate) fn run(session: &mut Session, list: List) {
    let asks_separator = !list.give.extended && list.patterns.iter().all(ListPattern::is_empty);
    if asks_separator && !list.lsub {
        session
            .text()
            .put_slice(b"* LIST (\\Noselect) \"/\" \"\"\r\n");
        return session.ok("Listed");
    }
    session.ask(Ask::Mailboxes, Listing { list });
}

struct Listing {
    list: List,
}

impl Step for Listing {
    fn answer(self: Box<Self>, session: &mut Session, answer: Answer) {
        match answer {
            Answer::Mailboxes(entries) => {
                let utf8 = session.enabled().utf8();
                self.list.write(&entries, utf8, session.text());
                session.ok("Listed");
            }
            other => session.refuse_unexpected(other),
        }
    }
}

/// One name to answer.
#[derive(Clone, Copy, Default)]
struct Line<'a> {
    /// The entry of this name; none where only names below it exist.
    entry: Option<&'a MailboxEntry>,
    /// Whether RECURSIVEMATCH found a chosen name below it.
    child_info: bool,
}

impl List {
    fn write(&self, entries: &Arc<[MailboxEntry]>, utf8: bool, out: &mut BytesMut) {
        for (name, line) in self.lines(entries) {
            out.put_slice(if self.lsub { b"* LSUB (" } else { b"* LIST (" });
            self.write_attributes(out, line, has_children(entries, name));
            out.put_slice(b") \"/\" ");
            write::mailbox_text(out, name, utf8);
            if line.child_info {
                self.write_child_info(out);
            }
            out.put_slice(b"\r\n");
        }
    }

    fn chooses(&self, entry: &MailboxEntry) -> bool {
        (!self.select.subscribed || entry.subscribed)
            && (!self.select.special_use || entry.special_use.is_some())
            && (self.select.subscribed || entry.selectable)
    }

    fn matches(&self, name: &str) -> bool {
        self.patterns
            .iter()
            .any(|pattern| pattern.matches_str(name))
    }

    /// The names to answer. A level above a chosen name is answered as well: by LIST always, unless only some names
    /// are selected; by LSUB where a final `%` stops at it; with RECURSIVEMATCH as such.
    fn lines<'a>(&self, entries: &'a [MailboxEntry]) -> BTreeMap<&'a str, Line<'a>> {
        let mut lines: BTreeMap<&str, Line<'_>> = BTreeMap::new();
        let recursive = self.select.recursive_match;
        let wants_parents = if self.lsub {
            self.patterns.iter().any(ListPattern::wants_parents)
        } else {
            recursive || self.select == ListSelect::default()
        };
        for entry in entries.iter().filter(|entry| self.chooses(entry)) {
            if self.matches(entry.name.as_str()) {
                lines.entry(entry.name.as_str()).or_default();
            }
            if wants_parents {
                for above in entry.name.ancestors().filter(|above| self.matches(above)) {
                    lines.entry(above).or_default().child_info |= recursive;
                }
            }
        }
        for (name, line) in &mut lines {
            let found = entries.binary_search_by(|entry| entry.name.as_str().cmp(name));
            line.entry = found.ok().and_then(|index| entries.get(index));
        }
        lines
    }

    fn write_attributes(&self, out: &mut BytesMut, line: Line<'_>, has_children: bool) {
        let mut attributes = Vec::new();
        let is_there = line.entry.is_some_and(|entry| entry.selectable);
        let subscribed = line.entry.is_some_and(|entry| entry.subscribed);
        if self.lsub {
            // LSUB speaks of subscriptions, not of mailboxes.
            if !subscribed {
                attributes.push("\\Noselect");
            }
        } else {
            if !is_there {
                attributes.push(if self.give.extended {
                    "\\NonExistent"
                } else {
                    "\\Noselect"
                });
            }
            attributes.push(if has_children {
                "\\HasChildren"
            } else {
                "\\HasNoChildren"
            });
            if self.give.subscribed && subscribed {
                attributes.push("\\Subscribed");
            }
            let special_use = line.entry.and_then(|entry| entry.special_use);
            attributes.extend(special_use.map(crate::io::SpecialUse::attribute));
        }
        out.put_slice(attributes.join(" ").as_bytes());
    }

    fn write_child_info(&self, out: &mut BytesMut) {
        let options = [
            (self.select.subscribed, "\"SUBSCRIBED\""),
            (self.select.special_use, "\"SPECIAL-USE\""),
        ];
        let names: Vec<_> = options
            .iter()
            .filter(|(on, _)| *on)
            .map(|(_, name)| *name)
            .collect();
        write::display(out, format_args!(" (\"CHILDINFO\" ({}))", names.join(" ")));
    }
}

/// Whether a mailbox lies below a name.
fn has_children(entries: &[MailboxEntry], name: &str) -> bool {
    let below = format!("{name}/");
    let start = entries.partition_point(|entry| entry.name.as_str() < below.as_str());
    entries
        .get(start..)
        .unwrap_or_default()
        .iter()
        .take_while(|entry| entry.name.as_str().starts_with(&below))
        .any(|entry| entry.selectable)
}
