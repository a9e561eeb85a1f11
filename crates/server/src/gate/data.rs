//! The moment at which a message is there: signatures, DMARC, rules, and what the header says of them.

use nightmail_access::{ClientName, Stage};
use nightmail_core::{Address, ReversePath};
use nightmail_smtp::replies;
use nightmail_trust::{
    Context, DmarcPolicy, HeaderFilter, Inspected, Inspector, ReverseDns, Spf, SpfQuery, Verdict,
};
use tracing::debug;

use super::Gate;
use super::connect::told;
use super::decision::{Fate, Gated, consequence, count, replies_at};
use super::rules::Ruled;
use super::visit::{Paths, Seen, Visit};
use crate::config::Consequence;

/// Why a message is refused whose author cannot be checked.
pub(super) const AUTHOR_HIDDEN: &str =
    "The message must have one From field, and that must name its authors plainly";

/// What the gate says of a whole message that it lets in.
#[derive(Default)]
pub(crate) struct Judged {
    /// Header fields that say what was found, each ended by CRLF.
    pub(crate) fields: Vec<u8>,
    /// What becomes of the message.
    pub(crate) fate: Fate,
    /// What was found, for those who seal it.
    pub(super) found: Option<Box<(Inspected, Verdict)>>,
}

impl Gate {
    /// Reads a message of this visit as it comes, where something is to be found out about it.
    pub(crate) fn inspector(&self, visit: &Visit) -> Option<Inspector> {
        let settings = &self.authentication;
        let wanted = settings.dkim
            || settings.arc
            || settings.dmarc != Consequence::Off
            || self.reporting.is_on();
        if !wanted || visit.is_exempt() {
            return None;
        }
        let inspector = Inspector::new(&self.trust);
        Some(match self.signers.is_sealing() {
            true => inspector.also_to_sign(),
            false => inspector,
        })
    }

    /// Reads a message of our own users as it comes, where it is to be signed or its authors are looked at.
    pub(crate) fn submission_inspector(&self) -> Option<Inspector> {
        let wanted = self.signers.is_signing() || self.submission.looks_at_authors();
        wanted.then(|| Inspector::new(&self.trust).also_to_sign())
    }

    /// The signatures of a message that is written here in the name of `author`.
    pub(crate) async fn sign(&self, author: &Address, message: &[u8]) -> Vec<u8> {
        if !self.signers.is_signing() {
            return Vec::new();
        }
        let mut inspector = Inspector::new(&self.trust).also_to_sign();
        inspector.push(message);
        let inspected = inspector.finish();
        let (author, now) = (author.to_string(), nightmail_commit::now());
        self.signers
            .sign(Some(&author), Some(&inspected), &[], now)
            .await
    }

    /// Keeps fields out that only this server may write.
    pub(crate) fn header_filter(&self) -> HeaderFilter {
        HeaderFilter::new(&self.trust.options().authserv_id)
    }

    /// The message is there.
    pub(crate) async fn message(
        &self,
        visit: &mut Visit,
        seen: &Seen<'_>,
        sender: &ReversePath,
        inspected: Option<Inspected>,
    ) -> Gated<Judged> {
        let mut judged = Judged::default();
        if let Some(inspected) = inspected
            && !visit.is_exempt()
        {
            judged.found = Some(self.verify(visit, seen, sender, inspected).await);
        }
        if let Some(found) = &judged.found
            && self.reporting.is_on()
        {
            self.report(visit, &found.0, &found.1).await;
        }
        let paths = Paths {
            sender: Some(sender),
            recipient: None,
        };
        let ruled = self.ruled(visit, Stage::Data, seen, paths)?;
        let is_accepted = ruled == Ruled::Accept;
        judged.fate = match ruled {
            Ruled::Pass | Ruled::Accept => visit.fate(),
            Ruled::Discard => Fate::Discard,
            Ruled::Route(to) => Fate::Route(to),
        };
        // The client is not to learn anything about what is thrown away.
        let is_judged = !is_accepted && judged.fate != Fate::Discard;
        if let (Some(found), true) = (&judged.found, is_judged) {
            self.dmarc(visit, &found.1)?;
        }
        judged.fields = self.fields(visit, judged.found.as_ref().map(|found| &found.1));
        count(Stage::Data, "pass");
        Ok(judged)
    }

    async fn verify(
        &self,
        visit: &mut Visit,
        seen: &Seen<'_>,
        sender: &ReversePath,
        inspected: Inspected,
    ) -> Box<(Inspected, Verdict)> {
        let helo = seen.hello.unwrap_or_default();
        let spf = match visit.spf() {
            Some(spf) => spf.clone(),
            None => Spf::none(&SpfQuery {
                client: visit.ip,
                helo,
                sender: sender.address(),
            }),
        };
        let context = Context {
            client: visit.ip,
            helo,
            reverse_dns: visit.name.as_ref().map(reverse_dns),
            authenticated: None,
            now: nightmail_commit::now(),
        };
        let verdict = self.trust.verify(&inspected, &spf, &context).await;
        debug!(
            session = %visit.session,
            spf = verdict.spf.result.as_str(),
            dkim = verdict.has_passing_signature(),
            dmarc = verdict.dmarc.result.as_str(),
            from = verdict.dmarc.from_domain.as_deref().unwrap_or_default(),
            "sender looked at"
        );
        for tag in verdict.tags() {
            visit.tag(tag);
        }
        Box::new((inspected, verdict))
    }

    fn dmarc(&self, visit: &Visit, verdict: &Verdict) -> Gated<()> {
        let rejects = self.authentication.dmarc == Consequence::Reject;
        if rejects && verdict.disposition() == DmarcPolicy::Reject {
            let domain = verdict.dmarc.from_domain.as_deref().unwrap_or_default();
            let text = format!("The DMARC policy of {domain} does not allow this message");
            let reply = replies::DMARC_FAILED.with_text(text);
            return told(visit, Stage::Data, "dmarc", Some(reply));
        }
        // A policy that rejects can be evaded by it (RFC 7489 §6.6.1).
        let what = self.authentication.unclear_author;
        let (permanent, temporary) = replies_at(Stage::Data, AUTHOR_HIDDEN);
        let hidden = verdict.dmarc.author_hidden;
        let reply = hidden.then(|| consequence(what, permanent, temporary));
        told(visit, Stage::Data, "unclear_author", reply.flatten())
    }

    /// Authentication-Results (RFC 8601), and another one with the tags. Forged ones of our name have been dropped.
    fn fields(&self, visit: &Visit, verdict: Option<&Verdict>) -> Vec<u8> {
        let mut fields = verdict
            .map(Verdict::authentication_results)
            .unwrap_or_default();
        let tags: Vec<&str> = visit.tags().iter().collect();
        if !tags.is_empty() {
            let name = self.own_names.first().map_or("localhost", String::as_str);
            let field = format!(
                "Authentication-Results: {name};\r\n\tx-tags=set policy.tags=\"{}\"\r\n",
                tags.join(",")
            );
            fields.extend_from_slice(field.as_bytes());
        }
        fields
    }
}

fn reverse_dns(name: &ClientName) -> ReverseDns<'_> {
    match name {
        ClientName::Confirmed(name) => ReverseDns::Confirmed(name),
        ClientName::Unconfirmed(_) => ReverseDns::Unconfirmed,
        ClientName::None => ReverseDns::None,
        ClientName::TempFail => ReverseDns::TempError,
    }
}
