//! Hosts and their TLSA records: what a handshake with them comes to, and what DNS must say before.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, SHA512, digest};
use nightmail_dns::{Dns, DnsOptions, Tlsa};
use nightmail_testbed::dns::NameServer;
use nightmail_tlspolicy::{Dane, TlsaRecords, dane_of, dane_verifier};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{
    CertificateError, ClientConfig, ClientConnection, Error, ServerConfig, ServerConnection,
    SupportedProtocolVersion,
};
use x509_parser::prelude::{FromDer, X509Certificate};

const HOST: &str = "mx.good.test";
const DOMAIN: &str = "good.test";
/// Turns of a handshake in memory; it takes fewer.
const TURNS_MAX: usize = 16;

type Issuer = CertifiedIssuer<'static, KeyPair>;

/// What a server shows: its own certificate, and those above it.
struct Chain {
    leaf: CertificateDer<'static>,
    above: Vec<CertificateDer<'static>>,
    key: Vec<u8>,
}

fn authority(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
}

fn root() -> Issuer {
    let key = KeyPair::generate().unwrap();
    CertifiedIssuer::self_signed(authority("root"), key).unwrap()
}

fn middle(root: &Issuer) -> Issuer {
    let key = KeyPair::generate().unwrap();
    CertifiedIssuer::signed_by(authority("middle"), key, root).unwrap()
}

fn named(names: &[&str]) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    CertificateParams::new(names).unwrap()
}

fn leaf(params: &CertificateParams, issuer: &Issuer, above: &[&Issuer]) -> Chain {
    let key = KeyPair::generate().unwrap();
    Chain {
        leaf: params.signed_by(&key, issuer).unwrap().der().clone(),
        above: above.iter().map(|above| above.der().clone()).collect(),
        key: key.serialize_der(),
    }
}

/// The whole chain of a host with a name of its own.
fn whole() -> (Chain, Issuer, Issuer) {
    let root = root();
    let middle = middle(&root);
    let chain = leaf(&named(&[HOST]), &middle, &[&middle, &root]);
    (chain, middle, root)
}

fn public_key(certificate: &[u8]) -> Vec<u8> {
    let (_, parsed) = X509Certificate::from_der(certificate).unwrap();
    parsed.public_key().raw.to_vec()
}

fn record(usage: u8, selector: u8, matching: u8, certificate: &[u8]) -> Tlsa {
    let selected = match selector {
        0 => certificate.to_vec(),
        _ => public_key(certificate),
    };
    let data = match matching {
        0 => selected,
        1 => digest(&SHA256, &selected).as_ref().to_vec(),
        _ => digest(&SHA512, &selected).as_ref().to_vec(),
    };
    Tlsa {
        usage,
        selector,
        matching,
        data,
    }
}

fn records(all: Vec<Tlsa>) -> TlsaRecords {
    TlsaRecords::new(HOST, HOST, all).unwrap()
}

/// A handshake in memory between a server that shows the chain and a client that holds it to the records.
fn shake_in(
    chain: &Chain,
    records: TlsaRecords,
    version: &'static SupportedProtocolVersion,
) -> Result<(), Error> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut certificates = vec![chain.leaf.clone()];
    certificates.extend(chain.above.iter().cloned());
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(chain.key.clone()));
    let server = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[version])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(certificates, key)
        .unwrap();
    let client = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(dane_verifier(records, &[DOMAIN]))
        .with_no_client_auth();
    let name = ServerName::try_from(HOST).unwrap();
    let mut client = ClientConnection::new(Arc::new(client), name).unwrap();
    let mut server = ServerConnection::new(Arc::new(server)).unwrap();
    for _ in 0..TURNS_MAX {
        let mut bytes = Vec::new();
        client.write_tls(&mut bytes).unwrap();
        server.read_tls(&mut bytes.as_slice()).unwrap();
        server.process_new_packets()?;
        bytes.clear();
        while server.wants_write() {
            server.write_tls(&mut bytes).unwrap();
        }
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            client.read_tls(&mut rest).unwrap();
            client.process_new_packets()?;
        }
        if !client.is_handshaking() && !server.is_handshaking() {
            return Ok(());
        }
    }
    panic!("the handshake does not end")
}

fn shake(chain: &Chain, all: Vec<Tlsa>) -> Result<(), Error> {
    shake_in(chain, records(all), &rustls::version::TLS13)
}

fn refused(error: CertificateError) -> Result<(), Error> {
    Err(Error::InvalidCertificate(error))
}

fn is_certificate_error(result: &Result<(), Error>) -> bool {
    matches!(result, Err(Error::InvalidCertificate(_)))
}

