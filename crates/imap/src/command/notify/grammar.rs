//! The grammar of NOTIFY (RFC 5465 §8).

use super::super::Command;
use super::super::fetch::{FetchItem, parse_item};
use super::{EventGroup, Events, MailboxFilter, Notify, NotifySet, SelectedEvents};
use crate::name::MailboxName;
use crate::parse::{ParseError, Parser, Result};

/// The names of one group.
enum Filter {
    Selected { delayed: bool },
    Other(MailboxFilter),
}

/// The events of one group, as written.
#[derive(Default)]
struct Named {
    events: Events,
    new: bool,
    expunge: bool,
    fetch: Vec<FetchItem>,
    /// Whether one is named that is not known.
    unknown: bool,
}

pub(in super::super) fn parse(parser: &mut Parser<'_>) -> Result<Command> {
    parser.space()?;
    if parser.eat_word("NONE") {
        parser.end()?;
        return Ok(Command::Notify(Box::new(Notify::None)));
    }
    if !parser.eat_word("SET") {
        return Err(ParseError::Syntax("expected SET or NONE"));
    }
    parser.space()?;
    let mut set = NotifySet::default();
    if parser.eat_word("STATUS") {
        set.status = true;
        parser.space()?;
    }
    let mut unknown = false;
    let mut count = 0;
    loop {
        unknown |= parse_group(parser, &mut set)?;
        if parser.is_at_end() {
            break;
        }
        parser.space()?;
        count += 1;
        if count > parser.limits().notify_groups_max {
            return Err(ParseError::TooMany("groups of events"));
        }
    }
    let notify = if unknown {
        Notify::BadEvent
    } else {
        Notify::Set(set)
    };
    Ok(Command::Notify(Box::new(notify)))
}

/// Reads one group; whether it names an event that is not known.
fn parse_group(parser: &mut Parser<'_>, set: &mut NotifySet) -> Result<bool> {
    parser.expect(b'(', "expected a group of events")?;
    let filter = parse_filter(parser)?;
    parser.space()?;
    let named = parse_events(parser)?;
    parser.expect(b')', "expected the end of the group")?;
    if named.unknown {
        return Ok(true);
    }
    if named.new != named.expunge || (named.events.flags && !named.new) {
        return Err(ParseError::Syntax(
            "MessageNew and MessageExpunge must come together, and with FlagChange",
        ));
    }
    let events = named.events;
    match filter {
        Filter::Selected { delayed } => {
            let others =
                events.names || events.subscriptions || events.metadata || events.server_metadata;
            if set.selected.is_some() || others {
                return Err(ParseError::Syntax(
                    "the selected mailbox comes once, and with events of messages only",
                ));
            }
            set.selected = Some(SelectedEvents {
                delayed,
                events,
                fetch: named.fetch,
            });
        }
        Filter::Other(filter) => {
            if !named.fetch.is_empty() {
                return Err(ParseError::Syntax(
                    "items come with the selected mailbox only",
                ));
            }
            set.groups.push(EventGroup { filter, events });
        }
    }
    Ok(false)
}

fn parse_filter(parser: &mut Parser<'_>) -> Result<Filter> {
    let word = parser.atom()?.to_ascii_lowercase();
    Ok(Filter::Other(match word.as_str() {
        "selected" => return Ok(Filter::Selected { delayed: false }),
        "selected-delayed" => return Ok(Filter::Selected { delayed: true }),
        "inboxes" => MailboxFilter::Inboxes,
        "personal" => MailboxFilter::Personal,
        "subscribed" => MailboxFilter::Subscribed,
        "subtree" => MailboxFilter::Subtree(parse_mailboxes(parser)?),
        "mailboxes" => MailboxFilter::Mailboxes(parse_mailboxes(parser)?),
        _ => return Err(ParseError::Syntax("expected which mailboxes")),
    }))
}

fn parse_mailboxes(parser: &mut Parser<'_>) -> Result<Vec<MailboxName>> {
    parser.space()?;
    if parser.peek() != Some(b'(') {
        return Ok(vec![parser.mailbox()?]);
    }
    let count_max = parser.limits().notify_names_max;
    parser.list(count_max, "mailboxes", Parser::mailbox)
}

fn parse_events(parser: &mut Parser<'_>) -> Result<Named> {
    let mut named = Named::default();
    if parser.eat_word("NONE") {
        return Ok(named);
    }
    parser.expect(b'(', "expected events")?;
    parse_event(parser, &mut named)?;
    while !parser.eat(b')') {
        parser.space()?;
        // What stands in parentheses after an event belongs to it.
        if parser.peek() == Some(b'(') {
            return Err(ParseError::Syntax("only MessageNew takes items"));
        }
        parse_event(parser, &mut named)?;
    }
    Ok(named)
}

fn parse_event(parser: &mut Parser<'_>, named: &mut Named) -> Result<()> {
    let word = parser.atom()?.to_ascii_lowercase();
    match word.as_str() {
        "messagenew" => {
            named.new = true;
            named.events.messages = true;
            if parser.eat_before(b' ', b'(') {
                let items_max = parser.limits().fetch_items_max;
                named.fetch = parser.list(items_max, "items", parse_item)?;
            }
        }
        "messageexpunge" => named.expunge = true,
        "flagchange" => named.events.flags = true,
        "mailboxname" => named.events.names = true,
        "subscriptionchange" => named.events.subscriptions = true,
        "mailboxmetadatachange" => named.events.metadata = true,
        "servermetadatachange" => named.events.server_metadata = true,
        _ => named.unknown = true,
    }
    Ok(())
}
