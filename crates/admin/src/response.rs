//! What the operator is told. As JSON: `{"kind": "account", "id": "a1", …}`. Times are RFC 3339 in UTC.

mod queue;
mod trace;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::services::{DeletedView, RetentionView, ServicesView};

pub use queue::{
    DestinationView, QueueAlteredView, QueueRuleView, QueueView, QueueWhyView, RecipientView,
    RecipientWhyView,
};

pub use trace::{EventView, TracedView};

/// Bounds of an account's mail; `null` is no bound.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct QuotaView {
    /// Bytes of messages.
    #[serde(default)]
    pub bytes: Option<u64>,
    /// Number of messages.
    #[serde(default)]
    pub messages: Option<u64>,
    /// Number of mailboxes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mailboxes: Option<u64>,
}

/// A domain.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DomainView {
    /// Its name.
    pub name: String,
    /// Names that mean the same addresses.
    pub alternates: Vec<String>,
    /// Takes mail and logins.
    pub enabled: bool,
    /// Where mail for unknown local-parts goes.
    pub catch_all: Vec<String>,
    /// `default`, `off`, or the character that begins the detail of a subaddress.
    pub subaddress: String,
    /// Given to new accounts.
    pub default_quota: QuotaView,
    /// When it was added.
    pub created: String,
    /// Accounts in it.
    pub accounts: u64,
    /// Aliases in it.
    pub aliases: u64,
    /// The DKIM keys of all its names; only where one domain is shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dkim: Option<Vec<DomainKeyView>>,
}

/// A DKIM key of a domain, in short.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DomainKeyView {
    /// The name whose mail it signs.
    pub domain: String,
    /// Its selector.
    pub selector: String,
    /// `rsa2048` or `ed25519`.
    pub algorithm: String,
    /// `pending`, `active` or `retired`.
    pub state: String,
}

/// A DKIM key, without its private part.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DkimKeyView {
    /// The name whose mail it signs.
    pub domain: String,
    /// Its selector.
    pub selector: String,
    /// `rsa2048` or `ed25519`.
    pub algorithm: String,
    /// `pending`, `active` or `retired`.
    pub state: String,
    /// When it was made.
    pub created: String,
    /// Since when it is in its state.
    pub changed: String,
    /// The name of its TXT record.
    pub name: String,
    /// The text of its TXT record.
    pub text: String,
    /// The record as a line of a zone file.
    pub zone: String,
    /// Whether the record is in DNS: `yes`, `no`, `differs`, or `unknown` where nobody answers.
    pub published: String,
    /// Of a retired key: until when its record is needed, for mail that is on its way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_until: Option<String>,
}

/// A record that a domain should have, and what is there.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct FindingView {
    /// The record's name.
    pub name: String,
    /// Its type, such as `MX` or `TXT`.
    pub kind: String,
    /// `good`, `missing`, `wrong` or `unclear`.
    pub verdict: String,
    /// Whether mail arrives as well without it.
    pub optional: bool,
    /// What should be there.
    pub wanted: String,
    /// What is there.
    pub found: Vec<String>,
    /// What to do; empty where nothing is to be done.
    pub advice: String,
}

/// An entry of the greylist: a client network, or what it sends from one sender to one recipient.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct GreylistView {
    /// What to name it by.
    pub key: String,
    /// The client's network.
    pub client: String,
    /// `waiting` or `passed`; of a network: `counted`, or `allowed` once enough has passed.
    pub state: String,
    /// The sender, as compared; empty is `<>`. Absent for a network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sender: Option<String>,
    /// The recipient, as compared. Absent for a network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recipient: Option<String>,
    /// How many have passed from a network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passed: Option<u32>,
    /// When it came first (`waiting`), or last.
    pub seen: String,
}

/// An account, without its password.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct AccountView {
    /// Its id, never given twice.
    pub id: String,
    /// The primary address.
    pub address: String,
    /// Additional login names.
    pub logins: Vec<String>,
    /// Whether it has a password.
    pub has_password: bool,
    /// May log in and gets mail.
    pub enabled: bool,
    /// While disabled, mail is deferred (true) or refused (false).
    pub defer: bool,
    /// Bounds of its mail.
    pub quota: QuotaView,
    /// The person's name.
    pub full_name: String,
    /// When it was added.
    pub created: String,
    /// May operate the server.
    pub admin: bool,
    /// What it may send as besides what is its own; only where one account is shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub senders: Option<Vec<String>>,
    /// What it wants done with its mail; only where one account is shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub services: Option<Box<ServicesView>>,
}

