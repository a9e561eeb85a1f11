//! Spaces: the tables of the store.

use std::fmt;

/// A space of keys. Order and scans never cross from one space to another; a batch may.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
#[repr(u8)]
pub enum Space {
    /// The store itself: version, id counters, node leases.
    Meta = 1,
    /// Domains, aliases, lists and what else the directory holds.
    Directory = 2,
    /// Accounts: credentials, quota, settings.
    Account = 3,
    /// Mailbox state rows.
    Mailbox = 4,
    /// Mailbox names of an account.
    Name = 5,
    /// Message rows.
    Message = 6,
    /// The change index by MODSEQ.
    Change = 7,
    /// The expunge log.
    Expunge = 8,
    /// Where a blob's bytes are.
    Blob = 9,
    /// What is known of a blob's content.
    BlobMeta = 10,
    /// References to blobs.
    Link = 11,
    /// Blobs without references, waiting for their grace period to end.
    Condemned = 12,
    /// Queued messages and their recipients.
    Queue = 13,
    /// When queued work is due.
    Due = 14,
    /// What is remembered of clients: greylisting, who may pass it.
    Access = 15,
    /// What is gathered for reports to other sites.
    Report = 16,
    /// Queued work by destination.
    Outbound = 17,
    /// The log of what became of messages.
    Journal = 18,
    /// What is remembered of other sites: how they want to be reached.
    Site = 19,
    /// What changed of messages since they came, in blocks of a mailbox's UIDs.
    Mark = 20,
    /// What is set on mailboxes and accounts: access rights, annotations, settings of folders.
    Attribute = 21,
}

impl Space {
    /// Every space.
    pub const ALL: [Self; 21] = [
        Self::Meta,
        Self::Directory,
        Self::Account,
        Self::Mailbox,
        Self::Name,
        Self::Message,
        Self::Change,
        Self::Expunge,
        Self::Blob,
        Self::BlobMeta,
        Self::Link,
        Self::Condemned,
        Self::Queue,
        Self::Due,
        Self::Access,
        Self::Report,
        Self::Outbound,
        Self::Journal,
        Self::Site,
        Self::Mark,
        Self::Attribute,
    ];

    /// The name used in storage, logs and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Meta => "meta",
            Self::Directory => "directory",
            Self::Account => "account",
            Self::Mailbox => "mailbox",
            Self::Name => "name",
            Self::Message => "message",
            Self::Change => "change",
            Self::Expunge => "expunge",
            Self::Blob => "blob",
            Self::BlobMeta => "blob_meta",
            Self::Link => "link",
            Self::Condemned => "condemned",
            Self::Queue => "queue",
            Self::Due => "due",
            Self::Access => "access",
            Self::Report => "report",
            Self::Outbound => "outbound",
            Self::Journal => "journal",
            Self::Site => "site",
            Self::Mark => "mark",
            Self::Attribute => "attribute",
        }
    }

    /// The number that stands for the space in stored keys; never given to another space.
    pub const fn number(self) -> u8 {
        self as u8
    }
}

impl fmt::Display for Space {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_and_numbers_are_unique() {
        let names: BTreeSet<_> = Space::ALL.iter().map(|space| space.name()).collect();
        let numbers: BTreeSet<_> = Space::ALL.iter().map(|space| space.number()).collect();
        assert_eq!(names.len(), Space::ALL.len());
        assert_eq!(numbers.len(), Space::ALL.len());
    }
}
