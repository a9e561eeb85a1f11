//! swaks: every way of handing a message in.

use std::process;

use super::common::tools::{Done, has, run};
use super::common::{Service, Site, text};
use super::{inbox, only};

/// What swaks exits with when no recipient was taken.
const NO_RECIPIENTS: Option<i32> = Some(24);
/// What swaks exits with when it could not log in.
const NOT_LOGGED_IN: Option<i32> = Some(28);

fn swaks(site: &Site, service: Service, subject: &str, arguments: &[&str]) -> Done {
    let (host, port) = (site.host(), site.port(service).to_string());
    let mut all = vec![
        "--server",
        &host,
        "--port",
        &port,
        "--timeout",
        "50",
        "--ehlo",
        "client.test",
    ];
    all.extend(["--from", "sender@far.test", "--h-Subject", subject]);
    all.extend(arguments);
    run("swaks", &all)
}

#[test]
fn swaks_sends_plain_and_over_tls() {
    if !has("swaks") {
        return;
    }
    let mut site = Site::started("");
    let alice = ["--to", "alice@example.test"];
    swaks(&site, Service::Smtp, "sw-plain", &alice).ok();
    swaks(
        &site,
        Service::Smtp,
        "sw-starttls",
        &[&alice[..], &["--tls"]].concat(),
    )
    .ok();
    let plain = text(&only(&site, "alice", "sw-plain"));
    assert!(
        plain.starts_with("Return-Path: <sender@far.test>\r\n"),
        "{plain}"
    );
    assert!(plain.contains(" with ESMTP "), "{plain}");
    assert!(text(&only(&site, "alice", "sw-starttls")).contains(" with ESMTPS "));
    site.stop();
}

#[test]
fn swaks_submits_after_login_only() {
    if !has("swaks") {
        return;
    }
    let mut site = Site::started("");
    let to = [
        "--to",
        "bob@example.test",
        "--auth-user",
        "alice",
        "--auth-password",
    ];
    let login = |method, password| [&["--auth", method][..], &to, &[password]].concat();
    for (service, method, extra, with) in [
        (Service::Submission, "PLAIN", "--tls", "ESMTPSA"),
        (Service::Submission, "LOGIN", "--pipeline", "ESMTPA"),
        (Service::Submissions, "PLAIN", "--tlsc", "ESMTPSA"),
        (Service::Submissions, "LOGIN", "--tlsc", "ESMTPSA"),
    ] {
        let subject = format!("sw-{method}-{}", site.port(service));
        swaks(
            &site,
            service,
            &subject,
            &[&login(method, "demo")[..], &[extra]].concat(),
        )
        .ok();
        let received = text(&only(&site, "bob", &subject));
        assert!(received.contains(&format!(" with {with} ")), "{received}");
    }
    let wrong = swaks(
        &site,
        Service::Submission,
        "sw-wrong",
        &login("PLAIN", "wrong"),
    );
    assert_eq!(wrong.code, NOT_LOGGED_IN, "{}", wrong.all());
    let none = swaks(
        &site,
        Service::Submission,
        "sw-none",
        &["--to", "bob@example.test"],
    );
    assert_ne!(none.code, Some(0));
    assert!(none.all().contains(" 530 "), "{}", none.all());
    site.stop();
}

#[test]
fn swaks_is_told_who_is_unknown_and_where_mail_is_not_taken_for() {
    if !has("swaks") {
        return;
    }
    let mut site = Site::started("");
    for (to, reply) in [
        ("nobody@example.test", "550 5.1.1"),
        ("someone@elsewhere.test", "550 5.7.1"),
    ] {
        let refused = swaks(&site, Service::Smtp, "sw-no", &["--to", to]);
        assert_eq!(refused.code, NO_RECIPIENTS, "{}", refused.all());
        assert!(refused.all().contains(reply), "{}", refused.all());
    }
    let some = "alice@example.test,nobody@example.test,bob@example.test";
    swaks(&site, Service::Smtp, "sw-some", &["--to", some]).ok();
    only(&site, "alice", "sw-some");
    only(&site, "bob", "sw-some");
    assert_eq!(inbox(&site, "alice").len() + inbox(&site, "bob").len(), 2);
    site.stop();
}

#[test]
fn swaks_delivers_by_lmtp() {
    if !has("swaks") {
        return;
    }
    let mut site = Site::started("");
    let to = "alice@example.test,nobody@example.test,bob@example.test";
    let done = swaks(
        &site,
        Service::Lmtp,
        "sw-lmtp",
        &["--protocol", "LMTP", "--to", to],
    );
    assert!(done.all().contains("550 5.1.1"), "{}", done.all());
    assert!(text(&only(&site, "alice", "sw-lmtp")).contains(" with LMTP "));
    only(&site, "bob", "sw-lmtp");
    site.stop();
}

#[test]
fn swaks_sends_octets_above_127_and_five_megabytes_unchanged() {
    if !has("swaks") {
        return;
    }
    let mut site = Site::started("");
    let line = format!("{}\n", "0123456789abcdef".repeat(4));
    let large = format!(
        "Subject: sw-large\n\n{}",
        line.repeat(5 * 1024 * 1024 / line.len())
    );
    let eight = "Subject: sw-8bit\n\ngr\u{fc}\u{df}e \u{20ac} \u{fffd}\n".to_owned();
    for (subject, data) in [("sw-large", large), ("sw-8bit", eight)] {
        let path = site.dir().join(format!("{subject}-{}", process::id()));
        std::fs::write(&path, &data).unwrap();
        let from_file = format!("@{}", path.display());
        swaks(
            &site,
            Service::Smtp,
            subject,
            &[
                "--to",
                "alice@example.test",
                "--data",
                &from_file,
                "--hide-all",
            ],
        )
        .ok();
        let sent = data.replace('\n', "\r\n");
        let got = text(&only(&site, "alice", subject));
        assert!(
            got.trim_end().ends_with(sent.trim_end()),
            "{subject}: {} octets",
            got.len()
        );
    }
    site.stop();
}
