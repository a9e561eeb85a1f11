//! What is said about a domain's records, over a name server on loopback.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use nightmail_dns::audit::{AuditQuestion, Finding, Verdict, audit};
use nightmail_dns::{Dns, DnsOptions};
use nightmail_testbed::dns::NameServer;

const KEY: &str = "v=DKIM1; k=rsa; p=MIIBIjANBgkq";

fn ipv4(text: &str) -> Ipv4Addr {
    text.parse().unwrap()
}

fn question() -> AuditQuestion {
    AuditQuestion {
        domain: "x.test".parse().unwrap(),
        hostname: "mail.x.test".parse().unwrap(),
        own_addresses: vec![
            ipv4("192.0.2.1").into(),
            IpAddr::V6("2001:db8::1".parse().unwrap()),
        ],
        dkim: vec![("s1".into(), KEY.into())],
    }
}

/// A domain that has everything as it should be.
fn perfect() -> NameServer {
    let server = NameServer::start();
    let six = "2001:db8::1".parse().unwrap();
    server
        .keep_for(0, 0)
        .signed_zone("x.test")
        .tlsa("mail.x.test", 25, [3, 1, 1], &[7; 32])
        .mx("x.test", 10, "mail.x.test")
        .a("mail.x.test", ipv4("192.0.2.1"))
        .aaaa("mail.x.test", six)
        .ptr(ipv4("192.0.2.1").into(), "mail.x.test")
        .ptr(six.into(), "mail.x.test")
        .txt("x.test", "v=spf1 mx -all")
        .txt("x.test", "some-site-verification=1")
        .txt("s1._domainkey.x.test", "v=DKIM1; k=rsa; p=MIIB IjANBgkq")
        .txt("_dmarc.x.test", "v=DMARC1; p=reject; rua=mailto:d@x.test")
        .txt("_mta-sts.x.test", "v=STSv1; id=1")
        .a("mta-sts.x.test", ipv4("192.0.2.1"))
        .txt("_smtp._tls.x.test", "v=TLSRPTv1; rua=mailto:t@x.test")
        .caa("x.test", "ca.test");
    server
}

async fn look(server: &NameServer, question: &AuditQuestion) -> Vec<Finding> {
    let anchor = server.signed_zone("").trust_anchor();
    let dns = Dns::new(&DnsOptions {
        name_servers: vec![server.address()],
        timeout: Duration::from_millis(500),
        attempts: 0,
        dnssec: true,
        trust_anchors: Some(anchor),
        ..DnsOptions::default()
    })
    .unwrap();
    audit(&dns, question).await
}

/// The first finding of a kind.
async fn one(server: &NameServer, kind: &str) -> Finding {
    let findings = look(server, &question()).await;
    findings
        .into_iter()
        .find(|finding| finding.kind == kind)
        .unwrap()
}

#[tokio::test]
async fn a_domain_that_has_everything_is_good() {
    let findings = look(&perfect(), &question()).await;
    let kinds: Vec<_> = findings.iter().map(|finding| finding.kind).collect();
    assert_eq!(
        kinds,
        [
            "MX", "A/AAAA", "PTR", "PTR", "SPF", "DKIM", "DMARC", "MTA-STS", "TLS-RPT", "TLSA",
            "CAA"
        ]
    );
    for finding in findings {
        assert_eq!(finding.verdict, Verdict::Good, "{finding:?}");
        assert!(!finding.found.is_empty());
    }
}

#[tokio::test]
async fn a_domain_that_has_nothing_misses_everything() {
    let findings = look(&NameServer::start(), &question()).await;
    assert_eq!(findings.len(), 11);
    for finding in findings {
        assert_eq!(finding.verdict, Verdict::Missing, "{finding:?}");
        assert!(!finding.advice.is_empty() && finding.found.is_empty());
        let optional = ["MTA-STS", "TLS-RPT", "TLSA", "CAA"].contains(&finding.kind);
        assert_eq!(finding.optional, optional);
    }
}

