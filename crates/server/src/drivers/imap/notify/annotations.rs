//! What became of annotations between two looks (RFC 5465 §5.6, §5.7).

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use nightmail_core::MailboxId;
use nightmail_imap::command::notify::Notice;
use nightmail_store::Annotation;

use super::super::ImapSession;
use super::super::failure::Failure;
use super::Watching;

/// Annotations as they were at the last look: a digest of each value.
#[derive(Default)]
pub(super) struct Annotations(BTreeMap<Box<str>, u64>);

impl Annotations {
    /// The entries that differ from the last look; takes them for told.
    fn compare(&mut self, found: Vec<Annotation>) -> Vec<Box<str>> {
        let now = found.into_iter().map(|one| {
            let digest = digest(&one);
            (one.entry.into_boxed_str(), digest)
        });
        let now: BTreeMap<Box<str>, u64> = now.collect();
        let before = std::mem::replace(&mut self.0, now);
        let set = self.0.iter();
        let set = set.filter(|(entry, digest)| before.get(*entry) != Some(*digest));
        let gone = before.keys().filter(|entry| !self.0.contains_key(*entry));
        let mut changed: Vec<_> = set.map(|(entry, _)| entry).chain(gone).cloned().collect();
        changed.sort_unstable();
        changed
    }
}

fn digest(annotation: &Annotation) -> u64 {
    let mut hasher = DefaultHasher::new();
    annotation.value.hash(&mut hasher);
    hasher.finish()
}

impl ImapSession {
    /// Takes note of annotations that the session has set itself, so that it is not told of them.
    pub(in super::super) fn note_own_annotations(
        &mut self,
        mailbox: Option<MailboxId>,
        set: &[Annotation],
    ) {
        let Some(watching) = &mut self.watching else {
            return;
        };
        let known = match mailbox {
            None => watching.server.as_mut(),
            Some(mailbox) => {
                let watched = watching.mailboxes.get_mut(&mailbox);
                watched.and_then(|watched| watched.annotations.as_mut())
            }
        };
        let Some(Annotations(known)) = known else {
            return;
        };
        for annotation in set {
            let entry = annotation.entry.as_str();
            if annotation.value.is_some() {
                known.insert(entry.into(), digest(annotation));
            } else {
                known.remove(entry);
            }
        }
    }

    /// Compares the annotations that are watched. Without `notices` it is the first look.
    pub(super) async fn look_at_annotations(
        &self,
        watching: &mut Watching,
        mut notices: Option<&mut Vec<Notice>>,
    ) -> Result<(), Failure> {
        let account = self.account()?;
        if let Some(known) = &mut watching.server {
            let found = self.store().metadata(None, account).await?;
            let entries = known.compare(found);
            tell(&mut notices, None, entries);
        }
        let watched = watching.mailboxes.iter();
        let watched = watched.filter(|(_, watched)| watched.annotations.is_some());
        let mut mailboxes: Vec<MailboxId> = watched.map(|(mailbox, _)| *mailbox).collect();
        mailboxes.sort_unstable();
        for mailbox in mailboxes {
            let found = self.store().metadata(Some(mailbox), account).await?;
            let Some(watched) = watching.mailboxes.get_mut(&mailbox) else {
                continue;
            };
            if let Some(known) = &mut watched.annotations {
                let entries = known.compare(found);
                tell(&mut notices, Some(watched.name.clone()), entries);
            }
        }
        Ok(())
    }
}

fn tell(
    notices: &mut Option<&mut Vec<Notice>>,
    mailbox: Option<nightmail_imap::MailboxName>,
    entries: Vec<Box<str>>,
) {
    if let Some(notices) = notices.as_deref_mut().filter(|_| !entries.is_empty()) {
        notices.push(Notice::Metadata { mailbox, entries });
    }
}
