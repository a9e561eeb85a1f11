//! An account's usage and its keyword table.

use nightmail_core::AccountId;
use nightmail_core::codec::{RowError, RowReader, RowWriter};
use nightmail_engine::{RowKey, Space};

const VERSION: u8 = 1;

/// What an account holds; agrees with its message rows after every commit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AccountUsage {
    /// Octets of all messages, prefix included.
    pub bytes: u64,
    /// Messages in all mailboxes.
    pub messages: u64,
    /// Mailboxes.
    pub mailboxes: u32,
    /// The last UIDVALIDITY given out; the next is greater.
    pub last_uid_validity: u32,
}

impl AccountUsage {
    /// The byte form.
    pub fn encode(&self) -> Vec<u8> {
        let mut row = RowWriter::new(VERSION);
        row.u64(self.bytes)
            .u64(self.messages)
            .u32(self.mailboxes)
            .u32(self.last_uid_validity);
        row.finish()
    }

    /// Reads the byte form.
    pub fn decode(row: &[u8]) -> Result<Self, RowError> {
        let (mut reader, _) = RowReader::new(row, VERSION)?;
        Ok(Self {
            bytes: reader.u64()?,
            messages: reader.u64()?,
            mailboxes: reader.u32()?,
            last_uid_validity: reader.u32()?,
        })
    }
}

/// A keyword's place in its account's table.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct KeywordId(u16);

impl KeywordId {
    /// From a raw place.
    pub const fn new(raw: u16) -> Self {
        Self(raw)
    }

    /// The raw place.
    pub const fn get(self) -> u16 {
        self.0
    }
}

/// The keywords an account has used, in the order of their first use. Never shrinks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Keywords {
    names: Vec<String>,
}

impl Keywords {
    /// As many keywords as one account may have.
    pub const COUNT_MAX: usize = 2000;

    /// The byte form.
    pub fn encode(&self) -> Vec<u8> {
        let mut row = RowWriter::new(VERSION);
        row.varint(self.names.len() as u64);
        for name in &self.names {
            row.str(name);
        }
        row.finish()
    }

    /// Reads the byte form.
    pub fn decode(row: &[u8]) -> Result<Self, RowError> {
        let (mut reader, _) = RowReader::new(row, VERSION)?;
        let count = reader.varint()?;
        let names = (0..count)
            .map(|_| reader.str().map(str::to_owned))
            .collect::<Result<_, _>>()?;
        Ok(Self { names })
    }

    /// The place of a keyword, compared without case.
    pub fn find(&self, name: &str) -> Option<KeywordId> {
        self.names
            .iter()
            .position(|known| known.eq_ignore_ascii_case(name))
            .map(|place| KeywordId(place as u16))
    }

    /// The keyword at a place.
    pub fn name(&self, id: KeywordId) -> Option<&str> {
        self.names.get(usize::from(id.0)).map(String::as_str)
    }

    /// All keywords.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The place of a keyword, adding it where it is new; `None` when the table is full.
    pub fn intern(&mut self, name: &str) -> Option<KeywordId> {
        if let Some(found) = self.find(name) {
            return Some(found);
        }
        if self.names.len() >= Self::COUNT_MAX {
            return None;
        }
        self.names.push(name.to_owned());
        self.find(name)
    }
}

pub(crate) fn usage_key(account: AccountId) -> RowKey {
    account_key(account, b'u')
}

pub(crate) fn keywords_key(account: AccountId) -> RowKey {
    account_key(account, b'k')
}

/// When the account's maildrop was last opened.
pub(crate) fn pop3_login_key(account: AccountId) -> RowKey {
    account_key(account, b'p')
}

/// The counter of mailbox ids.
pub(crate) fn next_mailbox_key() -> RowKey {
    RowKey {
        space: Space::Meta,
        key: b"next-mailbox".to_vec(),
    }
}

fn account_key(account: AccountId, kind: u8) -> RowKey {
    let mut key = account.to_be_bytes().to_vec();
    key.push(kind);
    RowKey {
        space: Space::Account,
        key,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keywords_keep_their_places() {
        let mut keywords = Keywords::default();
        let first = keywords.intern("$Junk").unwrap();
        let second = keywords.intern("Work").unwrap();
        assert_eq!(keywords.intern("$junk"), Some(first));
        let read = Keywords::decode(&keywords.encode()).unwrap();
        assert_eq!(read.name(second), Some("Work"));
        assert_eq!(read, keywords);
    }
}
