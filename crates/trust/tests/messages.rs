//! Messages as a site meets them: signed here and verified there, forwarded, forged.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod common;

use std::io::Write as _;
use std::net::Ipv4Addr;
use std::process::{Command, Stdio};

use common::{NOW, Site};
use nightmail_core::Domain;
use nightmail_testbed::dns::NameServer;
use nightmail_trust::{
    ArcOutcome, DkimOutcome, DmarcPolicy, DmarcResult, HEADER_OCTETS_MAX, KeyAlgorithm, Sealer,
    Signer, SigningKey, SpfResult, TrustOptions,
};

const MESSAGE: &str = "From: Ann <ann@a.test>\r\nTo: bob@b.test\r\nSubject: one\r\n two\r\n\
    Date: Sun, 22 Nov 2026 16:22:00 +0000\r\nMessage-ID: <1@a.test>\r\n\r\nHello  there \r\n\r\n\r\n";

fn keys(domain: &str) -> Vec<SigningKey> {
    [
        ("rsa", KeyAlgorithm::Rsa2048),
        ("ed", KeyAlgorithm::Ed25519),
    ]
    .map(|(selector, algorithm)| {
        SigningKey::generate(Domain::parse(domain).unwrap(), selector, algorithm).unwrap()
    })
    .to_vec()
}

fn publish(server: &NameServer, keys: &[SigningKey]) {
    for key in keys {
        let (name, text) = key.dns_record().unwrap();
        server.txt(&name, &text);
    }
}

fn signed(site: &Site, keys: &[SigningKey], extra: &str, message: &str) -> String {
    let signer = Signer::new(keys).unwrap();
    let inspected = site.inspect(message.as_bytes());
    let fields = signer.sign(&inspected, extra.as_bytes(), NOW);
    format!("{}{extra}{message}", String::from_utf8(fields).unwrap())
}

/// A site, the keys of a.test, and what their owner signed.
fn signed_by_a(options: TrustOptions) -> (Site, String) {
    let server = NameServer::start();
    let keys = keys("a.test");
    publish(&server, &keys);
    let site = Site::with(server, options);
    let message = signed(&site, &keys, "Reply-To: c@a.test\r\n", MESSAGE);
    (site, message)
}

fn outcomes(verdict: &nightmail_trust::Verdict) -> Vec<DkimOutcome> {
    verdict.dkim.iter().map(|found| found.outcome).collect()
}

#[tokio::test]
async fn what_we_sign_with_both_kinds_of_keys_holds() {
    let (site, message) = signed_by_a(TrustOptions::default());
    assert!(message.lines().all(|line| line.len() <= 80), "{message}");
    let verdict = site.verify(message.as_bytes()).await;
    assert_eq!(
        outcomes(&verdict),
        [DkimOutcome::Pass; 2],
        "{:?}",
        verdict.dkim
    );
    // White space changes on the way, and lines are added in front.
    let changed = message
        .replace("one\r\n two", "one  two")
        .replace("Hello  there \r\n", "Hello there\r\n");
    let changed = format!("Received: by x\r\n{changed}");
    assert_eq!(
        outcomes(&site.verify(changed.as_bytes()).await),
        [DkimOutcome::Pass; 2]
    );
}

#[tokio::test]
async fn whatever_is_changed_breaks_the_signatures() {
    let (site, message) = signed_by_a(TrustOptions::default());
    for changed in [
        message.replace("Hello", "Hallo"),
        message.replace("Subject: one", "Subject: two"),
        message.replace("Reply-To: c@", "Reply-To: d@"),
        message.replace("To: bob@b.test\r\n", ""),
        // A second author, above or below the first.
        format!("From: eve@e.test\r\n{message}"),
        message.replacen("\r\nTo:", "\r\nFrom: eve@e.test\r\nTo:", 1),
        format!("{message}more\r\n"),
    ] {
        let verdict = site.verify(changed.as_bytes()).await;
        assert_eq!(outcomes(&verdict), [DkimOutcome::Fail; 2], "{changed}");
        assert!(verdict.tags().contains(&"dkim-fail"));
    }
}

#[tokio::test]
async fn a_length_that_was_not_signed_counts_for_nothing() {
    let (site, message) = signed_by_a(TrustOptions::default());
    let partly = message.replace("c=relaxed/relaxed;", "c=relaxed/relaxed; l=5;");
    assert_eq!(
        outcomes(&site.verify(partly.as_bytes()).await)[0],
        DkimOutcome::Fail
    );
    let long = message.replace("c=relaxed/relaxed;", "c=relaxed/relaxed; l=5000;");
    let found = site.verify(long.as_bytes()).await;
    assert_eq!(
        found.dkim[0].reason,
        Some("body shorter than what was signed")
    );
}