/// A certificate.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CertificateView {
    /// The names it is shown for.
    pub names: Vec<String>,
    /// A file, `self-signed`, the directory of the authority, or `acme` before that has given one.
    pub source: String,
    /// When it ends.
    pub valid_until: Option<String>,
    /// When fetching it was last attempted.
    pub attempted: Option<String>,
    /// `good`, or what is to be done or mended.
    pub state: String,
}

/// A node of the cluster.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct NodeView {
    /// Its name.
    pub name: String,
    /// `live`, `draining`, `left`, or `fenced`: shut out because it was silent for too long.
    pub state: String,
    /// What it does.
    pub roles: Vec<String>,
    /// How often its session has begun or ended.
    pub epoch: u64,
    /// The leases it holds: shards of the queue, and periodic jobs.
    pub leases: Vec<String>,
    /// The program's version.
    pub version: String,
    /// Where it listens.
    pub addresses: String,
    /// When it joined, by its own clock.
    pub started: String,
    /// Its last heartbeat, by its own clock.
    pub last_beat: Option<String>,
}

/// An alias.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct AliasView {
    /// Its address.
    pub address: String,
    /// Where its mail goes.
    pub targets: Vec<String>,
}

/// Where mail to an address goes.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ResolvedView {
    /// The address asked for.
    pub address: String,
    /// `recipients`, `unknown-user`, `disabled`, `deferred`, `not-local` or `loop`.
    pub result: String,
    /// The accounts' primary addresses.
    pub accounts: Vec<String>,
    /// The addresses elsewhere.
    pub remote: Vec<String>,
}

/// A mailbox.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct MailboxView {
    /// Its name.
    pub name: String,
    /// Its id, never given twice.
    pub id: String,
    /// What it is for, such as `\Sent`.
    pub special_use: Option<String>,
    /// Messages.
    pub messages: u32,
    /// Messages without `\Seen`.
    pub unseen: u32,
    /// Messages with `\Deleted`.
    pub deleted: u32,
    /// Bytes of all messages.
    pub bytes: u64,
    /// UIDVALIDITY.
    pub uid_validity: u32,
    /// The UID of the next message.
    pub uid_next: u32,
    /// HIGHESTMODSEQ.
    pub highest_modseq: u64,
    /// To how many others it is shared.
    #[serde(default)]
    pub shared_with: usize,
}

/// What somebody may do with a mailbox.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct AclEntryView {
    /// An account's address, or `anyone`; after `-` it names rights that are taken away.
    pub identifier: String,
    /// The letters of RFC 4314.
    pub rights: String,
}

/// An account's quota and what it uses.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct QuotaUseView {
    /// The account's address.
    pub account: String,
    /// The bounds.
    pub quota: QuotaView,
    /// Bytes used.
    pub bytes: u64,
    /// Messages kept.
    pub messages: u64,
    /// Mailboxes.
    pub mailboxes: u32,
}

/// What a check or repair found.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct CheckView {
    /// Domains looked at.
    pub domains: u64,
    /// Accounts looked at.
    pub accounts: u64,
    /// Aliases looked at.
    pub aliases: u64,
    /// Mailboxes looked at.
    pub mailboxes: u64,
    /// Messages looked at.
    pub messages: u64,
    /// Stored message bodies looked at.
    pub blobs: u64,
    /// What does not agree, in words.
    pub problems: Vec<String>,
    /// Problems that were mended.
    pub repaired: u64,
}

/// What reclaiming did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct ReclaimView {
    /// Deleted messages that could no longer be brought back, removed for good.
    #[serde(default)]
    pub purged: u64,
    /// Bodies that nobody refers to, marked to be deleted after the grace period.
    pub condemned: u64,
    /// Bodies deleted.
    pub reclaimed: u64,
    /// Bytes of those.
    pub reclaimed_bytes: u64,
    /// Files looked at.
    pub segments_examined: u64,
    /// Files removed.
    pub segments_removed: u64,
    /// Bytes given back to the file system.
    pub freed_bytes: u64,
}

/// The server at a glance.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct StatusView {
    /// The program's version.
    pub version: String,
    /// Seconds since the store was opened.
    pub uptime_seconds: u64,
    /// Domains.
    pub domains: u64,
    /// Accounts.
    pub accounts: u64,
    /// Aliases.
    pub aliases: u64,
    /// Messages waiting to be sent elsewhere.
    pub queued: u64,
    /// Those that are due.
    pub queue_due: u64,
    /// When the next one is due.
    pub queue_next: Option<String>,
    /// Files of message bodies.
    pub segments: u64,
    /// Their bytes.
    pub segment_bytes: u64,
    /// Commits since the store was opened.
    pub commits: u64,
    /// Syncs to stable storage: of the index and of message bodies.
    pub syncs: u64,
    /// Commits that failed for want of the storage.
    pub failures: u64,
    /// Counters and gauges of the server, as under `/metrics`; empty where no server runs.
    pub metrics: BTreeMap<String, String>,
}

