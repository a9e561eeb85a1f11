//! Failure reports (RFC 6591): one message that was not what it said it was, told at once.

use std::collections::HashMap;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use nightmail_core::{Address, Timestamp};
use nightmail_mime::header::fields;

use super::Reporter;
use super::message::{Parts, plain};
use crate::dkim::DkimOutcome;
use crate::dmarc::DmarcResult;
use crate::dmarc_record::{DmarcPolicy, DmarcRecord};
use crate::spf::{SpfIdentity, SpfResult};
use crate::verdict::Verdict;

/// Reports to one domain in an hour.
const PER_HOUR_MAX: u32 = 30;
/// Domains that are told apart; beyond them nothing is sent until the hour is over.
const DOMAINS_MAX: usize = 4096;
const HOUR_SECS: i64 = 3600;
/// Octets of the reported header.
const HEADER_OCTETS_MAX: usize = 16 * 1024;
/// Characters of one value.
const VALUE_CHARS_MAX: usize = 320;
/// Octets of a hidden local-part that are shown.
const HIDDEN_CHARS: usize = 16;
/// Fields of a redacted header: they name no mailbox.
const UNREVEALING: &[&str] = &[
    "date",
    "message-id",
    "mime-version",
    "content-type",
    "dkim-signature",
    "list-id",
    "arc-seal",
    "arc-message-signature",
];

/// How many reports went where in this hour.
#[derive(Default)]
pub(super) struct FailureLimits {
    hour: i64,
    sent: HashMap<String, u32>,
}

impl FailureLimits {
    /// Whether another may go to `domain`; counts it.
    pub(super) fn take(&mut self, domain: &str, now: Timestamp) -> bool {
        let hour = now.secs().div_euclid(HOUR_SECS);
        if hour != self.hour {
            self.hour = hour;
            self.sent.clear();
        }
        if !self.sent.contains_key(domain) && self.sent.len() >= DOMAINS_MAX {
            return false;
        }
        let sent = self.sent.entry(domain.to_owned()).or_default();
        *sent += 1;
        *sent <= PER_HOUR_MAX
    }
}

/// Whether the record asks for a report about this message (RFC 7489 §6.3, `fo=`).
pub(super) fn is_wanted(verdict: &Verdict, record: &DmarcRecord) -> bool {
    let dmarc = &verdict.dmarc;
    let judged = matches!(dmarc.result, DmarcResult::Fail | DmarcResult::Pass);
    if record.failure.is_empty() || !judged || verdict.spf.identity == SpfIdentity::Helo {
        return false;
    }
    let options = record.failure_options;
    let failed =
        |outcome: DkimOutcome| matches!(outcome, DkimOutcome::Fail | DkimOutcome::PermError);
    dmarc.result == DmarcResult::Fail
        || options.any && !(dmarc.dkim_aligned && dmarc.spf_aligned)
        || options.dkim && verdict.dkim.iter().any(|result| failed(result.outcome))
        || options.spf && matches!(verdict.spf.result, SpfResult::Fail | SpfResult::SoftFail)
}

/// The report for one address.
pub(super) fn message(
    verdict: &Verdict,
    applied: DmarcPolicy,
    header: &[u8],
    reporter: &Reporter,
    to: &Address,
) -> Vec<u8> {
    let domain = plain(
        verdict.dmarc.from_domain.as_deref().unwrap_or_default(),
        255,
    );
    let subject = format!("DMARC failure report for {domain}");
    let kind = "multipart/report; report-type=feedback-report";
    let text = format!(
        "A message that says it is from {domain} came from {} at\r\n{}. It did not pass all checks.\r\n",
        verdict.client,
        verdict.at.rfc5322()
    );
    Parts::new(reporter, to, &subject, "", kind, verdict.at)
        .part("Content-Type: text/plain; charset=utf-8", text.as_bytes())
        .part(
            "Content-Type: message/feedback-report",
            feedback(verdict, applied, reporter, &domain).as_bytes(),
        )
        .part(
            "Content-Type: text/rfc822-headers\r\nContent-Transfer-Encoding: 8bit",
            &shown_header(header, reporter.redact),
        )
        .finish()
}

