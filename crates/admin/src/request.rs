//! What an operator may ask. As JSON: `{"command": "account-add", "address": "ann@example.org", …}`.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::response::QuotaView;
use crate::services::ServicesChange;

/// A password in the clear, on its way from the operator to the hash. Never printed by `Debug`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Password(String);

impl Password {
    /// Wraps a password.
    pub fn new(password: impl Into<String>) -> Self {
        Self(password.into())
    }

    /// The password itself.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(…)")
    }
}

/// A message's unique id on another server.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct UniqueIdLine {
    /// The id: 1 to 70 visible ASCII characters.
    pub id: String,
    /// The message: its UID in INBOX here, or its Message-ID with the angle brackets.
    pub message: String,
}

/// Settings of a domain; those absent stay as they are, or at their default for a new domain.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct DomainSettings {
    /// Takes mail and logins; while false, mail is deferred and logins are refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// Where mail for unknown local-parts goes; empty: it is refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub catch_all: Option<Vec<String>>,
    /// How subaddresses are read: `default`, `off`, or the one character that begins the detail.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subaddress: Option<String>,
    /// Given to new accounts that bring no quota of their own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_quota: Option<QuotaView>,
}

/// What an operator does with recipients of messages in the queue.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum QueueChange {
    /// They are not tried until they are released.
    Hold {
        /// Why.
        #[serde(default)]
        reason: Option<String>,
    },
    /// Those that are held are tried again, at once.
    Release,
    /// They are tried at once; those that are held stay so.
    Retry,
    /// They go by another route, at once.
    Reroute {
        /// The name of a relay of the configuration; absent: by the route that the configuration says.
        #[serde(default)]
        to: Option<String>,
    },
    /// They are given up, and their senders told.
    Bounce {
        /// What the senders are told.
        #[serde(default)]
        reason: Option<String>,
    },
    /// They leave the queue. Nobody is told.
    Drop,
}

/// With what a new DKIM key signs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DkimAlgorithm {
    /// RSA of 2048 bits, which every site verifies.
    #[default]
    Rsa2048,
    /// Ed25519 (RFC 8463), which some sites do not verify yet.
    Ed25519,
    /// A key of each; every message gets two signatures.
    Both,
}

