//! Reports on TLS: counted, built, handed in.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use nightmail_core::{Domain, Timestamp};
use nightmail_dns::{Dns, DnsOptions};
use nightmail_engine::{Engine, KeyRange, MemoryEngine, Order, Space};
use nightmail_mime::header::fields;
use nightmail_testbed::dns::NameServer;
use nightmail_testbed::https::{CertificateFault, HttpsServer, Page};
use nightmail_tlspolicy::{
    PolicyType, ResultType, TlsFailure, TlsOutcome, TlsReport, TlsReportOptions, TlsReports,
    TlsResult,
};
use nightmail_trust::{ReportMessage, Reporter};
use serde_json::{Value, json};

const HOUR: i64 = 3_600_000;
const DAY: i64 = 86_400_000;
/// 2016-04-01, the day of the example in RFC 8460, appendix B.
const DAY_NUMBER: i64 = 16_892;

struct Bed {
    dns: NameServer,
    web: HttpsServer,
    engine: Arc<MemoryEngine>,
    reports: TlsReports,
}

impl Bed {
    fn new() -> Self {
        let dns = NameServer::start();
        dns.keep_for(0, 0);
        let web = HttpsServer::start();
        let engine = Arc::new(MemoryEngine::new());
        let reports = reports(&dns, &web, &engine);
        Self {
            dns,
            web,
            engine,
            reports,
        }
    }

    /// What the one report of the day says, and what it is.
    async fn json(&self) -> (Value, TlsReport) {
        let due = self.reports.due(next_day(), 10).await.unwrap();
        let built = self.reports.build(&due[0], &reporter(), next_day()).await;
        let report = built.unwrap().unwrap().remove(0);
        let gzip = match &report {
            TlsReport::Mail(mail) => attachment(mail),
            TlsReport::Post { body, .. } => body.to_vec(),
        };
        (unpacked(&gzip), report)
    }

    async fn rows(&self) -> usize {
        let all = self
            .engine
            .scan(Space::Report, KeyRange::all(), Order::Ascending, 1000);
        all.await.unwrap().len()
    }

    fn wants(&self, domain: &str, rua: &str) {
        let name = format!("_smtp._tls.{domain}");
        let record = format!("v=TLSRPTv1; rua={rua}");
        self.dns.remove(&name).txt(&name, &record);
    }
}

fn reports(dns: &NameServer, web: &HttpsServer, engine: &Arc<MemoryEngine>) -> TlsReports {
    let resolver = Dns::new(&DnsOptions {
        name_servers: vec![dns.address()],
        timeout: Duration::from_millis(300),
        attempts: 1,
        ..DnsOptions::default()
    });
    let options = TlsReportOptions {
        roots: vec![web.authority()],
        delay: Duration::from_secs(1800),
        ..TlsReportOptions::default()
    };
    TlsReports::new(resolver.unwrap(), engine.clone(), &options).unwrap()
}

fn reporter() -> Reporter {
    Reporter {
        organization: "Company-X".to_owned(),
        from: "sts-reporting@company-x.example".parse().unwrap(),
        domain: Domain::parse("company-x.example").unwrap(),
        redact: true,
    }
}

fn day() -> Timestamp {
    Timestamp::from_millis(DAY_NUMBER * DAY + 7 * HOUR)
}

fn next_day() -> Timestamp {
    Timestamp::from_millis((DAY_NUMBER + 1) * DAY + HOUR)
}

fn unpacked(gzip: &[u8]) -> Value {
    let json = miniz_oxide::inflate::decompress_to_vec(&gzip[10..gzip.len() - 8]).unwrap();
    serde_json::from_slice(&json).unwrap()
}

fn attachment(mail: &ReportMessage) -> Vec<u8> {
    let text = std::str::from_utf8(&mail.message).unwrap();
    let start = text.find("Content-Type: application/tlsrpt+gzip").unwrap();
    let (_, content) = text[start..].split_once("\r\n\r\n").unwrap();
    let (content, _) = content.split_once("--").unwrap();
    decoded(content)
}

