//! Keys and policies of a domain: DKIM, DMARC, MTA-STS, TLS reports, certificate authorities.

use super::{AuditQuestion, Finding, Verdict, is_version, tag};
use crate::Dns;

/// A record for each selector that signs (RFC 6376 §3.6.1).
pub(super) async fn dkim(dns: &Dns, question: &AuditQuestion) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (selector, wanted) in &question.dkim {
        findings.push(key(dns, question, selector, wanted).await);
    }
    if findings.is_empty() {
        let name = format!("*._domainkey.{}", question.domain);
        let finding = Finding::new(name, "DKIM", "v=DKIM1; p=…");
        let advice = "mail of this domain is not signed: make a key and publish its record";
        findings.push(finding.judged(Verdict::Missing, advice));
    }
    findings
}

async fn key(dns: &Dns, question: &AuditQuestion, selector: &str, wanted: &str) -> Finding {
    let name = format!("{selector}._domainkey.{}", question.domain);
    let finding = Finding::new(&name, "DKIM", wanted);
    let records = match dns.txt(&name).await {
        Ok(records) => records,
        Err(nothing) => return finding.nothing(&nothing, "publish the key before it signs"),
    };
    let finding = finding.found(records.clone());
    let [record] = records.as_slice() else {
        return finding.judged(Verdict::Wrong, "there must be one record only");
    };
    if key_of(record).is_empty() {
        return finding.judged(Verdict::Wrong, "the key is revoked");
    }
    let kind = |record| tag(record, "k").unwrap_or("rsa").to_ascii_lowercase();
    match key_of(record) == key_of(wanted) && kind(record) == kind(wanted) {
        true if tag(record, "t").is_some_and(|flags| flags.contains('y')) => finding.judged(
            Verdict::Good,
            "t=y says that signatures are a test: remove it",
        ),
        true => finding.judged(Verdict::Good, ""),
        false => finding.judged(
            Verdict::Wrong,
            "another key is published than the one that signs",
        ),
    }
}

/// The public key of a record; white space in it does not count.
fn key_of(record: &str) -> String {
    let key = tag(record, "p").unwrap_or_default();
    key.split_ascii_whitespace().collect()
}

/// The DMARC record (RFC 7489 §6.3).
pub(super) async fn dmarc(dns: &Dns, question: &AuditQuestion) -> Finding {
    let name = format!("_dmarc.{}", question.domain);
    let wanted = format!(
        "v=DMARC1; p=none; rua=mailto:postmaster@{}",
        question.domain
    );
    let finding = Finding::new(&name, "DMARC", wanted);
    let advice = "say what is to become of mail that is not yours, and where reports go";
    let mut records = match dns.txt(&name).await {
        Ok(records) => records,
        Err(nothing) => return finding.nothing(&nothing, advice),
    };
    let finding = finding.found(records.clone());
    records.retain(|record| is_version(record, "DMARC1"));
    let record = match records.as_slice() {
        [] => return finding.judged(Verdict::Wrong, "the record must begin with v=DMARC1"),
        [record] => record,
        _ => return finding.judged(Verdict::Wrong, "there must be one record only"),
    };
    match dmarc_problem(record) {
        Some(problem) => finding.judged(Verdict::Wrong, problem),
        None => finding.judged(Verdict::Good, dmarc_advice(record)),
    }
}

fn dmarc_problem(record: &str) -> Option<String> {
    let is_policy = |value: &str| {
        let value = value.to_ascii_lowercase();
        ["none", "quarantine", "reject"].contains(&value.as_str())
    };
    for name in ["p", "sp"] {
        match tag(record, name) {
            None if name == "p" => return Some("p= is missing".into()),
            Some(value) if !is_policy(value) => {
                return Some(format!(
                    "{name}={value} is no policy: none, quarantine or reject"
                ));
            }
            _ => {}
        }
    }
    let percent = tag(record, "pct").map(|text| text.parse::<u8>());
    if percent.is_some_and(|percent| !percent.is_ok_and(|percent| percent <= 100)) {
        return Some("pct= is no percentage".into());
    }
    ["rua", "ruf"].into_iter().find_map(|name| {
        let addresses = tag(record, name)?.split(',').map(str::trim);
        let mut wrong = addresses.filter(|address| !is_mail(address));
        wrong
            .next()
            .map(|address| format!("{name}={address} is no mailto: address"))
    })
}

fn is_mail(uri: &str) -> bool {
    let scheme = uri.get(..7).unwrap_or_default();
    let rest = uri.get(7..).unwrap_or_default();
    scheme.eq_ignore_ascii_case("mailto:") && rest.contains('@')
}

fn dmarc_advice(record: &str) -> &'static str {
    let policy = tag(record, "p").unwrap_or_default();
    match (
        tag(record, "rua").is_some(),
        policy.eq_ignore_ascii_case("none"),
    ) {
        (false, _) => "without rua= nobody tells you who sends in your name",
        (true, true) => "p=none protects nobody: raise it when the reports show only your own mail",
        (true, false) => "",
    }
}

