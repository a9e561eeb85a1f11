//! The server as a process: it starts, serves, is operated, stops and dies.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

mod program;

use std::net::TcpListener;

use program::{Configured, Running, deliver, fail, run, stderr, subjects};

fn site_with_ann() -> Configured {
    let site = Configured::new();
    site.admin(&["domain", "add", "x.test"]);
    site.admin(&["account", "add", "ann@x.test", "--password", "pw"]);
    site
}

#[test]
fn mail_outlives_a_stop_and_a_kill() {
    let site = site_with_ann();
    let server = site.serve();
    deliver(site.lmtp, "ann@x.test", "one");
    assert_eq!(server.stop().code(), Some(0));
    let server = site.serve();
    deliver(site.lmtp, "ann@x.test", "two");
    server.kill();
    let server = site.serve();
    assert_eq!(subjects(site.pop3, "ann@x.test", "pw"), ["one", "two"]);
    assert!(
        site.admin(&["check", "--read-messages"])
            .contains("0 problem(s)")
    );
    drop(server);
    assert!(
        site.admin(&["check", "--read-messages"])
            .contains("0 problem(s)")
    );
}

#[test]
fn a_maildrop_is_free_once_quit_is_answered() {
    let site = site_with_ann();
    let server = site.serve();
    deliver(site.lmtp, "ann@x.test", "one");
    for _ in 0..200 {
        assert_eq!(subjects(site.pop3, "ann@x.test", "pw"), ["one"]);
    }
    drop(server);
}

#[test]
fn a_running_server_obeys_its_operator_at_once() {
    let site = site_with_ann();
    let server = site.serve();
    site.admin(&["account", "add", "bob@x.test", "--password", "pw"]);
    site.admin(&["alias", "add", "all@x.test", "ann@x.test", "bob@x.test"]);
    deliver(site.lmtp, "all@x.test", "hello");
    assert_eq!(subjects(site.pop3, "bob@x.test", "pw"), ["hello"]);
    site.admin(&["account", "passwd", "bob@x.test", "--password", "new"]);
    assert_eq!(subjects(site.pop3, "bob@x.test", "new"), ["hello"]);
    assert!(
        site.admin(&["mailbox", "status", "bob@x.test", "INBOX"])
            .contains("messages       1")
    );
    let status = site.admin(&["status"]);
    assert!(
        status.contains("nightmail_deliveries_local_total"),
        "{status}"
    );
    site.admin(&["account", "remove", "bob@x.test"]);
    assert!(site.admin(&["check"]).contains("0 problem(s)"));
    assert_eq!(server.stop().code(), Some(0));
    assert!(!site.data().join("admin.sock").exists());
}

#[test]
fn a_store_that_a_server_holds_is_not_opened_twice() {
    let site = site_with_ann();
    let _server = site.serve();
    let config = site.config_path().display().to_string();
    let (code, said) = Running::start(&["serve", "--config", &config]).end();
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("in use by another process"), "{said}");
}

#[test]
fn an_occupied_port_is_named_with_what_to_do() {
    let site = site_with_ann();
    let _occupied = TcpListener::bind(("127.0.0.1", site.pop3)).unwrap();
    let config = site.config_path().display().to_string();
    let (code, said) = Running::start(&["serve", "--config", &config]).end();
    assert_eq!(code, 2, "{said}");
    assert!(
        said.contains(&site.pop3.to_string()) && said.contains("ss -ltnp"),
        "{said}"
    );
}

#[test]
fn serve_and_demo_say_what_they_need() {
    let (code, said) = fail(&["serve", "--data", "d"]);
    assert_eq!(code, 2);
    assert!(said.contains("config example"), "{said}");
    let output = run(&["serve", "--config", "/no/such/file"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("/no/such/file"));
    assert_eq!(fail(&["demo", "--config", "c"]).0, 2);
}

/// An offset by which all of the demo's ports are free just now.
fn free_offset() -> u16 {
    const USUAL: [u16; 9] = [2525, 2587, 2465, 2424, 2143, 2993, 2110, 2995, 2080];
    let start = 10_000 + u16::try_from(std::process::id() % 20_000).unwrap();
    let free = |offset: &u16| {
        USUAL
            .iter()
            .all(|port| TcpListener::bind(("127.0.0.1", port + offset)).is_ok())
    };
    (start..60_000).find(free).unwrap()
}

#[test]
fn the_demo_starts_again_on_what_it_left() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("demo");
    let path = data.display().to_string();
    for sent in [&["one"][..], &["one", "two"]] {
        let offset = free_offset();
        let text = offset.to_string();
        let server = Running::start(&["demo", "--data", &path, "--port-offset", &text]);
        server.wait_for_socket(&data);
        deliver(2424 + offset, "bob@example.test", sent.last().unwrap());
        assert_eq!(subjects(2110 + offset, "bob", "demo"), sent);
        assert_eq!(server.stop().code(), Some(0));
    }
}