/// Base64 with line ends.
fn decoded(text: &str) -> Vec<u8> {
    let value = |c: u8| match c {
        b'A'..=b'Z' => c - b'A',
        b'a'..=b'z' => c - b'a' + 26,
        b'0'..=b'9' => c - b'0' + 52,
        b'+' => 62,
        _ => 63,
    };
    let digits = text.bytes().filter(|c| !b"\r\n=".contains(c)).map(value);
    let digits: Vec<u8> = digits.collect();
    let mut out = Vec::new();
    for group in digits.chunks(4) {
        let bits = group
            .iter()
            .fold(0_u32, |bits, digit| bits << 6 | u32::from(*digit));
        let bits = bits << (6 * (4 - group.len()));
        out.extend_from_slice(&bits.to_be_bytes()[1..group.len()]);
    }
    out
}

fn company_y(outcome: TlsOutcome) -> TlsResult {
    let strings = [
        "version: STSv1",
        "mode: testing",
        "mx: *.mail.company-y.example",
        "max_age: 86400",
    ];
    TlsResult {
        domain: Domain::parse("company-y.example").unwrap(),
        policy: PolicyType::Sts,
        policy_strings: strings.map(str::to_owned).to_vec(),
        mx_host: "mx1.mail.company-y.example".to_owned(),
        outcome,
    }
}

fn failure(kind: ResultType) -> TlsFailure {
    TlsFailure {
        kind,
        receiving_ip: None,
        receiving_helo: None,
        sending_ip: None,
        reason: String::new(),
    }
}

fn ok_for(domain: &str) -> TlsResult {
    TlsResult {
        domain: Domain::parse(domain).unwrap(),
        policy: PolicyType::NoPolicyFound,
        policy_strings: Vec::new(),
        mx_host: format!("mx.{domain}"),
        outcome: TlsOutcome::Ok,
    }
}

/// Appendix B of RFC 8460, in what this program tells.
#[tokio::test(flavor = "multi_thread")]
async fn the_example_of_rfc_8460_is_told_as_it_stands_there() {
    let bed = Bed::new();
    bed.wants("company-y.example", "mailto:reports@company-y.example");
    let expired = TlsFailure {
        receiving_ip: None,
        sending_ip: Some("2001:db8:abcd:0012::1".parse().unwrap()),
        ..failure(ResultType::CertificateExpired)
    };
    let starttls = TlsFailure {
        sending_ip: Some("2001:db8:abcd:0013::1".parse().unwrap()),
        receiving_ip: Some("203.0.113.56".parse().unwrap()),
        receiving_helo: Some("mx2".to_owned()),
        ..failure(ResultType::StarttlsNotSupported)
    };
    let validation = TlsFailure {
        sending_ip: Some("198.51.100.62".parse().unwrap()),
        receiving_ip: Some("203.0.113.58".parse().unwrap()),
        reason: "X509_V_ERR_PROXY_PATH_LENGTH_EXCEEDED".to_owned(),
        ..failure(ResultType::ValidationFailure)
    };
    for (outcome, sessions) in [
        (TlsOutcome::Ok, 5326),
        (TlsOutcome::Failure(expired), 100),
        (TlsOutcome::Failure(starttls), 200),
        (TlsOutcome::Failure(validation), 3),
    ] {
        let result = company_y(outcome);
        (0..sessions).for_each(|_| bed.reports.record_at(&result, day()));
    }
    bed.reports.flush().await.unwrap();
    let (mut told, report) = bed.json().await;
    let details = told["policies"][0]["failure-details"]
        .as_array_mut()
        .unwrap();
    details.sort_by_key(|detail| detail["sending-mta-ip"].to_string());
    assert_eq!(
        told,
        json!({
            "organization-name": "Company-X",
            "date-range": {
                "start-datetime": "2016-04-01T00:00:00Z",
                "end-datetime": "2016-04-01T23:59:59Z",
            },
            "contact-info": "sts-reporting@company-x.example",
            "report-id": "1459468800.company-y.example@company-x.example",
            "policies": [{
                "policy": {
                    "policy-type": "sts",
                    "policy-string": ["version: STSv1", "mode: testing", "mx: *.mail.company-y.example", "max_age: 86400"],
                    "policy-domain": "company-y.example",
                    "mx-host": ["*.mail.company-y.example"],
                },
                "summary": {
                    "total-successful-session-count": 5326,
                    "total-failure-session-count": 303,
                },
                "failure-details": [{
                    "result-type": "validation-failure",
                    "sending-mta-ip": "198.51.100.62",
                    "receiving-ip": "203.0.113.58",
                    "receiving-mx-hostname": "mx1.mail.company-y.example",
                    "failed-session-count": 3,
                    "failure-reason-code": "X509_V_ERR_PROXY_PATH_LENGTH_EXCEEDED",
                }, {
                    "result-type": "certificate-expired",
                    "sending-mta-ip": "2001:db8:abcd:12::1",
                    "receiving-mx-hostname": "mx1.mail.company-y.example",
                    "failed-session-count": 100,
                }, {
                    "result-type": "starttls-not-supported",
                    "sending-mta-ip": "2001:db8:abcd:13::1",
                    "receiving-mx-hostname": "mx1.mail.company-y.example",
                    "receiving-mx-helo": "mx2",
                    "receiving-ip": "203.0.113.56",
                    "failed-session-count": 200,
                }],
            }],
        })
    );
    let TlsReport::Mail(mail) = report else {
        panic!("by mail");
    };
    assert_eq!(mail.to.to_string(), "reports@company-y.example");
    check_header(&mail.message);
}