#[test]
fn every_selector_and_matching_type_of_both_usages_verifies_its_certificate_alone() {
    let (chain, middle, root) = whole();
    let (other, other_middle, _) = whole();
    for (usage, right, wrong) in [
        (3, chain.leaf.clone(), other.leaf.clone()),
        (2, middle.der().clone(), other_middle.der().clone()),
        (2, root.der().clone(), other_middle.der().clone()),
    ] {
        for (selector, matching) in [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)] {
            let says = format!("{usage} {selector} {matching}");
            let good = record(usage, selector, matching, &right);
            let bad = record(usage, selector, matching, &wrong);
            for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
                let result = shake_in(&chain, records(vec![good.clone()]), version);
                assert_eq!(result, Ok(()), "{says}");
                let result = shake_in(&chain, records(vec![bad.clone()]), version);
                assert!(is_certificate_error(&result), "{says}: {result:?}");
            }
            let either = vec![bad.clone(), good.clone()];
            assert_eq!(shake(&chain, either), Ok(()), "{says}");
            let mut spoilt = good;
            spoilt.data[0] ^= 1;
            if let Some(spoilt) = TlsaRecords::new(HOST, HOST, vec![spoilt]) {
                let result = shake_in(&chain, spoilt, &rustls::version::TLS13);
                assert!(is_certificate_error(&result), "{says}: {result:?}");
            }
        }
    }
}

#[test]
fn an_end_entity_needs_neither_name_nor_date_nor_issuer() {
    let root = root();
    let mut params = named(&["elsewhere.test"]);
    params.not_before = date_time_ymd(2001, 1, 1);
    params.not_after = date_time_ymd(2002, 1, 1);
    let chain = leaf(&params, &root, &[]);
    assert_eq!(shake(&chain, vec![record(3, 1, 1, &chain.leaf)]), Ok(()));
    let anchor = vec![record(2, 0, 0, root.der())];
    assert!(is_certificate_error(&shake(&chain, anchor)));
}

#[test]
fn a_chain_must_be_of_today_as_must_its_anchor() {
    let (root, mut old) = (root(), authority("middle"));
    old.not_before = date_time_ymd(2001, 1, 1);
    old.not_after = date_time_ymd(2002, 1, 1);
    let key = KeyPair::generate().unwrap();
    let old = CertifiedIssuer::signed_by(old, key, &root).unwrap();
    let chain = leaf(&named(&[HOST]), &old, &[&old, &root]);
    let result = shake(&chain, vec![record(2, 1, 1, old.der())]);
    assert_eq!(result, refused(CertificateError::Expired));
    assert!(is_certificate_error(&shake(
        &chain,
        vec![record(2, 1, 1, root.der())]
    )));
    let mut params = named(&[HOST]);
    params.not_before = date_time_ymd(2900, 1, 1);
    params.not_after = date_time_ymd(2901, 1, 1);
    let chain = leaf(&params, &root, &[&root]);
    assert!(is_certificate_error(&shake(
        &chain,
        vec![record(2, 1, 1, root.der())]
    )));
}

#[test]
fn below_an_anchor_the_name_must_be_one_that_is_looked_for() {
    let root = root();
    for (names, good) in [
        (&[HOST][..], true),
        (&[DOMAIN], true),
        (&["*.good.test"], true),
        (&["MX.Good.Test"], true),
        (&["a.test", "mx.good.test"], true),
        (&["other.good.test"], false),
        (&["*.test"], false),
        (&["sub.mx.good.test"], false),
    ] {
        let chain = leaf(&named(names), &root, &[&root]);
        let result = shake(&chain, vec![record(2, 0, 1, root.der())]);
        assert_eq!(result.is_ok(), good, "{names:?}: {result:?}");
        assert!(good || is_certificate_error(&result));
    }
}

#[test]
fn a_common_name_counts_where_there_are_no_others() {
    let root = root();
    for (names, common, good) in [
        (&[][..], HOST, true),
        (&[], "*.good.test", true),
        (&[], "*.test", false),
        (&[], "*.mx.good.test", false),
        (&[], "other.test", false),
        (&["other.test"], HOST, false),
    ] {
        let mut params = named(names);
        params.distinguished_name.push(DnType::CommonName, common);
        let chain = leaf(&params, &root, &[&root]);
        let result = shake(&chain, vec![record(2, 0, 1, root.der())]);
        assert_eq!(result.is_ok(), good, "{names:?} {common}: {result:?}");
    }
}

