//! Quota (RFC 9208): one root for each account, named by its address.

use nightmail_directory::{AccountChange, AccountRecord, Quota};
use nightmail_imap::command::quota::{QuotaAsk, QuotaRoot, Resource};
use nightmail_imap::{Answer, MailboxName, Refusal, RefusalKind};
use nightmail_store::{AccountUsage, Rights};

use super::ImapSession;
use super::failure::Failure;

/// Octets of one unit of `STORAGE`.
const UNIT: u64 = 1024;
/// What stands for no bound where one must be named.
const NO_BOUND: u64 = i64::MAX as u64;

impl ImapSession {
    pub(super) async fn answer_quota(&self, ask: QuotaAsk) -> Result<Answer, Failure> {
        match ask {
            QuotaAsk::Roots(mailbox) => self.roots_of(&mailbox).await,
            QuotaAsk::Get(root) => {
                let owner = self.root_owner(&root).await?;
                self.told(owner.id).await
            }
            QuotaAsk::Set { root, limits } => self.set_quota(&root, &limits).await,
        }
    }

    /// The root of a mailbox; none where nothing bounds it. What another account uses is told to whoever may add to it.
    async fn roots_of(&self, name: &MailboxName) -> Result<Answer, Failure> {
        let place = self.place_with(name, Rights::READ).await?;
        let owner = self.record(place.owner).await?;
        if bounds(&owner.quota, &AccountUsage::default()).is_empty() {
            return Ok(Answer::Quota(Vec::new()));
        }
        let resources = match place.rights.contains(Rights::INSERT) {
            true => Some(bounds(
                &owner.quota,
                &self.store().usage(place.owner).await?,
            )),
            false => None,
        };
        Ok(Answer::Quota(vec![QuotaRoot {
            name: owner.address.to_string(),
            resources,
        }]))
    }

    /// The account of a root that the session may see: its own, and any where it operates the server.
    async fn root_owner(&self, root: &str) -> Result<AccountRecord, Failure> {
        let own = self.record(self.account()?).await?;
        if root.is_empty() {
            return Ok(own);
        }
        let found = self.service.services.directory.find_login(root).await;
        let found = found.map_err(|error| self.directory_failed(&error))?;
        match found {
            Some(found) if found.id == own.id || own.admin => Ok(found),
            None if own.admin => Err(Failure::Refused(Refusal::new(
                RefusalKind::NoSuchMailbox,
                "There is no such quota root",
            ))),
            _ => Err(Failure::no_permission()),
        }
    }

    async fn told(&self, account: nightmail_core::AccountId) -> Result<Answer, Failure> {
        let owner = self.record(account).await?;
        let usage = self.store().usage(account).await?;
        let mut resources = bounds(&owner.quota, &usage);
        if resources.is_empty() {
            // A response names at least one resource.
            resources = vec![(Resource::Storage, usage.bytes.div_ceil(UNIT), NO_BOUND)];
        }
        Ok(Answer::Quota(vec![QuotaRoot {
            name: owner.address.to_string(),
            resources: Some(resources),
        }]))
    }

    async fn set_quota(
        &self,
        root: &str,
        limits: &[(Option<Resource>, u64)],
    ) -> Result<Answer, Failure> {
        if !self.record(self.account()?).await?.admin {
            return Err(Failure::no_permission());
        }
        let owner = self.root_owner(root).await?;
        let mut quota = Quota::UNLIMITED;
        for (resource, limit) in limits {
            match resource {
                Some(Resource::Storage) => quota.bytes = Some(limit.saturating_mul(UNIT)),
                Some(Resource::Message) => quota.messages = Some(*limit),
                Some(Resource::Mailbox) => quota.mailboxes = Some(*limit),
                None => {
                    return Err(Failure::Refused(Refusal::new(
                        RefusalKind::Cannot,
                        "No such resource is bounded here",
                    )));
                }
            }
        }
        let change = AccountChange {
            quota: Some(quota),
            ..AccountChange::default()
        };
        let directory = &self.service.services.directory;
        let changed = directory.update_account(owner.id, change).await;
        changed.map_err(|error| self.directory_failed(&error))?;
        self.told(owner.id).await
    }
}

/// What is bounded, how much of it is used, and how much may be.
fn bounds(quota: &Quota, usage: &AccountUsage) -> Vec<(Resource, u64, u64)> {
    let all = [
        (
            Resource::Storage,
            usage.bytes.div_ceil(UNIT),
            quota.bytes.map(|bytes| bytes / UNIT),
        ),
        (Resource::Message, usage.messages, quota.messages),
        (
            Resource::Mailbox,
            u64::from(usage.mailboxes),
            quota.mailboxes,
        ),
    ];
    all.into_iter()
        .filter_map(|(resource, used, limit)| Some((resource, used, limit?.min(NO_BOUND))))
        .collect()
}
