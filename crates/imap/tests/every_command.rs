//! Every command of the table in every state, with arguments right and wrong: each is answered as its state demands,
//! and the session goes on.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::sync::Arc;
use std::time::Instant;

use nightmail_core::{MailboxId, ModSeq, Uid, UidValidity};
use nightmail_imap::command::{Allowed, names};
use nightmail_imap::io::{Permitted, Selected};
use nightmail_imap::{Answer, Ask, Config, Input, Output, Refusal, RefusalKind, Session};
use nightmail_sasl::{self as sasl, Channel};

/// Arguments that are right, for each command of the table; nothing for those that take none.
const RIGHT: &[(&str, &str)] = &[
    ("CAPABILITY", ""),
    ("NOOP", ""),
    ("LOGOUT", ""),
    ("ID", " (\"name\" \"x\")"),
    ("STARTTLS", ""),
    ("AUTHENTICATE", " PLAIN"),
    ("LOGIN", " joe {6+}\r\nsecret"),
    ("UNAUTHENTICATE", ""),
    ("COMPRESS", " DEFLATE"),
    (
        "GENURLAUTH",
        " \"imap://joe@h/INBOX/;uid=1;urlauth=anonymous\" INTERNAL",
    ),
    (
        "URLFETCH",
        " \"imap://joe@h/INBOX/;uid=1;urlauth=anonymous:internal:00\"",
    ),
    ("RESETKEY", " INBOX INTERNAL"),
    ("ENABLE", " UTF8=ACCEPT"),
    ("NAMESPACE", ""),
    ("SELECT", " INBOX"),
    ("EXAMINE", " INBOX"),
    ("CREATE", " a"),
    ("DELETE", " a"),
    ("RENAME", " a b"),
    ("SUBSCRIBE", " a"),
    ("UNSUBSCRIBE", " a"),
    ("LIST", " \"\" *"),
    ("NOTIFY", " NONE"),
    ("LSUB", " \"\" *"),
    ("STATUS", " a (MESSAGES)"),
    ("APPEND", " a {3+}\r\nabc"),
    ("REPLACE", " 1 a {3+}\r\nabc"),
    ("UID REPLACE", " 5 a {3+}\r\nabc"),
    ("GETACL", " a"),
    ("MYRIGHTS", " a"),
    ("LISTRIGHTS", " a bob"),
    ("SETACL", " a bob lr"),
    ("DELETEACL", " a bob"),
    ("GETQUOTA", " \"\""),
    ("GETQUOTAROOT", " a"),
    ("SETQUOTA", " \"\" (STORAGE 5)"),
    ("GETMETADATA", " a /private/comment"),
    ("SETMETADATA", " a (/private/comment \"x\")"),
    ("IDLE", ""),
    ("CHECK", ""),
    ("CLOSE", ""),
    ("UNSELECT", ""),
    ("EXPUNGE", ""),
    ("SEARCH", " ALL"),
    ("SORT", " (DATE) UTF-8 ALL"),
    ("THREAD", " REFERENCES UTF-8 ALL"),
    ("ESEARCH", " IN (personal) ALL"),
    ("UIDBATCHES", " 2000"),
    ("FETCH", " 1 FLAGS"),
    ("STORE", " 1 FLAGS (\\Seen)"),
    ("COPY", " 1 a"),
    ("MOVE", " 1 a"),
    ("UID EXPUNGE", " 5"),
    ("UID SEARCH", " ALL"),
    ("UID SORT", " (DATE) UTF-8 ALL"),
    ("UID THREAD", " REFERENCES UTF-8 ALL"),
    ("UID FETCH", " 5 FLAGS"),
    ("UID STORE", " 5 +FLAGS (\\Seen)"),
    ("UID COPY", " 5 a"),
    ("UID MOVE", " 5 a"),
];

/// Arguments that no command takes.
const WRONG: &[&str] = &[
    " ",
    "  x",
    " \"unfinished",
    " (",
    " )",
    " \u{1}",
    " x y z (",
    " {3+}\r\n\0\0\0 (",
    " ~{3+}\r\nabc (",
];

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    NotAuthenticated,
    Authenticated,
    Selected,
}

/// How the driver answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Driver {
    /// Refuses everything.
    Refuses,
    /// Answers with what rarely fits.
    Errs,
}

struct Client {
    session: Session,
    now: Instant,
    driver: Driver,
    text: Vec<u8>,
    closed: bool,
    asked: usize,
}

impl Client {
    fn new(state: State, driver: Driver) -> Self {
        let now = Instant::now();
        let channel = Some(Channel::default());
        let mut client = Self {
            session: Session::new(Arc::new(Config::default()), channel, now),
            now,
            driver,
            text: Vec::new(),
            closed: false,
            asked: 0,
        };
        client.say("");
        if state != State::NotAuthenticated {
            client.say("s LOGIN joe secret\r\n");
        }
        if state == State::Selected {
            client.say("s SELECT INBOX\r\n");
        }
        client.text.clear();
        client
    }

    fn say(&mut self, text: &str) {
        self.session.handle(self.now, Input::Bytes(text.as_bytes()));
        while let Some(output) = self.session.poll_output() {
            match output {
                Output::Send(octets) => self.text.extend_from_slice(&octets),
                Output::Close => self.closed = true,
                Output::StartTls => {
                    let channel = Input::TlsEstablished(Channel::default());
                    self.session.handle(self.now, channel);
                }
                Output::Ask(ask) => self.answer(&ask, text),
                _ => {}
            }
        }
    }