#[tokio::test]
async fn only_so_many_signatures_are_looked_at() {
    let options = TrustOptions {
        signatures_max: 1,
        ..TrustOptions::default()
    };
    let (site, message) = signed_by_a(options);
    assert_eq!(
        outcomes(&site.verify(message.as_bytes()).await),
        [DkimOutcome::Pass]
    );
}

#[tokio::test]
async fn a_key_that_cannot_be_looked_up_now_is_no_failure() {
    let (site, message) = signed_by_a(TrustOptions::default());
    site.server.txt("_dmarc.a.test", "v=DMARC1; p=reject");
    site.server
        .servfail("rsa._domainkey.a.test")
        .timeout("ed._domainkey.a.test");
    let verdict = site.verify(message.as_bytes()).await;
    assert_eq!(outcomes(&verdict), [DkimOutcome::TempError; 2]);
    assert_eq!(verdict.dmarc.result, DmarcResult::TempError);
    assert_eq!(verdict.disposition(), DmarcPolicy::None);
    assert!(!verdict.tags().contains(&"dkim-fail"));
}

#[tokio::test]
async fn a_header_too_long_is_not_believed() {
    let (site, message) = signed_by_a(TrustOptions::default());
    site.server.txt("_dmarc.a.test", "v=DMARC1; p=reject");
    let field = format!("X: {}\r\n", "x".repeat(900));
    let long = field.repeat(HEADER_OCTETS_MAX / field.len() + 1);
    let (header, body) = message.split_once("\r\n\r\n").unwrap();
    let message = format!("{header}\r\n{long}\r\n{body}");
    let verdict = site.verify(message.as_bytes()).await;
    assert!(verdict.header_too_long && verdict.dkim.is_empty());
    assert_eq!(verdict.disposition(), DmarcPolicy::Reject);
    assert!(verdict.tags().contains(&"header-too-long"));
}

#[tokio::test]
async fn dmarc_asks_for_a_pass_of_the_authors_organization() {
    let server = NameServer::start();
    server
        .txt("a.test", "v=spf1 ip4:192.0.2.1 -all")
        .txt("x.a.test", "v=spf1 ip4:192.0.2.1 -all");
    server.txt("e.test", "v=spf1 ip4:192.0.2.1 -all");
    server.txt("_dmarc.a.test", "v=DMARC1; p=reject; sp=quarantine");
    server.txt("_dmarc.strict.test", "v=DMARC1; p=reject; aspf=s");
    server.txt("x.strict.test", "v=spf1 ip4:192.0.2.1 -all");
    server
        .txt("_dmarc.slow.test", "v=DMARC1; p=reject")
        .servfail("_dmarc.down.test");
    server.timeout("slow.test");
    let site = Site::new(server);
    for (from, sender, result, disposition) in [
        (
            "a@a.test",
            Some("a@a.test"),
            DmarcResult::Pass,
            DmarcPolicy::None,
        ),
        (
            "a@a.test",
            Some("a@x.a.test"),
            DmarcResult::Pass,
            DmarcPolicy::None,
        ),
        (
            "a@a.test",
            Some("e@e.test"),
            DmarcResult::Fail,
            DmarcPolicy::Reject,
        ),
        (
            "a@sub.a.test",
            Some("e@e.test"),
            DmarcResult::Fail,
            DmarcPolicy::Quarantine,
        ),
        (
            "a@strict.test",
            Some("a@x.strict.test"),
            DmarcResult::Fail,
            DmarcPolicy::Reject,
        ),
        (
            "a@slow.test",
            Some("a@slow.test"),
            DmarcResult::TempError,
            DmarcPolicy::None,
        ),
        (
            "a@down.test",
            Some("a@a.test"),
            DmarcResult::TempError,
            DmarcPolicy::None,
        ),
        (
            "a@none.test",
            Some("e@e.test"),
            DmarcResult::None,
            DmarcPolicy::None,
        ),
        (
            "a@a.test, e@e.test",
            Some("e@e.test"),
            DmarcResult::Fail,
            DmarcPolicy::Reject,
        ),
        (
            "\"a@e.test\" <a@A.test>",
            Some("e@e.test"),
            DmarcResult::Fail,
            DmarcPolicy::Reject,
        ),
        ("nobody", None, DmarcResult::PermError, DmarcPolicy::None),
    ] {
        let message = format!("From: {from}\r\n\r\nHi\r\n");
        let verdict = site.verify_from(message.as_bytes(), sender).await;
        assert_eq!(verdict.dmarc.result, result, "{from} {sender:?}");
        assert_eq!(verdict.disposition(), disposition, "{from} {sender:?}");
    }
    let twice = b"From: a@a.test\r\nFrom: e@e.test\r\n\r\n";
    let verdict = site.verify_from(twice, Some("e@e.test")).await;
    assert!(verdict.tags().contains(&"from-several"));
    assert_eq!(verdict.disposition(), DmarcPolicy::Reject);
    let verdict = site.verify(b"To: a@a.test\r\n\r\n").await;
    assert!(verdict.tags().contains(&"from-missing"));
    // What SPF holds for is only one of the authors that somebody may see.
    let long = format!(
        "From: e@e.test\r\nX: {}\r\nFrom: a@a.test\r\n\r\n",
        "x".repeat(300_000)
    );
    let many = format!("From: {}a@a.test\r\n\r\n", "e@e.test, ".repeat(101));
    let two = "From: <e@e.test> <a@a.test>\r\n\r\n";
    let bare = "From: e@e.test\r\nX: a\rFrom: a@a.test\r\n\r\n";
    for message in [long.as_str(), &many, two, bare] {
        let verdict = site.verify_from(message.as_bytes(), Some("e@e.test")).await;
        assert_eq!(verdict.dmarc.result, DmarcResult::PermError);
        assert!(verdict.dmarc.author_hidden);
        assert!(verdict.tags().contains(&"from-hidden"));
    }
}

