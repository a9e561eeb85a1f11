//! The TRANSACTION state (RFC 1939 §5, §7): looking at messages, fetching them and marking them as deleted.

use std::fmt::Write as _;

use super::{Session, State, Waiting};
use crate::io::{Ask, Maildrop, MessageEntry, MessageIndex, Output, RetrieveMode};
use crate::replies::{self, Refusal};

/// About how many octets of a listing are written at a time.
const LISTING_CHUNK_OCTETS: usize = 4096;

/// The maildrop, the marks on it, and the listing under way.
#[derive(Debug)]
pub(super) struct Transaction {
    messages: Vec<Message>,
    listing: Option<Listing>,
    login_delay_secs: Option<u32>,
    expire_days: Option<u32>,
}

#[derive(Debug)]
struct Message {
    entry: MessageEntry,
    is_deleted: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Column {
    Octets,
    UniqueId,
}

/// A LIST or UIDL of all messages, and the index it has come to.
#[derive(Clone, Copy, Debug)]
struct Listing {
    column: Column,
    next: usize,
}

impl Message {
    fn column(&self, column: Column) -> String {
        match column {
            Column::Octets => self.entry.octets.to_string(),
            Column::UniqueId => self.entry.uid.as_str().to_owned(),
        }
    }
}

impl Transaction {
    pub(super) fn new(maildrop: Maildrop) -> Self {
        let message = |entry| Message {
            entry,
            is_deleted: false,
        };
        Self {
            messages: maildrop.messages.into_iter().map(message).collect(),
            listing: None,
            login_delay_secs: maildrop.login_delay_secs,
            expire_days: maildrop.expire_days,
        }
    }

    /// What holds for this account: the seconds between logins, the days that messages are kept.
    pub(super) const fn policy(&self) -> (Option<u32>, Option<u32>) {
        (self.login_delay_secs, self.expire_days)
    }

    /// Messages that are not marked as deleted, and their octets.
    pub(super) fn totals(&self) -> (usize, u64) {
        self.messages
            .iter()
            .filter(|message| !message.is_deleted)
            .fold((0, 0), |(count, octets), message| {
                (count + 1, message.entry.octets.saturating_add(octets))
            })
    }

    /// The message of a number, which counts from 1, unless it is marked as deleted.
    fn find(&mut self, number: &str) -> Result<(MessageIndex, &mut Message), Refusal> {
        let index = parse_number(number)
            .ok_or(Refusal::Syntax)?
            .checked_sub(1)
            .and_then(|index| usize::try_from(index).ok())
            .ok_or(Refusal::NoSuchMessage)?;
        match self.messages.get_mut(index) {
            Some(message) if message.is_deleted => Err(Refusal::AlreadyDeleted),
            Some(message) => Ok((MessageIndex::new(index), message)),
            None => Err(Refusal::NoSuchMessage),
        }
    }

    /// The next piece of the listing under way.
    fn listing_chunk(&mut self) -> Option<String> {
        let mut listing = self.listing.take()?;
        let mut out = String::new();
        for message in self.messages.iter().skip(listing.next) {
            listing.next += 1;
            if !message.is_deleted {
                let column = message.column(listing.column);
                let _ = write!(out, "{} {column}\r\n", listing.next);
            }
            if out.len() >= LISTING_CHUNK_OCTETS {
                self.listing = Some(listing);
                return Some(out);
            }
        }
        out.push_str(".\r\n");
        Some(out)
    }
}

/// A number in decimal digits. One that is too large is larger than any message's.
fn parse_number(text: &str) -> Option<u64> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().unwrap_or(u64::MAX))
}

impl Session {
    pub(super) fn is_listing(&self) -> bool {
        matches!(&self.state, State::Transaction(Transaction { listing, .. }) if listing.is_some())
    }

    /// Writes the next piece of a listing.
    pub(super) fn continue_listing(&mut self) {
        if let State::Transaction(transaction) = &mut self.state
            && let Some(chunk) = transaction.listing_chunk()
        {
            self.send(chunk.into());
        }
    }

