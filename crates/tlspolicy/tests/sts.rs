//! The life of MTA-STS policies, over a real name server and web server.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use nightmail_core::{Domain, Timestamp};
use nightmail_dns::{Dns, DnsOptions};
use nightmail_engine::{Engine, KeyRange, MemoryEngine, Order, Space};
use nightmail_testbed::dns::{NameServer, RecordType};
use nightmail_testbed::https::{CertificateFault, HttpsServer, Page};
use nightmail_tlspolicy::{
    Mode, Policy, Refreshed, StsDecision, TlsPolicies, TlsPolicyOptions, TlsReport,
    TlsReportOptions, TlsReports,
};
use nightmail_trust::Reporter;

const PATH: &str = "/.well-known/mta-sts.txt";
const MINUTE: i64 = 60_000;
const DAY: i64 = 86_400_000;

/// A name server, a web server and a store, and the policies over them.
struct Bed {
    dns: NameServer,
    web: HttpsServer,
    engine: Arc<MemoryEngine>,
    reports: TlsReports,
    policies: TlsPolicies,
}

impl Bed {
    fn new() -> Self {
        let dns = NameServer::start();
        dns.keep_for(0, 0);
        let web = HttpsServer::start();
        let engine = Arc::new(MemoryEngine::new());
        let options = TlsReportOptions {
            roots: vec![web.authority()],
            ..TlsReportOptions::default()
        };
        let reports = TlsReports::new(resolver(&dns), engine.clone(), &options).unwrap();
        let policies = policies(&dns, &web, &engine, &reports);
        Self {
            dns,
            web,
            engine,
            reports,
            policies,
        }
    }

    /// Another node over the same rows, which remembers nothing.
    fn other_node(&self) -> TlsPolicies {
        policies(&self.dns, &self.web, &self.engine, &self.reports)
    }

    /// Announces a policy and serves it.
    fn publish(&self, id: &str, text: &str) {
        self.announce(id);
        let host = "mta-sts.example.test";
        self.dns.remove(host).a(host, Ipv4Addr::LOCALHOST);
        self.web.page(host, PATH, Page::text(text));
    }

    fn announce(&self, id: &str) {
        let name = "_mta-sts.example.test";
        let record = format!("v=STSv1; id={id};");
        self.dns.remove(name).txt(name, &record);
    }

    async fn at(&self, now: Timestamp) -> StsDecision {
        self.policies.of_at(&domain(), now).await
    }

    async fn rows(&self) -> usize {
        let all = self
            .engine
            .scan(Space::Site, KeyRange::all(), Order::Ascending, 100);
        all.await.unwrap().len()
    }
}

fn resolver(dns: &NameServer) -> Dns {
    Dns::new(&DnsOptions {
        name_servers: vec![dns.address()],
        timeout: Duration::from_millis(300),
        attempts: 1,
        ..DnsOptions::default()
    })
    .unwrap()
}

fn policies(
    dns: &NameServer,
    web: &HttpsServer,
    engine: &Arc<MemoryEngine>,
    reports: &TlsReports,
) -> TlsPolicies {
    let options = TlsPolicyOptions {
        roots: vec![web.authority()],
        https_port: web.address().port(),
        fetch_timeout: Duration::from_secs(60),
        reports: Some(reports.clone()),
        ..TlsPolicyOptions::default()
    };
    TlsPolicies::new(resolver(dns), engine.clone(), options).unwrap()
}

fn domain() -> Domain {
    Domain::parse("example.test").unwrap()
}

fn text(mode: &str, mx: &str, max_age: u32) -> String {
    format!("version: STSv1\r\nmode: {mode}\r\nmx: {mx}\r\nmax_age: {max_age}\r\n")
}

fn start() -> Timestamp {
    Timestamp::from_secs(20_000 * 86_400)
}

