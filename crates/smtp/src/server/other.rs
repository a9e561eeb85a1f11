//! RSET, VRFY, EXPN, HELP, NOOP and QUIT (RFC 5321 §4.1.1.5 to §4.1.1.10), ETRN (RFC 1985),
//! ATRN (RFC 2645).

use std::mem;

use super::{Answer, Ask, Output, Phase, Question, Server, verbs};
use crate::command::{EtrnTarget, no_arguments, parse_atrn, text_argument};
use crate::replies;

impl Server {
    pub(super) fn rset(&mut self, args: &[u8]) {
        match no_arguments(args) {
            Ok(()) => {
                self.reset();
                self.reply(&replies::OK);
            }
            Err(error) => self.refuse_command(error),
        }
    }

    pub(super) fn vrfy(&mut self, args: &[u8]) {
        match text_argument(args) {
            Ok(text) if self.config.ask_vrfy => self.ask(Ask::Verify(text), Question::Verify),
            Ok(_) => self.reply(&replies::CANNOT_VERIFY),
            Err(error) => self.refuse_command(error),
        }
    }

    pub(super) fn verify_answered(&mut self, answer: Answer) {
        match answer {
            Answer::Verified(reply) => self.decline(&reply),
            Answer::Accept => self.reply(&replies::CANNOT_VERIFY),
            other => self.decline(&Self::refusal(other)),
        }
    }

    pub(super) fn expn(&mut self, _args: &[u8]) {
        self.refuse(&replies::NOT_IMPLEMENTED);
    }

    pub(super) fn help(&mut self, _args: &[u8]) {
        let names: Vec<&str> = verbs::shown(self.config.role)
            .filter(|(_, needs)| {
                needs
                    .iter()
                    .all(|need| !need.is_offer() || self.is_met(*need))
            })
            .map(|(name, _)| name)
            .collect();
        self.reply(&replies::HELP.with_text(format!("Commands: {}", names.join(" "))));
    }

    pub(super) fn noop(&mut self, _args: &[u8]) {
        self.reply(&replies::OK);
    }

    pub(super) fn quit(&mut self, args: &[u8]) {
        match no_arguments(args) {
            Ok(()) => self.close_with(&replies::BYE),
            Err(error) => self.refuse_command(error),
        }
    }

    pub(super) fn etrn(&mut self, args: &[u8]) {
        match EtrnTarget::parse(args) {
            Ok(target) => self.ask(Ask::Etrn(target), Question::Etrn),
            Err(error) => self.refuse_command(error),
        }
    }

    pub(super) fn etrn_answered(&mut self, answer: Answer) {
        match answer {
            Answer::Reply(reply) if !reply.is_intermediate() => self.decline(&reply),
            Answer::Accept => self.reply(&replies::ETRN_STARTED),
            other => self.decline(&Self::refusal(other)),
        }
    }

    pub(super) fn atrn(&mut self, args: &[u8]) {
        match parse_atrn(args) {
            Ok(domains) => self.ask(Ask::Atrn(domains), Question::Atrn),
            Err(error) => self.refuse_command(error),
        }
    }

    /// A peer that is given its mail is the server from here on: what it has sent ahead belongs to that.
    pub(super) fn atrn_answered(&mut self, answer: Answer) {
        if answer != Answer::Accept {
            return self.decline(&Self::refusal(answer));
        }
        self.reply(&replies::ATRN_TURNED);
        self.flush();
        let early = mem::take(&mut self.pending).freeze();
        self.outputs.push_back(Output::TurnAround(early));
        self.phase = Phase::Closed;
    }

    /// A request of another protocol: the connection is of no use.
    pub(super) fn stranger(&mut self, _args: &[u8]) {
        self.close_with(&replies::NOT_SMTP);
    }
}
