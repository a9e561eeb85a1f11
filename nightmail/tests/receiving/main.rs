//! Mail from other sites and from users at the gate of the running program: what is let in, what is refused, and what
//! the header then says.
//!
//! Clients pose as hosts of the Internet by XCLIENT; names are answered by a name server of the test.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

#[path = "../common/mod.rs"]
mod common;

mod access;
mod checks;
mod esmtp;
mod pace;
mod submission;
mod trust;

use std::net::IpAddr;

use common::dns::NameServer;
use common::line::Lines;
use common::smtp::Reply;
use common::{Pop3, Service, Site, Smtp, message, text};

/// Every check off; tests turn on what they are about.
const QUIET: [(&str, &str); 8] = [
    ("early_talker", "\"off\""),
    ("reverse_dns", "\"off\""),
    ("helo", "\"off\""),
    ("sender_domain", "\"off\""),
    ("tarpit_step", "\"0s\""),
    ("unknown_recipients_per_hour", "0"),
    ("connections_per_minute", "0"),
    ("xclient_from", "[\"127.0.0.0/8\"]"),
];
const QUIET_TRUST: [(&str, &str); 4] = [
    ("spf", "\"off\""),
    ("dkim", "false"),
    ("dmarc", "\"off\""),
    ("arc", "false"),
];

/// A server with a name server.
struct World {
    site: Site,
    dns: NameServer,
}

impl World {
    /// A server where the keys of `receiving` and `authentication` are as given, all other checks are off, and `rest`
    /// stands behind.
    fn new(receiving: &[(&str, &str)], authentication: &[(&str, &str)], rest: &str) -> Self {
        let dns = NameServer::start();
        let section = |quiet: &[(&str, &str)], given: &[(&str, &str)]| -> String {
            let others = quiet
                .iter()
                .filter(|(key, _)| given.iter().all(|(name, _)| name != key));
            let all = others.chain(given);
            all.map(|(key, value)| format!("{key} = {value}\n"))
                .collect()
        };
        let settings = format!(
            "[receiving]\n{}[authentication]\n{}[delivery]\n{}{rest}",
            section(&QUIET, receiving),
            section(&QUIET_TRUST, authentication),
            dns.setting(),
        );
        Self {
            site: Site::started(&settings),
            dns,
        }
    }

    /// A connection that poses as one from there: what XCLIENT is answered, and the session behind it.
    fn arrive(&self, said: &str) -> (Reply, Smtp) {
        let mut smtp = Smtp::connect(self.site.address(Service::Smtp)).unwrap();
        let reply = smtp.say(&format!("XCLIENT {said}")).unwrap();
        (reply, smtp)
    }

    /// A session of a host of the Internet, after EHLO.
    fn client(&self, ip: &str) -> Smtp {
        let (reply, mut smtp) = self.arrive(&format!("ADDR={}", shown(ip)));
        assert_eq!(reply.code, 220, "{reply:?}");
        assert_eq!(smtp.say("EHLO mail.far.test").unwrap().code, 250);
        smtp
    }

    /// Sends a message to alice.
    fn send(&self, smtp: &mut Smtp, from: &str, subject: &str) -> Reply {
        let sent = message(subject, "text");
        smtp.send(from, &["alice@example.test"], &sent).unwrap()
    }

    /// Every message in a user's inbox.
    fn inbox(&self, user: &str) -> Vec<String> {
        let mut pop3 = Pop3::login(self.site.address(Service::Pop3), user, "demo").unwrap();
        let count = pop3.count().unwrap();
        let all = (1..=count).map(|number| text(&pop3.read(&format!("RETR {number}")).unwrap()));
        let all = all.collect();
        pop3.say("QUIT").unwrap();
        all
    }

    /// The one message of a user with this subject.
    #[track_caller]
    fn only(&self, user: &str, subject: &str) -> String {
        let line = format!("Subject: {subject}\r\n");
        let mut found = self.inbox(user);
        found.retain(|message| message.contains(&line));
        assert_eq!(found.len(), 1, "{user}, {subject}");
        found.remove(0)
    }

    /// A session in which alice has logged in to submit.
    fn submission(&self) -> Smtp {
        let mut smtp = Smtp::connect(self.site.address(Service::Submission)).unwrap();
        // NUL alice NUL demo
        assert_eq!(smtp.say("AUTH PLAIN AGFsaWNlAGRlbW8=").unwrap().code, 235);
        smtp
    }
}

/// An address as XCLIENT wants it.
fn shown(ip: &str) -> String {
    match ip.parse().unwrap() {
        IpAddr::V4(_) => ip.to_owned(),
        IpAddr::V6(_) => format!("IPV6:{ip}"),
    }
}

/// The replies to several commands that are sent at once.
fn pipelined(lines: &mut Lines, commands: &[&str]) {
    let all: String = commands.iter().map(|line| format!("{line}\r\n")).collect();
    lines.write(all.as_bytes()).unwrap();
}

#[track_caller]
fn refused(reply: &Reply, code: u16, says: &str) {
    assert_eq!(reply.code, code, "{reply:?}");
    assert!(reply.text.contains(says), "{reply:?}");
}
