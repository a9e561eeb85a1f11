//! What domains say about TLS towards them, and what is sent to them then.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod support;

use std::sync::Arc;
use std::time::Duration;

use nightmail_core::QueueId;
use nightmail_delivery::{Relay, SmarthostTls};
use nightmail_dns::{Dns, DnsOptions};
use nightmail_engine::Engine;
use nightmail_pace::TlsRule;
use nightmail_testbed::https::{HttpsServer, Page};
use nightmail_tlspolicy::{TlsPolicies, TlsPolicyOptions, TlsReport, TlsReportOptions, TlsReports};
use nightmail_trust::Reporter;
use rustls::pki_types::CertificateDer;
use support::World;
use support::sink::{Behaviour, Sink};
use support::tls::tls_for;

/// A world whose far.test has one host, which shows a certificate that nobody vouches for.
async fn world_with(name: &str) -> (World, Sink, CertificateDer<'static>) {
    let (tls, certificate) = tls_for(name);
    let world = World::new().await;
    let behaviour = Behaviour {
        tls: Some(tls),
        ..Behaviour::default()
    };
    let sink = world.sink("mx.far.test", 1, behaviour).await;
    world.dns.mx("far.test", 10, "mx.far.test");
    (world, sink, certificate)
}

/// Names are asked for with proof, and policies at `https`.
fn heed(world: &mut World, https: Option<&HttpsServer>) {
    let dns = Dns::new(&DnsOptions {
        name_servers: vec![world.dns.address],
        timeout: Duration::from_secs(2),
        attempts: 2,
        dnssec: true,
        trust_anchors: Some(world.dns.trust_anchor()),
        ..DnsOptions::default()
    })
    .unwrap();
    world.options.dns = dns.clone();
    let engine = Arc::clone(&world.engine) as Arc<dyn Engine>;
    let mut options = TlsPolicyOptions {
        fetch_timeout: Duration::from_secs(10),
        ..TlsPolicyOptions::default()
    };
    if let Some(https) = https {
        options.roots = vec![https.authority()];
        options.https_port = https.address().port();
    }
    world.options.tls_policies = Some(TlsPolicies::new(dns, engine, options).unwrap());
}

#[tokio::test]
async fn a_host_with_tlsa_records_is_verified_by_them_alone() {
    let (mut world, sink, certificate) = world_with("whatever.test").await;
    world.dns.tlsa(
        "mx.far.test",
        sink.address.port(),
        [3, 0, 0],
        certificate.as_ref(),
    );
    world.dns.signed_zone("far.test");
    heed(&mut world, None);
    let _delivery = world.start();
    let id = world.enqueue(&["r@far.test"]).await;
    world.gone(id).await;
    assert!(sink.received()[0].tls);
    sink.behave(|behaviour| behaviour.tls = Some(tls_for("mx.far.test").0));
    let id = world.enqueue(&["r@far.test"]).await;
    let recipient = world.tried(id).await;
    assert_eq!(recipient.last.unwrap().status, "4.7.5");
    sink.behave(|behaviour| behaviour.tls = None);
    world.queue.retry(id).await.unwrap();
    support::eventually("another attempt", async || {
        world.show(id).await.unwrap().recipients[0].attempts == 2
    })
    .await;
    assert_eq!(sink.received().len(), 1, "and never in plain text");
    let mut careless = support::message(&["r@far.test"]);
    careless.demands.tls_optional = true;
    let careless = world.enqueue_message(careless, support::MESSAGE).await;
    world.gone(careless).await;
    assert!(!sink.received()[1].tls, "unless its sender does not mind");
    assert!(world.show(id).await.is_some());
}