/// A request. `account` is an address, an id as shown by the account list, or a login name.
///
/// Lists come in pages of at most `limit` (1000 when absent); `after` is the `next` of the page before.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(
    tag = "command",
    rename_all = "kebab-case",
    rename_all_fields = "snake_case"
)]
pub enum AdminRequest {
    /// Adds a domain.
    DomainAdd {
        /// Its name.
        domain: String,
        /// Its settings.
        #[serde(flatten)]
        settings: DomainSettings,
    },
    /// Lists domains.
    DomainList {
        /// Where the page before ended.
        #[serde(default)]
        after: Option<String>,
        /// Entries at most.
        #[serde(default)]
        limit: Option<usize>,
    },
    /// Shows one domain.
    DomainShow {
        /// Its name, or an alternate name of it.
        domain: String,
    },
    /// Changes a domain's settings.
    DomainSet {
        /// Its name.
        domain: String,
        /// What to change.
        #[serde(flatten)]
        settings: DomainSettings,
    },
    /// Removes a domain without accounts and aliases.
    DomainRemove {
        /// Its name.
        domain: String,
    },
    /// Makes another name mean the same addresses.
    DomainAlternateAdd {
        /// The domain.
        domain: String,
        /// The further name.
        alternate: String,
    },
    /// Takes such a name away.
    DomainAlternateRemove {
        /// The domain.
        domain: String,
        /// The further name.
        alternate: String,
    },
    /// Adds an account with its first mailboxes.
    AccountAdd {
        /// Its primary address; also a login name.
        address: String,
        /// Without one nobody can log in.
        #[serde(default)]
        password: Option<Password>,
        /// Additional login names.
        #[serde(default)]
        logins: Vec<String>,
        /// Bounds of its mail; the domain's default when absent.
        #[serde(default)]
        quota: Option<QuotaView>,
        /// The person's name.
        #[serde(default)]
        full_name: String,
        /// May operate the server; gets mail for the postmaster.
        #[serde(default)]
        admin: bool,
    },
    /// Lists accounts.
    AccountList {
        /// Only of this domain.
        #[serde(default)]
        domain: Option<String>,
        /// Where the page before ended.
        #[serde(default)]
        after: Option<String>,
        /// Entries at most.
        #[serde(default)]
        limit: Option<usize>,
    },
    /// Shows one account.
    AccountShow {
        /// The account.
        account: String,
    },
    /// Removes an account and all its mail.
    AccountRemove {
        /// The account.
        account: String,
    },
    /// Sets an account's password.
    AccountPassword {
        /// The account.
        account: String,
        /// The new password; absent: nobody can log in.
        #[serde(default)]
        password: Option<Password>,
    },
    /// Changes an account; what is absent stays.
    AccountSet {
        /// The account.
        account: String,
        /// May log in and gets mail.
        #[serde(default)]
        enabled: Option<bool>,
        /// While disabled, mail is deferred (true) or refused (false).
        #[serde(default)]
        defer: Option<bool>,
        /// The person's name.
        #[serde(default)]
        full_name: Option<String>,
        /// May operate the server.
        #[serde(default)]
        admin: Option<bool>,
        /// What is done with its mail.
        #[serde(flatten)]
        services: Box<ServicesChange>,
    },
    /// Gives an account another primary address.
    AccountRename {
        /// The account.
        account: String,
        /// The new address.
        address: String,
        /// Keeps the old address as an alias.
        #[serde(default)]
        keep_old: bool,
    },
    /// Gives an account an additional login name.
    AccountLoginAdd {
        /// The account.
        account: String,
        /// The login name.
        login: String,
    },
    /// Takes an additional login name away.
    AccountLoginRemove {
        /// The account.
        account: String,
        /// The login name.
        login: String,
    },
    /// Lets an account send as an address that is not its own.
    AccountSenderAdd {
        /// The account.
        account: String,
        /// The address, or `@example.org` for every address of a domain.
        sender: String,
    },
    /// Takes such an address away.
    AccountSenderRemove {
        /// The account.
        account: String,
        /// The address or `@domain`, as it was given.
        sender: String,
    },
    /// Lists what an account was given to send as.
    AccountSenderList {
        /// The account.
        account: String,
    },
    /// Makes a key that signs a domain's mail.
    DkimNew {
        /// The domain, or an alternate name of one.
        domain: String,
        /// With what it signs.
        #[serde(default)]
        algorithm: DkimAlgorithm,
        /// Its selector; one with the date when absent.
        #[serde(default)]
        selector: Option<String>,
        /// Signs at once, where the domain has no active key.
        #[serde(default)]
        activate: bool,
    },
    /// Lists keys, and whether their records are published.
    DkimList {
        /// Only of this name.
        #[serde(default)]
        domain: Option<String>,
    },
    /// Lets the pending keys sign and the active ones retire, and makes the next ones.
    DkimRotate {
        /// The domain.
        domain: String,
        /// Also where the record is not published.
        #[serde(default)]
        force: bool,
    },
    /// Lets one key sign, and the active one of its algorithm retire.
    DkimActivate {
        /// The domain.
        domain: String,
        /// The key's selector.
        selector: String,
        /// Also where the record is not published.
        #[serde(default)]
        force: bool,
    },
    /// Removes a key for good.
    DkimRemove {
        /// The domain.
        domain: String,
        /// The key's selector.
        selector: String,
        /// Also while it signs.
        #[serde(default)]
        force: bool,
    },
    /// Compares a domain's records in DNS with those it should have.
    DnsCheck {
        /// The domain.
        domain: String,
        /// The name server to ask; that of the configuration when absent.
        #[serde(default)]
        server: Option<SocketAddr>,
    },
    /// Lists who has to come back, and who has.
    GreylistList {
        /// Where the page before ended.
        #[serde(default)]
        after: Option<String>,
        /// Entries at most.
        #[serde(default)]
        limit: Option<usize>,
    },
    /// Lets a client's network pass from now on.
    GreylistAllow {
        /// An address of it.
        client: IpAddr,
    },
    /// Forgets an entry, or all about a client's network: whoever it was has to come back again.
    GreylistRemove {
        /// The entry's key, as listed, or an address of the network.
        entry: String,
    },
    /// Adds an alias, or targets to one.
    AliasAdd {
        /// Its address.
        address: String,
        /// Where its mail goes.
        targets: Vec<String>,
    },
    /// Removes an alias, or targets from one.
    AliasRemove {
        /// Its address.
        address: String,
        /// The targets to take away; empty: the whole alias.
        #[serde(default)]
        targets: Vec<String>,
    },
    /// Lists aliases.
    AliasList {
        /// Only of this domain.
        #[serde(default)]
        domain: Option<String>,
        /// Where the page before ended.
        #[serde(default)]
        after: Option<String>,
        /// Entries at most.
        #[serde(default)]
        limit: Option<usize>,
    },
    /// Shows one alias.
    AliasShow {
        /// Its address.
        address: String,
    },
    /// Says where mail to an address goes.
    Resolve {
        /// The address.
        address: String,
    },
    /// Lists an account's mailboxes.
    MailboxList {
        /// The account.
        account: String,
    },
    /// Creates a mailbox, and those above it.
    MailboxCreate {
        /// The account.
        account: String,
        /// Its name; levels are parted by `/`.
        name: String,
    },
    /// Renames a mailbox and those below it.
    MailboxRename {
        /// The account.
        account: String,
        /// Its name.
        name: String,
        /// Its new name.
        to: String,
    },
    /// Deletes a mailbox and its messages.
    MailboxDelete {
        /// The account.
        account: String,
        /// Its name.
        name: String,
    },
    /// Changes who may do what with a mailbox, and shows it.
    MailboxAcl {
        /// The account.
        account: String,
        /// The mailbox.
        name: String,
        /// Whose rights change; `anyone` for every account of the domain. Absent: nothing changes.
        #[serde(default)]
        identifier: Option<String>,
        /// The letters of RFC 4314 it has from now on, or after `+` or `-` those it has as well or no more; empty: none.
        #[serde(default)]
        rights: Option<String>,
    },
    /// Shows a mailbox's counters.
    MailboxStatus {
        /// The account.
        account: String,
        /// Its name.
        name: String,
    },
    /// Changes how long a folder keeps its messages, and shows it.
    MailboxRetention {
        /// The account.
        account: String,
        /// The folder.
        name: String,
        /// Messages that have been in it for so many days are removed; 0: as the server is configured.
        #[serde(default)]
        days: Option<u32>,
        /// So many messages stay however old they are; 0: none.
        #[serde(default)]
        keep: Option<u32>,
    },
    /// Brings deleted messages back, or lists them.
    MailboxUndelete {
        /// The account.
        account: String,
        /// Only those of this folder.
        #[serde(default)]
        name: Option<String>,
        /// Only what was deleted from then on: `2h` for two hours ago, `2026-11-22` or `2026-11-22T16:22:00Z`.
        #[serde(default)]
        since: Option<String>,
        /// The folder they come into; absent: each where it was.
        #[serde(default)]
        into: Option<String>,
        /// Lists them and leaves them deleted.
        #[serde(default)]
        list: bool,
    },
    /// Gives messages of an account's INBOX the unique ids that POP3 clients know them by from another server.
    UniqueIdImport {
        /// The account.
        account: String,
        /// The ids and their messages. One that another message has already is refused, with all others.
        ids: Vec<UniqueIdLine>,
    },
    /// Shows an account's quota and what it uses.
    QuotaShow {
        /// The account.
        account: String,
    },
    /// Sets an account's quota.
    QuotaSet {
        /// The account.
        account: String,
        /// The new bounds.
        quota: QuotaView,
    },
    /// Lists messages waiting to be sent elsewhere.
    QueueList {
        /// A match expression: those of which a pending recipient fits; absent: all.
        #[serde(default)]
        matching: Option<String>,
        /// Where the page before ended.
        #[serde(default)]
        after: Option<String>,
        /// Entries at most.
        #[serde(default)]
        limit: Option<usize>,
    },
    /// Shows one such message.
    QueueShow {
        /// Its id.
        id: String,
    },
    /// Makes a message due now, or all of them.
    QueueRetry {
        /// Its id; absent: every message.
        #[serde(default)]
        id: Option<String>,
    },
    /// Takes a message out of the queue. Nobody is told.
    QueueRemove {
        /// Its id.
        id: String,
    },
    /// Says what a message waits for.
    QueueWhy {
        /// Its id.
        id: String,
    },
    /// Changes the pending recipients that fit.
    QueueAlter {
        /// A match expression, or a queue id.
        matching: String,
        /// What is done.
        change: QueueChange,
        /// Only counts them.
        #[serde(default)]
        dry_run: bool,
    },
    /// Lists the destinations of queued mail.
    QueueDestinations {
        /// Where the page before ended.
        #[serde(default)]
        after: Option<String>,
        /// Entries at most.
        #[serde(default)]
        limit: Option<usize>,
    },
    /// Makes all mail for a domain due now, and lets it go once whatever its schedule.
    QueueRun {
        /// The domain.
        domain: String,
    },
    /// Adds a standing rule: what is done with whatever fits when it is about to be tried.
    QueueRuleAdd {
        /// Its name.
        name: String,
        /// A match expression.
        matching: String,
        /// What is done: anything but `release` and `retry`.
        change: QueueChange,
    },
    /// Lists the standing rules.
    QueueRuleList,
    /// Removes a standing rule. What it has done stays done.
    QueueRuleRemove {
        /// Its name.
        name: String,
    },
    /// Shows what became of messages.
    Trace {
        /// An address, `@domain`, a Message-ID or a queue id.
        text: String,
        /// Only what happened from then on: `2h` for two hours ago, `2026-11-22` or `2026-11-22T16:22:00Z`.
        #[serde(default)]
        since: Option<String>,
        /// Only what happened before then.
        #[serde(default)]
        until: Option<String>,
        /// Events that fit, at most, the newest; 100 when absent. The rest of their messages' lives comes with them.
        #[serde(default)]
        limit: Option<usize>,
    },
    /// Lists certificates.
    CertificateList,
    /// Fetches certificates anew, at the next look of the node that fetches them.
    CertificateRenew {
        /// A name of the certificate; absent: all that are fetched.
        #[serde(default)]
        name: Option<String>,
    },
    /// Lists the nodes of the cluster.
    NodeList,
    /// Empties a node: it takes no new connections, finishes, gives its work to the others and ends.
    NodeDrain {
        /// Its name.
        name: String,
    },
    /// Removes what is kept of a node that has gone.
    NodeForget {
        /// Its name.
        name: String,
    },
    /// Compares all rows, and with `read_messages` also all bytes with their checksums.
    Check {
        /// Reads every message.
        #[serde(default)]
        read_messages: bool,
    },
    /// Checks, and mends what can be mended.
    Repair {
        /// Reads every message.
        #[serde(default)]
        read_messages: bool,
    },
    /// Gives the space of removed messages back.
    Reclaim,
    /// Shows counts and counters.
    Status,
}
