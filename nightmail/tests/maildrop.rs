//! What POP3 keeps of an account: how often it may log in, how long mail stays, ids that came from another server.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod common;

use common::tools::private_file;
use common::{Pop3, Service, Site, Smtp};

fn deliver(site: &Site, number: usize) {
    let mut smtp = Smtp::connect(site.address(Service::Smtp)).unwrap();
    let text = format!(
        "Message-ID: <letter-{number}@far.test>\r\nSubject: letter {number}\r\n\r\ntext\r\n"
    );
    let reply = smtp
        .send("far@far.test", &["alice@example.test"], text.as_bytes())
        .unwrap();
    assert_eq!(reply.code, 250, "{reply:?}");
}

fn login(site: &Site) -> std::io::Result<Pop3> {
    Pop3::login(site.address(Service::Pop3), "alice", "demo")
}

/// The lines of a multi-line reply.
fn lines(pop3: &mut Pop3, command: &str) -> Vec<String> {
    let text = common::text(&pop3.read(command).unwrap());
    text.lines().map(str::to_owned).collect()
}

#[test]
fn an_account_waits_between_logins_and_knows_how_long_mail_stays() {
    let mut site = Site::started("[pop3]\nlogin_delay = \"1h\"\n");
    site.admin(&[
        "mailbox",
        "retention",
        "alice@example.test",
        "INBOX",
        "--days",
        "40",
    ]);
    let mut pop3 = login(&site).unwrap();
    let offered = lines(&mut pop3, "CAPA");
    for line in ["LOGIN-DELAY 3600", "EXPIRE 40", "UTF8 USER", "LANG"] {
        assert!(
            offered.iter().any(|offered| offered == line),
            "{line}: {offered:?}"
        );
    }
    pop3.say("QUIT").unwrap();
    let refused = login(&site).err().unwrap().to_string();
    assert!(refused.contains("[LOGIN-DELAY]"), "{refused}");
    // Another account is not held up.
    Pop3::login(site.address(Service::Pop3), "bob", "demo").unwrap();
    site.stop();
}

#[test]
fn unique_ids_come_along_from_another_server() {
    let mut site = Site::started("");
    for number in 1..=3 {
        deliver(&site, number);
    }
    let list = "# as the old server named them\nOLD-1 <letter-1@far.test>\nOLD-2 2\n\nOLD-9 <nobody@far.test>\n";
    let file = private_file(&site.dir().join("ids"), list);
    let import = [
        "mailbox",
        "import-unique-ids",
        "alice@example.test",
        file.to_str().unwrap(),
    ];
    let said = site.admin(&import);
    assert_eq!(said["imported"], 2, "{said}");
    assert_eq!(said["missing"], serde_json::json!(["<nobody@far.test>"]));
    let before = lines(&mut login(&site).unwrap(), "UIDL");
    assert_eq!(before[..2], ["1 OLD-1", "2 OLD-2"]);
    assert_eq!(
        before[2].len(),
        "3 ".len() + 16,
        "an id of this server: {before:?}"
    );

    // They stay for ever: over a restart, and when others go.
    site.stop();
    site.start();
    let mut pop3 = login(&site).unwrap();
    pop3.say("DELE 1").unwrap();
    pop3.say("QUIT").unwrap();
    let after = lines(&mut login(&site).unwrap(), "UIDL");
    assert_eq!(after[0], "1 OLD-2");
    assert_eq!(after[1][2..], before[2][2..]);
    site.stop();
}
