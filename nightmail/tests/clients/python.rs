//! smtplib, imaplib and poplib: the scripts in `tests/clients` judge for themselves.

use super::common::tools::{has, python};
use super::common::{Service, Site, text};
use super::{fill, inbox, only};

#[test]
fn smtplib_speaks_every_way_of_handing_mail_in() {
    if !has("python3") {
        return;
    }
    let mut site = Site::started("");
    let services = [
        Service::Smtp,
        Service::Submission,
        Service::Submissions,
        Service::Lmtp,
    ];
    let ports = services.map(|service| site.port(service).to_string());
    let host = site.host();
    let mut arguments = vec![host.as_str()];
    arguments.extend(ports.iter().map(String::as_str));
    python("smtp_client.py", &arguments).ok();
    assert!(text(&only(&site, "alice", "py-mta")).contains("one\r\n.\r\n..two\r\n"));
    for subject in ["py-some", "py-null", "py-tls", "py-lmtp"] {
        only(&site, "alice", subject);
    }
    for subject in ["py-plain", "py-auth_plain", "py-auth_login", "py-some"] {
        only(&site, "bob", subject);
    }
    assert!(only(&site, "alice", "py-8bit").ends_with(b"\r\n\r\ncaf\xe9 \xff\r\n"));
    let utf8 = "From: J\u{f6}rg <j\u{f6}rg@b\u{fc}cher.test>\r\n";
    let all: Vec<String> = inbox(&site, "alice")
        .iter()
        .map(|message| text(message))
        .collect();
    assert_eq!(
        all.iter().filter(|message| message.contains(utf8)).count(),
        1
    );
    assert_eq!(
        all.iter()
            .filter(|message| message.contains("Subject: py-pipe\r\n"))
            .count(),
        2
    );
    site.stop();
}

#[test]
fn imaplib_reads_searches_marks_and_moves() {
    if !has("python3") {
        return;
    }
    let mut site = Site::started("");
    let ports = [Service::Imap, Service::Imaps].map(|service| site.port(service).to_string());
    python("imap_client.py", &[&site.host(), &ports[0], &ports[1]]).ok();
    site.stop();
    site.start();
    let checked = site.admin(&["check", "--read-messages"]);
    assert_eq!(checked["problems"], serde_json::json!([]), "{checked}");
    site.stop();
}

#[test]
fn poplib_reads_and_removes() {
    if !has("python3") {
        return;
    }
    let mut site = Site::started("");
    fill(&site, "pop", 3);
    let ports = [Service::Pop3, Service::Pop3s].map(|service| site.port(service).to_string());
    python("pop3_client.py", &[&site.host(), &ports[0], &ports[1]]).ok();
    site.stop();
}