    /// Runs a handler on the maildrop and sends its reply.
    fn reply(&mut self, handler: impl FnOnce(&mut Transaction) -> Result<bytes::Bytes, Refusal>) {
        let State::Transaction(transaction) = &mut self.state else {
            return;
        };
        match handler(transaction) {
            Ok(reply) => self.send(reply),
            Err(refusal) => self.refuse(refusal),
        }
    }

    /// RFC 1939 §5.
    pub(crate) fn stat(&mut self, args: &str) {
        self.reply(|transaction| {
            no_args(args)?;
            let (messages, octets) = transaction.totals();
            Ok(replies::ok(&format!("{messages} {octets}")))
        });
    }

    /// RFC 1939 §5.
    pub(crate) fn list(&mut self, args: &str) {
        self.list_column(args, Column::Octets);
    }

    /// RFC 1939 §7.
    pub(crate) fn uidl(&mut self, args: &str) {
        self.list_column(args, Column::UniqueId);
    }

    fn list_column(&mut self, args: &str, column: Column) {
        self.reply(|transaction| {
            let number = args.trim();
            if number.is_empty() {
                let (messages, octets) = transaction.totals();
                transaction.listing = Some(Listing { column, next: 0 });
                return Ok(replies::maildrop(messages, octets));
            }
            let (index, message) = transaction.find(number)?;
            let column = message.column(column);
            Ok(replies::ok(&format!("{} {column}", index.get() + 1)))
        });
    }

    /// RFC 1939 §5.
    pub(crate) fn dele(&mut self, args: &str) {
        self.reply(|transaction| {
            let (_, message) = transaction.find(args.trim())?;
            message.is_deleted = true;
            Ok(replies::ok("marked as deleted"))
        });
    }

    /// RFC 1939 §5.
    pub(crate) fn rset(&mut self, args: &str) {
        self.reply(|transaction| {
            no_args(args)?;
            for message in &mut transaction.messages {
                message.is_deleted = false;
            }
            let (messages, octets) = transaction.totals();
            Ok(replies::maildrop(messages, octets))
        });
    }

    /// RFC 1939 §5.
    pub(crate) fn noop(&mut self, args: &str) {
        self.reply(|_| no_args(args).map(|()| replies::ok("nothing done")));
    }

    /// RFC 1939 §5.
    pub(crate) fn retr(&mut self, args: &str) {
        self.retrieve(args.trim(), RetrieveMode::Whole);
    }

    /// RFC 1939 §7.
    pub(crate) fn top(&mut self, args: &str) {
        let mut words = args.split_ascii_whitespace();
        let number = words.next().unwrap_or_default();
        match (words.next().and_then(parse_number), words.next()) {
            (Some(lines), None) => self.retrieve(number, RetrieveMode::Top(lines)),
            _ => self.refuse(Refusal::Syntax),
        }
    }

    fn retrieve(&mut self, number: &str, mode: RetrieveMode) {
        let State::Transaction(transaction) = &mut self.state else {
            return;
        };
        let (index, octets) = match transaction.find(number) {
            Ok((index, message)) => (index, message.entry.octets),
            Err(refusal) => return self.refuse(refusal),
        };
        let reply = match mode {
            RetrieveMode::Whole => replies::ok(&format!("{octets} octets")),
            RetrieveMode::Top(_) => replies::ok("top of message follows"),
        };
        self.wait(Waiting::Message, Output::SendMessage { index, mode, reply });
    }

    /// RFC 1939 §6: asks the driver to remove what is marked and to let go of the maildrop.
    pub(super) fn update(&mut self) {
        let State::Transaction(transaction) = &self.state else {
            return;
        };
        let marked = transaction.messages.iter().enumerate();
        let delete = marked
            .filter(|(_, message)| message.is_deleted)
            .map(|(index, _)| MessageIndex::new(index))
            .collect();
        self.wait(Waiting::Update, Output::Ask(Ask::Update { delete }));
    }
}

fn no_args(args: &str) -> Result<(), Refusal> {
    if args.trim().is_empty() {
        Ok(())
    } else {
        Err(Refusal::Syntax)
    }
}
