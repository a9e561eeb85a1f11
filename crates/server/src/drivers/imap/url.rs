//! What URLs name (RFC 5092), in CATENATE (RFC 4469) and URLFETCH, and how they are vouched for (RFC 4467).
//!
//! A token is an HMAC over the URL up to the word that says who may use it, under a key of the mailbox. Whoever
//! presents it reads with the owner's eyes; a URL without one is the client's own way of naming what it may read.
//!
//! **Invariant:** from the answer nobody learns why a URL that was not vouched for names nothing.

use aws_lc_rs::hmac;
use bytes::Bytes;
use nightmail_core::{AccountId, MailboxId};
use nightmail_imap::command::section::Section;
use nightmail_imap::io::{BlobRange, SectionData};
use nightmail_imap::url::{ImapUrl, UrlAccess, UrlAuthorization};
use nightmail_imap::{Answer, Limits, MailboxName, Refusal, RefusalKind};
use nightmail_store::{Rights, StoreError, URL_KEY_OCTETS};

use super::ImapSession;
use super::failure::{Failure, store_name};
use super::fetch::{Loader, Needs, Source, section_data};

/// What a URL names.
pub(super) struct Part {
    pub(super) data: SectionData,
    /// Where the octets are that `data` does not hold itself.
    pub(super) source: Option<Source>,
}

fn bad_url() -> Failure {
    Failure::Refused(Refusal::new(
        RefusalKind::BadUrl,
        "The URL names nothing that may be read",
    ))
}

/// What cannot be found becomes a bad URL; other trouble stays what it is.
fn or_bad_url(failure: Failure) -> Failure {
    match failure {
        Failure::Refused(_) | Failure::Store(StoreError::NoSuchMailbox, _) => bad_url(),
        failure => failure,
    }
}

impl ImapSession {
    /// What a URL of CATENATE names.
    pub(super) async fn find_url(&self, text: &str) -> Result<Part, Failure> {
        let url = ImapUrl::parse(text, &Limits::default()).map_err(|_| bad_url())?;
        let mailbox = match &url.authorization {
            Some(_) => self.authorized_mailbox(&url).await?.ok_or_else(bad_url)?,
            None => self.readable_mailbox(&url).await.map_err(or_bad_url)?,
        };
        self.part(&url, mailbox).await?.ok_or_else(bad_url)
    }

    /// The mailbox of a URL that names what the session may read anyway.
    async fn readable_mailbox(&self, url: &ImapUrl) -> Result<MailboxId, Failure> {
        if let Some(user) = &url.user
            && self.account_of(user).await? != Some(self.account()?)
        {
            return Err(bad_url());
        }
        match &url.mailbox {
            Some(name) => Ok(self.place_with(name, Rights::READ).await?.mailbox),
            None => match &self.selected {
                Some(selected) => {
                    self.rights_now(selected.owner, selected.mailbox).await?;
                    Ok(selected.mailbox)
                }
                None => Err(bad_url()),
            },
        }
    }

    async fn account_of(&self, user: &str) -> Result<Option<AccountId>, Failure> {
        let directory = &self.service.services.directory;
        match directory.find_login(&user.to_lowercase()).await {
            Ok(found) => Ok(found.map(|record| record.id)),
            Err(error) => {
                tracing::warn!(session = %self.id, %error, "an account could not be looked up");
                Err(Failure::Refused(Refusal::new(
                    RefusalKind::Unavailable,
                    "The server cannot do this now",
                )))
            }
        }
    }

    /// The octets of a URL in its mailbox; none where there are none such.
    async fn part(&self, url: &ImapUrl, mailbox: MailboxId) -> Result<Option<Part>, Failure> {
        let store = self.store().clone();
        if let Some(wanted) = url.uid_validity {
            let state = store.state(mailbox).await?;
            if state.uid_validity.get() != wanted {
                return Ok(None);
            }
        }
        let section = url.section.clone().unwrap_or(Section::ALL);
        let needs = Needs {
            structure: section != Section::ALL,
            ..Needs::default()
        };
        let mut loader = Loader::new(store, mailbox, vec![url.uid], needs);
        let Some(item) = loader.next().await?.and_then(|mut items| items.pop()) else {
            return Ok(None);
        };
        let (data, source) = section_data(self.store(), &item, &section, 0).await?;
        let (start, count) = url.partial.unwrap_or((0, None));
        let cut = |octets: u64| {
            let start = start.min(octets);
            start..start.saturating_add(count.unwrap_or(u64::MAX)).min(octets)
        };
        let data = match data {
            SectionData::Absent => return Ok(None),
            SectionData::Bytes(octets) => {
                let range = cut(octets.len() as u64);
                SectionData::Bytes(octets.slice(range.start as usize..range.end as usize))
            }
            SectionData::Blob(blob) => {
                let range = cut(blob.octets);
                SectionData::Blob(BlobRange {
                    start: blob.start + range.start,
                    octets: range.end - range.start,
                    ..blob
                })
            }
        };
        Ok(Some(Part { data, source }))
    }

