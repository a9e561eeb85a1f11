//! DMARC (RFC 7489 §6.6): whether a message comes from the domain its author is shown with.

use aws_lc_rs::rand;
use nightmail_dns::Dns;

use crate::author::Authors;
use crate::dkim::{DkimOutcome, DkimResult};
use crate::dmarc_record::{DmarcPolicy, DmarcRecord, organization};
use crate::spf::{Spf, SpfResult};

/// What is said of a message.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum DmarcResult {
    /// The author's domain has no policy.
    None,
    /// SPF or DKIM passes for the author's domain.
    Pass,
    /// Neither does.
    Fail,
    /// A lookup failed.
    TempError,
    /// The message names no author, or cannot be read.
    PermError,
}

impl DmarcResult {
    /// The keyword of Authentication-Results.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::TempError => "temperror",
            Self::PermError => "permerror",
        }
    }
}

/// What is said of a message, and what its author's domain wants done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Dmarc {
    /// What is said.
    pub result: DmarcResult,
    /// The author's domain that decided.
    pub from_domain: Option<String>,
    /// What the domain's record asks for.
    pub policy: DmarcPolicy,
    /// What is to be done: the policy after sampling (`pct=`) and trusted sealers.
    pub disposition: DmarcPolicy,
    /// Who the author is depends on who reads the message: not one From field, more addresses than are looked at, or what
    /// can be read in two ways.
    pub author_hidden: bool,
    /// The message was left out of the domain's sample.
    pub sampled_out: bool,
    /// A trusted sealer saw it pass (RFC 8617 §7.2).
    pub trusted_arc: bool,
    /// DKIM passes for the author's domain.
    pub dkim_aligned: bool,
    /// SPF passes for the author's domain.
    pub spf_aligned: bool,
    /// The domain's record, which says where reports go.
    pub record: Option<Box<DmarcRecord>>,
}

impl Dmarc {
    pub(crate) const fn plain(result: DmarcResult, from_domain: Option<String>) -> Self {
        Self {
            result,
            from_domain,
            policy: DmarcPolicy::None,
            disposition: DmarcPolicy::None,
            author_hidden: false,
            sampled_out: false,
            trusted_arc: false,
            dkim_aligned: false,
            spf_aligned: false,
            record: None,
        }
    }

    /// How bad it is: of several authors the worst decides.
    const fn rank(&self) -> (u8, DmarcPolicy) {
        let rank = match self.result {
            DmarcResult::Fail => 4,
            DmarcResult::TempError => 3,
            DmarcResult::PermError => 2,
            DmarcResult::None => 1,
            DmarcResult::Pass => 0,
        };
        (rank, self.policy)
    }
}

/// Judges a message by its authors and what SPF and DKIM say.
pub(crate) async fn evaluate(
    dns: &Dns,
    authors: &Authors,
    spf: &Spf,
    dkim: &[DkimResult],
) -> Dmarc {
    let mut worst: Option<Dmarc> = None;
    for domain in &authors.domains {
        let found = of_domain(dns, domain, spf, dkim).await;
        if worst
            .as_ref()
            .is_none_or(|worst| found.rank() > worst.rank())
        {
            worst = Some(found);
        }
    }
    let is_odd = authors.hidden || authors.odd || worst.is_none();
    let mut judged = worst.unwrap_or_else(|| Dmarc::plain(DmarcResult::PermError, None));
    judged.author_hidden = authors.hidden;
    if is_odd && judged.result != DmarcResult::Fail {
        judged.result = DmarcResult::PermError;
    }
    judged
}

async fn of_domain(dns: &Dns, domain: &str, spf: &Spf, dkim: &[DkimResult]) -> Dmarc {
    let from = Some(domain.to_owned());
    let record = match DmarcRecord::find(dns, domain).await {
        Ok(Some(record)) => record,
        Ok(None) => return Dmarc::plain(DmarcResult::None, from),
        Err(_) => return Dmarc::plain(DmarcResult::TempError, from),
    };
    let spf_aligned =
        spf.result == SpfResult::Pass && is_aligned(domain, &spf.domain, record.spf_strict);
    let signers = |outcome: DkimOutcome| {
        let found = dkim.iter().filter(move |result| result.outcome == outcome);
        found.filter_map(|result| result.domain.as_deref())
    };
    let aligned = |signer: &str| is_aligned(domain, signer, record.dkim_strict);
    let dkim_aligned = signers(DkimOutcome::Pass).any(aligned);
    let undecided = spf.result == SpfResult::TempError
        && is_aligned(domain, &spf.domain, record.spf_strict)
        || signers(DkimOutcome::TempError).any(aligned);
    let result = match (spf_aligned || dkim_aligned, undecided) {
        (true, _) => DmarcResult::Pass,
        (false, true) => DmarcResult::TempError,
        (false, false) => DmarcResult::Fail,
    };
    let policy = record.policy_for(domain);
    let sampled_out = result == DmarcResult::Fail && !is_in_sample(record.percent);
    let disposition = match (result, sampled_out) {
        (DmarcResult::Fail, false) => policy,
        (DmarcResult::Fail, true) => policy.milder(),
        _ => DmarcPolicy::None,
    };
    Dmarc {
        policy,
        disposition,
        sampled_out,
        dkim_aligned,
        spf_aligned,
        record: Some(Box::new(record)),
        ..Dmarc::plain(result, from)
    }
}

/// RFC 7489 §3.1.
fn is_aligned(from: &str, authenticated: &str, strict: bool) -> bool {
    let authenticated = authenticated.to_ascii_lowercase();
    let authenticated = authenticated.strip_suffix('.').unwrap_or(&authenticated);
    match strict {
        true => from == authenticated,
        false => organization(from) == organization(authenticated),
    }
}

/// Whether a message is among so many of a hundred.
fn is_in_sample(percent: u8) -> bool {
    let mut octets = [0; 2];
    percent >= 100
        || rand::fill(&mut octets).is_err()
        || u16::from_be_bytes(octets) % 100 < u16::from(percent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alignment_is_of_organizations_or_exact() {
        assert!(is_aligned("a.x.test", "b.X.test.", false));
        assert!(!is_aligned("a.x.test", "b.x.test", true));
        assert!(is_aligned("x.test", "X.test", true));
        assert!(!is_aligned("x.co.uk", "y.co.uk", false));
    }

    #[test]
    fn a_sample_has_its_size() {
        assert!((0..100).all(|_| is_in_sample(100)));
        assert!((0..100).all(|_| !is_in_sample(0)));
    }
}
