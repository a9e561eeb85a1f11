//! Customers who come to fetch the mail of their domains (RFC 2645), as the whole program serves them.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod common;

use std::net::SocketAddr;
use std::process::Command;

use common::site::own_addresses;
use common::tools::has;
use common::{Service, Site, Smtp, eventually, message, text};

/// A server whose customer is alice, with the domains customer.test and second.test.
struct World {
    site: Site,
    odmr: SocketAddr,
}

impl World {
    fn new() -> Self {
        let (ip, port) = own_addresses();
        let settings = format!(
            "[submission]\nsender_owned = false\n\
             [[listener]]\nprotocol = \"odmr\"\naddress = \"{ip}:{port}\"\nplaintext_auth = true\n\
             [[customer]]\naccount = \"alice@example.test\"\n\
             domains = [\"customer.test\", \"second.test\"]\n\
             [[destination]]\nmatch = [\"customer.test\", \"second.test\"]\non_request = true\n"
        );
        Self {
            site: Site::started(&settings),
            odmr: SocketAddr::from((ip, port)),
        }
    }

    /// Bob submits a message for a customer.
    fn submit(&self, subject: &str, to: &str) {
        let mut smtp = Smtp::connect(self.site.address(Service::Submission)).unwrap();
        // NUL bob NUL demo
        assert_eq!(smtp.say("AUTH PLAIN AGJvYgBkZW1v").unwrap().code, 235);
        let sent = message(subject, ".a line with a dot");
        let reply = smtp.send("bob@example.test", &[to], &sent).unwrap();
        assert_eq!(reply.code, 250, "{reply:?}");
    }

    /// A session in which alice has logged in to fetch mail.
    fn customer(&self) -> Smtp {
        let mut smtp = Smtp::connect(self.odmr).unwrap();
        // NUL alice NUL demo
        assert_eq!(smtp.say("AUTH PLAIN AGFsaWNlAGRlbW8=").unwrap().code, 235);
        smtp
    }

    fn waiting(&self) -> String {
        self.site.admin(&["queue", "list"]).to_string()
    }
}

/// The other end of a connection that has been turned around.
struct Customer {
    smtp: Smtp,
    offers: &'static str,
}

impl Customer {
    fn reply(&mut self, reply: &str) {
        let line = format!("{reply}\r\n");
        self.smtp.lines.write(line.as_bytes()).unwrap();
    }

    /// Greets, and takes every message until the server says QUIT or its connection ends.
    fn take_all(mut self) -> Vec<String> {
        self.reply("220 customer.test");
        let mut messages = Vec::new();
        while let Some(content) = self.take_one() {
            messages.push(content);
            self.reply("250 2.0.0 taken");
        }
        messages
    }

    /// Answers commands until the end of a message, which is not answered.
    fn take_one(&mut self) -> Option<String> {
        loop {
            let line = text(&self.smtp.lines.line().ok()?);
            let verb = line.split(' ').next().unwrap_or_default();
            match verb {
                "EHLO" => {
                    let offers = format!("250-customer.test\r\n{}", self.offers);
                    self.reply(&offers);
                }
                "MAIL" | "RCPT" | "RSET" => self.reply("250 ok"),
                "BDAT" => {
                    assert!(line.ends_with(" LAST"), "{line}");
                    let octets = line.split(' ').nth(1).unwrap().parse().unwrap();
                    return Some(text(&self.smtp.lines.octets(octets).unwrap()));
                }
                "DATA" => {
                    self.reply("354 go");
                    return Some(self.content());
                }
                "QUIT" => {
                    self.reply("221 bye");
                    return None;
                }
                _ => panic!("{line}"),
            }
        }
    }

    fn content(&mut self) -> String {
        let mut content = String::new();
        loop {
            let line = text(&self.smtp.lines.line().unwrap());
            match line.strip_prefix('.') {
                Some("") => return content,
                Some(rest) => content.push_str(rest),
                None => content.push_str(&line),
            }
            content.push_str("\r\n");
        }
    }
}

const CHUNKS: &str = "250-PIPELINING\r\n250 CHUNKING";
const PLAIN: &str = "250 8BITMIME";

fn subjects(messages: &[String]) -> Vec<&str> {
    let mut subjects: Vec<&str> = messages
        .iter()
        .map(|message| {
            let (_, rest) = message.split_once("Subject: ").unwrap();
            rest.split("\r\n").next().unwrap()
        })
        .collect();
    subjects.sort_unstable();
    subjects
}

