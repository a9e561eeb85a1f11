//! CAPABILITY, NOOP, CHECK, LOGOUT and STARTTLS (RFC 3501 §6.1, §6.2.1, §6.4.1).

use bytes::{BufMut, BytesMut};

use crate::capability;
use crate::io::{Answer, Ask, Output};
use crate::session::{Session, Step};

impl Session {
    /// Writes the capabilities of the state as it is, without anything around them.
    pub(crate) fn write_capabilities(&mut self) {
        let logged_in = self.is_logged_in();
        let may_login = self.may_send_password();
        let starttls = self.offers_starttls();
        let mechanisms = self.mechanisms();
        let config = self.config();
        let hidden = self.hidden().to_vec();
        let out = self.text();
        capability::write(out, logged_in, &config, &hidden);
        if logged_in {
            return;
        }
        if starttls {
            out.put_slice(b" STARTTLS");
        }
        if !may_login {
            out.put_slice(b" LOGINDISABLED");
        }
        for mechanism in mechanisms.iter() {
            out.put_slice(b" AUTH=");
            out.put_slice(mechanism.as_str().as_bytes());
        }
    }
}

pub(crate) fn capability(session: &mut Session) {
    session.text().put_slice(b"* CAPABILITY ");
    session.write_capabilities();
    session.text().put_slice(b"\r\n");
    session.ok("Capabilities listed");
}

struct Refreshed(&'static str);

impl Step for Refreshed {
    fn answer(self: Box<Self>, session: &mut Session, answer: Answer) {
        match answer {
            Answer::Done => session.ok(self.0),
            other => session.refuse_unexpected(other),
        }
    }
}

pub(crate) fn noop(session: &mut Session) {
    if session.view().is_none() {
        return session.ok("Nothing done");
    }
    session.ask(
        Ask::Refresh { checkpoint: false },
        Refreshed("Nothing done"),
    );
}

pub(crate) fn check(session: &mut Session) {
    session.ask(Ask::Refresh { checkpoint: true }, Refreshed("Checked"));
}

pub(crate) fn logout(session: &mut Session) {
    session.text().put_slice(b"* BYE Logging out\r\n");
    session.ok("Logged out");
    session.close();
}

pub(crate) fn start_tls(session: &mut Session) {
    if !session.offers_starttls() {
        return session.bad("TLS is not offered here");
    }
    session.ok("Begin TLS");
    session.await_tls();
    session.push(Output::StartTls);
}

/// Only TLS stays as it is (RFC 8437 §3, §4).
pub(crate) fn unauthenticate(session: &mut Session) {
    session.ask(Ask::Unauthenticate, Leaving);
}

struct Leaving;

impl Step for Leaving {
    fn answer(self: Box<Self>, session: &mut Session, answer: Answer) {
        let Answer::LoggedOut(channel) = answer else {
            return session.refuse_unexpected(answer);
        };
        session.leave_account(channel);
        session.write_tag();
        session.text().put_slice(b"OK [CAPABILITY ");
        session.write_capabilities();
        session.text().put_slice(b"] Nobody is logged in\r\n");
        session.finish();
        if session.is_compressed() {
            session.set_compressed(false);
        }
    }
}

/// The greeting (RFC 3501 §7.1.1).
pub(crate) fn greet(session: &mut Session, text: &str) {
    session.text().put_slice(b"* OK [CAPABILITY ");
    session.write_capabilities();
    write_text(session.text(), text);
}

fn write_text(out: &mut BytesMut, text: &str) {
    out.put_slice(b"] ");
    out.extend(text.bytes().filter(|b| matches!(b, b' '..=b'~')));
    out.put_slice(b"\r\n");
}
