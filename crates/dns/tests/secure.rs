//! Proven lookups over a name server that signs its zones: what is secure, what is not, and what must not be believed.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use nightmail_dns::{Dns, DnsOptions, Mx, Nothing, Secure, Tlsa};
use nightmail_testbed::dns::{NameServer, RecordType};

const IP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

fn resolver(server: &NameServer) -> Dns {
    Dns::new(&DnsOptions {
        name_servers: vec![server.address()],
        timeout: Duration::from_secs(20),
        attempts: 0,
        dnssec: true,
        trust_anchors: Some(server.trust_anchor()),
        ..DnsOptions::default()
    })
    .unwrap()
}

/// A signed zone with a mail host and its TLSA record, and an unsigned one.
fn site() -> NameServer {
    let server = NameServer::start();
    server
        .signed_zone("good.test")
        .unsigned_zone("plain.test")
        .mx("good.test", 20, "second.good.test")
        .mx("good.test", 10, "mx.good.test")
        .a("mx.good.test", IP)
        .tlsa("mx.good.test", 25, [3, 1, 1], &[7; 32])
        .mx("plain.test", 10, "mx.plain.test")
        .a("mx.plain.test", IP)
        .tlsa("mx.plain.test", 25, [3, 1, 1], &[7; 32]);
    server
}

fn secure<T>(value: T) -> Secure<T> {
    Secure {
        value,
        secure: true,
    }
}

fn insecure<T>(value: T) -> Secure<T> {
    Secure {
        value,
        secure: false,
    }
}

fn tlsa() -> Vec<Tlsa> {
    vec![Tlsa {
        usage: 3,
        selector: 1,
        matching: 1,
        data: vec![7; 32],
    }]
}

#[tokio::test]
async fn what_is_signed_from_the_root_down_is_secure() {
    let server = site();
    let dns = resolver(&server);
    let mx = |preference, host: &str| Mx {
        preference,
        host: host.into(),
    };
    let both = vec![mx(10, "mx.good.test"), mx(20, "second.good.test")];
    assert_eq!(dns.secure_mx("Good.test.").await, secure(Ok(both)));
    let addresses = vec![IpAddr::V4(IP)];
    assert_eq!(
        dns.secure_addresses("mx.good.test").await,
        secure(Ok(addresses))
    );
    assert_eq!(dns.tlsa("mx.good.test", 25).await, secure(Ok(tlsa())));
    assert_eq!(
        dns.tlsa_bases("MX.good.test").await.unwrap(),
        ["mx.good.test"]
    );
}

#[tokio::test]
async fn below_an_unsigned_delegation_nothing_is_secure_and_all_is_found() {
    let server = site();
    let dns = resolver(&server);
    let found = dns.secure_mx("plain.test").await;
    assert_eq!(found.value.unwrap()[0].host, "mx.plain.test");
    assert!(!found.secure);
    let addresses = dns.secure_addresses("mx.plain.test").await;
    assert_eq!(addresses, insecure(Ok(vec![IpAddr::V4(IP)])));
    assert_eq!(dns.tlsa("mx.plain.test", 25).await, insecure(Ok(tlsa())));
    assert_eq!(
        dns.secure_mx("none.plain.test").await,
        insecure(Err(Nothing::NoName))
    );
    assert!(dns.tlsa_bases("mx.plain.test").await.unwrap().is_empty());
}

