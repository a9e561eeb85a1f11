//! MAIL FROM (RFC 5321 §4.1.1.2): opens a mail transaction.
//!
//! A refusal leaves no transaction.

use super::{Answer, Ask, Envelope, Question, Server, Transaction};
use crate::command::{Mail, Syntax};
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
        self.ask(Ask::Mail(mail.clone()), Question::Mail(Box::new(mail)));
    }

    pub(super) fn mail_answered(&mut self, mail: Mail, answer: Answer) {
        match answer {
            Answer::Accept => {
                self.counters.transactions += 1;
                self.transaction = Some(Box::new(Transaction {
                    envelope: Envelope {
                        mail,
                        recipients: Vec::new(),
                    },
                    chunks: None,
                }));
                self.reply(&replies::SENDER_OK);
            }
            other => {
                let reply = Self::refusal(other);
                match reply.is_permanent() {
                    true => self.refuse(&reply),
                    false => self.decline(&reply),
                }
            }
        }
    }

    /// How paths and parameters are read at this point of the session.
    pub(super) fn syntax(&self) -> Syntax {
        let open = self.transaction.as_ref();
        Syntax {
            extensions: self.config.offered(),
            unbracketed_paths: self.config.unbracketed_paths,
            utf8_transaction: open.is_some_and(|open| open.envelope.mail.params.smtputf8),
        }
    }
}