#[tokio::test]
async fn what_dns_does_not_say_is_unclear() {
    let server = NameServer::start();
    for name in [
        "x.test",
        "mail.x.test",
        "1.2.0.192.in-addr.arpa",
        "s1._domainkey.x.test",
        "_dmarc.x.test",
        "_25._tcp.mail.x.test",
    ] {
        server.servfail(name);
    }
    let findings = look(&server, &question()).await;
    for kind in ["MX", "A/AAAA", "PTR", "SPF", "DKIM", "DMARC", "TLSA", "CAA"] {
        let finding = findings
            .iter()
            .find(|finding| finding.kind == kind)
            .unwrap();
        assert_eq!(finding.verdict, Verdict::Unclear, "{finding:?}");
    }
}

#[tokio::test]
async fn mail_hosts_must_be_this_one_and_no_alias() {
    let server = perfect();
    server.remove("x.test").mx("x.test", 5, "elsewhere.test");
    assert_eq!(one(&server, "MX").await.verdict, Verdict::Wrong);
    server.a("elsewhere.test", ipv4("192.0.2.1"));
    assert_eq!(
        one(&server, "MX").await.verdict,
        Verdict::Good,
        "by its address"
    );
    server.remove("x.test").mx("x.test", 0, "");
    assert_eq!(one(&server, "MX").await.verdict, Verdict::Wrong);
    server
        .remove("x.test")
        .mx("x.test", 10, "mail.x.test")
        .remove("mail.x.test")
        .cname("mail.x.test", "elsewhere.test");
    let host = one(&server, "A/AAAA").await;
    assert_eq!(
        (host.verdict, host.found[0].as_str()),
        (Verdict::Wrong, "alias of elsewhere.test")
    );
    server
        .remove("mail.x.test")
        .a("mail.x.test", ipv4("192.0.2.9"));
    assert_eq!(one(&server, "A/AAAA").await.verdict, Verdict::Wrong);
}

#[tokio::test]
async fn an_address_needs_a_name_that_leads_back() {
    let server = perfect();
    server
        .remove("1.2.0.192.in-addr.arpa")
        .ptr(ipv4("192.0.2.1").into(), "liar.test");
    assert_eq!(one(&server, "PTR").await.verdict, Verdict::Wrong);
    server.a("liar.test", ipv4("192.0.2.1"));
    let found = one(&server, "PTR").await;
    assert_eq!(found.verdict, Verdict::Good);
    assert!(found.advice.contains("liar.test"));
}

#[tokio::test]
async fn spf_must_let_this_host_send_and_nobody_else() {
    let server = perfect();
    server
        .a("six.test", ipv4("192.0.2.200"))
        .aaaa("six.test", "2001:db8::2".parse().unwrap())
        .servfail("broken.test");
    for (record, verdict, word) in [
        (
            "v=spf1 ip4:192.0.2.0/24 ip6:2001:db8::1 ~all",
            Verdict::Good,
            "",
        ),
        ("v=spf1 a:six.test/24//32 -all", Verdict::Good, ""),
        ("v=spf1 a:mail.x.test -all", Verdict::Good, ""),
        ("V=SPF1 mx:x.test -all", Verdict::Good, ""),
        ("v=spf1 ip4:192.0.2.1 -all", Verdict::Wrong, "2001:db8::1"),
        ("v=spf1 -ip4:192.0.2.1 mx -all", Verdict::Wrong, "192.0.2.1"),
        ("v=spf1 a:six.test -all", Verdict::Wrong, "192.0.2.1"),
        ("v=spf1 -all", Verdict::Wrong, "192.0.2.1"),
        ("v=spf1 mx ?all", Verdict::Wrong, "everybody"),
        ("v=spf1 mx +all", Verdict::Wrong, "everybody"),
        ("v=spf1 mx", Verdict::Wrong, "end it"),
        ("v=spf1 mx ip5:1.2.3.4 -all", Verdict::Wrong, "ip5"),
        (
            "v=spf1 include:other.test -all",
            Verdict::Unclear,
            "192.0.2.1",
        ),
        ("v=spf1 redirect=other.test", Verdict::Unclear, "192.0.2.1"),
        ("v=spf1 include:other.test mx -all", Verdict::Good, ""),
        ("v=spf1 a:broken.test -all", Verdict::Unclear, "192.0.2.1"),
        ("v=spf1 mx:none.test -all", Verdict::Wrong, "192.0.2.1"),
    ] {
        server
            .remove("x.test")
            .mx("x.test", 10, "mail.x.test")
            .txt("x.test", record);
        let found = one(&server, "SPF").await;
        assert_eq!(found.verdict, verdict, "{record}: {}", found.advice);
        assert!(found.advice.contains(word), "{record}: {}", found.advice);
    }
    let many = format!("v=spf1 {} -all", "mx ".repeat(11));
    server.remove("x.test").txt("x.test", &many);
    assert!(one(&server, "SPF").await.advice.contains("lookups"));
    server
        .remove("x.test")
        .txt("x.test", "v=spf1 -all")
        .txt("x.test", "v=spf1 mx -all");
    assert!(one(&server, "SPF").await.advice.contains("one record"));
    server.remove("x.test").txt("x.test", "v=spf10 -all");
    assert_eq!(one(&server, "SPF").await.verdict, Verdict::Missing);
}

