//! The moment of RCPT: rules, unknown recipients, points of lists, greylisting, rates.
//!
//! What costs a lookup is asked only for a recipient that would be taken.

use std::time::Instant;

use nightmail_access::{Stage, Verdict};
use nightmail_core::{Domain, ForwardPath, ReversePath, Timestamp};
use nightmail_smtp::replies;
use tracing::warn;

use super::connect::told;
use super::decision::{Fate, Gated, count, replies_at};
use super::lists::explained;
use super::rules::Ruled;
use super::visit::{Paths, Seen, Visit};
use super::{Gate, HOUR};
use crate::config::Greylist;
use crate::metrics;

/// How often a stranger's network may say ETRN in an hour.
const ETRN_PER_HOUR: u32 = 20;

/// A recipient that rules have been asked about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Recipient {
    /// What becomes of this recipient's copy.
    pub(crate) fate: Fate,
    /// A rule has left out the checks.
    exempt: bool,
}

impl Gate {
    /// The client names a recipient: what rules say, before anybody looks whether it exists.
    pub(crate) fn recipient(
        &self,
        visit: &mut Visit,
        seen: &Seen<'_>,
        sender: &ReversePath,
        recipient: &ForwardPath,
    ) -> Gated<Recipient> {
        let paths = Paths {
            sender: Some(sender),
            recipient: Some(recipient),
        };
        let mut named = Recipient::default();
        match self.ruled(visit, Stage::Rcpt, seen, paths)? {
            Ruled::Pass => {}
            Ruled::Accept => named.exempt = true,
            Ruled::Discard => named.fate = Fate::Discard,
            Ruled::Route(to) => named.fate = Fate::Route(to),
        }
        if !named.exempt && !visit.is_exempt() {
            self.direct(visit, recipient)?;
            self.probing(visit)?;
        }
        Ok(named)
    }

    /// Where mail comes through hosts that are named, nobody else hands it in. The postmaster hears from everybody.
    fn direct(&self, visit: &Visit, recipient: &ForwardPath) -> Gated<()> {
        if self.settings.only_from.is_empty() || is_postmaster(recipient) {
            return Ok(());
        }
        let text = "Mail is not taken from you directly; use the hosts that the domain's MX names";
        let reply = replies::POLICY.with_text(text);
        told(visit, Stage::Rcpt, "only_from", Some(reply))
    }

    /// Whoever has tried too many names learns of none whether it exists.
    fn probing(&self, visit: &Visit) -> Gated<()> {
        let most = self.settings.unknown_recipients_per_hour;
        let spent = most > 0
            && self
                .unknown
                .is_spent(&visit.net, most, HOUR, Instant::now());
        let reply = spent.then(|| replies::RATE_LIMITED.with_text("Too many unknown recipients"));
        told(visit, Stage::Rcpt, "unknown_recipients_per_hour", reply)
    }

    /// A stranger wants waiting mail to be sent, which costs a look through the queue.
    pub(crate) fn etrn(&self, visit: &Visit) -> Gated<()> {
        let taken = self
            .etrns
            .take(&visit.net, 1, ETRN_PER_HOUR, HOUR, Instant::now());
        match visit.exempt || taken.is_ok() {
            true => Ok(()),
            false => Err(replies::ETRN_UNABLE),
        }
    }

    /// Whether mail for the domain waits until somebody asks for it.
    pub(crate) fn waits_for_request(&self, domain: &Domain) -> bool {
        self.destinations.of(domain.as_str(), &[]).on_request
    }

    /// The recipient does not exist.
    pub(crate) fn unknown_recipient(&self, visit: &Visit) {
        let most = self.settings.unknown_recipients_per_hour;
        if most > 0 && !visit.is_exempt() {
            // Over the limit already: nothing more to count.
            let _ = self.unknown.take(&visit.net, 1, most, HOUR, Instant::now());
        }
    }

