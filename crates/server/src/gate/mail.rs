//! The moment of MAIL: rules, the sender's domain, lists of names, SPF.

use nightmail_access::{Score, SenderDomain, Stage, tag};
use nightmail_core::ReversePath;
use nightmail_smtp::{Mail, replies};
use nightmail_trust::{Spf, SpfQuery, SpfResult};

use super::Gate;
use super::connect::told;
use super::decision::{Fate, Gated, consequence, replies_at};
use super::rules::Ruled;
use super::visit::{MailVisit, Paths, Seen, Visit};
use crate::config::Consequence;

/// Characters of a domain's explanation that are passed on.
const EXPLANATION_CHARS_MAX: usize = 300;

impl Gate {
    /// The client begins a message.
    pub(crate) async fn mail(&self, visit: &mut Visit, seen: &Seen<'_>, mail: &Mail) -> Gated<()> {
        visit.mail = None;
        if !visit.exempt {
            self.shedder.look(Stage::Mail)?;
            self.early(visit, seen, Stage::Mail)?;
        }
        let tags = visit.tags.clone();
        visit.mail = Some(Box::new(MailVisit {
            tags,
            ..MailVisit::default()
        }));
        let done = self.begin(visit, seen, mail).await;
        if done.is_err() {
            visit.mail = None;
        }
        done
    }

    async fn begin(&self, visit: &mut Visit, seen: &Seen<'_>, mail: &Mail) -> Gated<()> {
        let paths = Paths {
            sender: Some(&mail.reverse_path),
            recipient: None,
        };
        let ruled = self.ruled(visit, Stage::Mail, seen, paths)?;
        if let Some(open) = &mut visit.mail {
            match ruled {
                Ruled::Pass => {}
                Ruled::Accept => open.exempt = true,
                Ruled::Discard => open.fate = Fate::Discard,
                Ruled::Route(to) => open.fate = Fate::Route(to),
            }
        }
        match visit.is_exempt() {
            true => Ok(()),
            false => Box::pin(self.sender_checks(visit, seen, &mail.reverse_path)).await,
        }
    }

    /// Everything that DNS says about the sender, asked at the same time.
    async fn sender_checks(
        &self,
        visit: &mut Visit,
        seen: &Seen<'_>,
        sender: &ReversePath,
    ) -> Gated<()> {
        let (exists, spf, score) = tokio::join!(
            self.look_up_sender(sender),
            self.spf(visit, seen, sender),
            self.name_lists(seen, sender),
        );
        if let Some(open) = &mut visit.mail {
            open.score = visit.score.clone();
            open.score.add(score);
        }
        if self.is_suspect(visit) {
            visit.tag(tag::DNS_LIST);
        }
        self.sender_domain(visit, exists)?;
        self.judge_spf(visit, spf)
    }

    async fn look_up_sender(&self, sender: &ReversePath) -> Option<SenderDomain> {
        let address = sender.address()?;
        if self.settings.sender_domain == Consequence::Off
            || address.domain().as_literal().is_some()
        {
            return None;
        }
        Some(SenderDomain::look(&self.dns, address.domain()).await)
    }

    async fn spf(&self, visit: &Visit, seen: &Seen<'_>, sender: &ReversePath) -> Option<Spf> {
        if !self.wants_spf() {
            return None;
        }
        let query = SpfQuery {
            client: visit.ip,
            helo: seen.hello.unwrap_or_default(),
            sender: sender.address(),
        };
        Some(self.trust.spf(&query, nightmail_commit::now()).await)
    }

    /// DMARC rests on SPF, too.
    fn wants_spf(&self) -> bool {
        let settings = &self.authentication;
        settings.spf != Consequence::Off
            || settings.dmarc != Consequence::Off
            || settings.dmarc_reports
    }

    async fn name_lists(&self, seen: &Seen<'_>, sender: &ReversePath) -> Score {
        let mut score = match seen.hello {
            Some(name) => self.lists.helo(name).await,
            None => Score::default(),
        };
        if let Some(address) = sender.address() {
            score.add(self.lists.sender(address.domain().as_str()).await);
        }
        score
    }

    fn sender_domain(&self, visit: &mut Visit, found: Option<SenderDomain>) -> Gated<()> {
        let what = self.settings.sender_domain;
        let reply = match found {
            None | Some(SenderDomain::Exists) => return Ok(()),
            Some(SenderDomain::TempFail) => {
                let waits = matches!(what, Consequence::Defer | Consequence::Reject);
                waits
                    .then(|| replies::LOOKUP_FAILED.with_text("Cannot look the sender's domain up"))
            }
            Some(SenderDomain::Missing) => {
                visit.tag(tag::SENDER_DOMAIN);
                let (_, temporary) = replies_at(Stage::Mail, "Sender domain not found");
                consequence(what, replies::SENDER_DOMAIN_UNKNOWN, temporary)
            }
            Some(SenderDomain::NullMx) => {
                visit.tag(tag::SENDER_DOMAIN);
                let text = "The sender's domain says that it takes no mail";
                let (_, temporary) = replies_at(Stage::Mail, text);
                let permanent = replies::SENDER_DOMAIN_UNKNOWN.with_text(text);
                // RFC 7505 §4.2.
                consequence(what, permanent, temporary)
            }
        };
        told(visit, Stage::Mail, "sender_domain", reply)
    }

    fn judge_spf(&self, visit: &mut Visit, spf: Option<Spf>) -> Gated<()> {
        let Some(spf) = spf else {
            return Ok(());
        };
        let what = self.authentication.spf;
        let result = spf.result;
        let (domain, explained) = (spf.domain.clone(), spf.explanation.clone());
        if let Some(open) = &mut visit.mail {
            open.spf = Some(spf);
        }
        if what == Consequence::Off {
            return Ok(());
        }
        let reply = match result {
            SpfResult::Fail => {
                visit.tag(tag::SPF_FAIL);
                // Words of strangers are marked as theirs (RFC 7208 §6.2).
                let text = match explained {
                    Some(text) => {
                        let text: String = text.chars().take(EXPLANATION_CHARS_MAX).collect();
                        format!("{domain} explains: {text}")
                    }
                    None => format!("{} may not send for {domain}", visit.ip),
                };
                let (_, temporary) = replies_at(Stage::Mail, &text);
                consequence(what, replies::SPF_FAILED.with_text(text), temporary)
            }
            SpfResult::SoftFail => {
                visit.tag(tag::SPF_SOFTFAIL);
                None
            }
            SpfResult::TempError => (what == Consequence::Defer).then(|| {
                replies::LOOKUP_FAILED.with_text("Cannot look the sender's SPF record up")
            }),
            _ => None,
        };
        told(visit, Stage::Mail, "spf", reply)
    }
}
