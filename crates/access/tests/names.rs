//! Names of clients, lists and senders' domains over a name server on loopback, which also fails.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use nightmail_access::{ClientName, DnsListOptions, DnsLists, ReverseDns, SenderDomain, Subject};
use nightmail_dns::{Dns, DnsOptions};
use nightmail_testbed::dns::{NameServer, RecordType};

fn resolver(server: &NameServer) -> Dns {
    Dns::new(&DnsOptions {
        name_servers: vec![server.address()],
        timeout: Duration::from_millis(500),
        attempts: 1,
        ..DnsOptions::default()
    })
    .unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn ipv4(text: &str) -> Ipv4Addr {
    text.parse().unwrap()
}

fn confirmed(name: &str) -> ClientName {
    ClientName::Confirmed(name.into())
}

#[tokio::test]
async fn a_name_is_believed_when_it_leads_back() {
    let server = NameServer::start();
    let dns = resolver(&server);
    server
        .ptr(ip("192.0.2.1"), "mail.x.test")
        .a("mail.x.test", ipv4("192.0.2.1"))
        .ptr(ip("2001:db8::1"), "six.x.test")
        .aaaa("six.x.test", "2001:db8::1".parse().unwrap())
        .ptr(ip("192.0.2.2"), "liar.x.test")
        .a("liar.x.test", ipv4("198.51.100.1"))
        .ptr(ip("192.0.2.3"), "gone.x.test");
    for (client, name) in [
        ("192.0.2.1", confirmed("mail.x.test")),
        ("::ffff:192.0.2.1", confirmed("mail.x.test")),
        ("2001:db8::1", confirmed("six.x.test")),
        (
            "192.0.2.2",
            ClientName::Unconfirmed(Some("liar.x.test".into())),
        ),
        (
            "192.0.2.3",
            ClientName::Unconfirmed(Some("gone.x.test".into())),
        ),
        ("192.0.2.4", ClientName::None),
    ] {
        assert_eq!(
            ReverseDns::confirm(&dns, ip(client)).await,
            name,
            "{client}"
        );
    }
}

#[tokio::test]
async fn of_several_names_the_one_that_leads_back_counts() {
    let server = NameServer::start();
    let dns = resolver(&server);
    server.ptr(ip("192.0.2.1"), "bad\r\nname.test");
    for number in 0..8 {
        server.ptr(ip("192.0.2.1"), &format!("n{number}.x.test"));
        server.ptr(ip("192.0.2.2"), &format!("n{number}.x.test"));
    }
    server
        .ptr(ip("192.0.2.1"), "right.x.test")
        .a("right.x.test", ipv4("192.0.2.1"));
    let found = ReverseDns::confirm(&dns, ip("192.0.2.1")).await;
    assert_eq!(found, confirmed("right.x.test"));
    let found = ReverseDns::confirm(&dns, ip("192.0.2.2")).await;
    assert!(matches!(found, ClientName::Unconfirmed(Some(_))));
}

#[tokio::test]
async fn no_more_than_ten_names_are_looked_at() {
    let server = NameServer::start();
    let dns = resolver(&server);
    for number in 0..30 {
        let name = format!("n{number}.x.test");
        server.ptr(ip("192.0.2.1"), &name);
    }
    ReverseDns::confirm(&dns, ip("192.0.2.1")).await;
    let asked =
        (0..30).filter(|number| server.asked(&format!("n{number}.x.test"), RecordType::A) > 0);
    assert_eq!(asked.count(), 10);
}

#[tokio::test]
async fn a_name_server_that_does_not_say_is_not_a_missing_name() {
    let server = NameServer::start();
    let dns = resolver(&server);
    server
        .servfail("1.2.0.192.in-addr.arpa")
        .timeout("2.2.0.192.in-addr.arpa")
        .ptr(ip("192.0.2.3"), "slow.x.test")
        .timeout("slow.x.test")
        .ptr(ip("192.0.2.4"), "turns.x.test")
        .cname_loop("turns.x.test");
    for last in 1..=4 {
        let found = ReverseDns::confirm(&dns, ip(&format!("192.0.2.{last}"))).await;
        assert_eq!(found, ClientName::TempFail, "{last}");
    }
}

#[tokio::test]
async fn a_senders_domain_exists_with_an_mx_or_an_address() {
    let server = NameServer::start();
    let dns = resolver(&server);
    server
        .mx("mx.test", 10, "mail.mx.test")
        .a("a.test", ipv4("192.0.2.1"))
        .aaaa("aaaa.test", "2001:db8::1".parse().unwrap())
        .mx("null.test", 0, "")
        .txt("text.test", "nothing more")
        .servfail("bad.test")
        .servfail_of("half.test", RecordType::AAAA)
        .txt("half.test", "");
    for (domain, found) in [
        ("mx.test", SenderDomain::Exists),
        ("a.test", SenderDomain::Exists),
        ("aaaa.test", SenderDomain::Exists),
        ("[192.0.2.1]", SenderDomain::Exists),
        ("null.test", SenderDomain::NullMx),
        ("text.test", SenderDomain::Missing),
        ("none.test", SenderDomain::Missing),
        ("bad.test", SenderDomain::TempFail),
        ("half.test", SenderDomain::TempFail),
    ] {
        let looked = SenderDomain::look(&dns, &domain.parse().unwrap()).await;
        assert_eq!(looked, found, "{domain}");
    }
}

fn list(zone: &str, of: Subject, weight: i32, answers: &[&str]) -> DnsListOptions {
    DnsListOptions {
        zone: zone.parse().unwrap(),
        of,
        weight,
        answers: answers.iter().map(|net| net.parse().unwrap()).collect(),
    }
}

#[tokio::test]
async fn lists_add_their_weights_and_say_why() {
    let server = NameServer::start();
    let lists = DnsLists::new(
        resolver(&server),
        vec![
            list("bad.test", Subject::Client, 7, &[]),
            list("worse.test", Subject::Client, 5, &["127.0.0.4"]),
            list("good.test", Subject::Client, -3, &[]),
            list("names.test", Subject::Helo, 2, &[]),
        ],
    );
    server
        .a("1.2.0.192.bad.test", ipv4("127.0.0.2"))
        .txt("1.2.0.192.bad.test", "see\r\nhttps://bad.test/")
        .a("1.2.0.192.worse.test", ipv4("127.0.0.2"))
        .a("1.2.0.192.good.test", ipv4("127.0.0.2"))
        .txt("1.2.0.192.good.test", "a friend")
        .a("2.2.0.192.worse.test", ipv4("127.0.0.9"))
        .a("2.2.0.192.worse.test", ipv4("127.0.0.4"))
        .a("3.2.0.192.bad.test", ipv4("192.0.2.80"))
        .a(
            &format!("1.{}8.b.d.0.1.0.0.2.bad.test", "0.".repeat(23)),
            ipv4("127.0.0.3"),
        )
        .a("pc.x.test.names.test", ipv4("127.0.0.2"));
    let score = lists.score_client(ip("192.0.2.1")).await;
    assert_eq!(score.points, 4);
    let worst = score.worst().unwrap();
    assert_eq!(worst.zone.as_str(), "bad.test");
    assert_eq!(worst.text.as_deref(), Some("seehttps://bad.test/"));
    assert!(
        score
            .hits
            .iter()
            .all(|hit| hit.points > 0 || hit.text.is_none())
    );
    let score = lists.score_client(ip("192.0.2.2")).await;
    assert_eq!((score.points, score.hits[0].answer), (5, ipv4("127.0.0.4")));
    assert_eq!(score.hits[0].text, None);
    let wild = lists.score_client(ip("192.0.2.3")).await;
    assert_eq!(wild.points, 0, "an answer that no list gives");
    assert_eq!(lists.score_client(ip("2001:db8::1")).await.points, 7);
    assert_eq!(lists.score_client(ip("192.0.2.4")).await.points, 0);
    assert_eq!(lists.score_name(Subject::Helo, "PC.x.test").await.points, 2);
    assert_eq!(
        lists.score_name(Subject::Sender, "pc.x.test").await.points,
        0
    );
    let before = server.asked_in_all();
    for name in ["[192.0.2.1]", "pc", "a..b", ""] {
        assert_eq!(lists.score_name(Subject::Helo, name).await.points, 0);
    }
    assert_eq!(server.asked_in_all(), before, "nothing to ask about");
}

#[tokio::test]
async fn a_list_that_fails_gives_no_points_and_does_not_hold_others_up() {
    let server = NameServer::start();
    let lists = DnsLists::new(
        resolver(&server),
        vec![
            list("silent.test", Subject::Client, 7, &[]),
            list("broken.test", Subject::Client, 7, &[]),
            list("works.test", Subject::Client, 1, &[]),
        ],
    )
    .with_time_max(Duration::from_millis(300));
    server
        .timeout("1.2.0.192.silent.test")
        .servfail("1.2.0.192.broken.test")
        .a("1.2.0.192.works.test", ipv4("127.0.0.2"))
        .timeout_of("1.2.0.192.works.test", RecordType::TXT);
    let score = lists.score_client(ip("192.0.2.1")).await;
    assert_eq!((score.points, score.hits.len()), (1, 1));
    assert_eq!(score.hits[0].text, None);
}

#[tokio::test]
async fn a_list_is_tested_by_the_entries_it_must_and_must_not_have() {
    let server = NameServer::start();
    let lists = DnsLists::new(
        resolver(&server),
        vec![
            list("works.test", Subject::Client, 1, &[]),
            list("empty.test", Subject::Client, 1, &[]),
            list("all.test", Subject::Client, 1, &[]),
            list("broken.test", Subject::Client, 1, &[]),
            list("names.test", Subject::Sender, 1, &[]),
        ],
    );
    for zone in ["works.test", "all.test"] {
        server.a(&format!("2.0.0.127.{zone}"), ipv4("127.0.0.2"));
    }
    server
        .a("1.0.0.127.all.test", ipv4("127.0.0.2"))
        .servfail("2.0.0.127.broken.test")
        .a("test.names.test", ipv4("127.0.0.2"));
    let problems: Vec<_> = lists
        .test()
        .await
        .into_iter()
        .map(|test| test.problem)
        .collect();
    assert_eq!(problems[0], None);
    assert!(problems[1].as_ref().unwrap().contains("missing"));
    assert!(problems[2].as_ref().unwrap().contains("everything"));
    assert!(problems[3].as_ref().unwrap().contains("does not answer"));
    assert_eq!(problems[4], None);
}