#[tokio::test]
async fn a_policy_holds_for_its_percentage() {
    let server = NameServer::start();
    server.txt("_dmarc.a.test", "v=DMARC1; p=reject; pct=0");
    let site = Site::new(server);
    let verdict = site.verify(MESSAGE.as_bytes()).await;
    assert_eq!(verdict.dmarc.policy, DmarcPolicy::Reject);
    assert_eq!(verdict.disposition(), DmarcPolicy::Quarantine);
    assert!(verdict.dmarc.sampled_out);
}

#[tokio::test]
async fn the_field_says_what_was_found() {
    let (site, message) = signed_by_a(TrustOptions::default());
    site.server.txt("_dmarc.a.test", "v=DMARC1; p=reject");
    site.server.txt("b.test", "v=spf1 -all");
    let sender = "\"x;\\\" spf=pass y\"@b.test";
    let verdict = site.verify_from(message.as_bytes(), Some(sender)).await;
    assert_eq!(verdict.spf.result, SpfResult::Fail);
    let field = String::from_utf8(verdict.authentication_results()).unwrap();
    let lines: Vec<&str> = field.split_terminator("\r\n").collect();
    assert_eq!(lines[0], "Authentication-Results: mx.here.test;");
    assert!(
        lines[1].starts_with("\tspf=fail smtp.mailfrom=\"\\\"x;"),
        "{field}"
    );
    assert!(
        lines[1..]
            .iter()
            .all(|line| line.starts_with('\t') && line.len() < 100)
    );
    let unfolded = field.replace("\r\n\t", " ");
    assert!(
        unfolded.contains("; dkim=pass header.d=a.test header.s=rsa header.a=rsa-sha256 header.b=")
    );
    assert!(
        unfolded.contains("; dmarc=pass (p=reject dis=none) header.from=a.test policy.dmarc=none")
    );
    assert_eq!(verdict.tags(), ["spf-fail"]);
}

#[tokio::test]
async fn a_trusted_sealer_is_believed_where_dmarc_fails() {
    let options = TrustOptions {
        arc_trusted: vec![Domain::parse("list.test").unwrap()],
        ..TrustOptions::default()
    };
    let (site, message) = signed_by_a(options);
    site.server.txt("_dmarc.a.test", "v=DMARC1; p=reject");
    for (sealer, trusted) in [("list.test", true), ("other.test", false)] {
        let keys = keys(sealer);
        publish(&site.server, &keys);
        let seen = site.verify(message.as_bytes()).await;
        assert_eq!(seen.dmarc.result, DmarcResult::Pass);
        // The list changes the message, then seals what it sends.
        let changed = message.replace("Subject: one", "Subject: [list] one");
        let set =
            Sealer::new(&keys[0])
                .unwrap()
                .seal(&site.inspect(changed.as_bytes()), &seen, NOW);
        let forwarded = format!("{}{changed}", String::from_utf8(set).unwrap());
        let verdict = site.verify(forwarded.as_bytes()).await;
        assert_eq!(verdict.arc.outcome, ArcOutcome::Pass, "{:?}", verdict.arc);
        assert_eq!(verdict.dmarc.result, DmarcResult::Fail);
        assert_eq!(verdict.dmarc.trusted_arc, trusted);
        let disposition = if trusted {
            DmarcPolicy::None
        } else {
            DmarcPolicy::Reject
        };
        assert_eq!(verdict.disposition(), disposition);
    }
}

