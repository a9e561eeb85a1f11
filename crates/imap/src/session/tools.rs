//! What commands use of the session: asking, answering, the selected mailbox.

use std::sync::Arc;

use bytes::{BufMut, BytesMut};
use nightmail_sasl::{Channel, MechanismSet};

use super::{Line, Running, Selected, Session, State, Step};
use crate::enabled::{Enabled, Extension};
use crate::io::{Answer, Ask, Output};
use crate::limits::Config;
use crate::name::MailboxName;
use crate::refusal::{Refusal, RefusalKind};
use crate::set::UidSet;
use crate::view::{Messages, View};
use crate::write;

/// What the session is and has.
impl Session {
    pub(crate) fn config(&self) -> Arc<Config> {
        Arc::clone(&self.config)
    }

    /// What the client has enabled.
    pub(crate) const fn enabled(&self) -> Enabled {
        self.enabled
    }

    /// Enables an extension; says whether it was not enabled before.
    pub(crate) const fn enable(&mut self, extension: Extension) -> bool {
        self.enabled.enable(extension)
    }

    /// The capabilities that are kept from this client.
    pub(crate) fn hidden(&self) -> &[String] {
        &self.config.hidden
    }

    pub(crate) const fn is_logged_in(&self) -> bool {
        !matches!(self.state, State::NotAuthenticated)
    }

    pub(crate) fn may_send_password(&self) -> bool {
        self.channel.is_some() || self.config.plaintext_login
    }

    /// The mechanisms that AUTHENTICATE takes on this connection.
    pub(crate) fn mechanisms(&self) -> MechanismSet {
        if self.may_send_password() {
            self.config.mechanisms.over(&self.channel())
        } else {
            MechanismSet::EMPTY
        }
    }

    /// What logins may be bound to; nothing without TLS.
    pub(crate) fn channel(&self) -> Channel {
        self.channel.as_deref().cloned().unwrap_or_default()
    }

    pub(crate) fn offers_starttls(&self) -> bool {
        self.config.starttls && self.channel.is_none() && !self.is_logged_in()
    }

    const fn selected(&self) -> Option<&Selected> {
        match &self.state {
            State::Selected(selected) => Some(selected),
            _ => None,
        }
    }

    /// The view of the selected mailbox.
    pub(crate) fn view(&self) -> Option<&View> {
        self.selected().map(|selected| &selected.view)
    }

    pub(crate) fn view_mut(&mut self) -> Option<&mut View> {
        match &mut self.state {
            State::Selected(selected) => Some(&mut selected.view),
            _ => None,
        }
    }

    /// The text being written, and the view to write of.
    pub(crate) fn text_and_view(&mut self) -> (&mut BytesMut, Option<&View>) {
        let view = match &self.state {
            State::Selected(selected) => Some(&selected.view),
            _ => None,
        };
        (self.outputs.text(), view)
    }

    pub(crate) fn selected_name(&self) -> Option<&MailboxName> {
        self.selected().map(|selected| &selected.name)
    }

    pub(crate) fn is_read_only(&self) -> bool {
        self.selected().is_some_and(|selected| selected.read_only)
    }
}

/// Moving between states.
impl Session {
    /// The credentials were good.
    pub(crate) fn enter(&mut self) {
        self.state = State::Authenticated;
        self.channel = None;
        self.touch();
    }

    pub(crate) fn select(&mut self, name: MailboxName, read_only: bool, view: View) {
        self.state = State::Selected(Box::new(Selected {
            name,
            read_only,
            view,
        }));
    }

    pub(crate) fn deselect(&mut self) {
        self.state = State::Authenticated;
    }

    /// The selected mailbox, or one above it, has another name now.
    pub(crate) fn rename_selected(&mut self, from: &MailboxName, to: &MailboxName) {
        let State::Selected(selected) = &mut self.state else {
            return;
        };
        let name = selected.name.as_str();
        let below = name.strip_prefix(from.as_str()).filter(|below| {
            // Renaming INBOX moves its messages only.
            !from.is_inbox() && (below.is_empty() || below.starts_with('/'))
        });
        if let Some(name) = below.and_then(|below| MailboxName::new(&format!("{to}{below}")).ok()) {
            selected.name = name;
        }
    }

    pub(crate) const fn set_idling(&mut self, idling: bool) {
        self.idling = idling;
    }

    /// Nothing that was read counts any more.
    pub(crate) fn await_tls(&mut self) {
        self.reader.clear();
        self.line = Line::AwaitingTls;
    }

    pub(crate) fn close(&mut self) {
        if let Some(step) = self.running.take().and_then(|running| running.step) {
            step.abandoned(self);
        }
        self.line = Line::Closed;
        self.idling = false;
        self.state = State::NotAuthenticated;
        self.reader.clear();
        self.outputs.push(Output::Close);
    }

    /// Ends the session from this side.
    pub(super) fn bye(&mut self, text: &str) {
        if self.line == Line::Open {
            write::display(self.text(), format_args!("* BYE {text}\r\n"));
        }
        self.close();
    }

