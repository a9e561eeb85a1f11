//! A report as JSON (RFC 8460 §4.4), and as a message (§5.3).

use std::collections::BTreeMap;

use nightmail_core::{Address, Timestamp};
use nightmail_trust::{Parts, Reporter, gzip};
use serde_json::{Map, Value, json};

use super::result::{PolicyType, TlsFailure};
use super::row::{DueTlsReport, Observation, ToldPolicy};

const DAY_SECS: i64 = 86_400;

/// One report, made once for everybody who gets it.
pub(super) struct Built {
    id: String,
    begin: i64,
    domain: String,
    pub(super) compressed: Vec<u8>,
}

#[derive(Default)]
struct Summary<'a> {
    successes: u64,
    failures: u64,
    details: Vec<(u64, &'a str, &'a TlsFailure)>,
}

/// The JSON of a day of a domain. The same day has the same id, also when it is made again after a crash.
pub(super) fn json(
    due: &DueTlsReport,
    counts: &[(u64, Observation)],
    reporter: &Reporter,
) -> String {
    let begin = i64::from(due.day) * DAY_SECS;
    let mut policies = BTreeMap::<&ToldPolicy, Summary<'_>>::new();
    for (sessions, observation) in counts {
        let summary = policies.entry(&observation.policy).or_default();
        let Some(failure) = &observation.failure else {
            summary.successes = summary.successes.saturating_add(*sessions);
            continue;
        };
        summary.failures = summary.failures.saturating_add(*sessions);
        summary
            .details
            .push((*sessions, &observation.mx_host, failure));
    }
    let policies: Vec<Value> = policies
        .iter()
        .map(|(policy, summary)| policy_of(policy, summary))
        .collect();
    let report = json!({
        "organization-name": reporter.organization,
        "date-range": {
            "start-datetime": date_time(begin),
            "end-datetime": date_time(begin + DAY_SECS - 1),
        },
        "contact-info": reporter.from.to_string(),
        "report-id": id(due, reporter),
        "policies": policies,
    });
    report.to_string()
}

fn id(due: &DueTlsReport, reporter: &Reporter) -> String {
    let begin = i64::from(due.day) * DAY_SECS;
    format!("{begin}.{}@{}", due.domain, reporter.domain)
}

/// RFC 3339 §5.6, in whole seconds.
fn date_time(secs: i64) -> String {
    let text = Timestamp::from_secs(secs).to_string();
    text.replace(".000Z", "Z")
}

fn policy_of(policy: &ToldPolicy, summary: &Summary<'_>) -> Value {
    let mut told = Map::new();
    told.insert("policy-type".to_owned(), policy.kind.as_str().into());
    if !policy.strings.is_empty() {
        told.insert("policy-string".to_owned(), json!(policy.strings));
    }
    told.insert("policy-domain".to_owned(), json!(policy.domain));
    let patterns = policy
        .strings
        .iter()
        .filter_map(|line| line.strip_prefix("mx: "));
    let patterns: Vec<&str> = patterns.collect();
    if policy.kind == PolicyType::Sts && !patterns.is_empty() {
        told.insert("mx-host".to_owned(), json!(patterns));
    }
    let mut out = json!({
        "policy": told,
        "summary": {
            "total-successful-session-count": summary.successes,
            "total-failure-session-count": summary.failures,
        },
    });
    if let Some(out) = out.as_object_mut().filter(|_| !summary.details.is_empty()) {
        let details = summary.details.iter();
        let details: Vec<Value> = details
            .map(|(sessions, host, failure)| detail(*sessions, host, failure))
            .collect();
        out.insert("failure-details".to_owned(), details.into());
    }
    out
}

fn detail(sessions: u64, mx_host: &str, failure: &TlsFailure) -> Value {
    let mut detail = Map::new();
    detail.insert("result-type".to_owned(), failure.kind.as_str().into());
    let ip = |ip: Option<std::net::IpAddr>| ip.map(|ip| ip.to_string()).unwrap_or_default();
    let texts = [
        ("sending-mta-ip", ip(failure.sending_ip)),
        ("receiving-mx-hostname", mx_host.to_owned()),
        (
            "receiving-mx-helo",
            failure.receiving_helo.clone().unwrap_or_default(),
        ),
        ("receiving-ip", ip(failure.receiving_ip)),
        ("failure-reason-code", failure.reason.clone()),
    ];
    for (name, text) in texts {
        if !text.is_empty() {
            detail.insert(name.to_owned(), text.into());
        }
    }
    detail.insert("failed-session-count".to_owned(), sessions.into());
    detail.into()
}

impl Built {
    pub(super) fn new(
        due: &DueTlsReport,
        counts: &[(u64, Observation)],
        reporter: &Reporter,
    ) -> Self {
        Self {
            id: id(due, reporter),
            begin: i64::from(due.day) * DAY_SECS,
            domain: due.domain.clone(),
            compressed: gzip(json(due, counts, reporter).as_bytes()),
        }
    }

    /// The message for one address. It may go without TLS: it may tell why there is none (RFC 8460 §5.3, RFC 8689 §5).
    pub(super) fn message(&self, to: &Address, reporter: &Reporter, now: Timestamp) -> Vec<u8> {
        let (domain, submitter, id) = (&self.domain, &reporter.domain, &self.id);
        let (begin, end) = (self.begin, self.begin + DAY_SECS - 1);
        let file = format!("{submitter}!{domain}!{begin}!{end}.json.gz");
        let subject =
            format!("Report Domain: {domain}\r\n\tSubmitter: {submitter}\r\n\tReport-ID: <{id}>");
        let fields = format!(
            "TLS-Report-Domain: {domain}\r\nTLS-Report-Submitter: {submitter}\r\nTLS-Required: No\r\n"
        );
        let text = format!(
            "This is a report on TLS with the mail servers of {domain},\r\nas {} found it on one day (UTC).\r\n",
            reporter.organization
        );
        let attached = format!(
            "Content-Type: application/tlsrpt+gzip; name=\"{file}\"\r\n\
             Content-Disposition: attachment;\r\n\tfilename=\"{file}\""
        );
        let kind = "multipart/report; report-type=\"tlsrpt\"";
        Parts::new(reporter, to, &subject, &fields, kind, now)
            .part("Content-Type: text/plain; charset=utf-8", text.as_bytes())
            .base64(&attached, &self.compressed)
            .finish()
    }
}
