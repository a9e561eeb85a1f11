//! Reports to the domains that ask for them.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod common;

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use common::{NOW, Site};
use nightmail_core::{Address, Domain, Timestamp};
use nightmail_engine::{Engine, MemoryEngine};
use nightmail_testbed::dns::NameServer;
use nightmail_trust::{DmarcPolicy, ReportStore, Reporter};

const MESSAGE: &[u8] = b"From: <ann@a.test>\r\nTo: secret@b.test\r\nSubject: Hi\r\n\r\nHello\r\n";
const DAY_MILLIS: i64 = 86_400_000;

fn reporter() -> Reporter {
    Reporter {
        organization: "Here & <there>".to_owned(),
        from: Address::parse("reports@here.test").unwrap(),
        domain: Domain::parse("here.test").unwrap(),
        redact: false,
    }
}

fn site(record: &str) -> Site {
    let server = NameServer::start();
    server.txt("_dmarc.a.test", record);
    server.txt("a.test._report._dmarc.takes.test", "v=DMARC1");
    Site::new(server)
}

fn later() -> Timestamp {
    NOW.plus_millis(DAY_MILLIS)
}

/// The attached report of a message.
fn unpacked(message: &[u8]) -> String {
    let text = String::from_utf8(message.to_vec()).unwrap();
    let (_, part) = text
        .split_once("Content-Transfer-Encoding: base64\r\n\r\n")
        .unwrap();
    let (content, _) = part.split_once("\r\n--").unwrap();
    let packed = STANDARD.decode(content.replace("\r\n", "")).unwrap();
    let mut gunzip = Command::new("gzip")
        .arg("-dc")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    gunzip.stdin.take().unwrap().write_all(&packed).unwrap();
    String::from_utf8(gunzip.wait_with_output().unwrap().stdout).unwrap()
}

#[tokio::test]
async fn a_day_is_counted_told_and_forgotten() {
    let site = site(
        "v=DMARC1; p=reject; rua=mailto:a@a.test,mailto:t@takes.test,mailto:r@refuses.test,mailto:small@a.test!1k",
    );
    let engine: Arc<dyn Engine> = Arc::new(MemoryEngine::new());
    // Two nodes see mail of one kind, one of them of another.
    let stores = [ReportStore::new(engine.clone()), ReportStore::new(engine)];
    let seen = site.verify_from(MESSAGE, Some("x@e.test")).await;
    for store in &stores {
        for _ in 0..2 {
            store.record(&seen, DmarcPolicy::Reject).await.unwrap();
        }
        store.flush().await.unwrap();
    }
    let other = site.verify_from(MESSAGE, None).await;
    stores[0].record(&other, DmarcPolicy::None).await.unwrap();
    stores[0].flush().await.unwrap();

    assert!(stores[1].due(NOW, 10).await.unwrap().is_empty());
    let due = stores[1].due(later(), 10).await.unwrap();
    assert_eq!(due.len(), 1);
    assert_eq!(due[0].domain, "a.test");
    let reports = stores[1]
        .build(&due[0], &site.trust, &reporter(), later())
        .await
        .unwrap();
    let to: Vec<String> = reports.iter().map(|report| report.to.to_string()).collect();
    assert_eq!(to, ["a@a.test", "t@takes.test"]);
    let text = String::from_utf8(reports[0].message.clone()).unwrap();
    let day = i64::from(due[0].day) * 86_400;
    let end = day + 86_399;
    assert!(
        text.contains(&format!("filename=\"here.test!a.test!{day}!{end}.xml.gz\"")),
        "{text}"
    );
    assert!(
        text.contains("Subject: Report Domain: a.test\r\n\tSubmitter: here.test\r\n\tReport-ID: <")
    );
    let xml = unpacked(&reports[0].message);
    assert!(
        xml.contains("<org_name>Here &amp; &lt;there&gt;</org_name>"),
        "{xml}"
    );
    assert!(
        xml.contains("<count>4</count>") && xml.contains("<count>1</count>"),
        "{xml}"
    );
    assert!(xml.contains("<type>local_policy</type>"));
    assert!(xml.contains("<p>reject</p>") && xml.contains("<source_ip>192.0.2.1</source_ip>"));

    stores[1].done(&due[0]).await.unwrap();
    assert!(stores[0].due(later(), 10).await.unwrap().is_empty());
}

#[tokio::test]
async fn nothing_is_counted_for_domains_that_do_not_ask() {
    let site = site("v=DMARC1; p=reject");
    let store = ReportStore::new(Arc::new(MemoryEngine::new()));
    let seen = site.verify(MESSAGE).await;
    store.record(&seen, DmarcPolicy::Reject).await.unwrap();
    store.flush().await.unwrap();
    assert!(store.due(later(), 10).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_failure_is_told_to_who_asks_for_it() {
    let site = site("v=DMARC1; p=reject; ruf=mailto:f@a.test,mailto:r@refuses.test");
    let store = ReportStore::new(Arc::new(MemoryEngine::new()));
    let seen = site.verify_from(MESSAGE, Some("secret@e.test")).await;
    let open = reporter();
    let told = store
        .failure(&seen, DmarcPolicy::Reject, MESSAGE, &site.trust, &open)
        .await;
    assert_eq!(told.len(), 1);
    let text = String::from_utf8(told[0].message.clone()).unwrap();
    for line in [
        "Feedback-Type: auth-failure",
        "Auth-Failure: dmarc",
        "Source-IP: 192.0.2.1",
        "Reported-Domain: a.test",
        "Delivery-Result: reject",
        "Original-Mail-From: <secret@e.test>",
        "To: secret@b.test",
    ] {
        assert!(
            text.contains(&format!("\r\n{line}\r\n")),
            "{line} in {text}"
        );
    }
    assert!(!text.contains("Hello"));
    let discreet = Reporter {
        redact: true,
        ..open
    };
    let told = store
        .failure(&seen, DmarcPolicy::Reject, MESSAGE, &site.trust, &discreet)
        .await;
    let text = String::from_utf8(told[0].message.clone()).unwrap();
    assert!(
        !text.contains("secret") && text.contains("@e.test>"),
        "{text}"
    );
    // Nobody is told of bounces, which may be answers to reports.
    let bounce = site.verify(MESSAGE).await;
    let told = store
        .failure(
            &bounce,
            DmarcPolicy::Reject,
            MESSAGE,
            &site.trust,
            &discreet,
        )
        .await;
    assert!(told.is_empty());
}

#[tokio::test]
async fn what_cannot_be_written_now_is_written_later() {
    let site = site("v=DMARC1; p=reject; rua=mailto:a@a.test");
    let engine = Arc::new(MemoryEngine::new());
    let store = ReportStore::new(engine.clone());
    let seen = site.verify(MESSAGE).await;
    for _ in 0..3 {
        store.record(&seen, DmarcPolicy::Reject).await.unwrap();
        engine.fail_next(1);
        assert!(store.flush().await.is_err());
        store.flush().await.unwrap();
    }
    let due = store.due(later(), 10).await.unwrap();
    let reports = store
        .build(&due[0], &site.trust, &reporter(), later())
        .await
        .unwrap();
    assert!(unpacked(&reports[0].message).contains("<count>3</count>"));
}