#[test]
fn a_customer_fetches_the_mail_of_its_domains() {
    let world = World::new();
    for offers in [CHUNKS, PLAIN] {
        for (subject, to) in [
            ("one", "ann@customer.test"),
            ("two", "ben@customer.test"),
            ("three", "ann@second.test"),
        ] {
            world.submit(subject, to);
        }
        let mut smtp = world.customer();
        assert_eq!(smtp.say("ATRN customer.test").unwrap().code, 250);
        let got = Customer { smtp, offers }.take_all();
        assert_eq!(subjects(&got), ["one", "two"]);
        assert!(got[0].contains("\r\n.a line with a dot\r\n"), "{}", got[0]);
        let mut smtp = world.customer();
        assert_eq!(smtp.say("ATRN").unwrap().code, 250);
        let got = Customer { smtp, offers }.take_all();
        assert_eq!(subjects(&got), ["three"]);
        eventually("nothing waits", || {
            (!world.waiting().contains("second.test")).then_some(())
        });
        assert_eq!(world.customer().say("ATRN").unwrap().code, 453);
    }
}

#[test]
fn who_may_not_fetch_is_told_so() {
    let world = World::new();
    world.submit("one", "ann@customer.test");
    let mut smtp = Smtp::connect(world.odmr).unwrap();
    for (command, code) in [
        ("ATRN customer.test", 530),
        // NUL bob NUL demo
        ("AUTH PLAIN AGJvYgBkZW1v", 235),
        ("ATRN customer.test", 450),
        ("ATRN", 450),
        ("MAIL FROM:<bob@example.test>", 502),
        ("ATRN a b", 501),
        ("QUIT", 221),
    ] {
        assert_eq!(smtp.say(command).unwrap().code, code, "{command}");
    }
    let mut smtp = world.customer();
    let reply = smtp.say("ATRN customer.test,other.test").unwrap();
    assert_eq!(reply.code, 450);
    assert!(world.waiting().contains("customer.test"));
    let mut smtp = Smtp::connect(world.site.address(Service::Smtp)).unwrap();
    assert_eq!(smtp.say("ATRN customer.test").unwrap().code, 502);
}

#[test]
fn mail_that_a_customer_does_not_confirm_waits_for_its_next_call() {
    let world = World::new();
    world.submit("one", "ann@customer.test");
    let mut smtp = world.customer();
    assert_eq!(smtp.say("ATRN").unwrap().code, 250);
    let offers = CHUNKS;
    let mut gone = Customer { smtp, offers };
    gone.reply("220 customer.test");
    assert!(gone.take_one().is_some());
    drop(gone);
    assert!(world.waiting().contains("customer.test"));
    let got = eventually("the message is there for the next call", || {
        let mut smtp = world.customer();
        let turned = smtp.say("ATRN").unwrap().code == 250;
        let got = turned.then(|| Customer { smtp, offers }.take_all())?;
        (!got.is_empty()).then_some(got)
    });
    assert_eq!(subjects(&got), ["one"]);
}

#[test]
fn mail_that_has_only_just_come_is_fetched() {
    let world = World::new();
    for number in 0..20 {
        world.submit(&number.to_string(), "ann@customer.test");
        let mut smtp = world.customer();
        assert_eq!(smtp.say("ATRN").unwrap().code, 250);
        let got = Customer {
            smtp,
            offers: CHUNKS,
        };
        assert_eq!(subjects(&got.take_all()), [number.to_string()]);
    }
}

/// Fetches over TLS: prints the content of the first message.
const OVER_TLS: &str = r#"
import base64, socket, ssl, sys
sock = socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=60)
def reply(f):
    while True:
        line = f.readline().decode()
        if line[3:4] != '-':
            return line
f = sock.makefile('rwb', buffering=0)
reply(f)
for command in ('EHLO c.test', 'STARTTLS'):
    f.write(command.encode() + b'\r\n')
    assert reply(f)[0] == '2'
context = ssl.create_default_context()
context.check_hostname = False
context.verify_mode = ssl.CERT_NONE
f = context.wrap_socket(sock).makefile('rwb', buffering=0)
login = base64.b64encode(b'\0alice\0demo').decode()
for command in ('EHLO c.test', 'AUTH PLAIN ' + login, 'ATRN customer.test'):
    f.write(command.encode() + b'\r\n')
    assert reply(f)[0] == '2', command
f.write(b'220 customer.test\r\n')
for line in iter(f.readline, b''):
    verb = line[:4].upper()
    if verb == b'DATA':
        f.write(b'354 go\r\n')
        for line in iter(f.readline, b'.\r\n'):
            sys.stdout.write(line.decode())
    f.write(b'221 bye\r\n' if verb == b'QUIT' else b'250 ok\r\n')
    if verb == b'QUIT':
        break
"#;

#[test]
fn a_connection_turns_around_under_tls() {
    if !has("python3") {
        return;
    }
    let world = World::new();
    world.submit("hidden", "ann@customer.test");
    let ran = Command::new("python3")
        .args(["-c", OVER_TLS, &world.odmr.ip().to_string()])
        .arg(world.odmr.port().to_string())
        .output()
        .unwrap();
    assert!(ran.status.success(), "{}", text(&ran.stderr));
    assert!(text(&ran.stdout).contains("Subject: hidden"));
    eventually("nothing waits", || {
        (!world.waiting().contains("customer.test")).then_some(())
    });
}