    /// After login, the time allowed begins anew; before, it runs from the greeting.
    pub(super) fn touch(&mut self) {
        if self.is_logged_in() {
            self.deadline = self.now + self.config.limits.idle_time_max;
        }
    }
}

/// Going on.
impl Session {
    pub(crate) const fn text(&mut self) -> &mut BytesMut {
        self.outputs.text()
    }

    pub(crate) fn push(&mut self, output: Output) {
        self.outputs.push(output);
    }

    /// Asks; the command goes on with the answer.
    pub(crate) fn ask(&mut self, ask: Ask, step: impl Step + 'static) {
        self.outputs.push(Output::Ask(ask));
        self.await_more(Box::new(step));
    }

    /// The command goes on with the next part of the answer.
    pub(crate) fn await_more(&mut self, step: Box<dyn Step>) {
        self.wait(step, true);
    }

    /// The command goes on with what the client sends.
    pub(crate) fn await_line(&mut self, step: impl Step + 'static) {
        self.wait(Box::new(step), false);
    }

    /// Asks the client to go on (RFC 3501 §7.5).
    pub(crate) fn prompt(&mut self, text: &str, step: impl Step + 'static) {
        write::display(self.text(), format_args!("+ {text}\r\n"));
        self.await_line(step);
    }

    fn wait(&mut self, step: Box<dyn Step>, asked: bool) {
        if let Some(running) = &mut self.running {
            running.step = Some(step);
            running.asked = asked;
        }
    }

    /// The message announced is not wanted.
    pub(crate) fn refuse_message(&mut self, sync: bool) {
        self.reader.refuse_message(sync);
    }

    /// The UIDs meant by a command. Where there are none such, the command is answered and none is given.
    pub(crate) fn resolve(&mut self, messages: &Messages) -> Option<UidSet> {
        let uids = self.view().and_then(|view| view.resolve(messages));
        if uids.is_none() {
            self.bad("No message has that sequence number");
        }
        uids
    }

    /// Whether the selected mailbox may be changed; where not, the command is answered.
    pub(crate) fn may_change(&mut self) -> bool {
        let read_only = self.is_read_only();
        if read_only {
            self.refuse(&Refusal::new(
                RefusalKind::ReadOnly,
                "Open for reading only",
            ));
        }
        !read_only
    }
}

/// Completing a command.
impl Session {
    pub(crate) fn ok(&mut self, text: &str) {
        self.complete("OK", None, text);
    }

    pub(crate) fn ok_with(&mut self, code: &str, text: &str) {
        self.complete("OK", Some(code), text);
    }

    /// OK; where messages asked for are gone, the client learns why some did not come (RFC 5530).
    pub(crate) fn ok_gone(&mut self, gone: bool, text: &str) {
        self.complete("OK", gone.then_some("EXPUNGEISSUED"), text);
    }

    pub(crate) fn bad(&mut self, text: &str) {
        self.complete("BAD", None, text);
        self.count_bad();
    }

    pub(super) fn count_bad(&mut self) {
        if !self.is_logged_in() && self.line != Line::Closed {
            self.bad_commands += 1;
            if self.bad_commands >= self.config.limits.bad_commands_max {
                self.bye("Too many bad commands");
            }
        }
    }

    pub(crate) fn refuse(&mut self, refusal: &Refusal) {
        self.write_tag();
        write::display(self.text(), format_args!("{}\r\n", refusal.response()));
        self.finish();
    }

    /// Refuses a login, and ends the session after too many.
    pub(crate) fn refuse_login(&mut self, refusal: &Refusal) {
        self.refuse(refusal);
        self.login_failures += 1;
        if self.login_failures >= self.config.limits.login_failures_max {
            self.bye("Too many failed logins");
        }
    }

    /// Refuses with the driver's refusal; any other answer does not fit the question.
    pub(crate) fn refuse_unexpected(&mut self, answer: Answer) {
        match answer {
            Answer::Refused(refusal) => self.refuse(&refusal),
            _ => self.refuse(&Refusal::new(RefusalKind::ServerBug, "Unexpected answer")),
        }
    }

    pub(super) fn complete(&mut self, status: &str, code: Option<&str>, text: &str) {
        self.write_tag();
        let out = self.outputs.text();
        out.put_slice(status.as_bytes());
        if let Some(code) = code {
            write::display(out, format_args!(" [{code}]"));
        }
        write::display(out, format_args!(" {text}\r\n"));
        self.finish();
    }

    /// Tells the news that the command allows to tell, then begins its last line.
    pub(crate) fn write_tag(&mut self) {
        self.tell_news();
        if let Some(Running { tag, .. }) = &self.running {
            let out = self.outputs.text();
            out.put_slice(tag.as_bytes());
            out.put_u8(b' ');
        }
    }

    /// Tells what the command in progress allows to tell.
    pub(crate) fn tell_news(&mut self) {
        let allowed = self
            .running
            .as_ref()
            .is_none_or(|running| running.spec.tells_expunges);
        if let State::Selected(selected) = &mut self.state {
            selected.view.tell(allowed, self.outputs.text());
        }
    }

    /// The command is over.
    pub(crate) fn finish(&mut self) {
        self.running = None;
    }
}
