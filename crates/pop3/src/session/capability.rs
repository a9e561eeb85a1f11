//! What a session offers: CAPA (RFC 2449), UTF8 and LANG (RFC 6856).

use nightmail_sasl::Mechanism;

use super::{Session, State};
use crate::replies::{self, Refusal};

/// Capabilities of every session. USER after UTF8: names and passwords may be UTF-8 (RFC 6856 §2.2).
const ALWAYS: [&str; 7] = [
    "TOP",
    "UIDL",
    "RESP-CODES",
    "AUTH-RESP-CODE",
    "PIPELINING",
    "UTF8 USER",
    "LANG",
];

/// The languages of replies: their tags and names. Each is spoken in the same English.
const LANGUAGES: [(&str, &str); 2] = [("en", "English"), ("i-default", "Default language")];

impl Session {
    /// RFC 2449 §5: what is on offer in this state.
    pub(crate) fn capa(&mut self, args: &str) {
        if !args.trim().is_empty() {
            return self.refuse(Refusal::Syntax);
        }
        let mut lines: Vec<String> = ALWAYS.map(String::from).into();
        if self.may_log_in() {
            lines.push("USER".into());
        }
        let mechanisms = self.mechanisms();
        if !mechanisms.is_empty() {
            let names: Vec<_> = mechanisms.iter().map(Mechanism::as_str).collect();
            lines.push(format!("SASL {}", names.join(" ")));
        }
        if self.offers_tls() {
            lines.push("STLS".into());
        }
        lines.extend(self.policies());
        lines.push(format!("IMPLEMENTATION {}", self.config.implementation));
        self.send(replies::multi_line("capabilities follow", lines));
    }

    /// LOGIN-DELAY (RFC 2449 §6.5) and EXPIRE (§6.7): before login the longest delay of any account, and the rule of
    /// those that have none of their own; after it those of the account.
    fn policies(&self) -> impl Iterator<Item = String> + use<> {
        let (delay, expire) = match &self.state {
            State::Transaction(transaction) => {
                let (delay, expire) = transaction.policy();
                (delay.map(|secs| format!("LOGIN-DELAY {secs}")), expire)
            }
            _ => {
                let delay = self.config.login_delay_secs;
                let longest = delay.map(|secs| format!("LOGIN-DELAY {secs} USER"));
                (longest, self.config.expire_days)
            }
        };
        let expire = match expire {
            Some(days) => format!("EXPIRE {days}"),
            None => "EXPIRE NEVER".into(),
        };
        delay.into_iter().chain([expire])
    }

    /// RFC 6856 §2: from here on the client takes UTF-8 in headers. Messages are sent as they are in any case.
    pub(crate) fn utf8(&mut self, args: &str) {
        if !args.trim().is_empty() {
            return self.refuse(Refusal::Syntax);
        }
        self.send(replies::ok("UTF-8 it is"));
    }

    /// RFC 6856 §3: without arguments lists the languages; `*` is the one that the server likes best.
    pub(crate) fn lang(&mut self, args: &str) {
        let wanted = args.trim();
        if wanted.is_empty() {
            let lines = LANGUAGES.map(|(tag, name)| format!("{tag} {name}"));
            return self.send(replies::multi_line("languages follow", lines));
        }
        let found = LANGUAGES.iter().find(|(tag, _)| speaks(tag, wanted));
        match found {
            Some((tag, _)) => self.send(replies::ok(&format!("{tag} this language it is"))),
            None => self.refuse(Refusal::NoLanguage),
        }
    }
}

/// Whether a language is asked for, by its tag or as the best match of a narrower one (RFC 4647 §3.4 lookup).
fn speaks(tag: &str, wanted: &str) -> bool {
    let narrower = wanted.split('-').next().unwrap_or_default();
    wanted == "*" || tag.eq_ignore_ascii_case(wanted) || tag.eq_ignore_ascii_case(narrower)
}
