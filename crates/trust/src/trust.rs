//! The checks of one message, together.

use std::net::IpAddr;
use std::time::Duration;

use metrics::counter;
use nightmail_core::{Domain, Timestamp};
use nightmail_dns::{Dns, Nothing};
use tokio::time::timeout;

use crate::arc::{self, ArcOutcome, ArcResult};
use crate::author::Authors;
use crate::dkim;
use crate::dmarc::{self, Dmarc, DmarcResult};
use crate::dmarc_record::{DmarcPolicy, ReportUri, is_dmarc, organization};
use crate::inspector::{FieldIndex, Inspected};
use crate::results::ResultsReader;
use crate::signature::is_within;
use crate::spf::{self, Spf, SpfQuery, SpfResult};
use crate::verdict::Verdict;

/// How messages are checked.
#[derive(Clone, Debug)]
pub struct TrustOptions {
    /// The name under which we say what we found (RFC 8601 §2.5): our host name.
    pub authserv_id: String,
    /// DKIM signatures looked at in one message, from the top.
    pub signatures_max: usize,
    /// Whether DKIM signatures are looked at.
    pub dkim: bool,
    /// Whether ARC chains are looked at.
    pub arc: bool,
    /// Domains whose seals are believed, and all below them.
    pub arc_trusted: Vec<Domain>,
    /// How long the lookups of one check may take together; what is not known then is a temporary error.
    pub time_max: Duration,
}

impl Default for TrustOptions {
    fn default() -> Self {
        Self {
            authserv_id: "localhost".to_owned(),
            signatures_max: 10,
            dkim: true,
            arc: true,
            arc_trusted: Vec::new(),
            time_max: Duration::from_secs(20),
        }
    }
}

/// What is known of how a message came in.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// The client.
    pub client: IpAddr,
    /// The name it gave in HELO or EHLO.
    pub helo: &'a str,
    /// What its address's names say; `None` where they were not looked up.
    pub reverse_dns: Option<ReverseDns<'a>>,
    /// Who logged in.
    pub authenticated: Option<&'a str>,
    /// The time.
    pub now: Timestamp,
}

/// What the names of the client's address say (RFC 8601 §2.7.3).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ReverseDns<'a> {
    /// This one leads back to it.
    Confirmed(&'a str),
    /// None leads back to it.
    Unconfirmed,
    /// It has none.
    None,
    /// A lookup failed.
    TempError,
}

impl ReverseDns<'_> {
    /// The keyword of Authentication-Results.
    const fn as_str(self) -> &'static str {
        match self {
            Self::Confirmed(_) => "pass",
            Self::Unconfirmed => "fail",
            Self::None => "permerror",
            Self::TempError => "temperror",
        }
    }
}

/// Checks messages. Clones share what they look up.
#[derive(Clone, Debug)]
pub struct Trust {
    dns: Dns,
    options: std::sync::Arc<TrustOptions>,
}

impl Trust {
    /// With this resolver and these options.
    pub fn new(dns: Dns, options: TrustOptions) -> Self {
        Self {
            dns,
            options: std::sync::Arc::new(options),
        }
    }

    /// The options.
    pub fn options(&self) -> &TrustOptions {
        &self.options
    }

    /// Asks the sender's domain, or that of the HELO name where the sender is null, whether the client may send
    /// for it (RFC 7208). Answered within `time_max`.
    pub async fn spf(&self, query: &SpfQuery<'_>, now: Timestamp) -> Spf {
        let mut answer = Spf::none(query);
        let local_part = query
            .sender
            .map_or("", |sender| sender.local_part().as_str());
        let check = spf::check(
            &self.dns,
            query.client,
            query.helo,
            (local_part, &answer.domain),
            &self.options.authserv_id,
            now.secs(),
        );
        let (result, explanation) = match timeout(self.options.time_max, Box::pin(check)).await {
            Ok(found) => found,
            Err(_) => (SpfResult::TempError, None),
        };
        counter!("nightmail_spf_total", "result" => result.as_str()).increment(1);
        answer.result = result;
        answer.explanation = explanation;
        answer
    }

