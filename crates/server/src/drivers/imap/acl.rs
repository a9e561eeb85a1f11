//! Access control lists (RFC 4314 §3).
//!
//! An identifier is `anyone`, which stands for every account of the owner's domain, or a login name; after `-` it names
//! rights that are taken away. The owner has every right and cannot lose one.

use nightmail_directory::AccountRecord;
use nightmail_imap::command::acl::{AclAnswer, AclAsk, SetRights};
use nightmail_imap::{Answer, MailboxName, Refusal, RefusalKind};
use nightmail_store::{Grantee, Rights, RightsChange};

use super::ImapSession;
use super::failure::Failure;
use super::place::Place;

const ANYONE: &str = "anyone";

/// Whom an identifier names.
enum Who {
    Owner,
    Grantee(Grantee),
}

impl ImapSession {
    pub(super) async fn acl(&self, ask: AclAsk) -> Result<Answer, Failure> {
        match ask {
            AclAsk::Mine(mailbox) => {
                let rights = self.place(&mailbox).await?.rights;
                Ok(Answer::Acl(AclAnswer::Mine(rights.with_obsolete())))
            }
            AclAsk::Get(mailbox) => self.acl_entries(&mailbox).await,
            AclAsk::Possible {
                mailbox,
                identifier,
            } => self.possible_rights(&mailbox, &identifier).await,
            AclAsk::Set {
                mailbox,
                identifier,
                how,
                rights,
            } => {
                let rights = Rights::parse(&rights).map_err(|_| Failure::out_of_order())?;
                let change = match how {
                    SetRights::Replace => RightsChange::Set(rights),
                    SetRights::Add => RightsChange::Add(rights),
                    SetRights::Remove => RightsChange::Remove(rights),
                };
                self.change_acl(&mailbox, &identifier, change).await
            }
            AclAsk::Delete {
                mailbox,
                identifier,
            } => {
                let change = RightsChange::Set(Rights::NONE);
                self.change_acl(&mailbox, &identifier, change).await
            }
        }
    }

    /// A mailbox whose list the session may see and change.
    async fn administered(&self, name: &MailboxName) -> Result<(Place, AccountRecord), Failure> {
        let place = self.place_with(name, Rights::ADMINISTER).await?;
        let owner = self.record(place.owner).await?;
        Ok((place, owner))
    }

    async fn acl_entries(&self, name: &MailboxName) -> Result<Answer, Failure> {
        let (place, owner) = self.administered(name).await?;
        let mut told = vec![(owner.address.to_string(), Rights::ALL.with_obsolete())];
        for entry in self.store().acl(place.mailbox).await?.entries() {
            let name = match entry.grantee {
                Grantee::Anyone => Some(ANYONE.to_owned()),
                Grantee::Account(id) => {
                    let record = self.record_of(id).await?;
                    record.map(|record| record.address.to_string())
                }
            };
            let mark = if entry.negative { "-" } else { "" };
            let rights = entry.rights.with_obsolete();
            told.extend(name.map(|name| (format!("{mark}{name}"), rights)));
        }
        Ok(Answer::Acl(AclAnswer::List(told)))
    }

    async fn possible_rights(
        &self,
        name: &MailboxName,
        identifier: &str,
    ) -> Result<Answer, Failure> {
        let (_, owner) = self.administered(name).await?;
        let all = Rights::ALL.with_obsolete();
        Ok(Answer::Acl(match self.who(&owner, identifier).await? {
            Some(Who::Owner) => AclAnswer::Possible {
                always: all,
                each: Vec::new(),
            },
            Some(Who::Grantee(_)) | None => AclAnswer::Possible {
                always: String::new(),
                each: all.chars().map(String::from).collect(),
            },
        }))
    }

    async fn change_acl(
        &self,
        name: &MailboxName,
        identifier: &str,
        change: RightsChange,
    ) -> Result<Answer, Failure> {
        let (place, owner) = self.administered(name).await?;
        let (negative, identifier) = match identifier.strip_prefix('-') {
            Some(identifier) => (true, identifier),
            None => (false, identifier),
        };
        let refused = |text| Failure::Refused(Refusal::new(RefusalKind::Cannot, text));
        match self.who(&owner, identifier).await? {
            None => Err(refused("There is no such user")),
            Some(Who::Owner) => match change {
                RightsChange::Set(Rights::ALL) | RightsChange::Add(_) if !negative => {
                    Ok(Answer::Done)
                }
                _ => Err(refused("The owner has every right")),
            },
            Some(Who::Grantee(grantee)) => {
                let domain = owner.address.domain().as_str();
                self.store()
                    .set_acl(place.mailbox, domain, grantee, negative, change)
                    .await?;
                Ok(Answer::Done)
            }
        }
    }

    /// Whom an identifier names; without a domain, an account of the owner's.
    async fn who(&self, owner: &AccountRecord, identifier: &str) -> Result<Option<Who>, Failure> {
        if identifier.eq_ignore_ascii_case(ANYONE) {
            return Ok(Some(Who::Grantee(Grantee::Anyone)));
        }
        let directory = &self.service.services.directory;
        let failed = |error| self.directory_failed(&error);
        let mut found = None;
        if !identifier.contains('@') {
            let name = format!("{identifier}@{}", owner.address.domain());
            found = directory.find_login(&name).await.map_err(failed)?;
        }
        if found.is_none() {
            found = directory.find_login(identifier).await.map_err(failed)?;
        }
        Ok(found.map(|record| match record.id == owner.id {
            true => Who::Owner,
            false => Who::Grantee(Grantee::Account(record.id)),
        }))
    }
}
