//! RCPT TO (RFC 5321 §4.1.1.3, RFC 3461 §4.1).
//!
//! Owns the forward-paths of one mail transaction. Never looks an address up: it asks, the driver answers.
//! A refusal leaves the transaction as it was.

use super::{Answer, Ask, Question, Recipients, Server};
use crate::command::Rcpt;
use crate::replies;
use crate::reply::Reply;

impl Server {
    pub(super) fn rcpt(&mut self, args: &[u8]) {
        let rcpt = match Rcpt::parse(args, &self.syntax()) {
            Ok(rcpt) => rcpt,
            Err(error) => return self.refuse_command(error),
        };
        let Some(octets) = Recipients::octets_of(&rcpt) else {
            return self.refuse(&replies::RECIPIENT_SYNTAX);
        };
        if !self.has_room_for(octets) {
            return self.refuse_recipient(&replies::TOO_MANY_RECIPIENTS);
        }
        let question = Question::Recipient(Box::new(rcpt.clone()));
        self.ask(Ask::Recipient(rcpt), question);
    }

    pub(super) fn recipient_answered(&mut self, rcpt: &Rcpt, answer: Answer) {
        let reply = match answer {
            Answer::Accept => replies::RECIPIENT_OK,
            Answer::Reply(reply) if reply.is_success() => reply,
            other => return self.refuse_recipient(&Self::refusal(other)),
        };
        if let Some(open) = &mut self.transaction {
            open.envelope.recipients.push(rcpt);
            self.reply(&reply);
        }
    }

    /// Whether the transaction may have one more, of so many octets. Strangers may not fill our memory with long paths.
    fn has_room_for(&self, octets: usize) -> bool {
        let limits = &self.config.limits;
        self.transaction.as_ref().is_some_and(|open| {
            let octets = open.octets() + octets;
            let fits = self.facts.identity.is_some() || octets <= limits.envelope_octets_max;
            fits && open.envelope.recipients.len() < limits.recipients_max
        })
    }

    fn refuse_recipient(&mut self, reply: &Reply) {
        self.counters.recipients_refused += 1;
        let refused_max = self.config.limits.recipients_refused_max;
        match self.counters.recipients_refused > refused_max {
            true => self.close_with(&replies::TOO_MANY_ERRORS),
            false => self.decline(reply),
        }
    }
}