/// Whether the domain says that mail to it must come over TLS (RFC 8461 §3.1).
pub(super) async fn mta_sts(dns: &Dns, question: &AuditQuestion) -> Finding {
    let name = format!("_mta-sts.{}", question.domain);
    let finding = Finding::new(&name, "MTA-STS", "v=STSv1; id=…").optional();
    let policy_host = format!("mta-sts.{}", question.domain);
    let advice = format!("with it, and a policy at https://{policy_host}/, others insist on TLS");
    let records = match dns.txt(&name).await {
        Ok(records) => records,
        Err(nothing) => return finding.nothing(&nothing, advice),
    };
    let finding = finding.found(records.clone());
    let [record] = records.as_slice() else {
        return finding.judged(Verdict::Wrong, "there must be one record only");
    };
    if !is_version(record, "STSv1") || tag(record, "id").is_none_or(str::is_empty) {
        return finding.judged(Verdict::Wrong, "it must say v=STSv1 and have an id=");
    }
    let (v4, v6) = tokio::join!(dns.ipv4(&policy_host), dns.ipv6(&policy_host));
    match (v4, v6) {
        (Ok(_), _) | (_, Ok(_)) => finding.judged(Verdict::Good, ""),
        _ => finding.judged(
            Verdict::Wrong,
            format!("{policy_host}, where the policy should be, has no address"),
        ),
    }
}

/// Where others report trouble with TLS (RFC 8460 §3).
pub(super) async fn tls_reports(dns: &Dns, question: &AuditQuestion) -> Finding {
    let name = format!("_smtp._tls.{}", question.domain);
    let wanted = format!("v=TLSRPTv1; rua=mailto:postmaster@{}", question.domain);
    let finding = Finding::new(&name, "TLS-RPT", wanted).optional();
    let records = match dns.txt(&name).await {
        Ok(records) => records,
        Err(nothing) => return finding.nothing(&nothing, "with it others report trouble with TLS"),
    };
    let finding = finding.found(records.clone());
    let is_right = |record: &String| {
        is_version(record, "TLSRPTv1") && tag(record, "rua").is_some_and(|uri| !uri.is_empty())
    };
    match records.as_slice() {
        [record] if is_right(record) => finding.judged(Verdict::Good, ""),
        [_] => finding.judged(Verdict::Wrong, "it must say v=TLSRPTv1 and have a rua="),
        _ => finding.judged(Verdict::Wrong, "there must be one record only"),
    }
}

/// Which authorities may issue certificates for this host: the records of the name, or of the nearest one above it that
/// has any (RFC 8659 §3).
pub(super) async fn certificate_authorities(dns: &Dns, question: &AuditQuestion) -> Finding {
    let hostname = question.hostname.as_str();
    let wanted = "0 issue \"the authority of your certificates\"";
    let mut name = hostname;
    loop {
        let finding = Finding::new(name, "CAA", wanted).optional();
        match dns.caa(name).await {
            Ok(records) => return judge_authorities(finding, &records),
            Err(nothing) if nothing.is_temporary() => return finding.nothing(&nothing, ""),
            Err(_) => {}
        }
        match name.split_once('.') {
            Some((_, above)) => name = above,
            None => {
                let advice = "any authority may issue certificates for this host";
                return Finding::new(hostname, "CAA", wanted)
                    .optional()
                    .judged(Verdict::Missing, advice);
            }
        }
    }
}

fn judge_authorities(finding: Finding, records: &[(bool, String, String)]) -> Finding {
    let texts = records.iter().map(|(critical, tag, value)| {
        let flags = if *critical { 128 } else { 0 };
        format!("{flags} {tag} \"{value}\"")
    });
    let finding = finding.found(texts.collect());
    let mut issuers = records
        .iter()
        .filter(|(_, tag, _)| tag == "issue")
        .peekable();
    let forbids_all = issuers.peek().is_some()
        && issuers.all(|(_, _, value)| value.split(';').next().is_none_or(|v| v.trim().is_empty()));
    match forbids_all {
        true => finding.judged(
            Verdict::Wrong,
            "no authority may issue a certificate for this host",
        ),
        false => finding.judged(
            Verdict::Good,
            "the authority of your certificates must be among them",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_a_policy_is_told() {
        for (record, problem) in [
            ("v=DMARC1; p=none", None),
            (
                "v=DMARC1;p=Reject; sp=quarantine; pct=50; rua=mailto:a@x.test!10m , mailto:b@y.test",
                None,
            ),
            ("v=DMARC1; rua=mailto:a@x.test", Some("p= is missing")),
            ("v=DMARC1; p=block", Some("p=block is no policy")),
            ("v=DMARC1; p=none; pct=101", Some("pct=")),
            (
                "v=DMARC1; p=none; rua=a@x.test",
                Some("rua=a@x.test is no mailto: address"),
            ),
            (
                "v=DMARC1; p=none; ruf=mailto:\u{fc}\u{fc}",
                Some("no mailto: address"),
            ),
        ] {
            match (dmarc_problem(record), problem) {
                (None, None) => {}
                (Some(found), Some(problem)) => assert!(found.contains(problem), "{found}"),
                (found, _) => panic!("{record}: {found:?}"),
            }
        }
    }

    #[test]
    fn versions_come_first_and_tags_are_found_without_their_case() {
        assert!(is_version(" V = dmarc1 ; p=none", "DMARC1"));
        assert!(!is_version("p=none; v=DMARC1", "DMARC1"));
        assert_eq!(tag("v=DKIM1; P = ab c ", "p"), Some("ab c"));
        assert_eq!(key_of("v=DKIM1; p=ab c\td"), "abcd");
    }
}