    /// Vouches for a URL of the user's own.
    pub(super) async fn authorize_url(&self, url: &ImapUrl) -> Result<Answer, Failure> {
        let authorization = url
            .authorization
            .as_ref()
            .ok_or_else(Failure::out_of_order)?;
        let owner = match &url.user {
            Some(user) => self.account_of(user).await?,
            None => None,
        };
        let account = self.account()?;
        let name = url.mailbox.as_ref().ok_or_else(no_own_url)?;
        if owner != Some(account) {
            return Err(no_own_url());
        }
        let mailbox = self.own_mailbox(account, name).await?;
        let mut fresh = [0; URL_KEY_OCTETS];
        getrandom::fill(&mut fresh).map_err(std::io::Error::other)?;
        let key = self.store().url_key_or(mailbox, fresh).await?;
        let token = hmac::sign(&key_of(&key), authorization.rump.as_bytes());
        let hex = token.as_ref().iter().map(|b| format!("{b:02x}"));
        Ok(Answer::UrlToken(hex.collect()))
    }

    async fn own_mailbox(
        &self,
        account: AccountId,
        name: &MailboxName,
    ) -> Result<MailboxId, Failure> {
        let name = store_name(name)?;
        Ok(self.store().lookup(account, &name).await?.mailbox)
    }

    /// What a URL that was vouched for names.
    pub(super) async fn fetch_url(&mut self, url: &ImapUrl) -> Result<Answer, Failure> {
        let found = match self.authorized_mailbox(url).await? {
            Some(mailbox) => self.part(url, mailbox).await?,
            None => None,
        };
        self.sources.clear();
        let data = match found {
            Some(part) => {
                self.sources.extend(part.source);
                part.data
            }
            None => SectionData::Absent,
        };
        Ok(Answer::UrlData(data))
    }

    /// The mailbox of a URL, where it was vouched for and the session may use it.
    async fn authorized_mailbox(&self, url: &ImapUrl) -> Result<Option<MailboxId>, Failure> {
        let parts = (&url.authorization, &url.user, &url.mailbox);
        let (Some(authorization), Some(owner), Some(name)) = parts else {
            return Ok(None);
        };
        let now = nightmail_commit::now();
        if authorization.expires.is_some_and(|expires| expires <= now)
            || !self.may_use(&authorization.access).await?
        {
            return Ok(None);
        }
        let Some(owner) = self.account_of(owner).await? else {
            return Ok(None);
        };
        let mailbox = match self.own_mailbox(owner, name).await {
            Ok(mailbox) => mailbox,
            Err(Failure::Store(StoreError::NoSuchMailbox, _)) => return Ok(None),
            Err(failure) => return Err(failure),
        };
        let key = self.store().url_key(mailbox).await?;
        let vouched = key.is_some_and(|key| is_vouched_for(&key, authorization));
        Ok(vouched.then_some(mailbox))
    }

    /// Whether the session is one of those that may use a URL. It is no submission server.
    async fn may_use(&self, access: &UrlAccess) -> Result<bool, Failure> {
        match access {
            UrlAccess::Anyone | UrlAccess::LoggedIn => Ok(true),
            UrlAccess::User(user) => Ok(self.account_of(user).await? == Some(self.account()?)),
            UrlAccess::Submission(_) => Ok(false),
        }
    }

    pub(super) async fn reset_url_keys(
        &self,
        mailbox: Option<&MailboxName>,
    ) -> Result<Answer, Failure> {
        let account = self.account()?;
        let mailboxes = match mailbox {
            Some(name) => vec![self.own_mailbox(account, name).await?],
            None => {
                let listed = self.store().list(account).await?;
                listed.iter().map(|listed| listed.entry.mailbox).collect()
            }
        };
        self.store().drop_url_keys(&mailboxes).await?;
        Ok(Answer::Done)
    }
}

fn no_own_url() -> Failure {
    Failure::Refused(Refusal::new(
        RefusalKind::NoPermission,
        "The URL is not of a mailbox of yours",
    ))
}

fn key_of(key: &Bytes) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, key)
}

fn is_vouched_for(key: &Bytes, authorization: &UrlAuthorization) -> bool {
    let Some((mechanism, token)) = &authorization.token else {
        return false;
    };
    let digits: Option<Vec<u8>> = token
        .as_bytes()
        .chunks(2)
        .map(|pair| match pair {
            [high, low] => {
                let digit = |b: &u8| char::from(*b).to_digit(16);
                u8::try_from(digit(high)? * 16 + digit(low)?).ok()
            }
            _ => None,
        })
        .collect();
    mechanism.eq_ignore_ascii_case("INTERNAL")
        && digits.is_some_and(|token| {
            hmac::verify(&key_of(key), authorization.rump.as_bytes(), &token).is_ok()
        })
}
