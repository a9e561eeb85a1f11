//! The records by which others verify this host without an authority: TLSA, and the signatures that they rest on
//! (RFC 7672).

use std::fmt::Write;

use super::{AuditQuestion, Finding, Verdict};
use crate::{Dns, Nothing, Tlsa};

/// Where mail comes in.
const SMTP_PORT: u16 = 25;

/// This host's TLSA records, whether any of them can be used, and whether they are proven.
pub(super) async fn look(dns: &Dns, question: &AuditQuestion) -> Finding {
    let hostname = question.hostname.as_str();
    let name = format!("_{SMTP_PORT}._tcp.{hostname}");
    let wanted = "3 1 1 … (SHA-256 of the public key)";
    let finding = Finding::new(name, "TLSA", wanted).optional();
    let found = dns.tlsa(hostname, SMTP_PORT).await;
    let records = match found.value {
        Ok(records) => records,
        Err(nothing) => {
            let advice = "with it, in a signed zone, others verify this host without an authority";
            return finding.nothing(&nothing, advice);
        }
    };
    let finding = finding.found(records.iter().map(text_of).collect());
    if !records.iter().any(is_usable) {
        let advice = "none of these records can be used for mail: it must be of usage 3 or 2";
        return finding.judged(Verdict::Wrong, advice);
    }
    if dns.validator.is_none() {
        let advice = "DNSSEC is off here: it cannot be told whether the records are proven";
        return finding.judged(Verdict::Unclear, advice);
    }
    match (found.secure, dns.tlsa_bases(hostname).await) {
        (true, Ok(bases)) if !bases.is_empty() => {}
        (_, Err(nothing @ Nothing::Failed(_))) => return finding.nothing(&nothing, ""),
        _ => {
            let advice = format!("the zone of {hostname} is not signed: nobody heeds the records");
            return finding.judged(Verdict::Wrong, advice);
        }
    }
    let mx = dns.secure_mx(question.domain.as_str()).await;
    let advice = match mx.secure {
        true => "each key must be here before it is used".to_owned(),
        false => format!(
            "the MX records of {} are not signed: for its mail nobody heeds the records",
            question.domain
        ),
    };
    finding.judged(Verdict::Good, advice)
}

/// Whether senders of mail can hold a certificate against it.
fn is_usable(record: &Tlsa) -> bool {
    let is_whole = match record.matching {
        0 => !record.data.is_empty(),
        1 => record.data.len() == 32,
        2 => record.data.len() == 64,
        _ => false,
    };
    is_whole && matches!(record.usage, 2 | 3) && record.selector <= 1
}

fn text_of(record: &Tlsa) -> String {
    let mut text = format!("{} {} {} ", record.usage, record.selector, record.matching);
    for octet in &record.data {
        // Writing to a String cannot fail.
        let _ = write!(text, "{octet:02x}");
    }
    text
}
