//! Annotations of mailboxes and of the server (RFC 5464).
//!
//! Those below `/shared` are the same for everybody, those below `/private` for each account its own. Whoever may do
//! something with the messages of a mailbox may read its annotations and have private ones; shared ones are set with the
//! right to write, and those of the server by whoever operates it.

use bytes::Bytes;
use nightmail_core::MailboxId;
use nightmail_imap::command::metadata::{Depth, MetadataAsk};
use nightmail_imap::{Answer, MailboxName, Refusal, RefusalKind};
use nightmail_store::{Annotation, Rights, StoreError};

use super::ImapSession;
use super::failure::Failure;
use super::place::Place;

/// Whom to write to about the server (RFC 5464 §6.2.1).
const ADMIN: &str = "/shared/admin";
const SHARED: &str = "/shared";

impl ImapSession {
    pub(super) async fn answer_metadata(&mut self, ask: MetadataAsk) -> Result<Answer, Failure> {
        match ask {
            MetadataAsk::Get {
                mailbox,
                entries,
                depth,
            } => self.metadata(mailbox.as_ref(), &entries, depth).await,
            MetadataAsk::Set { mailbox, values } => {
                self.set_metadata(mailbox.as_ref(), values).await
            }
        }
    }

    async fn metadata(
        &self,
        mailbox: Option<&MailboxName>,
        entries: &[String],
        depth: Depth,
    ) -> Result<Answer, Failure> {
        let mailbox = match mailbox {
            Some(name) => Some(self.annotated(name).await?.mailbox),
            None => None,
        };
        let mut found = self.store().metadata(mailbox, self.account()?).await?;
        if mailbox.is_none() && !found.iter().any(|known| known.entry == ADMIN) {
            found.extend(self.admin_annotation());
        }
        let is_wanted = |name: &str| entries.iter().any(|entry| depth.reaches(entry, name));
        let wanted = found.into_iter().filter_map(|Annotation { entry, value }| {
            let value = value.filter(|_| is_wanted(&entry))?;
            Some((entry, value))
        });
        Ok(Answer::Metadata(wanted.collect()))
    }

    /// The postmaster of the configuration, where nobody has set anything else.
    fn admin_annotation(&self) -> Option<Annotation> {
        let postmaster = self
            .service
            .services
            .directory
            .options()
            .postmaster
            .clone()?;
        Some(Annotation {
            entry: ADMIN.to_owned(),
            value: Some(Bytes::from(format!("mailto:{postmaster}"))),
        })
    }

    /// A mailbox whose annotations the session may read (RFC 5464 §3.3).
    pub(super) async fn annotated(&self, name: &MailboxName) -> Result<Place, Failure> {
        let place = self.place(name).await?;
        match place.rights.intersects(Rights::ANNOTATES) {
            true => Ok(place),
            false => Err(Failure::no_permission()),
        }
    }

    async fn set_metadata(
        &mut self,
        mailbox: Option<&MailboxName>,
        values: Vec<(String, Option<Bytes>)>,
    ) -> Result<Answer, Failure> {
        let shares = values.iter().any(|(entry, _)| is_shared(entry));
        if values
            .iter()
            .any(|(entry, _)| entry.matches('/').count() < 2)
        {
            return Err(Failure::Refused(Refusal::new(
                RefusalKind::Cannot,
                "An annotation has a name below /private or /shared",
            )));
        }
        let mailbox = match mailbox {
            Some(name) => Some(self.annotated_by(name, shares).await?),
            None if shares && !self.record(self.account()?).await?.admin => {
                return Err(Failure::no_permission());
            }
            None => None,
        };
        let annotations: Vec<_> = values
            .into_iter()
            .map(|(entry, value)| Annotation { entry, value })
            .collect();
        let viewer = self.account()?;
        let set = self
            .store()
            .set_metadata(mailbox, viewer, annotations.clone());
        match set.await {
            Ok(()) => {
                self.note_own_annotations(mailbox, &annotations);
                Ok(Answer::Done)
            }
            Err(StoreError::Limit(_)) => Err(Failure::Refused(Refusal::new(
                RefusalKind::TooManyAnnotations,
                "There are as many annotations as there may be",
            ))),
            Err(error) => Err(error.into()),
        }
    }

    async fn annotated_by(&self, name: &MailboxName, shares: bool) -> Result<MailboxId, Failure> {
        let place = self.annotated(name).await?;
        if shares {
            place.require(Rights::WRITE)?;
        }
        Ok(place.mailbox)
    }
}

fn is_shared(entry: &str) -> bool {
    let below = entry.strip_prefix(SHARED);
    below.is_some_and(|below| below.is_empty() || below.starts_with('/'))
}