#[tokio::test]
async fn where_records_for_a_host_cannot_be_told_nothing_is_sent_to_it() {
    let (mut world, sink, _) = world_with("mx.far.test").await;
    let port = sink.address.port();
    world.dns.signed_zone("far.test");
    world.dns.servfail(&format!("_{port}._tcp.mx.far.test"));
    heed(&mut world, None);
    let _delivery = world.start();
    let id = world.enqueue(&["r@far.test"]).await;
    let recipient = world.tried(id).await;
    assert_eq!(recipient.last.unwrap().status, "4.7.5");
    assert_eq!(sink.connections(), 0);
}

#[tokio::test]
async fn where_dane_is_demanded_a_host_without_records_gets_nothing() {
    let (mut world, sink, _) = world_with("mx.far.test").await;
    world.dns.unsigned_zone("far.test");
    world.settings.tls = TlsRule::Dane;
    heed(&mut world, None);
    let _delivery = world.start();
    let id = world.enqueue(&["r@far.test"]).await;
    assert_eq!(world.tried(id).await.last.unwrap().status, "4.7.5");
    assert_eq!(sink.connections(), 0);
}

#[tokio::test]
async fn an_enforced_policy_wants_its_hosts_and_their_certificates() {
    let (mut world, sink, certificate) = world_with("mx.far.test").await;
    let other = world.sink("mx.rogue.test", 2, Behaviour::default()).await;
    world.dns.mx("far.test", 5, "mx.rogue.test");
    let https = HttpsServer::start();
    announce(&world, &https, "enforce", "mx.far.test");
    world.dns.unsigned_zone("far.test");
    heed(&mut world, Some(&https));
    let delivery = world.start();
    let id = world.enqueue(&["r@far.test"]).await;
    assert_eq!(world.tried(id).await.last.unwrap().status, "4.7.5");
    assert!(sink.received().is_empty(), "nobody vouches for it");
    delivery.stop(Duration::ZERO).await;
    world.options.trusted_roots = vec![certificate];
    let _delivery = world.start();
    world.queue.retry(id).await.unwrap();
    world.gone(id).await;
    assert!(sink.received()[0].tls);
    assert_eq!(other.connections(), 0, "the policy does not allow it");
}

/// far.test announces a policy, which `https` has.
fn announce(world: &World, https: &HttpsServer, mode: &str, mx: &str) {
    let policy = format!("version: STSv1\nmode: {mode}\nmx: {mx}\nmax_age: 86400\n");
    https.page(
        "mta-sts.far.test",
        "/.well-known/mta-sts.txt",
        Page::text(&policy),
    );
    world.dns.txt("_mta-sts.far.test", "v=STSv1; id=1;");
    world
        .dns
        .address_of("mta-sts.far.test", https.address().ip());
}

/// Results of TLS are counted for far.test, who wants to hear of them.
fn count(world: &mut World) -> TlsReports {
    let engine = Arc::clone(&world.engine) as Arc<dyn Engine>;
    let options = TlsReportOptions::default();
    let reports = TlsReports::new(world.options.dns.clone(), engine, &options).unwrap();
    let record = "v=TLSRPTv1; rua=https://far.test/";
    world.dns.txt("_smtp._tls.far.test", record);
    world.options.tls_reports = Some(reports.clone());
    reports
}

/// What far.test is told.
async fn told(reports: &TlsReports) -> String {
    reports.flush().await.unwrap();
    let later = nightmail_commit::now().plus_millis(2 * 86_400_000);
    let due = reports.due(later, 10).await.unwrap();
    let Some(due) = due.first() else {
        return String::new();
    };
    let reporter = Reporter {
        organization: "near".to_owned(),
        from: "tls@near.test".parse().unwrap(),
        domain: "near.test".parse().unwrap(),
        redact: true,
    };
    let built = reports.build(due, &reporter, later).await.unwrap().unwrap();
    let [TlsReport::Post { body, .. }] = &built[..] else {
        panic!("{built:?}");
    };
    let json = miniz_oxide::inflate::decompress_to_vec(&body[10..body.len() - 8]).unwrap();
    String::from_utf8(json).unwrap()
}

