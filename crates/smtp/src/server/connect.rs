//! Before the greeting, and XCLIENT and XFORWARD, by which a proxy or filter says who is behind it.
//!
//! What comes before the greeting is kept, not read: the peer has spoken early, and the driver may ask for that.

use super::{Answer, Ask, Facts, Hello, Question, Server, Welcome};
use crate::command::{HelloName, XAttribute, XName};
use crate::replies;

impl Server {
    pub(super) fn connect_answered(&mut self, answer: Answer) {
        self.welcome = match answer {
            Answer::Accept => Welcome::default(),
            Answer::Welcome(welcome) => welcome,
            other => return self.close_with(&Self::refusal(other)),
        };
        match self.draining {
            true => self.close_with(&replies::SHUTTING_DOWN),
            false => self.greet(),
        }
    }

    pub(super) fn xclient(&mut self, args: &[u8]) {
        match XAttribute::parse_all(args, &XName::XCLIENT) {
            Ok(attributes) => {
                let question = Question::Xclient(attributes.clone());
                self.ask(Ask::Xclient(attributes), question);
            }
            Err(error) => self.refuse_command(error),
        }
    }

    pub(super) fn xclient_answered(&mut self, attributes: &[XAttribute], answer: Answer) {
        if answer != Answer::Accept {
            return self.decline_or_refuse(&Self::refusal(answer));
        }
        self.reset();
        let value = |name: XName| {
            let found = attributes.iter().find(|attribute| attribute.name == name);
            found.and_then(|attribute| attribute.value.as_deref())
        };
        let extended = value(XName::Proto).is_none_or(|proto| !proto.eq_ignore_ascii_case("SMTP"));
        let name = value(XName::Helo).and_then(|name| HelloName::parse(name.as_bytes()).ok());
        self.facts = Facts {
            hello: name.map(|name| Hello { name, extended }),
            identity: value(XName::Login).map(Into::into),
            ..Facts::new(self.config.role, self.facts.tls.take())
        };
        self.ask(Ask::Connect, Question::Connect);
    }

    pub(super) fn xforward(&mut self, args: &[u8]) {
        match XAttribute::parse_all(args, &XName::XFORWARD) {
            Ok(attributes) => self.ask(Ask::Xforward(attributes), Question::Xforward),
            Err(error) => self.refuse_command(error),
        }
    }

    pub(super) fn xforward_answered(&mut self, answer: Answer) {
        match answer {
            Answer::Accept => self.reply(&replies::OK),
            other => self.decline_or_refuse(&Self::refusal(other)),
        }
    }
}
