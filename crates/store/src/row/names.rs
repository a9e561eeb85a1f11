//! The names of an account's mailboxes, and its subscriptions.

use nightmail_core::codec::{RowError, RowReader, RowWriter};
use nightmail_core::{AccountId, MailboxId};
use nightmail_engine::{RowKey, Space};

use crate::name::MailboxName;

const VERSION: u8 = 1;
const MAILBOX: u8 = b'm';
const SUBSCRIPTION: u8 = b's';

/// What a mailbox is for (RFC 6154 §2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SpecialUse {
    /// `\Archive`
    Archive,
    /// `\Drafts`
    Drafts,
    /// `\Junk`
    Junk,
    /// `\Sent`
    Sent,
    /// `\Trash`
    Trash,
}

impl SpecialUse {
    const ALL: [(Self, &'static str); 5] = [
        (Self::Archive, "\\Archive"),
        (Self::Drafts, "\\Drafts"),
        (Self::Junk, "\\Junk"),
        (Self::Sent, "\\Sent"),
        (Self::Trash, "\\Trash"),
    ];

    /// The LIST attribute.
    pub fn attribute(self) -> &'static str {
        Self::ALL
            .iter()
            .find(|(special, _)| *special == self)
            .map_or("", |(_, name)| name)
    }

    fn code(self) -> u8 {
        Self::ALL
            .iter()
            .position(|(special, _)| *special == self)
            .map_or(0, |place| place as u8 + 1)
    }

    fn from_code(code: u8) -> Option<Self> {
        Self::ALL
            .get(usize::from(code).checked_sub(1)?)
            .map(|(special, _)| *special)
    }
}

/// What a mailbox name stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MailboxEntry {
    /// The mailbox.
    pub mailbox: MailboxId,
    /// What it is for.
    pub special_use: Option<SpecialUse>,
}

impl MailboxEntry {
    /// The byte form.
    pub fn encode(&self) -> Vec<u8> {
        let mut row = RowWriter::new(VERSION);
        row.u64(self.mailbox.get())
            .u8(self.special_use.map_or(0, SpecialUse::code));
        row.finish()
    }

    /// Reads the byte form.
    pub fn decode(row: &[u8]) -> Result<Self, RowError> {
        let (mut reader, _) = RowReader::new(row, VERSION)?;
        Ok(Self {
            mailbox: MailboxId::new(reader.u64()?),
            special_use: SpecialUse::from_code(reader.u8()?),
        })
    }
}

pub(crate) fn name_key(account: AccountId, name: &MailboxName) -> RowKey {
    keyed(names_prefix(account), name)
}

pub(crate) fn names_prefix(account: AccountId) -> Vec<u8> {
    prefix(account, MAILBOX)
}

pub(crate) fn subscription_key(account: AccountId, name: &MailboxName) -> RowKey {
    keyed(subscriptions_prefix(account), name)
}

pub(crate) fn subscriptions_prefix(account: AccountId) -> Vec<u8> {
    prefix(account, SUBSCRIPTION)
}

/// The account and name of a mailbox's name row.
pub(crate) fn parse_name_key(key: &[u8]) -> Option<(AccountId, MailboxName)> {
    parse_key(key, MAILBOX)
}

/// The account and name of a subscription.
pub(crate) fn parse_subscription_key(key: &[u8]) -> Option<(AccountId, MailboxName)> {
    parse_key(key, SUBSCRIPTION)
}

fn parse_key(key: &[u8], wanted: u8) -> Option<(AccountId, MailboxName)> {
    let (account, rest) = key.split_first_chunk::<8>()?;
    let (kind, name) = rest.split_first()?;
    let name = MailboxName::parse(std::str::from_utf8(name).ok()?).ok()?;
    (*kind == wanted).then_some((AccountId::new(u64::from_be_bytes(*account)), name))
}

fn prefix(account: AccountId, kind: u8) -> Vec<u8> {
    let mut key = account.to_be_bytes().to_vec();
    key.push(kind);
    key
}

fn keyed(mut key: Vec<u8>, name: &MailboxName) -> RowKey {
    key.extend_from_slice(name.as_str().as_bytes());
    RowKey {
        space: Space::Name,
        key,
    }
}
