//! What commands use of the session: asking, answering, the selected mailbox.

use std::sync::Arc;

use bytes::{BufMut, BytesMut};
use nightmail_sasl::{Channel, MechanismSet};

use super::{Line, Running, Selected, Session, State, Step};
use crate::command::search::SearchKey;
use crate::enabled::{Enabled, Extension};
use crate::io::{Answer, Ask, Output};
use crate::limits::Config;
use crate::name::MailboxName;
use crate::reader::Literal;
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

    /// Enables CONDSTORE for a client that uses it.
    pub(crate) fn enable_condstore(&mut self) {
        if self.enable(Extension::Condstore) {
            self.tell_highest_modseq();
        }
    }

    /// Where a client begins to count in a mailbox that is open already, it learns from where (RFC 7162 §3.1).
    pub(crate) fn tell_highest_modseq(&mut self) {
        if let Some(modseq) = self.view().map(View::told_modseq) {
            write::highest_modseq(self.text(), modseq);
        }
    }

    /// The capabilities that are kept from this client.
    pub(crate) fn hidden(&self) -> &[String] {
        match &self.hidden {
            Some(hidden) => hidden,
            None => &self.config.hidden,
        }
    }

    /// Keeps capabilities from this client.
    pub(crate) fn hide(&mut self, hidden: Vec<String>) {
        self.hidden = Some(hidden.into());
    }

    pub(crate) const fn is_compressed(&self) -> bool {
        self.compressed
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

    /// The name of the selected mailbox.
    pub fn selected_name(&self) -> Option<&MailboxName> {
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

    /// The client is nobody again (RFC 8437 §3).
    pub(crate) fn leave_account(&mut self, channel: Option<Channel>) {
        self.state = State::NotAuthenticated;
        self.enabled = Enabled::NONE;
        self.watch = None;
        self.channel = channel.map(Box::new);
        self.deadline = self.now + self.config.limits.login_time_max;
    }

    /// Begins or ends compression after what was said so far. What the client sent in advance cannot have been meant
    /// in the other form, and is dropped.
    pub(crate) fn set_compressed(&mut self, compressed: bool) {
        self.compressed = compressed;
        self.reader.clear();
        self.outputs.push(Output::Compress(compressed));
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

    pub(super) fn wait(&mut self, step: Box<dyn Step>, asked: bool) {
        if let Some(running) = &mut self.running {
            running.step = Some(step);
            running.asked = asked;
        }
    }

    /// The rest of the message that is coming is not wanted.
    pub(crate) fn refuse_message(&mut self) {
        self.reader.refuse_message();
    }

    /// The literal announced is not wanted.
    pub(crate) fn refuse_literal(&mut self, literal: Literal) {
        self.reader.refuse(literal);
    }

    /// The literal announced is a message, or a part of one: its octets come as chunks.
    pub(crate) fn take_message(&mut self, literal: Literal) {
        self.reader.take_message(literal);
        if literal.sync {
            self.text().put_slice(b"+ Send the message\r\n");
        }
    }

    /// What came of a command before the literal that was announced.
    pub(crate) fn text_before(&self, literal: Literal) -> &[u8] {
        self.reader.before(literal)
    }

    /// The UIDs meant by a command. Where there are none such, the command is answered and none is given.
    pub(crate) fn resolve(&mut self, messages: &Messages) -> Option<UidSet> {
        let uids = self.view().and_then(|view| view.resolve(messages));
        if uids.is_none() {
            self.bad("No message has that sequence number");
        }
        uids.map(|uids| self.limit(uids))
    }

    /// The tag of the command in progress.
    pub(crate) fn tag(&self) -> Box<str> {
        self.running
            .as_ref()
            .map(|running| running.tag.clone())
            .unwrap_or_default()
    }

    /// As many messages as one command may name, those with the highest UIDs (RFC 9738 §3.1).
    fn limit(&mut self, uids: UidSet) -> UidSet {
        let Some(max) = self.config.limits.messages_max else {
            return uids;
        };
        let Some(view) = self.view() else { return uids };
        if view.count(&uids) <= max as usize {
            return uids;
        }
        let some = view.last_of(&uids, max as usize);
        let lowest = some.ranges().next().map(|(low, _)| low);
        if let Some(running) = &mut self.running {
            running.limited = lowest;
        }
        some
    }

    /// Whether the command names more messages than it may; where it does, it is refused.
    pub(crate) fn refuse_limited(&mut self) -> bool {
        let limited = self
            .running
            .as_mut()
            .is_some_and(|running| running.limited.take().is_some());
        if let (true, Some(max)) = (limited, self.config.limits.messages_max) {
            self.no_with(&format!("MESSAGELIMIT {max}"), "Too many messages at once");
        }
        limited
    }

    /// The search over as many messages as one command may look at. Where it would be of no use without the others,
    /// the command is refused.
    pub(crate) fn limit_search(
        &mut self,
        key: SearchKey<UidSet>,
        of_use: bool,
    ) -> Option<SearchKey<UidSet>> {
        if self.config.limits.messages_max.is_none() {
            return Some(key);
        }
        let among = key.among().cloned().or_else(|| {
            let uids = self.view()?.uids();
            Some(UidSet::range(*uids.first()?, *uids.last()?))
        });
        let some = self.limit(among.unwrap_or_default());
        if self
            .running
            .as_ref()
            .is_none_or(|running| running.limited.is_none())
        {
            return Some(key);
        }
        if !of_use && self.refuse_limited() {
            return None;
        }
        Some(SearchKey::And(vec![SearchKey::Messages(some), key]))
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

    pub(crate) fn bad_with(&mut self, code: &str, text: &str) {
        self.complete("BAD", Some(code), text);
        self.count_bad();
    }

    pub(crate) fn no_with(&mut self, code: &str, text: &str) {
        self.complete("NO", Some(code), text);
    }

    /// OK with the modification sequence up to which the client now knows everything (RFC 7162 §3.2.7), where it counts
    /// them.
    pub(crate) fn ok_synchronized(&mut self, text: &str) {
        self.tell_news();
        let counts = self.enabled.has(Extension::Condstore);
        let told = self.view().map(View::told_modseq).filter(|_| counts);
        let code = told.map(|modseq| format!("HIGHESTMODSEQ {modseq}"));
        self.complete("OK", code.as_deref(), text);
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
        let limit = self.limit_code().filter(|_| status == "OK");
        if let (Some(limit), Some(_)) = (&limit, code) {
            let untagged = format_args!("* NO [{limit}] Some messages were left out\r\n");
            write::display(self.outputs.text(), untagged);
        }
        let code = code.or(limit.as_deref());
        self.write_tag();
        let out = self.outputs.text();
        out.put_slice(status.as_bytes());
        if let Some(code) = code {
            write::display(out, format_args!(" [{code}]"));
        }
        write::display(out, format_args!(" {text}\r\n"));
        self.finish();
    }

    /// What says that only some of the messages were looked at (RFC 9738 §3.2).
    fn limit_code(&self) -> Option<String> {
        let lowest = self.running.as_ref()?.limited?;
        let max = self.config.limits.messages_max?;
        Some(format!("MESSAGELIMIT {max} {lowest}"))
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
        let command = self.running.as_ref().map(|running| running.spec.name);
        self.tell(command, allowed);
    }

    /// The command is over.
    pub(crate) fn finish(&mut self) {
        self.running = None;
    }
}
