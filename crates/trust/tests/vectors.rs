//! Published vectors for DKIM and ARC, over a real name server.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod common;

use std::collections::{BTreeMap, HashSet};

use common::Site;
use nightmail_testbed::corpus::{self, with_crlf};
use nightmail_testbed::dns::NameServer;
use nightmail_trust::{ArcOutcome, DkimOutcome};
use yaml_rust2::{Yaml, YamlLoader};

fn text(value: &Yaml) -> &str {
    value.as_str().unwrap_or_default()
}

/// The suite names some vectors twice; the second of a name gets another.
fn told_apart(source: &str) -> String {
    let mut seen = HashSet::new();
    let mut out = String::new();
    for line in source.lines() {
        let is_name = line.starts_with("  ") && !line.starts_with("   ") && line.ends_with(':');
        match is_name && !seen.insert(line) {
            true => out.push_str(&line.replace(':', "_again:")),
            false => out.push_str(line),
        }
        out.push('\n');
    }
    out
}

fn serve(records: &Yaml) -> NameServer {
    let server = NameServer::start();
    for (name, record) in records.as_hash().unwrap() {
        server.txt(text(name), text(record).trim_end());
    }
    server
}

#[tokio::test]
async fn arc_chains_are_judged_as_published() {
    let Some(source) = corpus::text("arc/arc-draft-validation-tests.yml") else {
        return;
    };
    let source = told_apart(&source);
    let mut failed = BTreeMap::new();
    let mut count = 0;
    for scenario in YamlLoader::load_from_str(&source).unwrap() {
        let site = Site::new(serve(&scenario["txt-records"]));
        for (name, test) in scenario["tests"].as_hash().unwrap() {
            let wanted = match text(&test["cv"]).trim().to_ascii_lowercase().as_str() {
                "pass" => ArcOutcome::Pass,
                "fail" => ArcOutcome::Fail,
                "none" => ArcOutcome::None,
                "" => ArcOutcome::Fail,
                other => panic!("{other}"),
            };
            count += 1;
            let message = with_crlf(text(&test["message"]).as_bytes());
            let arc = site.verify(&message).await.arc;
            if arc.outcome != wanted {
                failed.insert(text(name).to_owned(), (arc, wanted));
            }
        }
    }
    assert!(count > 100, "only {count} vectors");
    assert!(failed.is_empty(), "of {count}: {failed:#?}");
}

#[tokio::test]
async fn dkim_messages_are_judged_as_published() {
    let file = |name: &str| corpus::file(&format!("dkim/{name}"));
    let (Some(rfc), Some(exim), Some(gmail), Some(mbox)) = (
        file("rfc6376.signed.msg"),
        file("ed25519test2.msg"),
        file("test2.message"),
        file("message.mbox"),
    ) else {
        return;
    };
    let record = |name: &str| corpus::text(&format!("dkim/{name}")).unwrap();
    let server = NameServer::start();
    // RFC 8463, appendix A.2.
    let ed25519 = "v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=";
    server.txt("brisbane._domainkey.football.example.com", ed25519);
    let rsa = "v=DKIM1; k=rsa; p=MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDkHlOQoBTzWRiGs5V6NpP3idY6Wk08a5qhdR6wy5bdOKb2jLQiY/J16JYi0Qvx/byYzCNb3W91y3FutACDfzwQ/BC/e/8uBsCR+yz1Lxj+PL6lHvqMKrM3rG4hstT5QjvHO9PzoxZyVYLzBfO2EeC3Ip3G+2kryOTIKT+l/K4w3QIDAQAB";
    server.txt("test._domainkey.football.example.com", rsa);
    server.txt("sed._domainkey.test.ex", record("eximtest.dns").trim());
    let site = Site::new(server);
    let outcomes = async |message: &[u8]| {
        let verdict = site.verify(&with_crlf(message)).await;
        let each = verdict.dkim.iter();
        each.map(|found| (found.outcome, found.reason))
            .collect::<Vec<_>>()
    };
    let pass = (DkimOutcome::Pass, None);
    assert_eq!(outcomes(&rfc).await, [pass, pass]);
    assert_eq!(outcomes(&exim).await, [pass]);
    // The domains of these two publish their keys no more: what can be told is that the bodies are as signed.
    let no_key = (DkimOutcome::PermError, Some("no key"));
    assert_eq!(outcomes(&gmail).await, [no_key]);
    assert!(outcomes(&mbox).await.iter().all(|found| *found == no_key));
}

#[tokio::test]
async fn key_records_that_must_not_be_used_are_not() {
    let Some(signed) = corpus::file("dkim/rfc6376.signed.msg") else {
        return;
    };
    for (file, outcome) in [
        ("test.txt", DkimOutcome::Pass),
        ("badk.txt", DkimOutcome::PermError),
        ("badversion.txt", DkimOutcome::PermError),
        ("test_bad.txt", DkimOutcome::Fail),
        ("test_tlsrpt.txt", DkimOutcome::PermError),
    ] {
        let record = corpus::text(&format!("dkim/{file}")).unwrap();
        let server = NameServer::start();
        server.txt("test._domainkey.football.example.com", record.trim());
        let verdict = Site::new(server).verify(&with_crlf(&signed)).await;
        assert_eq!(
            verdict.dkim[1].outcome, outcome,
            "{file}: {:?}",
            verdict.dkim[1].reason
        );
    }
}
