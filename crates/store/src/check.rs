//! `nightmail check` and `nightmail repair`: rows against counters, blobs and links.
//!
//! A check reads and reports. A repair makes counters agree with rows, links agree with messages, and gives mailboxes
//! without a name one; each step is an intent that does nothing where the row has changed since it was looked at.
//!
//! **Invariant:** a repair removes no message row and bumps no UIDVALIDITY.

mod marks;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;

use bytes::Bytes;
use nightmail_commit::{Abort, BlobRow, Intent, Owner};
use nightmail_core::{AccountId, BlobId, MailboxId, Uid};
use nightmail_engine::{KeyRange, RowKey, Space};

use self::marks::Marks;
pub use self::marks::MarksProblem;
use crate::error::StoreError;
use crate::name::MailboxName;
use crate::row::{
    AccountUsage, MailboxEntry, MailboxState, MessageRow, PRESENT, mailbox_key, message_key,
    name_key, parse_message_key, parse_name_key, usage_key,
};
use crate::store::Store;

/// How thorough a check is.
#[derive(Clone, Copy, Debug, Default)]
pub struct CheckOptions {
    /// Read every blob and compare its checksums.
    pub read_blobs: bool,
    /// Mend what can be mended.
    pub repair: bool,
}

/// Something that does not agree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// A row that does not read.
    Damaged(&'static str, String),
    /// Counters that differ from the rows.
    Counters(MailboxId, Box<(MailboxState, MailboxState)>),
    /// An account's usage that differs from its mailboxes.
    Usage(AccountId, AccountUsage, AccountUsage),
    /// A message whose bytes are not in the store.
    MissingBlob(MailboxId, u32, BlobId),
    /// A blob whose bytes cannot be read.
    UnreadableBlob(BlobId, String),
    /// A message that its blob does not know of.
    MissingLink(MailboxId, u32, BlobId),
    /// A link whose owner does not exist.
    StrayLink(BlobId, Owner),
    /// A mailbox without a name.
    Nameless(MailboxId, AccountId),
    /// A name whose mailbox does not exist.
    DanglingName(AccountId, MailboxName),
    /// Messages of a mailbox that does not exist.
    Homeless(MailboxId, u64),
    /// A block of marks, by its number, that says something else than other rows do.
    Marks(MailboxId, u32, MarksProblem),
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Damaged(space, what) => write!(f, "{space}: a row does not read: {what}"),
            Self::Counters(mailbox, both) => write!(
                f,
                "mailbox {mailbox}: counters say {} messages, {} unseen, {} deleted, {} bytes; rows say {}, {}, {}, {}",
                both.0.exists,
                both.0.unseen,
                both.0.deleted,
                both.0.bytes,
                both.1.exists,
                both.1.unseen,
                both.1.deleted,
                both.1.bytes
            ),
            Self::Usage(account, kept, counted) => write!(
                f,
                "account {account}: usage says {} messages, {} bytes; its mailboxes hold {}, {}",
                kept.messages, kept.bytes, counted.messages, counted.bytes
            ),
            Self::MissingBlob(mailbox, uid, blob) => {
                write!(f, "mailbox {mailbox} UID {uid}: bytes {blob} are missing")
            }
            Self::UnreadableBlob(blob, error) => write!(f, "bytes {blob} cannot be read: {error}"),
            Self::MissingLink(mailbox, uid, blob) => {
                write!(
                    f,
                    "mailbox {mailbox} UID {uid}: bytes {blob} have no link to it"
                )
            }
            Self::StrayLink(blob, owner) => write!(
                f,
                "bytes {blob} have a link to {owner:?}, which does not exist"
            ),
            Self::Nameless(mailbox, account) => {
                write!(f, "mailbox {mailbox} of account {account} has no name")
            }
            Self::DanglingName(account, name) => {
                write!(f, "account {account}: {name} names a mailbox that is gone")
            }
            Self::Homeless(mailbox, rows) => write!(
                f,
                "{rows} messages of mailbox {mailbox}, which does not exist"
            ),
            Self::Marks(mailbox, number, what) => {
                write!(f, "mailbox {mailbox}, marks of block {number}: {what}")
            }
        }
    }
}

/// What a check found.
#[derive(Clone, Debug, Default)]
pub struct CheckReport {
    /// Accounts looked at.
    pub accounts: u64,
    /// Mailboxes looked at.
    pub mailboxes: u64,
    /// Messages looked at.
    pub messages: u64,
    /// Blobs looked at.
    pub blobs: u64,
    /// What does not agree.
    pub problems: Vec<Problem>,
    /// How many of the problems have been mended.
    pub repaired: u64,
}

/// What the rows of one mailbox add up to.
#[derive(Default)]
struct Counted {
    state: Option<MailboxState>,
    rows: u64,
}

