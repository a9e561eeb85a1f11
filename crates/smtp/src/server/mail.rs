//! MAIL FROM (RFC 5321 §4.1.1.2): opens a mail transaction.
//!
//! A refusal leaves no transaction.

use super::{Answer, Ask, Envelope, Question, Recipients, Server, Transaction};
use crate::command::{ByMode, Hold, Mail, Syntax};
use crate::replies;

impl Server {
    pub(super) fn mail(&mut self, args: &[u8]) {
        let limits = &self.config.limits;
        if self.counters.transactions >= limits.transactions_max {
            return self.close_with(&replies::TOO_MANY_TRANSACTIONS);
        }
        let mail = match Mail::parse(args, &self.syntax()) {
            Ok(mail) => mail,
            Err(error) => return self.refuse_command(error),
        };
        if mail
            .params
            .size
            .is_some_and(|size| size > limits.message_octets_max)
        {
            return self.refuse(&replies::MESSAGE_TOO_BIG);
        }
        if self.is_held_too_long(&mail) {
            return self.refuse(&replies::ARGUMENTS.with_text("Held back for too long"));
        }
        if self.has_too_little_time(&mail) {
            return self.refuse(&replies::TIME_TOO_SHORT);
        }
        self.ask(Ask::Mail(mail.clone()), Question::Mail(Box::new(mail)));
    }

    /// Whether the message is to come back rather sooner than is promised (RFC 2852 §4).
    fn has_too_little_time(&self, mail: &Mail) -> bool {
        let seconds_min = self.offered().deliver_by.unwrap_or(0);
        let by = mail.params.deliver_by;
        by.is_some_and(|by| by.mode == ByMode::Return && by.seconds < i64::from(seconds_min))
    }

    fn is_held_too_long(&self, mail: &Mail) -> bool {
        match (mail.params.hold, self.latest_release()) {
            (Some(Hold::Until(time)), Some(latest)) => time > latest,
            _ => false,
        }
    }

    pub(super) fn mail_answered(&mut self, mail: Mail, answer: Answer) {
        let reply = match answer {
            Answer::Accept => replies::SENDER_OK,
            Answer::Reply(reply) if reply.is_success() => reply,
            other => return self.decline_or_refuse(&Self::refusal(other)),
        };
        self.counters.transactions += 1;
        let mail_octets = mail.to_string().len();
        self.transaction = Some(Box::new(Transaction {
            envelope: Envelope {
                mail,
                recipients: Recipients::default(),
            },
            mail_octets,
            chunks: None,
        }));
        self.reply(&reply);
    }

    /// How paths and parameters are read at this point of the session.
    pub(super) fn syntax(&self) -> Syntax {
        let open = self.transaction.as_ref();
        Syntax {
            extensions: self.offered(),
            unbracketed_paths: self.config.unbracketed_paths,
            utf8_transaction: open.is_some_and(|open| open.envelope.mail.params.smtputf8),
        }
    }
}