    /// Verifies the signatures and the chain of a message and applies the policy of its author's domain. `spf` is
    /// the answer for its sender. Answered within three times `time_max`.
    pub async fn verify(&self, inspected: &Inspected, spf: &Spf, context: &Context<'_>) -> Verdict {
        let index = FieldIndex::new(inspected.header());
        let trustworthy = !inspected.is_header_too_long();
        let dkim = async {
            let time_max = self.options.time_max;
            let verified = dkim::verify(&self.dns, inspected, &index, context.now, time_max);
            Box::pin(verified).await
        };
        let arc = async {
            let verified = arc::verify(&self.dns, inspected, &index);
            let verified = timeout(self.options.time_max, Box::pin(verified)).await;
            verified.unwrap_or_else(|_| arc::undecided(inspected))
        };
        let (dkim, arc) = match trustworthy {
            true => Box::pin(futures_util::future::join(dkim, arc)).await,
            false => (Vec::new(), ArcResult::NONE),
        };
        let mut authors = Authors::read(&index);
        authors.hidden |= inspected.hides_fields();
        let judged = dmarc::evaluate(&self.dns, &authors, spf, &dkim);
        let judged = timeout(self.options.time_max, Box::pin(judged)).await;
        let mut dmarc = judged.unwrap_or_else(|_| Dmarc {
            author_hidden: authors.hidden,
            ..Dmarc::plain(DmarcResult::TempError, authors.domains.first().cloned())
        });
        self.trust_sealers(&mut dmarc, &arc, inspected, &index);
        let verdict = Verdict {
            spf: spf.clone(),
            dkim,
            arc,
            dmarc,
            from_fields: authors.fields,
            header_too_long: !trustworthy,
            client: context.client.to_canonical(),
            at: context.now,
            authserv_id: self.options.authserv_id.clone(),
            dkim_on: self.options.dkim,
            reverse_dns: context.reverse_dns.map(ReverseDns::as_str),
            authenticated: context.authenticated.map(str::to_owned),
        };
        verdict.count();
        verdict
    }

    /// Overrides a failure that a trusted sealer did not see (RFC 8617 §7.2.1).
    fn trust_sealers(
        &self,
        dmarc: &mut Dmarc,
        arc: &ArcResult,
        inspected: &Inspected,
        index: &FieldIndex<'_>,
    ) {
        let is_wanted = dmarc.result == DmarcResult::Fail && !dmarc.author_hidden;
        if !is_wanted || arc.outcome != ArcOutcome::Pass {
            return;
        }
        let is_trusted = |sealer: &String| {
            let mut trusted = self.options.arc_trusted.iter();
            trusted.any(|domain| is_within(sealer, domain.as_str()))
        };
        let from = dmarc.from_domain.clone().unwrap_or_default();
        for (back, _) in arc
            .sealers
            .iter()
            .take_while(|sealer| is_trusted(sealer))
            .enumerate()
        {
            let field = inspected.chain.results(arc.sets - back);
            let passed = field
                .and_then(|field| index.get(field))
                .is_some_and(|field| ResultsReader::new(field.value).dmarc_passed(&from));
            if passed {
                dmarc.trusted_arc = true;
                dmarc.disposition = DmarcPolicy::None;
                return;
            }
        }
    }

    /// Those of `uris` that want the reports about `domain` (RFC 7489 §7.1): addresses of the same organization,
    /// and others whose domain says so in DNS.
    pub(crate) async fn report_destinations(
        &self,
        domain: &str,
        uris: &[ReportUri],
    ) -> Vec<ReportUri> {
        let mut wanted = Vec::new();
        for uri in uris {
            if self.accepts_reports(domain, uri).await {
                wanted.push(uri.clone());
            }
        }
        wanted
    }

    async fn accepts_reports(&self, domain: &str, uri: &ReportUri) -> bool {
        let host = uri.address.domain().as_str();
        if organization(host) == organization(domain) {
            return true;
        }
        let texts = match self
            .dns
            .txt(&format!("{domain}._report._dmarc.{host}"))
            .await
        {
            Ok(texts) => texts,
            Err(Nothing::NoName | Nothing::NoRecord | Nothing::Failed(_)) => return false,
        };
        texts.iter().any(|text| is_dmarc(text))
    }
}
