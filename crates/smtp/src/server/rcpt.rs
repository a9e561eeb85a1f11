//! RCPT TO (RFC 5321 §4.1.1.3, RFC 3461 §4.1).
//!
//! Owns the forward-paths of one mail transaction. Never looks an address up: it asks, the driver answers.
//! A refusal leaves the transaction as it was.

use super::{Answer, Ask, Question, Server};
use crate::command::Rcpt;
use crate::replies;
use crate::reply::Reply;

impl Server {
    pub(super) fn rcpt(&mut self, args: &[u8]) {
        let rcpt = match Rcpt::parse(args, &self.syntax()) {
            Ok(rcpt) => rcpt,
            Err(error) => return self.refuse_command(error),
        };
        let given = self.envelope().map_or(0, |open| open.recipients.len());
        if given >= self.config.limits.recipients_max {
            return self.refuse_recipient(&replies::TOO_MANY_RECIPIENTS);
        }
        let question = Question::Recipient(Box::new(rcpt.clone()));
        self.ask(Ask::Recipient(rcpt), question);
    }

    pub(super) fn recipient_answered(&mut self, rcpt: Rcpt, answer: Answer) {
        match (answer, &mut self.transaction) {
            (Answer::Accept, Some(open)) => {
                open.envelope.recipients.push(rcpt);
                self.reply(&replies::RECIPIENT_OK);
            }
            (other, _) => self.refuse_recipient(&Self::refusal(other)),
        }
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