/// Waits until nothing could be sent, and says why.
async fn refused(world: &World, id: QueueId) -> String {
    let last = world.tried(id).await.last.unwrap();
    assert_eq!(last.status, "4.7.5", "{last:?}");
    last.diagnostic
}

#[tokio::test]
async fn a_host_that_its_records_do_not_prove_is_passed_over_and_all_of_them_put_mail_off() {
    let (mut world, first, _) = world_with("mx.far.test").await;
    let (tls, certificate) = tls_for("b.far.test");
    let behaviour = Behaviour {
        tls: Some(tls),
        ..Behaviour::default()
    };
    let second = world.sink("b.far.test", 2, behaviour).await;
    world.dns.mx("far.test", 20, "b.far.test");
    for host in ["mx.far.test", "b.far.test"] {
        let port = first.address.port();
        world.dns.tlsa(host, port, [3, 0, 0], certificate.as_ref());
    }
    world.dns.signed_zone("far.test");
    heed(&mut world, None);
    let _delivery = world.start();
    let id = world.enqueue(&["r@far.test"]).await;
    world.gone(id).await;
    assert!(second.received()[0].tls && first.received().is_empty());
    second.behave(|behaviour| behaviour.tls = Some(tls_for("b.far.test").0));
    let id = world.enqueue(&["r@far.test"]).await;
    let why = refused(&world, id).await;
    assert!(why.contains("DANE") && why.contains("b.far.test"), "{why}");
    assert!(first.received().is_empty() && second.received().len() == 1);
}

#[tokio::test]
async fn a_policy_in_test_stops_nothing_and_its_failure_is_told_once() {
    let (mut world, sink, _) = world_with("mx.far.test").await;
    let https = HttpsServer::start();
    announce(&world, &https, "testing", "mx.far.test");
    world.dns.unsigned_zone("far.test");
    heed(&mut world, Some(&https));
    let reports = count(&mut world);
    let _delivery = world.start();
    let id = world.enqueue(&["r@far.test"]).await;
    world.gone(id).await;
    assert!(sink.received()[0].tls, "unverified, and not in plain text");
    let told = told(&reports).await;
    for part in [
        r#""result-type":"certificate-not-trusted""#,
        r#""total-failure-session-count":1"#,
        r#""total-successful-session-count":0"#,
        r#""policy-type":"sts""#,
    ] {
        assert!(told.contains(part), "{part} in {told}");
    }
}