impl Store {
    /// Checks the whole store, and repairs it where asked to. Memory grows with mailboxes and blobs, not with bytes.
    pub async fn check(&self, options: CheckOptions) -> Result<CheckReport, StoreError> {
        let mut report = CheckReport::default();
        let states = self.check_mailboxes(&mut report).await?;
        let blobs = self.check_blobs(options.read_blobs, &mut report).await?;
        let links = self.check_links(&mut report).await?;
        let mut marks = self.check_marks(&states, &mut report).await?;
        self.check_messages(&states, &blobs, &links, &mut marks, &mut report)
            .await?;
        marks.report_missing(&mut report);
        self.check_names(&states, &mut report).await?;
        if options.repair {
            for problem in report.problems.clone() {
                report.repaired += u64::from(self.repair(problem).await?);
            }
        }
        Ok(report)
    }

    async fn check_mailboxes(
        &self,
        report: &mut CheckReport,
    ) -> Result<BTreeMap<MailboxId, MailboxState>, StoreError> {
        let mut states = BTreeMap::new();
        for (key, row) in self.scan_all(Space::Mailbox, KeyRange::prefix(&[])).await? {
            let id = <[u8; 8]>::try_from(key.as_slice())
                .map(|id| MailboxId::new(u64::from_be_bytes(id)));
            match (id, MailboxState::decode(&row)) {
                (Ok(mailbox), Ok(state)) => {
                    states.insert(mailbox, state);
                }
                (_, state) => report
                    .problems
                    .push(Problem::Damaged("mailbox", format!("{key:?}: {state:?}"))),
            }
        }
        report.mailboxes = states.len() as u64;
        Ok(states)
    }

    async fn check_blobs(
        &self,
        read: bool,
        report: &mut CheckReport,
    ) -> Result<HashSet<BlobId>, StoreError> {
        let mut blobs = HashSet::new();
        for (key, row) in self.scan_all(Space::Blob, KeyRange::prefix(&[])).await? {
            let Ok(id) = <[u8; 32]>::try_from(key.as_slice()).map(BlobId::new) else {
                continue;
            };
            match BlobRow::decode(&row) {
                Ok(_) => {
                    blobs.insert(id);
                }
                Err(error) => report
                    .problems
                    .push(Problem::Damaged("blob", format!("{id}: {error}"))),
            }
            if read && let Err(error) = self.read_blob(id).await {
                report
                    .problems
                    .push(Problem::UnreadableBlob(id, error.to_string()));
            }
        }
        report.blobs = blobs.len() as u64;
        Ok(blobs)
    }

    /// Links by what they say; a link to a queue row that is gone is a problem here already.
    async fn check_links(
        &self,
        report: &mut CheckReport,
    ) -> Result<HashSet<(BlobId, MailboxId, u32)>, StoreError> {
        let mut links = HashSet::new();
        for (key, _) in self.scan_all(Space::Link, KeyRange::prefix(&[])).await? {
            match Owner::from_link_key(&key) {
                Some((blob, Owner::Message(mailbox, uid))) => {
                    links.insert((blob, mailbox, uid.get()));
                }
                Some((blob, owner @ Owner::Queue(id))) => {
                    let row = RowKey {
                        space: Space::Queue,
                        key: id.to_be_bytes().to_vec(),
                    };
                    if self
                        .engine()
                        .get_many(&[row])
                        .await?
                        .pop()
                        .flatten()
                        .is_none()
                    {
                        report.problems.push(Problem::StrayLink(blob, owner));
                    }
                }
                None => report
                    .problems
                    .push(Problem::Damaged("link", format!("{key:?}"))),
            }
        }
        Ok(links)
    }

    async fn check_messages(
        &self,
        states: &BTreeMap<MailboxId, MailboxState>,
        blobs: &HashSet<BlobId>,
        links: &HashSet<(BlobId, MailboxId, u32)>,
        marks: &mut Marks,
        report: &mut CheckReport,
    ) -> Result<(), StoreError> {
        let mut strays = links.clone();
        let mut counted: HashMap<MailboxId, Counted> = states
            .iter()
            .map(|(id, state)| {
                (
                    *id,
                    Counted {
                        state: Some(emptied(state)),
                        rows: 0,
                    },
                )
            })
            .collect();
        for (key, row) in self.scan_all(Space::Message, KeyRange::prefix(&[])).await? {
            report.messages += 1;
            let Some((mailbox, uid)) = parse_message_key(&key) else {
                continue;
            };
            let Ok(row) = MessageRow::decode(&row) else {
                report.problems.push(Problem::Damaged(
                    "message",
                    format!("mailbox {mailbox} UID {uid}"),
                ));
                continue;
            };
            let count = counted.entry(mailbox).or_default();
            count.rows += 1;
            if let (Some(state), Some(flags)) = (&mut count.state, marks.flags(mailbox, uid, &row))
            {
                state.count_in(uid, flags, row.size);
            }
            strays.remove(&(row.blob, mailbox, uid));
            if !blobs.contains(&row.blob) {
                report
                    .problems
                    .push(Problem::MissingBlob(mailbox, uid, row.blob));
            }
            if !links.contains(&(row.blob, mailbox, uid)) {
                report
                    .problems
                    .push(Problem::MissingLink(mailbox, uid, row.blob));
            }
        }
        let strays = strays.into_iter().filter_map(|(blob, mailbox, uid)| {
            Some(Problem::StrayLink(
                blob,
                Owner::Message(mailbox, Uid::new(uid)?),
            ))
        });
        report.problems.extend(strays);
        compare(states, counted, report);
        Ok(())
    }

