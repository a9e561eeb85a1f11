//! What our own users may hand in (RFC 6409 §6): whose sender, and how much.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use nightmail_access::{ClientNet, Rates, Stage};
use nightmail_core::{AccountId, Address, SessionId, Timestamp};
use nightmail_directory::{Directory, DirectoryError};
use nightmail_smtp::command::Hold;
use nightmail_smtp::{Mail, Reply, replies};
use nightmail_trust::Inspected;
use tracing::{info, warn};

use super::data::AUTHOR_HIDDEN;
use super::decision::{Gated, refused};
use crate::config::Submission;

const HOUR: Duration = Duration::from_secs(3600);
/// Accounts and client networks whose rates are remembered.
const RATES_MAX: usize = 100_000;

/// Who hands a message in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Submitter {
    pub(crate) session: SessionId,
    pub(crate) account: AccountId,
    pub(crate) ip: Option<IpAddr>,
}

/// The rules for our own users.
pub(crate) struct SubmissionGate {
    settings: Submission,
    directory: Directory,
    messages: Rates<AccountId>,
    recipients: Rates<AccountId>,
    by_address: Rates<ClientNet>,
}

impl SubmissionGate {
    pub(super) fn new(settings: Submission, directory: Directory) -> Self {
        Self {
            settings,
            directory,
            messages: Rates::new(RATES_MAX),
            recipients: Rates::new(RATES_MAX),
            by_address: Rates::new(RATES_MAX),
        }
    }

    /// May this account begin a message with this sender?
    pub(crate) async fn mail(&self, from: &Submitter, mail: &Mail, now: Timestamp) -> Gated<()> {
        if self.settings.sender_owned
            && let Some(sender) = mail.reverse_path.address()
            && !self.owns(from, sender).await?
        {
            let reply = replies::SENDER_NOT_OWNED;
            refused(from.session, Stage::Mail, "sender_owned", &reply);
            return Err(reply);
        }
        if let Some(hold) = mail.params.hold {
            self.hold(from.session, hold, now)?;
        }
        let settings = &self.settings;
        let at = Instant::now();
        limit(&self.messages, from.account, settings.messages_per_hour, at)
            .map_err(|reply| told(from.session, Stage::Mail, "messages_per_hour", reply))?;
        if let Some(ip) = from.ip {
            let most = settings.messages_per_address_per_hour;
            limit(&self.by_address, ClientNet::of(ip), most, at).map_err(|reply| {
                let check = "messages_per_address_per_hour";
                told(from.session, Stage::Mail, check, reply)
            })?;
        }
        Ok(())
    }

    /// May this account name one recipient more?
    pub(crate) fn recipient(&self, from: &Submitter) -> Gated<()> {
        let most = self.settings.recipients_per_hour;
        limit(&self.recipients, from.account, most, Instant::now())
            .map_err(|reply| told(from.session, Stage::Rcpt, "recipients_per_hour", reply))
    }

    /// Whether anybody asks who the authors of a message are.
    pub(super) const fn looks_at_authors(&self) -> bool {
        self.settings.from_owned
    }

    /// Are these authors the account's own, and all that a reader may see? An author that is no address of a mailbox is
    /// not.
    pub(crate) async fn authors(
        &self,
        from: &Submitter,
        authors: &[String],
        inspected: Option<&Inspected>,
    ) -> Gated<()> {
        if !self.looks_at_authors() {
            return Ok(());
        }
        let mut problem = inspected
            .is_none_or(Inspected::hides_author)
            .then_some(AUTHOR_HIDDEN);
        for author in authors {
            let owned = match Address::parse(author) {
                Ok(address) => self.owns(from, &address).await?,
                Err(_) => false,
            };
            if !owned {
                problem = Some("The From field names an address of others");
                break;
            }
        }
        let Some(problem) = problem else {
            return Ok(());
        };
        let reply = replies::POLICY.with_text(problem);
        refused(from.session, Stage::Data, "from_owned", &reply);
        Err(reply)
    }

    async fn owns(&self, from: &Submitter, sender: &Address) -> Gated<bool> {
        let owned = self.directory.may_send_as(from.account, sender).await;
        owned.map_err(|error: DirectoryError| {
            warn!(session = %from.session, %error, "a sender could not be looked up");
            replies::LOCAL_ERROR
        })
    }

    /// A message may be held back, but not for ever (RFC 4865 §4.1).
    fn hold(&self, session: SessionId, hold: Hold, now: Timestamp) -> Gated<()> {
        let most = i64::try_from(self.settings.hold_max.as_millis()).unwrap_or(i64::MAX);
        let wait = held_until(hold, now).millis().saturating_sub(now.millis());
        if wait <= most {
            return Ok(());
        }
        let reply = replies::ARGUMENTS.with_text("That is too far in the future");
        info!(%session, %reply, "refused");
        Err(reply)
    }
}

/// When a message that is held back leaves.
pub(crate) fn held_until(hold: Hold, now: Timestamp) -> Timestamp {
    match hold {
        Hold::For(seconds) => now.plus_millis(i64::from(seconds).saturating_mul(1000)),
        Hold::Until(until) => until,
    }
}

fn told(session: SessionId, stage: Stage, check: &str, reply: Reply) -> Reply {
    refused(session, stage, check, &reply);
    reply
}

/// Takes one of what is allowed in an hour; 0 allows any number.
fn limit<K>(rates: &Rates<K>, key: K, per_hour: u32, now: Instant) -> Gated<()>
where
    K: std::hash::Hash + Eq + Clone,
{
    if per_hour == 0 {
        return Ok(());
    }
    let taken = rates.take(&key, 1, per_hour, HOUR, now);
    taken.map_err(|wait| {
        let seconds = wait.0.as_secs().max(1);
        replies::RATE_LIMITED.with_text(format!("Too much mail, try again in {seconds} s"))
    })
}