/// RFC 8460 §5.3.
fn check_header(message: &[u8]) {
    let value = |name: &str| {
        let found = fields(message).find(|field| field.is(name));
        let raw = String::from_utf8(found.unwrap().raw.to_vec()).unwrap();
        let (_, value) = raw.split_once(':').unwrap();
        value
            .replace("\r\n", "")
            .replace('\t', " ")
            .trim()
            .to_owned()
    };
    assert_eq!(
        value("Subject"),
        "Report Domain: company-y.example Submitter: company-x.example \
         Report-ID: <1459468800.company-y.example@company-x.example>"
    );
    assert_eq!(value("TLS-Report-Domain"), "company-y.example");
    assert_eq!(value("TLS-Report-Submitter"), "company-x.example");
    assert_eq!(value("TLS-Required"), "No");
    let kind = value("Content-Type");
    assert!(
        kind.starts_with("multipart/report; report-type=\"tlsrpt\"; boundary="),
        "{kind}"
    );
    let text = String::from_utf8_lossy(message);
    let file = "company-x.example!company-y.example!1459468800!1459555199.json.gz";
    assert!(text.contains(&format!("application/tlsrpt+gzip; name=\"{file}\"")));
    assert!(text.lines().all(|line| line.len() <= 998));
}

#[tokio::test(flavor = "multi_thread")]
async fn policies_of_a_domain_are_told_one_by_one() {
    let bed = Bed::new();
    bed.wants("a.test", "https://reports.a.test/");
    let tlsa = TlsResult {
        policy: PolicyType::Tlsa,
        policy_strings: vec!["3 1 1 abcd".to_owned()],
        outcome: TlsOutcome::Failure(failure(ResultType::TlsaInvalid)),
        ..ok_for("a.test")
    };
    for result in [ok_for("a.test"), tlsa] {
        bed.reports.record_at(&result, day());
    }
    bed.reports.flush().await.unwrap();
    let (told, _) = bed.json().await;
    assert_eq!(told["policies"].as_array().unwrap().len(), 2);
    let tlsa = &told["policies"][0]["policy"];
    assert_eq!(tlsa["policy-type"], "tlsa");
    assert_eq!(tlsa["policy-domain"], "mx.a.test", "the TLSA base domain");
    assert_eq!(tlsa["policy-string"], json!(["3 1 1 abcd"]));
    let none = &told["policies"][1];
    assert_eq!(
        none["policy"],
        json!({"policy-type": "no-policy-found", "policy-domain": "a.test"})
    );
    assert_eq!(none["summary"]["total-successful-session-count"], 1);
    assert_eq!(none.get("failure-details"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_count_together_and_a_day_is_told_once_it_is_over() {
    let bed = Bed::new();
    bed.wants("a.test", "mailto:r@a.test");
    let other = reports(&bed.dns, &bed.web, &bed.engine);
    for _ in 0..3 {
        bed.reports.record_at(&ok_for("a.test"), day());
        other.record_at(&ok_for("a.test"), day());
        tokio::try_join!(bed.reports.flush(), other.flush()).unwrap();
    }
    assert_eq!(bed.rows().await, 1);
    let midnight = Timestamp::from_millis((DAY_NUMBER + 1) * DAY);
    for early in [day(), midnight, midnight.plus_millis(HOUR / 2)] {
        assert!(bed.reports.due(early, 10).await.unwrap().is_empty());
    }
    let (told, _) = bed.json().await;
    let summary = &told["policies"][0]["summary"];
    assert_eq!(summary["total-successful-session-count"], 6);
    let due = bed.reports.due(next_day(), 10).await.unwrap();
    bed.reports.done(&due[0]).await.unwrap();
    assert!(bed.reports.due(next_day(), 10).await.unwrap().is_empty());
    assert_eq!(bed.rows().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn domains_that_want_no_reports_cost_no_rows() {
    let bed = Bed::new();
    bed.wants("wants.test", "mailto:r@wants.test");
    bed.dns.servfail("_smtp._tls.unknown.test");
    for domain in ["wants.test", "silent.test", "unknown.test"] {
        bed.reports.record_at(&ok_for(domain), day());
    }
    bed.reports.flush().await.unwrap();
    assert_eq!(bed.rows().await, 2);
    let due = bed.reports.due(next_day(), 10).await.unwrap();
    let unknown = due.iter().find(|due| due.domain == "unknown.test").unwrap();
    let build = async || {
        bed.reports
            .build(unknown, &reporter(), next_day())
            .await
            .unwrap()
    };
    assert_eq!(build().await, None);
    bed.dns.remove("_smtp._tls.unknown.test");
    assert_eq!(build().await, Some(Vec::new()));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_written_is_kept() {
    let bed = Bed::new();
    bed.wants("a.test", "mailto:r@a.test");
    bed.reports.record_at(&ok_for("a.test"), day());
    bed.engine.fail_next(1);
    assert!(bed.reports.flush().await.is_err());
    bed.reports.record_at(&ok_for("a.test"), day());
    bed.reports.flush().await.unwrap();
    let (told, _) = bed.json().await;
    let summary = &told["policies"][0]["summary"];
    assert_eq!(summary["total-successful-session-count"], 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_web_server_gets_the_compressed_report() {
    let bed = Bed::new();
    let port = bed.web.address().port();
    bed.dns.a("reports.a.test", Ipv4Addr::LOCALHOST);
    bed.web
        .page("reports.a.test", "/v1?k=v", Page::text("thanks"));
    bed.wants("a.test", &format!("https://reports.a.test:{port}/v1?k=v"));
    bed.reports.record_at(&ok_for("a.test"), day());
    bed.reports.flush().await.unwrap();
    let (told, report) = bed.json().await;
    let TlsReport::Post { uri, body } = report else {
        panic!("to a web server");
    };
    bed.reports.post(&uri, body.clone()).await.unwrap();
    let requests = bed.web.requests();
    assert_eq!(requests[0].method, "POST");
    assert_eq!(requests[0].media_type, "application/tlsrpt+gzip");
    assert_eq!(unpacked(&requests[0].body), told);

    let elsewhere = uri.replace("/v1", "/v2");
    let refused = bed.reports.post(&elsewhere, body.clone()).await;
    assert_eq!(refused, Err("it answers with status 404".to_owned()));
    bed.web.certificates(CertificateFault::Expired);
    assert!(bed.reports.post(&uri, body).await.is_err());
    let plain = uri.replace("https:", "http:");
    assert!(bed.reports.post(&plain, Bytes::new()).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_that_cannot_be_handed_in_lets_others_pass_and_is_given_up_after_a_day() {
    let bed = Bed::new();
    for domain in ["a.test", "b.test"] {
        bed.wants(domain, "https://nowhere.test/");
        bed.reports.record_at(&ok_for(domain), day());
    }
    bed.reports.flush().await.unwrap();
    let due = bed.reports.due(next_day(), 1).await.unwrap();
    assert_eq!(due[0].domain, "a.test");
    assert!(bed.reports.put_off(&due[0], next_day()));
    let next = bed.reports.due(next_day(), 10).await.unwrap();
    assert_eq!(next.len(), 1);
    assert_eq!(next[0].domain, "b.test");
    let later = next_day().plus_millis(HOUR);
    assert_eq!(bed.reports.due(later, 10).await.unwrap().len(), 2);
    assert!(!bed.reports.put_off(&due[0], next_day().plus_millis(DAY)));
}