#[tokio::test]
async fn a_chain_grows_and_breaks_for_good() {
    let (site, message) = signed_by_a(TrustOptions::default());
    let keys = keys("list.test");
    publish(&site.server, &keys);
    let sealer = Sealer::new(&keys[1]).unwrap();
    let mut chained = message;
    for sets in 1..=3 {
        let verdict = site.verify(chained.as_bytes()).await;
        let set = sealer.seal(&site.inspect(chained.as_bytes()), &verdict, NOW);
        chained = format!("{}{chained}", String::from_utf8(set).unwrap());
        let verdict = site.verify(chained.as_bytes()).await;
        assert_eq!(
            (verdict.arc.outcome, verdict.arc.sets),
            (ArcOutcome::Pass, sets)
        );
    }
    let broken = chained.replace("Hello", "Hallo");
    let verdict = site.verify(broken.as_bytes()).await;
    assert_eq!(verdict.arc.outcome, ArcOutcome::Fail);
    let set = sealer.seal(&site.inspect(broken.as_bytes()), &verdict, NOW);
    let closed = format!("{}{broken}", String::from_utf8(set).unwrap());
    assert!(closed.contains("cv=fail"));
    let verdict = site.verify(closed.as_bytes()).await;
    assert!(verdict.arc.is_closed);
    assert!(
        sealer
            .seal(&site.inspect(closed.as_bytes()), &verdict, NOW)
            .is_empty()
    );
}

#[tokio::test]
async fn spf_is_asked_of_the_helo_name_where_there_is_no_sender() {
    let server = NameServer::start();
    server
        .txt("client.test", "v=spf1 a -all")
        .a("client.test", Ipv4Addr::new(192, 0, 2, 1));
    let site = Site::new(server);
    let verdict = site.verify(MESSAGE.as_bytes()).await;
    assert_eq!(verdict.spf.result, SpfResult::Pass);
    let field = String::from_utf8(verdict.authentication_results()).unwrap();
    assert!(field.contains("spf=pass smtp.helo=client.test"), "{field}");
}

#[test]
fn debug_does_not_show_a_private_key() {
    let key = SigningKey::generate(Domain::parse("a.test").unwrap(), "s", KeyAlgorithm::Ed25519);
    let key = key.unwrap();
    let shown = format!("{key:?}");
    assert!(
        shown.contains("a.test") && !shown.contains("pkcs8"),
        "{shown}"
    );
    let other = SigningKey {
        algorithm: KeyAlgorithm::Rsa2048,
        ..key
    };
    assert!(Signer::new(&[other]).is_err());
}

/// dkimpy, where it is installed, agrees with what we sign.
#[tokio::test]
async fn another_implementation_verifies_what_we_sign() {
    let script = "import sys, dkim\n\
        records = dict(line.split(' ', 1) for line in open(sys.argv[1]).read().splitlines())\n\
        find = lambda name, timeout=5: records[name.decode().rstrip('.')].encode()\n\
        message = sys.stdin.buffer.read()\n\
        found = dkim.DKIM(message)\n\
        print([found.verify(idx=i, dnsfunc=find) for i in (0, 1)])\n";
    let python =
        std::env::var("NIGHTMAIL_DKIMPY").unwrap_or_else(|_| "/usr/bin/python3".to_owned());
    let known = Command::new(&python)
        .args(["-c", "import dkim, nacl"])
        .output();
    if !known.is_ok_and(|output| output.status.success()) {
        return nightmail_testbed::programs::skip(
            "dkimpy is not installed (NIGHTMAIL_DKIMPY names a Python that has it)",
        );
    }
    let site = Site::new(NameServer::start());
    let keys = keys("a.test");
    let message = signed(&site, &keys, "", MESSAGE);
    let records = keys.iter().map(|key| key.dns_record().unwrap());
    let records: String = records
        .map(|(name, text)| format!("{name} {text}\n"))
        .collect();
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(records.as_bytes()).unwrap();
    let mut child = Command::new(&python)
        .args(["-c", script])
        .arg(file.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(message.as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(
        String::from_utf8_lossy(&output.stdout).trim(),
        "[True, True]"
    );
}