/// The answer to a request that was carried out.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(
    tag = "kind",
    rename_all = "kebab-case",
    rename_all_fields = "snake_case"
)]
pub enum AdminResponse {
    /// It is done and there is nothing to show.
    Done,
    /// A domain.
    Domain(DomainView),
    /// A page of domains.
    Domains {
        /// The domains.
        items: Vec<DomainView>,
        /// What to pass as `after` for more.
        next: Option<String>,
    },
    /// An account.
    Account(AccountView),
    /// A page of accounts.
    Accounts {
        /// The accounts.
        items: Vec<AccountView>,
        /// What to pass as `after` for more.
        next: Option<String>,
    },
    /// What an account was given to send as.
    Senders {
        /// Addresses, and domains as `@example.org`.
        items: Vec<String>,
    },
    /// Who may do what with a mailbox.
    MailboxAcl {
        /// The owner first.
        items: Vec<AclEntryView>,
    },
    /// DKIM keys.
    DkimKeys {
        /// The keys, by domain, the oldest first.
        items: Vec<DkimKeyView>,
    },
    /// The keys of a domain after one was made or changed.
    DkimChanged {
        /// The keys, the oldest first.
        items: Vec<DkimKeyView>,
    },
    /// A domain's records in DNS.
    DnsChecked {
        /// The domain.
        domain: String,
        /// Whether nothing is wrong, and nothing missing or unknown that is not optional.
        good: bool,
        /// What it should have.
        items: Vec<FindingView>,
    },
    /// A page of the greylist.
    Greylist {
        /// The entries.
        items: Vec<GreylistView>,
        /// What to pass as `after` for more.
        next: Option<String>,
    },
    /// Entries of the greylist were forgotten.
    GreylistRemoved {
        /// How many.
        count: u64,
    },
    /// An alias.
    Alias(AliasView),
    /// A page of aliases.
    Aliases {
        /// The aliases.
        items: Vec<AliasView>,
        /// What to pass as `after` for more.
        next: Option<String>,
    },
    /// What an address means.
    Resolved(ResolvedView),
    /// A mailbox.
    Mailbox(MailboxView),
    /// An account's mailboxes.
    Mailboxes {
        /// The mailboxes, by name.
        items: Vec<MailboxView>,
    },
    /// How long a folder keeps its messages.
    MailboxRetention(RetentionView),
    /// Messages that can be brought back.
    Deleted {
        /// The messages, by folder and time.
        items: Vec<DeletedView>,
    },
    /// Unique ids were imported.
    UniqueIds {
        /// How many.
        imported: u64,
        /// The messages that are not there, as they were named.
        missing: Vec<String>,
    },
    /// Messages that were brought back.
    Undeleted {
        /// The messages, by folder.
        items: Vec<DeletedView>,
    },
    /// An account's quota.
    Quota(QuotaUseView),
    /// A message in the queue.
    Queued(QueueView),
    /// A page of the queue.
    Queue {
        /// The messages, the longest accepted first.
        items: Vec<QueueView>,
        /// What to pass as `after` for more.
        next: Option<String>,
    },
    /// Recipients of messages in the queue were changed, or would be.
    QueueAltered(QueueAlteredView),
    /// What a message waits for.
    QueueWhy(QueueWhyView),
    /// A page of the destinations of queued mail.
    QueueDestinations {
        /// The destinations.
        items: Vec<DestinationView>,
        /// What to pass as `after` for more.
        next: Option<String>,
    },
    /// The standing rules of the queue.
    QueueRules {
        /// The rules, the oldest first.
        items: Vec<QueueRuleView>,
    },
    /// The life of messages.
    Traced {
        /// The messages, the oldest first.
        items: Vec<TracedView>,
        /// There is more than was asked for.
        more: bool,
    },
    /// Messages were made due.
    Retried {
        /// How many.
        count: u64,
    },
    /// Certificates.
    Certificates {
        /// Those that are fetched, then those of files.
        items: Vec<CertificateView>,
    },
    /// Certificates are to be fetched anew.
    Renewing {
        /// How many.
        count: u64,
    },
    /// The nodes of the cluster.
    Nodes {
        /// The nodes, by name.
        items: Vec<NodeView>,
    },
    /// What a check or repair found.
    Checked(CheckView),
    /// What reclaiming did.
    Reclaimed(ReclaimView),
    /// The server at a glance.
    Status(StatusView),
}