fn feedback(verdict: &Verdict, applied: DmarcPolicy, reporter: &Reporter, domain: &str) -> String {
    let dmarc = &verdict.dmarc;
    let aligned = match (dmarc.dkim_aligned, dmarc.spf_aligned) {
        (true, true) => "dkim, spf",
        (true, false) => "dkim",
        (false, true) => "spf",
        (false, false) => "none",
    };
    let delivered = match applied {
        DmarcPolicy::None => "delivered",
        DmarcPolicy::Quarantine => "policy",
        DmarcPolicy::Reject => "reject",
    };
    let mut out =
        String::from("Feedback-Type: auth-failure\r\nVersion: 1\r\nUser-Agent: Nightmail\r\n");
    let mut field = |name: &str, value: &str| {
        out.push_str(&format!("{name}: {}\r\n", plain(value, VALUE_CHARS_MAX)));
    };
    field("Auth-Failure", "dmarc");
    field("Original-Mail-From", &sender(verdict, reporter.redact));
    field("Arrival-Date", &verdict.at.rfc5322());
    field("Source-IP", &verdict.client.to_string());
    field("Reported-Domain", domain);
    field("Reporting-MTA", &format!("dns; {}", reporter.domain));
    field("Delivery-Result", delivered);
    field("Identity-Alignment", aligned);
    let failed = verdict
        .dkim
        .iter()
        .find(|result| result.outcome != DkimOutcome::Pass);
    if let Some(result) = failed {
        field("DKIM-Domain", result.domain.as_deref().unwrap_or_default());
        field(
            "DKIM-Selector",
            result.selector.as_deref().unwrap_or_default(),
        );
    }
    if !reporter.redact {
        let results = String::from_utf8_lossy(&verdict.authentication_results()).into_owned();
        out.push_str(&results);
    }
    out
}

/// The sender, its local-part hidden where that is wanted (RFC 6590).
fn sender(verdict: &Verdict, redact: bool) -> String {
    match verdict.spf.subject.rsplit_once('@') {
        Some((local_part, domain)) if redact => {
            let hidden = URL_SAFE_NO_PAD.encode(digest(&SHA256, local_part.as_bytes()).as_ref());
            let hidden: String = hidden.chars().take(HIDDEN_CHARS).collect();
            format!("<{hidden}@{domain}>")
        }
        _ => format!("<{}>", verdict.spf.subject),
    }
}

/// The header as it is shown: whole fields up to a limit.
fn shown_header(header: &[u8], redact: bool) -> Vec<u8> {
    let mut out = Vec::new();
    for field in fields(header) {
        let reveals = !UNREVEALING.iter().any(|name| field.is(name));
        if redact && reveals {
            continue;
        }
        if out.len() + field.raw.len() + 2 > HEADER_OCTETS_MAX {
            break;
        }
        out.extend_from_slice(field.raw);
        if !field.raw.ends_with(b"\n") {
            out.extend_from_slice(b"\r\n");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_domain_gets_so_many_reports_in_an_hour() {
        let mut limits = FailureLimits::default();
        let at = |secs| Timestamp::from_secs(7 * HOUR_SECS + secs);
        let sent = (0..100)
            .filter(|secs| limits.take("a.test", at(*secs)))
            .count();
        assert_eq!(sent, PER_HOUR_MAX as usize);
        assert!(limits.take("b.test", at(0)));
        assert!(limits.take("a.test", at(HOUR_SECS)));
    }

    #[test]
    fn a_redacted_header_names_no_mailbox() {
        let header = b"From: ann@a.test\r\nDate: now\r\nTo: bob@b.test\r\nSubject: secret\r\n\r\n";
        assert_eq!(shown_header(header, true), b"Date: now\r\n");
        assert_eq!(shown_header(header, false), &header[..header.len() - 2]);
    }
}
