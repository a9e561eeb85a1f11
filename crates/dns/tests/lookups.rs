//! Lookups over a name server on loopback: what is there, what is not, and what fails.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::net::IpAddr;
use std::time::Duration;

use nightmail_dns::{Dns, DnsOptions, Mx, Nothing};
use nightmail_testbed::dns::{NameServer, RecordType};

fn resolver(server: &NameServer) -> Dns {
    Dns::new(&DnsOptions {
        name_servers: vec![server.address()],
        timeout: Duration::from_secs(20),
        attempts: 0,
        ..DnsOptions::default()
    })
    .unwrap()
}

/// One that does not wait for what never comes.
fn impatient(server: &NameServer) -> Dns {
    Dns::new(&DnsOptions {
        name_servers: vec![server.address()],
        timeout: Duration::from_millis(200),
        attempts: 1,
        ..DnsOptions::default()
    })
    .unwrap()
}

fn ips(list: &[&str]) -> Vec<IpAddr> {
    list.iter().map(|ip| ip.parse().unwrap()).collect()
}

#[tokio::test]
async fn records_of_each_kind_are_found() {
    let server = NameServer::start();
    server
        .txt("a.test", &"x".repeat(300))
        .txt_strings("latin.test", &[b"caf\xe9", b" bar"])
        .mx("a.test", 20, "Second.Test.")
        .mx("a.test", 10, "first.test")
        .mx("null.test", 0, "")
        .a("a.test", "192.0.2.1".parse().unwrap())
        .aaaa("a.test", "2001:db8::1".parse().unwrap())
        .ptr("192.0.2.1".parse().unwrap(), "A.test")
        .ptr("2001:db8::1".parse().unwrap(), "a6.test")
        .caa("a.test", "ca.test");
    let dns = resolver(&server);
    assert_eq!(dns.txt("A.test.").await.unwrap(), ["x".repeat(300)]);
    assert_eq!(dns.txt("latin.test").await.unwrap(), ["caf\u{fffd} bar"]);
    let mx = |preference, host: &str| Mx {
        preference,
        host: host.into(),
    };
    assert_eq!(
        dns.mx("a.test").await.unwrap(),
        [mx(10, "first.test"), mx(20, "second.test")]
    );
    assert_eq!(dns.mx("null.test").await.unwrap(), [mx(0, "")]);
    assert_eq!(
        dns.addresses("a.test").await.unwrap(),
        ips(&["192.0.2.1", "2001:db8::1"])
    );
    for (ip, name) in [
        ("192.0.2.1", "a.test"),
        ("::ffff:192.0.2.1", "a.test"),
        ("2001:db8::1", "a6.test"),
    ] {
        assert_eq!(dns.names_of(ip.parse().unwrap()).await.unwrap(), [name]);
    }
    let caa = dns.caa("a.test").await.unwrap();
    assert_eq!((caa[0].1.as_str(), caa[0].2.as_str()), ("issue", "ca.test"));
}

#[tokio::test]
async fn a_missing_name_is_told_from_a_missing_record() {
    let server = NameServer::start();
    server
        .a("a.test", "192.0.2.1".parse().unwrap())
        .a("b.c.test", "192.0.2.1".parse().unwrap())
        .empty("nothing.test");
    let dns = resolver(&server);
    assert_eq!(dns.txt("none.test").await, Err(Nothing::NoName));
    assert_eq!(dns.txt("a.test").await, Err(Nothing::NoRecord));
    assert_eq!(dns.txt("c.test").await, Err(Nothing::NoRecord));
    assert_eq!(dns.addresses("nothing.test").await, Err(Nothing::NoRecord));
    assert_eq!(dns.addresses("none.test").await, Err(Nothing::NoName));
    assert_eq!(dns.txt("a..test").await, Err(Nothing::NoName));
    assert_eq!(dns.txt("").await, Err(Nothing::NoName));
}

#[tokio::test]
async fn addresses_keep_to_the_families_that_can_be_reached() {
    let server = NameServer::start();
    server
        .a("a.test", "192.0.2.1".parse().unwrap())
        .aaaa("a.test", "2001:db8::1".parse().unwrap());
    let dns = Dns::new(&DnsOptions {
        name_servers: vec![server.address()],
        ipv6: false,
        ..DnsOptions::default()
    })
    .unwrap();
    assert_eq!(dns.addresses("a.test").await.unwrap(), ips(&["192.0.2.1"]));
    assert_eq!(dns.ipv6("a.test").await.unwrap().len(), 1);
    assert_eq!(dns.addresses("::1").await.unwrap(), ips(&["::1"]));
}