fn enforced(decision: StsDecision) -> Arc<Policy> {
    match decision {
        StsDecision::Enforce(policy) => policy,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_is_fetched_once_and_kept_for_all_nodes() {
    let bed = Bed::new();
    bed.publish("1", &text("enforce", "*.mx.test", 604_800));
    let policy = enforced(bed.at(start()).await);
    assert!(policy.allows("a.mx.test") && !policy.allows("mx.test"));
    assert_eq!((policy.mode(), policy.id()), (Mode::Enforce, "1"));
    enforced(bed.at(start().plus_millis(MINUTE)).await);
    enforced(bed.at(start().plus_millis(6 * MINUTE)).await);
    let other = bed.other_node();
    enforced(other.of_at(&domain(), start().plus_millis(MINUTE)).await);
    let requests = bed.web.requests();
    assert_eq!(requests.len(), 1);
    assert_eq!(
        (requests[0].method.as_str(), requests[0].path.as_str()),
        ("GET", PATH)
    );
    assert_eq!(requests[0].host, "mta-sts.example.test");
}

#[tokio::test(flavor = "multi_thread")]
async fn those_who_ask_at_once_share_one_look_up() {
    let bed = Bed::new();
    bed.publish("1", &text("testing", "mx.test", 86_400));
    let asked = (0..50).map(|_| {
        let policies = bed.policies.clone();
        tokio::spawn(async move { policies.of_at(&domain(), start()).await })
    });
    for decision in asked.collect::<Vec<_>>() {
        assert!(matches!(decision.await.unwrap(), StsDecision::Testing(_)));
    }
    assert_eq!(bed.web.requests().len(), 1);
    assert_eq!(bed.dns.asked("_mta-sts.example.test", RecordType::TXT), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_domain_without_an_announcement_has_no_policy_and_is_not_asked_at_once_again() {
    let bed = Bed::new();
    bed.publish("1", &text("enforce", "mx.test", 86_400));
    bed.dns.remove("_mta-sts.example.test");
    assert_eq!(bed.at(start()).await, StsDecision::None);
    assert_eq!(
        bed.at(start().plus_millis(4 * MINUTE)).await,
        StsDecision::None
    );
    assert!(bed.web.requests().is_empty());
    assert_eq!(bed.dns.asked("_mta-sts.example.test", RecordType::TXT), 1);
    bed.announce("1");
    enforced(bed.at(start().plus_millis(5 * MINUTE)).await);
    let literal = Domain::parse("[192.0.2.1]").unwrap();
    assert_eq!(
        bed.policies.of_at(&literal, start()).await,
        StsDecision::None
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn another_id_brings_another_policy() {
    let bed = Bed::new();
    bed.publish("1", &text("enforce", "old.test", 604_800));
    assert!(enforced(bed.at(start()).await).allows("old.test"));
    bed.publish("2", &text("enforce", "new.test", 604_800));
    let soon = start().plus_millis(MINUTE);
    assert!(
        enforced(bed.at(soon).await).allows("old.test"),
        "remembered"
    );
    let later = start().plus_millis(5 * MINUTE);
    assert!(enforced(bed.at(later).await).allows("new.test"));
    bed.publish("3", &text("none", "new.test", 86_400));
    let last = start().plus_millis(10 * MINUTE);
    assert_eq!(bed.at(last).await, StsDecision::None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_holds_is_used_whatever_fails() {
    let bed = Bed::new();
    bed.publish("1", &text("enforce", "mx.test", 86_400));
    enforced(bed.at(start()).await);
    // Another is announced, and cannot be had.
    bed.announce("2");
    bed.web.certificates(CertificateFault::OtherName);
    let mut now = start().plus_millis(5 * MINUTE);
    assert_eq!(enforced(bed.at(now).await).id(), "1");
    // Nothing is announced any more, or that cannot be looked up.
    bed.dns.remove("_mta-sts.example.test");
    now = now.plus_millis(5 * MINUTE);
    enforced(bed.at(now).await);
    bed.dns.servfail("_mta-sts.example.test");
    now = now.plus_millis(5 * MINUTE);
    enforced(bed.at(now).await);
    bed.dns.timeout("_mta-sts.example.test");
    now = now.plus_millis(5 * MINUTE);
    enforced(bed.at(now).await);
    // It has ended.
    now = start().plus_millis(DAY);
    assert_eq!(bed.at(now).await, StsDecision::None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_memory_goes_on_while_the_store_is_away() {
    let bed = Bed::new();
    bed.publish("1", &text("enforce", "mx.test", 86_400));
    enforced(bed.at(start()).await);
    bed.dns.remove("_mta-sts.example.test");
    bed.engine.fail_next(1);
    enforced(bed.at(start().plus_millis(5 * MINUTE)).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_are_no_policy_are_none_and_are_reported() {
    let policy = text("enforce", "mx.test", 86_400);
    let mut redirect = Page::text("");
    redirect.status = 301;
    let elsewhere = format!("https://mta-sts.other.test{PATH}");
    redirect.fields.push(("Location".to_owned(), elsewhere));
    let mut html = Page::text(&policy);
    html.fields = vec![("Content-Type".to_owned(), "text/html".to_owned())];
    let mut untyped = Page::text(&policy);
    untyped.fields.clear();
    let mut created = Page::text(&policy);
    created.status = 201;
    let long = format!("{policy}x: {}\r\n", "y".repeat(65 * 1024));
    for (page, kind) in [
        (redirect, "sts-policy-fetch-error"),
        (created, "sts-policy-fetch-error"),
        (html, "sts-policy-invalid"),
        (untyped, "sts-policy-invalid"),
        (Page::text("<html></html>"), "sts-policy-invalid"),
        (Page::text(&long), "sts-policy-fetch-error"),
    ] {
        let bed = Bed::new();
        bed.publish("1", &policy);
        bed.web.page("mta-sts.example.test", PATH, page);
        bed.web
            .page("mta-sts.other.test", PATH, Page::text(&policy));
        assert_eq!(bed.at(start()).await, StsDecision::None);
        assert_eq!(bed.web.requests().len(), 1, "no redirect is followed");
        assert_eq!(reported(&bed).await, kind);
        assert_eq!(bed.rows().await, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parameter_of_the_media_type_does_not_matter() {
    let bed = Bed::new();
    let policy = text("enforce", "mx.test", 86_400);
    bed.publish("1", &policy);
    let mut page = Page::text(&policy);
    let media_type = "Text/Plain; charset=UTF-8".to_owned();
    page.fields = vec![("content-type".to_owned(), media_type)];
    bed.web.page("mta-sts.example.test", PATH, page);
    enforced(bed.at(start()).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_does_not_hold_vouches_for_no_policy() {
    for fault in [
        CertificateFault::OtherName,
        CertificateFault::Expired,
        CertificateFault::OtherAuthority,
    ] {
        let bed = Bed::new();
        bed.publish("1", &text("enforce", "mx.test", 86_400));
        bed.web.certificates(fault);
        assert_eq!(bed.at(start()).await, StsDecision::None, "{fault:?}");
        assert!(bed.web.requests().is_empty());
        assert_eq!(reported(&bed).await, "sts-webpki-invalid", "{fault:?}");
        bed.web.certificates(CertificateFault::None);
        let soon = start().plus_millis(4 * MINUTE);
        assert_eq!(bed.at(soon).await, StsDecision::None, "not tried again yet");
        enforced(bed.at(start().plus_millis(5 * MINUTE)).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_stalls_holds_up_nobody_else_and_not_for_ever() {
    let bed = Bed::new();
    bed.publish("1", &text("enforce", "mx.test", 86_400));
    let mut page = Page::text(&text("enforce", "mx.test", 86_400));
    page.stalls = true;
    bed.web.page("mta-sts.example.test", PATH, page);
    let options = TlsPolicyOptions {
        roots: vec![bed.web.authority()],
        https_port: bed.web.address().port(),
        fetch_timeout: Duration::from_secs(5),
        ..TlsPolicyOptions::default()
    };
    let policies = TlsPolicies::new(resolver(&bed.dns), bed.engine.clone(), options).unwrap();
    let stalled = {
        let policies = policies.clone();
        tokio::spawn(async move { policies.of_at(&domain(), start()).await })
    };
    let other = Domain::parse("other.test").unwrap();
    assert_eq!(policies.of_at(&other, start()).await, StsDecision::None);
    assert!(!stalled.is_finished());
    assert_eq!(stalled.await.unwrap(), StsDecision::None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_in_use_is_fetched_again_long_before_it_ends() {
    let bed = Bed::new();
    bed.publish("1", &text("enforce", "mx.test", 604_800));
    enforced(bed.at(start()).await);
    let refresh = async |days: i64| {
        let now = start().plus_millis(days * DAY + MINUTE);
        bed.policies.refresh(now).await.unwrap()
    };
    assert_eq!(refresh(0).await, Refreshed::default());
    // Nobody can look the announcement up: the policy goes on by itself.
    bed.dns.servfail("_mta-sts.example.test");
    for day in 1..=20 {
        assert_eq!(refresh(day).await.fetched, 1);
    }
    let late = start().plus_millis(20 * DAY + DAY / 2);
    enforced(bed.at(late).await);
    // It cannot be fetched, and is tried again, but not at once.
    bed.web.certificates(CertificateFault::Expired);
    assert_eq!(refresh(21).await.failed, 1);
    let soon = start().plus_millis(21 * DAY + 30 * MINUTE);
    assert_eq!(
        bed.policies.refresh(soon).await.unwrap(),
        Refreshed::default()
    );
    bed.web.certificates(CertificateFault::None);
    assert_eq!(refresh(22).await.fetched, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_has_ended_or_is_not_used_is_forgotten() {
    let bed = Bed::new();
    bed.publish("1", &text("enforce", "mx.test", 50 * 86_400));
    enforced(bed.at(start()).await);
    let unused = start().plus_millis(31 * DAY);
    let done = bed.policies.refresh(unused).await.unwrap();
    assert_eq!(done, Refreshed::default());
    assert_eq!(bed.rows().await, 1);
    let ended = start().plus_millis(50 * DAY);
    assert_eq!(bed.policies.refresh(ended).await.unwrap().removed, 1);
    assert_eq!(bed.rows().await, 0);
}

/// The kind of the one failure that is told to a domain.
async fn reported(bed: &Bed) -> String {
    bed.dns.txt(
        "_smtp._tls.example.test",
        "v=TLSRPTv1; rua=https://reports.example.test/",
    );
    bed.reports.flush().await.unwrap();
    let tomorrow = start().plus_millis(DAY + 60 * MINUTE);
    let due = bed.reports.due(tomorrow, 10).await.unwrap();
    let reporter = Reporter {
        organization: "Us".to_owned(),
        from: "postmaster@us.test".parse().unwrap(),
        domain: Domain::parse("us.test").unwrap(),
        redact: true,
    };
    let built = bed.reports.build(&due[0], &reporter, tomorrow);
    let TlsReport::Post { body, .. } = &built.await.unwrap().unwrap()[0] else {
        panic!("not by mail");
    };
    let json = miniz_oxide::inflate::decompress_to_vec(&body[10..body.len() - 8]).unwrap();
    let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
    let policy = &json["policies"][0];
    assert_eq!(policy["policy"]["policy-type"], "sts");
    assert_eq!(policy["policy"]["policy-domain"], "example.test");
    let kind = &policy["failure-details"][0]["result-type"];
    kind.as_str().unwrap().to_owned()
}