#[tokio::test]
async fn a_host_with_records_of_no_use_gets_mail_over_tls_only_and_as_the_policy_wants_it() {
    let (mut world, sink, certificate) = world_with("mx.far.test").await;
    let https = HttpsServer::start();
    let port = sink.address.port();
    let data = certificate.as_ref();
    world.dns.tlsa("mx.far.test", port, [1, 0, 0], data);
    world.dns.signed_zone("far.test");
    heed(&mut world, None);
    let reports = count(&mut world);
    let delivery = world.start();
    let id = world.enqueue(&["r@far.test"]).await;
    world.gone(id).await;
    assert!(sink.received()[0].tls);
    let told = told(&reports).await;
    assert!(
        told.contains("tlsa-invalid") && told.contains(r#""total-successful-session-count":0"#),
        "{told}"
    );
    delivery.stop(Duration::ZERO).await;
    announce(&world, &https, "enforce", "mx.far.test");
    heed(&mut world, Some(&https));
    let _delivery = world.start();
    let id = world.enqueue(&["r@far.test"]).await;
    refused(&world, id).await;
    assert_eq!(sink.received().len(), 1);
}

#[tokio::test]
async fn a_policy_that_allows_none_of_the_hosts_puts_mail_off() {
    let (mut world, sink, certificate) = world_with("mx.far.test").await;
    world.options.trusted_roots = vec![certificate];
    let https = HttpsServer::start();
    announce(&world, &https, "enforce", "other.far.test");
    world.dns.unsigned_zone("far.test");
    heed(&mut world, Some(&https));
    let reports = count(&mut world);
    let _delivery = world.start();
    let id = world.enqueue(&["r@far.test"]).await;
    let why = refused(&world, id).await;
    assert!(why.contains("MTA-STS"), "{why}");
    assert_eq!(sink.connections(), 0);
    let told = told(&reports).await;
    assert!(told.contains("sts-policy-invalid"), "{told}");
    let mut careless = support::message(&["r@far.test"]);
    careless.demands.tls_optional = true;
    let careless = world.enqueue_message(careless, support::MESSAGE).await;
    world.gone(careless).await;
    assert!(sink.received().len() == 1 && world.show(id).await.is_some());
    let id = world.enqueue(&["r@far.test"]).await;
    refused(&world, id).await;
    assert_eq!(
        sink.received().len(),
        1,
        "nor over the connection that is there"
    );
}

#[tokio::test]
async fn a_domain_is_told_who_talked_with_whom_when_tls_failed() {
    let (mut world, sink, _) = world_with("mx.far.test").await;
    let https = HttpsServer::start();
    announce(&world, &https, "enforce", "mx.far.test");
    world.dns.unsigned_zone("far.test");
    heed(&mut world, Some(&https));
    let reports = count(&mut world);
    let _delivery = world.start();
    let id = world.enqueue(&["r@far.test"]).await;
    refused(&world, id).await;
    let told = told(&reports).await;
    let ip = sink.address.ip();
    for field in [
        r#""receiving-mx-helo":"sink.test""#,
        r#""receiving-mx-hostname":"mx.far.test""#,
        &format!(r#""receiving-ip":"{ip}""#),
        r#""sending-mta-ip":"127."#,
    ] {
        assert!(told.contains(field), "{field} in {told}");
    }
}

#[tokio::test]
async fn what_a_domain_says_of_its_hosts_does_not_matter_to_a_relay() {
    let (mut world, sink, certificate) = world_with("mx.far.test").await;
    let https = HttpsServer::start();
    announce(&world, &https, "enforce", "other.far.test");
    let port = sink.address.port();
    let data = &certificate.as_ref()[1..];
    world.dns.tlsa("mx.far.test", port, [3, 0, 1], data);
    world.dns.signed_zone("far.test");
    heed(&mut world, Some(&https));
    let reports = count(&mut world);
    world.relay_all(Relay {
        name: "out".to_owned(),
        hosts: vec![(world.ip(1).to_string(), port)],
        tls: SmarthostTls::Opportunistic,
        login: None,
        client_certificate: None,
    });
    let _delivery = world.start();
    let id = world.enqueue(&["r@far.test"]).await;
    world.gone(id).await;
    assert!(sink.received()[0].tls);
    assert_eq!(told(&reports).await, "", "nor is it told of the relay");
}

#[tokio::test]
async fn a_message_that_needs_tls_goes_where_signed_records_lead_and_the_certificate_is_valid() {
    let (mut world, sink, certificate) = world_with("mx.far.test").await;
    sink.behave(|behaviour| behaviour.extensions = vec!["REQUIRETLS".to_owned()]);
    world.dns.signed_zone("far.test");
    heed(&mut world, None);
    let demanding = || {
        let mut message = support::message(&["r@far.test"]);
        message.demands.require_tls = true;
        message
    };
    let delivery = world.start();
    let id = world.enqueue_message(demanding(), support::MESSAGE).await;
    world.gone(id).await;
    let reports = world.reports().await;
    assert_eq!(support::field(&reports[0].1, "Status"), Some("5.7.30"));
    assert!(sink.received().is_empty(), "nobody vouches for it");
    delivery.stop(Duration::ZERO).await;
    world.options.trusted_roots = vec![certificate];
    let _delivery = world.start();
    let id = world.enqueue_message(demanding(), support::MESSAGE).await;
    world.gone(id).await;
    assert!(sink.received()[0].mail.ends_with(" REQUIRETLS"));
}