#[test]
fn the_base_of_the_records_is_a_name_too() {
    let root = root();
    let chain = leaf(&named(&["real.test"]), &root, &[&root]);
    let record = record(2, 0, 1, root.der());
    let found = TlsaRecords::new("real.test", "MX.good.test.", vec![record]).unwrap();
    assert_eq!(found.base(), "real.test");
    assert_eq!(shake_in(&chain, found, &rustls::version::TLS13), Ok(()));
}

#[test]
fn an_anchor_that_is_not_shown_must_be_in_the_record_whole() {
    let root = root();
    let middle = middle(&root);
    let chain = leaf(&named(&[HOST]), &middle, &[&middle]);
    for (selector, matching, good) in [(0, 0, true), (1, 0, true), (0, 1, false), (1, 2, false)] {
        let record = record(2, selector, matching, root.der());
        let result = shake(&chain, vec![record]);
        assert_eq!(result.is_ok(), good, "{selector} {matching}: {result:?}");
    }
}

#[test]
fn showing_an_anchor_is_not_being_below_it() {
    let (root, other) = (root(), root());
    let chain = leaf(&named(&[HOST]), &other, &[&root]);
    for (selector, matching) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        let record = record(2, selector, matching, root.der());
        assert!(is_certificate_error(&shake(&chain, vec![record])));
    }
}

#[test]
fn a_certificate_that_may_not_issue_is_no_anchor() {
    let (root, mut params) = (root(), named(&["issuer.test"]));
    params.is_ca = IsCa::ExplicitNoCa;
    let key = KeyPair::generate().unwrap();
    let subscriber = CertifiedIssuer::signed_by(params, key, &root).unwrap();
    let chain = leaf(&named(&[HOST]), &subscriber, &[&subscriber]);
    let result = shake(&chain, vec![record(2, 0, 1, subscriber.der())]);
    assert_eq!(result, refused(CertificateError::UnknownIssuer));
    // Nor is the server's own, which a record of usage 3 would name.
    let (chain, ..) = whole();
    let result = shake(&chain, vec![record(2, 1, 1, &chain.leaf)]);
    assert_eq!(result, refused(CertificateError::UnknownIssuer));
}

#[test]
fn a_key_that_the_server_does_not_hold_verifies_nobody() {
    let (chain, ..) = whole();
    let (thief, ..) = whole();
    // rustls asks a server's configuration for a key that fits, so the thief shows the chain beside his own leaf.
    let mut above = vec![chain.leaf.clone()];
    above.extend(chain.above.iter().cloned());
    let shown = Chain { above, ..thief };
    for selector in [0, 1] {
        let result = shake(&shown, vec![record(3, selector, 1, &chain.leaf)]);
        assert_eq!(result, refused(CertificateError::UnknownIssuer));
    }
}

#[test]
fn records_that_cannot_be_used_are_left_out() {
    let (chain, ..) = whole();
    let good = record(3, 1, 1, &chain.leaf);
    let with = |change: fn(&mut Tlsa)| {
        let mut record = good.clone();
        change(&mut record);
        record
    };
    let unusable = [
        with(|record| record.usage = 0),
        with(|record| record.usage = 1),
        with(|record| record.usage = 4),
        with(|record| record.usage = 255),
        with(|record| record.selector = 2),
        with(|record| record.matching = 3),
        with(|record| record.matching = 2),
        with(|record| record.matching = 0),
        with(|record| record.data.truncate(31)),
        with(|record| record.data.push(0)),
        with(|record| record.data.clear()),
    ];
    for record in &unusable {
        let none = TlsaRecords::new(HOST, HOST, vec![record.clone()]);
        assert_eq!(none, None, "{record:?}");
        assert_eq!(shake(&chain, vec![record.clone(), good.clone()]), Ok(()));
    }
    assert_eq!(TlsaRecords::new(HOST, HOST, unusable.into()), None);
    let texts = records(vec![with(|record| record.usage = 1), good.clone()]).texts();
    assert!(texts[0].starts_with("1 1 1 ") && texts[1].starts_with("3 1 1 "));
    assert_eq!(texts[1].len(), "3 1 1 ".len() + 64);
}

