//! The text of APPEND and REPLACE between the messages they carry (RFC 3501 §9, RFC 3502, RFC 4469 §5, RFC 6855 §4).

use nightmail_core::Timestamp;

use super::append::NO_MESSAGE;
use super::{messages, parse_name};
use crate::flag::FlagList;
use crate::io::AppendBegin;
use crate::name::MailboxName;
use crate::parse::{ParseError, Parser, Result};
use crate::view::Messages;

/// Where in a command a text begins.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Place {
    /// At its tag.
    Name,
    /// After the name of APPEND.
    Append,
    /// After the name of REPLACE.
    Replace {
        /// UID REPLACE.
        by_uid: bool,
    },
    /// After a message or a part of one.
    Data {
        /// Where the messages go.
        mailbox: MailboxName,
        /// Whether there is one message only.
        single: bool,
        /// Whether a parenthesis closes the UTF-8 data before.
        in_utf8: bool,
        /// Whether the message is put together from parts.
        in_parts: bool,
    },
}

/// What a text says, in order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Item {
    /// A message begins.
    Begin(AppendBegin),
    /// A part of it is what a URL names.
    Url(String),
    /// It was put together from parts, and is complete.
    End,
}

/// What comes after a text.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Follows {
    /// Nothing.
    Nothing,
    /// A literal that is a word of the text.
    Word,
    /// A literal that is a message or a part of one.
    Message {
        /// Where the text after it begins.
        place: Place,
        /// Whether it is text, although it comes as a literal8.
        utf8: bool,
    },
}

/// A text between messages.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Text {
    /// The message that REPLACE names.
    pub replaces: Option<Messages>,
    /// What it says.
    pub items: Vec<Item>,
    /// What comes after it.
    pub follows: Follows,
}

/// Reads a text. `announced`: a literal follows it.
pub(super) fn parse(parser: &mut Parser<'_>, place: Place, announced: bool) -> Result<Text> {
    let items_max = parser.limits().append_messages_max + parser.limits().append_parts_max;
    let mut reading = Reading {
        announced,
        items: Vec::new(),
        replaces: None,
        mailbox: None,
        single: false,
    };
    let mut at = reading.enter(parser, place)?;
    let follows = loop {
        at = match at {
            At::Message => reading.message(parser)?,
            At::Part => reading.part(parser)?,
            At::AfterData { in_utf8, in_parts } => reading.after_data(parser, in_utf8, in_parts)?,
            At::End(follows) => break follows,
        };
        if reading.items.len() > items_max {
            return Err(ParseError::TooMany("parts"));
        }
    };
    Ok(Text {
        replaces: reading.replaces,
        items: reading.items,
        follows,
    })
}

/// How far a text has been read.
enum At {
    /// Before the space before a message.
    Message,
    /// Before a part.
    Part,
    /// After a message or a part.
    AfterData { in_utf8: bool, in_parts: bool },
    /// At its end.
    End(Follows),
}

struct Reading {
    announced: bool,
    items: Vec<Item>,
    replaces: Option<Messages>,
    mailbox: Option<MailboxName>,
    /// Whether there is one message only.
    single: bool,
}

impl Reading {
    /// Whether the literal that was announced stands here.
    fn is_literal(&self, parser: &Parser<'_>) -> bool {
        self.announced && parser.is_at_end()
    }

    fn enter(&mut self, parser: &mut Parser<'_>, place: Place) -> Result<At> {
        let by_uid = match place {
            Place::Data {
                mailbox,
                single,
                in_utf8,
                in_parts,
            } => {
                self.mailbox = Some(mailbox);
                self.single = single;
                return Ok(At::AfterData { in_utf8, in_parts });
            }
            Place::Append => None,
            Place::Replace { by_uid } => Some(by_uid),
            Place::Name => {
                parser.tag()?;
                parser.space()?;
                match parse_name(parser)?.name {
                    "REPLACE" => Some(false),
                    "UID REPLACE" => Some(true),
                    _ => None,
                }
            }
        };
        if let Some(by_uid) = by_uid {
            self.single = true;
            self.replaces = Some(messages(parser, by_uid)?);
        }
        parser.space()?;
        if self.is_literal(parser) {
            return Ok(At::End(Follows::Word));
        }
        self.mailbox = Some(parser.mailbox()?);
        Ok(At::Message)
    }

    /// The head of a message, up to its data.
    fn message(&mut self, parser: &mut Parser<'_>) -> Result<At> {
        if parser.is_at_end() {
            return Err(NO_MESSAGE);
        }
        parser.space()?;
        let mut flags = FlagList::default();
        if parser.peek() == Some(b'(') {
            flags = parser.flag_list()?;
            parser.space()?;
        }
        let mut internal_date: Option<Timestamp> = None;
        if parser.peek() == Some(b'"') {
            internal_date = Some(parser.date_time()?);
            parser.space()?;
        }
        let in_parts = parser.eat_word("CATENATE");
        self.items.push(Item::Begin(AppendBegin {
            mailbox: self.mailbox.clone().ok_or(NO_MESSAGE)?,
            flags,
            internal_date,
            octets: (!in_parts).then_some(0),
            replaces: None,
        }));
        if in_parts {
            parser.space()?;
            parser.expect(b'(', "expected a list of parts")?;
            return Ok(At::Part);
        }
        let in_utf8 = utf8(parser)?;
        self.data(parser, in_utf8, false)
    }

    fn data(&self, parser: &Parser<'_>, in_utf8: bool, in_parts: bool) -> Result<At> {
        if !self.is_literal(parser) {
            return Err(NO_MESSAGE);
        }
        Ok(At::End(Follows::Message {
            place: Place::Data {
                mailbox: self.mailbox.clone().ok_or(NO_MESSAGE)?,
                single: self.single,
                in_utf8,
                in_parts,
            },
            utf8: in_utf8,
        }))
    }

    fn part(&mut self, parser: &mut Parser<'_>) -> Result<At> {
        if parser.eat_word("TEXT") {
            parser.space()?;
            return self.data(parser, false, true);
        }
        if utf8(parser)? {
            return self.data(parser, true, true);
        }
        if !parser.eat_word("URL") {
            return Err(ParseError::Syntax("expected URL or TEXT"));
        }
        parser.space()?;
        if self.is_literal(parser) {
            return Ok(At::End(Follows::Word));
        }
        self.items.push(Item::Url(parser.utf8_astring()?));
        Ok(At::AfterData {
            in_utf8: false,
            in_parts: true,
        })
    }

    fn after_data(&mut self, parser: &mut Parser<'_>, in_utf8: bool, in_parts: bool) -> Result<At> {
        if in_utf8 {
            parser.expect(b')', "expected a parenthesis after the message")?;
        }
        if in_parts {
            if !parser.eat(b')') {
                parser.space()?;
                return Ok(At::Part);
            }
            self.items.push(Item::End);
        }
        if parser.is_at_end() && !self.announced {
            return Ok(At::End(Follows::Nothing));
        }
        if self.single {
            return Err(ParseError::Syntax(
                "unexpected text at the end of the command",
            ));
        }
        Ok(At::Message)
    }
}

/// `UTF8 (`, where it is there.
fn utf8(parser: &mut Parser<'_>) -> Result<bool> {
    let found = parser.eat_word("UTF8");
    if found {
        parser.space()?;
        parser.expect(b'(', "expected a parenthesis")?;
    }
    Ok(found)
}