    async fn check_names(
        &self,
        states: &BTreeMap<MailboxId, MailboxState>,
        report: &mut CheckReport,
    ) -> Result<(), StoreError> {
        let mut nameless: BTreeMap<MailboxId, AccountId> = states
            .iter()
            .map(|(id, state)| (*id, state.account))
            .collect();
        for (key, row) in self.scan_all(Space::Name, KeyRange::prefix(&[])).await? {
            let Some((account, name)) = parse_name_key(&key) else {
                continue;
            };
            let named = MailboxEntry::decode(&row).map(|entry| entry.mailbox);
            match named {
                Ok(mailbox) if states.contains_key(&mailbox) => {
                    nameless.remove(&mailbox);
                }
                _ => report.problems.push(Problem::DanglingName(account, name)),
            }
        }
        report.problems.extend(
            nameless
                .into_iter()
                .map(|(mailbox, account)| Problem::Nameless(mailbox, account)),
        );
        self.check_usage(states, report).await
    }

    async fn check_usage(
        &self,
        states: &BTreeMap<MailboxId, MailboxState>,
        report: &mut CheckReport,
    ) -> Result<(), StoreError> {
        let mut sums: BTreeMap<AccountId, AccountUsage> = BTreeMap::new();
        for state in states.values() {
            sums.entry(state.account).or_default().count(state);
        }
        for (account, mut sum) in sums {
            report.accounts += 1;
            let kept = match self.usage(account).await {
                Ok(kept) => kept,
                Err(StoreError::NoSuchAccount) => AccountUsage::default(),
                Err(error) => return Err(error),
            };
            sum.last_uid_validity = kept.last_uid_validity;
            if kept != sum {
                report.problems.push(Problem::Usage(account, kept, sum));
            }
        }
        Ok(())
    }

    /// Mends one problem where that is possible. True when it was mended.
    async fn repair(&self, problem: Problem) -> Result<bool, StoreError> {
        match problem {
            Problem::Counters(mailbox, both) => {
                let (was, now) = *both;
                self.exchange(mailbox_key(mailbox), was.encode(), now.encode())
                    .await
            }
            Problem::Usage(account, was, _) => self.recount_usage(account, was).await,
            Problem::MissingLink(mailbox, uid, blob) => {
                let Some(id) = Uid::new(uid) else {
                    return Ok(false);
                };
                let owner = Owner::Message(mailbox, id);
                self.mend(move |tx| {
                    let still = tx.get(&message_key(mailbox, uid))?.is_some();
                    if still {
                        tx.put(owner.link_key(blob), PRESENT);
                    }
                    Ok(still)
                })
                .await
            }
            Problem::StrayLink(blob, owner) => {
                self.mend(move |tx| {
                    if tx.get(&owner_key(owner))?.is_some() {
                        return Ok(false);
                    }
                    tx.unlink_blob(blob, owner);
                    Ok(true)
                })
                .await
            }
            Problem::Nameless(mailbox, account) => self.name_again(mailbox, account).await,
            Problem::DanglingName(account, name) => self.drop_name(account, name).await,
            Problem::Homeless(mailbox, _) => match self.state(mailbox).await {
                // Its id is never used again, so a mailbox that is not there now never will be.
                Err(StoreError::NoSuchMailbox) => self.purge(mailbox).await.map(|()| true),
                found => found.map(|_| false),
            },
            Problem::Marks(mailbox, number, what) => self.repair_marks(mailbox, number, what).await,
            Problem::Damaged(..) | Problem::MissingBlob(..) | Problem::UnreadableBlob(..) => {
                Ok(false)
            }
        }
    }

