//! The grammar of LIST and LSUB (RFC 3501 §9, RFC 5258 §6, RFC 5819 §4, RFC 8440 §5, RFC 9590).

use super::super::Command;
use super::super::status::parse_items;
use super::{List, ListReturn, ListSelect};
use crate::parse::{ParseError, Parser, Result};
use crate::pattern::ListPattern;

/// Entries of METADATA in one LIST.
const METADATA_ENTRIES_MAX: usize = 100;

pub(in super::super) fn parse_list(parser: &mut Parser<'_>) -> Result<Command> {
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
        parse_return(parser, &mut give)?;
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

pub(in super::super) fn parse_lsub(parser: &mut Parser<'_>) -> Result<Command> {
    parser.space()?;
    let reference = parser.astring()?;
    parser.space()?;
    let pattern = parser.list_mailbox()?;
    parser.end()?;
    let pattern = ListPattern::from_wire(&reference, &pattern, parser.is_utf8());
    Ok(Command::List(List {
        lsub: true,
        select: ListSelect {
            subscribed: true,
            ..ListSelect::default()
        },
        patterns: vec![pattern],
        give: ListReturn::default(),
    }))
}

/// Options in parentheses, possibly none. `option` gets the name in capitals and may read on.
fn parse_options(
    parser: &mut Parser<'_>,
    mut option: impl FnMut(&mut Parser<'_>, &str) -> Result<bool>,
) -> Result<()> {
    parser.expect(b'(', "expected a list of options")?;
    let mut first = true;
    while !parser.eat(b')') {
        if !std::mem::take(&mut first) {
            parser.space()?;
        }
        let name = parser.atom()?.to_ascii_uppercase();
        if !option(parser, &name)? {
            return Err(ParseError::Syntax("no such option"));
        }
    }
    Ok(())
}

fn parse_select(parser: &mut Parser<'_>) -> Result<ListSelect> {
    let mut select = ListSelect::default();
    parse_options(parser, |_, option| {
        match option {
            "SUBSCRIBED" => select.subscribed = true,
            "RECURSIVEMATCH" => select.recursive_match = true,
            "SPECIAL-USE" => select.special_use = true,
            // There are no mailboxes on other servers to add.
            "REMOTE" => {}
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    if select.recursive_match && !select.subscribed && !select.special_use {
        return Err(ParseError::Syntax("RECURSIVEMATCH needs another option"));
    }
    Ok(select)
}

fn parse_return(parser: &mut Parser<'_>, give: &mut ListReturn) -> Result<()> {
    if !parser.eat_word("RETURN") {
        return Err(ParseError::Syntax("expected RETURN"));
    }
    parser.space()?;
    parse_options(parser, |parser, option| {
        match option {
            "SUBSCRIBED" => give.subscribed = true,
            "CHILDREN" | "SPECIAL-USE" => {}
            "MYRIGHTS" => give.rights = true,
            "STATUS" => {
                parser.space()?;
                give.status = parse_items(parser)?;
            }
            "METADATA" => {
                parser.space()?;
                give.metadata = parse_entries(parser)?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    })
}

/// Names of metadata entries, which have no case (RFC 5464 §3.2).
fn parse_entries(parser: &mut Parser<'_>) -> Result<Vec<Box<str>>> {
    let one = |parser: &mut Parser<'_>| {
        let name = parser.utf8_astring()?.to_ascii_lowercase();
        let begins = name.starts_with("/shared/") || name.starts_with("/private/");
        if begins && !name.ends_with('/') && !name.contains(['*', '%']) {
            Ok(name.into_boxed_str())
        } else {
            Err(ParseError::Syntax("no such metadata entry"))
        }
    };
    let mut entries = parser.list(METADATA_ENTRIES_MAX, "metadata entries", one)?;
    entries.sort_unstable();
    entries.dedup();
    Ok(entries)
}