#[tokio::test]
async fn a_signed_zone_that_nobody_vouches_for_is_as_an_unsigned_one() {
    let server = site();
    server
        .island_zone("island.test")
        .island_zone("deep.plain.test");
    for zone in ["island.test", "deep.plain.test"] {
        server.mx(zone, 10, "mx.good.test").a(zone, IP);
    }
    let dns = resolver(&server);
    for zone in ["island.test", "deep.plain.test"] {
        let found = dns.secure_mx(zone).await;
        assert_eq!(found.value.unwrap()[0].host, "mx.good.test");
        assert!(!found.secure, "{zone}");
        let none = dns.secure_mx(&format!("none.{zone}")).await;
        assert_eq!(none, insecure(Err(Nothing::NoName)), "{zone}");
        let none = dns.tlsa(zone, 25).await;
        assert_eq!(none, insecure(Err(Nothing::NoName)), "{zone}");
        assert!(dns.tlsa_bases(zone).await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn that_there_is_nothing_is_proven_too() {
    let server = site();
    server.a("far.below.good.test", IP);
    let dns = resolver(&server);
    for (name, nothing) in [
        ("mx.good.test", Nothing::NoRecord),
        ("none.good.test", Nothing::NoName),
        ("a.b.c.good.test", Nothing::NoName),
        ("below.good.test", Nothing::NoRecord),
        ("absent.test", Nothing::NoName),
        ("test", Nothing::NoRecord),
    ] {
        assert_eq!(dns.secure_mx(name).await, secure(Err(nothing)), "{name}");
    }
    assert_eq!(
        dns.tlsa("mx.good.test", 26).await,
        secure(Err(Nothing::NoName))
    );
}

#[tokio::test]
async fn hashes_of_names_prove_as_names_do() {
    let server = site();
    server
        .hashed_zone("test")
        .hashed_zone("big.test")
        .signed_zone("one.big.test")
        .unsigned_zone("two.big.test")
        .a("far.below.big.test", IP)
        .a("one.big.test", IP)
        .a("two.big.test", IP)
        .cname("alias.big.test", "far.below.big.test");
    let dns = resolver(&server);
    for (name, nothing, is_secure) in [
        ("big.test", Nothing::NoRecord, true),
        ("below.big.test", Nothing::NoRecord, true),
        ("far.below.big.test", Nothing::NoRecord, true),
        ("alias.big.test", Nothing::NoRecord, true),
        ("one.big.test", Nothing::NoRecord, true),
        ("two.big.test", Nothing::NoRecord, false),
        ("none.two.big.test", Nothing::NoName, false),
        ("mx.plain.test", Nothing::NoRecord, false),
    ] {
        let found = dns.secure_mx(name).await;
        assert_eq!(found.value, Err(nothing), "{name}");
        assert_eq!(found.secure, is_secure, "{name}");
    }
    // A zone that is not vouched for could be where none is found: that it is not there is not proven.
    for name in ["none.big.test", "a.b.big.test", "absent.test"] {
        let found = dns.secure_mx(name).await;
        assert_eq!(found, insecure(Err(Nothing::NoName)), "{name}");
    }
    for (name, is_secure) in [
        ("one.big.test", true),
        ("two.big.test", false),
        ("mx.plain.test", false),
        ("mx.good.test", true),
        ("alias.big.test", true),
    ] {
        let found = dns.secure_addresses(name).await;
        assert_eq!(found.value, Ok(vec![IpAddr::V4(IP)]), "{name}");
        assert_eq!(found.secure, is_secure, "{name}");
    }
}

#[tokio::test]
async fn signatures_that_do_not_hold_are_a_failure_and_never_an_answer() {
    let server = site();
    server
        .signed_zone("bare.test")
        .stripped_zone("bare.test")
        .mx("bare.test", 10, "mx.bare.test")
        .a("forged.good.test", IP)
        .forged("forged.good.test")
        .a("old.good.test", IP)
        .expired("old.good.test")
        .signed_zone("bad.test")
        .forged("bad.test")
        .a("mx.bad.test", IP);
    let dns = resolver(&server);
    for name in ["forged.good.test", "old.good.test", "mx.bad.test"] {
        let found = dns.secure_addresses(name).await;
        assert!(!found.secure && found.value.unwrap_err().is_temporary());
        assert!(dns.tlsa_bases(name).await.unwrap_err().is_temporary());
    }
    for name in ["bare.test", "none.bare.test", "forged.good.test"] {
        let found = dns.secure_mx(name).await.value;
        assert!(found.unwrap_err().is_temporary(), "{name}");
    }
    // Lookups that need no proof take them as they are.
    assert!(dns.addresses("forged.good.test").await.is_ok());
    assert!(dns.mx("bare.test").await.is_ok());
}

#[tokio::test]
async fn silence_and_servfail_are_failures_and_not_denials() {
    let server = site();
    server
        .servfail("_25._tcp.mx.good.test")
        .timeout_of("silent.good.test", RecordType::MX)
        .servfail_of("plain.test", RecordType::DS);
    let dns = Dns::new(&DnsOptions {
        name_servers: vec![server.address()],
        timeout: Duration::from_millis(300),
        attempts: 1,
        dnssec: true,
        trust_anchors: Some(server.trust_anchor()),
        ..DnsOptions::default()
    })
    .unwrap();
    let found = dns.tlsa("mx.good.test", 25).await;
    assert!(found.value.unwrap_err().is_temporary());
    let found = dns.secure_mx("silent.good.test").await;
    assert!(found.value.unwrap_err().is_temporary());
    // Whether it is signed cannot be told.
    let found = dns.secure_mx("plain.test").await;
    assert!(found.value.unwrap_err().is_temporary());
}

#[tokio::test]
async fn an_alias_is_as_secure_as_every_link_of_it() {
    let server = site();
    server
        .cname("www.good.test", "mx.good.test")
        .cname("out.good.test", "mx.plain.test")
        .cname("in.plain.test", "mx.good.test")
        .cname("gone.good.test", "none.good.test")
        .cname("empty.good.test", "mx.good.test")
        .cname("bad.good.test", "mx.good.test")
        .forged("bad.good.test")
        .cname_loop("loop.good.test");
    let dns = resolver(&server);
    let there = Ok(vec![IpAddr::V4(IP)]);
    assert_eq!(
        dns.secure_addresses("www.good.test").await,
        secure(there.clone())
    );
    for name in ["out.good.test", "in.plain.test"] {
        let found = dns.secure_addresses(name).await;
        assert_eq!(found, insecure(there.clone()), "{name}");
    }
    assert_eq!(
        dns.secure_mx("gone.good.test").await,
        secure(Err(Nothing::NoName))
    );
    assert_eq!(
        dns.secure_mx("empty.good.test").await,
        secure(Err(Nothing::NoRecord))
    );
    for name in ["bad.good.test", "loop.good.test"] {
        let found = dns.secure_addresses(name).await;
        assert!(found.value.unwrap_err().is_temporary(), "{name}");
    }
    for (name, bases) in [
        ("www.good.test", &["mx.good.test", "www.good.test"][..]),
        ("out.good.test", &["out.good.test"]),
        ("in.plain.test", &[]),
        ("192.0.2.1", &[]),
    ] {
        assert_eq!(dns.tlsa_bases(name).await.unwrap(), bases, "{name}");
    }
}

#[tokio::test]
async fn a_host_is_secure_when_both_families_are() {
    let server = site();
    server
        .a("dual.good.test", IP)
        .aaaa("dual.good.test", "2001:db8::1".parse().unwrap());
    let dns = resolver(&server);
    let found = dns.secure_addresses("dual.good.test").await;
    assert!(found.secure);
    assert_eq!(found.value.unwrap().len(), 2);
    assert_eq!(
        dns.secure_addresses("192.0.2.7").await,
        insecure(Ok(vec!["192.0.2.7".parse().unwrap()]))
    );
}

#[tokio::test]
async fn answers_denials_and_keys_are_kept() {
    let server = site();
    server.keep_for(60, 60);
    let dns = resolver(&server);
    for _ in 0..3 {
        assert!(dns.secure_mx("good.test").await.secure);
        assert!(dns.secure_mx("none.good.test").await.secure);
        let plain = dns.secure_mx("plain.test").await;
        assert!(plain.value.is_ok() && !plain.secure);
    }
    for name in ["good.test", "none.good.test", "plain.test"] {
        assert_eq!(server.asked(name, RecordType::MX), 1, "{name}");
    }
    for name in ["", "good.test"] {
        assert_eq!(server.asked(name, RecordType::DNSKEY), 1, "{name}");
    }
    let before = server.asked_in_all();
    assert!(dns.secure_addresses("mx.good.test").await.secure);
    assert_eq!(server.asked_in_all() - before, 2, "one a family");
}

#[tokio::test]
async fn a_domain_that_is_mended_is_believed_again() {
    let server = site();
    server.keep_for(0, 0).forged("mx.good.test");
    let dns = resolver(&server);
    let found = dns.tlsa_bases("mx.good.test").await;
    assert!(found.unwrap_err().is_temporary());
    server.remove("mx.good.test").a("mx.good.test", IP);
    server.tlsa("mx.good.test", 25, [3, 1, 1], &[7; 32]);
    assert_eq!(
        resolver(&server).tlsa_bases("mx.good.test").await.unwrap(),
        ["mx.good.test"]
    );
}

#[tokio::test]
async fn name_servers_that_keep_signatures_back_leave_everything_unproven() {
    let server = NameServer::start();
    server.mx("a.test", 10, "mx.a.test").a("mx.a.test", IP);
    let dns = Dns::new(&DnsOptions {
        name_servers: vec![server.address()],
        dnssec: true,
        ..DnsOptions::default()
    })
    .unwrap();
    let found = dns.secure_mx("a.test").await;
    assert_eq!(found.value.unwrap()[0].host, "mx.a.test");
    assert!(!found.secure);
    assert_eq!(
        dns.secure_mx("b.test").await,
        insecure(Err(Nothing::NoName))
    );
    assert!(dns.tlsa_bases("mx.a.test").await.unwrap().is_empty());
}

#[tokio::test]
async fn a_root_that_another_key_signs_is_not_believed() {
    let (server, other) = (site(), site());
    let dns = Dns::new(&DnsOptions {
        name_servers: vec![server.address()],
        dnssec: true,
        trust_anchors: Some(other.trust_anchor()),
        ..DnsOptions::default()
    })
    .unwrap();
    let found = dns.secure_mx("good.test").await;
    assert!(found.value.unwrap_err().is_temporary());
}

#[tokio::test]
async fn without_dnssec_nothing_is_asked_for_proof() {
    let server = site();
    let dns = Dns::new(&DnsOptions {
        name_servers: vec![server.address()],
        ..DnsOptions::default()
    })
    .unwrap();
    let found = dns.secure_mx("good.test").await;
    assert!(found.value.is_ok() && !found.secure);
    assert!(dns.tlsa_bases("mx.good.test").await.unwrap().is_empty());
    assert_eq!(dns.tlsa("mx.good.test", 25).await, insecure(Ok(tlsa())));
    assert_eq!(server.asked("", RecordType::DNSKEY), 0);
}

#[test]
fn anchors_that_are_no_keys_are_refused() {
    for anchors in ["nonsense", ". IN A 192.0.2.1", ". IN DNSKEY 257 3 13", ""] {
        let options = DnsOptions {
            name_servers: vec!["127.0.0.1:53".parse().unwrap()],
            dnssec: true,
            trust_anchors: Some(anchors.into()),
            ..DnsOptions::default()
        };
        assert!(Dns::new(&options).is_err(), "{anchors}");
    }
}