    /// The recipient exists and would be taken: the checks that cost something.
    pub(crate) async fn known_recipient(
        &self,
        visit: &mut Visit,
        named: &Recipient,
        sender: &ReversePath,
        recipient: &ForwardPath,
        now: Timestamp,
    ) -> Gated<()> {
        if named.exempt || visit.is_exempt() {
            return Ok(());
        }
        self.message_rate(visit)?;
        // Whoever is refused must be able to ask why (RFC 5321 §4.5.1).
        if is_postmaster(recipient) {
            return Ok(());
        }
        self.listed(visit)?;
        if self.is_greylisted(visit) {
            self.greylisting(visit, sender, recipient, now).await?;
        }
        count(Stage::Rcpt, "pass");
        Ok(())
    }

    fn listed(&self, visit: &Visit) -> Gated<()> {
        let most = self.settings.dns_list_reject;
        let Some(open) = &visit.mail else {
            return Ok(());
        };
        if most == 0 || i64::from(open.score.points) < i64::from(most) {
            return Ok(());
        }
        let text = explained(&open.score);
        let (permanent, _) = replies_at(Stage::Rcpt, &text);
        told(visit, Stage::Rcpt, "dns_list", Some(permanent))
    }

    /// Whether the points of lists make the transaction suspect.
    pub(super) fn is_suspect(&self, visit: &Visit) -> bool {
        let from = self.settings.dns_list_suspect;
        let score = visit.mail.as_ref().map_or(&visit.score, |open| &open.score);
        from > 0 && i64::from(score.points) >= i64::from(from)
    }

    /// A message is counted once, when its first recipient would be taken.
    fn message_rate(&self, visit: &mut Visit) -> Gated<()> {
        let most = self.settings.messages_per_hour;
        let net = visit.net;
        let counted = match &mut visit.mail {
            Some(open) => std::mem::replace(&mut open.counted, true),
            None => true,
        };
        if most == 0 || counted {
            return Ok(());
        }
        let taken = self.messages.take(&net, 1, most, HOUR, Instant::now());
        let Err(wait) = taken else {
            return Ok(());
        };
        if let Some(open) = &mut visit.mail {
            open.counted = false;
        }
        let text = format!("Too much mail, try again in {} s", wait.0.as_secs().max(1));
        let reply = replies::RATE_LIMITED.with_text(text);
        told(visit, Stage::Rcpt, "messages_per_hour", Some(reply))
    }

    fn is_greylisted(&self, visit: &Visit) -> bool {
        match self.settings.greylist {
            Greylist::Off => false,
            Greylist::Suspect => visit.is_suspect(),
            Greylist::All => true,
        }
    }

    async fn greylisting(
        &self,
        visit: &Visit,
        sender: &ReversePath,
        recipient: &ForwardPath,
        now: Timestamp,
    ) -> Gated<()> {
        let Some(greylist) = &self.greylist else {
            return Ok(());
        };
        let looked = Box::pin(greylist.look(visit.ip, sender, recipient, now)).await;
        let (verdict, wait) = match looked {
            Ok(Verdict::Pass) => ("passed", None),
            Ok(Verdict::Known) => ("known", None),
            Ok(Verdict::New { wait }) => ("new", Some(wait)),
            Ok(Verdict::TooEarly { wait }) => ("early", Some(wait)),
            Err(error) => {
                // What cannot be remembered cannot be greylisted either.
                warn!(session = %visit.session, %error, "the greylist could not be asked");
                ("unknown", None)
            }
        };
        ::metrics::counter!(metrics::GREYLIST, "verdict" => verdict).increment(1);
        let reply = wait.map(|wait| {
            let text = format!("Greylisted, try again in {} s", wait.as_secs().max(1));
            replies::RATE_LIMITED.with_text(text)
        });
        told(visit, Stage::Rcpt, "greylist", reply)
    }
}

fn is_postmaster(recipient: &ForwardPath) -> bool {
    match recipient {
        ForwardPath::Postmaster => true,
        ForwardPath::Address(address) => address.local_part().lookup() == "postmaster",
    }
}