    fn answer(&mut self, ask: &Ask, said: &str) {
        self.asked += 1;
        assert!(self.asked < 1000, "questions without end");
        let sets_scene = said.starts_with("s ");
        let answer = match ask {
            Ask::Authenticate(_) if sets_scene => Answer::Authentication(sasl::Answer::Accepted {
                identity: "joe".into(),
            }),
            Ask::Select { .. } if sets_scene => Answer::Selected(selected()),
            Ask::Refresh { .. } if said.starts_with("n ") => Answer::Done,
            _ if self.driver == Driver::Errs => Answer::Done,
            _ => Answer::Refused(Refusal::new(RefusalKind::Unavailable, "Later")),
        };
        self.session.handle(self.now, Input::Answer(answer));
    }

    /// What was answered to a tag: OK, NO or BAD.
    fn status(&self, tag: &str) -> Option<String> {
        let text = String::from_utf8_lossy(&self.text).into_owned();
        let mut lines = text.split("\r\n").map(str::to_owned);
        let line = lines.find_map(|line| line.strip_prefix(&format!("{tag} ")).map(str::to_owned));
        line.and_then(|line| line.split(' ').next().map(str::to_owned))
    }

    /// Says a command, and whatever ends the exchange that it begins; how it was answered.
    fn command(&mut self, text: &str) -> String {
        self.say(&format!("t {text}\r\n"));
        if self.status("t").is_none() && !self.closed {
            let end = if text.starts_with("IDLE") {
                "DONE\r\n"
            } else {
                "*\r\n"
            };
            self.say(end);
        }
        let shown = String::from_utf8_lossy(&self.text).into_owned();
        self.status("t")
            .unwrap_or_else(|| panic!("{text:?} is not answered: {shown}"))
    }

    fn goes_on(&mut self, after: &str) {
        self.text.clear();
        self.say("n NOOP\r\n");
        assert_eq!(self.status("n").as_deref(), Some("OK"), "after {after:?}");
    }
}

fn selected() -> Selected {
    Selected {
        read_only: false,
        permitted: Permitted::ALL,
        uids: Arc::from([Uid::new(5).unwrap(), Uid::new(9).unwrap()]),
        uid_validity: UidValidity::new(7).unwrap(),
        uid_next: Uid::new(10).unwrap(),
        first_unseen: None,
        recent_floor: Uid::new(10).unwrap(),
        keywords: Arc::default(),
        highest_modseq: ModSeq::new(3),
        mailbox_id: MailboxId::new(1),
        resynced: None,
    }
}

fn is_allowed(allowed: Allowed, state: State) -> bool {
    match allowed {
        Allowed::Always => true,
        Allowed::BeforeLogin => state == State::NotAuthenticated,
        Allowed::AfterLogin => state != State::NotAuthenticated,
        Allowed::Selected => state == State::Selected,
    }
}

const STATES: [State; 3] = [
    State::NotAuthenticated,
    State::Authenticated,
    State::Selected,
];

#[test]
fn right_arguments_are_answered_as_the_state_demands() {
    for (name, allowed) in names() {
        let right = RIGHT.iter().find(|(known, _)| *known == name);
        let (_, arguments) = right.unwrap_or_else(|| panic!("how is {name} written?"));
        for state in STATES {
            for driver in [Driver::Refuses, Driver::Errs] {
                let mut client = Client::new(state, driver);
                let command = format!("{name}{arguments}");
                let status = client.command(&command);
                let case = format!("{command:?} in {state:?}, {driver:?}: {status}");
                match (is_allowed(allowed, state), name) {
                    (false, _) => assert_eq!(status, "BAD", "{case}"),
                    // It is cancelled here; TLS is there already.
                    (true, "AUTHENTICATE" | "STARTTLS") => assert_eq!(status, "BAD", "{case}"),
                    (true, _) => assert!(status == "OK" || status == "NO", "{case}"),
                }
                if name == "LOGOUT" {
                    assert!(client.closed, "{case}");
                } else {
                    assert!(!client.closed, "{case}");
                    client.goes_on(&case);
                }
            }
        }
    }
}

#[test]
fn wrong_arguments_are_bad_in_every_state() {
    for (name, _) in names() {
        for state in STATES {
            for wrong in WRONG {
                let mut client = Client::new(state, Driver::Refuses);
                let command = format!("{name}{wrong}");
                let status = client.command(&command);
                let case = format!("{command:?} in {state:?}: {status}");
                // A name that cannot be one, and a message that is not there, are understood and refused.
                assert!(status == "BAD" || status == "NO", "{case}");
                assert!(!client.closed, "{case}");
                client.goes_on(&case);
            }
        }
    }
}

#[test]
fn after_logout_nothing_is_answered() {
    for (name, _) in names() {
        let mut client = Client::new(State::Authenticated, Driver::Refuses);
        client.command("LOGOUT");
        client.text.clear();
        client.say(&format!("x {name}\r\n"));
        assert!(client.text.is_empty(), "{name}");
    }
}

#[test]
fn every_prefix_of_a_command_leaves_the_session_whole() {
    for (name, _) in names() {
        let (_, arguments) = RIGHT.iter().find(|(known, _)| *known == name).unwrap();
        let command = format!("t {name}{arguments}");
        for cut in 1..command.len() {
            let mut client = Client::new(State::Selected, Driver::Refuses);
            client.say(&command[..cut]);
            client.session.handle(client.now, Input::PeerClosed);
            while let Some(output) = client.session.poll_output() {
                client.closed |= matches!(output, Output::Close);
            }
            assert!(client.closed, "{command:?} cut at {cut}");
        }
    }
}
