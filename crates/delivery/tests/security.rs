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

use nightmail_dns::{Dns, DnsOptions};
use nightmail_engine::Engine;
use nightmail_pace::TlsRule;
use nightmail_testbed::https::{HttpsServer, Page};
use nightmail_tlspolicy::{TlsPolicies, TlsPolicyOptions};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use support::World;
use support::sink::{Behaviour, Sink};
use tokio_rustls::TlsAcceptor;

fn tls_for(name: &str) -> (TlsAcceptor, CertificateDer<'static>) {
    let generated = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
    let certificate = generated.cert.der().clone();
    let key = PrivatePkcs8KeyDer::from(generated.signing_key.serialize_der());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], PrivateKeyDer::Pkcs8(key))
        .unwrap();
    (TlsAcceptor::from(Arc::new(config)), certificate)
}

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
    let policy = "version: STSv1\nmode: enforce\nmx: mx.far.test\nmax_age: 86400\n";
    https.page(
        "mta-sts.far.test",
        "/.well-known/mta-sts.txt",
        Page::text(policy),
    );
    world.dns.txt("_mta-sts.far.test", "v=STSv1; id=1;");
    world
        .dns
        .address_of("mta-sts.far.test", https.address().ip());
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
