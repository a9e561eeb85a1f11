//! curl with its mail protocols.

use std::path::PathBuf;

use super::common::tools::{Done, has, run};
use super::common::{Imap, Service, Site, message};
use super::{alice, fill, inbox, only};

fn curl(arguments: &[&str]) -> Done {
    run(
        "curl",
        &[&["-sS", "--max-time", "55"][..], arguments].concat(),
    )
}

fn url(site: &Site, scheme: &str, service: Service, path: &str) -> String {
    format!("{scheme}://{}{path}", site.address(service))
}

fn file(site: &Site, name: &str, content: &[u8]) -> PathBuf {
    let path = site.dir().join(name);
    std::fs::write(&path, content).unwrap();
    path
}

#[test]
fn curl_sends() {
    if !has("curl") {
        return;
    }
    let mut site = Site::started("");
    let none: &[&str] = &[];
    let login: &[&str] = &["--user", "alice:demo", "-k"];
    let tls: &[&str] = &["--user", "alice:demo", "-k", "--ssl-reqd"];
    for (name, scheme, service, extra) in [
        ("plain", "smtp", Service::Smtp, none),
        ("login", "smtp", Service::Submission, login),
        ("starttls", "smtp", Service::Submission, tls),
        ("tls", "smtps", Service::Submissions, login),
    ] {
        let subject = format!("cu-{name}");
        let sent = message(&subject, "one\n.\n..two");
        let path = file(&site, name, &sent);
        let url = url(&site, scheme, service, "/client.test");
        let upload = [
            "--upload-file",
            path.to_str().unwrap(),
            "--mail-from",
            "alice@example.test",
        ];
        let to = [
            "--mail-rcpt",
            "alice@example.test",
            "--mail-rcpt",
            "bob@example.test",
        ];
        curl(&[&[url.as_str()][..], &upload, &to, extra].concat()).ok();
        for user in ["alice", "bob"] {
            assert!(
                only(&site, user, &subject).ends_with(&sent),
                "{user} {subject}"
            );
        }
    }
    let nobody = [
        "--mail-from",
        "",
        "--mail-rcpt",
        "nobody@example.test",
        "--upload-file",
    ];
    let path = file(&site, "x", b"x");
    let smtp = url(&site, "smtp", Service::Smtp, "");
    let refused = curl(&[&[smtp.as_str()][..], &nobody, &[path.to_str().unwrap()]].concat());
    assert_ne!(refused.code, Some(0));
    assert!(refused.all().contains("550"), "{}", refused.all());
    site.stop();
}

#[test]
fn curl_appends_and_fetches_over_imap() {
    if !has("curl") {
        return;
    }
    let mut site = Site::started("");
    for (name, scheme, service, extra) in [
        ("plain", "imap", Service::Imap, "-k"),
        ("starttls", "imap", Service::Imap, "--ssl-reqd"),
        ("tls", "imaps", Service::Imaps, "-k"),
    ] {
        let subject = format!("ci-{name}");
        let sent = message(&subject, "\u{fc}ber");
        let path = file(&site, name, &sent);
        let at = |path: &str| url(&site, scheme, service, path);
        let options = ["--user", "alice:demo", "-k", extra];
        let ask = |path: &str, more: &[&str]| {
            curl(&[&[at(path).as_str()][..], &options, more].concat()).ok()
        };
        ask("/INBOX", &["-T", path.to_str().unwrap()]);
        let found = ask(&format!("/INBOX?SUBJECT%20{subject}"), &[]).out();
        let number = found.trim().strip_prefix("* SEARCH ").unwrap().to_owned();
        assert_eq!(ask(&format!("/INBOX;MAILINDEX={number}"), &[]).stdout, sent);
        assert_eq!(ask(&format!("/INBOX;UID={number}"), &[]).stdout, sent);
        let body = ask(&format!("/INBOX;UID={number};SECTION=TEXT"), &[]);
        assert_eq!(body.out(), "\u{fc}ber\r\n");
        assert!(ask("/", &[]).out().contains("INBOX"));
    }
    site.stop();
}

#[test]
fn curl_sends_imap_commands_of_its_user() {
    if !has("curl") {
        return;
    }
    let mut site = Site::started("");
    fill(&site, "cc", 3);
    let at = |path: &str| url(&site, "imap", Service::Imap, path);
    let ask = |path: &str, command: &str| {
        curl(&[&at(path), "--user", "alice:demo", "-X", command])
            .ok()
            .out()
    };
    assert!(ask("/INBOX", "STORE 2 +FLAGS (\\Deleted)").contains("\\Deleted"));
    assert!(ask("/INBOX", "EXPUNGE").contains("* 2 EXPUNGE"));
    assert!(ask("", "STATUS INBOX (MESSAGES)").contains("MESSAGES 2"));
    ask("", "CREATE Box");
    ask("/INBOX", "COPY 1 Box");
    assert_eq!(alice(&site, "Box").bodies("").unwrap().len(), 1);
    let wrong = curl(&[&at("/INBOX"), "--user", "alice:wrong"]);
    assert_eq!(wrong.code, Some(67), "{}", wrong.all());
    site.stop();
}

#[test]
fn curl_lists_fetches_and_deletes_over_pop3() {
    if !has("curl") {
        return;
    }
    let mut site = Site::started("");
    let sent = fill(&site, "cp", 4);
    for (scheme, service, extra, left) in [
        ("pop3", Service::Pop3, "-k", 3),
        ("pop3", Service::Pop3, "--ssl-reqd", 2),
        ("pop3s", Service::Pop3s, "-k", 1),
    ] {
        let at = |path: &str| url(&site, scheme, service, path);
        let options = ["--user", "alice:demo", "-k", extra];
        let ask = |path: &str, more: &[&str]| {
            curl(&[&[at(path).as_str()][..], &options, more].concat()).ok()
        };
        assert_eq!(ask("/", &[]).out().lines().count(), left + 1);
        assert!(
            ask("/1", &[])
                .stdout
                .ends_with(&sent[sent.len() - left - 1])
        );
        assert!(ask("/", &["-X", "TOP 1 0"]).out().contains("Subject: cp-"));
        ask("/1", &["-X", "DELE", "-I"]);
        assert_eq!(inbox(&site, "alice").len(), left);
    }
    let mut imap = Imap::open(site.address(Service::Imap), "alice", "demo", "INBOX").unwrap();
    assert!(imap.bodies("").unwrap()[0].1.ends_with(&sent[3]));
    site.stop();
}