    /// Names a mailbox that has no name.
    async fn name_again(&self, mailbox: MailboxId, account: AccountId) -> Result<bool, StoreError> {
        let listed = self.list(account).await?;
        if listed.iter().any(|listed| listed.entry.mailbox == mailbox) {
            return Ok(false);
        }
        let Ok(name) = MailboxName::parse(&format!("Recovered {mailbox}")) else {
            return Ok(false);
        };
        self.mend(move |tx| {
            let key = name_key(account, &name);
            if tx.get(&mailbox_key(mailbox))?.is_none() || tx.get(&key)?.is_some() {
                return Ok(false);
            }
            let entry = MailboxEntry {
                mailbox,
                special_use: None,
            };
            tx.put(key, entry.encode());
            Ok(true)
        })
        .await
    }

    /// Removes a name that stands for no mailbox.
    async fn drop_name(&self, account: AccountId, name: MailboxName) -> Result<bool, StoreError> {
        self.mend(move |tx| {
            let key = name_key(account, &name);
            let Some(row) = tx.get(&key)? else {
                return Ok(false);
            };
            if let Ok(entry) = MailboxEntry::decode(&row)
                && tx.get(&mailbox_key(entry.mailbox))?.is_some()
            {
                return Ok(false);
            }
            tx.delete(key);
            Ok(true)
        })
        .await
    }

    /// Makes an account's usage the sum of its mailboxes, if it still is what it `was`.
    ///
    /// The sum is made in the intent. A mailbox made or deleted since the usage was read has changed it, its last
    /// UIDVALIDITY at least; so the mailboxes found now are all there are.
    async fn recount_usage(
        &self,
        account: AccountId,
        was: AccountUsage,
    ) -> Result<bool, StoreError> {
        let states = self.check_mailboxes(&mut CheckReport::default()).await?;
        let mailboxes: Vec<MailboxId> = states
            .into_iter()
            .filter(|(_, state)| state.account == account)
            .map(|(mailbox, _)| mailbox)
            .collect();
        self.mend(move |tx| {
            let key = usage_key(account);
            let kept = tx.get(&key)?;
            let changed = match &kept {
                Some(kept) => *kept != was.encode(),
                // An account that is being removed has neither.
                None => mailboxes.is_empty(),
            };
            if changed {
                return Ok(false);
            }
            let mut sum = AccountUsage {
                last_uid_validity: was.last_uid_validity,
                ..AccountUsage::default()
            };
            for mailbox in &mailboxes {
                let Some(row) = tx.get(&mailbox_key(*mailbox))? else {
                    return Ok(false);
                };
                sum.count(&MailboxState::decode(&row).map_err(StoreError::from)?);
            }
            if kept.is_some() && sum == was {
                return Ok(false);
            }
            tx.put(key, sum.encode());
            Ok(true)
        })
        .await
    }

    async fn exchange(&self, key: RowKey, was: Vec<u8>, now: Vec<u8>) -> Result<bool, StoreError> {
        self.mend(move |tx| {
            let unchanged = tx.get(&key)?.is_some_and(|row: Bytes| row == was);
            if unchanged {
                tx.put(key.clone(), now.clone());
            }
            Ok(unchanged)
        })
        .await
    }

    async fn mend(
        &self,
        change: impl FnMut(&mut nightmail_commit::Tx<'_>) -> Result<bool, Abort<StoreError>>
        + Send
        + 'static,
    ) -> Result<bool, StoreError> {
        Ok(self.committer().submit(Intent::synced(change)).await?)
    }
}

impl AccountUsage {
    /// Counts one of the account's mailboxes in.
    fn count(&mut self, state: &MailboxState) {
        self.bytes += state.bytes;
        self.messages += u64::from(state.exists);
        self.mailboxes += 1;
    }
}

fn owner_key(owner: Owner) -> RowKey {
    match owner {
        Owner::Message(mailbox, uid) => message_key(mailbox, uid.get()),
        Owner::Queue(id) => RowKey {
            space: Space::Queue,
            key: id.to_be_bytes().to_vec(),
        },
    }
}

/// The state with nothing counted yet.
fn emptied(state: &MailboxState) -> MailboxState {
    MailboxState {
        exists: 0,
        unseen: 0,
        deleted: 0,
        bytes: 0,
        digest: state.digest.map(|_| 0),
        ..state.clone()
    }
}

fn compare(
    states: &BTreeMap<MailboxId, MailboxState>,
    counted: HashMap<MailboxId, Counted>,
    report: &mut CheckReport,
) {
    for (mailbox, count) in counted {
        match (states.get(&mailbox), count.state) {
            (Some(kept), Some(sum)) if *kept != sum => {
                report
                    .problems
                    .push(Problem::Counters(mailbox, Box::new((kept.clone(), sum))));
            }
            (None, _) | (_, None) => report.problems.push(Problem::Homeless(mailbox, count.rows)),
            _ => {}
        }
    }
}
