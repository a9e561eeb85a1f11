//! Who may do what with whose mailboxes, as sessions and operators ask.

use nightmail_commit::Intent;
use nightmail_core::{AccountId, MailboxId};
use nightmail_engine::{KeyRange, Space};

use crate::acl::{Acl, Grantee, RightsChange};
use crate::error::StoreError;
use crate::name::MailboxName;
use crate::rights::Rights;
use crate::row::{MailboxEntry, acl_key, grants_prefix, mailbox_key, parse_grant_key};
use crate::store::Store;
use crate::tx;

type Found<T> = Result<T, StoreError>;

/// A mailbox of another account that one may look up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shared {
    /// Whose it is.
    pub owner: AccountId,
    /// Its name among its owner's.
    pub name: MailboxName,
    /// The mailbox, and what its owner uses it for.
    pub entry: MailboxEntry,
    /// What may be done with it.
    pub rights: Rights,
}

impl Store {
    /// The access control list of a mailbox; empty where it was never shared.
    pub async fn acl(&self, mailbox: MailboxId) -> Found<Acl> {
        let row = self.get(acl_key(mailbox)).await?;
        Ok(row
            .map(|row| Acl::decode(&row))
            .transpose()?
            .unwrap_or_default())
    }

    /// What an account that does not own a mailbox may do with it. `in_domain`: whether it is of the owner's domain.
    pub async fn rights_of(
        &self,
        mailbox: MailboxId,
        account: AccountId,
        in_domain: bool,
    ) -> Found<Rights> {
        Ok(self.acl(mailbox).await?.rights_of(account, in_domain))
    }

    /// Changes one entry of a mailbox's list. `domain` is that of the mailbox's owner. Returns the list as it is then.
    pub async fn set_acl(
        &self,
        mailbox: MailboxId,
        domain: &str,
        grantee: Grantee,
        negative: bool,
        change: RightsChange,
    ) -> Found<Acl> {
        let domain = domain.to_owned();
        let reads = [mailbox_key(mailbox), acl_key(mailbox)];
        let intent =
            Intent::synced(move |tx| tx::set_acl(tx, mailbox, &domain, grantee, negative, change));
        Ok(self.committer().submit(intent.reading(reads)).await?)
    }

    /// Mailboxes of other accounts that an account of `domain` may look up, by owner and name.
    pub async fn shared_with(&self, account: AccountId, domain: &str) -> Found<Vec<Shared>> {
        let mut grants = self.grants(Grantee::Account(account), "").await?;
        let to_all = self.grants(Grantee::Anyone, domain).await?;
        grants.extend(to_all.into_iter().filter(|(owner, _)| *owner != account));
        grants.sort_unstable();
        grants.dedup();
        let keys: Vec<_> = grants
            .iter()
            .map(|(_, mailbox)| acl_key(*mailbox))
            .collect();
        let rows = self.engine().get_many(&keys).await?;
        let mut shared = Vec::new();
        for ((owner, mailbox), row) in grants.into_iter().zip(rows) {
            let Some(row) = row else { continue };
            let acl = Acl::decode(&row)?;
            let rights = acl.rights_of(account, &*acl.domain == domain);
            if rights.contains(Rights::LOOKUP) {
                shared.push((owner, mailbox, rights));
            }
        }
        self.name_shared(shared).await
    }

    /// `shared` is ascending.
    async fn name_shared(&self, shared: Vec<(AccountId, MailboxId, Rights)>) -> Found<Vec<Shared>> {
        let mut named = Vec::with_capacity(shared.len());
        for of_one in shared.chunk_by(|one, next| one.0 == next.0) {
            let Some((owner, _, _)) = of_one.first() else {
                continue;
            };
            for listed in self.list(*owner).await? {
                let place = of_one.binary_search_by_key(&listed.entry.mailbox, |grant| grant.1);
                let granted = place.ok().and_then(|place| of_one.get(place));
                if let Some((owner, _, rights)) = granted {
                    named.push(Shared {
                        owner: *owner,
                        name: listed.name,
                        entry: listed.entry,
                        rights: *rights,
                    });
                }
            }
        }
        Ok(named)
    }

    async fn grants(&self, grantee: Grantee, domain: &str) -> Found<Vec<(AccountId, MailboxId)>> {
        let prefix = grants_prefix(grantee, domain);
        let rows = self
            .scan_all(Space::Attribute, KeyRange::prefix(&prefix))
            .await?;
        Ok(rows
            .iter()
            .filter_map(|(key, _)| parse_grant_key(key))
            .collect())
    }

    /// Takes what a removed account was given of others' mailboxes, and what it alone saw of them.
    pub async fn forget_grantee(&self, account: AccountId) -> Found<()> {
        let grants = self.grants(Grantee::Account(account), "").await?;
        for (_, mailbox) in &grants {
            self.forget_metadata(Some(*mailbox), Some(account)).await?;
        }
        self.forget_metadata(None, Some(account)).await?;
        let reads: Vec<_> = grants
            .iter()
            .map(|(_, mailbox)| acl_key(*mailbox))
            .collect();
        let intent = Intent::synced(move |tx| tx::forget_grantee(tx, account, &grants));
        Ok(self.committer().submit(intent.reading(reads)).await?)
    }

    /// Lets what an account gave to anyone stand for its new domain.
    pub async fn set_acl_domain(&self, account: AccountId, domain: &str) -> Found<()> {
        let listed = self.list(account).await?;
        let mailboxes: Vec<MailboxId> = listed.iter().map(|listed| listed.entry.mailbox).collect();
        let domain = domain.to_owned();
        let keys = |mailbox: &MailboxId| [acl_key(*mailbox), mailbox_key(*mailbox)];
        let reads: Vec<_> = mailboxes.iter().flat_map(keys).collect();
        let intent = Intent::synced(move |tx| tx::set_acl_domain(tx, &mailboxes, &domain));
        Ok(self.committer().submit(intent.reading(reads)).await?)
    }
}