#[tokio::test]
async fn keys_and_policies_that_are_wrong_are_told() {
    let server = perfect();
    for (name, record, kind) in [
        ("s1._domainkey.x.test", "v=DKIM1; p=OTHER", "DKIM"),
        ("s1._domainkey.x.test", "v=DKIM1; p=", "DKIM"),
        (
            "s1._domainkey.x.test",
            "v=DKIM1; k=ed25519; p=MIIBIjANBgkq",
            "DKIM",
        ),
        ("_dmarc.x.test", "v=spf1 -all", "DMARC"),
        ("_dmarc.x.test", "v=DMARC1; p=no", "DMARC"),
        ("_mta-sts.x.test", "v=STSv1", "MTA-STS"),
        ("_smtp._tls.x.test", "v=TLSRPTv1", "TLS-RPT"),
    ] {
        server.remove(name).txt(name, record);
        let found = one(&server, kind).await;
        assert_eq!(found.verdict, Verdict::Wrong, "{record}");
        assert_eq!(found.found, [record]);
    }
    server.remove("x.test").caa("x.test", "");
    assert_eq!(one(&server, "CAA").await.verdict, Verdict::Wrong);
    let unsigned = AuditQuestion {
        dkim: Vec::new(),
        ..question()
    };
    let findings = look(&server, &unsigned).await;
    let dkim = findings
        .iter()
        .find(|finding| finding.kind == "DKIM")
        .unwrap();
    assert_eq!(dkim.verdict, Verdict::Missing);
}

#[tokio::test]
async fn records_for_dane_must_be_usable_and_signed() {
    let server = perfect();
    let name = "_25._tcp.mail.x.test";
    for (fields, data) in [
        ([1, 1, 1], &[7; 32][..]),
        ([3, 2, 1], &[7; 32]),
        ([3, 1, 1], &[7; 31]),
        ([3, 1, 2], &[7; 32]),
    ] {
        server.remove(name).tlsa("mail.x.test", 25, fields, data);
        let found = one(&server, "TLSA").await;
        assert_eq!(found.verdict, Verdict::Wrong, "{found:?}");
    }
    server
        .remove(name)
        .tlsa("mail.x.test", 25, [2, 0, 1], &[0xab; 32]);
    let found = one(&server, "TLSA").await;
    assert_eq!(found.verdict, Verdict::Good);
    assert_eq!(found.found, [format!("2 0 1 {}", "ab".repeat(32))]);
    server.forged(name);
    assert_eq!(one(&server, "TLSA").await.verdict, Verdict::Unclear);
    server
        .remove(name)
        .tlsa("mail.x.test", 25, [3, 1, 1], &[7; 32])
        .unsigned_zone("x.test");
    let found = one(&server, "TLSA").await;
    assert_eq!(found.verdict, Verdict::Wrong);
    assert!(found.advice.contains("not signed"));
    let dns = Dns::new(&DnsOptions {
        name_servers: vec![server.address()],
        ..DnsOptions::default()
    })
    .unwrap();
    let findings = audit(&dns, &question()).await;
    let found = findings.iter().find(|finding| finding.kind == "TLSA");
    assert_eq!(found.unwrap().verdict, Verdict::Unclear);
}