#[test]
fn the_strongest_digest_of_each_kind_decides() {
    let (chain, middle, _) = whole();
    let (other, ..) = whole();
    let right = |selector, matching| record(3, selector, matching, &chain.leaf);
    let wrong = |selector, matching| record(3, selector, matching, &other.leaf);
    let weaker = vec![right(1, 1), wrong(1, 2)];
    assert!(is_certificate_error(&shake(&chain, weaker)));
    assert_eq!(shake(&chain, vec![wrong(1, 1), right(1, 2)]), Ok(()));
    // What is compared whole stands beside digests, and selectors and usages beside each other.
    assert_eq!(shake(&chain, vec![right(1, 0), wrong(1, 2)]), Ok(()));
    assert_eq!(shake(&chain, vec![right(0, 1), wrong(1, 2)]), Ok(()));
    let anchor = record(2, 1, 1, middle.der());
    assert_eq!(shake(&chain, vec![anchor, wrong(1, 2)]), Ok(()));
    // A strong digest that cannot be one does not count.
    let mut broken = wrong(1, 2);
    broken.data.pop();
    assert_eq!(shake(&chain, vec![right(1, 1), broken]), Ok(()));
}

fn resolver(server: &NameServer) -> Dns {
    Dns::new(&DnsOptions {
        name_servers: vec![server.address()],
        dnssec: true,
        trust_anchors: Some(server.trust_anchor()),
        ..DnsOptions::default()
    })
    .unwrap()
}

fn site() -> NameServer {
    let server = NameServer::start();
    let ip = "192.0.2.1".parse().unwrap();
    server
        .signed_zone(DOMAIN)
        .unsigned_zone("plain.test")
        .a(HOST, ip)
        .tlsa(HOST, 25, [3, 1, 1], &[7; 32])
        .a("bare.good.test", ip)
        .a("mx.plain.test", ip)
        .tlsa("mx.plain.test", 25, [3, 1, 1], &[7; 32]);
    server
}

fn base_of(dane: &Dane) -> &str {
    match dane {
        Dane::Usable(records) => records.base(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn records_hold_where_everything_on_the_way_is_proven() {
    let server = site();
    let dns = resolver(&server);
    let found = dane_of(&dns, "MX.good.test.", 25, true).await;
    assert_eq!(base_of(&found), HOST);
    assert_eq!(dane_of(&dns, HOST, 25, false).await, Dane::None);
    for (host, port) in [
        (HOST, 26),
        ("bare.good.test", 25),
        ("mx.plain.test", 25),
        ("none.good.test", 25),
        ("192.0.2.1", 25),
    ] {
        let found = dane_of(&dns, host, port, true).await;
        assert_eq!(found, Dane::None, "{host} {port}");
    }
}

#[tokio::test]
async fn records_that_none_can_use_ask_for_encryption_alone() {
    let server = site();
    server.tlsa("bare.good.test", 25, [1, 1, 1], &[7; 32]).tlsa(
        "bare.good.test",
        25,
        [3, 1, 1],
        &[7; 31],
    );
    let found = dane_of(&resolver(&server), "bare.good.test", 25, true).await;
    assert_eq!(found, Dane::Unusable);
}

#[tokio::test]
async fn what_cannot_be_told_keeps_the_host_from_being_used() {
    let server = site();
    server
        .servfail("_25._tcp.mx.good.test")
        .forged("bare.good.test")
        .a("forged.good.test", "192.0.2.1".parse().unwrap())
        .tlsa("forged.good.test", 25, [3, 1, 1], &[7; 32])
        .forged("_25._tcp.forged.good.test");
    let dns = resolver(&server);
    for host in [HOST, "bare.good.test", "forged.good.test"] {
        let found = dane_of(&dns, host, 25, true).await;
        assert!(matches!(found, Dane::Failed(_)), "{host}: {found:?}");
    }
}

#[tokio::test]
async fn an_alias_is_asked_under_the_name_it_leads_to_and_then_under_its_own() {
    let server = site();
    server
        .cname("one.good.test", HOST)
        .cname("two.good.test", "bare.good.test")
        .tlsa("two.good.test", 25, [3, 1, 1], &[7; 32])
        .cname("out.good.test", "mx.plain.test")
        .tlsa("out.good.test", 25, [3, 1, 1], &[7; 32])
        .cname("_25._tcp.three.good.test", "_25._tcp.mx.good.test")
        .a("three.good.test", "192.0.2.1".parse().unwrap())
        .cname("_25._tcp.four.good.test", "_25._tcp.mx.plain.test")
        .a("four.good.test", "192.0.2.1".parse().unwrap());
    let dns = resolver(&server);
    for (host, base) in [
        ("one.good.test", HOST),
        ("two.good.test", "two.good.test"),
        ("out.good.test", "out.good.test"),
        ("three.good.test", "three.good.test"),
    ] {
        assert_eq!(base_of(&dane_of(&dns, host, 25, true).await), base);
    }
    let unproven = dane_of(&dns, "four.good.test", 25, true).await;
    assert_eq!(unproven, Dane::None);
}