#[tokio::test]
async fn one_family_that_fails_does_not_hide_the_other() {
    let server = NameServer::start();
    server
        .a("a.test", "192.0.2.1".parse().unwrap())
        .servfail_of("a.test", RecordType::AAAA);
    let dns = resolver(&server);
    assert_eq!(dns.addresses("a.test").await.unwrap(), ips(&["192.0.2.1"]));
    server.servfail_of("a.test", RecordType::A);
    let dns = resolver(&server);
    assert!(dns.addresses("a.test").await.unwrap_err().is_temporary());
}

#[tokio::test]
async fn aliases_are_followed_and_a_loop_is_a_failure() {
    let server = NameServer::start();
    server
        .cname("alias.test", "real.test")
        .cname("far.test", "alias.test")
        .txt("real.test", "here")
        .cname("dangling.test", "gone.test")
        .cname_loop("loop.test")
        .cname("self.test", "self.test");
    let dns = resolver(&server);
    assert_eq!(dns.txt("far.test").await.unwrap(), ["here"]);
    assert_eq!(dns.mx("far.test").await, Err(Nothing::NoRecord));
    assert_eq!(dns.txt("dangling.test").await, Err(Nothing::NoName));
    for name in ["loop.test", "self.test"] {
        assert!(dns.txt(name).await.unwrap_err().is_temporary(), "{name}");
    }
}

#[tokio::test]
async fn servfail_refusal_and_silence_are_failures() {
    let server = NameServer::start();
    server
        .servfail("bad.test")
        .refused("closed.test")
        .timeout("silent.test");
    let dns = impatient(&server);
    for name in ["bad.test", "closed.test", "silent.test"] {
        let found = dns.txt(name).await;
        assert!(found.unwrap_err().is_temporary(), "{name}");
    }
    server.remove("bad.test").txt("bad.test", "mended");
    assert_eq!(dns.txt("bad.test").await.unwrap(), ["mended"]);
}

#[tokio::test]
async fn a_truncated_answer_is_fetched_whole_by_tcp() {
    let server = NameServer::start();
    server.txt("cut.test", "short").truncated("cut.test");
    for number in 0..20 {
        server.txt("long.test", &format!("{number}{}", "y".repeat(400)));
    }
    let dns = resolver(&server);
    assert_eq!(dns.txt("cut.test").await.unwrap(), ["short"]);
    assert_eq!(server.asked("cut.test", RecordType::TXT), 2);
    let long = dns.txt("long.test").await.unwrap();
    assert_eq!(long.len(), 20);
    assert!(long.iter().all(|text| text.len() > 400));
}

#[tokio::test]
async fn answers_are_kept_as_long_as_they_say_and_failures_are_not() {
    let server = NameServer::start();
    server.keep_for(60, 60).txt("a.test", "one");
    let dns = resolver(&server);
    let clone = dns.clone();
    for _ in 0..3 {
        assert_eq!(dns.txt("a.test").await.unwrap(), ["one"]);
        assert_eq!(clone.txt("none.test").await, Err(Nothing::NoName));
    }
    assert_eq!(server.asked("a.test", RecordType::TXT), 1);
    assert_eq!(server.asked("none.test", RecordType::TXT), 1);
    server.servfail("bad.test");
    for _ in 0..2 {
        assert!(dns.txt("bad.test").await.unwrap_err().is_temporary());
    }
    server.remove("bad.test").txt("bad.test", "two");
    assert_eq!(dns.txt("bad.test").await.unwrap(), ["two"]);
}

#[tokio::test]
async fn many_lookups_at_once_are_all_answered() {
    let server = NameServer::start();
    for number in 0..500 {
        server.txt(&format!("n{number}.test"), &number.to_string());
    }
    let dns = resolver(&server);
    let mut lookups = tokio::task::JoinSet::new();
    for number in 0..500 {
        let dns = dns.clone();
        lookups.spawn(async move { (number, dns.txt(&format!("n{number}.test")).await) });
    }
    while let Some(found) = lookups.join_next().await {
        let (number, found) = found.unwrap();
        assert_eq!(found.unwrap(), [number.to_string()]);
    }
}
